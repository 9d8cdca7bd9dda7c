//! The HTTP service of one mount: it finds or opens the session that a request belongs to.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as TaskContext, Poll};
use std::time::SystemTime;

use bytes::Buf;
use engineio_proto::{
    CloseReason, NodeTag, PollingPeer, ProtocolVersion, RequestError, Session, SessionConfig,
    SessionId, Transport,
};
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts as Head;
use http::{Method, Request, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use sockhop_outbox::Outbox;
use tokio::sync::oneshot;
use tungstenite::handshake::derive_accept_key;

use crate::admission::{Place, Unadmitted};
use crate::draining::OpenSessions;
use crate::handler::{Handler, Opened};
use crate::mailbox::{Mail, Mailbox, PollReply, Refused};
use crate::metrics::Traffic;
use crate::polling;
use crate::registry::{Entry, Registry};
use crate::request::{Query, websocket_key};
use crate::response::{self, Body};
use crate::session_task::{Parts, SessionTask};
use crate::{EngineConfig, Handshake, Metrics, PeerAddress, Tasks};

/// What all sessions of a mount share.
pub(crate) struct Shared<H: Handler> {
    pub(crate) config: EngineConfig,
    pub(crate) session_config: Arc<SessionConfig>,
    pub(crate) handler: H,
    pub(crate) registry: Registry,
    pub(crate) metrics: Metrics,
    pub(crate) tasks: Tasks,
    node_tag: NodeTag,
    polling_traffic: Traffic,
    websocket_traffic: Traffic,
    closing: AtomicBool,
}

impl<H: Handler> Shared<H> {
    pub(crate) fn traffic(&self, transport: Transport) -> &Traffic {
        match transport {
            Transport::Polling => &self.polling_traffic,
            Transport::WebSocket => &self.websocket_traffic,
        }
    }
}

/// Engine.IO on one path: a hyper and a tower service. Cloning shares the sessions.
pub struct EngineService<H: Handler> {
    shared: Arc<Shared<H>>,
}

/// What an engine is made of besides its configuration.
#[derive(Clone, Debug)]
pub struct EngineParts {
    /// Where things are counted.
    pub metrics: Metrics,
    /// Where sessions run.
    pub tasks: Tasks,
    /// What every session id of this process begins with.
    pub node_tag: NodeTag,
}

impl<H: Handler> EngineService<H> {
    /// A service whose sessions are served by `handler`.
    #[must_use]
    pub fn new(config: EngineConfig, handler: H, parts: EngineParts) -> Self {
        let EngineParts {
            metrics,
            tasks,
            node_tag,
        } = parts;
        Self {
            shared: Arc::new(Shared {
                session_config: Arc::new(config.session.clone()),
                registry: Registry::new(config.max_sessions),
                polling_traffic: metrics.traffic(Transport::Polling),
                websocket_traffic: metrics.traffic(Transport::WebSocket),
                closing: AtomicBool::new(false),
                config,
                handler,
                metrics,
                tasks,
                node_tag,
            }),
        }
    }

    /// Whether a request for this path is for this service. The last slash may be missing.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let own = self.shared.config.path.as_str();
        path.strip_suffix('/').unwrap_or(path) == own.strip_suffix('/').unwrap_or(own)
    }

    /// Sessions open now.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.shared.registry.len()
    }

    /// Refuses new sessions and closes all open ones. Their tasks end a little later.
    pub fn close(&self, reason: &CloseReason) {
        self.drain().close(usize::MAX, reason);
    }

    /// Refuses new sessions, and hands out the open ones to be closed in the caller's own time.
    #[must_use]
    pub fn drain(&self) -> OpenSessions {
        self.shared.closing.store(true, Ordering::Relaxed);
        OpenSessions::new(self.shared.registry.mailboxes())
    }

    /// Answers one request.
    pub async fn handle<B>(&self, mut request: Request<B>) -> Response<Body>
    where
        B: http_body::Body + Send,
        B::Data: Buf + Send,
        B::Error: Send,
    {
        let upgrade = request.extensions_mut().remove::<OnUpgrade>();
        let (head, body) = request.into_parts();
        let cors = self.shared.config.cors.headers(&head);
        let mut response = if head.method == Method::OPTIONS && self.shared.config.cors.enabled() {
            self.preflight(&head)
        } else {
            let answer = match websocket_key(&head.headers) {
                Some(key) => self.websocket(&head, key, upgrade).await,
                None => self.http(&head, body).await,
            };
            answer.unwrap_or_else(|refusal| self.refuse(&head, refusal))
        };
        response.headers_mut().extend(cors);
        with_map_of(response, head.headers)
    }

    fn preflight(&self, head: &Head) -> Response<Body> {
        let mut response = response::empty(StatusCode::NO_CONTENT);
        response
            .headers_mut()
            .extend(self.shared.config.cors.preflight(head));
        response
    }

    async fn http<B>(&self, head: &Head, body: B) -> Result<Response<Body>, Refusal>
    where
        B: http_body::Body + Send,
        B::Data: Buf + Send,
    {
        let query = Query::parse(head, &self.shared.config)?;
        let Some(id) = query.sid else {
            return self.polling_handshake(head, &query).await;
        };
        let entry = self.entry(&id, &query)?;
        if query.transport == Transport::WebSocket {
            return Err(RequestError::BadRequest.into());
        }
        match head.method {
            Method::GET => self.poll(head, &entry).await,
            Method::POST => {
                let max_bytes = self.shared.config.session.max_payload;
                Ok(polling::post(head, body, &entry, max_bytes).await?)
            }
            _ => Err(RequestError::BadHandshakeMethod.into()),
        }
    }

    /// The session of a request, which must speak the version that the session was opened with.
    fn entry(&self, id: &SessionId, query: &Query) -> Result<Entry, Refusal> {
        let entry = self
            .shared
            .registry
            .get(id)
            .ok_or(RequestError::SessionUnknown)?;
        if query.version? != entry.version {
            return Err(RequestError::BadRequest.into());
        }
        Ok(entry)
    }

    async fn poll(&self, head: &Head, entry: &Entry) -> Result<Response<Body>, Refusal> {
        let (reply, answer) = oneshot::channel();
        if !entry.mailbox.send(Mail::Poll { reply }) {
            return Err(RequestError::SessionUnknown.into());
        }
        self.poll_answer(head, entry.jsonp, answer).await
    }

    async fn poll_answer(
        &self,
        head: &Head,
        jsonp: Option<u32>,
        answer: oneshot::Receiver<PollReply>,
    ) -> Result<Response<Body>, Refusal> {
        let threshold_bytes = self.shared.config.compression_threshold_bytes;
        match answer.await {
            Ok(PollReply::Body(body)) => {
                Ok(response::poll(body, jsonp, &head.headers, threshold_bytes))
            }
            Ok(PollReply::Refused(refused)) => Err(refused.into()),
            Err(_) => Err(RequestError::SessionUnknown.into()),
        }
    }

    async fn polling_handshake(
        &self,
        head: &Head,
        query: &Query,
    ) -> Result<Response<Body>, Refusal> {
        if head.method != Method::GET {
            return Err(RequestError::BadHandshakeMethod.into());
        }
        if query.transport == Transport::WebSocket {
            return Err(RequestError::BadRequest.into());
        }
        let (version, place) = self.admit(head, query)?;
        let wish = Wish {
            version,
            transport: Transport::Polling,
            peer: query.peer,
            place,
        };
        let (task, id, mailbox) = self.open(head, wish, None)?;
        let (reply, answer) = oneshot::channel();
        mailbox.send(Mail::Poll { reply });
        self.shared.tasks.spawn("session", task);
        let mut response = self.poll_answer(head, query.peer.jsonp, answer).await?;
        if let Some(cookie) = &self.shared.config.cookie
            && let Ok(value) = HeaderValue::from_str(&cookie.header(&id.to_string()))
        {
            response.headers_mut().insert(header::SET_COOKIE, value);
        }
        Ok(response)
    }

    /// Whether a new session may be opened: where the page is from, the hook, then the version, as
    /// clients expect, then how many there are.
    fn admit(
        &self,
        head: &Head,
        query: &Query,
    ) -> Result<(ProtocolVersion, Option<Place>), Refusal> {
        let config = &self.shared.config;
        // Browsers guard neither of these: their answers can be read by any page.
        let unguarded = query.transport == Transport::WebSocket || query.peer.jsonp.is_some();
        if config.check_origin && unguarded && !config.cors.admits(head) {
            return Err(Refusal::Origin);
        }
        if let Some(allow) = &self.shared.config.allow_request {
            allow(head).map_err(|forbidden| Refusal::Forbidden(forbidden.0))?;
        }
        let version = query.version?;
        if self.shared.closing.load(Ordering::Relaxed) {
            return Err(Refusal::Unavailable);
        }
        let place = match &config.admission {
            Some(admission) => {
                let address = head.extensions.get::<PeerAddress>();
                let now = tokio::time::Instant::now().into_std();
                Some(admission.admit(now, address.map(|address| address.0.ip()))?)
            }
            None => None,
        };
        Ok((version, place))
    }

    async fn websocket(
        &self,
        head: &Head,
        key: &[u8],
        upgrade: Option<OnUpgrade>,
    ) -> Result<Response<Body>, Refusal> {
        let query = Query::parse(head, &self.shared.config)?;
        let upgrade = upgrade.ok_or(RequestError::BadRequest)?;
        if head.method != Method::GET || query.transport != Transport::WebSocket {
            return Err(RequestError::BadRequest.into());
        }
        match query.sid {
            Some(id) => {
                let entry = self.entry(&id, &query)?;
                if !entry.mailbox.send(Mail::WebSocket { upgrade }) {
                    return Err(RequestError::SessionUnknown.into());
                }
            }
            None => {
                let (version, place) = self.admit(head, &query)?;
                let wish = Wish {
                    version,
                    transport: Transport::WebSocket,
                    peer: query.peer,
                    place,
                };
                let (task, ..) = self.open(head, wish, Some(upgrade))?;
                self.shared.tasks.spawn("session", task);
            }
        }
        Ok(switching_protocols(&head.headers, key))
    }

    fn open(
        &self,
        head: &Head,
        wish: Wish,
        upgrade: Option<OnUpgrade>,
    ) -> Result<(SessionTask<H>, SessionId, Mailbox), Refusal> {
        let Wish {
            version,
            transport,
            peer,
            place,
        } = wish;
        let shared = &self.shared;
        let mut random = [0; 12];
        // The operating system has no random bytes: no session can be opened safely.
        getrandom::fill(&mut random).map_err(|_| Refusal::Unavailable)?;
        let id = SessionId::new(shared.node_tag, random);
        let mailbox = Mailbox::new();
        let entry = Entry {
            version,
            jsonp: peer.jsonp,
            mailbox: mailbox.clone(),
        };
        if !shared.registry.insert(id, entry) {
            return Err(Refusal::Unavailable);
        }
        if shared.closing.load(Ordering::Relaxed) {
            // Closing went over the registry before this session was in it, or will find it gone.
            shared.registry.remove(&id);
            return Err(Refusal::Unavailable);
        }
        let now = tokio::time::Instant::now().into_std();
        let config = Arc::clone(&shared.session_config);
        let session = Session::new(now, config, id, version, transport, peer);
        let outbox = Outbox::new(shared.config.outbox_bytes);
        let handshake = Arc::new(Handshake::new(head, SystemTime::now()));
        let opened = Opened {
            now,
            id,
            version,
            handshake,
            outbox: outbox.clone(),
        };
        let parts = Parts {
            shared: Arc::clone(shared),
            session,
            handler: shared.handler.open(opened),
            mailbox: mailbox.clone(),
            outbox,
            _place: place,
        };
        Ok((SessionTask::new(parts, upgrade), id, mailbox))
    }

    fn refuse(&self, head: &Head, refusal: Refusal) -> Response<Body> {
        let websocket = websocket_key(&head.headers).is_some();
        let (label, response) = match refusal {
            Refusal::Error(error) => (code_label(error), response::error(error, None, websocket)),
            Refusal::Forbidden(message) => {
                let error = RequestError::Forbidden;
                (
                    code_label(error),
                    response::error(error, Some(&message), websocket),
                )
            }
            Refusal::Origin => ("origin", response::empty(StatusCode::FORBIDDEN)),
            Refusal::Unadmitted(why) => response::unadmitted(why),
            Refusal::Empty => ("empty", response::empty(StatusCode::BAD_REQUEST)),
            Refusal::TooLarge => ("too_large", response::too_large()),
            Refusal::Unavailable => ("unavailable", response::unavailable()),
        };
        self.shared.metrics.refused(label);
        response
    }
}

/// Why a request is not served.
#[derive(Debug)]
pub(crate) enum Refusal {
    Error(RequestError),
    /// The hook said no, with this message.
    Forbidden(String),
    /// A page of another origin wants a transport that browsers do not guard.
    Origin,
    /// Too many sessions or handshakes.
    Unadmitted(Unadmitted),
    /// 400 without a body.
    Empty,
    TooLarge,
    Unavailable,
}

/// The session that a handshake asks for.
struct Wish {
    version: ProtocolVersion,
    transport: Transport,
    peer: PollingPeer,
    place: Option<Place>,
}

impl From<Unadmitted> for Refusal {
    fn from(why: Unadmitted) -> Self {
        Self::Unadmitted(why)
    }
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        Self::Error(error)
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Error(error) => Self::Error(error),
            Refused::Empty => Self::Empty,
        }
    }
}

fn code_label(error: RequestError) -> &'static str {
    match error {
        RequestError::TransportUnknown => "0",
        RequestError::SessionUnknown => "1",
        RequestError::BadHandshakeMethod => "2",
        RequestError::BadRequest => "3",
        RequestError::Forbidden => "4",
        RequestError::UnsupportedProtocol => "5",
    }
}

/// Moves the headers of an answer into the map of its request: hyper reads the next request into
/// the map of the last answer, which then has room for it.
fn with_map_of(mut response: Response<Body>, mut map: HeaderMap) -> Response<Body> {
    map.clear();
    map.extend(std::mem::take(response.headers_mut()));
    *response.headers_mut() = map;
    response
}

fn switching_protocols(request: &HeaderMap, key: &[u8]) -> Response<Body> {
    let mut response = response::empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key)) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    // A browser that asked for subprotocols fails unless it is given one of them.
    let asked = request
        .get(header::SEC_WEBSOCKET_PROTOCOL)
        .and_then(|value| value.to_str().ok());
    let first = asked.and_then(|list| list.split(',').next()).map(str::trim);
    if let Some(Ok(protocol)) = first.map(HeaderValue::from_str) {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    response
}

impl<H: Handler> Clone for EngineService<H> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<H: Handler> std::fmt::Debug for EngineService<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineService")
            .field("path", &self.shared.config.path)
            .field("sessions", &self.session_count())
            .finish_non_exhaustive()
    }
}

/// The answer under way.
pub type ResponseFuture = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl<H, B> hyper::service::Service<Request<B>> for EngineService<H>
where
    H: Handler,
    B: http_body::Body + Send + 'static,
    B::Data: Buf + Send,
    B::Error: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn call(&self, request: Request<B>) -> ResponseFuture {
        let service = self.clone();
        Box::pin(async move { Ok(service.handle(request).await) })
    }
}

impl<H, B> tower_service::Service<Request<B>> for EngineService<H>
where
    H: Handler,
    B: http_body::Body + Send + 'static,
    B::Data: Buf + Send,
    B::Error: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        hyper::service::Service::call(self, request)
    }
}

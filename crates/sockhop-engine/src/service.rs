//! The HTTP service of one mount: it finds or opens the session that a request belongs to.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context as TaskContext;
use std::time::SystemTime;

use bytes::Buf;
use engineio_proto::{
    CloseReason, NodeTag, PollingPeer, ProtocolVersion, RequestError, Session, SessionConfig,
    SessionId, Transport,
};
use http::header::{self, HeaderValue};
use http::{Request, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use sockhop_outbox::Outbox;
use tokio::sync::oneshot;

use crate::admission::{Place, Unadmitted};
use crate::cors::Cors;
use crate::draining::OpenSessions;
use crate::handler::{Handler, Opened};
use crate::head::Head;
use crate::lane::{Lane, Verb};
use crate::mailbox::{Mail, Mailbox, PollReply, Refused};
use crate::metrics::Traffic;
use crate::polling::{self, Post};
use crate::registry::{Entry, Registry};
use crate::request::{Query, websocket_key};
use crate::response::{self, Answer, Body, Headers, Look, PollForm};
use crate::session_task::{Parts, SessionTask};
use crate::transports::Upgrading;
use crate::{EngineConfig, Handshake, Metrics, Tasks};

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
        let mut upgrade = request.extensions_mut().remove::<OnUpgrade>();
        let can_upgrade = upgrade.is_some();
        let mut take_over = |_: &Answer| upgrade.take().map(Upgrading::Hyper);
        let (head, body) = request.into_parts();
        let answer = match self.begin(
            Head::Parsed(&head),
            can_upgrade.then_some(&mut take_over as &mut TakeOver<'_>),
        ) {
            Step::Answer(answer) => answer,
            Step::Poll(mut poll) => {
                let reply = (&mut poll.reply).await;
                self.poll_answer(poll, reply.ok())
            }
            Step::Post(post) => {
                let result = polling::post(&post, body).await;
                self.finish(post.cors, result)
            }
        };
        answer.into_response(head.headers)
    }

    /// The same for connections that are [served](crate::lane::serve) without an HTTP library.
    #[must_use]
    pub fn lane(&self) -> Lane {
        Lane::new(self.clone())
    }

    /// Begins to answer a request, of which this is the head. `take_over` gives the connection away
    /// under the 101 answer in its argument; `None` where it cannot be had.
    pub(crate) fn begin(&self, head: Head<'_>, take_over: Option<&mut TakeOver<'_>>) -> Step {
        let config = &self.shared.config;
        let cors = config.cors.answer(head);
        if head.verb() == Verb::Options && config.cors.enabled() {
            let mut answer = Answer::empty(StatusCode::NO_CONTENT);
            answer.more = Cors::preflight(head);
            return Step::Answer(answer.and(cors));
        }
        let key = websocket_key(head);
        let step = match key {
            Some(key) => self.websocket(head, key, take_over).map(Begun::Answer),
            None => self.http(head),
        };
        match step {
            Ok(Begun::Answer(answer)) => Step::Answer(answer.and(cors)),
            Ok(Begun::Poll(reply, form, cookie)) => Step::Poll(Poll {
                reply,
                form,
                cookie,
                cors,
            }),
            Ok(Begun::Post(entry)) => Step::Post(Post::new(head, entry, cors, self.max_body())),
            Err(refusal) => Step::Answer(self.refuse(refusal, key.is_some()).and(cors)),
        }
    }

    fn http(&self, head: Head<'_>) -> Result<Begun, Refusal> {
        let query = Query::parse(head, &self.shared.config)?;
        let Some(id) = query.sid else {
            return self.polling_handshake(head, &query);
        };
        let entry = self.entry(&id, &query)?;
        if query.transport == Transport::WebSocket {
            return Err(RequestError::BadRequest.into());
        }
        match head.verb() {
            Verb::Get => {
                let (reply, answer) = oneshot::channel();
                if !entry.mailbox.send(Mail::Poll { reply }) {
                    return Err(RequestError::SessionUnknown.into());
                }
                Ok(Begun::Poll(answer, self.form(head, entry.look), None))
            }
            Verb::Post => Ok(Begun::Post(entry)),
            Verb::Options | Verb::Other => Err(RequestError::BadHandshakeMethod.into()),
        }
    }

    fn form(&self, head: Head<'_>, look: Look) -> PollForm {
        PollForm::new(head, look, self.shared.config.compression_threshold_bytes)
    }

    fn max_body(&self) -> usize {
        self.shared.config.session.max_payload
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

    /// The answer to a poll for which the session had this reply; `None` when it ended without.
    pub(crate) fn poll_answer(&self, poll: Poll, reply: Option<PollReply>) -> Answer {
        let result = match reply {
            Some(PollReply::Body(body)) => {
                let mut answer = poll.form.answer(body);
                let cookie = poll.cookie.map(|cookie| (header::SET_COOKIE, cookie));
                answer.more.extend(cookie);
                Ok(answer)
            }
            Some(PollReply::Refused(refused)) => Err(refused.into()),
            None => Err(RequestError::SessionUnknown.into()),
        };
        self.finish(poll.cors, result)
    }

    /// The answer to a request that is no WebSocket.
    pub(crate) fn finish(&self, cors: Headers, result: Result<Answer, Refusal>) -> Answer {
        result
            .unwrap_or_else(|refusal| self.refuse(refusal, false))
            .and(cors)
    }

    fn polling_handshake(&self, head: Head<'_>, query: &Query) -> Result<Begun, Refusal> {
        if head.verb() != Verb::Get {
            return Err(RequestError::BadHandshakeMethod.into());
        }
        if query.transport == Transport::WebSocket {
            return Err(RequestError::BadRequest.into());
        }
        let (version, place) = self.admit(head, query)?;
        let look = Look::new(head, query.peer.jsonp);
        let wish = Wish {
            version,
            transport: Transport::Polling,
            peer: query.peer,
            look,
            place,
        };
        let (task, id, mailbox) = self.open(head, wish, || Ok(None))?;
        let (reply, answer) = oneshot::channel();
        mailbox.send(Mail::Poll { reply });
        self.shared.tasks.spawn("session", task);
        let cookie = self.shared.config.cookie.as_ref();
        let cookie = cookie.map(|cookie| HeaderValue::from_str(&cookie.header(&id.to_string())));
        let form = self.form(head, look);
        Ok(Begun::Poll(answer, form, cookie.and_then(Result::ok)))
    }

    /// Whether a new session may be opened: where the page is from, the hook, then the version, as
    /// clients expect, then how many there are.
    fn admit(
        &self,
        head: Head<'_>,
        query: &Query,
    ) -> Result<(ProtocolVersion, Option<Place>), Refusal> {
        let config = &self.shared.config;
        // Browsers guard neither of these: their answers can be read by any page.
        let unguarded = query.transport == Transport::WebSocket || query.peer.jsonp.is_some();
        if config.check_origin && unguarded && !config.cors.admits(head) {
            return Err(Refusal::Origin);
        }
        if let Some(allow) = &self.shared.config.allow_request {
            allow(&head.parts()).map_err(|forbidden| Refusal::Forbidden(forbidden.0))?;
        }
        let version = query.version?;
        if self.shared.closing.load(Ordering::Relaxed) {
            return Err(Refusal::Unavailable);
        }
        let place = match &config.admission {
            Some(admission) => {
                let address = head.address().map(|address| address.ip());
                let now = tokio::time::Instant::now().into_std();
                Some(admission.admit(now, address)?)
            }
            None => None,
        };
        Ok((version, place))
    }

    fn websocket(
        &self,
        head: Head<'_>,
        key: &[u8],
        take_over: Option<&mut TakeOver<'_>>,
    ) -> Result<Answer, Refusal> {
        let query = Query::parse(head, &self.shared.config)?;
        let take_over = take_over.ok_or(RequestError::BadRequest)?;
        if head.verb() != Verb::Get || query.transport != Transport::WebSocket {
            return Err(RequestError::BadRequest.into());
        }
        let answer = response::switching_protocols(head, key);
        match query.sid {
            Some(id) => {
                let entry = self.entry(&id, &query)?;
                let upgrade = take_over(&answer).ok_or(RequestError::BadRequest)?;
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
                    look: Look::default(),
                    place,
                };
                let connection = || match take_over(&answer) {
                    None => Err(RequestError::BadRequest.into()),
                    upgrade => Ok(upgrade),
                };
                let (task, ..) = self.open(head, wish, connection)?;
                self.shared.tasks.spawn("session", task);
            }
        }
        Ok(answer)
    }

    /// Opens a session over the WebSocket of `connection`, which is asked when nothing else can go
    /// wrong: until then a refusal can be answered.
    fn open(
        &self,
        head: Head<'_>,
        wish: Wish,
        connection: impl FnOnce() -> Result<Option<Upgrading>, Refusal>,
    ) -> Result<(SessionTask<H>, SessionId, Mailbox), Refusal> {
        let Wish {
            version,
            transport,
            peer,
            look,
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
            look,
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
        let upgrade = connection().inspect_err(|_| shared.registry.remove(&id))?;
        let now = tokio::time::Instant::now().into_std();
        let config = Arc::clone(&shared.session_config);
        let session = Session::new(now, config, id, version, transport, peer);
        let outbox = Outbox::new(shared.config.outbox_bytes);
        let handshake = Arc::new(Handshake::of(head, SystemTime::now()));
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

    fn refuse(&self, refusal: Refusal, websocket: bool) -> Answer {
        let (label, answer) = match refusal {
            Refusal::Error(error) => (code_label(error), response::error(error, None, websocket)),
            Refusal::Forbidden(message) => {
                let error = RequestError::Forbidden;
                (
                    code_label(error),
                    response::error(error, Some(&message), websocket),
                )
            }
            Refusal::Origin => ("origin", Answer::empty(StatusCode::FORBIDDEN)),
            Refusal::Unadmitted(why) => response::unadmitted(why),
            Refusal::Empty => ("empty", Answer::empty(StatusCode::BAD_REQUEST)),
            Refusal::TooLarge => ("too_large", response::too_large()),
            Refusal::Unavailable => ("unavailable", response::unavailable()),
        };
        self.shared.metrics.refused(label);
        answer
    }
}

/// Gives a connection away, under the 101 answer in its argument.
pub(crate) type TakeOver<'a> = dyn FnMut(&Answer) -> Option<Upgrading> + Send + 'a;

/// What a request needs, once its head was read.
#[derive(Debug)]
pub(crate) enum Step {
    /// Nothing more.
    Answer(Answer),
    /// The reply of the session.
    Poll(Poll),
    /// Its body, for the session.
    Post(Post),
}

/// The same, without the headers that go with every answer.
enum Begun {
    Answer(Answer),
    Poll(oneshot::Receiver<PollReply>, PollForm, Option<HeaderValue>),
    Post(Entry),
}

/// A GET that waits for its session.
#[derive(Debug)]
pub(crate) struct Poll {
    pub(crate) reply: oneshot::Receiver<PollReply>,
    form: PollForm,
    /// The cookie of a handshake.
    cookie: Option<HeaderValue>,
    cors: Headers,
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
    /// Of no interest on a WebSocket.
    look: Look,
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

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        hyper::service::Service::call(self, request)
    }
}

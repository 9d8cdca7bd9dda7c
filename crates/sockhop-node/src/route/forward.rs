//! Passing one request on to the owner of its session, and its answer back.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{Either, Empty};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::upgrade::OnUpgrade;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioTimer;
use sockhop::engine::Tasks;
use tokio::sync::watch;
use tokio::time::sleep;

use super::PrivateConfig;
use super::headers::{self, drop_hop_by_hop, wants_websocket};
use super::members::Presence;
use super::metrics::{Metrics, Outcome};
use super::owner::Owner;
use super::splice::splice;
use crate::http::{Answer, MountPoint, status};

/// How long a connection to another node may be idle before it is closed, and how many may be.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_IDLE_PER_NODE: usize = 256;

/// Probes of a silent connection: a machine that vanished is noticed within a minute.
const KEEPALIVE: Duration = Duration::from_secs(20);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;

/// What an owner may take beyond the heartbeat, under which every poll is answered.
const SLACK: Duration = Duration::from_secs(5);

/// Passes requests on over kept connections.
pub(super) struct Forwarder {
    client: Client<HttpConnector, Incoming>,
    places: Arc<Places>,
    metrics: Metrics,
    tasks: Tasks,
    /// Over how much time what is under way is to end, once it is.
    draining: watch::Sender<Option<Duration>>,
}

impl Forwarder {
    pub(super) fn new(config: &PrivateConfig, metrics: Metrics, tasks: &Tasks) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(config.connect_timeout));
        connector.set_keepalive(Some(KEEPALIVE));
        connector.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
        connector.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
        let client = Client::builder(Spawn(tasks.clone()))
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE_PER_NODE)
            .pool_timer(TokioTimer::new())
            .set_host(false)
            .build(connector);
        let places = Arc::new(Places {
            taken: AtomicUsize::new(0),
            max: config.max_forwarded,
            metrics: metrics.clone(),
        });
        Self {
            client,
            places,
            metrics,
            tasks: tasks.clone(),
            draining: watch::Sender::new(None),
        }
    }

    pub(super) fn drain(&self, spread: Duration) {
        self.draining.send_replace(Some(spread));
    }

    /// The owner's answer; where there is none, that of this node, which does not know the
    /// session either.
    pub(super) async fn forward(
        &self,
        mount: &MountPoint,
        mut request: Request<Incoming>,
        owner: Owner,
    ) -> Answer {
        let upgrade = request.extensions_mut().remove::<OnUpgrade>();
        let upgrade = upgrade.filter(|_| wants_websocket(request.headers()));
        let kind = if upgrade.is_some() {
            "websocket"
        } else {
            "request"
        };
        let (head, body) = request.into_parts();
        let mut fate = Fate::of(&self.metrics);
        let Some(place) = Places::take(&self.places, kind) else {
            fate.is(Outcome::Busy);
            return busy(mount, &head);
        };
        let outgoing = outgoing(&head, body, &owner, upgrade.is_some());
        let answer = tokio::select! {
            biased;
            answer = self.client.request(outgoing) => answer.map_err(Silence::Error),
            () = owner.presence.clone().ended() => Err(Silence::Left),
            () = sleep(mount.patience + SLACK) => Err(Silence::Late),
        };
        let outcome = match answer {
            Ok(answer) if answer.status() == StatusCode::FORBIDDEN => Outcome::Refused,
            Ok(answer) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => {
                if let Some(upgrade) = upgrade {
                    fate.is(Outcome::Upgraded);
                    return self.switch(answer, upgrade, place);
                }
                Outcome::Failed
            }
            Ok(answer) => {
                fate.is(Outcome::Answered);
                return pass_back(answer, owner.presence, place);
            }
            Err(Silence::Error(error)) => {
                tracing::debug!(%error, owner = %owner.address, "cannot pass a request on");
                if error.is_connect() {
                    Outcome::Unreachable
                } else {
                    Outcome::Failed
                }
            }
            Err(Silence::Left) => Outcome::OwnerLeft,
            Err(Silence::Late) => Outcome::TimedOut,
        };
        fate.is(outcome);
        let mut refused = Request::from_parts(head, Either::Right(Empty::new()));
        if let Some(upgrade) = upgrade {
            refused.extensions_mut().insert(upgrade);
        }
        mount.call(refused).await
    }

    /// Joins the two connections once both have become WebSockets.
    ///
    /// They stay joined when the owner is a member no more: it may only have lost the bus, and serves
    /// its clients then. If it is gone, its clients notice by the pings that do not come.
    fn switch(&self, mut answer: Response<Incoming>, client: OnUpgrade, place: Place) -> Answer {
        let owner = hyper::upgrade::on(&mut answer);
        let draining = self.draining.subscribe();
        let stopping = self.tasks.clone();
        self.tasks.spawn("splice", async move {
            tokio::select! {
                () = splice(client, owner) => {}
                () = super::splice::drained(draining) => {}
                () = stopping.stopped() => {}
            }
            drop(place);
        });
        let mut switched = status(StatusCode::SWITCHING_PROTOCOLS);
        drop_hop_by_hop(answer.headers_mut());
        *switched.headers_mut() = std::mem::take(answer.headers_mut());
        headers::ask_for_websocket(switched.headers_mut());
        switched
    }
}

/// The request of `head` as the private listener of `owner` takes it.
fn outgoing(head: &Parts, body: Incoming, owner: &Owner, websocket: bool) -> Request<Incoming> {
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(Scheme::HTTP);
    let authority = Authority::try_from(owner.address.to_string());
    uri.authority = Some(authority.expect("an address and a port are an authority"));
    let root = || PathAndQuery::from_static("/");
    uri.path_and_query = Some(head.uri.path_and_query().cloned().unwrap_or_else(root));
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = Uri::from_parts(uri).expect("all three parts are there");
    *request.headers_mut() = headers::outgoing(head, &owner.proof, websocket);
    request
}

/// Why there is no answer.
enum Silence {
    Error(hyper_util::client::legacy::Error),
    /// The owner is a member no more.
    Left,
    /// It did not come in time.
    Late,
}

fn pass_back(mut answer: Response<Incoming>, presence: Presence, place: Place) -> Answer {
    drop_hop_by_hop(answer.headers_mut());
    answer.map(|body| {
        Either::Right(ForwardedBody {
            body,
            left: Box::pin(presence.ended()),
            _place: place,
        })
    })
}

fn busy(mount: &MountPoint, head: &Parts) -> Answer {
    let mut answer = status(StatusCode::SERVICE_UNAVAILABLE);
    let retry = HeaderValue::from_static("5");
    answer.headers_mut().insert(header::RETRY_AFTER, retry);
    mount.share(head, &mut answer);
    answer
}

/// The body of an owner's answer. Dropping it ends the request there, too.
pub(crate) struct ForwardedBody {
    body: Incoming,
    /// Ready when the owner is a member no more, and nothing can come.
    left: Pin<Box<dyn Future<Output = ()> + Send>>,
    _place: Place,
}

impl Body for ForwardedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)));
        }
        ready!(self.left.as_mut().poll(cx));
        Poll::Ready(Some(Err(io::Error::other("the owner has left"))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Counts what becomes of a request, also if its client goes away first.
struct Fate<'a> {
    metrics: &'a Metrics,
    outcome: Outcome,
}

impl<'a> Fate<'a> {
    fn of(metrics: &'a Metrics) -> Self {
        Self {
            metrics,
            outcome: Outcome::Aborted,
        }
    }

    fn is(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Fate<'_> {
    fn drop(&mut self) {
        self.metrics.forwarded(self.outcome);
    }
}

/// How many requests and WebSockets may be under way.
struct Places {
    taken: AtomicUsize,
    max: usize,
    metrics: Metrics,
}

/// One of them.
struct Place {
    places: Arc<Places>,
    kind: &'static str,
}

impl Places {
    fn take(this: &Arc<Self>, kind: &'static str) -> Option<Place> {
        if this.taken.fetch_add(1, Ordering::Relaxed) >= this.max {
            this.taken.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        this.metrics.in_flight(kind, 1);
        Some(Place {
            places: Arc::clone(this),
            kind,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken.fetch_sub(1, Ordering::Relaxed);
        self.places.metrics.in_flight(self.kind, -1);
    }
}

/// Runs the client's connections as tasks of the server, which end with it.
#[derive(Clone)]
struct Spawn(Tasks);

type ClientTask = Pin<Box<dyn Future<Output = ()> + Send>>;

impl hyper::rt::Executor<ClientTask> for Spawn {
    fn execute(&self, task: ClientTask) {
        let stopping = self.0.clone();
        self.0.spawn("private connection", async move {
            tokio::select! {
                () = task => {}
                () = stopping.stopped() => {}
            }
        });
    }
}

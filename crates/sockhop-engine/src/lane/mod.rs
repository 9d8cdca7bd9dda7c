//! HTTP/1.1 for requests of the engine, without an HTTP library around them.
//!
//! An ordinary request of a polling client, or one that opens a WebSocket, is read, handed to its
//! session and answered with as little as that takes: the head is parsed where it was read, nothing
//! of it is copied, and the answer leaves in one write. Everything else is *odd*, and goes to
//! hyper with the connection that it came on: other paths, bodies without a length, other versions
//! of HTTP, and whatever is malformed or could be understood in two ways.
//!
//! ```text
//!            request of the engine             101
//!   Reading ───────────────────────▶ Serving ───────▶ (the session has the connection)
//!    │  ▲                              │  │
//!    │  └──────── answered ────────────┘  └── client gone, or last answer ──▶ (closed)
//!    │ odd
//!    └──────▶ (hyper has the connection, and what was read of it)
//! ```

mod connection;
mod familiar;
mod head;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::handler::Handler;
use crate::head::Head;
use crate::mailbox::PollReply;
use crate::response::{Answer, Headers};
use crate::service::{self, Refusal, Step, TakeOver};
use crate::{EngineService, ServerStream, Tasks};
use connection::{Connection, Next};
pub use head::RequestHead;
pub(crate) use head::Verb;

/// How long a connection may be served.
#[derive(Clone, Copy, Debug)]
pub struct LaneConfig {
    /// How long the head of a request may take; that of the first, from the connection's beginning.
    pub head_timeout: Duration,
    /// How long a connection is kept between two requests.
    pub idle_timeout: Duration,
    /// Longest head that is read; hyper refuses longer ones.
    pub max_head_bytes: usize,
}

/// The engine of one mount, as connections in the lane see it.
#[derive(Clone)]
pub struct Lane(Arc<dyn Serve>);

impl Lane {
    pub(crate) fn new<H: Handler>(service: EngineService<H>) -> Self {
        Self(Arc::new(service))
    }
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Lane").finish_non_exhaustive()
    }
}

/// [`EngineService`] of any handler.
trait Serve: Send + Sync {
    fn begin(&self, head: Head<'_>, take_over: &mut TakeOver<'_>) -> Step;
    fn poll_answer(&self, poll: service::Poll, reply: Option<PollReply>) -> Answer;
    fn finish(&self, cors: Headers, result: Result<Answer, Refusal>) -> Answer;
}

impl<H: Handler> Serve for EngineService<H> {
    fn begin(&self, head: Head<'_>, take_over: &mut TakeOver<'_>) -> Step {
        Self::begin(self, head, Some(take_over))
    }

    fn poll_answer(&self, poll: service::Poll, reply: Option<PollReply>) -> Answer {
        Self::poll_answer(self, poll, reply)
    }

    fn finish(&self, cors: Headers, result: Result<Answer, Refusal>) -> Answer {
        Self::finish(self, cors, result)
    }
}

/// Who serves what on the connections of a listener.
pub trait Site: Sync {
    /// Who serves this request in the lane; `None` if it has to take another way.
    fn find(&self, peer: SocketAddr, head: &RequestHead<'_>) -> Option<Found<'_>>;
}

/// Who serves a request.
#[derive(Clone, Copy, Debug)]
pub struct Found<'s> {
    /// The engine.
    pub lane: &'s Lane,
    /// Whose request it is.
    pub client: SocketAddr,
}

/// Serves a connection until it ends; or until there is something odd on it, in which case it
/// comes back for hyper, with what was read of it.
///
/// When `tasks` are asked to stop, an idle connection ends, and a busy one after its next answer.
pub async fn serve<S: Site>(
    tcp: TcpStream,
    peer: SocketAddr,
    site: &S,
    config: LaneConfig,
    tasks: &Tasks,
) -> Option<ServerStream> {
    let mut connection = Connection::new(tcp, peer, site, config.max_head_bytes);
    let first_deadline = Instant::now() + config.head_timeout;
    let mut clock = pin!(sleep_until(first_deadline));
    let mut stopped = pin!(tasks.stopped());
    let mut deadline = first_deadline;
    let mut head_begun = true;
    loop {
        let next = poll_fn(|cx| {
            if let Poll::Ready(next) = connection.poll_next(cx) {
                return Poll::Ready(next);
            }
            if connection.is_idle() {
                if stopped.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Next::Ended);
                }
            } else if !head_begun {
                head_begun = true;
                deadline = Instant::now() + config.head_timeout;
            }
            poll_deadline(clock.as_mut(), deadline, cx).map(|()| Next::Ended)
        });
        let request = match next.await {
            Next::Request(request) => request,
            Next::Odd => return connection.into_stream(),
            Next::Ended => return None,
        };
        let (lane, closes) = (&request.lane.0, request.closes);
        let mut missing = request.missing;
        let answer = match request.step {
            Step::Answer(answer) => answer,
            Step::Poll(mut poll) => {
                let reply = connection.while_open(&mut poll.reply).await?;
                lane.poll_answer(poll, reply.ok())
            }
            Step::Post(post) => {
                let posting = connection.post(&post, request.body, &mut missing);
                let result = posting.await;
                lane.finish(post.cors, result)
            }
        };
        let last = closes || answer.closes() || tasks.is_stopping();
        let answered = connection.write(answer, last).await.ok()?;
        // A client that writes before it reads has more to say, and nobody listens.
        let skipped = connection.skip(missing).await;
        if last || !skipped {
            connection.shutdown().await;
            return None;
        }
        deadline = answered + config.idle_timeout;
        head_begun = false;
    }
}

/// `Ready` when `deadline` has passed. The clock of a connection is set to one instant after
/// another, and only when it has to be: it may ring for a request that was answered long ago.
fn poll_deadline(mut clock: Pin<&mut Sleep>, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
    if deadline < clock.deadline() {
        clock.as_mut().reset(deadline);
    }
    while clock.as_mut().poll(cx).is_ready() {
        if clock.deadline() >= deadline {
            return Poll::Ready(());
        }
        clock.as_mut().reset(deadline);
    }
    Poll::Pending
}

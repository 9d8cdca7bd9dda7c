//! User callbacks: how they are stored, called in order, and what becomes of their failures.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use engineio_proto::Text;
use serde::de::DeserializeOwned;
use socketio_proto::{ConnectError, DecodeError, Payload};

use crate::ack::Ack;
use crate::error::DisconnectReason;
use crate::servers::ServerHandler;
use crate::socket::Socket;

/// An event that a client sent.
#[derive(Clone, Debug)]
pub struct Event {
    pub(crate) name: Text,
    pub(crate) payload: Payload,
    pub(crate) wants_ack: bool,
}

impl Event {
    /// The name of the event.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The arguments as they arrived.
    #[must_use]
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// Whether the client waits for an acknowledgement.
    #[must_use]
    pub fn wants_ack(&self) -> bool {
        self.wants_ack
    }
}

/// What went wrong in a handler; see [`crate::Namespace::on_error`].
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    /// The arguments do not fit the handler's type. The handler was not called.
    #[error("the payload of `{event}` does not fit its handler")]
    Payload {
        /// The event's name.
        event: String,
        /// What does not fit.
        source: DecodeError,
    },
    /// The handler returned an error, here as text.
    #[error("the handler failed: {0}")]
    Failed(String),
    /// The handler panicked, with this message.
    #[error("the handler panicked: {0}")]
    Panicked(String),
    /// A packet middleware refused the event, with this message. No handler was called.
    #[error("a middleware refused `{event}`: {message}")]
    Refused {
        /// The event's name.
        event: String,
        /// The middleware's words.
        message: String,
    },
    /// As many handlers of this client are unfinished as the limit allows. No handler was called.
    #[error("too many unfinished handlers for `{event}`")]
    Backlog {
        /// The event's name.
        event: String,
    },
}

impl HandlerError {
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Payload { .. } => "payload",
            Self::Failed(_) => "failed",
            Self::Panicked(_) => "panicked",
            Self::Refused { .. } => "refused",
            Self::Backlog { .. } => "backlog",
        }
    }
}

/// What a handler may return: nothing, or a `Result` whose error goes to the error handler.
pub trait Outcome {
    /// The error in words, if there is one.
    ///
    /// # Errors
    /// The error that the handler returned.
    fn into_result(self) -> Result<(), String>;
}

impl Outcome for () {
    fn into_result(self) -> Result<(), String> {
        Ok(())
    }
}

impl<E: fmt::Display> Outcome for Result<(), E> {
    fn into_result(self) -> Result<(), String> {
        self.map_err(|error| error.to_string())
    }
}

pub(crate) type HandlerFuture = Pin<Box<dyn Future<Output = Result<(), HandlerError>> + Send>>;
pub(crate) type EventHandler = Arc<dyn Fn(Socket, Event, Ack) -> HandlerFuture + Send + Sync>;
pub(crate) type MiddlewareFuture = Pin<Box<dyn Future<Output = Result<(), ConnectError>> + Send>>;
pub(crate) type Middleware = Arc<dyn Fn(Socket) -> MiddlewareFuture + Send + Sync>;
pub(crate) type SocketHandler = Arc<dyn Fn(Socket) -> HandlerFuture + Send + Sync>;
pub(crate) type Observer = Arc<dyn Fn(&Socket, &Event) + Send + Sync>;
pub(crate) type ErrorHandler = Arc<dyn Fn(&Socket, &HandlerError) + Send + Sync>;
pub(crate) type DisconnectingHandler = Arc<dyn Fn(&Socket, DisconnectReason) + Send + Sync>;
pub(crate) type DisconnectHandler =
    Arc<dyn Fn(Socket, DisconnectReason) -> HandlerFuture + Send + Sync>;
pub(crate) type PacketMiddleware = Arc<dyn Fn(&Socket, &Event) -> Result<(), String> + Send + Sync>;

/// The callbacks of one namespace. Replaced as a whole when one is added, so that reading them
/// costs one reference count.
#[derive(Clone, Default)]
pub(crate) struct Handlers {
    pub(crate) middlewares: Vec<Middleware>,
    pub(crate) connect: Vec<SocketHandler>,
    pub(crate) events: HashMap<Box<str>, EventHandler>,
    pub(crate) any: Vec<Observer>,
    pub(crate) unhandled: Option<EventHandler>,
    pub(crate) servers: HashMap<Box<str>, ServerHandler>,
    pub(crate) error: Option<ErrorHandler>,
    pub(crate) disconnecting: Vec<DisconnectingHandler>,
    pub(crate) disconnect: Vec<DisconnectHandler>,
}

/// A handler's future with what it returns turned into a result.
fn run<R, F>(future: F) -> HandlerFuture
where
    R: Outcome,
    F: Future<Output = R> + Send + 'static,
{
    Box::pin(async move { future.await.into_result().map_err(HandlerError::Failed) })
}

pub(crate) fn event_handler<T, R, Fut>(
    f: impl Fn(Socket, T, Ack) -> Fut + Send + Sync + 'static,
) -> EventHandler
where
    T: DeserializeOwned + 'static,
    R: Outcome,
    Fut: Future<Output = R> + Send + 'static,
{
    Arc::new(
        move |socket, event, ack| match decode::<T>(&event.payload) {
            Ok(data) => run(f(socket, data, ack)),
            Err(source) => {
                let event = event.name().to_owned();
                Box::pin(std::future::ready(Err(HandlerError::Payload {
                    event,
                    source,
                })))
            }
        },
    )
}

/// The payload as `T`; a handler that asks for the [`Payload`] itself gets it as it is.
fn decode<T: DeserializeOwned + 'static>(payload: &Payload) -> Result<T, DecodeError> {
    if TypeId::of::<T>() == TypeId::of::<Payload>() {
        let mut own = Some(payload.clone());
        let own: &mut dyn Any = &mut own;
        if let Some(payload) = own.downcast_mut::<Option<T>>().and_then(Option::take) {
            return Ok(payload);
        }
    }
    payload.decode()
}

pub(crate) fn raw_event_handler<R, Fut>(
    f: impl Fn(Socket, Event, Ack) -> Fut + Send + Sync + 'static,
) -> EventHandler
where
    R: Outcome,
    Fut: Future<Output = R> + Send + 'static,
{
    Arc::new(move |socket, event, ack| run(f(socket, event, ack)))
}

pub(crate) fn socket_handler<R, Fut>(
    f: impl Fn(Socket) -> Fut + Send + Sync + 'static,
) -> SocketHandler
where
    R: Outcome,
    Fut: Future<Output = R> + Send + 'static,
{
    Arc::new(move |socket| run(f(socket)))
}

pub(crate) fn disconnect_handler<R, Fut>(
    f: impl Fn(Socket, DisconnectReason) -> Fut + Send + Sync + 'static,
) -> DisconnectHandler
where
    R: Outcome,
    Fut: Future<Output = R> + Send + 'static,
{
    Arc::new(move |socket, reason| run(f(socket, reason)))
}

/// Calls a handler and polls its future once, here and now: handlers of one socket start in the
/// order of their events. One that cannot finish at once goes on as a task of its own, and
/// outlives the socket's disconnect.
pub(crate) fn dispatch(socket: &Socket, call: impl FnOnce() -> HandlerFuture) {
    let started = guard(socket, || {
        let mut future = call();
        match future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(result) => Err(result),
            Poll::Pending => Ok(future),
        }
    });
    match started {
        Some(Ok(pending)) => spawn_rest(socket, pending),
        Some(Err(Err(error))) => report(socket, &error),
        Some(Err(Ok(()))) | None => {}
    }
}

fn spawn_rest(socket: &Socket, pending: HandlerFuture) {
    let unfinished = socket.peer().begin();
    let owner = socket.clone();
    socket.server().tasks().spawn("handler", async move {
        match (CatchUnwind { inner: pending }).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => report(&owner, &error),
            Err(message) => report(&owner, &HandlerError::Panicked(message)),
        }
        drop(unfinished);
    });
}

/// Runs a user's callback on the session's task, which must survive it: a panic is reported.
pub(crate) fn guard<R>(socket: &Socket, call: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(returned) => Some(returned),
        Err(panic) => {
            report(socket, &HandlerError::Panicked(panic_message(&*panic)));
            None
        }
    }
}

/// Counts the failure and tells the namespace's error handler, or the log where there is none.
pub(crate) fn report(socket: &Socket, error: &HandlerError) {
    socket.server().metrics().handler_error(error.label());
    let handler = socket.namespace().handlers().error.clone();
    match handler {
        Some(handler) => {
            // The last resort may fail too; it has been counted already.
            let _ = catch_unwind(AssertUnwindSafe(|| handler(socket, error)));
        }
        None => tracing::debug!(socket = %socket.id(), %error, "handler failed"),
    }
}

pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "unknown".to_owned())
}

/// A future whose panics become errors.
pub(crate) struct CatchUnwind<F: ?Sized> {
    pub(crate) inner: Pin<Box<F>>,
}

impl<F: Future + ?Sized> Future for CatchUnwind<F> {
    type Output = Result<F::Output, String>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match catch_unwind(AssertUnwindSafe(|| self.inner.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(panic) => Poll::Ready(Err(panic_message(&*panic))),
        }
    }
}

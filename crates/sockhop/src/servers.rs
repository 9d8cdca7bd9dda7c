//! Events between the servers of a cluster.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use serde::Serialize;
use serde::de::DeserializeOwned;
use socketio_proto::{EncodeError, Payload};
use sockhop_adapter::{Reply, ServerEvent};

use crate::handler::{CatchUnwind, HandlerError, Outcome};
use crate::server::Server;

/// The answer that another server may have asked for.
///
/// *Shape:* used up by [`ServerAck::send`]; dropping it tells the other server that there is none.
#[derive(Debug)]
pub struct ServerAck(Option<Reply>);

impl ServerAck {
    /// Whether the other server asked for an answer.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.0.is_some()
    }

    /// Answers, if the other server asked: a tuple is many arguments, `()` none, anything else one.
    ///
    /// # Errors
    /// When the answer cannot be encoded.
    pub fn send<T: Serialize + ?Sized>(self, payload: &T) -> Result<(), EncodeError> {
        match self.0 {
            Some(reply) => reply.answer(payload),
            None => Ok(()),
        }
    }
}

type Unfinished = Pin<Box<dyn Future<Output = Result<(), HandlerError>> + Send>>;
pub(crate) type ServerHandler = Arc<dyn Fn(Payload, ServerAck) -> Unfinished + Send + Sync>;

pub(crate) fn server_handler<T, R, Fut>(
    event: &str,
    f: impl Fn(T, ServerAck) -> Fut + Send + Sync + 'static,
) -> ServerHandler
where
    T: DeserializeOwned + 'static,
    R: Outcome,
    Fut: Future<Output = R> + Send + 'static,
{
    let event: Arc<str> = event.into();
    Arc::new(move |payload, ack| match payload.decode::<T>() {
        Ok(data) => {
            let future = f(data, ack);
            Box::pin(async move { future.await.into_result().map_err(HandlerError::Failed) })
        }
        Err(source) => {
            let event = event.as_ref().to_owned();
            let error = HandlerError::Payload { event, source };
            Box::pin(std::future::ready(Err(error)))
        }
    })
}

/// Hands an event of another server to its handler, which is polled once here and now: events of
/// one server start their handlers in order.
pub(crate) fn dispatch(server: &Server, event: ServerEvent) {
    let ServerEvent {
        namespace,
        event,
        payload,
        reply,
    } = event;
    let Some(handler) = server.server_handler(&namespace, &event) else {
        server.metrics().dropped_server_event();
        return;
    };
    let call = Box::pin(async move { handler(payload, ServerAck(reply)).await });
    let mut call = CatchUnwind { inner: call };
    match Pin::new(&mut call).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => report(server, result),
        Poll::Pending => {
            let owner = server.clone();
            server.tasks().spawn("handler", async move {
                report(&owner, call.await);
            });
        }
    }
}

fn report(server: &Server, result: Result<Result<(), HandlerError>, String>) {
    let Err(error) = result.unwrap_or_else(|message| Err(HandlerError::Panicked(message))) else {
        return;
    };
    server.metrics().handler_error(error.label());
    tracing::debug!(%error, "a handler for other servers failed");
}

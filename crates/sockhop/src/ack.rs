//! Acknowledgements: ours to a client, and clients' to us.

use std::time::Instant;

use engineio_proto::Encoded;
use serde::Serialize;
use serde::de::DeserializeOwned;
use socketio_proto::{AckId, Payload, encode_ack};
use sockhop_adapter::{AckSlot, NodeId, SocketId, SocketKey};
use tokio::sync::oneshot;

use crate::error::{AckError, EmitError};
use crate::socket::Socket;

/// The acknowledgement that a client may have asked for.
///
/// *Shape:* used up by [`Ack::send`]; dropping it answers nothing.
#[derive(Debug)]
pub struct Ack {
    asked: Option<(Socket, AckId)>,
}

impl Ack {
    pub(crate) fn new(socket: &Socket, id: Option<AckId>) -> Self {
        Self {
            asked: id.map(|id| (socket.clone(), id)),
        }
    }

    /// Whether the client asked for an answer.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.asked.is_some()
    }

    /// Answers, if the client asked: a tuple is many arguments, `()` none, anything else one.
    ///
    /// # Errors
    /// When the answer cannot be encoded, the client reads too slowly, or it has left the
    /// namespace, even if it is back with another socket.
    pub fn send<T: Serialize + ?Sized>(self, payload: &T) -> Result<(), EmitError> {
        let Some((socket, id)) = self.asked else {
            return Ok(());
        };
        let namespace = socket.namespace().name();
        socket.push(encode_ack(socket.peer().parser, namespace, id, payload)?)
    }
}

/// An event for one socket that wants an answer, on its way to the session's task.
///
/// *Shape:* the packet's budget is charged to the outbox; whoever throws it away refunds it.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) socket: SocketKey,
    pub(crate) packet: Encoded,
    pub(crate) id: AckId,
    pub(crate) deadline: Option<Instant>,
    pub(crate) reply: oneshot::Sender<Result<Payload, AckError>>,
}

/// Where the acknowledgement of a client goes.
#[derive(Debug)]
pub(crate) enum AckSink {
    /// To a broadcast, together with others. Dropping it reports it as missed.
    Broadcast(AckSlot),
    /// To a single call.
    Single(oneshot::Sender<Result<Payload, AckError>>),
}

impl AckSink {
    pub(crate) fn answer(self, payload: Payload) {
        match self {
            Self::Broadcast(slot) => slot.answer(payload),
            // Nobody waits any more: fine.
            Self::Single(reply) => drop(reply.send(Ok(payload))),
        }
    }

    pub(crate) fn fail(self, error: AckError) {
        match self {
            Self::Broadcast(slot) => drop(slot),
            Self::Single(reply) => drop(reply.send(Err(error))),
        }
    }
}

/// What came back from a broadcast with acknowledgements.
#[derive(Debug)]
pub struct BroadcastAcks<R> {
    /// The answers, in the order of their arrival. Servers of other makes do not always say whose
    /// they are: the id is empty then.
    pub responses: Vec<(SocketId, Result<R, AckError>)>,
    /// How many sockets were asked.
    pub expected: usize,
    /// The nodes that did not say in time how many sockets they asked.
    pub missing: Vec<NodeId>,
    /// How many servers of other makes did not.
    pub missing_foreign: usize,
}

impl<R> BroadcastAcks<R> {
    /// Whether everybody answered with something that fits.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let heard_all = self.missing.is_empty() && self.missing_foreign == 0;
        heard_all
            && self.responses.len() == self.expected
            && self.responses.iter().all(|(_, it)| it.is_ok())
    }

    /// The answers that fit.
    pub fn into_values(self) -> impl Iterator<Item = R> {
        self.responses
            .into_iter()
            .filter_map(|(_, response)| response.ok())
    }
}

pub(crate) fn decode<R: DeserializeOwned>(payload: &Payload) -> Result<R, AckError> {
    Ok(payload.decode()?)
}

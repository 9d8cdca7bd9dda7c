//! Servers of other makes in the same cluster, as the adapters see them.
//!
//! A dialect implements [`Foreign`] and is told what this node's users ask for. What the others ask
//! for it brings to the adapters itself, which serve the sockets of this node only: every node hears
//! the others' messages by itself.
//!
//! | a foreign server | calls here |
//! |---|---|
//! | emits | [`Adapter::broadcast`](crate::Adapter::broadcast) with [`BroadcastOptions::local`] |
//! | emits and wants acks | [`Adapter::broadcast_with_ack`](crate::Adapter::broadcast_with_ack) |
//! | moves or disconnects sockets | [`Adapter::sockets_join`](crate::Adapter::sockets_join), [`Adapter::sockets_leave`](crate::Adapter::sockets_leave), [`Adapter::disconnect_sockets`](crate::Adapter::disconnect_sockets) |
//! | asks for sockets or rooms | [`Adapter::fetch_sockets`](crate::Adapter::fetch_sockets), [`Rooms::all_rooms`](crate::Rooms::all_rooms) |

use std::fmt;
use std::time::Duration;

use engineio_proto::Encoded;
use socketio_proto::{EncodeError, Parser, Payload, Value};

use crate::bus::{BusError, Wait};
use crate::options::BroadcastOptions;
use crate::recipient::{DisconnectScope, RemoteSocketInfo, Room, SocketId, SocketInfo};

/// Writes a packet for a parser, once for each: JSON is the text `2/chat,["event",…]` with
/// attachments, MessagePack a map with `type`, `nsp` and `data`.
pub type WritePacket<'a> = &'a mut dyn FnMut(Parser) -> Result<Encoded, EncodeError>;

/// Whom an operation is for.
#[derive(Clone, Debug)]
pub struct Target<'a> {
    /// The name of the namespace.
    pub namespace: &'a str,
    /// Rooms, exceptions and flags. Never [`BroadcastOptions::local`].
    pub options: &'a BroadcastOptions,
    /// The socket that [`BroadcastOptions::except_socket`] leaves out: it lives on this node.
    pub sender: Option<SocketId>,
}

/// What servers of other makes answered.
#[derive(Clone, Debug, Default)]
pub struct ForeignAnswer<T> {
    /// What came in time.
    pub found: T,
    /// How many did not answer in time.
    pub missing: usize,
}

/// What sockets on servers of other makes answered.
#[derive(Clone, Debug, Default)]
pub struct ForeignAcks {
    /// The answers. Not every dialect says whose they are.
    pub answers: Vec<(Option<SocketId>, Payload)>,
    /// How many sockets were asked.
    pub expected: usize,
}

/// Is told what users of this node ask of the whole cluster, to pass it on to servers of other
/// makes. The other nodes of this make are not its business.
///
/// *Shape:* called on the user's thread while nothing is locked. Nothing here waits; what is
/// answered later is a [`Wait`] that ends by itself after the timeout. By default nobody else is
/// there.
pub trait Foreign: fmt::Debug + Send + Sync + 'static {
    /// A namespace begins here.
    fn enter(&self, namespace: &str) {
        let _ = namespace;
    }

    /// A namespace ends here.
    fn exit(&self, namespace: &str) {
        let _ = namespace;
    }

    /// A broadcast.
    ///
    /// # Errors
    /// Servers of other makes may have missed it.
    fn broadcast(&self, target: &Target<'_>, packet: WritePacket<'_>) -> Result<(), BusError>;

    /// A broadcast that asks for acks. The packet is written without an ack id.
    fn broadcast_with_ack(
        &self,
        target: &Target<'_>,
        timeout: Duration,
        packet: WritePacket<'_>,
    ) -> Wait<ForeignAnswer<ForeignAcks>> {
        let _ = (target, timeout, packet);
        nothing()
    }

    /// Sockets are to join rooms.
    fn sockets_join(&self, target: &Target<'_>, rooms: &[Room]) {
        let _ = (target, rooms);
    }

    /// Sockets are to leave rooms.
    fn sockets_leave(&self, target: &Target<'_>, rooms: &[Room]) {
        let _ = (target, rooms);
    }

    /// Sockets are to be disconnected.
    fn disconnect_sockets(&self, target: &Target<'_>, scope: DisconnectScope) {
        let _ = (target, scope);
    }

    /// The sockets are asked for.
    fn fetch_sockets(
        &self,
        target: &Target<'_>,
        timeout: Duration,
    ) -> Wait<ForeignAnswer<Vec<RemoteSocketInfo>>> {
        let _ = (target, timeout);
        nothing()
    }

    /// All rooms of a namespace are asked for.
    fn all_rooms(&self, namespace: &str, timeout: Duration) -> Wait<ForeignAnswer<Vec<Room>>> {
        let _ = (namespace, timeout);
        nothing()
    }

    /// How many servers of other makes there are.
    fn server_count(&self, timeout: Duration) -> Wait<usize> {
        let _ = timeout;
        nothing()
    }

    /// An event for the servers themselves, with a timeout if answers are wanted.
    fn server_side_emit(
        &self,
        namespace: &str,
        event: &str,
        payload: &Payload,
        timeout: Option<Duration>,
    ) -> Wait<ForeignAnswer<Vec<Payload>>> {
        let _ = (namespace, event, payload, timeout);
        nothing()
    }
}

fn nothing<T: Default + Send + 'static>() -> Wait<T> {
    Box::pin(std::future::ready(T::default()))
}

/// What another server told of one of its sockets.
#[derive(Clone, Debug)]
pub struct SocketSnapshot {
    /// Its id.
    pub id: SocketId,
    /// The request with which its session began.
    pub handshake: Value,
    /// The data that the user attached to it.
    pub data: Value,
}

impl SocketInfo for SocketSnapshot {
    fn id(&self) -> &SocketId {
        &self.id
    }

    fn handshake(&self) -> Value {
        self.handshake.clone()
    }

    fn data(&self) -> Value {
        self.data.clone()
    }
}

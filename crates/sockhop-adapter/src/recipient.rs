//! Sockets as the adapter sees them, and what it asks of their sessions.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use engineio_proto::{Encoded, Outgoing};
use socketio_proto::{AckId, Parser, Value};
use sockhop_outbox::Outbox;

use crate::ack::AckSlot;

/// The public id of a socket: of one peer in one namespace.
///
/// *Shape:* shared text; two sockets of a namespace never have the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId(Arc<str>);

/// The name of a room.
///
/// *Shape:* shared text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Room(Arc<str>);

impl SocketId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Room {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for SocketId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Room {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<&str> for SocketId {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<&str> for Room {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for SocketId {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<String> for Room {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

/// The room in which a socket is by itself: the one named by its id.
impl From<&SocketId> for Room {
    fn from(id: &SocketId) -> Self {
        Self(Arc::clone(&id.0))
    }
}

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A number that stands for one socket while this process runs.
///
/// *Shape:* never used twice, not even for a peer that comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketKey(u64);

impl SocketKey {
    /// The next free number.
    #[must_use]
    pub fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The number.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }
}

/// How the adapter reaches one socket.
///
/// `C` is what the session's task takes besides packets; the adapter asks in the form of a
/// [`Directive`].
#[derive(Debug)]
pub struct Recipient<C> {
    /// Its number.
    pub key: SocketKey,
    /// How packets for it are written.
    pub parser: Parser,
    /// The queue of its session, shared with the sockets of that peer in other namespaces.
    pub outbox: Outbox<Outgoing<C>>,
    /// Who it is.
    pub info: Arc<dyn SocketInfo>,
}

/// What there is to know about a socket. The layer above implements it with its socket.
pub trait SocketInfo: fmt::Debug + Send + Sync + 'static {
    /// Its id.
    fn id(&self) -> &SocketId;

    /// The request with which its session began, as it is told to other nodes.
    fn handshake(&self) -> Value;

    /// The data that the user attached to it, as it is told to other nodes.
    fn data(&self) -> Value;
}

/// A socket found by a query.
#[derive(Clone, Debug)]
pub struct RemoteSocketInfo {
    /// Its id.
    pub id: SocketId,
    /// Its rooms, the one named by its id first.
    pub rooms: Vec<Room>,
    /// Who it is.
    pub info: Arc<dyn SocketInfo>,
}

/// What the adapter asks a session's task to do. It travels in the outbox, so it happens after
/// what was sent before.
#[derive(Debug)]
pub enum Directive {
    /// Disconnect this socket.
    Disconnect {
        /// Which.
        socket: SocketKey,
        /// How much of its session ends.
        scope: DisconnectScope,
    },
    /// Send a packet to this socket and wait for its ack.
    ExpectAck(Box<ExpectAck>),
}

/// How much ends when a socket is disconnected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisconnectScope {
    /// The socket leaves its namespace; the session and its other sockets stay.
    Namespace,
    /// The whole session is closed.
    Session,
}

/// A packet that wants an ack.
///
/// *Shape:* its [`Encoded::budget_bytes`] are charged to the outbox. Sending the packet refunds
/// them like those of any other; whoever throws it away refunds them.
#[derive(Debug)]
pub struct ExpectAck {
    /// For whom.
    pub socket: SocketKey,
    /// The packet, which has `id` inside.
    pub packet: Encoded,
    /// The id that the ack will have.
    pub id: AckId,
    /// When the ack counts as missed; `None`: when the socket disconnects.
    pub deadline: Option<Instant>,
    /// Where the ack goes. Dropping it reports the ack as missed.
    pub slot: AckSlot,
}

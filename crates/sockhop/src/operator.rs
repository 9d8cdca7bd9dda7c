//! Who gets an emit: rooms, exceptions, flags; and the emit itself.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use socketio_proto::{Payload, encode_event};
use sockhop_adapter::{
    AckCollector, AckResponses, BroadcastOptions, DisconnectScope, Room, SocketId,
};

use crate::ack::{self, BroadcastAcks};
use crate::error::EmitError;
use crate::namespace::Namespace;
use crate::remote::RemoteSocket;
use crate::socket::Socket;

/// How long a broadcast waits for acknowledgements unless told otherwise.
const DEFAULT_ACK_TIMEOUT: Duration = Duration::from_secs(5);

/// One room or several: a string, a [`Room`], a [`SocketId`], or a list of them.
pub trait IntoRooms {
    /// The rooms.
    fn into_rooms(self) -> impl Iterator<Item = Room>;
}

impl IntoRooms for &str {
    fn into_rooms(self) -> impl Iterator<Item = Room> {
        std::iter::once(Room::from(self))
    }
}

impl IntoRooms for String {
    fn into_rooms(self) -> impl Iterator<Item = Room> {
        std::iter::once(Room::from(self))
    }
}

impl IntoRooms for &String {
    fn into_rooms(self) -> impl Iterator<Item = Room> {
        std::iter::once(Room::from(self.as_str()))
    }
}

impl IntoRooms for Room {
    fn into_rooms(self) -> impl Iterator<Item = Self> {
        std::iter::once(self)
    }
}

impl IntoRooms for &Room {
    fn into_rooms(self) -> impl Iterator<Item = Room> {
        std::iter::once(self.clone())
    }
}

impl IntoRooms for &SocketId {
    fn into_rooms(self) -> impl Iterator<Item = Room> {
        std::iter::once(Room::from(self.as_str()))
    }
}

impl<T: Into<Room>> IntoRooms for Vec<T> {
    fn into_rooms(self) -> impl Iterator<Item = Room> {
        self.into_iter().map(Into::into)
    }
}

impl<T: Into<Room>, const N: usize> IntoRooms for [T; N] {
    fn into_rooms(self) -> impl Iterator<Item = Room> {
        self.into_iter().map(Into::into)
    }
}

/// The target of an emit, and its flags. Nothing happens before one of the last methods.
#[derive(Clone)]
#[must_use = "nothing is sent before `emit` or another last method"]
pub struct BroadcastOperator {
    namespace: Namespace,
    options: BroadcastOptions,
    timeout: Duration,
}

impl BroadcastOperator {
    pub(crate) fn new(namespace: Namespace) -> Self {
        let options = BroadcastOptions::default();
        Self {
            namespace,
            options,
            timeout: DEFAULT_ACK_TIMEOUT,
        }
    }

    /// Adds rooms to the target: the members of any of them, each once.
    pub fn to(mut self, rooms: impl IntoRooms) -> Self {
        self.options.rooms.extend(rooms.into_rooms());
        self
    }

    /// The same as [`Self::to`].
    pub fn within(self, rooms: impl IntoRooms) -> Self {
        self.to(rooms)
    }

    /// Leaves out the members of these rooms. A socket's id is a room of its own, so this also
    /// skips single sockets.
    pub fn except(mut self, rooms: impl IntoRooms) -> Self {
        self.options.except.extend(rooms.into_rooms());
        self
    }

    /// Lets the emit be lost for clients that are not ready to receive.
    pub fn volatile(mut self) -> Self {
        self.options.volatile = true;
        self
    }

    /// Keeps the emit on this node.
    pub fn local(mut self) -> Self {
        self.options.local = true;
        self
    }

    /// Whether polling bodies that carry the emit may be compressed. Default true.
    pub fn compress(mut self, compress: bool) -> Self {
        self.options.compress = compress;
        self
    }

    /// How long to wait for acknowledgements. Default 5 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sends an event: a tuple is many arguments, `()` none, anything else one. A target without
    /// members is nobody, not an error.
    ///
    /// # Errors
    /// When the payload cannot be encoded, or other nodes may have missed it.
    pub fn emit<T: Serialize + ?Sized>(&self, event: &str, payload: &T) -> Result<(), EmitError> {
        let name = self.namespace.name();
        self.namespace
            .adapter()
            .broadcast(&self.options, &mut |parser| {
                encode_event(parser, name, None, event, payload)
            })?;
        Ok(())
    }

    /// Sends the event `message`.
    ///
    /// # Errors
    /// As [`Self::emit`].
    pub fn send<T: Serialize + ?Sized>(&self, payload: &T) -> Result<(), EmitError> {
        self.emit("message", payload)
    }

    /// Sends an event and collects everybody's acknowledgement, until all answered or the
    /// [timeout](Self::timeout) has passed; who did not answer by then is missing in the result.
    ///
    /// # Errors
    /// As [`Self::emit`].
    pub async fn emit_with_ack<R: DeserializeOwned>(
        &self,
        event: &str,
        payload: &(impl Serialize + ?Sized),
    ) -> Result<BroadcastAcks<R>, EmitError> {
        let sent = self.send_with_ack(event, payload)?;
        let AckResponses { answers, expected } = sent.wait(self.timeout).await;
        let decode = |(id, payload): (SocketId, Payload)| (id, ack::decode(&payload));
        Ok(BroadcastAcks {
            responses: answers.into_iter().map(decode).collect(),
            expected,
        })
    }

    pub(crate) fn send_with_ack<T: Serialize + ?Sized>(
        &self,
        event: &str,
        payload: &T,
    ) -> Result<SentWithAck, EmitError> {
        let id = self.namespace.adapter().next_ack_id();
        let name = self.namespace.name();
        let now = tokio::time::Instant::now().into_std();
        let collector = self.namespace.adapter().broadcast_with_ack(
            &self.options,
            id,
            now.checked_add(self.timeout),
            &mut |parser| encode_event(parser, name, Some(id), event, payload),
        )?;
        Ok(SentWithAck { collector })
    }

    /// The sockets of the target.
    pub async fn fetch_sockets(&self) -> Vec<RemoteSocket> {
        let found = self.namespace.adapter().fetch_sockets(&self.options);
        found
            .into_iter()
            .map(|info| RemoteSocket::new(self.namespace.clone(), info))
            .collect()
    }

    /// Makes the sockets of the target join rooms.
    pub fn sockets_join(&self, rooms: impl IntoRooms) {
        let rooms: Vec<Room> = rooms.into_rooms().collect();
        self.namespace.adapter().sockets_join(&self.options, &rooms);
    }

    /// Makes the sockets of the target leave rooms.
    pub fn sockets_leave(&self, rooms: impl IntoRooms) {
        let rooms: Vec<Room> = rooms.into_rooms().collect();
        self.namespace
            .adapter()
            .sockets_leave(&self.options, &rooms);
    }

    /// Disconnects the sockets of the target, or with `close` their whole sessions.
    pub fn disconnect_sockets(&self, close: bool) {
        let scope = if close {
            DisconnectScope::Session
        } else {
            DisconnectScope::Namespace
        };
        self.namespace
            .adapter()
            .disconnect_sockets(&self.options, scope);
    }

    pub(crate) fn skip(mut self, socket: &Socket) -> Self {
        self.options.except_socket = Some(socket.key());
        self
    }
}

impl fmt::Debug for BroadcastOperator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BroadcastOperator")
            .field("namespace", &self.namespace.name())
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// Acknowledgements under way.
pub(crate) struct SentWithAck {
    collector: Arc<AckCollector>,
}

impl SentWithAck {
    /// All answers, or those that came in time.
    pub(crate) async fn wait(self, timeout: Duration) -> AckResponses {
        let complete = Arc::clone(&self.collector).responses();
        if let Ok(responses) = tokio::time::timeout(timeout, complete).await {
            return responses;
        }
        self.collector.finish();
        self.collector.responses().await
    }
}

/// One socket and the flags of its next emit.
#[derive(Clone, Debug)]
#[must_use = "nothing is sent before `emit` or another last method"]
pub struct SocketOperator {
    socket: Socket,
    volatile: bool,
    compress: bool,
}

impl SocketOperator {
    pub(crate) fn new(socket: Socket) -> Self {
        Self {
            socket,
            volatile: false,
            compress: true,
        }
    }

    /// Lets the emit be lost when the client is not ready to receive.
    pub fn volatile(mut self) -> Self {
        self.volatile = true;
        self
    }

    /// Whether a polling body that carries the emit may be compressed. Default true.
    pub fn compress(mut self, compress: bool) -> Self {
        self.compress = compress;
        self
    }

    /// Everybody in the namespace but this socket, with these flags.
    pub fn broadcast(self) -> BroadcastOperator {
        let mut operator = BroadcastOperator::new(self.socket.namespace().clone())
            .skip(&self.socket)
            .compress(self.compress);
        operator.options.volatile = self.volatile;
        operator
    }

    /// The members of these rooms but this socket, with these flags.
    pub fn to(self, rooms: impl IntoRooms) -> BroadcastOperator {
        self.broadcast().to(rooms)
    }

    /// Sends an event to the socket, as [`Socket::emit`] does, with these flags.
    ///
    /// # Errors
    /// As [`Socket::emit`]. A volatile event that was dropped is no error; it is counted.
    pub fn emit<T: Serialize + ?Sized>(&self, event: &str, payload: &T) -> Result<(), EmitError> {
        let socket = &self.socket;
        let namespace = socket.namespace().name();
        let mut packet = encode_event(socket.peer().parser, namespace, None, event, payload)?;
        if !self.compress {
            packet = packet.without_compression();
        }
        if self.volatile {
            socket.push_volatile(packet)
        } else {
            socket.push(packet)
        }
    }
}

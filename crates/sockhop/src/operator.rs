//! Who gets an emit: rooms, exceptions, flags; and the emit itself.

use std::fmt;
use std::future::Future;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use socketio_proto::{Payload, encode_event};
use sockhop_adapter::{
    AckResponses, AcksUnderWay, BroadcastOptions, DisconnectScope, Gathered, Gathering, Room,
    SocketId,
};

use crate::ack::{self, BroadcastAcks};
use crate::cluster::{Changed, gathered, now};
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
    /// `None`: not said.
    timeout: Option<Duration>,
}

impl BroadcastOperator {
    pub(crate) fn new(namespace: Namespace) -> Self {
        let options = BroadcastOptions::default();
        Self {
            namespace,
            options,
            timeout: None,
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

    /// How long to wait for acknowledgements, and for other nodes. Default 5 s, for the latter as
    /// [`ClusterConfig::request_timeout`](crate::ClusterConfig) says.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
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
    /// [timeout](Self::timeout) has passed; who did not answer by then is missing in the result, and
    /// so are nodes that could not be reached.
    ///
    /// # Errors
    /// When the payload cannot be encoded.
    pub async fn emit_with_ack<R: DeserializeOwned>(
        &self,
        event: &str,
        payload: &(impl Serialize + ?Sized),
    ) -> Result<BroadcastAcks<R>, EmitError> {
        let acks = self.ask(event, payload)?.await;
        let (missing, missing_foreign) = (acks.missing, acks.missing_foreign);
        let AckResponses { answers, expected } = acks.found;
        let decode = |(id, payload): (SocketId, Payload)| (id, ack::decode(&payload));
        Ok(BroadcastAcks {
            responses: answers.into_iter().map(decode).collect(),
            expected,
            missing,
            missing_foreign,
        })
    }

    /// Sends an event now; what is returned collects the acknowledgements.
    pub(crate) fn ask<T: Serialize + ?Sized>(
        &self,
        event: &str,
        payload: &T,
    ) -> Result<impl Future<Output = Gathered<AckResponses>> + Send + use<T>, EmitError> {
        let name = self.namespace.name();
        let timeout = self.timeout.unwrap_or(DEFAULT_ACK_TIMEOUT);
        let start = now();
        let AcksUnderWay { acks, here } = self.namespace.adapter().acks_everywhere(
            &self.options,
            start,
            timeout,
            &mut |parser, id| encode_event(parser, name, id, event, payload),
        )?;
        let server = self.namespace.server().clone();
        Ok(async move {
            let mut acks = acks;
            tokio::select! {
                acks = &mut acks => return acks,
                () = tokio::time::sleep_until((start + timeout).into()) => {}
            }
            here.finish();
            server.cluster().handle_timeout(now());
            acks.await
        })
    }

    /// The sockets of the target, on every node.
    pub async fn fetch_sockets(&self) -> Gathered<Vec<RemoteSocket>> {
        let (now, timeout) = self.times();
        let adapter = self.namespace.adapter();
        let found = adapter.fetch_everywhere(&self.options, now, timeout);
        let found = gathered(self.namespace.server(), found).await;
        let remote = |info| RemoteSocket::new(self.namespace.clone(), info);
        found.map(|found| found.into_iter().map(remote).collect())
    }

    /// Makes the sockets of the target join rooms, on every node.
    pub fn sockets_join(&self, rooms: impl IntoRooms) -> Changed {
        let rooms: Vec<Room> = rooms.into_rooms().collect();
        let (now, timeout) = self.times();
        let adapter = self.namespace.adapter();
        self.changed(adapter.join_everywhere(&self.options, &rooms, now, timeout))
    }

    /// Makes the sockets of the target leave rooms, on every node.
    pub fn sockets_leave(&self, rooms: impl IntoRooms) -> Changed {
        let rooms: Vec<Room> = rooms.into_rooms().collect();
        let (now, timeout) = self.times();
        let adapter = self.namespace.adapter();
        self.changed(adapter.leave_everywhere(&self.options, &rooms, now, timeout))
    }

    /// Disconnects the sockets of the target, or with `close` their whole sessions, on every node.
    pub fn disconnect_sockets(&self, close: bool) -> Changed {
        let scope = if close {
            DisconnectScope::Session
        } else {
            DisconnectScope::Namespace
        };
        let (now, timeout) = self.times();
        let adapter = self.namespace.adapter();
        self.changed(adapter.disconnect_everywhere(&self.options, scope, now, timeout))
    }

    fn changed(&self, counts: Gathering<usize>) -> Changed {
        Changed::new(self.namespace.server(), counts)
    }

    /// Now, and how long other nodes may take.
    fn times(&self) -> (Instant, Duration) {
        let server = self.namespace.server();
        (
            now(),
            self.timeout.unwrap_or_else(|| server.request_timeout()),
        )
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
        socket.push_event(packet, self.volatile)
    }
}

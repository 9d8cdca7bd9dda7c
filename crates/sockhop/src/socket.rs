//! One client in one namespace.

use std::any::{Any, TypeId};
use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engineio_proto::{Encoded, Outgoing, ProtocolVersion, Transport};
use serde::Serialize;
use serde::de::DeserializeOwned;
use socketio_proto::{Payload, Value, encode_event};
use sockhop_adapter::slow::push_event;
use sockhop_adapter::{
    Directive, DisconnectScope, Recipient, Room, SocketId, SocketInfo, SocketKey,
};
use sockhop_engine::Handshake;
use sockhop_outbox::Push;
use tokio::sync::oneshot;

use crate::ack::{self, Ask};
use crate::cluster::Joined;
use crate::connection::{Control, Item, SessionOutbox};
use crate::error::{AckError, EmitError};
use crate::extras::{Extras, UpgradeHandler};
use crate::handler::{Event, PacketMiddleware};
use crate::handshake::describe;
use crate::namespace::Namespace;
use crate::operator::{BroadcastOperator, IntoRooms, SocketOperator};
use crate::peer::Peer;
use crate::server::Server;

/// One client in one namespace. Cloning shares the socket; it may outlive the connection.
#[derive(Clone)]
pub struct Socket(Arc<Inner>);

struct Inner {
    id: SocketId,
    key: SocketKey,
    namespace: Namespace,
    outbox: SessionOutbox,
    peer: Arc<Peer>,
    auth: Value,
    phase: AtomicU8,
    /// Empty for most sockets.
    extras: Mutex<Option<Box<Extras>>>,
}

/// ```text
///   Connecting ──admitted──▶ Connected ──left──▶ Disconnected
///        └──────────refused or gone──────────────────▲
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Connecting = 0,
    Connected = 1,
    Disconnected = 2,
}

/// What a new socket is made of.
pub(crate) struct SocketParts {
    pub(crate) id: SocketId,
    pub(crate) key: SocketKey,
    pub(crate) namespace: Namespace,
    pub(crate) outbox: SessionOutbox,
    pub(crate) peer: Arc<Peer>,
    pub(crate) auth: Value,
}

impl Socket {
    pub(crate) fn new(parts: SocketParts) -> Self {
        let SocketParts {
            id,
            key,
            namespace,
            outbox,
            peer,
            auth,
        } = parts;
        Self(Arc::new(Inner {
            id,
            key,
            namespace,
            outbox,
            peer,
            auth,
            phase: AtomicU8::new(Phase::Connecting as u8),
            extras: Mutex::default(),
        }))
    }

    /// The public id, unique in the namespace. Safe to show to other clients, with one exception:
    /// clients of protocol 4 derive theirs from the id of their session, which is a secret.
    #[must_use]
    pub fn id(&self) -> &SocketId {
        &self.0.id
    }

    /// The namespace that this socket is in.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.0.namespace
    }

    /// The server of the namespace.
    #[must_use]
    pub fn server(&self) -> &Server {
        self.0.namespace.server()
    }

    /// The first request of the session: headers, query, address, time.
    #[must_use]
    pub fn handshake(&self) -> &Handshake {
        &self.0.peer.handshake
    }

    /// What the client sent to be let in. *Shape:* an object; for protocol 4 the query of the
    /// namespace (`/chat?token=abc`) as an object of strings.
    #[must_use]
    pub fn auth(&self) -> &Value {
        &self.0.auth
    }

    /// The transport that messages travel on now.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.0.peer.transport()
    }

    /// The Engine.IO version of the session: 3 for clients of the 2.x line, else 4.
    #[must_use]
    pub fn protocol(&self) -> ProtocolVersion {
        self.0.peer.version
    }

    /// Whether the client was let in and has not left.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.0.phase.load(Ordering::Acquire) == Phase::Connected as u8
    }

    /// Keeps one value of each type for as long as the socket lives; returns the replaced one.
    pub fn insert<T: Any + Send + Sync>(&self, value: T) -> Option<Arc<T>> {
        let replaced =
            self.extras_mut(|extras| extras.data.insert(TypeId::of::<T>(), Arc::new(value)));
        replaced.and_then(|value| value.downcast().ok())
    }

    /// The value of this type that was kept with [`Self::insert`].
    #[must_use]
    pub fn get<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        let extras = self.extras();
        let value = extras.as_ref()?.data.get(&TypeId::of::<T>())?;
        Arc::clone(value).downcast().ok()
    }

    /// Forgets the value of this type and returns it.
    pub fn remove<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        let removed = self.extras().as_mut()?.data.remove(&TypeId::of::<T>());
        removed.and_then(|value| value.downcast().ok())
    }

    /// Attaches data that queries find with the socket, on every node.
    pub fn set_data(&self, data: Value) {
        self.extras_mut(|extras| extras.public_data = data);
    }

    /// What [`Self::set_data`] attached, else null.
    #[must_use]
    pub fn data(&self) -> Value {
        SocketInfo::data(&*self.0)
    }

    /// Calls `check` with every event of this socket before its handlers. An error keeps the
    /// event from them and goes to the error handler; so does a panic.
    ///
    /// *Shape:* kept until the socket leaves, like the callbacks of [`Self::on_upgrade`].
    pub fn use_packet<F>(&self, check: F)
    where
        F: Fn(&Self, &Event) -> Result<(), String> + Send + Sync + 'static,
    {
        let check: PacketMiddleware = Arc::new(check);
        self.while_alive(|extras| extras.packet_middlewares.push(check));
    }

    /// Calls `f` when the session moves from polling to WebSocket.
    pub fn on_upgrade<F: Fn(&Self) + Send + Sync + 'static>(&self, f: F) {
        let f: UpgradeHandler = Arc::new(f);
        self.while_alive(|extras| extras.upgrade_handlers.push(f));
    }

    /// Joins one room or several. Joining a room twice, or after the disconnect, does nothing. A
    /// middleware may call this already: the rooms are joined when the socket is let in.
    ///
    /// Rooms over the configured limit or with an overlong name are not joined; that is counted.
    ///
    /// *Shape:* in force at once on this node. In a cluster the result may be awaited: then what the
    /// other nodes emit to the rooms reaches the socket, too.
    pub fn join(&self, rooms: impl IntoRooms) -> Joined {
        for room in rooms.into_rooms() {
            if !self.changes_waiting_rooms(|waiting, max| {
                // One more than allowed is kept, so that the index refuses and counts it.
                if !waiting.contains(&room) && waiting.len() <= max {
                    waiting.push(room.clone());
                }
            }) {
                self.join_now(&room);
            }
        }
        Joined::new(self.server().cluster())
    }

    /// Leaves one room or several.
    pub fn leave(&self, rooms: impl IntoRooms) {
        for room in rooms.into_rooms() {
            if !self.changes_waiting_rooms(|waiting, _| waiting.retain(|it| *it != room)) {
                let index = self.0.namespace.adapter().rooms();
                index.leave(self.0.key, room.as_str());
            }
        }
    }

    /// The rooms that this socket is in, the one named by its own id included; none after the
    /// disconnect.
    #[must_use]
    pub fn rooms(&self) -> Vec<Room> {
        let mut rooms = vec![Room::from(self.id())];
        if self.changes_waiting_rooms(|waiting, _| rooms.extend_from_slice(waiting)) {
            return rooms;
        }
        let index = self.0.namespace.adapter().rooms();
        index.rooms_of(self.0.key).unwrap_or_default()
    }

    /// Sends an event: a tuple is many arguments, `()` none, anything else one.
    ///
    /// # Errors
    /// When the payload cannot be encoded, the client reads too slowly, or it is not in the
    /// namespace: not any more, or (in a middleware) not yet.
    pub fn emit<T: Serialize + ?Sized>(&self, event: &str, payload: &T) -> Result<(), EmitError> {
        let (parser, namespace) = (self.0.peer.parser, self.0.namespace.name());
        self.push_event(
            encode_event(parser, namespace, None, event, payload)?,
            false,
        )
    }

    /// Sends the event `message`.
    ///
    /// # Errors
    /// As [`Self::emit`].
    pub fn send<T: Serialize + ?Sized>(&self, payload: &T) -> Result<(), EmitError> {
        self.emit("message", payload)
    }

    /// Sends an event and waits for the client's acknowledgement.
    ///
    /// # Errors
    /// When the event cannot be sent, no answer comes in `timeout`, the client leaves or owes too
    /// many answers, or this one does not fit `R` (a tuple takes many arguments, anything else
    /// the first).
    pub async fn emit_with_ack<R: DeserializeOwned>(
        &self,
        event: &str,
        payload: &(impl Serialize + ?Sized),
        timeout: Duration,
    ) -> Result<R, AckError> {
        let answer = self.ask(event, payload, timeout)?;
        // Dropped without a word by a session that ended.
        let answer = answer.await.unwrap_or(Err(AckError::Disconnected))?;
        ack::decode(&answer)
    }

    /// Sends an event to this socket alone. Its session keeps the deadline.
    fn ask<T: Serialize + ?Sized>(
        &self,
        event: &str,
        payload: &T,
        timeout: Duration,
    ) -> Result<oneshot::Receiver<Result<Payload, AckError>>, EmitError> {
        let id = self.0.namespace.adapter().next_ack_id();
        let (parser, namespace) = (self.0.peer.parser, self.0.namespace.name());
        let packet = encode_event(parser, namespace, Some(id), event, payload)?;
        let now = tokio::time::Instant::now().into_std();
        let (reply, answer) = oneshot::channel();
        let bytes = packet.budget_bytes();
        let ask = Box::new(Ask {
            socket: self.0.key,
            packet,
            id,
            deadline: now.checked_add(timeout),
            reply,
        });
        self.push_item(Outgoing::Control(Control(Item::Ask(ask))), bytes)?;
        Ok(answer)
    }

    /// Everybody in the namespace but this socket.
    pub fn broadcast(&self) -> BroadcastOperator {
        self.operator().broadcast()
    }

    /// The members of these rooms but this socket. More calls add more rooms.
    pub fn to(&self, rooms: impl IntoRooms) -> BroadcastOperator {
        self.operator().to(rooms)
    }

    /// The members of these rooms, this socket included if it is one.
    pub fn within(&self, rooms: impl IntoRooms) -> BroadcastOperator {
        self.0.namespace.to(rooms)
    }

    /// Everybody but this socket and the members of these rooms.
    pub fn except(&self, rooms: impl IntoRooms) -> BroadcastOperator {
        self.broadcast().except(rooms)
    }

    /// What is emitted next may be lost when the client is not ready to receive.
    pub fn volatile(&self) -> SocketOperator {
        self.operator().volatile()
    }

    /// What is emitted next stays on this node.
    pub fn local(&self) -> BroadcastOperator {
        self.broadcast().local()
    }

    /// Whether polling bodies that carry what is emitted next may be compressed.
    pub fn compress(&self, compress: bool) -> SocketOperator {
        self.operator().compress(compress)
    }

    fn operator(&self) -> SocketOperator {
        SocketOperator::new(self.clone())
    }

    /// Leaves the namespace, or with `close` ends the whole session with all its sockets. What
    /// was emitted before still reaches the client.
    ///
    /// *Shape:* returns at once; the socket has left a little later. In a middleware this refuses
    /// the client.
    pub fn disconnect(&self, close: bool) {
        let scope = if close {
            DisconnectScope::Session
        } else {
            DisconnectScope::Namespace
        };
        let directive = Directive::Disconnect {
            socket: self.0.key,
            scope,
        };
        // A closed outbox belongs to a session that has ended already.
        let _ = self
            .0
            .outbox
            .push_control(Outgoing::Control(Control::from(directive)));
    }

    /// Ends the Engine.IO session without telling the namespace: the client sees its transport
    /// close and reconnects.
    pub fn close_transport(&self) {
        let _ = self
            .0
            .outbox
            .push_control(Outgoing::Control(Control(Item::CloseSession)));
    }

    pub(crate) fn key(&self) -> SocketKey {
        self.0.key
    }

    pub(crate) fn peer(&self) -> &Arc<Peer> {
        &self.0.peer
    }

    pub(crate) fn recipient(&self) -> Recipient<Control> {
        Recipient {
            key: self.0.key,
            parser: self.0.peer.parser,
            outbox: self.0.outbox.clone(),
            info: Arc::clone(&self.0) as Arc<dyn SocketInfo>,
        }
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.0.phase.store(phase as u8, Ordering::Release);
    }

    /// Takes the socket into the index of its namespace, and into the rooms that waited for that.
    pub(crate) fn enter(&self) {
        let index = self.0.namespace.adapter().rooms();
        index.connect(self.recipient());
        // Whoever joins or leaves a room meanwhile waits for this lock, or sees the new phase.
        let mut extras = self.extras();
        self.set_phase(Phase::Connected);
        if let Some(extras) = extras.as_mut() {
            for room in std::mem::take(&mut extras.waiting_rooms) {
                self.join_now(&room);
            }
        }
    }

    /// Takes the socket out of the index of its namespace and out of all rooms.
    pub(crate) fn exit(&self) {
        self.set_phase(Phase::Disconnected);
        self.0.namespace.adapter().rooms().disconnect(self.0.key);
        let callbacks = self.extras().as_mut().map(|extras| extras.take_callbacks());
        // Not before the lock is free: their owners may do anything when dropped.
        drop(callbacks);
    }

    fn join_now(&self, room: &Room) {
        // A limit refuses this join only, and is counted where it is checked.
        let _ = self.0.namespace.adapter().rooms().join(self.0.key, room);
    }

    /// Calls `f` with the rooms that wait and the limit of their number. False, and not called:
    /// no room waits any more, because the socket was let in or has gone.
    fn changes_waiting_rooms(&self, f: impl FnOnce(&mut Vec<Room>, usize)) -> bool {
        if !self.is_connecting() {
            return false;
        }
        let mut extras = self.extras();
        // Once more, because `enter` may have held the lock.
        let connecting = self.is_connecting();
        if connecting {
            let max = self.server().config().max_rooms_per_socket;
            f(&mut extras.get_or_insert_default().waiting_rooms, max);
        }
        connecting
    }

    /// Queues a packet for the client, if it is in the namespace: a socket that has left must not
    /// reach the one that took its place in the same session.
    pub(crate) fn push(&self, packet: Encoded) -> Result<(), EmitError> {
        let bytes = packet.budget_bytes();
        self.push_item(Outgoing::Packet(packet), bytes)
    }

    fn push_item(&self, item: Outgoing<Control>, bytes: usize) -> Result<(), EmitError> {
        if !self.is_connected() {
            return Err(EmitError::Disconnected);
        }
        self.pushed(self.0.outbox.push(item, bytes))
    }

    /// Queues an event, which may be dropped where the namespace says so, or because it is volatile.
    pub(crate) fn push_event(&self, packet: Encoded, volatile: bool) -> Result<(), EmitError> {
        if !self.is_connected() {
            return Err(EmitError::Disconnected);
        }
        let policy = self.0.namespace.adapter().slow_consumers();
        let packet = policy.mark(packet, volatile);
        self.pushed(push_event(&self.0.outbox, packet, volatile))
    }

    fn pushed(&self, push: Push) -> Result<(), EmitError> {
        match push {
            Push::Queued => Ok(()),
            Push::Dropped => {
                self.server().metrics().dropped_volatile();
                Ok(())
            }
            Push::Overflow => Err(EmitError::Overflow),
            Push::Closed => Err(EmitError::Disconnected),
        }
    }

    pub(crate) fn packet_middlewares(&self) -> Vec<PacketMiddleware> {
        let extras = self.extras();
        let extras = extras.as_ref();
        extras.map_or_else(Vec::new, |extras| extras.packet_middlewares.clone())
    }

    pub(crate) fn upgrade_handlers(&self) -> Vec<UpgradeHandler> {
        let extras = self.extras();
        let extras = extras.as_ref();
        extras.map_or_else(Vec::new, |extras| extras.upgrade_handlers.clone())
    }

    fn is_connecting(&self) -> bool {
        self.0.phase.load(Ordering::Acquire) == Phase::Connecting as u8
    }

    /// Changes what a socket that has left has no use for, unless it has left.
    fn while_alive(&self, change: impl FnOnce(&mut Extras)) {
        let mut extras = self.extras();
        if self.is_connecting() || self.is_connected() {
            change(extras.get_or_insert_default());
        }
    }

    fn extras(&self) -> MutexGuard<'_, Option<Box<Extras>>> {
        self.0.extras.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn extras_mut<R>(&self, f: impl FnOnce(&mut Extras) -> R) -> R {
        f(self.extras().get_or_insert_default())
    }
}

impl SocketInfo for Inner {
    fn id(&self) -> &SocketId {
        &self.id
    }

    fn handshake(&self) -> Value {
        describe(&self.peer.handshake, &self.auth)
    }

    fn data(&self) -> Value {
        let extras = self.extras.lock().unwrap_or_else(PoisonError::into_inner);
        extras
            .as_ref()
            .map(|extras| extras.public_data.clone())
            .unwrap_or_default()
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("id", &self.id)
            .field("namespace", &self.namespace.name())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl PartialEq for Socket {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for Socket {}

//! A namespace: its handlers, its sockets, and emits to them.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use socketio_proto::{ConnectError, NamespaceName};
use sockhop_adapter::{Adapter, Room, SocketId};

use crate::ack::{self, Ack};
use crate::cluster::Joined;
use crate::connection::Control;
use crate::error::{AckError, DisconnectReason, EmitError};
use crate::handler::{self, Event, HandlerError, Handlers, Outcome};
use crate::operator::{BroadcastOperator, IntoRooms};
use crate::remote::RemoteSocket;
use crate::server::Server;
use crate::socket::Socket;

/// A namespace. Cloning shares it.
///
/// Handlers registered here serve every socket of the namespace, those that are connected already
/// included. Registering a second handler for an event replaces the first; connect and disconnect
/// handlers add up.
#[derive(Clone)]
pub struct Namespace(Arc<Inner>);

struct Inner {
    name: NamespaceName,
    server: Server,
    adapter: Arc<Adapter<Control>>,
    handlers: RwLock<Arc<Handlers>>,
    /// Made on demand by a pattern or predicate, and freed with its last user.
    dynamic: bool,
    /// Clients that are in, or on their way in.
    users: AtomicUsize,
    /// Whether what other nodes emit to the namespace is known to reach this one.
    hears_others: AtomicBool,
}

impl Namespace {
    pub(crate) fn new(
        name: NamespaceName,
        server: Server,
        adapter: Adapter<Control>,
        dynamic: bool,
    ) -> Self {
        Self(Arc::new(Inner {
            name,
            server,
            adapter: Arc::new(adapter),
            handlers: RwLock::default(),
            dynamic,
            users: AtomicUsize::new(0),
            hears_others: AtomicBool::new(false),
        }))
    }

    /// The name, which begins with `/`.
    #[must_use]
    pub fn name(&self) -> &NamespaceName {
        &self.0.name
    }

    /// The server that the namespace belongs to.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.0.server
    }

    /// Sockets connected to the namespace on this node.
    #[must_use]
    pub fn socket_count(&self) -> usize {
        self.0.adapter.rooms().len()
    }

    /// Asks `f` about every client before it is let in; several are asked in the order of their
    /// registration. An error refuses the client with its message and data.
    pub fn middleware<F, Fut>(&self, f: F) -> &Self
    where
        F: Fn(Socket) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), ConnectError>> + Send + 'static,
    {
        self.change(|handlers| {
            handlers
                .middlewares
                .push(Arc::new(move |socket| Box::pin(f(socket))));
        })
    }

    /// Calls `f` when a client was let in: it has its CONNECT answer, and what `f` emits follows.
    pub fn on_connect<F, Fut, R>(&self, f: F) -> &Self
    where
        F: Fn(Socket) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = R> + Send + 'static,
        R: Outcome,
    {
        self.change(|handlers| handlers.connect.push(handler::socket_handler(f)))
    }

    /// Calls `f` with the arguments of every such event from a client (`connect` and `disconnect`
    /// are none, see [`Self::on_connect`] and [`Self::on_disconnect`]): `T` as a tuple takes many arguments,
    /// anything else the first; [`socketio_proto::Args`] and [`socketio_proto::Payload`] are raw.
    pub fn on<T, F, Fut, R>(&self, event: &str, f: F) -> &Self
    where
        T: DeserializeOwned + 'static,
        F: Fn(Socket, T) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = R> + Send + 'static,
        R: Outcome,
    {
        let handler = handler::event_handler(move |socket, data, _| f(socket, data));
        self.change(|handlers| drop(handlers.events.insert(event.into(), handler)))
    }

    /// As [`Self::on`], with the acknowledgement that the client may have asked for.
    pub fn on_with_ack<T, F, Fut, R>(&self, event: &str, f: F) -> &Self
    where
        T: DeserializeOwned + 'static,
        F: Fn(Socket, T, Ack) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = R> + Send + 'static,
        R: Outcome,
    {
        let handler = handler::event_handler(f);
        self.change(|handlers| drop(handlers.events.insert(event.into(), handler)))
    }

    /// Takes the handler of an event away.
    pub fn off(&self, event: &str) -> &Self {
        self.change(|handlers| drop(handlers.events.remove(event)))
    }

    /// Shows `f` every event before its handler gets it, if the packet middlewares let it pass.
    pub fn on_any<F>(&self, f: F) -> &Self
    where
        F: Fn(&Socket, &Event) + Send + Sync + 'static,
    {
        self.change(|handlers| handlers.any.push(Arc::new(f)))
    }

    /// Calls `f` with every event that has no handler of its own.
    pub fn on_unhandled<F, Fut, R>(&self, f: F) -> &Self
    where
        F: Fn(Socket, Event, Ack) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = R> + Send + 'static,
        R: Outcome,
    {
        self.change(|handlers| handlers.unhandled = Some(handler::raw_event_handler(f)))
    }

    /// Calls `f` with every failure of a handler.
    pub fn on_error<F>(&self, f: F) -> &Self
    where
        F: Fn(&Socket, &HandlerError) + Send + Sync + 'static,
    {
        self.change(|handlers| handlers.error = Some(Arc::new(f)))
    }

    /// Calls `f` when a socket is about to leave; its rooms are still readable.
    pub fn on_disconnecting<F>(&self, f: F) -> &Self
    where
        F: Fn(&Socket, DisconnectReason) + Send + Sync + 'static,
    {
        self.change(|handlers| handlers.disconnecting.push(Arc::new(f)))
    }

    /// Calls `f` when a socket has left the namespace and its rooms.
    pub fn on_disconnect<F, Fut, R>(&self, f: F) -> &Self
    where
        F: Fn(Socket, DisconnectReason) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = R> + Send + 'static,
        R: Outcome,
    {
        self.change(|handlers| handlers.disconnect.push(handler::disconnect_handler(f)))
    }

    /// Everybody in the namespace; narrow it down with the operator's methods.
    pub fn all(&self) -> BroadcastOperator {
        BroadcastOperator::new(self.clone())
    }

    /// The members of these rooms. More calls add more rooms.
    pub fn to(&self, rooms: impl IntoRooms) -> BroadcastOperator {
        self.all().to(rooms)
    }

    /// Everybody but the members of these rooms; a socket's id is a room of its own.
    pub fn except(&self, rooms: impl IntoRooms) -> BroadcastOperator {
        self.all().except(rooms)
    }

    pub(crate) fn to_socket(&self, id: &SocketId) -> BroadcastOperator {
        self.to(id)
    }

    /// Sends an event to everybody in the namespace.
    ///
    /// # Errors
    /// As [`BroadcastOperator::emit`].
    pub fn emit<T: Serialize + ?Sized>(&self, event: &str, payload: &T) -> Result<(), EmitError> {
        self.all().emit(event, payload)
    }

    /// Sends the event `message` to everybody in the namespace.
    ///
    /// # Errors
    /// As [`BroadcastOperator::emit`].
    pub fn send<T: Serialize + ?Sized>(&self, payload: &T) -> Result<(), EmitError> {
        self.all().send(payload)
    }

    /// All sockets of the namespace.
    pub async fn fetch_sockets(&self) -> Vec<RemoteSocket> {
        self.all().fetch_sockets().await
    }

    /// Makes the socket of this id join one room or several, if it is on this node.
    pub fn enter_room(&self, id: &SocketId, rooms: impl IntoRooms) {
        // By key: others may sit in the room of this name, and are not meant.
        let index = self.0.adapter.rooms();
        if let Some(key) = index.lookup(id.as_str()) {
            for room in rooms.into_rooms() {
                // A limit refuses this join only, and is counted where it is checked.
                let _ = index.join(key, &room);
            }
        }
    }

    /// Makes the socket of this id leave one room or several, if it is on this node.
    pub fn leave_room(&self, id: &SocketId, rooms: impl IntoRooms) {
        let index = self.0.adapter.rooms();
        if let Some(key) = index.lookup(id.as_str()) {
            for room in rooms.into_rooms() {
                index.leave(key, room.as_str());
            }
        }
    }

    /// Makes everybody leave a room.
    pub fn close_room(&self, room: impl Into<Room>) {
        let room = room.into();
        self.to(room.clone()).sockets_leave(room);
    }

    /// The rooms of the socket of this id, the one of its own id included; empty when there is no
    /// such socket.
    pub async fn rooms(&self, id: &SocketId) -> Vec<Room> {
        let found = self.to_socket(id).fetch_sockets().await;
        let own = found.into_iter().find(|socket| socket.id() == id);
        own.map(|socket| socket.rooms().to_vec())
            .unwrap_or_default()
    }

    /// Disconnects the socket of this id from the namespace, and whoever joined the room of that
    /// name.
    pub fn disconnect(&self, id: &SocketId) {
        self.to_socket(id).disconnect_sockets(false);
    }

    /// Sends an event to the socket of this id and waits for its acknowledgement. Whoever joined
    /// the room of that name gets the event too; their answers do not count.
    ///
    /// # Errors
    /// When there is no such socket, the event cannot be sent, no answer comes in `timeout`, or
    /// it does not fit `R`.
    pub async fn call<R: DeserializeOwned>(
        &self,
        id: &SocketId,
        event: &str,
        payload: &(impl Serialize + ?Sized),
        timeout: Duration,
    ) -> Result<R, AckError> {
        let sent = self
            .to_socket(id)
            .timeout(timeout)
            .send_with_ack(event, payload)?;
        let responses = sent.wait(timeout).await;
        match responses.answers.into_iter().find(|(from, _)| from == id) {
            Some((_, payload)) => ack::decode(&payload),
            None if self.0.adapter.rooms().lookup(id.as_str()).is_some() => Err(AckError::Timeout),
            None => Err(AckError::Disconnected),
        }
    }

    pub(crate) fn adapter(&self) -> &Arc<Adapter<Control>> {
        &self.0.adapter
    }

    /// What whoever comes in has to wait for: until then it would miss what other nodes emit to the
    /// whole namespace. None once somebody has waited.
    pub(crate) fn joining(&self) -> Option<impl Future<Output = ()> + Send + use<>> {
        if self.0.hears_others.load(Ordering::Relaxed) {
            return None;
        }
        let inner = Arc::clone(&self.0);
        Some(async move {
            Joined::new(inner.server.cluster()).await;
            inner.hears_others.store(true, Ordering::Relaxed);
        })
    }

    pub(crate) fn handlers(&self) -> Arc<Handlers> {
        Arc::clone(
            &self
                .0
                .handlers
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    pub(crate) fn is_dynamic(&self) -> bool {
        self.0.dynamic
    }

    /// Whether these are one and the same; namespaces made on demand may follow each other under
    /// one name.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn add_user(&self) {
        self.0.users.fetch_add(1, Ordering::AcqRel);
    }

    /// One user less; whether that was the last.
    pub(crate) fn remove_user(&self) -> bool {
        self.0.users.fetch_sub(1, Ordering::AcqRel) == 1
    }

    pub(crate) fn is_unused(&self) -> bool {
        self.0.users.load(Ordering::Acquire) == 0
    }

    fn change(&self, f: impl FnOnce(&mut Handlers)) -> &Self {
        let mut handlers = self
            .0
            .handlers
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        // What is replaced is dropped when nothing is locked: it may own anything.
        let before = Arc::clone(&handlers);
        f(Arc::make_mut(&mut handlers));
        drop(handlers);
        drop(before);
        self
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespace")
            .field("name", &self.0.name)
            .field("sockets", &self.socket_count())
            .finish_non_exhaustive()
    }
}

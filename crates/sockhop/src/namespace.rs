//! A namespace: its handlers, its sockets, and emits to them.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use socketio_proto::{ConnectError, DecodeError, NamespaceName, Payload};
use sockhop_adapter::{AckResponses, Adapter, Gathered, Gathering, Room, SlowConsumers, SocketId};

use crate::ack::{self, Ack};
use crate::cluster::{Changed, Joined, gathered, now};
use crate::connection::Control;
use crate::error::{AckError, DisconnectReason, EmitError};
use crate::handler::{self, Event, HandlerError, Handlers, Outcome};
use crate::operator::{BroadcastOperator, IntoRooms};
use crate::remote::RemoteSocket;
use crate::server::Server;
use crate::servers::{self, ServerAck};
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

    /// Sets what happens to clients that read more slowly than is sent to them. Default: what
    /// [`ServerConfig`](crate::ServerConfig) says.
    pub fn slow_consumers(&self, policy: SlowConsumers) -> &Self {
        self.0.adapter.set_slow_consumers(policy);
        self
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

    /// All sockets of the namespace, on every node.
    pub async fn fetch_sockets(&self) -> Gathered<Vec<RemoteSocket>> {
        self.all().fetch_sockets().await
    }

    /// All rooms of the namespace on every node, in order; those named by the ids of sockets
    /// included.
    pub async fn all_rooms(&self) -> Gathered<Vec<Room>> {
        let found = self.0.adapter.rooms_everywhere(now(), self.timeout());
        let found = gathered(&self.0.server, found).await;
        found.map(|mut rooms| {
            rooms.sort_unstable();
            rooms.dedup();
            rooms
        })
    }

    /// Makes the socket of this id join one room or several, on whichever node it lives. Whoever
    /// joined the room of that name is not meant.
    pub fn enter_room(&self, id: &SocketId, rooms: impl IntoRooms) -> Changed {
        let rooms: Vec<Room> = rooms.into_rooms().collect();
        let adapter = &self.0.adapter;
        self.changed(adapter.enter_rooms(id, &rooms, now(), self.timeout()))
    }

    /// Makes the socket of this id leave one room or several, on whichever node it lives.
    pub fn leave_room(&self, id: &SocketId, rooms: impl IntoRooms) -> Changed {
        let rooms: Vec<Room> = rooms.into_rooms().collect();
        let adapter = &self.0.adapter;
        self.changed(adapter.leave_rooms(id, &rooms, now(), self.timeout()))
    }

    /// Makes everybody leave a room, on every node.
    pub fn close_room(&self, room: impl Into<Room>) -> Changed {
        let room = room.into();
        self.to(room.clone()).sockets_leave(room)
    }

    /// The rooms of the socket of this id, the one of its own id included; empty when there is no
    /// such socket.
    pub async fn rooms(&self, id: &SocketId) -> Gathered<Vec<Room>> {
        let found = self.to_socket(id).fetch_sockets().await;
        found.map(|found| {
            let own = found.into_iter().find(|socket| socket.id() == id);
            own.map(|socket| socket.rooms().to_vec())
                .unwrap_or_default()
        })
    }

    /// Disconnects the socket of this id from the namespace, on whichever node it lives, and
    /// whoever on that node joined the room of that name.
    pub fn disconnect(&self, id: &SocketId) -> Changed {
        self.to_socket(id).disconnect_sockets(false)
    }

    /// Sends an event to the socket of this id, on whichever node it lives, and waits for its
    /// acknowledgement. Whoever joined the room of that name gets the event too; their answers do
    /// not count.
    ///
    /// # Errors
    /// When there is no such socket, its node does not answer, the event cannot be sent, no answer
    /// comes in `timeout`, or it does not fit `R`.
    pub async fn call<R: DeserializeOwned>(
        &self,
        id: &SocketId,
        event: &str,
        payload: &(impl Serialize + ?Sized),
        timeout: Duration,
    ) -> Result<R, AckError> {
        let start = now();
        let asked = self.to_socket(id).timeout(timeout).ask(event, payload)?;
        let acks = asked.await;
        let AckResponses { answers, expected } = acks.found;
        // Servers of other makes do not always say whose ack it is.
        let own = answers.iter().find(|(from, _)| from == id);
        let anybodys = || answers.iter().find(|(from, _)| from.as_str().is_empty());
        if let Some((_, payload)) = own.or_else(anybodys) {
            return ack::decode(payload);
        }
        if !acks.missing.is_empty() {
            return Err(AckError::Unreachable);
        }
        match expected > 0 && now().duration_since(start) >= timeout {
            true => Err(AckError::Timeout),
            false => Err(AckError::Disconnected),
        }
    }

    /// Sends an event to the other servers of the cluster, for what they registered with
    /// [`Self::on_server_event`].
    ///
    /// # Errors
    /// When the payload cannot be encoded, or other servers may have missed it.
    pub fn server_side_emit<T: Serialize + ?Sized>(
        &self,
        event: &str,
        payload: &T,
    ) -> Result<(), EmitError> {
        self.0
            .adapter
            .emit_to_servers(event, payload)?
            .map_err(EmitError::Bus)
    }

    /// Sends an event to the other servers of the cluster and collects the answers of their
    /// handlers. A server without a handler, or whose handler does not answer, gives none.
    ///
    /// # Errors
    /// When the payload cannot be encoded.
    pub async fn server_side_emit_with_ack<R: DeserializeOwned>(
        &self,
        event: &str,
        payload: &(impl Serialize + ?Sized),
    ) -> Result<Gathered<Vec<Result<R, DecodeError>>>, EmitError> {
        let adapter = &self.0.adapter;
        let answers = adapter.ask_servers(event, payload, now(), self.timeout())?;
        let answers = gathered(&self.0.server, answers).await;
        Ok(answers.map(|answers| answers.iter().map(Payload::decode).collect()))
    }

    /// Calls `f` with the arguments of every such event from other servers of the cluster, as
    /// [`Self::on`] does with those of clients.
    pub fn on_server_event<T, F, Fut, R>(&self, event: &str, f: F) -> &Self
    where
        T: DeserializeOwned + 'static,
        F: Fn(T) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = R> + Send + 'static,
        R: Outcome,
    {
        self.on_server_event_with_ack(event, move |data, _| f(data))
    }

    /// As [`Self::on_server_event`], with the answer that the other server may have asked for.
    pub fn on_server_event_with_ack<T, F, Fut, R>(&self, event: &str, f: F) -> &Self
    where
        T: DeserializeOwned + 'static,
        F: Fn(T, ServerAck) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = R> + Send + 'static,
        R: Outcome,
    {
        let handler = servers::server_handler(event, f);
        self.change(|handlers| drop(handlers.servers.insert(event.into(), handler)))
    }

    fn changed(&self, counts: Gathering<usize>) -> Changed {
        Changed::new(&self.0.server, counts)
    }

    /// How long other nodes may take.
    fn timeout(&self) -> Duration {
        self.0.server.request_timeout()
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

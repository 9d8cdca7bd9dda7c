//! What serves one Engine.IO session: the client's view of its namespaces, and its sockets.

use std::fmt;
use std::sync::Arc;
use std::task::{self, Poll, Waker};
use std::time::Instant;

use engineio_proto::{CloseReason, Encoded, Message, Outgoing, ProtocolVersion, SessionId, Text};
use smallvec::SmallVec;
use socketio_proto::{
    AckId, Client, ClientConfig, ClientEvent, ConnectError, NamespaceName, Payload,
    SocketioVersion, Value,
};
use sockhop_adapter::{Directive, DisconnectScope, ExpectAck, SocketId, SocketKey};
use sockhop_engine::{Context, Handler, Opened, SessionHandler};
use sockhop_outbox::Outbox;

use crate::ack::{Ack, AckSink, Ask};
use crate::error::{AckError, DisconnectReason};
use crate::handler::{CatchUnwind, Event, HandlerError, MiddlewareFuture, dispatch, guard, report};
use crate::namespace::Namespace;
use crate::peer::Peer;
use crate::server::Server;
use crate::socket::{Socket, SocketParts};

/// The way into a session.
pub(crate) type SessionOutbox = Outbox<Outgoing<Control>>;

/// What may wait in a session's outbox besides packets. Only this crate makes and reads it.
#[derive(Debug)]
pub struct Control(pub(crate) Item);

#[derive(Debug)]
pub(crate) enum Item {
    /// Something the rooms ask for.
    Directive(Directive),
    /// Send an event to one socket and wait for its answer.
    Ask(Box<Ask>),
    /// The middlewares of a namespace have decided about a socket.
    Admitted(Box<Admission>),
    /// End the session without a word to its namespaces.
    CloseSession,
}

/// A decision about a socket that wants to join.
#[derive(Debug)]
pub(crate) struct Admission {
    socket: Socket,
    verdict: Result<(), ConnectError>,
}

impl From<Directive> for Control {
    fn from(directive: Directive) -> Self {
        Self(Item::Directive(directive))
    }
}

/// Makes a [`Connection`] for every session of a mount.
#[derive(Debug)]
pub struct Connections {
    server: Server,
    config: Arc<ClientConfig>,
}

impl Connections {
    pub(crate) fn new(server: Server, config: ClientConfig) -> Self {
        Self {
            server,
            config: Arc::new(config),
        }
    }
}

impl Handler for Connections {
    type Session = Connection;

    fn open(&self, opened: Opened<Control>) -> Connection {
        self.server.receive();
        let version = SocketioVersion::from(opened.version);
        let peer = Peer::new(opened.handshake, opened.version, self.config.parser);
        Connection {
            server: self.server.clone(),
            client: Client::new(opened.now, Arc::clone(&self.config), version),
            session_id: opened.id,
            peer: Arc::new(peer),
            outbox: opened.outbox,
            sockets: SmallVec::new(),
        }
    }
}

/// One session: its namespaces and sockets.
pub struct Connection {
    server: Server,
    client: Client<AckSink>,
    session_id: SessionId,
    peer: Arc<Peer>,
    outbox: SessionOutbox,
    /// Sockets that are in, or whose middlewares have not decided.
    sockets: SmallVec<[Socket; 1]>,
}

impl SessionHandler for Connection {
    type Control = Control;

    fn start(&mut self, cx: &mut Context<'_>) {
        if self.server.is_closing() {
            // It was being opened while the server closed all others.
            cx.close(CloseReason::ServerShutdown);
            return;
        }
        self.peer.set_transport(cx.transport());
        self.handle_events(cx);
    }

    fn message(&mut self, cx: &mut Context<'_>, message: Message) {
        let handled = self.client.handle_message(cx.now(), message);
        // What came before the violation is served.
        self.handle_events(cx);
        if let Err(violation) = handled {
            tracing::debug!(session = ?self.session_id, %violation, "closing for a violation");
            self.server.metrics().violation();
            cx.close(CloseReason::InvalidMessage);
        }
    }

    fn control(&mut self, cx: &mut Context<'_>, control: Control) {
        match control.0 {
            Item::Directive(directive) => self.obey(cx, directive),
            Item::Ask(ask) => {
                let Ask {
                    socket,
                    packet,
                    id,
                    deadline,
                    reply,
                } = *ask;
                self.send_with_ack(cx, socket, packet, (id, deadline), AckSink::Single(reply));
            }
            Item::Admitted(admission) => {
                let Admission { socket, verdict } = *admission;
                self.admit(cx, &socket, verdict);
            }
            Item::CloseSession => cx.close(CloseReason::ForcedClose),
        }
    }

    fn upgraded(&mut self, cx: &mut Context<'_>) {
        self.peer.set_transport(cx.transport());
        for socket in &self.sockets {
            for handler in socket.upgrade_handlers() {
                guard(socket, || handler(socket));
            }
        }
    }

    fn timeout(&mut self, cx: &mut Context<'_>) {
        self.client.handle_timeout(cx.now());
        self.handle_events(cx);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.client.poll_timeout()
    }

    fn close(&mut self, reason: &CloseReason) {
        for socket in std::mem::take(&mut self.sockets) {
            self.leave(&socket, DisconnectReason::from(reason));
        }
        self.server.metrics().ignored(self.client.stats());
        // Dropping what waits for acknowledgements reports them as missed.
        drop(self.client.close());
    }
}

impl Connection {
    fn handle_events(&mut self, cx: &mut Context<'_>) {
        while let Some(event) = self.client.poll_event() {
            match event {
                ClientEvent::Connect {
                    namespace,
                    query,
                    auth,
                } => {
                    self.connect(cx, &namespace, auth_value(query, &auth));
                }
                ClientEvent::Event {
                    namespace,
                    name,
                    payload,
                    ack,
                } => {
                    if cx.is_over_rate() {
                        self.server.metrics().dropped_over_rate();
                    } else {
                        self.event(&namespace, name, payload, ack);
                    }
                }
                ClientEvent::Ack { payload, sink, .. } => sink.answer(payload),
                ClientEvent::AckTimeout { sink } => sink.fail(AckError::Timeout),
                ClientEvent::AckLost { sink } => sink.fail(AckError::Disconnected),
                ClientEvent::Disconnect { namespace } => {
                    if let Some(socket) = self.take_socket(&namespace) {
                        self.leave(&socket, DisconnectReason::ClientNamespaceDisconnect);
                    }
                }
                ClientEvent::ConnectTimeout => cx.close(CloseReason::ConnectTimeout),
                ClientEvent::AttachmentTimeout => {
                    self.server.metrics().violation();
                    cx.close(CloseReason::InvalidMessage);
                }
            }
        }
    }

    fn socket(&self, ns: &NamespaceName) -> Option<&Socket> {
        self.sockets
            .iter()
            .find(|socket| socket.namespace().name() == ns)
    }

    fn take_socket(&mut self, ns: &NamespaceName) -> Option<Socket> {
        let index = self
            .sockets
            .iter()
            .position(|socket| socket.namespace().name() == ns)?;
        Some(self.sockets.swap_remove(index))
    }

    fn connect(&mut self, cx: &mut Context<'_>, ns: &NamespaceName, auth: Value) {
        if self.is_busy() {
            // Else a client could pile them up by leaving and coming back.
            self.refuse(cx, ns, &ConnectError::new("too many unfinished handlers"));
            return;
        }
        let Some(namespace) = self.server.enter_namespace(ns, &auth, &self.peer.handshake) else {
            self.refuse(cx, ns, &ConnectError::invalid_namespace());
            return;
        };
        let Ok(id) = self.socket_id(ns) else {
            self.server.leave_namespace(&namespace);
            self.refuse(cx, ns, &ConnectError::new("server error"));
            return;
        };
        let socket = Socket::new(SocketParts {
            id,
            key: SocketKey::next(),
            namespace: namespace.clone(),
            outbox: self.outbox.clone(),
            peer: Arc::clone(&self.peer),
            auth,
        });
        self.sockets.push(socket.clone());
        let joining = namespace.joining();
        if joining.is_none() && namespace.handlers().middlewares.is_empty() {
            self.admit(cx, &socket, Ok(()));
        } else {
            self.ask_middlewares(cx, socket, &namespace, joining);
        }
    }

    /// Clients of protocol 4 derive the id from the session's. Others get a public one, because
    /// the session's id is a secret.
    fn socket_id(&self, ns: &NamespaceName) -> Result<SocketId, getrandom::Error> {
        match (self.peer.version, ns.as_str()) {
            (ProtocolVersion::V3, "/") => Ok(self.session_id.to_string().into()),
            (ProtocolVersion::V3, _) => Ok(format!("{ns}#{}", self.session_id).into()),
            (ProtocolVersion::V4, _) => {
                let mut random = [0; 12];
                getrandom::fill(&mut random)?;
                Ok(SessionId::new(self.session_id.node_tag(), random)
                    .to_string()
                    .into())
            }
        }
    }

    /// Runs the chain at once as far as it goes without waiting; the rest is a task that sends
    /// the verdict back.
    fn ask_middlewares(
        &mut self,
        cx: &mut Context<'_>,
        socket: Socket,
        namespace: &Namespace,
        joining: Option<impl Future<Output = ()> + Send + 'static>,
    ) {
        let asked = socket.clone();
        let handlers = namespace.handlers();
        let chain: MiddlewareFuture = Box::pin(async move {
            if let Some(joining) = joining {
                joining.await;
            }
            for middleware in &handlers.middlewares {
                middleware(asked.clone()).await?;
            }
            Ok(())
        });
        let mut chain = Box::pin(CatchUnwind { inner: chain });
        let failed = |socket: &Socket, message: String| {
            report(socket, &HandlerError::Panicked(message));
            ConnectError::new("server error")
        };
        match chain
            .as_mut()
            .poll(&mut task::Context::from_waker(Waker::noop()))
        {
            Poll::Ready(verdict) => {
                let verdict = verdict.unwrap_or_else(|message| Err(failed(&socket, message)));
                self.admit(cx, &socket, verdict);
            }
            Poll::Pending => {
                let outbox = self.outbox.clone();
                let unfinished = self.peer.begin();
                self.server.tasks().spawn("middleware", async move {
                    let verdict = chain
                        .await
                        .unwrap_or_else(|message| Err(failed(&socket, message)));
                    let admission = Box::new(Admission { socket, verdict });
                    let verdict = Outgoing::Control(Control(Item::Admitted(admission)));
                    // Refused only when the session has ended meanwhile, or is about to.
                    let _ = outbox.push_control(verdict);
                    drop(unfinished);
                });
            }
        }
    }

    /// Whether as many handlers and middlewares of this session wait as may.
    fn is_busy(&self) -> bool {
        // With a limit of 0 nobody could come in.
        self.peer.unfinished() >= self.server.config().max_pending_handlers.max(1)
    }

    fn admit(&mut self, cx: &mut Context<'_>, socket: &Socket, verdict: Result<(), ConnectError>) {
        let ns = socket.namespace().name();
        if !self.sockets.contains(socket) {
            // It left while the middlewares were asked.
            return;
        }
        let reply = match verdict {
            Ok(()) => self.client.accept(ns, socket.id().as_str()),
            Err(error) => {
                self.refuse(cx, ns, &error);
                None
            }
        };
        let Some(reply) = reply else {
            self.take_socket(ns);
            socket.exit();
            self.server.leave_namespace(socket.namespace());
            return;
        };
        // First: what is emitted as soon as the socket is known must find it let in.
        cx.send(reply);
        socket.enter();
        self.server.metrics().connected();
        for handler in &socket.namespace().handlers().connect {
            dispatch(socket, || handler(socket.clone()));
        }
    }

    fn refuse(&mut self, cx: &mut Context<'_>, ns: &NamespaceName, error: &ConnectError) {
        self.server.metrics().refused();
        if let Some(packet) = self.client.refuse(ns, error) {
            cx.send(packet);
        }
    }

    fn event(&self, ns: &NamespaceName, name: Text, payload: Payload, ack: Option<AckId>) {
        let Some(socket) = self.socket(ns) else {
            return;
        };
        self.server.metrics().event();
        let event = Event {
            name,
            payload,
            wants_ack: ack.is_some(),
        };
        if !allowed(socket, &event) {
            return;
        }
        let handlers = socket.namespace().handlers();
        for observer in &handlers.any {
            guard(socket, || observer(socket, &event));
        }
        let handler = handlers.events.get(event.name());
        let Some(handler) = handler.or(handlers.unhandled.as_ref()) else {
            self.server.metrics().dropped_without_handler();
            return;
        };
        if self.is_busy() {
            let event = event.name().to_owned();
            report(socket, &HandlerError::Backlog { event });
            return;
        }
        let ack = Ack::new(socket, ack);
        dispatch(socket, || handler(socket.clone(), event, ack));
    }

    fn obey(&mut self, cx: &mut Context<'_>, directive: Directive) {
        match directive {
            Directive::Disconnect { socket, scope } => {
                let Some(ns) = self.name_of(socket) else {
                    return;
                };
                match scope {
                    DisconnectScope::Namespace => self.disconnect(cx, &ns),
                    DisconnectScope::Session => {
                        for socket in self.sockets.clone() {
                            self.disconnect(cx, socket.namespace().name());
                        }
                        cx.close(CloseReason::ForcedClose);
                    }
                }
            }
            Directive::ExpectAck(asked) => {
                let ExpectAck {
                    socket,
                    packet,
                    id,
                    deadline,
                    slot,
                } = *asked;
                self.send_with_ack(cx, socket, packet, (id, deadline), AckSink::Broadcast(slot));
            }
        }
    }

    fn send_with_ack(
        &mut self,
        cx: &mut Context<'_>,
        socket: SocketKey,
        packet: Encoded,
        (id, deadline): (AckId, Option<Instant>),
        sink: AckSink,
    ) {
        // A socket that has gone since leaves nothing to expect.
        let (sink, error) = match self.name_of(socket) {
            None => (sink, AckError::Disconnected),
            Some(ns) => match self.client.expect_ack(&ns, id, deadline, sink) {
                Ok(()) => {
                    cx.forward(packet);
                    return;
                }
                Err(sink) => {
                    self.server.metrics().dropped_with_ack();
                    (sink, AckError::TooMany)
                }
            },
        };
        self.outbox.refund(packet.budget_bytes());
        sink.fail(error);
    }

    fn name_of(&self, key: SocketKey) -> Option<NamespaceName> {
        let socket = self.sockets.iter().find(|socket| socket.key() == key)?;
        Some(socket.namespace().name().clone())
    }

    fn disconnect(&mut self, cx: &mut Context<'_>, ns: &NamespaceName) {
        match self.client.disconnect(ns) {
            Some(packet) => cx.send(packet),
            // Its middlewares are being asked. The client waits for an answer all the same.
            None => self.refuse(cx, ns, &ConnectError::new("disconnected by the server")),
        }
        if let Some(socket) = self.take_socket(ns) {
            self.leave(&socket, DisconnectReason::ServerNamespaceDisconnect);
        }
        self.handle_events(cx);
    }

    /// Takes the socket out of everything, and tells its namespace's handlers.
    fn leave(&self, socket: &Socket, reason: DisconnectReason) {
        let namespace = socket.namespace();
        if socket.is_connected() {
            let handlers = namespace.handlers();
            for handler in &handlers.disconnecting {
                guard(socket, || handler(socket, reason));
            }
            socket.exit();
            self.server.metrics().disconnected(reason);
            for handler in &handlers.disconnect {
                dispatch(socket, || handler(socket.clone(), reason));
            }
        } else {
            socket.exit();
        }
        self.server.leave_namespace(namespace);
    }
}

/// Asks the packet middlewares in their order. One that panics has not agreed.
fn allowed(socket: &Socket, event: &Event) -> bool {
    socket
        .packet_middlewares()
        .iter()
        .all(|check| match guard(socket, || check(socket, event)) {
            Some(Ok(())) => true,
            Some(Err(message)) => {
                let event = event.name().to_owned();
                report(socket, &HandlerError::Refused { event, message });
                false
            }
            None => false,
        })
}

/// What a client sent to be let in, as one object.
fn auth_value(query: Option<Text>, auth: &Payload) -> Value {
    match query {
        Some(query) => Value::Object(
            form_urlencoded::parse(query.as_bytes())
                .map(|(name, value)| (name.into_owned(), Value::String(value.into_owned())))
                .collect(),
        ),
        None => match auth.decode() {
            Ok(Value::Object(members)) => Value::Object(members),
            Ok(_) | Err(_) => Value::Object(Vec::new()),
        },
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("session", &self.session_id)
            .field("sockets", &self.sockets)
            .finish_non_exhaustive()
    }
}

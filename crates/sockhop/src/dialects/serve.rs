//! What servers of other makes ask of this node.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use engineio_proto::Text;
use socketio_proto::{Args, Payload, encode_event};
use sockhop_adapter::dialect::node::{Asker, NodeDialect, NodeRequest};
use sockhop_adapter::dialect::python::{Callback, PythonDialect, PythonRequest};
use sockhop_adapter::dialect::{DialectStats, ForeignEvent, Ignored};
use sockhop_adapter::{
    AckCollector, Adapter, BroadcastOptions, ChannelMessage, DisconnectScope, Reply, Room,
    ServerEvent, SocketId,
};

use super::Dialects;
use crate::connection::Control;
use crate::namespace::Namespace;
use crate::server::Server;
use crate::servers;

/// How long the acks of clients are waited for when the server that wants them does not say.
const DEFAULT_ACK_TIMEOUT: Duration = Duration::from_secs(60);

/// How long at most, whatever it says.
const MAX_ACK_TIMEOUT: Duration = Duration::from_secs(3600);

/// Acknowledged emits of other servers that this node answers at a time. Further ones are delivered
/// as if no ack were wanted, and counted as overload.
const MAX_WAITING: usize = 10_000;

/// Brings what comes over the channels to the namespaces until the server stops; then leaves.
pub(crate) async fn drive(server: Server, dialects: Arc<Dialects>) {
    let waiting = Arc::new(AtomicUsize::new(0));
    loop {
        let messages = tokio::select! {
            messages = poll_fn(|cx| dialects.channels.poll_incoming(cx)) => messages,
            () = server.tasks().stopped() => return dialects.leave(),
        };
        let host = Host {
            server: &server,
            dialects: &dialects,
            waiting: &waiting,
        };
        for message in &messages {
            host.serve(message);
        }
        // Channels that are never empty are no reason for other tasks to wait.
        tokio::task::yield_now().await;
    }
}

struct Host<'a> {
    server: &'a Server,
    dialects: &'a Arc<Dialects>,
    waiting: &'a Arc<AtomicUsize>,
}

/// Namespace, name and arguments.
type ServerEventParts = (Text, String, Args);

/// One of [`MAX_WAITING`], until it is dropped.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Host<'_> {
    fn serve(&self, message: &ChannelMessage) {
        if let Some(python) = &self.dialects.python
            && python.is_mine(&message.channel)
        {
            if let Some(request) = python.receive(message) {
                match self.server.existing(request.namespace()) {
                    Some(namespace) => self.serve_python(python, &namespace, request),
                    None => python.stats().ignore(Ignored::UnknownNamespace),
                }
            }
        } else if let Some(node) = &self.dialects.node
            && let Some(request) = node.receive(message)
        {
            match self.server.existing(request.namespace()) {
                Some(namespace) => self.serve_node(node, &namespace, request),
                None => node.stats().ignore(Ignored::UnknownNamespace),
            }
        }
    }

    fn serve_node(&self, node: &NodeDialect, namespace: &Namespace, request: NodeRequest) {
        let adapter = namespace.adapter();
        match request {
            NodeRequest::Broadcast(event) => {
                event.deliver(adapter);
            }
            NodeRequest::BroadcastWithAck {
                event,
                timeout,
                asker,
            } => self.emit_for_node(node, adapter, &event, timeout, asker),
            NodeRequest::Join {
                options,
                rooms,
                asker,
                ..
            } => answer_if_done(node, asker, adapter.sockets_join(&options, &rooms)),
            NodeRequest::Leave {
                options,
                rooms,
                asker,
                ..
            } => answer_if_done(node, asker, adapter.sockets_leave(&options, &rooms)),
            NodeRequest::Disconnect {
                options,
                scope,
                asker,
                ..
            } => answer_if_done(node, asker, adapter.disconnect_sockets(&options, scope)),
            NodeRequest::SocketIds { options, asker, .. } => {
                let sockets = adapter.fetch_sockets(&options);
                let ids: Vec<SocketId> = sockets.into_iter().map(|socket| socket.id).collect();
                node.answer_socket_ids(&asker, &ids);
            }
            NodeRequest::Sockets { options, asker, .. } => {
                node.answer_sockets(&asker, &adapter.fetch_sockets(&options));
            }
            NodeRequest::AllRooms { asker, .. } => {
                node.answer_rooms(&asker, &adapter.rooms().all_rooms());
            }
            NodeRequest::ServerSideEmit {
                namespace,
                event,
                args,
                asker,
            } => self.server_side_emit((namespace, event, args), asker),
        }
    }

    fn serve_python(&self, python: &PythonDialect, namespace: &Namespace, request: PythonRequest) {
        let adapter = namespace.adapter();
        match request {
            PythonRequest::Emit {
                event,
                callback: None,
            } => {
                event.deliver(adapter);
            }
            PythonRequest::Emit {
                event,
                callback: Some(callback),
            } => self.emit_for_python(python, adapter, &event, callback),
            PythonRequest::Disconnect { id, .. } => {
                adapter.disconnect_sockets(&members(Room::from(&id)), DisconnectScope::Namespace);
            }
            PythonRequest::EnterRoom { id, room, .. } => {
                // By key: others may sit in the room of this name, and are not meant.
                if let Some(key) = adapter.rooms().lookup(id.as_str()) {
                    // A limit refuses this join only, and is counted where it is checked.
                    let _ = adapter.rooms().join(key, &room);
                }
            }
            PythonRequest::LeaveRoom { id, room, .. } => {
                if let Some(key) = adapter.rooms().lookup(id.as_str()) {
                    adapter.rooms().leave(key, room.as_str());
                }
            }
            PythonRequest::CloseRoom { room, .. } => {
                adapter.sockets_leave(&members(room.clone()), &[room]);
            }
        }
    }

    fn emit_for_node(
        &self,
        node: &NodeDialect,
        adapter: &Adapter<Control>,
        event: &ForeignEvent,
        timeout: Option<Duration>,
        asker: Asker,
    ) {
        let timeout = timeout.unwrap_or(DEFAULT_ACK_TIMEOUT);
        let Some((place, acks)) = self.emit_with_ack(node.stats(), adapter, event, timeout) else {
            return;
        };
        node.answer_client_count(&asker, acks.expected());
        let dialects = Arc::clone(self.dialects);
        self.server.tasks().spawn("dialect acks", async move {
            let _place = place;
            while let Some((_, ack)) = acks.next().await {
                if let Some(node) = &dialects.node {
                    let first = ack.args().ok().and_then(|args| args.0.into_iter().next());
                    node.answer_ack(&asker, first);
                }
            }
        });
    }

    fn emit_for_python(
        &self,
        python: &PythonDialect,
        adapter: &Adapter<Control>,
        event: &ForeignEvent,
        callback: Callback,
    ) {
        let timeout = DEFAULT_ACK_TIMEOUT;
        let Some((place, acks)) = self.emit_with_ack(python.stats(), adapter, event, timeout)
        else {
            return;
        };
        if acks.expected() == 0 {
            return;
        }
        let dialects = Arc::clone(self.dialects);
        self.server.tasks().spawn("dialect acks", async move {
            let _place = place;
            // The callback is called once, whoever answers.
            if let (Some((_, ack)), Some(python)) = (acks.next().await, &dialects.python) {
                python.answer(&callback, &ack);
            }
        });
    }

    /// Sends an event to the sockets of this node and collects their acks. Beyond the limit it is
    /// sent without.
    fn emit_with_ack(
        &self,
        stats: &DialectStats,
        adapter: &Adapter<Control>,
        event: &ForeignEvent,
        timeout: Duration,
    ) -> Option<(Place, Arc<AckCollector>)> {
        let place = Place(Arc::clone(self.waiting));
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING {
            stats.ignore(Ignored::Overload);
            event.deliver(adapter);
            return None;
        }
        let id = adapter.next_ack_id();
        let deadline = now().checked_add(timeout.min(MAX_ACK_TIMEOUT));
        let namespace = adapter.namespace();
        let encode =
            &mut |parser| encode_event(parser, namespace, Some(id), &event.name, &event.payload);
        let acks = adapter.broadcast_with_ack(&event.options, id, deadline, encode);
        Some((place, acks.ok()?))
    }

    /// Without an answer the other server would take this node for dead: it says null then.
    fn server_side_emit(&self, event: ServerEventParts, asker: Option<Asker>) {
        let reply = asker.map(|asker| {
            let dialects = Arc::clone(self.dialects);
            Reply::new(move |answer| {
                let args = answer.and_then(|answer| answer.args().ok());
                let first = args.and_then(|args| args.0.into_iter().next());
                if let Some(node) = &dialects.node {
                    node.answer_emitted(&asker, first.unwrap_or_default());
                }
            })
        });
        let (namespace, event, args) = event;
        let event = ServerEvent {
            namespace,
            event: event.into(),
            payload: Payload::from_args(args),
            reply,
        };
        servers::dispatch(self.server, event);
    }
}

fn answer_if_done(node: &NodeDialect, asker: Option<Asker>, sockets: usize) {
    if let Some(asker) = asker.filter(|_| sockets > 0) {
        node.answer_done(&asker);
    }
}

fn members(room: Room) -> BroadcastOptions {
    BroadcastOptions {
        rooms: [room].into_iter().collect(),
        local: true,
        ..BroadcastOptions::default()
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

//! Servers of other makes in the cluster: what this node's users ask of them.

mod metrics;
mod serve;

use std::collections::HashMap;
use std::fmt;
use std::future::{Future, pending, ready};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use engineio_proto::{Encoded, SessionId};
use prometheus::Registry;
use socketio_proto::{Args, EncodeError, Parser, Payload};
use sockhop_adapter::dialect::answers::{Answer, Question};
use sockhop_adapter::dialect::node::{NodeDialect, NodeDialectConfig};
use sockhop_adapter::dialect::python::{PythonDialect, PythonDialectConfig};
use sockhop_adapter::dialect::{DialectStats, may_be_id};
use sockhop_adapter::{
    BroadcastOptions, BusError, Channels, Cluster, DisconnectScope, Foreign, ForeignAcks,
    ForeignAnswer, NodeId, RemoteSocketInfo, Room, SocketId, Target, Wait, WritePacket,
};
use tokio::time::Instant;

use metrics::DialectCollector;
pub(crate) use serve::drive;

/// Which servers of other makes are members of the cluster, too.
///
/// *Shape:* they meet at [`ServerBuilder::channels`](crate::ServerBuilder::channels); without it
/// nothing here has an effect.
#[derive(Clone, Debug, Default)]
pub struct DialectConfig {
    /// Servers of Node.js with `@socket.io/redis-adapter`. Default: none.
    pub node: Option<NodeDialectConfig>,
    /// Servers of Python with a `RedisManager`. Default: none.
    pub python: Option<PythonDialectConfig>,
}

impl DialectConfig {
    /// The names of the dialects that are on.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let node = self.node.as_ref().map(|_| NODE.to_owned());
        let python = self.python.as_ref().map(|_| PYTHON.to_owned());
        node.into_iter().chain(python).collect()
    }
}

/// The name of the dialect of Node.js, here and in metrics.
const NODE: &str = "node";
/// The name of the dialect of Python, here and in metrics.
const PYTHON: &str = "python";

/// The dialects of one server.
pub(crate) struct Dialects {
    channels: Arc<dyn Channels>,
    node: Option<NodeDialect>,
    python: Option<PythonDialect>,
    cluster: Weak<Cluster>,
    /// The namespaces that are members, each as often as it was entered; `None` at the end.
    members: Mutex<Option<HashMap<Box<str>, usize>>>,
}

impl Dialects {
    /// Lets the cluster tell the dialects what its users ask for.
    pub(crate) fn join(
        config: DialectConfig,
        channels: Arc<dyn Channels>,
        cluster: &Arc<Cluster>,
        registry: &Registry,
    ) -> Result<Arc<Self>, prometheus::Error> {
        let node: NodeId = cluster.node();
        let dialects = Arc::new(Self {
            node: config
                .node
                .map(|config| NodeDialect::new(config, node, Arc::clone(&channels))),
            python: config
                .python
                .map(|config| PythonDialect::new(config, node, Arc::clone(&channels))),
            channels,
            cluster: Arc::downgrade(cluster),
            members: Mutex::new(Some(HashMap::new())),
        });
        registry.register(Box::new(DialectCollector::new(dialects.stats())?))?;
        cluster.set_foreign(Arc::clone(&dialects) as Arc<dyn Foreign>);
        Ok(dialects)
    }

    /// What the dialects have counted, by their names.
    fn stats(&self) -> Vec<(&'static str, Arc<DialectStats>)> {
        let node = self.node.as_ref().map(|it| (NODE, Arc::clone(it.stats())));
        let python = self
            .python
            .as_ref()
            .map(|it| (PYTHON, Arc::clone(it.stats())));
        node.into_iter().chain(python).collect()
    }

    /// Leaves all namespaces: what nobody answers any more must not be counted as a server.
    pub(crate) fn leave(&self) {
        let members = self.members().take();
        if let Some(node) = &self.node {
            for namespace in members.iter().flat_map(HashMap::keys) {
                node.exit(namespace);
            }
        }
    }

    fn members(&self) -> MutexGuard<'_, Option<HashMap<Box<str>, usize>>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether only sockets of sockhop nodes can be meant: those named by their ids.
    fn is_for_us(&self, options: &BroadcastOptions) -> bool {
        let Some(cluster) = self.cluster.upgrade() else {
            return false;
        };
        let is_ours = |room: &Room| {
            let id = room.as_str();
            let id = id.split_once('#').map_or(id, |(_, id)| id);
            SessionId::parse(id).is_some_and(|id| {
                let tag = id.node_tag().get();
                tag == cluster.node().tag() || cluster.owner(tag).is_some()
            })
        };
        !options.rooms.is_empty() && options.rooms.iter().all(is_ours)
    }

    /// The Node.js servers, if they may have sockets that are meant.
    fn node_for(&self, target: &Target<'_>) -> Option<&NodeDialect> {
        self.node
            .as_ref()
            .filter(|_| !self.is_for_us(target.options))
    }

    /// The Python servers, if they may have sockets that are meant.
    fn python_for(&self, target: &Target<'_>) -> Option<&PythonDialect> {
        self.python
            .as_ref()
            .filter(|_| !self.is_for_us(target.options))
    }
}

/// Nobody is there to answer.
fn nothing<T: Default + Send + 'static>() -> Wait<T> {
    Box::pin(ready(T::default()))
}

/// A packet that cannot be written for one parser was written for another: the others miss it.
fn write(packet: WritePacket<'_>, parser: Parser, stats: &DialectStats) -> Option<Encoded> {
    let written: Result<Encoded, EncodeError> = packet(parser);
    written.inspect_err(|_| stats.count_unsupported()).ok()
}

/// The answers to a question, as they come and until the timeout.
async fn collect(
    question: Question,
    servers: impl Future<Output = Option<usize>>,
    timeout: Duration,
    mut take: impl FnMut(Answer),
) -> (usize, Question) {
    let all = async {
        // Not known: then the timeout ends the wait, and somebody is missing.
        if let Some(servers) = servers.await {
            question.expect(servers);
        }
        while let Some(answer) = question.next().await {
            take(answer);
        }
    };
    let _ = tokio::time::timeout(timeout, all).await;
    (question.missing().servers, question)
}

impl Foreign for Dialects {
    fn enter(&self, namespace: &str) {
        // Under the lock: a namespace may begin again while it ends.
        if let (Some(members), Some(node)) = (&mut *self.members(), &self.node) {
            let times = members.entry(namespace.into()).or_default();
            *times += 1;
            if *times == 1 {
                node.enter(namespace);
            }
        }
    }

    fn exit(&self, namespace: &str) {
        if let (Some(members), Some(node)) = (&mut *self.members(), &self.node)
            && let Some(times) = members.get_mut(namespace)
        {
            *times -= 1;
            if *times == 0 {
                members.remove(namespace);
                node.exit(namespace);
            }
        }
    }

    fn broadcast(&self, target: &Target<'_>, packet: WritePacket<'_>) -> Result<(), BusError> {
        let mut published = Ok(());
        let Target {
            namespace, options, ..
        } = *target;
        if let Some(node) = self.node_for(target)
            && let Some(packet) = write(packet, Parser::Msgpack, node.stats())
        {
            published = node.broadcast(namespace, options, &packet);
        }
        if let Some(python) = self.python_for(target)
            && let Some(packet) = write(packet, Parser::Json, python.stats())
        {
            let told = python.broadcast(namespace, options, &packet);
            published = published.and(told);
        }
        published
    }

    fn broadcast_with_ack(
        &self,
        target: &Target<'_>,
        timeout: Duration,
        packet: WritePacket<'_>,
    ) -> Wait<ForeignAnswer<ForeignAcks>> {
        // Servers of Node.js do not tell whose an ack is, but only one socket has this id.
        let only = match target.options.rooms.as_slice() {
            [room] if may_be_id(room.as_str()) => Some(SocketId::from(room.as_str())),
            _ => None,
        };
        let asked_node = self.ask_node(target, timeout, packet);
        let asked_python = self.ask_python(target, packet);
        if asked_node.is_none() && asked_python.is_none() {
            return nothing();
        }
        Box::pin(async move {
            let deadline = Instant::now() + timeout;
            let node = async {
                match asked_node {
                    Some((question, servers)) => node_acks(only, question, servers, timeout).await,
                    None => ForeignAnswer::default(),
                }
            };
            let wants_python = asked_python.is_some();
            let python = python_ack(asked_python);
            tokio::pin!(node, python);
            // Python servers say nothing of clients that they do not have, so an answer from
            // anywhere else ends the wait for them.
            tokio::select! {
                mut all = &mut node => {
                    if wants_python && all.found.answers.is_empty() {
                        let ack = tokio::time::timeout_at(deadline, python).await;
                        all.found.expected += usize::from(ack.is_ok());
                        all.found.answers.extend(ack.ok());
                    }
                    all
                }
                ack = &mut python => ForeignAnswer {
                    found: ForeignAcks { answers: vec![ack], expected: 1 },
                    missing: 0,
                },
            }
        })
    }

    fn sockets_join(&self, target: &Target<'_>, rooms: &[Room]) {
        let Target {
            namespace, options, ..
        } = *target;
        // Failures are counted, and nobody waits for this.
        if let Some(node) = self.node_for(target) {
            let _ = node.sockets_join(namespace, options, rooms);
        }
        if let Some(python) = self.python_for(target) {
            let _ = python.sockets_join(namespace, options, rooms);
        }
    }

    fn sockets_leave(&self, target: &Target<'_>, rooms: &[Room]) {
        let Target {
            namespace, options, ..
        } = *target;
        if let Some(node) = self.node_for(target) {
            let _ = node.sockets_leave(namespace, options, rooms);
        }
        if let Some(python) = self.python_for(target) {
            let _ = python.sockets_leave(namespace, options, rooms);
        }
    }

    fn disconnect_sockets(&self, target: &Target<'_>, scope: DisconnectScope) {
        let Target {
            namespace, options, ..
        } = *target;
        if let Some(node) = self.node_for(target) {
            let _ = node.disconnect_sockets(namespace, options, scope);
        }
        if let Some(python) = self.python_for(target) {
            let _ = python.disconnect_sockets(namespace, options);
        }
    }

    fn fetch_sockets(
        &self,
        target: &Target<'_>,
        timeout: Duration,
    ) -> Wait<ForeignAnswer<Vec<RemoteSocketInfo>>> {
        let Some(node) = self.node_for(target) else {
            return nothing();
        };
        let servers = node.count_others(target.namespace);
        match node.fetch_sockets(target.namespace, target.options) {
            Ok(None) => nothing(),
            Err(_) => unreachable_servers(servers),
            Ok(Some(question)) => Box::pin(async move {
                let mut found = Vec::new();
                let (missing, _) = collect(question, servers, timeout, |answer| {
                    if let Answer::Sockets(sockets) = answer {
                        found.extend(sockets);
                    }
                })
                .await;
                ForeignAnswer { found, missing }
            }),
        }
    }

    fn all_rooms(&self, namespace: &str, timeout: Duration) -> Wait<ForeignAnswer<Vec<Room>>> {
        let Some(node) = &self.node else {
            return nothing();
        };
        let servers = node.count_others(namespace);
        match node.all_rooms(namespace) {
            Ok(None) => nothing(),
            Err(_) => unreachable_servers(servers),
            Ok(Some(question)) => Box::pin(async move {
                let mut found = Vec::new();
                let (missing, _) = collect(question, servers, timeout, |answer| {
                    if let Answer::Rooms(rooms) = answer {
                        found.extend(rooms);
                    }
                })
                .await;
                ForeignAnswer { found, missing }
            }),
        }
    }

    fn server_count(&self, timeout: Duration) -> Wait<usize> {
        let Some(node) = &self.node else {
            return nothing();
        };
        let servers = node.count_others("/");
        Box::pin(async move {
            let counted = tokio::time::timeout(timeout, servers).await;
            counted.ok().flatten().unwrap_or_default()
        })
    }

    fn server_side_emit(
        &self,
        namespace: &str,
        event: &str,
        payload: &Payload,
        timeout: Option<Duration>,
    ) -> Wait<ForeignAnswer<Vec<Payload>>> {
        let Some(node) = &self.node else {
            return nothing();
        };
        let args = payload.args().unwrap_or_default();
        let Some(timeout) = timeout else {
            let _ = node.server_side_emit(namespace, event, &args);
            return nothing();
        };
        let servers = node.count_others(namespace);
        match node.server_side_emit_with_ack(namespace, event, &args) {
            Ok(None) => nothing(),
            Err(_) => unreachable_servers(servers),
            Ok(Some(question)) => Box::pin(async move {
                let mut found = Vec::new();
                let (missing, _) = collect(question, servers, timeout, |answer| {
                    if let Answer::Emitted(value) = answer {
                        found.push(Payload::from_args(Args(vec![value])));
                    }
                })
                .await;
                ForeignAnswer { found, missing }
            }),
        }
    }
}

type Servers = Wait<Option<usize>>;

impl Dialects {
    fn ask_node(
        &self,
        target: &Target<'_>,
        timeout: Duration,
        packet: WritePacket<'_>,
    ) -> Option<(Option<Question>, Servers)> {
        let node = self.node_for(target)?;
        let packet = write(packet, Parser::Msgpack, node.stats())?;
        let servers = node.count_others(target.namespace);
        let asked = node.broadcast_with_ack(target.namespace, target.options, &packet, timeout);
        match asked {
            Ok(None) => None,
            Ok(question) => Some((question, servers)),
            Err(_) => Some((None, servers)),
        }
    }

    /// Python servers take the ack of one client only: others get the event all the same.
    fn ask_python(
        &self,
        target: &Target<'_>,
        packet: WritePacket<'_>,
    ) -> Option<(SocketId, Question)> {
        let python = self.python_for(target)?;
        let packet = write(packet, Parser::Json, python.stats())?;
        match target.options.rooms.as_slice() {
            [room] if target.options.except.is_empty() && may_be_id(room.as_str()) => {
                let id = SocketId::from(room.as_str());
                let question = python.call(target.namespace, &id, &packet).ok()??;
                Some((id, question))
            }
            _ => {
                let _ = python.broadcast(target.namespace, target.options, &packet);
                None
            }
        }
    }
}

/// The acks of clients of Node.js servers; of the `only` one, if that is known.
async fn node_acks(
    only: Option<SocketId>,
    question: Option<Question>,
    servers: Servers,
    timeout: Duration,
) -> ForeignAnswer<ForeignAcks> {
    let Some(question) = question else {
        let missing = servers.await.unwrap_or(1);
        let found = ForeignAcks::default();
        return ForeignAnswer { found, missing };
    };
    let mut found = ForeignAcks::default();
    let (missing, question) = collect(question, servers, timeout, |answer| {
        if let Answer::Ack(args) = answer {
            found.answers.push((only.clone(), Payload::from_args(args)));
        }
    })
    .await;
    found.expected = usize::try_from(question.asked()).unwrap_or(usize::MAX);
    ForeignAnswer { found, missing }
}

/// The ack of one client, if it lives on a Python server: if not, nobody ever says so.
async fn python_ack(asked: Option<(SocketId, Question)>) -> (Option<SocketId>, Payload) {
    if let Some((id, question)) = asked
        && let Some(Answer::Ack(args)) = question.next().await
    {
        return (Some(id), Payload::from_args(args));
    }
    pending().await
}

/// They could not be asked: all of them are missing.
fn unreachable_servers<T: Default + Send + 'static>(servers: Servers) -> Wait<ForeignAnswer<T>> {
    Box::pin(async move {
        ForeignAnswer {
            found: T::default(),
            missing: servers.await.unwrap_or(1),
        }
    })
}

impl fmt::Debug for Dialects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialects")
            .field("node", &self.node)
            .field("python", &self.python)
            .finish_non_exhaustive()
    }
}

//! The server: namespaces, mounts, and closing it all.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use engineio_proto::{CloseReason, NodeTag};
use prometheus::Registry;
use serde::Serialize;
use socketio_proto::{ClientConfig, Limits, NamespaceName, Parser, Value};
use sockhop_adapter::{
    Adapter, Bus, Channels, Cluster, ClusterConfig, ClusterStatus, ForwardToken, Identity,
    LonelyBus, Member, NodeId, RoomLimits, SlowConsumers, Stats,
};
use sockhop_engine::{
    EngineConfig, EngineParts, EngineService, Handshake, Metrics as EngineMetrics, Tasks,
};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::cluster::drive;
use crate::connection::{Connections, Control};
use crate::dialects::{self, DialectConfig, Dialects};
use crate::error::EmitError;
use crate::handler::{HandlerError, panic_message};
use crate::metrics::{ClusterCollector, Metrics};
use crate::namespace::Namespace;
use crate::operator::{BroadcastOperator, IntoRooms};
use crate::servers::ServerHandler;

/// Configuration of the Socket.IO layer, and every limit with its default.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// How long a session may live without having joined a namespace. Default 45 s.
    pub connect_timeout: Duration,
    /// What one client may make the server hold.
    pub limits: Limits,
    /// Rooms that one socket may be in, its own not counted. Default 1,000.
    pub max_rooms_per_socket: usize,
    /// Bytes of a room's name. Default 512.
    pub max_room_name_bytes: usize,
    /// Handlers and middlewares of one client, over all its namespaces, that may be unfinished;
    /// further events are dropped and further namespaces refused. At least 1. Default 1,000.
    pub max_pending_handlers: usize,
    /// Namespaces that exist at once because a pattern or predicate made them. Default 10,000.
    pub max_dynamic_namespaces: usize,
    /// What happens to clients that read too slowly. Default: they are closed.
    pub slow_consumers: SlowConsumers,
    /// The same for some namespaces, each by its name, or with a `*` at the end by what its name
    /// begins with. The first that fits counts; [`Namespace::slow_consumers`] overrides it.
    pub slow_consumers_of: Vec<(String, SlowConsumers)>,
}

impl ServerConfig {
    fn slow_consumers_in(&self, namespace: &str) -> SlowConsumers {
        let fits = |pattern: &str| match pattern.strip_suffix('*') {
            Some(prefix) => namespace.starts_with(prefix),
            None => namespace == pattern,
        };
        let rules = &self.slow_consumers_of;
        let rule = rules.iter().find(|(pattern, _)| fits(pattern));
        rule.map_or(self.slow_consumers, |&(_, policy)| policy)
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(45),
            limits: Limits::default(),
            max_rooms_per_socket: 1_000,
            max_room_name_bytes: 512,
            max_pending_handlers: 1_000,
            max_dynamic_namespaces: 10_000,
            slow_consumers: SlowConsumers::default(),
            slow_consumers_of: Vec::new(),
        }
    }
}

/// A Socket.IO server. Cloning shares it.
#[derive(Clone)]
pub struct Server(Arc<Inner>);

struct Inner {
    config: ServerConfig,
    metrics: Metrics,
    engine_metrics: EngineMetrics,
    tasks: Tasks,
    cluster: Arc<Cluster>,
    member_changes: watch::Sender<()>,
    dialects: Option<Arc<Dialects>>,
    /// Whether frames are taken from the bus already, or none will ever come.
    receiving: AtomicBool,
    closing: AtomicBool,
    node_tag: NodeTag,
    request_timeout: Duration,
    namespaces: RwLock<Namespaces>,
    dynamic: RwLock<Vec<Arc<Dynamic>>>,
    mounts: Mutex<Vec<EngineService<Connections>>>,
}

#[derive(Default)]
struct Namespaces {
    by_name: HashMap<NamespaceName, Namespace>,
    /// How many of them were made on demand.
    dynamic: usize,
}

type Accepts = Box<dyn Fn(&str, &Value, &Handshake) -> bool + Send + Sync>;
type Setup = Box<dyn Fn(&Namespace) + Send + Sync>;

/// A rule for namespaces that are made on demand.
struct Dynamic {
    accepts: Accepts,
    setup: Setup,
}

/// What a [`Server`] is built from.
#[derive(Debug, Default)]
pub struct ServerBuilder {
    config: ServerConfig,
    registry: Registry,
    bus: Option<Arc<dyn Bus>>,
    cluster: ClusterConfig,
    channels: Option<Arc<dyn Channels>>,
    dialects: DialectConfig,
}

/// Why a server cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The registry holds the metrics of another server.
    #[error("cannot register metrics")]
    Metrics(#[from] prometheus::Error),
    /// The operating system has no random bytes.
    #[error("no random bytes")]
    Random(#[from] getrandom::Error),
}

impl ServerBuilder {
    /// Sets the limits and deadlines.
    #[must_use]
    pub fn config(mut self, config: ServerConfig) -> Self {
        self.config = config;
        self
    }

    /// Registers the server's metrics here. One registry takes one server.
    #[must_use]
    pub fn registry(mut self, registry: &Registry) -> Self {
        self.registry = registry.clone();
        self
    }

    /// Joins the other nodes of this bus. Default: a bus without other nodes.
    #[must_use]
    pub fn bus(mut self, bus: Arc<dyn Bus>) -> Self {
        self.bus = Some(bus);
        self
    }

    /// Sets how the node takes part in the cluster that its bus leads to.
    #[must_use]
    pub fn cluster(mut self, config: ClusterConfig) -> Self {
        self.cluster = config;
        self
    }

    /// Sets where servers of other makes are met, see [`Self::dialects`].
    #[must_use]
    pub fn channels(mut self, channels: Arc<dyn Channels>) -> Self {
        self.channels = Some(channels);
        self
    }

    /// Sets which servers of other makes are members of the cluster, too.
    #[must_use]
    pub fn dialects(mut self, config: DialectConfig) -> Self {
        self.dialects = config;
        self
    }

    /// The server, with the namespace `/` and nothing mounted.
    ///
    /// # Errors
    /// When the registry holds the metrics of another server, or no random bytes are to be had.
    pub fn build(self) -> Result<Server, BuildError> {
        let (bus, lonely) = match self.bus {
            Some(bus) => (bus, false),
            None => (lonely_bus()?, true),
        };
        let stats = Arc::new(Stats::default());
        let tag = NodeTag::new(bus.node().tag());
        let metrics = Metrics::register(&self.registry, &stats)?;
        let now = tokio::time::Instant::now().into_std();
        let mut config = self.cluster;
        let request_timeout = config.request_timeout;
        if self.channels.is_some() {
            config.dialects = self.dialects.names();
        }
        let cluster = Cluster::new(bus, config, identity()?, stats, now);
        ClusterCollector::register(&cluster, &self.registry)?;
        let dialects = self
            .channels
            .map(|channels| Dialects::join(self.dialects, channels, &cluster, &self.registry))
            .transpose()?;
        let server = Server(Arc::new(Inner {
            config: self.config,
            metrics,
            engine_metrics: EngineMetrics::register(&self.registry)?,
            tasks: Tasks::default(),
            cluster,
            member_changes: watch::Sender::default(),
            receiving: AtomicBool::new(lonely && dialects.is_none()),
            dialects,
            closing: AtomicBool::new(false),
            node_tag: tag.unwrap_or_default(),
            request_timeout,
            namespaces: RwLock::default(),
            dynamic: RwLock::default(),
            mounts: Mutex::default(),
        }));
        server.of("/");
        server.receive();
        Ok(server)
    }
}

/// What this node is, as it tells the others.
fn identity() -> Result<Identity, getrandom::Error> {
    let mut token = [0; 32];
    getrandom::fill(&mut token)?;
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    let started_ms = since_1970.unwrap_or_default().as_millis();
    Ok(Identity {
        started_ms: u64::try_from(started_ms).unwrap_or(u64::MAX),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        token: ForwardToken::new(token),
    })
}

/// The bus of a node that nobody asked to join others.
fn lonely_bus() -> Result<Arc<dyn Bus>, getrandom::Error> {
    Ok(Arc::new(LonelyBus::new(NodeId::new(getrandom::u64()?))))
}

impl Server {
    /// Starts to describe a server.
    #[must_use]
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// Serves Engine.IO sessions on a path of their own. All mounts share namespaces and rooms,
    /// whatever their parsers. A mount of a closed server refuses all sessions.
    pub fn mount(&self, config: EngineConfig, parser: Parser) -> EngineService<Connections> {
        let client = ClientConfig {
            parser,
            connect_timeout: self.0.config.connect_timeout,
            limits: self.0.config.limits.clone(),
        };
        let connections = Connections::new(self.clone(), client);
        let service = EngineService::new(config, connections, self.engine_parts());
        let mut mounts = self.0.mounts.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: `close` closes the mounts that it finds here.
        if self.is_closing() {
            service.close(&CloseReason::ServerShutdown);
        } else {
            mounts.push(service.clone());
        }
        drop(mounts);
        service
    }

    /// What an engine besides the server's mounts needs to share its metrics and tasks.
    #[must_use]
    pub fn engine_parts(&self) -> EngineParts {
        EngineParts {
            metrics: self.0.engine_metrics.clone(),
            tasks: self.0.tasks.clone(),
            node_tag: self.0.node_tag,
        }
    }

    /// Mounts the JSON parser on the default path, `/socket.io/`, with the default configuration.
    pub fn service(&self) -> EngineService<Connections> {
        self.mount(EngineConfig::default(), Parser::Json)
    }

    /// The namespace of this name, made if it does not exist. A missing `/` in front is added.
    ///
    /// *Shape:* one made here stays, and no rule for namespaces on demand applies to it. One that
    /// a rule made is returned if it is there, and is freed with its last client all the same.
    pub fn of(&self, name: &str) -> Namespace {
        if let Some(namespace) = self.namespaces_now().by_name.get(name) {
            return namespace.clone();
        }
        let name = NamespaceName::parse(name)
            .or_else(|| NamespaceName::parse(&format!("/{name}")))
            .unwrap_or_else(NamespaceName::root);
        let mut namespaces = self.namespaces_mut();
        let make = || self.new_namespace(name.clone(), false);
        namespaces
            .by_name
            .entry(name.clone())
            .or_insert_with(make)
            .clone()
    }

    /// Makes namespaces on demand whose names fit a path pattern such as `/chat-{id}`; `setup`
    /// registers the handlers of each. It is freed when its last client leaves.
    ///
    /// # Errors
    /// When the pattern is not valid.
    pub fn dynamic<F>(&self, pattern: &str, setup: F) -> Result<(), matchit::InsertError>
    where
        F: Fn(&Namespace) + Send + Sync + 'static,
    {
        let mut router = matchit::Router::new();
        router.insert(pattern, ())?;
        self.dynamic_when(move |name, _, _| router.at(name).is_ok(), setup);
        Ok(())
    }

    /// Makes namespaces on demand for which `accepts` says yes, given the name, the auth payload
    /// and the handshake. Rules are asked in the order of their registration.
    pub fn dynamic_when<A, F>(&self, accepts: A, setup: F)
    where
        A: Fn(&str, &Value, &Handshake) -> bool + Send + Sync + 'static,
        F: Fn(&Namespace) + Send + Sync + 'static,
    {
        let rule = Dynamic {
            accepts: Box::new(accepts),
            setup: Box::new(setup),
        };
        self.0
            .dynamic
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::new(rule));
    }

    /// The namespaces that exist now.
    #[must_use]
    pub fn namespaces(&self) -> Vec<Namespace> {
        self.namespaces_now().by_name.values().cloned().collect()
    }

    /// Sends an event to everybody in the namespace `/`.
    ///
    /// # Errors
    /// As [`BroadcastOperator::emit`].
    pub fn emit<T: Serialize + ?Sized>(&self, event: &str, payload: &T) -> Result<(), EmitError> {
        self.of("/").emit(event, payload)
    }

    /// The members of these rooms of the namespace `/`.
    pub fn to(&self, rooms: impl IntoRooms) -> BroadcastOperator {
        self.of("/").to(rooms)
    }

    /// Closes all sessions of all mounts and waits until their tasks and all handlers have ended.
    /// New sessions are refused from here on. The reason that sockets see is
    /// [`crate::DisconnectReason::ServerShuttingDown`].
    ///
    /// *Shape:* a handler that never ends keeps this waiting, and one that waits for this never
    /// ends: call it from elsewhere, and bound it with a timeout. In the
    /// end the server forgets its namespaces and mounts, and with them whatever handlers own.
    pub async fn close(&self) {
        let mounts = {
            let mounts = self.0.mounts.lock().unwrap_or_else(PoisonError::into_inner);
            self.0.closing.store(true, Ordering::SeqCst);
            mounts.clone()
        };
        for mount in &mounts {
            mount.close(&CloseReason::ServerShutdown);
        }
        self.0.tasks.stop();
        self.0.tasks.finished().await;
        // They hold the server, which holds them. Also, a namespace is subscribed to the bus as
        // long as it exists, and nobody takes what comes from there any more.
        let mounts =
            std::mem::take(&mut *self.0.mounts.lock().unwrap_or_else(PoisonError::into_inner));
        let namespaces = std::mem::take(&mut *self.namespaces_mut());
        let rules = std::mem::take(
            &mut *self
                .0
                .dynamic
                .write()
                .unwrap_or_else(PoisonError::into_inner),
        );
        drop((mounts, namespaces.by_name, rules));
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.0.closing.load(Ordering::SeqCst)
    }

    /// Where the server's tasks run; tasks spawned here are waited for by [`Self::close`].
    #[must_use]
    pub fn tasks(&self) -> &Tasks {
        &self.0.tasks
    }

    pub(crate) fn config(&self) -> &ServerConfig {
        &self.0.config
    }

    /// Takes frames from the bus from now on, as a task; further calls do nothing, nor do calls
    /// outside of a runtime. Called again when a session opens, which happens within one.
    pub(crate) fn receive(&self) {
        if Handle::try_current().is_err() || self.0.receiving.swap(true, Ordering::Relaxed) {
            return;
        }
        let driver = drive(self.clone());
        self.0.tasks.spawn("bus", driver);
        if let Some(dialects) = &self.0.dialects {
            let driver = dialects::drive(self.clone(), Arc::clone(dialects));
            self.0.tasks.spawn("dialects", driver);
        }
    }

    /// The members of the cluster, this node first; alone, only this one.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        self.0.cluster.members()
    }

    /// Where changes of the members are told.
    pub(crate) fn member_news(&self) -> &watch::Sender<()> {
        &self.0.member_changes
    }

    /// How the cluster is, as this node sees it. Costs nothing on the bus.
    #[must_use]
    pub fn cluster_status(&self) -> ClusterStatus {
        self.0.cluster.status()
    }

    /// How many servers the cluster has, this one and those of other makes included.
    pub async fn server_count(&self) -> usize {
        let foreign = self.0.cluster.foreign_servers(self.0.request_timeout);
        self.members().len() + foreign.await
    }

    /// How long queries wait for the other nodes.
    pub(crate) fn request_timeout(&self) -> Duration {
        self.0.request_timeout
    }

    pub(crate) fn server_handler(&self, namespace: &str, event: &str) -> Option<ServerHandler> {
        let namespace = self.namespaces_now().by_name.get(namespace)?.clone();
        namespace.handlers().servers.get(event).cloned()
    }

    pub(crate) fn cluster(&self) -> &Arc<Cluster> {
        &self.0.cluster
    }

    /// The namespace of this name, if there is one.
    pub(crate) fn existing(&self, name: &str) -> Option<Namespace> {
        self.namespaces_now().by_name.get(name).cloned()
    }

    pub(crate) fn adapter(&self, namespace: &str) -> Option<Arc<Adapter<Control>>> {
        let namespaces = self.namespaces_now();
        let namespace = namespaces.by_name.get(namespace)?;
        Some(Arc::clone(namespace.adapter()))
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// The namespace that a client asks for, with one user more; give it back with
    /// [`Self::leave_namespace`].
    pub(crate) fn enter_namespace(
        &self,
        name: &NamespaceName,
        auth: &Value,
        handshake: &Handshake,
    ) -> Option<Namespace> {
        if let Some(namespace) = self.namespaces_now().by_name.get(name) {
            // Under the lock, so that nobody frees it in between.
            namespace.add_user();
            return Some(namespace.clone());
        }
        let made = self.make_on_demand(name, auth, handshake)?;
        let max = self.0.config.max_dynamic_namespaces;
        let mut namespaces = self.namespaces_mut();
        let Namespaces { by_name, dynamic } = &mut *namespaces;
        // Somebody else may have made it meanwhile: theirs counts.
        let namespace = match by_name.entry(name.clone()) {
            Entry::Occupied(theirs) => theirs.get().clone(),
            Entry::Vacant(_) if *dynamic >= max => return None,
            Entry::Vacant(free) => {
                *dynamic += 1;
                free.insert(made).clone()
            }
        };
        namespace.add_user();
        Some(namespace)
    }

    /// The namespace that the first fitting rule makes, not in the table yet.
    fn make_on_demand(
        &self,
        name: &NamespaceName,
        auth: &Value,
        handshake: &Handshake,
    ) -> Option<Namespace> {
        let rules = self
            .0
            .dynamic
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let full = self.namespaces_now().dynamic >= self.0.config.max_dynamic_namespaces;
        if full || rules.is_empty() {
            return None;
        }
        // Both are the user's. A rule that panics has not agreed, and harms this client only.
        let made = catch_unwind(AssertUnwindSafe(|| {
            let fits = |rule: &&Arc<Dynamic>| (rule.accepts)(name, auth, handshake);
            let rule = rules.iter().find(fits)?;
            let made = self.new_namespace(name.clone(), true);
            (rule.setup)(&made);
            Some(made)
        }));
        made.unwrap_or_else(|panic| {
            let error = HandlerError::Panicked(panic_message(&*panic));
            self.0.metrics.handler_error(error.label());
            tracing::warn!(namespace = %name, %error, "no namespace on demand");
            None
        })
    }

    /// One user of the namespace less; a dynamic one is freed with its last.
    pub(crate) fn leave_namespace(&self, namespace: &Namespace) {
        if namespace.remove_user() && namespace.is_dynamic() {
            self.free(namespace);
        }
    }

    fn free(&self, namespace: &Namespace) {
        let mut namespaces = self.namespaces_mut();
        let Namespaces { by_name, dynamic } = &mut *namespaces;
        // Somebody may have come in before the lock was taken. They may even have left again, so
        // that this one was freed and another one made under its name.
        let entry = by_name.get(namespace.name());
        if entry.is_some_and(|current| current.is(namespace) && current.is_unused()) {
            by_name.remove(namespace.name());
            *dynamic -= 1;
        }
    }

    fn namespaces_now(&self) -> RwLockReadGuard<'_, Namespaces> {
        self.0
            .namespaces
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn namespaces_mut(&self) -> RwLockWriteGuard<'_, Namespaces> {
        self.0
            .namespaces
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn new_namespace(&self, name: NamespaceName, dynamic: bool) -> Namespace {
        let limits = RoomLimits {
            max_rooms_per_socket: self.0.config.max_rooms_per_socket,
            max_name_bytes: self.0.config.max_room_name_bytes,
        };
        let adapter = Adapter::new(name.clone(), limits, Arc::clone(&self.0.cluster));
        adapter.set_slow_consumers(self.0.config.slow_consumers_in(name.as_str()));
        Namespace::new(name, self.clone(), adapter, dynamic)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("config", &self.0.config)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

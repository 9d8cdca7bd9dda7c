//! A node: a server, its mounts and its listener.

use std::future::{Future, ready};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use sockhop::engine::{EngineParts, Handler};
use sockhop::{
    BuildError, Bus, Channels, ClusterConfig, DialectConfig, EngineConfig, EngineService,
    ForwardToken, Parser, Server, ServerBuilder, ServerConfig,
};
use sockhop_redis::{RedisConfig, RedisError};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::client_files::ClientFiles;
use crate::control::{Control, ControlSite, Phase, Readiness, watch_cluster, watch_lateness};
use crate::descriptors::make_room;
use crate::drain::{DrainConfig, close_sessions};
use crate::heap::release_memory;
use crate::http::{
    Clients, ClientsConfig, Listener, MountPoint, Mounts, Page, PublicSite, Serving, Site, serve,
};
use crate::redis::{RedisLink, is_local, redis_place};
use crate::route::{self, PrivateConfig, PrivateSite, Proof, Router};
use crate::telemetry::LogFormat;

/// Configuration of a node.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Where to listen. Default 127.0.0.1:8080; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The Socket.IO layer and its limits.
    pub server: ServerConfig,
    /// The first mount: path, heartbeat, limits.
    pub engine: EngineConfig,
    /// Directory with the official browser client; none sends browsers to its CDN.
    pub client_dir: Option<PathBuf>,
    /// How long a request's head may take. Default 15 s.
    pub header_timeout: Duration,
    /// How long a connection is kept between two requests; a balancer that keeps them should give
    /// up earlier. Default 15 s.
    pub idle_timeout: Duration,
    /// How long sessions and handlers may take to end at shutdown. Default 10 s.
    pub close_timeout: Duration,
    /// Whose a connection is, and how many one address may have.
    pub clients: ClientsConfig,
    /// How the node ends.
    pub drain: DrainConfig,
    /// Where `/metrics`, `/healthz` and `/readyz` are served for operators only. Default: nowhere,
    /// and `/metrics` is public; port 0 takes a free one.
    pub control: Option<SocketAddr>,
    /// How the nodes of a cluster reach each other.
    pub private: PrivateConfig,
    /// Where the nodes of a cluster meet. Default: none, and there are no other nodes.
    pub redis: Option<RedisConfig>,
    /// How the node takes part in its cluster, once it has one. Its address and its token are the
    /// node's to set.
    pub cluster: ClusterConfig,
    /// Which servers of other makes on the same Redis are members of the cluster too.
    pub dialects: DialectConfig,
    /// What is logged. It and the next two are of the process, for whoever starts the node.
    /// Default `info`.
    pub log_filter: String,
    /// How logs look. Default [`LogFormat::Text`].
    pub log_format: LogFormat,
    /// Worker threads of the runtime. Default: one for each core.
    pub workers: Option<NonZeroUsize>,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            server: ServerConfig::default(),
            engine: EngineConfig::default(),
            client_dir: None,
            header_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(15),
            close_timeout: Duration::from_secs(10),
            clients: ClientsConfig::default(),
            drain: DrainConfig::default(),
            control: None,
            private: PrivateConfig::default(),
            redis: None,
            cluster: ClusterConfig::default(),
            dialects: DialectConfig::default(),
            log_filter: "info".to_owned(),
            log_format: LogFormat::Text,
            workers: None,
        }
    }
}

/// Why a node cannot run.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The runtime could not be started.
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
    /// The address could not be bound.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The directory of the browser client could not be read.
    #[error("cannot read the client files in {}", dir.display())]
    ClientFiles {
        /// The directory.
        dir: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The server could not be built.
    #[error("cannot build the server")]
    Server(#[from] BuildError),
    /// A metric of the node has the name of another.
    #[error("cannot register metrics")]
    Metrics(#[from] prometheus::Error),
    /// The other nodes could not be told where this one is.
    #[error("cannot tell where other nodes reach this one: set `private.advertise`")]
    Advertise(#[source] io::Error),
    /// The way to Redis is not configured as it can be.
    #[error("cannot use Redis")]
    Redis(#[from] RedisError),
}

/// An Engine.IO endpoint besides the first.
#[derive(Clone, Debug)]
pub struct Mount {
    /// Path, heartbeat, limits.
    pub engine: EngineConfig,
    /// How its clients write packets.
    pub parser: Parser,
}

/// What a node of a cluster has for the other nodes.
struct Private {
    listener: Listener,
    /// Where the others find the listener.
    advertise: SocketAddr,
    token: ForwardToken,
}

impl Private {
    /// Binds the listener. Must be called within a runtime.
    fn open(config: &PrivateConfig, redis: Option<&str>) -> Result<Self, NodeError> {
        let (listener, bound) = bind(config.listen)?;
        let advertise = route::advertised(bound, config.advertise.as_deref(), redis)
            .map_err(NodeError::Advertise)?;
        let mut token = [0; 32];
        getrandom::fill(&mut token).map_err(BuildError::from)?;
        Ok(Self {
            listener,
            advertise,
            token: ForwardToken::new(token),
        })
    }
}

/// A node before it runs.
pub struct Node {
    config: NodeConfig,
    server: Server,
    registry: Registry,
    control: Arc<Control>,
    /// None: there are no other nodes.
    private: Option<Private>,
    /// None: there is no cluster, or it meets elsewhere.
    redis: Option<RedisLink>,
    mounts: Mounts,
    pages: Vec<Page>,
}

impl Node {
    /// A node with one mount and no handlers. One of a cluster, that is with
    /// [`NodeConfig::redis`], must be made within a runtime.
    ///
    /// # Errors
    /// When the server cannot be built, and when the private listener cannot be bound.
    pub fn new(config: NodeConfig) -> Result<Self, NodeError> {
        let registry = Registry::new();
        let Some(redis) = &config.redis else {
            return Self::build(config, Server::builder(), registry, None);
        };
        let private = Private::open(&config.private, redis_place(redis).as_deref())?;
        if private.advertise.ip().is_loopback() && !is_local(redis) {
            tracing::warn!(
                "other nodes are told to find this one at {}, which only this machine knows: see \
                 `private.listen`",
                private.advertise
            );
        }
        let redis = RedisLink::start(redis.clone(), &registry)?;
        let builder = Server::builder()
            .bus(Arc::clone(&redis.bus) as Arc<dyn Bus>)
            .channels(Arc::clone(&redis.bus) as Arc<dyn Channels>)
            .dialects(config.dialects.clone());
        let mut node = Self::build(config, builder, registry, Some(private))?;
        node.redis = Some(redis);
        Ok(node)
    }

    /// A node of the cluster that `bus` leads to. Must be called within a runtime.
    ///
    /// # Errors
    /// As [`Self::new`], and when the private listener cannot be bound.
    pub fn on_bus(config: NodeConfig, bus: Arc<dyn Bus>) -> Result<Self, NodeError> {
        let private = Private::open(&config.private, None)?;
        let builder = Server::builder().bus(bus);
        Self::build(config, builder, Registry::new(), Some(private))
    }

    fn build(
        config: NodeConfig,
        builder: ServerBuilder,
        registry: Registry,
        private: Option<Private>,
    ) -> Result<Self, NodeError> {
        let mut builder = builder.config(config.server.clone()).registry(&registry);
        if let Some(private) = &private {
            builder = builder.cluster(ClusterConfig {
                advertise: Some(private.advertise),
                forward_token: Some(private.token),
                ..config.cluster.clone()
            });
        }
        let server = builder.build()?;
        let cluster = private.as_ref().map(|_| watch_cluster(server.clone()));
        let control = Control::new(registry.clone(), Readiness::new(cluster))?;
        let mut node = Self {
            server,
            registry,
            control: Arc::new(control),
            private,
            redis: None,
            mounts: Mounts::default(),
            pages: Vec::new(),
            config,
        };
        node.mount(Mount {
            engine: node.config.engine.clone(),
            parser: Parser::Json,
        });
        Ok(node)
    }

    /// The server, to register handlers and to emit.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Where the node's metrics are registered.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Adds a mount; it shares namespaces and rooms with the others.
    pub fn mount(&mut self, mount: Mount) -> &mut Self {
        let Mount { engine, parser } = mount;
        let service = self.server.mount(engine.clone(), parser);
        self.mounts.add(MountPoint::new(service, engine));
        self
    }

    /// Adds an Engine.IO endpoint with a handler of its own, which knows no namespaces.
    pub fn mount_engine<H: Handler>(&mut self, config: EngineConfig, handler: H) -> &mut Self {
        let parts: EngineParts = self.server.engine_parts();
        let service = EngineService::new(config.clone(), handler, parts);
        self.mounts.add(MountPoint::new(service, config));
        self
    }

    /// Adds a page.
    pub fn page(&mut self, page: Page) -> &mut Self {
        self.pages.push(page);
        self
    }

    /// Serves until `shutdown` is ready, then drains: unready at once, serving for the grace
    /// period, then closing the sessions. Returns within the deadline of [`DrainConfig`].
    ///
    /// # Errors
    /// When an address cannot be bound or the client files cannot be read.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), NodeError> {
        let Self {
            config,
            server,
            registry,
            control,
            private,
            redis,
            mounts,
            pages,
        } = self;
        let prefix = format!("{}/", config.engine.path.trim_end_matches('/'));
        let clients =
            ClientFiles::load(&prefix, config.client_dir.as_deref()).map_err(|source| {
                let dir = config.client_dir.clone().unwrap_or_default();
                NodeError::ClientFiles { dir, source }
            })?;
        make_room(config.engine.max_sessions);
        let mounts = Arc::new(mounts);
        let mut running = Running {
            server,
            mounts: Arc::clone(&mounts),
            control: Arc::clone(&control),
            router: None,
            config,
        };
        if let Some(private) = private {
            running.join_others(private, &registry)?;
        }
        let tasks = running.server.tasks();
        watch_lateness(&registry, tasks)?;
        release_memory(&registry, running.server.engine_parts().metrics, tasks)?;
        if let Some(address) = running.config.control {
            let (listener, address) = bind(address)?;
            tracing::info!("control on http://{address}");
            running.serve_until_stopped(listener, ControlSite(Arc::clone(&control)));
        }
        let mut shutdown = pin!(shutdown);
        let asked_to_end = tokio::select! {
            () = running.hear_others() => false,
            () = &mut shutdown => true,
        };
        if asked_to_end {
            running.end(ready(()), redis).await;
            return Ok(());
        }
        let (listener, address) = bind(running.config.listen)?;
        let site = Arc::new(PublicSite {
            mounts,
            router: running.router.clone(),
            pages,
            clients,
            control,
            shows_metrics: running.config.control.is_none(),
        });
        let serving = Serving {
            tasks: running.server.tasks().clone(),
            header_timeout: running.config.header_timeout,
            idle_timeout: running.config.idle_timeout,
            clients: Arc::new(Clients::new(running.config.clients.clone(), &registry)?),
        };
        let mut serving = Box::pin(serve(listener, site, serving));
        running.control.phase(Phase::Serving);
        tracing::info!("listening on http://{address}");
        tokio::select! {
            () = &mut serving => {}
            () = &mut shutdown => {}
        }
        running.end(serving, redis).await;
        Ok(())
    }
}

/// How long beyond a heartbeat a starting node waits for the others, and how often it looks.
const HEARING_SLACK: Duration = Duration::from_secs(1);
const HEARING_INTERVAL: Duration = Duration::from_millis(5);

/// How long it waits for the last answer after the first.
const HEARING_REST: Duration = Duration::from_millis(100);

/// What the goodbye to the cluster may take beyond the deadline.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Binds `address` and says which it became.
fn bind(address: SocketAddr) -> Result<(Listener, SocketAddr), NodeError> {
    let failed = |source| NodeError::Listen { address, source };
    let listener = Listener::bind(address).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// A node that serves.
struct Running {
    server: Server,
    mounts: Arc<Mounts>,
    control: Arc<Control>,
    router: Option<Arc<Router>>,
    config: NodeConfig,
}

impl Running {
    /// Takes requests from other nodes, and passes theirs on.
    fn join_others(&mut self, private: Private, registry: &Registry) -> Result<(), NodeError> {
        let metrics = route::Metrics::register(registry)?;
        let config = &self.config.private;
        let secret = config.secret.as_ref();
        let proof = Proof::new(private.token.as_bytes(), secret);
        let find_owner = route::members_of(&self.server, secret.cloned());
        let tag = self.server.engine_parts().node_tag;
        let tasks = self.server.tasks();
        let router = Router::new(tag, find_owner, config, metrics.clone(), tasks);
        self.router = Some(Arc::new(router));
        let mounts = Arc::clone(&self.mounts);
        tracing::info!("other nodes find this one at {}", private.advertise);
        let site = PrivateSite {
            mounts,
            proof,
            metrics,
        };
        self.serve_until_stopped(private.listener, site);
        Ok(())
    }

    /// Waits until the other nodes have answered, so that the first client can be served by all of
    /// them; not for long, because without Redis this node serves its own clients.
    async fn hear_others(&self) {
        let status = || self.server.cluster_status();
        let settled = || status().settled || !status().clustered;
        let patience = self.config.cluster.heartbeat + HEARING_SLACK;
        let waiting = async {
            while !settled() {
                sleep(HEARING_INTERVAL).await;
            }
            if status().clustered {
                // One has answered; the others are about to.
                sleep(HEARING_REST).await;
            }
        };
        if timeout(patience, waiting).await.is_err() {
            tracing::warn!("the other nodes have not been heard, serving without them");
        }
    }

    /// Serves a listener besides the public one, up to the last moment.
    fn serve_until_stopped(&self, listener: Listener, site: impl Site) {
        let tasks = self.server.tasks().clone();
        let serving = Serving {
            tasks: tasks.clone(),
            header_timeout: self.config.header_timeout,
            idle_timeout: self.config.idle_timeout,
            clients: Arc::new(Clients::anybody()),
        };
        let serving = serve(listener, Arc::new(site), serving);
        self.server.tasks().spawn("listener", async move {
            tokio::select! {
                () = serving => {}
                () = tasks.stopped() => {}
            }
        });
    }

    /// Ends a node whose public listener is `serving`.
    async fn end(self, serving: impl Future<Output = ()>, redis: Option<RedisLink>) {
        let deadline = Instant::now() + self.config.drain.deadline;
        self.drain(serving, deadline).await;
        if let Some(redis) = redis {
            // The goodbye may leave even if there was no time left.
            let soon = Instant::now() + LAST_WORDS;
            let _ = timeout_at(deadline.max(soon), redis.close()).await;
        }
    }

    async fn drain(self, serving: impl Future<Output = ()>, end: Instant) {
        let DrainConfig { grace, spread, .. } = self.config.drain;
        self.control.phase(Phase::Draining);
        tracing::info!("shutting down");
        let closing = async {
            // The listener goes with the future: from then on connections are refused, and a
            // balancer tries another node.
            let _ = timeout(grace, serving).await;
            if let Some(router) = &self.router {
                router.drain(spread);
            }
            close_sessions(self.mounts.drain(), spread).await;
        };
        let in_time = timeout_at(end, closing).await.is_ok();
        self.mounts.close();
        let end = end.min(Instant::now() + self.config.close_timeout);
        if timeout_at(end, self.server.close()).await.is_err() || !in_time {
            let unfinished = self.server.tasks().len();
            tracing::warn!(unfinished, "not everything ended in time");
        }
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

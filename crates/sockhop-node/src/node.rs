//! A node: a server, its mounts and its listener.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use sockhop::engine::{EngineParts, Handler};
use sockhop::{BuildError, EngineConfig, EngineService, Parser, Server, ServerConfig};

use crate::client_files::ClientFiles;
use crate::http::{self, Listener, Page, Route, Routes};
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
    /// How long sessions and handlers may take to end at shutdown. Default 10 s.
    pub close_timeout: Duration,
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
            close_timeout: Duration::from_secs(10),
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
}

/// An Engine.IO endpoint besides the first.
#[derive(Clone, Debug)]
pub struct Mount {
    /// Path, heartbeat, limits.
    pub engine: EngineConfig,
    /// How its clients write packets.
    pub parser: Parser,
}

/// A node before it runs.
pub struct Node {
    config: NodeConfig,
    server: Server,
    registry: Registry,
    mounts: Vec<Box<dyn Route>>,
    pages: Vec<Page>,
}

impl Node {
    /// A node with one mount and no handlers.
    ///
    /// # Errors
    /// When the server cannot be built.
    pub fn new(config: NodeConfig) -> Result<Self, NodeError> {
        let registry = Registry::new();
        let server = Server::builder()
            .config(config.server.clone())
            .registry(&registry)
            .build()?;
        let first = server.mount(config.engine.clone(), Parser::Json);
        Ok(Self {
            config,
            server,
            registry,
            mounts: vec![Box::new(first)],
            pages: Vec::new(),
        })
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
        self.mounts
            .push(Box::new(self.server.mount(mount.engine, mount.parser)));
        self
    }

    /// Adds an Engine.IO endpoint with a handler of its own, which knows no namespaces.
    pub fn mount_engine<H: Handler>(&mut self, config: EngineConfig, handler: H) -> &mut Self {
        let parts: EngineParts = self.server.engine_parts();
        self.mounts
            .push(Box::new(EngineService::new(config, handler, parts)));
        self
    }

    /// Adds a page.
    pub fn page(&mut self, page: Page) -> &mut Self {
        self.pages.push(page);
        self
    }

    /// Serves until `shutdown` is ready, then closes all sessions and returns.
    ///
    /// # Errors
    /// When the address cannot be bound or the client files cannot be read.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), NodeError> {
        let Self {
            config,
            server,
            registry,
            mounts,
            pages,
        } = self;
        let prefix = format!("{}/", config.engine.path.trim_end_matches('/'));
        let clients =
            ClientFiles::load(&prefix, config.client_dir.as_deref()).map_err(|source| {
                let dir = config.client_dir.clone().unwrap_or_default();
                NodeError::ClientFiles { dir, source }
            })?;
        let failed = |source| NodeError::Listen {
            address: config.listen,
            source,
        };
        let listener = Listener::bind(config.listen).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        tracing::info!("listening on http://{address}");

        let routes = Arc::new(Routes {
            mounts,
            pages,
            clients,
            registry,
        });
        let tasks = server.tasks().clone();
        let accepted = Arc::clone(&routes);
        tokio::select! {
            () = http::serve(listener, accepted, tasks, config.header_timeout) => {}
            () = shutdown => {}
        }
        tracing::info!("shutting down");
        routes.mounts.iter().for_each(|mount| mount.close());
        if tokio::time::timeout(config.close_timeout, server.close())
            .await
            .is_err()
        {
            let unfinished = server.tasks().len();
            tracing::warn!(unfinished, "not everything ended in time");
        }
        Ok(())
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

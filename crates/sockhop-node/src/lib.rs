//! The sockhop node: the Socket.IO server you deploy instead of embed.
//!
//! The binary `sockhop` is a [`Node`] with the chat of the tutorials. A custom node is the same
//! with other handlers:
//!
//! ```no_run
//! use sockhop::Socket;
//! use sockhop_node::{Node, NodeConfig, shutdown_signal};
//!
//! # async fn run() -> Result<(), sockhop_node::NodeError> {
//! let node = Node::new(NodeConfig::default())?;
//! node.server().of("/").on("hello", |socket: Socket, name: String| async move {
//!     socket.emit("hello", &format!("hello, {name}"))
//! });
//! node.run(shutdown_signal()).await
//! # }
//! ```

pub mod chat;
mod cli;
mod client_files;
mod config;
mod control;
mod descriptors;
mod doctor;
mod drain;
mod heap;
mod http;
mod log_queue;
mod node;
mod redis;
mod route;
mod runtime;
mod shutdown;
pub mod telemetry;

pub use self::config::{DEFAULT_CONFIG, Dialect, Fault, Faults};
pub use cli::{Cli, Command, Flags};
pub use drain::DrainConfig;
pub use http::{ClientsConfig, Network, NotANetwork, Page};
pub use log_queue::Logs;
pub use node::{Mount, Node, NodeConfig, NodeError};
pub use route::PrivateConfig;
pub use runtime::runtime;
pub use shutdown::shutdown_signal;
pub use sockhop_redis::{RedisConfig, RedisUrl, Secret};
pub use telemetry::LogFormat;

//! The Socket.IO server library: server, namespaces, sockets, handlers and middleware.
//!
//! ```
//! use sockhop::{Server, Socket};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Server::builder().build()?;
//! server.of("/").on("chat message", |socket: Socket, text: String| async move {
//!     socket.namespace().emit("chat message", &text)
//! });
//! let service = server.service(); // a hyper and a tower service for `/socket.io/`
//! # Ok(()) }
//! ```

mod ack;
mod cluster;
mod connection;
mod dialects;
mod error;
mod extras;
mod handler;
mod handshake;
mod metrics;
mod namespace;
mod operator;
mod peer;
mod remote;
mod server;
mod servers;
mod socket;

pub use ack::{Ack, BroadcastAcks};
pub use cluster::{Changed, Joined, MemberChanges};
pub use connection::{Connection, Connections, Control};
pub use dialects::DialectConfig;
pub use error::{AckError, DisconnectReason, EmitError};
pub use handler::{Event, HandlerError, Outcome};
pub use namespace::Namespace;
pub use operator::{BroadcastOperator, IntoRooms, SocketOperator};
pub use remote::RemoteSocket;
pub use server::{BuildError, Server, ServerBuilder, ServerConfig};
pub use servers::ServerAck;
pub use socket::Socket;

pub use engineio_proto as engineio;
pub use engineio_proto::{ProtocolVersion, Transport};
pub use socketio_proto::{Args, ConnectError, Limits, NamespaceName, Parser, Payload, Value};
pub use sockhop_adapter::bus::MemoryBusLimits;
pub use sockhop_adapter::dialect::DialectLimits;
pub use sockhop_adapter::dialect::node::NodeDialectConfig;
pub use sockhop_adapter::dialect::python::PythonDialectConfig;
pub use sockhop_adapter::{
    Bus, BusError, Channels, ClusterConfig, ClusterStatus, ForwardToken, Gathered, Link, LonelyBus,
    Member, MemoryHub, NodeId, Room, SlowConsumers, SocketId,
};
pub use sockhop_engine as engine;
pub use sockhop_engine::{
    Cookie, Cors, EngineConfig, EngineLayer, EngineService, Handshake, Origins,
};

/// The README's Rust is compiled, too.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

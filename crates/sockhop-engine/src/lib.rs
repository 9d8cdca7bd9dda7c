//! Drives Engine.IO sessions on tokio: HTTP service, long-polling and WebSocket.
//!
//! One task owns each session ([`engineio_proto::Session`]) with its transports and its timer.
//! Requests reach it by mailbox, packets of other threads through its
//! [outbox](sockhop_outbox::Outbox). The layer above is a [`Handler`].

mod admission;
mod config;
mod cors;
mod date;
mod draining;
mod handler;
mod handshake;
mod head;
pub mod lane;
mod layer;
mod mailbox;
mod memory;
mod metrics;
mod polling;
mod rate;
mod read_buffer;
mod registry;
mod request;
mod response;
mod service;
mod session_task;
mod stream;
mod tasks;
mod transports;
mod websocket;

pub use admission::{Admission, AdmissionConfig, customer};
pub use config::{AllowRequest, Cookie, EngineConfig, Forbidden};
pub use cors::{Cors, OriginPredicate, Origins};
pub use draining::OpenSessions;
pub use handler::{Context, ControlOf, Handler, Opened, SessionHandler};
pub use handshake::{Handshake, PeerAddress, Secure};
pub use layer::{EngineLayer, Layered};
pub use memory::MemoryBudget;
pub use metrics::Metrics;
pub use rate::{OverRate, Rate, SessionRates};
pub use response::Body;
pub use service::{EngineParts, EngineService, ResponseFuture};
pub use stream::ServerStream;
pub use tasks::Tasks;

//! The bus between nodes over Redis pub/sub.
//!
//! - [`bus`]: [`RedisBus`], one node's end of it.
//! - [`config`]: what it takes, with defaults; [`url`]: where Redis is.
//! - [`resp`]: the wire protocol, sans-IO.
//! - [`metrics`]: what is counted.
//!
//! Inside: `link` keeps one server's two connections, `publisher` and `subscriber` are what runs on
//! them, `outgoing`, `subscriptions` and `inbox` are the three queues between them and everybody
//! else, `connect`, `tls` and `target` make connections.
//!
//! # Locks
//! Each of the queues has one lock, taken alone and never across an `await`.

mod backoff;
pub mod bus;
pub mod config;
mod connect;
mod error;
mod inbox;
mod link;
pub mod metrics;
mod outgoing;
mod pipe;
mod publisher;
pub mod resp;
mod shared;
mod subscriber;
mod subscriptions;
mod target;
mod tls;
pub mod url;

pub use bus::RedisBus;
pub use config::RedisConfig;
pub use error::RedisError;
pub use metrics::Metrics;
pub use shared::Spawner;
pub use url::{Address, Mode, RedisUrl, Secret, UrlError};

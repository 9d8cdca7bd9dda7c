//! The bus between nodes over Redis pub/sub.
//!
//! - [`bus`]: [`RedisBus`], one node's end of it.
//! - [`config`]: what it takes, with defaults; [`url`]: where Redis is.
//! - [`resp`]: the wire protocol, sans-IO.
//! - [`inspect`]: a look at a Redis before it is used.
//! - [`metrics`]: what is counted.
//!
//! Inside: `link` keeps one server's two connections, `publisher` and `subscriber` are what runs on
//! them, `hearing` judges whether a node is deaf, `outgoing` and `subscriptions` are the queues from
//! everybody else to them, `connect`, `tls` and `target` make connections; `routes`, `slots` and
//! `cluster` choose among the links of a Redis Cluster.
//!
//! # Locks
//! The table of routes, then one of the queues of a link; never across an `await`.

mod backoff;
pub mod bus;
mod cluster;
pub mod config;
mod connect;
mod error;
mod hearing;
pub mod inspect;
mod link;
pub mod metrics;
mod outgoing;
mod pipe;
mod publisher;
pub mod resp;
mod routes;
mod shared;
mod slots;
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

//! What several crates' tests share: a virtual clock and real Redis servers; its tests guard the
//! shape of the workspace.

mod clock;
mod fault_proxy;
mod net;
mod redis;
mod redis_groups;

pub use clock::Clock;
pub use fault_proxy::{FaultProxy, Network};
pub use net::{Faults, Net, Random};
pub use redis::{RedisReply, RedisServer};
pub use redis_groups::{RedisCluster, RedisSentinel};

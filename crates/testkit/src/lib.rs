//! What several crates' tests share: a virtual clock and real Redis servers; its tests guard the
//! shape of the workspace.

mod clock;
mod redis;
mod redis_groups;

pub use clock::Clock;
pub use redis::{RedisReply, RedisServer};
pub use redis_groups::{RedisCluster, RedisSentinel};

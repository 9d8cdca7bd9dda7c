//! This node's end of the bus over Redis.

use std::net::IpAddr;
use std::sync::Arc;

use prometheus::Registry;
use sockhop::NodeId;
use sockhop::engine::Tasks;
use sockhop_redis::{Address, Metrics, Mode, RedisBus, RedisConfig};

use crate::NodeError;

/// The bus and its tasks, which outlive those of the server: its goodbye is to arrive.
pub(crate) struct RedisLink {
    pub(crate) bus: Arc<RedisBus>,
    tasks: Tasks,
}

impl RedisLink {
    /// Starts the bus of a new node. It needs no Redis yet. Must be called within a runtime.
    pub(crate) fn start(config: RedisConfig, registry: &Registry) -> Result<Self, NodeError> {
        let node = NodeId::new(getrandom::u64().map_err(sockhop::BuildError::from)?);
        let tasks = Tasks::default();
        let spawner = tasks.clone();
        let bus = RedisBus::start(
            config,
            node,
            Metrics::register(registry)?,
            move |name, task| spawner.spawn(name, task),
        )?;
        Ok(Self {
            bus: Arc::new(bus),
            tasks,
        })
    }

    /// Lets go what is queued and ends.
    pub(crate) async fn close(self) {
        self.bus.close().await;
        self.tasks.stop();
        self.tasks.finished().await;
    }
}

/// The first place of Redis in the network, as `host:port`.
pub(crate) fn redis_place(config: &RedisConfig) -> Option<String> {
    places(config)
        .iter()
        .find(|place| matches!(place, Address::Tcp(..)))
        .map(ToString::to_string)
}

/// Whether Redis, and so probably every node, is on this machine.
pub(crate) fn is_local(config: &RedisConfig) -> bool {
    places(config).iter().all(|place| match place {
        Address::Tcp(host, _) => {
            host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
        }
        Address::Unix(_) => true,
    })
}

fn places(config: &RedisConfig) -> &[Address] {
    match &config.url.mode {
        Mode::Single(address) => std::slice::from_ref(address),
        Mode::Sentinel { sentinels, .. } => sentinels,
        Mode::Cluster { seeds } => seeds,
    }
}

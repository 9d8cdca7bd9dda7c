//! The sections of operation and of the cluster.

use std::path::PathBuf;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use sockhop_redis::{RedisConfig, RedisUrl};

use super::{count, millis, or_empty};
use crate::{DrainConfig, NodeConfig, PrivateConfig};

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Control {
    /// Empty: none.
    pub(in crate::config) listen: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Drain {
    pub(in crate::config) grace_ms: u64,
    pub(in crate::config) spread_ms: u64,
    pub(in crate::config) deadline_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Private {
    pub(in crate::config) listen: String,
    /// Empty: as `listen`.
    pub(in crate::config) advertise: String,
    /// Empty: none.
    pub(in crate::config) secret: String,
    pub(in crate::config) max_forwarded: u64,
    pub(in crate::config) connect_timeout_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Cluster {
    pub(in crate::config) heartbeat_ms: u64,
    pub(in crate::config) member_timeout_ms: u64,
    pub(in crate::config) request_timeout_ms: u64,
    pub(in crate::config) max_members: u64,
    pub(in crate::config) max_requests: u64,
    pub(in crate::config) max_served: u64,
    pub(in crate::config) max_topics_per_broadcast: u64,
    pub(in crate::config) dialects: Vec<Dialect>,
    pub(in crate::config) node_key: String,
    pub(in crate::config) node_specific_responses: bool,
    pub(in crate::config) python_channel: String,
    pub(in crate::config) python_single_values: bool,
}

/// Servers of another make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// Node.js with `@socket.io/redis-adapter`.
    Node,
    /// Python with a `RedisManager`.
    Python,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Redis {
    /// Empty: no cluster.
    pub(in crate::config) url: String,
    pub(in crate::config) username: String,
    pub(in crate::config) password: String,
    pub(in crate::config) sentinel_username: String,
    pub(in crate::config) sentinel_password: String,
    pub(in crate::config) tls_ca_file: String,
    pub(in crate::config) tls_cert_file: String,
    pub(in crate::config) tls_key_file: String,
    pub(in crate::config) prefix: String,
    pub(in crate::config) max_frame_bytes: u64,
    pub(in crate::config) publish_queue_bytes: u64,
    pub(in crate::config) incoming_queue_bytes: u64,
    pub(in crate::config) connect_timeout_ms: u64,
    pub(in crate::config) command_timeout_ms: u64,
    pub(in crate::config) canary_interval_ms: u64,
    pub(in crate::config) canary_timeout_ms: u64,
    pub(in crate::config) publish_grace_ms: u64,
    pub(in crate::config) backoff_min_ms: u64,
    pub(in crate::config) backoff_max_first_minute_ms: u64,
    pub(in crate::config) backoff_max_ms: u64,
    pub(in crate::config) sync_timeout_ms: u64,
    pub(in crate::config) topology_interval_ms: u64,
    pub(in crate::config) cluster_sharded: bool,
}

impl From<&DrainConfig> for Drain {
    fn from(config: &DrainConfig) -> Self {
        Self {
            grace_ms: millis(config.grace),
            spread_ms: millis(config.spread),
            deadline_ms: millis(config.deadline),
        }
    }
}

impl From<&PrivateConfig> for Private {
    fn from(config: &PrivateConfig) -> Self {
        let secret = config.secret.as_ref();
        Self {
            listen: config.listen.to_string(),
            advertise: or_empty(config.advertise.as_ref()),
            secret: secret.map_or_else(String::new, |secret| secret.expose().to_owned()),
            max_forwarded: count(config.max_forwarded),
            connect_timeout_ms: millis(config.connect_timeout),
        }
    }
}

impl From<&NodeConfig> for Cluster {
    fn from(config: &NodeConfig) -> Self {
        let NodeConfig {
            cluster, dialects, ..
        } = config;
        let is_on = [
            (Dialect::Node, dialects.node.is_some()),
            (Dialect::Python, dialects.python.is_some()),
        ];
        let on = is_on.into_iter().filter(|(_, is_on)| *is_on);
        let node = dialects.node.clone().unwrap_or_default();
        let python = dialects.python.clone().unwrap_or_default();
        Self {
            heartbeat_ms: millis(cluster.heartbeat),
            member_timeout_ms: millis(cluster.member_timeout),
            request_timeout_ms: millis(cluster.request_timeout),
            max_members: count(cluster.max_members),
            max_requests: count(cluster.max_requests),
            max_served: count(cluster.max_served),
            max_topics_per_broadcast: count(cluster.max_topics_per_broadcast),
            dialects: on.map(|(dialect, _)| dialect).collect(),
            node_key: node.key,
            node_specific_responses: node.specific_responses,
            python_channel: python.channel,
            python_single_values: python.single_values,
        }
    }
}

impl From<Option<&RedisConfig>> for Redis {
    /// The URL and what else is a secret are not written down: no file is ever made from them.
    fn from(config: Option<&RedisConfig>) -> Self {
        let config = config.cloned().unwrap_or_else(default_redis);
        let path = |path: Option<PathBuf>| {
            path.map_or_else(String::new, |path| path.to_string_lossy().into_owned())
        };
        Self {
            url: String::new(),
            username: config.username.unwrap_or_default(),
            password: String::new(),
            sentinel_username: config.sentinel_username.unwrap_or_default(),
            sentinel_password: String::new(),
            tls_ca_file: path(config.tls_ca_file),
            tls_cert_file: path(config.tls_cert_file),
            tls_key_file: path(config.tls_key_file),
            prefix: config.prefix,
            max_frame_bytes: count(config.max_frame_bytes),
            publish_queue_bytes: count(config.publish_queue_bytes),
            incoming_queue_bytes: count(config.incoming_queue_bytes),
            connect_timeout_ms: millis(config.connect_timeout),
            command_timeout_ms: millis(config.command_timeout),
            canary_interval_ms: millis(config.canary_interval),
            canary_timeout_ms: millis(config.canary_timeout),
            publish_grace_ms: millis(config.publish_grace),
            backoff_min_ms: millis(config.backoff_min),
            backoff_max_first_minute_ms: millis(config.backoff_max_first_minute),
            backoff_max_ms: millis(config.backoff_max),
            sync_timeout_ms: millis(config.sync_timeout),
            topology_interval_ms: millis(config.topology_interval),
            cluster_sharded: config.cluster_sharded,
        }
    }
}

/// What there is without a URL: the other keys have defaults too.
fn default_redis() -> RedisConfig {
    let anywhere: RedisUrl = "redis://localhost".parse().expect("a URL");
    RedisConfig::new(anywhere)
}

//! The sections of operation and of the cluster.

use std::path::PathBuf;

use sockhop::{ClusterConfig, DialectConfig, NodeDialectConfig, PythonDialectConfig};
use sockhop_redis::{RedisConfig, RedisUrl, Secret};

use super::{Checker, raw};
use crate::{Dialect, DrainConfig, PrivateConfig};

/// The text, unless it is empty.
fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

impl Checker {
    pub(super) fn drain(&mut self, drain: &raw::Drain) -> DrainConfig {
        let (grace, spread) = (drain.grace_ms, drain.spread_ms);
        if grace.saturating_add(spread) >= drain.deadline_ms {
            let text = format!("{} leaves no time after the others", drain.deadline_ms);
            self.fault("drain.deadline_ms", text);
        }
        DrainConfig {
            grace: self.time_or_none("drain.grace_ms", grace),
            spread: self.time_or_none("drain.spread_ms", spread),
            deadline: self.time("drain.deadline_ms", drain.deadline_ms),
        }
    }

    pub(super) fn private(&mut self, private: &raw::Private) -> PrivateConfig {
        let listen = self.address("private.listen", &private.listen);
        PrivateConfig {
            listen: listen.unwrap_or_else(|| PrivateConfig::default().listen),
            advertise: some(&private.advertise),
            secret: some(&private.secret).map(Secret::new),
            max_forwarded: self.any_number("private.max_forwarded", private.max_forwarded),
            connect_timeout: self.time("private.connect_timeout_ms", private.connect_timeout_ms),
        }
    }

    pub(super) fn cluster(&mut self, cluster: &raw::Cluster) -> ClusterConfig {
        if cluster.member_timeout_ms <= cluster.heartbeat_ms {
            let text = "it must be more than `cluster.heartbeat_ms`";
            self.fault("cluster.member_timeout_ms", text);
        }
        ClusterConfig {
            heartbeat: self.time("cluster.heartbeat_ms", cluster.heartbeat_ms),
            member_timeout: self.time("cluster.member_timeout_ms", cluster.member_timeout_ms),
            request_timeout: self.time("cluster.request_timeout_ms", cluster.request_timeout_ms),
            max_members: self.at_least_one("cluster.max_members", cluster.max_members),
            max_requests: self.any_number("cluster.max_requests", cluster.max_requests),
            max_served: self.any_number("cluster.max_served", cluster.max_served),
            max_topics_per_broadcast: self.at_least_one(
                "cluster.max_topics_per_broadcast",
                cluster.max_topics_per_broadcast,
            ),
            ..ClusterConfig::default()
        }
    }

    pub(super) fn dialects(&mut self, cluster: &raw::Cluster) -> DialectConfig {
        for (key, text) in [
            ("cluster.node_key", &cluster.node_key),
            ("cluster.python_channel", &cluster.python_channel),
        ] {
            if text.is_empty() {
                self.fault(key, "it must not be empty");
            }
        }
        let on = |dialect| cluster.dialects.contains(&dialect);
        DialectConfig {
            node: on(Dialect::Node).then(|| NodeDialectConfig {
                key: cluster.node_key.clone(),
                specific_responses: cluster.node_specific_responses,
                ..NodeDialectConfig::default()
            }),
            python: on(Dialect::Python).then(|| PythonDialectConfig {
                channel: cluster.python_channel.clone(),
                single_values: cluster.python_single_values,
                ..PythonDialectConfig::default()
            }),
        }
    }

    /// None without a URL, but the other keys are checked all the same.
    pub(super) fn redis(&mut self, redis: &raw::Redis) -> Option<RedisConfig> {
        let url = some(&redis.url).and_then(|url| {
            let parsed: Result<RedisUrl, _> = url.parse();
            let said = |error: &sockhop_redis::UrlError| self.fault("redis.url", error.to_string());
            parsed.inspect_err(said).ok()
        });
        if redis.canary_timeout_ms <= redis.canary_interval_ms {
            let text = "it must be more than `redis.canary_interval_ms`";
            self.fault("redis.canary_timeout_ms", text);
        }
        if redis.tls_cert_file.is_empty() != redis.tls_key_file.is_empty() {
            self.fault(
                "redis.tls_key_file",
                "it goes together with `redis.tls_cert_file`",
            );
        }
        let anywhere = || "redis://localhost".parse().expect("a URL");
        let has_url = url.is_some();
        let config = RedisConfig {
            username: some(&redis.username),
            password: some(&redis.password).map(Secret::new),
            sentinel_username: some(&redis.sentinel_username),
            sentinel_password: some(&redis.sentinel_password).map(Secret::new),
            tls_ca_file: some(&redis.tls_ca_file).map(PathBuf::from),
            tls_cert_file: some(&redis.tls_cert_file).map(PathBuf::from),
            tls_key_file: some(&redis.tls_key_file).map(PathBuf::from),
            prefix: redis.prefix.clone(),
            ..self.redis_limits(redis, url.unwrap_or_else(anywhere))
        };
        has_url.then_some(config)
    }

    fn redis_limits(&mut self, redis: &raw::Redis, url: RedisUrl) -> RedisConfig {
        RedisConfig {
            max_frame_bytes: self.at_least_one("redis.max_frame_bytes", redis.max_frame_bytes),
            publish_queue_bytes: self
                .at_least_one("redis.publish_queue_bytes", redis.publish_queue_bytes),
            incoming_queue_bytes: self
                .at_least_one("redis.incoming_queue_bytes", redis.incoming_queue_bytes),
            connect_timeout: self.time("redis.connect_timeout_ms", redis.connect_timeout_ms),
            command_timeout: self.time("redis.command_timeout_ms", redis.command_timeout_ms),
            canary_interval: self.time("redis.canary_interval_ms", redis.canary_interval_ms),
            canary_timeout: self.time("redis.canary_timeout_ms", redis.canary_timeout_ms),
            publish_grace: self.time_or_none("redis.publish_grace_ms", redis.publish_grace_ms),
            backoff_min: self.time("redis.backoff_min_ms", redis.backoff_min_ms),
            backoff_max_first_minute: self.time(
                "redis.backoff_max_first_minute_ms",
                redis.backoff_max_first_minute_ms,
            ),
            backoff_max: self.time("redis.backoff_max_ms", redis.backoff_max_ms),
            sync_timeout: self.time("redis.sync_timeout_ms", redis.sync_timeout_ms),
            topology_interval: self.time("redis.topology_interval_ms", redis.topology_interval_ms),
            cluster_sharded: redis.cluster_sharded,
            ..RedisConfig::new(url)
        }
    }
}

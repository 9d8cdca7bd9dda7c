//! What the bus takes, and its limits.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::RedisError;
use crate::url::{RedisUrl, Secret};

/// Where Redis is and how the bus behaves.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// Where Redis is. No default.
    pub url: RedisUrl,
    /// The ACL user, in place of the one in the URL. Default: none.
    pub username: Option<String>,
    /// The password, in place of the one in the URL. Default: none.
    pub password: Option<Secret>,
    /// The ACL user at the sentinels. Default: none.
    pub sentinel_username: Option<String>,
    /// The password at the sentinels. Default: none.
    pub sentinel_password: Option<Secret>,
    /// Certificates of the authorities that may sign the server's, in a PEM file.
    /// Default: those of the operating system.
    pub tls_ca_file: Option<PathBuf>,
    /// This node's certificate chain, in a PEM file, where the server asks for one. Default: none.
    pub tls_cert_file: Option<PathBuf>,
    /// The key of that certificate, in a PEM file. Default: none.
    pub tls_key_file: Option<PathBuf>,
    /// What the names of our channels begin with, so that several clusters can share one Redis.
    /// Default: `sockhop`. With braces, as in `{sockhop}`, all channels of a Redis Cluster are on one
    /// shard, which keeps their order.
    pub prefix: String,
    /// In a Redis Cluster: whether our channels are spread over the shards, which needs Redis 7.
    /// Otherwise every message goes to every server of the cluster. All nodes must agree.
    /// Default: true.
    pub cluster_sharded: bool,
    /// Bytes of one frame. A server cuts off subscribers for whom more than 8 MiB wait for a minute
    /// or 32 MiB at any time, so frames stay well below. Default: 4 MiB.
    pub max_frame_bytes: usize,
    /// Bytes that wait to be published, for each server. Default: 32 MiB.
    pub publish_queue_bytes: usize,
    /// Bytes that were received and wait to be taken, for the bus and for channels each.
    /// Default: 64 MiB.
    pub incoming_queue_bytes: usize,
    /// Until a connection is made and logged in. Default: 2 s.
    pub connect_timeout: Duration,
    /// How long a server may be silent while it owes an answer. Default: 2 s.
    pub command_timeout: Duration,
    /// Between two messages to oneself on each subscription connection. Default: 500 ms.
    pub canary_interval: Duration,
    /// The link is down when the last message to oneself is older than this. Default: 1.5 s.
    pub canary_timeout: Duration,
    /// How long after the loss of the publishing connection frames are still kept for the next
    /// one; after it they are refused. Default: 1 s.
    pub publish_grace: Duration,
    /// Wait before the first attempt to connect again; doubled after each, with jitter.
    /// Default: 50 ms.
    pub backoff_min: Duration,
    /// Longest wait between two attempts in the first minute of an outage. Default: 1 s, so that
    /// a restarted server is found at once.
    pub backoff_max_first_minute: Duration,
    /// Longest wait between two attempts after that. Default: 5 s.
    pub backoff_max: Duration,
    /// The bound of every wait for subscriptions. Default: 5 s.
    pub sync_timeout: Duration,
    /// Between two questions to the sentinels, or to the cluster, for changes. Default: 1 s.
    pub topology_interval: Duration,
}

impl RedisConfig {
    /// The defaults.
    #[must_use]
    pub fn new(url: RedisUrl) -> Self {
        Self {
            url,
            username: None,
            password: None,
            sentinel_username: None,
            sentinel_password: None,
            tls_ca_file: None,
            tls_cert_file: None,
            tls_key_file: None,
            prefix: "sockhop".to_owned(),
            cluster_sharded: true,
            max_frame_bytes: 4 << 20,
            publish_queue_bytes: 32 << 20,
            incoming_queue_bytes: 64 << 20,
            connect_timeout: Duration::from_secs(2),
            command_timeout: Duration::from_secs(2),
            canary_interval: Duration::from_millis(500),
            canary_timeout: Duration::from_millis(1500),
            publish_grace: Duration::from_secs(1),
            backoff_min: Duration::from_millis(50),
            backoff_max_first_minute: Duration::from_secs(1),
            backoff_max: Duration::from_secs(5),
            sync_timeout: Duration::from_secs(5),
            topology_interval: Duration::from_secs(1),
        }
    }
    /// Whether the times fit together.
    pub(crate) fn check(&self) -> Result<(), RedisError> {
        let times = [
            self.connect_timeout,
            self.command_timeout,
            self.canary_interval,
            self.backoff_min,
            self.topology_interval,
        ];
        // A millisecond is too short for all of them, and less could not be divided.
        if times.iter().any(|time| *time < Duration::from_millis(1)) {
            return Err(RedisError::Config("a time is shorter than a millisecond"));
        }
        if self.canary_timeout <= self.canary_interval {
            return Err(RedisError::Config(
                "the timeout of the canary must be longer than its interval",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> RedisConfig {
        RedisConfig::new("redis://app:hunter2@localhost".parse().unwrap())
    }

    #[test]
    fn passwords_show_in_no_debug_output() {
        let mut config = config();
        config.password = Some(Secret::new("hunter3"));
        config.sentinel_password = Some(Secret::new("hunter4"));
        assert!(!format!("{config:?}").contains("hunter"));
    }

    #[test]
    fn times_that_do_not_fit_together_are_refused() {
        assert!(config().check().is_ok());
        let mut late = config();
        late.canary_interval = late.canary_timeout;
        assert!(late.check().is_err());
        let mut hasty = config();
        hasty.command_timeout = Duration::ZERO;
        assert!(hasty.check().is_err());
    }
}

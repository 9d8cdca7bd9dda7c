//! The configuration as a file writes it: sections of keys with plain values.

mod cluster;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sockhop::Origins;
use sockhop::engine::Cookie;

use crate::telemetry::LogFormat;

use super::guard::{AdmissionSection, RatesSection};
use super::slow::SlowConsumersSection;
use crate::NodeConfig;
pub use cluster::Dialect;
pub(super) use cluster::{Cluster, Control, Drain, Private, Redis};

/// All sections. Deserialising wants every key: what nobody set is filled in from [`Raw::default`]
/// before, so that the defaults are those of [`NodeConfig`] and of nothing else.
///
/// *Units:* keys that end in `_ms` are milliseconds, those in `_bytes` are bytes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) server: Server,
    pub(super) session: Session,
    pub(super) cors: Cors,
    pub(super) cookie: CookieSection,
    pub(super) limits: Limits,
    pub(super) log: Log,
    pub(super) runtime: Runtime,
    pub(super) control: Control,
    pub(super) drain: Drain,
    pub(super) private: Private,
    pub(super) redis: Redis,
    pub(super) cluster: Cluster,
    pub(super) admission: AdmissionSection,
    pub(super) rates: RatesSection,
    pub(super) slow_consumers: SlowConsumersSection,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Server {
    pub(super) listen: String,
    pub(super) path: String,
    /// Empty: none.
    pub(super) client_dir: String,
    pub(super) header_timeout_ms: u64,
    pub(super) idle_timeout_ms: u64,
    pub(super) close_timeout_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Session {
    pub(super) ping_interval_ms: u64,
    pub(super) ping_timeout_ms: u64,
    pub(super) upgrade_timeout_ms: u64,
    pub(super) allow_eio3: bool,
    pub(super) allow_upgrades: bool,
    pub(super) polling: bool,
    pub(super) websocket: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cors {
    pub(super) origins: Vec<String>,
    pub(super) credentials: bool,
    pub(super) check_origin: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CookieSection {
    pub(super) enabled: bool,
    pub(super) name: String,
    pub(super) path: String,
    pub(super) same_site: String,
    pub(super) http_only: bool,
    pub(super) secure: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) max_sessions: u64,
    pub(super) max_payload_bytes: u64,
    pub(super) max_fragments: u64,
    pub(super) max_packets_per_post: u64,
    pub(super) max_packets_per_body: u64,
    pub(super) outbox_bytes: u64,
    pub(super) max_attachments: u64,
    pub(super) max_packet_bytes: u64,
    pub(super) attachment_timeout_ms: u64,
    pub(super) max_namespaces: u64,
    pub(super) max_name_bytes: u64,
    pub(super) max_pending_acks: u64,
    pub(super) max_rooms_per_socket: u64,
    pub(super) max_room_name_bytes: u64,
    pub(super) max_pending_handlers: u64,
    pub(super) max_dynamic_namespaces: u64,
    pub(super) connect_timeout_ms: u64,
    pub(super) session_close_timeout_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Log {
    pub(super) filter: String,
    pub(super) format: LogFormat,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Runtime {
    /// 0: one for each core.
    pub(super) workers: u64,
}

impl Default for Raw {
    fn default() -> Self {
        Self::from(&NodeConfig::default())
    }
}

impl From<&NodeConfig> for Raw {
    fn from(config: &NodeConfig) -> Self {
        let engine = &config.engine;
        let session = &engine.session;
        let dir = config.client_dir.clone().unwrap_or_default();
        Self {
            server: Server {
                listen: config.listen.to_string(),
                path: engine.path.clone(),
                client_dir: dir.to_string_lossy().into_owned(),
                header_timeout_ms: millis(config.header_timeout),
                idle_timeout_ms: millis(config.idle_timeout),
                close_timeout_ms: millis(config.close_timeout),
            },
            session: Session {
                ping_interval_ms: millis(session.ping_interval),
                ping_timeout_ms: millis(session.ping_timeout),
                upgrade_timeout_ms: millis(session.upgrade_timeout),
                allow_eio3: engine.allow_v3,
                allow_upgrades: session.allow_upgrades,
                polling: engine.polling,
                websocket: engine.websocket,
            },
            cors: Cors {
                origins: match &engine.cors.origins {
                    // A function cannot be written down; a file never makes one.
                    Origins::Off | Origins::Predicate(_) => Vec::new(),
                    Origins::Any => vec!["*".to_owned()],
                    Origins::List(list) => list.clone(),
                },
                credentials: engine.cors.credentials,
                check_origin: engine.check_origin,
            },
            cookie: CookieSection::from(engine.cookie.as_ref()),
            limits: Limits::from(config),
            log: Log {
                filter: config.log_filter.clone(),
                format: config.log_format,
            },
            runtime: Runtime {
                workers: config.workers.map_or(0, |workers| count(workers.get())),
            },
            control: Control {
                listen: or_empty(config.control.as_ref()),
            },
            drain: Drain::from(&config.drain),
            private: Private::from(&config.private),
            redis: Redis::from(config.redis.as_ref()),
            cluster: Cluster::from(config),
            // Without limits there is nothing to read back; a node is only made from a section.
            admission: AdmissionSection::default(),
            rates: RatesSection::default(),
            slow_consumers: SlowConsumersSection::default(),
        }
    }
}

impl From<Option<&Cookie>> for CookieSection {
    fn from(cookie: Option<&Cookie>) -> Self {
        let enabled = cookie.is_some();
        let cookie = cookie.cloned().unwrap_or_default();
        Self {
            enabled,
            name: cookie.name,
            path: cookie.path,
            same_site: cookie.same_site,
            http_only: cookie.http_only,
            secure: cookie.secure,
        }
    }
}

impl From<&NodeConfig> for Limits {
    fn from(config: &NodeConfig) -> Self {
        let engine = &config.engine;
        let session = &engine.session;
        let server = &config.server;
        let client = &server.limits;
        Self {
            max_sessions: count(engine.max_sessions),
            max_payload_bytes: count(session.max_payload),
            max_fragments: count(engine.max_fragments),
            max_packets_per_post: count(session.max_packets_per_post),
            max_packets_per_body: count(session.max_packets_per_body),
            outbox_bytes: count(engine.outbox_bytes),
            max_attachments: count(client.max_attachments),
            max_packet_bytes: count(client.max_packet_bytes),
            attachment_timeout_ms: millis(client.attachment_timeout),
            max_namespaces: count(client.max_namespaces),
            max_name_bytes: count(client.max_name_bytes),
            max_pending_acks: count(client.max_pending_acks),
            max_rooms_per_socket: count(server.max_rooms_per_socket),
            max_room_name_bytes: count(server.max_room_name_bytes),
            max_pending_handlers: count(server.max_pending_handlers),
            max_dynamic_namespaces: count(server.max_dynamic_namespaces),
            connect_timeout_ms: millis(server.connect_timeout),
            session_close_timeout_ms: millis(session.close_timeout),
        }
    }
}

fn or_empty(value: Option<&impl ToString>) -> String {
    value.map_or_else(String::new, ToString::to_string)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

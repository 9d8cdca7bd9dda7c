//! From what a file says to what a node takes, or to all that is wrong with it.

mod cluster;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use sockhop::engine::Cookie;
use sockhop::{Cors, EngineConfig, Origins, ServerConfig};
use tracing_subscriber::EnvFilter;

use super::raw::{self, Raw};
use super::{Fault, Faults};
use crate::NodeConfig;

/// The longest time: browsers and Node.js cannot set a longer timer, and take it for none.
const MAX_MS: u64 = i32::MAX as u64;

/// More threads than any machine of today has use for.
const MAX_WORKERS: u64 = 1024;

/// Turns `raw` into a configuration.
///
/// # Errors
/// Every fault, not only the first.
pub(super) fn check(raw: &Raw) -> Result<NodeConfig, Faults> {
    let mut checker = Checker::default();
    let config = checker.node(raw);
    checker.transports(&raw.session);
    if checker.faults.is_empty() {
        Ok(config)
    } else {
        Err(Faults(checker.faults))
    }
}

/// Collects faults. A value with a fault is replaced by some other one, so that the check goes on.
#[derive(Debug, Default)]
pub(super) struct Checker {
    faults: Vec<Fault>,
}

impl Checker {
    pub(super) fn fault(&mut self, key: &str, text: impl Into<String>) {
        self.faults.push(Fault::new(key, text));
    }

    fn node(&mut self, raw: &Raw) -> NodeConfig {
        let server = &raw.server;
        let listen = self.address("server.listen", &server.listen);
        let control = &raw.control.listen;
        if let Err(error) = EnvFilter::try_new(&raw.log.filter) {
            self.fault("log.filter", error.to_string());
        }
        let workers = self.number("runtime.workers", raw.runtime.workers, 0..=MAX_WORKERS);
        let dir = &server.client_dir;
        NodeConfig {
            listen: listen.unwrap_or_else(|| NodeConfig::default().listen),
            client_dir: (!dir.is_empty()).then(|| PathBuf::from(dir)),
            header_timeout: self.time("server.header_timeout_ms", server.header_timeout_ms),
            idle_timeout: self.time("server.idle_timeout_ms", server.idle_timeout_ms),
            close_timeout: self.time_or_none("server.close_timeout_ms", server.close_timeout_ms),
            engine: self.engine(raw),
            server: self.server(raw),
            log_filter: raw.log.filter.clone(),
            log_format: raw.log.format,
            workers: NonZeroUsize::new(workers),
            drain: self.drain(&raw.drain),
            clients: self.clients(&raw.admission),
            control: (!control.is_empty())
                .then(|| self.address("control.listen", control))
                .flatten(),
            private: self.private(&raw.private),
            redis: self.redis(&raw.redis),
            cluster: self.cluster(&raw.cluster),
            dialects: self.dialects(&raw.cluster),
        }
    }

    fn engine(&mut self, raw: &Raw) -> EngineConfig {
        let (session, limits) = (&raw.session, &raw.limits);
        let mut engine = EngineConfig {
            path: self.path(&raw.server.path),
            polling: session.polling,
            websocket: session.websocket,
            allow_v3: session.allow_eio3,
            cors: self.cors(&raw.cors),
            check_origin: raw.cors.check_origin,
            admission: self.admission(&raw.admission),
            memory: self.memory(&raw.admission),
            rates: self.rates(&raw.rates),
            cookie: self.cookie(&raw.cookie),
            max_sessions: self.at_least_one("limits.max_sessions", limits.max_sessions),
            max_fragments: self.at_least_one("limits.max_fragments", limits.max_fragments),
            outbox_bytes: self.at_least_one("limits.outbox_bytes", limits.outbox_bytes),
            ..EngineConfig::default()
        };
        let out = &mut engine.session;
        out.allow_upgrades = session.allow_upgrades && session.websocket;
        out.ping_interval = self.time("session.ping_interval_ms", session.ping_interval_ms);
        out.ping_timeout = self.time("session.ping_timeout_ms", session.ping_timeout_ms);
        out.upgrade_timeout = self.time("session.upgrade_timeout_ms", session.upgrade_timeout_ms);
        out.close_timeout = self.time_or_none(
            "limits.session_close_timeout_ms",
            limits.session_close_timeout_ms,
        );
        out.max_payload = self.at_least_one("limits.max_payload_bytes", limits.max_payload_bytes);
        out.max_packets_per_post =
            self.at_least_one("limits.max_packets_per_post", limits.max_packets_per_post);
        out.max_packets_per_body =
            self.at_least_one("limits.max_packets_per_body", limits.max_packets_per_body);
        engine
    }

    fn server(&mut self, raw: &Raw) -> ServerConfig {
        let limits = &raw.limits;
        let (slow_consumers, slow_consumers_of) = self.slow_consumers(&raw.slow_consumers);
        let mut server = ServerConfig {
            connect_timeout: self.time("limits.connect_timeout_ms", limits.connect_timeout_ms),
            max_rooms_per_socket: self
                .any_number("limits.max_rooms_per_socket", limits.max_rooms_per_socket),
            max_room_name_bytes: self
                .at_least_one("limits.max_room_name_bytes", limits.max_room_name_bytes),
            max_pending_handlers: self
                .at_least_one("limits.max_pending_handlers", limits.max_pending_handlers),
            max_dynamic_namespaces: self.any_number(
                "limits.max_dynamic_namespaces",
                limits.max_dynamic_namespaces,
            ),
            slow_consumers,
            slow_consumers_of,
            ..ServerConfig::default()
        };
        let out = &mut server.limits;
        out.max_attachments = self.any_number("limits.max_attachments", limits.max_attachments);
        out.max_packet_bytes =
            self.at_least_one("limits.max_packet_bytes", limits.max_packet_bytes);
        out.attachment_timeout =
            self.time("limits.attachment_timeout_ms", limits.attachment_timeout_ms);
        out.max_namespaces = self.at_least_one("limits.max_namespaces", limits.max_namespaces);
        out.max_name_bytes = self.at_least_one("limits.max_name_bytes", limits.max_name_bytes);
        out.max_pending_acks = self.any_number("limits.max_pending_acks", limits.max_pending_acks);
        server
    }

    /// What says something only about several keys together.
    fn transports(&mut self, session: &raw::Session) {
        if !session.polling && !session.websocket {
            let text = "without polling and without WebSocket nobody can connect";
            self.fault("session.websocket", text);
        }
        // Clients wait for a ping for the sum of the two, by one timer.
        let each_fits = session.ping_interval_ms.max(session.ping_timeout_ms) <= MAX_MS;
        if each_fits && session.ping_interval_ms + session.ping_timeout_ms > MAX_MS {
            let text = format!("with `session.ping_interval_ms` it is more than {MAX_MS}");
            self.fault("session.ping_timeout_ms", text);
        }
    }

    fn address(&mut self, key: &str, text: &str) -> Option<SocketAddr> {
        let address = text.parse().ok();
        if address.is_none() {
            self.fault(key, format!("`{text}` is not an address and a port"));
        }
        address
    }

    fn path(&mut self, path: &str) -> String {
        let plain = |c: char| c.is_ascii_graphic() && !"?#".contains(c);
        if !path.starts_with('/') || !path.chars().all(plain) {
            let text = format!("`{path}` is not a path: it begins with `/` and has no `?`, `#`");
            self.fault("server.path", text);
        }
        path.to_owned()
    }

    fn cors(&mut self, cors: &raw::Cors) -> Cors {
        for origin in cors.origins.iter().filter(|origin| !is_origin(origin)) {
            let text = format!("`{origin}` is neither `*` nor `scheme://host[:port]`");
            self.fault("cors.origins", text);
        }
        if cors.credentials && cors.origins.is_empty() {
            self.fault(
                "cors.credentials",
                "without `cors.origins` it means nothing",
            );
        }
        let origins = if cors.origins.is_empty() {
            Origins::Off
        } else if cors.origins.iter().any(|origin| origin == "*") {
            Origins::Any
        } else {
            Origins::List(cors.origins.clone())
        };
        Cors {
            origins,
            credentials: cors.credentials,
        }
    }

    fn cookie(&mut self, cookie: &raw::CookieSection) -> Option<Cookie> {
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if cookie.name.is_empty() || !cookie.name.chars().all(token) {
            let text = format!("`{}` is not a name of a cookie", cookie.name);
            self.fault("cookie.name", text);
        }
        let plain = |c: char| c.is_ascii_graphic() && c != ';';
        if !(cookie.path.is_empty() || cookie.path.starts_with('/'))
            || !cookie.path.chars().all(plain)
        {
            let text = format!("`{}` is neither empty nor a path", cookie.path);
            self.fault("cookie.path", text);
        }
        match cookie.same_site.as_str() {
            "" | "Lax" | "Strict" => {}
            "None" if cookie.secure => {}
            "None" => self.fault("cookie.same_site", "`None` needs `cookie.secure`"),
            other => {
                let text = format!("`{other}` is none of `Lax`, `Strict`, `None` and empty");
                self.fault("cookie.same_site", text);
            }
        }
        cookie.enabled.then(|| Cookie {
            name: cookie.name.clone(),
            path: cookie.path.clone(),
            http_only: cookie.http_only,
            same_site: cookie.same_site.clone(),
            secure: cookie.secure,
            max_age_s: None,
        })
    }

    fn time(&mut self, key: &str, value: u64) -> Duration {
        self.within(key, value, 1..=MAX_MS);
        Duration::from_millis(value)
    }

    fn time_or_none(&mut self, key: &str, value: u64) -> Duration {
        self.within(key, value, 0..=MAX_MS);
        Duration::from_millis(value)
    }

    pub(super) fn at_least_one(&mut self, key: &str, value: u64) -> usize {
        self.number(key, value, 1..=u64::MAX)
    }

    pub(super) fn any_number(&mut self, key: &str, value: u64) -> usize {
        self.number(key, value, 0..=u64::MAX)
    }

    fn number(&mut self, key: &str, value: u64, range: RangeInclusive<u64>) -> usize {
        self.within(key, value, range);
        // More than there are addresses is no limit, and neither is the largest number.
        usize::try_from(value).unwrap_or(usize::MAX)
    }

    fn within(&mut self, key: &str, value: u64, range: RangeInclusive<u64>) {
        let (least, most) = (range.start(), range.end());
        if value < *least {
            self.fault(key, format!("{value} is too small, the least is {least}"));
        } else if value > *most {
            self.fault(key, format!("{value} is too large, the most is {most}"));
        }
    }
}

/// Whether browsers could send this as their `Origin`, or it means all of them.
fn is_origin(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_graphic() && !"/?#@,*".contains(c);
    matches!(text, "*" | "null")
        || text.split_once("://").is_some_and(|(scheme, host)| {
            !scheme.is_empty() && !host.is_empty() && format!("{scheme}{host}").chars().all(plain)
        })
}

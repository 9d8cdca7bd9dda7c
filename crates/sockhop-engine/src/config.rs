//! What can be configured about a mount of the engine, and every limit with its default.

use std::fmt;
use std::sync::Arc;

use engineio_proto::SessionConfig;
use http::request::Parts;

use crate::admission::Admission;
use crate::cors::Cors;
use crate::memory::MemoryBudget;
use crate::rate::SessionRates;

/// Decides about a handshake before a session is allocated; see [`EngineConfig::allow_request`].
pub type AllowRequest = Arc<dyn Fn(&Parts) -> Result<(), Forbidden> + Send + Sync>;

/// Why a handshake is refused: the message of the answer with code 4.
#[derive(Clone, Debug)]
pub struct Forbidden(pub String);

/// Configuration of one mount: a path and the sessions under it.
#[derive(Clone)]
pub struct EngineConfig {
    /// Where requests arrive, with its trailing slash. Default `/socket.io/`.
    pub path: String,
    /// Heartbeat, deadlines and payload limits of the sessions.
    pub session: SessionConfig,
    /// Whether `transport=polling` is served. Default true.
    pub polling: bool,
    /// Whether `transport=websocket` is served. Default true.
    pub websocket: bool,
    /// Whether clients of `EIO=3` (socket.io-client 1.x and 2.x) are served. Default true.
    pub allow_v3: bool,
    /// Which pages of other origins may read answers. Default: none.
    pub cors: Cors,
    /// The cookie that answers a polling handshake. Default: none.
    pub cookie: Option<Cookie>,
    /// Polling bodies of at least this many bytes are compressed when the client accepts it;
    /// `None` turns compression off. Default 1024.
    pub compression_threshold_bytes: Option<usize>,
    /// Bytes that may wait for one session before it is closed as a slow consumer. Default 1 MiB.
    pub outbox_bytes: usize,
    /// Sessions open at once under this mount; more handshakes are answered 503. Default 100,000.
    pub max_sessions: usize,
    /// Fragments of one WebSocket message, empty ones included. Default 1,024.
    pub max_fragments: usize,
    /// Asked about every handshake before anything is allocated; an error answers 403, code 4
    /// (400 to a WebSocket). Default: everybody may.
    pub allow_request: Option<AllowRequest>,
    /// Whether a WebSocket of a page of another origin is refused unless `cors` allows the origin;
    /// polling needs no such rule, since browsers keep the answers from such pages. Default true.
    pub check_origin: bool,
    /// How many sessions may be opened, in all and by one address. Default: as many as come.
    pub admission: Option<Admission>,
    /// What one session may send. Default: no limit.
    pub rates: SessionRates,
    /// What may wait for all clients together. Default: as much as each may have by itself.
    pub memory: Option<MemoryBudget>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            path: "/socket.io/".to_owned(),
            session: SessionConfig::default(),
            polling: true,
            websocket: true,
            allow_v3: true,
            cors: Cors::default(),
            cookie: None,
            compression_threshold_bytes: Some(1024),
            outbox_bytes: 1 << 20,
            max_sessions: 100_000,
            max_fragments: 1024,
            allow_request: None,
            check_origin: true,
            admission: None,
            rates: SessionRates::default(),
            memory: None,
        }
    }
}

impl fmt::Debug for EngineConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineConfig")
            .field("path", &self.path)
            .field("session", &self.session)
            .field("cors", &self.cors)
            .field("cookie", &self.cookie)
            .field("outbox_bytes", &self.outbox_bytes)
            .field("max_sessions", &self.max_sessions)
            .finish_non_exhaustive()
    }
}

/// The cookie of a polling handshake. Sticky balancers read it, the server never does.
#[derive(Clone, Debug)]
pub struct Cookie {
    /// Default `io`.
    pub name: String,
    /// `Path` attribute; none when empty. Default `/`.
    pub path: String,
    /// `HttpOnly` attribute. Default true.
    pub http_only: bool,
    /// `SameSite` attribute; none when empty. Default `Lax`.
    pub same_site: String,
    /// `Secure` attribute. Default false.
    pub secure: bool,
    /// `Max-Age` in seconds. Default: a session cookie.
    pub max_age_s: Option<u64>,
}

impl Default for Cookie {
    fn default() -> Self {
        Self {
            name: "io".to_owned(),
            path: "/".to_owned(),
            http_only: true,
            same_site: "Lax".to_owned(),
            secure: false,
            max_age_s: None,
        }
    }
}

impl Cookie {
    /// The value of the `Set-Cookie` header that carries `value`.
    #[must_use]
    pub fn header(&self, value: &str) -> String {
        let mut header = format!("{}={value}", self.name);
        if !self.path.is_empty() {
            header.push_str("; Path=");
            header.push_str(&self.path);
        }
        if let Some(max_age_s) = self.max_age_s {
            header.push_str(&format!("; Max-Age={max_age_s}"));
        }
        if self.http_only {
            header.push_str("; HttpOnly");
        }
        if self.secure {
            header.push_str("; Secure");
        }
        if !self.same_site.is_empty() {
            header.push_str("; SameSite=");
            header.push_str(&self.same_site);
        }
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_cookie_is_the_one_balancers_know() {
        assert_eq!(
            Cookie::default().header("abc"),
            "io=abc; Path=/; HttpOnly; SameSite=Lax"
        );
    }
}

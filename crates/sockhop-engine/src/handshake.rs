//! The first request of a session, kept in little memory for as long as the session lives.

use std::fmt;
use std::net::SocketAddr;
use std::time::SystemTime;

use http::request::Parts;

use crate::head::Head;

/// The address of the peer, put into the extensions of a request by whoever accepted it.
#[derive(Clone, Copy, Debug)]
pub struct PeerAddress(pub SocketAddr);

/// Marks a request that arrived over TLS; put into its extensions by whoever accepted it.
#[derive(Clone, Copy, Debug)]
pub struct Secure;

/// The first request of a session: URL, headers, address, time.
///
/// *Shape:* two strings. The headers are copied out of the connection's read buffer, which they
/// would otherwise keep alive.
pub struct Handshake {
    url: Box<str>,
    /// `name: value` lines.
    headers: Box<str>,
    address: Option<SocketAddr>,
    secure: bool,
    issued: SystemTime,
}

impl Handshake {
    /// Copies what is worth keeping of a request's head.
    #[must_use]
    pub fn new(parts: &Parts, issued: SystemTime) -> Self {
        Self::of(Head::Parsed(parts), issued)
    }

    pub(crate) fn of(head: Head<'_>, issued: SystemTime) -> Self {
        Self {
            url: head.url().into(),
            headers: head.lines().into(),
            address: head.address(),
            secure: head.is_secure(),
            issued,
        }
    }

    /// Path and query as requested.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The decoded pairs of the query, in order, the protocol's own (`EIO`, `transport`, …) included.
    pub fn query(&self) -> impl Iterator<Item = (String, String)> {
        let query = self.url.split_once('?').map_or("", |(_, query)| query);
        form_urlencoded::parse(query.as_bytes()).into_owned()
    }

    /// The first query parameter of this name, decoded.
    #[must_use]
    pub fn query_value(&self, name: &str) -> Option<String> {
        self.query()
            .find_map(|(key, value)| (key == name).then_some(value))
    }

    /// All headers in order; names in lower case, bytes that are not UTF-8 replaced.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers
            .lines()
            .filter_map(|line| line.split_once(": "))
    }

    /// The first header of this name, which is matched without regard to case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers()
            .find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value))
    }

    /// Whether the request came from a page of another origin than the host it asked.
    #[must_use]
    pub fn cross_origin(&self) -> bool {
        let host = self.header("host").unwrap_or_default();
        self.header("origin").is_some_and(|origin| {
            origin
                .split_once("://")
                .is_none_or(|(_, from)| from != host)
        })
    }

    /// The peer's address, where the acceptor told it.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Whether the request arrived over TLS.
    #[must_use]
    pub fn secure(&self) -> bool {
        self.secure
    }

    /// When the request arrived.
    #[must_use]
    pub fn issued(&self) -> SystemTime {
        self.issued
    }
}

impl fmt::Debug for Handshake {
    /// Without headers and query, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake")
            .field("path", &self.url.split('?').next().unwrap_or_default())
            .field("address", &self.address)
            .field("secure", &self.secure)
            .field("issued", &self.issued)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handshake(headers: &[(&str, &str)]) -> Handshake {
        let mut request = http::Request::builder().uri("/socket.io/?EIO=4&token=a%20b");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        Handshake::new(&parts, SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn headers_and_query_are_readable_by_name() {
        let handshake = handshake(&[("X-Token", "secret"), ("Host", "example.com:80")]);
        assert_eq!(handshake.header("x-token"), Some("secret"));
        assert_eq!(handshake.header("X-TOKEN"), Some("secret"));
        assert_eq!(handshake.query_value("token").as_deref(), Some("a b"));
        assert_eq!(handshake.header("missing"), None);
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let text = format!("{:?}", handshake(&[("Authorization", "secret")]));
        assert!(
            !text.contains("secret") && !text.contains("token"),
            "{text}"
        );
    }

    #[test]
    fn another_origin_is_noticed() {
        assert!(!handshake(&[("Host", "a"), ("Origin", "http://a")]).cross_origin());
        assert!(handshake(&[("Host", "a"), ("Origin", "http://b")]).cross_origin());
        assert!(!handshake(&[("Host", "a")]).cross_origin());
    }
}

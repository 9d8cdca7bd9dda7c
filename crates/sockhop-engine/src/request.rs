//! What a request's query and headers say, checked in the order that clients expect.

use std::borrow::Cow;

use engineio_proto::{PollingPeer, ProtocolVersion, RequestError, SessionId, Transport};
use http::header;
use memchr::{memchr, memchr_iter, memchr2};

use crate::EngineConfig;
use crate::head::{self, Head};

/// The protocol's own parameters of a query string; the first of a name counts.
#[derive(Debug)]
pub(crate) struct Query {
    pub(crate) version: Result<ProtocolVersion, RequestError>,
    pub(crate) transport: Transport,
    pub(crate) sid: Option<SessionId>,
    pub(crate) peer: PollingPeer,
}

impl Query {
    /// Reads and checks: transport, origin, session id.
    ///
    /// # Errors
    /// What the request is to be refused with. The version is judged last, and by the caller.
    pub(crate) fn parse(head: Head<'_>, config: &EngineConfig) -> Result<Self, RequestError> {
        let raw = RawQuery::parse(head.query());
        let transport = match raw.transport.as_deref() {
            Some("polling") if config.polling => Transport::Polling,
            Some("websocket") if config.websocket => Transport::WebSocket,
            _ => return Err(RequestError::TransportUnknown),
        };
        if !head.origin().is_none_or(head::is_text) {
            return Err(RequestError::BadRequest);
        }
        let sid = raw
            .sid
            .map(|sid| SessionId::parse(&sid).ok_or(RequestError::SessionUnknown))
            .transpose()?;
        let version = match raw.eio.as_deref() {
            Some("4") => Ok(ProtocolVersion::V4),
            Some("3") if config.allow_v3 => Ok(ProtocolVersion::V3),
            _ => Err(RequestError::UnsupportedProtocol),
        };
        let peer = PollingPeer {
            supports_binary: !raw.b64,
            // Of interest when the session is opened, and a search through all headers.
            counts_utf16: sid.is_some() || !is_python(head),
            jsonp: raw.jsonp,
        };
        Ok(Self {
            version,
            transport,
            sid,
            peer,
        })
    }
}

/// Whether the client is one of python-engineio's, by the name of the HTTP library under it.
fn is_python(head: Head<'_>) -> bool {
    let agent = head.text(&header::USER_AGENT);
    agent.is_some_and(|agent| agent.starts_with("python-requests") || agent.contains("aiohttp"))
}

#[derive(Default)]
struct RawQuery<'a> {
    eio: Option<Cow<'a, str>>,
    transport: Option<Cow<'a, str>>,
    sid: Option<Cow<'a, str>>,
    jsonp: Option<u32>,
    b64: bool,
}

impl<'a> RawQuery<'a> {
    fn parse(query: &'a str) -> Self {
        let bytes = query.as_bytes();
        if memchr2(b'%', b'+', bytes).is_some() {
            // Clients rarely write anything that needs decoding.
            return Self::decode(query);
        }
        let mut raw = Self::default();
        let mut begin = 0;
        for end in memchr_iter(b'&', bytes).chain([bytes.len()]) {
            raw.take_pair(&query[begin..end]);
            begin = end + 1;
        }
        raw
    }

    fn decode(query: &'a str) -> Self {
        let mut raw = Self::default();
        form_urlencoded::parse(query.as_bytes()).for_each(|(name, value)| raw.take(&name, value));
        raw
    }

    /// Takes a pair, whose name ends where the first equals sign is.
    fn take_pair(&mut self, pair: &'a str) {
        match memchr(b'=', pair.as_bytes()) {
            Some(equals) => self.take(&pair[..equals], pair[equals + 1..].into()),
            None => self.take(pair, "".into()),
        }
    }

    fn take(&mut self, name: &str, value: Cow<'a, str>) {
        let slot = match name {
            "EIO" => &mut self.eio,
            "transport" => &mut self.transport,
            "sid" => &mut self.sid,
            "b64" => {
                self.b64 = !value.is_empty();
                return;
            }
            "j" => {
                self.jsonp = self.jsonp.or_else(|| Some(digits(&value)));
                return;
            }
            _ => return,
        };
        slot.get_or_insert(value);
    }
}

/// The number that the digits of a callback index make; other characters are left out.
fn digits(text: &str) -> u32 {
    text.bytes()
        .filter(u8::is_ascii_digit)
        .fold(0_u32, |number, digit| {
            number
                .wrapping_mul(10)
                .wrapping_add(u32::from(digit - b'0'))
        })
}

/// Whether the request asks to become a WebSocket, and with which key.
pub(crate) fn websocket_key(head: Head<'_>) -> Option<&[u8]> {
    let has = |name: &header::HeaderName, token: &str| {
        head.any(name, |value| {
            let mut parts = value.as_bytes().split(|byte| *byte == b',');
            parts.any(|part| part.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
        })
    };
    let version = head.websocket_version()?;
    let key = head.header(&header::SEC_WEBSOCKET_KEY)?;
    let upgrades = has(&header::UPGRADE, "websocket") && has(&header::CONNECTION, "upgrade");
    (upgrades && version == b"13").then_some(key)
}

/// The encodings of an answer that both ends know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    Gzip,
    Deflate,
}

impl Compression {
    /// What a client accepts that says so in this header; gzip first.
    pub(crate) fn accepted(accept_encoding: &[u8]) -> Option<Self> {
        let value = head::text(accept_encoding)?;
        let accepts = |name: &str| {
            value.split(',').any(|part| {
                let (coding, quality) = part.split_once(';').unwrap_or((part, ""));
                let refused = matches!(quality.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000");
                coding.trim().eq_ignore_ascii_case(name) && !refused
            })
        };
        if accepts("gzip") {
            Some(Self::Gzip)
        } else if accepts("deflate") {
            Some(Self::Deflate)
        } else {
            None
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(query: &str) -> Result<Query, RequestError> {
        let request = http::Request::builder()
            .uri(format!("/?{query}"))
            .body(())
            .unwrap();
        Query::parse(
            Head::Parsed(&request.into_parts().0),
            &EngineConfig::default(),
        )
    }

    #[test]
    fn the_transport_is_judged_before_the_session_id() {
        assert_eq!(query("sid=x").unwrap_err(), RequestError::TransportUnknown);
        assert_eq!(
            query("transport=constructor").unwrap_err(),
            RequestError::TransportUnknown
        );
        assert_eq!(
            query("transport=polling&sid=x").unwrap_err(),
            RequestError::SessionUnknown
        );
        assert_eq!(
            query("transport=polling&sid=__proto__").unwrap_err(),
            RequestError::SessionUnknown
        );
    }

    #[test]
    fn a_missing_or_unknown_version_is_unsupported() {
        for version in ["", "EIO=5&", "EIO=&", "EIO=44&", "EIO=%00&"] {
            let query = query(&format!("{version}transport=polling")).unwrap();
            assert_eq!(
                query.version,
                Err(RequestError::UnsupportedProtocol),
                "{version}"
            );
        }
        assert_eq!(
            query("EIO=3&transport=polling").unwrap().version,
            Ok(ProtocolVersion::V3)
        );
    }

    #[test]
    fn parameters_are_decoded() {
        let query = query("%45IO=%34&transport=poll%69ng&x=+&&transport=websocket").unwrap();
        assert_eq!(query.version, Ok(ProtocolVersion::V4));
        assert_eq!(query.transport, Transport::Polling);
        assert_eq!(query.sid, None);
    }

    #[test]
    fn only_the_digits_of_a_callback_index_count() {
        assert_eq!(
            query("transport=polling&j=1x2").unwrap().peer.jsonp,
            Some(12)
        );
        assert_eq!(query("transport=polling").unwrap().peer.jsonp, None);
        assert_eq!(
            query("transport=polling&j=alert(1)").unwrap().peer.jsonp,
            Some(1)
        );
    }

    #[test]
    fn an_upgrade_needs_all_of_its_headers() {
        let (mut parts, ()) = http::Request::new(()).into_parts();
        for (name, value) in [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "abc"),
        ] {
            assert_eq!(websocket_key(Head::Parsed(&parts)), None);
            parts.headers.insert(name, value.parse().unwrap());
        }
        assert_eq!(websocket_key(Head::Parsed(&parts)), Some(&b"abc"[..]));
    }

    #[test]
    fn a_refused_encoding_is_not_used() {
        let accepted = |value: &str| Compression::accepted(value.as_bytes());
        assert_eq!(accepted("deflate, gzip"), Some(Compression::Gzip));
        assert_eq!(accepted("gzip;q=0, deflate"), Some(Compression::Deflate));
        assert_eq!(accepted("br"), None);
    }
}

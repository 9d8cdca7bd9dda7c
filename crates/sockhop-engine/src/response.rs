//! Answers: bodies of polls, errors in the form that clients expect, compression.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use engineio_proto::{BodyKind, RequestError, payload};
use flate2::write::{GzEncoder, ZlibEncoder};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;
use tungstenite::handshake::derive_accept_key;

use crate::admission::Unadmitted;
use crate::head::Head;
use crate::request::Compression;

/// The body of every answer: complete from the start.
pub type Body = Full<Bytes>;

const TEXT: &str = "text/plain; charset=UTF-8";
const OCTETS: &str = "application/octet-stream";
const JSON: &str = "application/json";
const HTML: &str = "text/html";
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Speed over ratio: bodies are small and many.
const LEVEL: flate2::Compression = flate2::Compression::new(1);

/// Headers of an answer that not every answer has; no name twice.
pub(crate) type Headers = Vec<(HeaderName, HeaderValue)>;

/// The answer to a request, before it is written in one way or another.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// Empty: there is no body to be of a type.
    content_type: &'static str,
    /// Nobody may keep a copy.
    no_store: bool,
    /// The rest of the request is not read, so the connection ends.
    closes: bool,
    /// What only some answers have.
    pub(crate) more: Headers,
    body: Bytes,
}

impl Answer {
    /// An answer without a body.
    pub(crate) fn empty(status: StatusCode) -> Self {
        Self {
            status,
            content_type: "",
            no_store: false,
            closes: false,
            more: Vec::new(),
            body: Bytes::new(),
        }
    }

    fn new(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self {
            content_type,
            body: body.into(),
            ..Self::empty(status)
        }
    }

    /// Adds headers of other names.
    pub(crate) fn and(mut self, headers: Headers) -> Self {
        if self.more.is_empty() {
            self.more = headers;
        } else {
            self.more.extend(headers);
        }
        self
    }

    fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.more.push((name, value));
        self
    }

    /// The answer for an HTTP library. `map` is where its headers go: hyper reads the next request
    /// into the map of the last answer, so the map of the request is best, which has room for it.
    pub(crate) fn into_response(self, mut map: HeaderMap) -> Response<Body> {
        map.clear();
        if !self.content_type.is_empty() {
            let content_type = HeaderValue::from_static(self.content_type);
            map.insert(header::CONTENT_TYPE, content_type);
        }
        if self.no_store {
            map.insert(header::CACHE_CONTROL, NO_STORE);
        }
        if self.closes {
            map.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        map.extend(self.more);
        let mut response = Response::new(Full::new(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = map;
        response
    }
}

/// The refusal of a request: JSON with the numeric code, or text to a WebSocket client.
pub(crate) fn error(error: RequestError, message: Option<&str>, websocket: bool) -> Answer {
    let message = message.unwrap_or_else(|| error.message());
    if websocket {
        return Answer::new(StatusCode::BAD_REQUEST, HTML, message.to_owned());
    }
    let status = match error {
        RequestError::Forbidden => StatusCode::FORBIDDEN,
        RequestError::TransportUnknown
        | RequestError::SessionUnknown
        | RequestError::BadHandshakeMethod
        | RequestError::BadRequest
        | RequestError::UnsupportedProtocol => StatusCode::BAD_REQUEST,
    };
    let body = format!(
        "{{\"code\":{},\"message\":{}}}",
        error.code(),
        json_string(message)
    );
    Answer::new(status, JSON, body)
}

fn json_string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if control < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// More sessions than the limit allows, or the server is shutting down.
pub(crate) fn unavailable() -> Answer {
    Answer::empty(StatusCode::SERVICE_UNAVAILABLE)
        .with(header::RETRY_AFTER, HeaderValue::from_static("5"))
}

/// A handshake that was not admitted, and the name under which it is counted. A whole address is
/// told 429, since the others are served.
pub(crate) fn unadmitted(why: Unadmitted) -> (&'static str, Answer) {
    let (label, status, wait) = match why {
        Unadmitted::Rate(wait) => ("rate", StatusCode::SERVICE_UNAVAILABLE, wait),
        Unadmitted::AddressRate(wait) => ("address_rate", StatusCode::TOO_MANY_REQUESTS, wait),
        Unadmitted::AddressSessions => {
            let wait = Duration::from_secs(5);
            ("address_sessions", StatusCode::TOO_MANY_REQUESTS, wait)
        }
    };
    let seconds = HeaderValue::from(wait.as_secs() + 1);
    (
        label,
        Answer::empty(status).with(header::RETRY_AFTER, seconds),
    )
}

/// A POST whose body is over the limit. The rest of it is not read, so the connection ends.
pub(crate) fn too_large() -> Answer {
    Answer {
        closes: true,
        ..Answer::empty(StatusCode::PAYLOAD_TOO_LARGE)
    }
}

/// A POST that was taken.
pub(crate) fn post_done() -> Answer {
    Answer {
        no_store: true,
        ..Answer::new(StatusCode::OK, HTML, Bytes::from_static(b"ok"))
    }
}

/// A connection that becomes a WebSocket.
pub(crate) fn switching_protocols(head: Head<'_>, key: &[u8]) -> Answer {
    let answer = Answer::empty(StatusCode::SWITCHING_PROTOCOLS)
        .with(header::CONNECTION, HeaderValue::from_static("Upgrade"))
        .with(header::UPGRADE, HeaderValue::from_static("websocket"));
    let answer = match HeaderValue::from_str(&derive_accept_key(key)) {
        Ok(accept) => answer.with(header::SEC_WEBSOCKET_ACCEPT, accept),
        Err(_) => answer,
    };
    // A browser that asked for subprotocols fails unless it is given one of them.
    let asked = head.text(&header::SEC_WEBSOCKET_PROTOCOL);
    let first = asked.and_then(|list| list.split(',').next()).map(str::trim);
    match first.map(HeaderValue::from_str) {
        Some(Ok(protocol)) => answer.with(header::SEC_WEBSOCKET_PROTOCOL, protocol),
        Some(Err(_)) | None => answer,
    }
}

/// What the answer to a poll takes to know of its request.
#[derive(Debug)]
pub(crate) struct PollForm {
    /// The index of a JSONP callback.
    pub(crate) jsonp: Option<u32>,
    /// How bodies from so many bytes on are compressed.
    compression: Option<(usize, Compression)>,
    /// The client is a browser that would take a page of another site for an attack on itself.
    is_internet_explorer: bool,
}

impl PollForm {
    pub(crate) fn new(head: Head<'_>, jsonp: Option<u32>, threshold_bytes: Option<usize>) -> Self {
        let agent = head.text(&header::USER_AGENT);
        Self {
            jsonp,
            compression: threshold_bytes
                .and_then(|threshold| Some((threshold, Compression::accepted(head)?))),
            is_internet_explorer: agent
                .is_some_and(|agent| agent.contains(";MSIE") || agent.contains("Trident/")),
        }
    }

    /// The answer to a poll: JSONP wrapping, compression and headers around a body.
    pub(crate) fn answer(&self, body: engineio_proto::Body) -> Answer {
        let may_compress = body.compress;
        let (content_type, bytes) = match self.jsonp {
            Some(index) => (TEXT, payload::wrap_jsonp(index, &body).into()),
            None if body.kind == BodyKind::Binary => (OCTETS, body.bytes),
            None => (TEXT, body.bytes),
        };
        let compressed = self
            .compression
            .filter(|(threshold, _)| may_compress && bytes.len() >= *threshold)
            .and_then(|(_, coding)| Some((coding, compress(coding, &bytes)?)));
        let mut answer = match compressed {
            Some((coding, bytes)) => {
                let coding = HeaderValue::from_static(coding.name());
                Answer::new(StatusCode::OK, content_type, bytes)
                    .with(header::CONTENT_ENCODING, coding)
            }
            None => Answer::new(StatusCode::OK, content_type, bytes),
        };
        answer.no_store = true;
        if self.is_internet_explorer {
            return answer.with(header::X_XSS_PROTECTION, HeaderValue::from_static("0"));
        }
        answer
    }
}

fn compress(coding: Compression, bytes: &[u8]) -> Option<Vec<u8>> {
    let out = Vec::with_capacity(bytes.len() / 2);
    match coding {
        Compression::Gzip => {
            let mut encoder = GzEncoder::new(out, LEVEL);
            encoder.write_all(bytes).ok()?;
            encoder.finish().ok()
        }
        // What HTTP calls deflate is the zlib format.
        Compression::Deflate => {
            let mut encoder = ZlibEncoder::new(out, LEVEL);
            encoder.write_all(bytes).ok()?;
            encoder.finish().ok()
        }
    }
}

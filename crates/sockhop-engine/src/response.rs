//! Answers: bodies of polls, errors in the form that clients expect, compression.

use std::borrow::Cow;
use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use engineio_proto::{BodyKind, RequestError, payload};
use flate2::write::{GzEncoder, ZlibEncoder};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;
use smallvec::SmallVec;
use tokio::time::Instant;
use tungstenite::handshake::derive_accept_key;

use crate::admission::Unadmitted;
use crate::date::write_date;
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
    body: Cow<'static, [u8]>,
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
            body: Cow::Borrowed(&[]),
        }
    }

    fn new(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Self {
        Self {
            content_type,
            body: Cow::Owned(body),
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

    /// Appends what is on the wire before the body.
    pub(crate) fn write_head(&self, now: Instant, closes: bool, out: &mut Vec<u8>) {
        let line = |out: &mut Vec<u8>, name: &str, value: &[u8]| {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        };
        if self.status == StatusCode::OK {
            out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        } else {
            out.extend_from_slice(b"HTTP/1.1 ");
            out.extend_from_slice(self.status.as_str().as_bytes());
            out.push(b' ');
            let reason = self.status.canonical_reason().unwrap_or_default();
            out.extend_from_slice(reason.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        if !self.content_type.is_empty() {
            line(out, "content-type", self.content_type.as_bytes());
        }
        if self.no_store {
            line(out, "cache-control", NO_STORE.as_bytes());
        }
        for (name, value) in &self.more {
            line(out, name.as_str(), value.as_bytes());
        }
        if closes || self.closes {
            out.extend_from_slice(b"connection: close\r\n");
        }
        if !matches!(
            self.status,
            StatusCode::NO_CONTENT | StatusCode::SWITCHING_PROTOCOLS
        ) {
            out.extend_from_slice(b"content-length: ");
            write_decimal(self.body.len(), out);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"date: ");
        write_date(now, out);
        out.extend_from_slice(b"\r\n\r\n");
    }

    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    pub(crate) fn into_body(self) -> Bytes {
        match self.body {
            Cow::Borrowed(body) => Bytes::from_static(body),
            Cow::Owned(body) => body.into(),
        }
    }

    /// Whether the connection ends with this answer.
    pub(crate) fn closes(&self) -> bool {
        self.closes
    }

    /// The answer for an HTTP library. `map` is where its headers go: hyper reads the next request
    /// into the map of the last answer, so the map of the request is best, which has room for it.
    pub(crate) fn into_response(mut self, mut map: HeaderMap) -> Response<Body> {
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
        map.extend(std::mem::take(&mut self.more));
        let status = self.status;
        let mut response = Response::new(Full::new(self.into_body()));
        *response.status_mut() = status;
        *response.headers_mut() = map;
        response
    }
}

fn write_decimal(mut number: usize, out: &mut Vec<u8>) {
    let mut digits = [b'0'; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] += (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[first..]);
}

/// The refusal of a request: JSON with the numeric code, or text to a WebSocket client.
pub(crate) fn error(error: RequestError, message: Option<&str>, websocket: bool) -> Answer {
    let message = message.unwrap_or_else(|| error.message());
    if websocket {
        return Answer::new(StatusCode::BAD_REQUEST, HTML, message.into());
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
    Answer::new(status, JSON, body.into())
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
        content_type: HTML,
        no_store: true,
        body: Cow::Borrowed(b"ok"),
        ..Answer::empty(StatusCode::OK)
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
    look: Look,
    /// Looked into when there is something to compress.
    accept_encoding: SmallVec<[u8; 32]>,
    /// Bodies from so many bytes on are compressed.
    threshold_bytes: Option<usize>,
}

/// How the answers to the polls of one session look.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Look {
    /// The index of a JSONP callback: the session stays JSONP, and only it is.
    pub(crate) jsonp: Option<u32>,
    /// The client is a browser that takes the answer for an attack on the page.
    is_internet_explorer: bool,
}

impl Look {
    /// What the head of the handshake says.
    pub(crate) fn new(head: Head<'_>, jsonp: Option<u32>) -> Self {
        let agent = head.text(&header::USER_AGENT);
        Self {
            jsonp,
            is_internet_explorer: agent
                .is_some_and(|agent| agent.contains(";MSIE") || agent.contains("Trident/")),
        }
    }
}

impl PollForm {
    pub(crate) fn new(head: Head<'_>, look: Look, threshold_bytes: Option<usize>) -> Self {
        Self {
            look,
            accept_encoding: SmallVec::from_slice(head.accept_encoding().unwrap_or_default()),
            threshold_bytes,
        }
    }

    /// The answer to a poll: JSONP wrapping, compression and headers around a body.
    pub(crate) fn answer(&self, body: engineio_proto::Body) -> Answer {
        let may_compress = body.compress;
        let (content_type, bytes) = match self.look.jsonp {
            Some(index) => (TEXT, payload::wrap_jsonp(index, &body)),
            None if body.kind == BodyKind::Binary => (OCTETS, body.bytes),
            None => (TEXT, body.bytes),
        };
        let compressed = self
            .threshold_bytes
            .filter(|threshold| may_compress && bytes.len() >= *threshold)
            .and_then(|_| Compression::accepted(&self.accept_encoding))
            .and_then(|coding| Some((coding, compress(coding, &bytes)?)));
        let mut answer = match compressed {
            Some((coding, bytes)) => {
                let coding = HeaderValue::from_static(coding.name());
                Answer::new(StatusCode::OK, content_type, bytes)
                    .with(header::CONTENT_ENCODING, coding)
            }
            None => Answer::new(StatusCode::OK, content_type, bytes),
        };
        answer.no_store = true;
        if self.look.is_internet_explorer {
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

//! Answers: bodies of polls, errors in the form that clients expect, compression.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use engineio_proto::{BodyKind, RequestError, payload};
use flate2::write::{GzEncoder, ZlibEncoder};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;

use crate::admission::Unadmitted;
use crate::request::Compression;

/// The body of every answer: complete from the start.
pub type Body = Full<Bytes>;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=UTF-8");
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const HTML: HeaderValue = HeaderValue::from_static("text/html");

/// Speed over ratio: bodies are small and many.
const LEVEL: flate2::Compression = flate2::Compression::new(1);

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = status;
    response
}

fn with_body(
    status: StatusCode,
    content_type: HeaderValue,
    body: impl Into<Bytes>,
) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response
}

/// The refusal of a request: JSON with the numeric code, or text to a WebSocket client.
pub(crate) fn error(error: RequestError, message: Option<&str>, websocket: bool) -> Response<Body> {
    let message = message.unwrap_or_else(|| error.message());
    if websocket {
        return with_body(StatusCode::BAD_REQUEST, HTML, message.to_owned());
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
    with_body(status, JSON, body)
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
pub(crate) fn unavailable() -> Response<Body> {
    let mut response = empty(StatusCode::SERVICE_UNAVAILABLE);
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    response
}

/// A handshake that was not admitted, and the name under which it is counted. A whole address is
/// told 429, since the others are served.
pub(crate) fn unadmitted(why: Unadmitted) -> (&'static str, Response<Body>) {
    let (label, status, wait) = match why {
        Unadmitted::Rate(wait) => ("rate", StatusCode::SERVICE_UNAVAILABLE, wait),
        Unadmitted::AddressRate(wait) => ("address_rate", StatusCode::TOO_MANY_REQUESTS, wait),
        Unadmitted::AddressSessions => {
            let wait = Duration::from_secs(5);
            ("address_sessions", StatusCode::TOO_MANY_REQUESTS, wait)
        }
    };
    let mut response = empty(status);
    let seconds = wait.as_secs() + 1;
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    (label, response)
}

/// A POST whose body is over the limit. The rest of it is not read, so the connection ends.
pub(crate) fn too_large() -> Response<Body> {
    let mut response = empty(StatusCode::PAYLOAD_TOO_LARGE);
    response
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// A POST that was taken.
pub(crate) fn post_done() -> Response<Body> {
    let mut response = with_body(StatusCode::OK, HTML, Bytes::from_static(b"ok"));
    forbid_caching(&mut response);
    response
}

/// The answer to a poll: JSONP wrapping, compression and headers around a body.
pub(crate) fn poll(
    body: engineio_proto::Body,
    jsonp: Option<u32>,
    request_headers: &HeaderMap,
    threshold_bytes: Option<usize>,
) -> Response<Body> {
    let may_compress = body.compress;
    let (content_type, bytes) = match jsonp {
        Some(index) => (TEXT, payload::wrap_jsonp(index, &body)),
        None if body.kind == BodyKind::Binary => (OCTETS, body.bytes),
        None => (TEXT, body.bytes),
    };
    let compression = threshold_bytes
        .filter(|threshold| may_compress && bytes.len() >= *threshold)
        .and_then(|_| Compression::accepted(request_headers));
    let compressed = compression.and_then(|coding| Some((coding, compress(coding, &bytes)?)));
    let mut response = match compressed {
        Some((coding, bytes)) => {
            let mut response = with_body(StatusCode::OK, content_type, bytes);
            let coding = HeaderValue::from_static(coding.name());
            response
                .headers_mut()
                .insert(header::CONTENT_ENCODING, coding);
            response
        }
        None => with_body(StatusCode::OK, content_type, bytes),
    };
    forbid_caching(&mut response);
    let agent = request_headers
        .get(header::USER_AGENT)
        .and_then(|agent| agent.to_str().ok());
    if agent.is_some_and(|agent| agent.contains(";MSIE") || agent.contains("Trident/")) {
        let off = HeaderValue::from_static("0");
        response.headers_mut().insert(header::X_XSS_PROTECTION, off);
    }
    response
}

fn forbid_caching(response: &mut Response<Body>) {
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
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

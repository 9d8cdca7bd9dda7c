//! What changes in the headers of a request and an answer that are passed on.

use std::net::SocketAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use sockhop::engine::lane::RequestHead;
use sockhop::engine::{PeerAddress, Secure};

use super::owner::Proof;

/// Shows that the sender is a member of the cluster; on the private listener only.
const PROOF: HeaderName = HeaderName::from_static("sockhop-forward-proof");

/// The address of the client, and the mark of a hop.
const CLIENT: HeaderName = HeaderName::from_static("sockhop-forwarded-for");

/// There when the client's connection is encrypted.
const SECURE: HeaderName = HeaderName::from_static("sockhop-forwarded-secure");

/// Of one connection, not of the request (RFC 9110, 7.6.1). The last one is answered by the node
/// that the client talks with.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::EXPECT,
];

/// What a private request says about itself.
#[derive(Debug)]
pub(super) struct Introduction {
    pub(super) proof: Option<HeaderValue>,
    pub(super) client: Option<SocketAddr>,
    pub(super) secure: bool,
}

/// Takes the internal headers out; whether the mark of a hop was among them.
pub(super) fn strip_internal(headers: &mut HeaderMap) -> bool {
    headers.remove(PROOF);
    headers.remove(SECURE);
    headers.remove(CLIENT).is_some()
}

/// Whether there is any internal header.
pub(super) fn is_internal(head: &RequestHead<'_>) -> bool {
    let mut internal = [PROOF, SECURE, CLIENT].into_iter();
    internal.any(|name| head.values(name.as_str()).next().is_some())
}

/// Takes the internal headers out and reads them.
pub(super) fn take_introduction(headers: &mut HeaderMap) -> Introduction {
    let client = headers.remove(CLIENT);
    Introduction {
        proof: headers.remove(PROOF),
        client: client.and_then(|value| value.to_str().ok()?.parse().ok()),
        secure: headers.remove(SECURE).is_some(),
    }
}

/// The headers of `head` for the owner of its session.
pub(super) fn outgoing(head: &Parts, proof: &Proof, websocket: bool) -> HeaderMap {
    let mut headers = head.headers.clone();
    drop_hop_by_hop(&mut headers);
    if websocket {
        ask_for_websocket(&mut headers);
    }
    let client = head.extensions.get::<PeerAddress>();
    let client = client.map_or_else(|| "unknown".to_owned(), |client| client.0.to_string());
    if let Ok(client) = HeaderValue::from_str(&client) {
        headers.insert(CLIENT, client);
    }
    if head.extensions.get::<Secure>().is_some() {
        headers.insert(SECURE, HeaderValue::from_static("1"));
    }
    headers.insert(PROOF, proof.value());
    headers
}

/// Takes out what belongs to one connection, also by its own word.
pub(super) fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|names| names.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

pub(super) fn ask_for_websocket(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// Whether a client asks for a WebSocket, and not for another protocol.
pub(super) fn wants_websocket(headers: &HeaderMap) -> bool {
    headers
        .get(header::UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn headers_of_the_connection_stay_behind_and_the_others_go_along() {
        let head = head(&[
            ("connection", "keep-alive, X-Mine"),
            ("x-mine", "1"),
            ("keep-alive", "5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("expect", "100-continue"),
            ("origin", "http://a"),
            ("host", "b"),
        ]);
        let proof = Proof::new(b"token", None);
        let mut headers = outgoing(&head, &proof, false);
        assert!(take_introduction(&mut headers).proof.is_some());
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["host", "origin"]);
    }

    #[test]
    fn a_client_cannot_introduce_itself() {
        let mut head = head(&[
            ("sockhop-forwarded-for", "6.6.6.6:6"),
            ("sockhop-forwarded-secure", "1"),
            ("sockhop-forward-proof", "00"),
        ]);
        assert!(strip_internal(&mut head.headers));
        assert!(head.headers.is_empty());
        let address: SocketAddr = "10.1.2.3:4567".parse().unwrap();
        head.extensions.insert(PeerAddress(address));
        let mut headers = outgoing(&head, &Proof::new(b"token", None), true);
        let introduction = take_introduction(&mut headers);
        assert_eq!(introduction.client, Some(address));
        assert!(!introduction.secure);
        assert!(wants_websocket(&headers));
    }
}

//! The head of a request, wherever it was read: by hyper, or by the [lane](crate::lane).

use std::borrow::Cow;
use std::net::SocketAddr;

use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request};

use crate::lane::{RequestHead, Verb};
use crate::{PeerAddress, Secure};

/// What the engine looks at of a request before its body.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Head<'a> {
    /// Read by an HTTP library.
    Parsed(&'a Parts),
    /// Read by the lane, and whose request it is.
    Read(&'a RequestHead<'a>, SocketAddr),
}

impl<'a> Head<'a> {
    pub(crate) fn verb(self) -> Verb {
        match self {
            Self::Parsed(parts) => match parts.method {
                Method::GET => Verb::Get,
                Method::POST => Verb::Post,
                Method::OPTIONS => Verb::Options,
                _ => Verb::Other,
            },
            Self::Read(head, _) => head.verb,
        }
    }

    /// What stands behind the question mark; empty without one.
    pub(crate) fn query(self) -> &'a str {
        match self {
            Self::Parsed(parts) => parts.uri.query().unwrap_or_default(),
            Self::Read(head, _) => head.query(),
        }
    }

    /// Path and query as requested.
    pub(crate) fn url(self) -> &'a str {
        match self {
            Self::Parsed(parts) => parts.uri.path_and_query().map_or("/", |url| url.as_str()),
            Self::Read(head, _) => head.url,
        }
    }

    /// The host that the request line names, which is rare.
    pub(crate) fn host_of_url(self) -> Option<&'a str> {
        match self {
            Self::Parsed(parts) => parts.uri.host(),
            Self::Read(..) => None,
        }
    }

    /// The first header of this name.
    pub(crate) fn header(self, name: &HeaderName) -> Option<&'a [u8]> {
        match self {
            Self::Parsed(parts) => parts.headers.get(name).map(HeaderValue::as_bytes),
            Self::Read(head, _) => head.values(name.as_str()).next(),
        }
    }

    /// The first header of this name, unless it has other than visible characters.
    pub(crate) fn text(self, name: &HeaderName) -> Option<&'a str> {
        self.header(name).and_then(text)
    }

    pub(crate) fn origin(self) -> Option<&'a [u8]> {
        match self {
            Self::Parsed(_) => self.header(&header::ORIGIN),
            Self::Read(head, _) => head.known.origin,
        }
    }

    pub(crate) fn content_type(self) -> Option<&'a [u8]> {
        match self {
            Self::Parsed(_) => self.header(&header::CONTENT_TYPE),
            Self::Read(head, _) => head.known.content_type,
        }
    }

    pub(crate) fn accept_encoding(self) -> Option<&'a [u8]> {
        match self {
            Self::Parsed(_) => self.header(&header::ACCEPT_ENCODING),
            Self::Read(head, _) => head.known.accept_encoding,
        }
    }

    pub(crate) fn websocket_version(self) -> Option<&'a [u8]> {
        match self {
            Self::Parsed(_) => self.header(&header::SEC_WEBSOCKET_VERSION),
            Self::Read(head, _) => head.known.websocket_version,
        }
    }

    /// What the head says about the length of the body, if it says anything that can be believed.
    pub(crate) fn body_len(self) -> Option<u64> {
        match self {
            Self::Parsed(_) => self.text(&header::CONTENT_LENGTH)?.parse().ok(),
            Self::Read(head, _) => Some(head.body_len as u64),
        }
    }

    /// Whether the client asks before it sends the body.
    pub(crate) fn asks_first(self) -> bool {
        match self {
            Self::Parsed(_) => self.header(&header::EXPECT).is_some(),
            Self::Read(..) => false,
        }
    }

    /// Calls `f` with every header of this name that is text; whether it said yes to one.
    pub(crate) fn any(self, name: &HeaderName, mut f: impl FnMut(&str) -> bool) -> bool {
        match self {
            Self::Parsed(parts) => {
                let mut values = parts.headers.get_all(name).iter();
                values.any(|value| text(value.as_bytes()).is_some_and(&mut f))
            }
            Self::Read(head, _) => {
                let mut values = head.values(name.as_str());
                values.any(|value| text(value).is_some_and(&mut f))
            }
        }
    }

    fn lines_len(self) -> usize {
        let len = |name: usize, value: usize| name + value + 3;
        match self {
            Self::Parsed(parts) => {
                let headers = parts.headers.iter();
                headers
                    .map(|(name, value)| len(name.as_str().len(), value.len()))
                    .sum()
            }
            Self::Read(head, _) => {
                let headers = head.headers.iter();
                headers
                    .map(|(name, value)| len(name.len(), value.len()))
                    .sum()
            }
        }
    }

    /// All headers as lines, their names in lower case.
    pub(crate) fn lines(self) -> String {
        let mut lines = String::with_capacity(self.lines_len());
        let mut push = |name: &str, value: &[u8]| {
            let begin = lines.len();
            lines.push_str(name);
            lines[begin..].make_ascii_lowercase();
            lines.push_str(": ");
            match std::str::from_utf8(value) {
                Ok(value) => lines.push_str(value),
                Err(_) => lines.push_str(&String::from_utf8_lossy(value)),
            }
            lines.push('\n');
        };
        match self {
            Self::Parsed(parts) => {
                for (name, value) in &parts.headers {
                    push(name.as_str(), value.as_bytes());
                }
            }
            Self::Read(head, _) => {
                for (name, value) in head.headers.iter() {
                    push(name, value);
                }
            }
        }
        lines
    }

    /// The client's address, where the acceptor told it.
    pub(crate) fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Parsed(parts) => parts
                .extensions
                .get()
                .map(|address: &PeerAddress| address.0),
            Self::Read(_, client) => Some(client),
        }
    }

    /// Whether the request came over TLS.
    pub(crate) fn is_secure(self) -> bool {
        match self {
            Self::Parsed(parts) => parts.extensions.get::<Secure>().is_some(),
            Self::Read(..) => false,
        }
    }

    /// The head as hooks of users see it.
    pub(crate) fn parts(self) -> Cow<'a, Parts> {
        match self {
            Self::Parsed(parts) => Cow::Borrowed(parts),
            Self::Read(head, client) => Cow::Owned(parsed(head, client)),
        }
    }
}

/// A head of the lane in the form of the HTTP library. Only hooks need it.
fn parsed(head: &RequestHead<'_>, client: SocketAddr) -> Parts {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = match head.verb {
        Verb::Get | Verb::Other => Method::GET,
        Verb::Post => Method::POST,
        Verb::Options => Method::OPTIONS,
    };
    // The lane takes no URLs and names that the library does not.
    parts.uri = head.url.parse().unwrap_or_default();
    for (name, value) in head.headers.iter() {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            parts.headers.append(name, value);
        }
    }
    parts.extensions.insert(PeerAddress(client));
    parts
}

/// A header's value as text: visible characters of ASCII, blanks and tabs.
pub(crate) fn text(value: &[u8]) -> Option<&str> {
    if is_text(value) {
        std::str::from_utf8(value).ok()
    } else {
        None
    }
}

/// Whether [`text`] has something.
pub(crate) fn is_text(value: &[u8]) -> bool {
    let hidden = |byte: u8| byte != b'\t' && !(b' '..=b'~').contains(&byte);
    // Without branches, so that the compiler turns it into vector instructions.
    value
        .iter()
        .fold(0, |any, byte| any | u8::from(hidden(*byte)))
        == 0
}

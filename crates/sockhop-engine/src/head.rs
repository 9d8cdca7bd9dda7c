//! The head of a request, wherever it was read: by hyper, or by the [lane](crate::lane).

use std::borrow::Cow;
use std::net::SocketAddr;

use http::Method;
use http::header::{HeaderName, HeaderValue};
use http::request::Parts;

use crate::{PeerAddress, Secure};

/// What the engine looks at of a request before its body.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Head<'a> {
    /// Read by an HTTP library.
    Parsed(&'a Parts),
}

impl<'a> Head<'a> {
    pub(crate) fn method(self) -> &'a Method {
        match self {
            Self::Parsed(parts) => &parts.method,
        }
    }

    /// What stands behind the question mark; empty without one.
    pub(crate) fn query(self) -> &'a str {
        match self {
            Self::Parsed(parts) => parts.uri.query().unwrap_or_default(),
        }
    }

    /// Path and query as requested.
    pub(crate) fn url(self) -> &'a str {
        match self {
            Self::Parsed(parts) => parts.uri.path_and_query().map_or("/", |url| url.as_str()),
        }
    }

    /// The host that the request line names, which is rare.
    pub(crate) fn host_of_url(self) -> Option<&'a str> {
        match self {
            Self::Parsed(parts) => parts.uri.host(),
        }
    }

    /// The first header of this name.
    pub(crate) fn header(self, name: &HeaderName) -> Option<&'a [u8]> {
        match self {
            Self::Parsed(parts) => parts.headers.get(name).map(HeaderValue::as_bytes),
        }
    }

    /// The first header of this name, unless it has other than visible characters.
    pub(crate) fn text(self, name: &HeaderName) -> Option<&'a str> {
        self.header(name).and_then(text)
    }

    /// Calls `f` with every header of this name that is text; whether it said yes to one.
    pub(crate) fn any(self, name: &HeaderName, mut f: impl FnMut(&str) -> bool) -> bool {
        match self {
            Self::Parsed(parts) => {
                let mut values = parts.headers.get_all(name).iter();
                values.any(|value| text(value.as_bytes()).is_some_and(&mut f))
            }
        }
    }

    /// Calls `f` with the name, in lower case, and the value of every header.
    pub(crate) fn each_header(self, mut f: impl FnMut(&str, &[u8])) {
        match self {
            Self::Parsed(parts) => {
                for (name, value) in &parts.headers {
                    f(name.as_str(), value.as_bytes());
                }
            }
        }
    }

    /// The client's address, where the acceptor told it.
    pub(crate) fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Parsed(parts) => parts.extensions.get().map(|address: &PeerAddress| address.0),
        }
    }

    /// Whether the request came over TLS.
    pub(crate) fn is_secure(self) -> bool {
        match self {
            Self::Parsed(parts) => parts.extensions.get::<Secure>().is_some(),
        }
    }

    /// The head as hooks of users see it.
    pub(crate) fn parts(self) -> Cow<'a, Parts> {
        match self {
            Self::Parsed(parts) => Cow::Borrowed(parts),
        }
    }
}

/// A header's value as text: visible characters of ASCII, blanks and tabs.
pub(crate) fn text(value: &[u8]) -> Option<&str> {
    let visible = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~');
    let text = std::str::from_utf8(value).ok()?;
    value.iter().all(visible).then_some(text)
}

//! Cross-origin answers: who may read them, and the preflight.

use std::fmt;
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;

use crate::head::{self, Head};
use crate::response::Headers;

/// Decides whether the origin in the first argument may read the answer to a request.
pub type OriginPredicate = Arc<dyn Fn(&str, &Parts) -> bool + Send + Sync>;

/// Which origins may read answers.
#[derive(Clone, Default)]
pub enum Origins {
    /// No CORS headers at all: pages of the same origin only. A preflight is then a bad method.
    #[default]
    Off,
    /// `*`: every origin, or with credentials the asking one.
    Any,
    /// Exactly these, each as `scheme://host[:port]`.
    List(Vec<String>),
    /// Whatever the function says.
    Predicate(OriginPredicate),
}

impl fmt::Debug for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("Off"),
            Self::Any => f.write_str("Any"),
            Self::List(list) => f.debug_tuple("List").field(list).finish(),
            Self::Predicate(_) => f.write_str("Predicate"),
        }
    }
}

/// Cross-origin configuration of a mount.
#[derive(Clone, Debug, Default)]
pub struct Cors {
    /// Who may read answers. Default: nobody but pages of the same origin.
    pub origins: Origins,
    /// Whether cookies may travel with the requests. Default false.
    pub credentials: bool,
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

const METHODS: HeaderValue = HeaderValue::from_static("GET,HEAD,PUT,PATCH,POST,DELETE");

impl Cors {
    /// Whether preflights are answered at all.
    #[must_use]
    pub fn enabled(&self) -> bool {
        !matches!(self.origins, Origins::Off)
    }

    /// The headers that go with every answer to this request, errors included.
    #[must_use]
    pub fn headers(&self, parts: &Parts) -> HeaderMap {
        self.answer(Head::Parsed(parts)).into_iter().collect()
    }

    pub(crate) fn answer(&self, head: Head<'_>) -> Headers {
        if !self.enabled() {
            return Vec::new();
        }
        let Some(origin) = head.origin() else {
            return Vec::new();
        };
        let text = head::text(origin).unwrap_or_default();
        let reflected = || HeaderValue::from_bytes(origin).ok();
        let allowed = match &self.origins {
            Origins::Off => return Vec::new(),
            Origins::Any if !self.credentials => Some(HeaderValue::from_static("*")),
            Origins::Any => reflected(),
            Origins::List(list) => list
                .iter()
                .any(|entry| entry == text)
                .then(reflected)
                .flatten(),
            Origins::Predicate(allows) => allows(text, &head.parts()).then(reflected).flatten(),
        };
        let mut headers = Vec::new();
        if !matches!(&allowed, Some(value) if value == "*") {
            headers.push((header::VARY, HeaderValue::from_static("Origin")));
        }
        if let Some(value) = allowed {
            headers.push((header::ACCESS_CONTROL_ALLOW_ORIGIN, value));
            if self.credentials {
                let allow = HeaderValue::from_static("true");
                headers.push((header::ACCESS_CONTROL_ALLOW_CREDENTIALS, allow));
            }
        }
        headers
    }

    /// Whether a page may open a session over a transport that browsers do not guard: a WebSocket,
    /// or JSONP. Pages of the host itself may, and those of allowed origins; and what is no page.
    #[must_use]
    pub(crate) fn admits(&self, head: Head<'_>) -> bool {
        let Some(origin) = head.origin().and_then(head::text) else {
            // A script of another site has no origin, but newer browsers say where it is from.
            return matches!(self.origins, Origins::Any)
                || head.text(&SEC_FETCH_SITE) != Some("cross-site");
        };
        let listed = match &self.origins {
            Origins::Off => false,
            Origins::Any => true,
            Origins::List(list) => list.iter().any(|entry| entry == origin),
            Origins::Predicate(allows) => allows(origin, &head.parts()),
        };
        // A proxy may have renamed the host. A page cannot set that header of a WebSocket.
        let hosts = [
            head.text(&header::HOST),
            head.text(&X_FORWARDED_HOST),
            head.host_of_url(),
        ];
        listed || hosts.into_iter().flatten().any(|host| is_of(origin, host))
    }

    /// The headers that a preflight gets besides [`Self::headers`].
    pub(crate) fn preflight(head: Head<'_>) -> Headers {
        let mut headers = vec![(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS)];
        let asked = head.header(&header::ACCESS_CONTROL_REQUEST_HEADERS);
        if let Some(Ok(asked)) = asked.map(HeaderValue::from_bytes) {
            headers.push((header::ACCESS_CONTROL_ALLOW_HEADERS, asked));
        }
        headers
    }
}

/// Whether an origin is one of this host, with or without the port that its scheme implies.
fn is_of(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else {
        return false;
    };
    let implied = match scheme {
        "https" => ":443",
        _ => ":80",
    };
    let bare = |text: &str| {
        text.strip_suffix(implied)
            .unwrap_or(text)
            .to_ascii_lowercase()
    };
    bare(authority) == bare(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allow_origin(origins: Origins, credentials: bool, origin: &str) -> Option<String> {
        let request = http::Request::builder()
            .header("origin", origin)
            .body(())
            .unwrap();
        let headers = Cors {
            origins,
            credentials,
        }
        .headers(&request.into_parts().0);
        let value = headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN)?;
        Some(value.to_str().unwrap().to_owned())
    }

    #[test]
    fn off_answers_nothing() {
        assert_eq!(allow_origin(Origins::Off, true, "http://a"), None);
    }

    #[test]
    fn any_is_a_star_without_credentials_and_the_origin_with_them() {
        assert_eq!(
            allow_origin(Origins::Any, false, "http://a").as_deref(),
            Some("*")
        );
        assert_eq!(
            allow_origin(Origins::Any, true, "http://a").as_deref(),
            Some("http://a")
        );
    }

    #[test]
    fn a_list_reflects_its_members_only() {
        let list = || Origins::List(vec!["http://a".to_owned()]);
        assert_eq!(
            allow_origin(list(), false, "http://a").as_deref(),
            Some("http://a")
        );
        assert_eq!(allow_origin(list(), false, "http://a.evil"), None);
    }

    #[test]
    fn unguarded_transports_are_for_the_own_pages_and_the_allowed_ones() {
        let admits = |origins: Origins, headers: &[(&str, &str)]| {
            let mut request = http::Request::builder()
                .uri("/")
                .header("host", "a.example:8080");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let cors = Cors {
                origins,
                credentials: false,
            };
            cors.admits(Head::Parsed(&request.body(()).unwrap().into_parts().0))
        };
        let list = || Origins::List(vec!["http://b.example".to_owned()]);
        assert!(admits(Origins::Off, &[]));
        assert!(admits(Origins::Off, &[("origin", "http://a.example:8080")]));
        assert!(!admits(Origins::Off, &[("origin", "http://a.example")]));
        assert!(!admits(Origins::Off, &[("origin", "http://b.example")]));
        assert!(!admits(Origins::Off, &[("origin", "null")]));
        assert!(admits(list(), &[("origin", "http://b.example")]));
        assert!(admits(list(), &[("origin", "http://a.example:8080")]));
        assert!(!admits(list(), &[("origin", "http://evil")]));
        assert!(admits(Origins::Any, &[("origin", "null")]));
        let forwarded = ("x-forwarded-host", "chat.example");
        assert!(admits(
            Origins::Off,
            &[forwarded, ("origin", "https://chat.example")]
        ));
        assert!(!admits(Origins::Off, &[("sec-fetch-site", "cross-site")]));
        assert!(admits(Origins::Off, &[("sec-fetch-site", "same-origin")]));
    }

    #[test]
    fn default_ports_are_implied() {
        assert!(is_of("https://a.example", "A.example:443"));
        assert!(is_of("http://a.example:80", "a.example"));
        assert!(!is_of("http://a.example", "a.example:443"));
    }

    #[test]
    fn a_predicate_decides_for_itself() {
        let ends = Origins::Predicate(Arc::new(|origin, _| origin.ends_with(".example")));
        assert_eq!(
            allow_origin(ends.clone(), false, "http://b.example").as_deref(),
            Some("http://b.example")
        );
        assert_eq!(allow_origin(ends, false, "http://evil"), None);
    }
}

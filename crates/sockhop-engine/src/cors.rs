//! Cross-origin answers: who may read them, and the preflight.

use std::fmt;
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;

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
        let mut headers = HeaderMap::new();
        let Some(origin) = parts.headers.get(header::ORIGIN) else {
            return headers;
        };
        let text = origin.to_str().unwrap_or_default();
        let allowed = match &self.origins {
            Origins::Off => return headers,
            Origins::Any if !self.credentials => Some(HeaderValue::from_static("*")),
            Origins::Any => Some(origin.clone()),
            Origins::List(list) => list
                .iter()
                .any(|entry| entry == text)
                .then(|| origin.clone()),
            Origins::Predicate(allows) => allows(text, parts).then(|| origin.clone()),
        };
        if !matches!(&allowed, Some(value) if value == "*") {
            headers.insert(header::VARY, HeaderValue::from_static("Origin"));
        }
        if let Some(value) = allowed {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, value);
            if self.credentials {
                let allow = HeaderValue::from_static("true");
                headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, allow);
            }
        }
        headers
    }

    /// Whether a page may open a session over a transport that browsers do not guard: a WebSocket,
    /// or JSONP. Pages of the host itself may, and those of allowed origins; and what is no page.
    #[must_use]
    pub(crate) fn admits(&self, parts: &Parts) -> bool {
        let header = |name: &str| parts.headers.get(name)?.to_str().ok();
        let Some(origin) = header("origin") else {
            // A script of another site has no origin, but newer browsers say where it is from.
            return matches!(self.origins, Origins::Any)
                || header("sec-fetch-site") != Some("cross-site");
        };
        let listed = match &self.origins {
            Origins::Off => false,
            Origins::Any => true,
            Origins::List(list) => list.iter().any(|entry| entry == origin),
            Origins::Predicate(allows) => allows(origin, parts),
        };
        // A proxy may have renamed the host. A page cannot set that header of a WebSocket.
        let hosts = [header("host"), header("x-forwarded-host"), parts.uri.host()];
        listed || hosts.into_iter().flatten().any(|host| is_of(origin, host))
    }

    /// The headers that a preflight gets besides [`Self::headers`].
    #[must_use]
    pub fn preflight(&self, parts: &Parts) -> Vec<(HeaderName, HeaderValue)> {
        let mut headers = vec![(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS)];
        if let Some(asked) = parts.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.push((header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone()));
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
            cors.admits(&request.body(()).unwrap().into_parts().0)
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

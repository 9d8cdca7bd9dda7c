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
    fn a_predicate_decides_for_itself() {
        let ends = Origins::Predicate(Arc::new(|origin, _| origin.ends_with(".example")));
        assert_eq!(
            allow_origin(ends.clone(), false, "http://b.example").as_deref(),
            Some("http://b.example")
        );
        assert_eq!(allow_origin(ends, false, "http://evil"), None);
    }
}

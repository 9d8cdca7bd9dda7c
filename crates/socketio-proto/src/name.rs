//! Names: of namespaces, and of events that no user may send.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

/// The name of a namespace, such as `/` or `/admin`.
///
/// *Shape:* always begins with `/`; cloning shares the text. The name `/` has no text to share:
/// nearly every event carries it, and one counter for all of them would bounce between the cores.
#[derive(Clone)]
pub struct NamespaceName(Option<Arc<str>>);

impl NamespaceName {
    /// The name `/`.
    #[must_use]
    pub const fn root() -> Self {
        Self(None)
    }

    /// The name `name`, or `None` when it does not begin with `/`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "/" => Some(Self::root()),
            _ => name.starts_with('/').then(|| Self(Some(Arc::from(name)))),
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or("/")
    }
}

impl Deref for NamespaceName {
    type Target = str;
    fn deref(&self) -> &str {
        self.as_str()
    }
}

// Equality, order and hash are those of the text, as `Borrow` promises.
impl Borrow<str> for NamespaceName {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq for NamespaceName {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for NamespaceName {}

impl PartialOrd for NamespaceName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for NamespaceName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for NamespaceName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Display for NamespaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for NamespaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Whether an event of this name is part of the protocol's own vocabulary and may not be sent.
///
/// *Source:* `RESERVED_EVENTS` of socket.io-parser.
#[must_use]
pub fn is_reserved_event(name: &str) -> bool {
    matches!(
        name,
        "connect"
            | "connect_error"
            | "disconnect"
            | "disconnecting"
            | "newListener"
            | "removeListener"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_name_begins_with_a_slash() {
        assert_eq!(NamespaceName::parse("/a").unwrap().as_str(), "/a");
        assert_eq!(NamespaceName::parse("/").unwrap(), NamespaceName::root());
        assert_eq!(NamespaceName::parse("a"), None);
        assert_eq!(NamespaceName::parse(""), None);
    }

    #[test]
    fn names_are_found_by_their_text() {
        let names = std::collections::HashSet::from([
            NamespaceName::root(),
            NamespaceName::parse("/a").unwrap(),
        ]);
        assert!(names.contains("/") && names.contains("/a") && !names.contains("/b"));
        assert!(NamespaceName::root() < NamespaceName::parse("/a").unwrap());
    }

    #[test]
    fn reserved_names_are_those_of_the_official_parser() {
        assert!(is_reserved_event("newListener"));
        assert!(!is_reserved_event("message"));
    }
}

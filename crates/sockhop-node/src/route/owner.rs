//! Whose session a request belongs to, and what proves to its owner that a member asks.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderValue, Uri};
use sockhop::engineio::{NodeTag, SessionId};
use sockhop_redis::Secret;

use super::members::Presence;

/// Another node, as the membership knows it.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    /// Its private listener.
    pub(crate) address: SocketAddr,
    /// What it wants to see there.
    pub(crate) proof: Proof,
    /// That it is a member.
    pub(crate) presence: Presence,
}

/// Finds the live member with this tag.
pub(crate) type FindOwner = Arc<dyn Fn(NodeTag) -> Option<Owner> + Send + Sync>;

/// Shows that a request comes from a member: the token that its receiver told the cluster, and the
/// cluster's secret if there is one.
#[derive(Clone)]
pub(crate) struct Proof(HeaderValue);

impl Proof {
    /// The proof for the node with this token.
    pub(crate) fn new(token: &[u8], secret: Option<&Secret>) -> Self {
        let mut text = String::new();
        let secret = secret.map_or("", Secret::expose);
        for byte in token.iter().chain(b"/").chain(secret.as_bytes()) {
            text.push_str(&format!("{byte:02x}"));
        }
        let mut value = HeaderValue::from_str(&text).expect("hexadecimal digits are a value");
        value.set_sensitive(true);
        Self(value)
    }

    pub(crate) fn value(&self) -> HeaderValue {
        self.0.clone()
    }

    /// Whether `shown` is this proof. The time that it takes says nothing about where they differ.
    pub(crate) fn is(&self, shown: &HeaderValue) -> bool {
        let (expected, shown) = (self.0.as_bytes(), shown.as_bytes());
        let pairs = expected.iter().zip(shown);
        let difference = pairs.fold(0, |all, (a, b)| std::hint::black_box(all | (a ^ b)));
        expected.len() == shown.len() && difference == 0
    }
}

impl std::fmt::Debug for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Proof(***)")
    }
}

/// The session that a request names in its query, if it names one.
pub(crate) fn session_of(uri: &Uri) -> Option<SessionId> {
    session_in(uri.query()?)
}

/// The session that a query names, if it names one.
pub(crate) fn session_in(query: &str) -> Option<SessionId> {
    // The first of a name counts, as for the mount. A session id has no character that anybody
    // would escape; one that is escaped all the same is for the mount to refuse.
    let sid = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("sid="))?;
    SessionId::parse(sid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(uri: &'static str) -> Option<String> {
        session_of(&Uri::from_static(uri)).map(|id| id.to_string())
    }

    #[test]
    fn the_first_sid_of_the_query_names_the_session() {
        let sid = "q83v-_v7-_v7-_v7-_v7";
        assert_eq!(
            session("/socket.io/?EIO=4&sid=q83v-_v7-_v7-_v7-_v7&sid=x").as_deref(),
            Some(sid)
        );
        for uri in [
            "/socket.io/",
            "/socket.io/?EIO=4&transport=polling",
            "/socket.io/?sid=",
            "/socket.io/?xsid=q83v-_v7-_v7-_v7-_v7",
            "/socket.io/?sid=x&sid=q83v-_v7-_v7-_v7-_v7",
            "/socket.io/?sid=http%3A%2F%2Felsewhere%2F",
        ] {
            assert_eq!(session(uri), None, "{uri}");
        }
    }

    #[test]
    fn a_proof_is_its_token_and_its_secret_and_nothing_else() {
        let secret = Secret::new("shared");
        let proof = Proof::new(b"token", Some(&secret));
        assert!(proof.is(&Proof::new(b"token", Some(&secret)).value()));
        for other in [
            Proof::new(b"token", None),
            Proof::new(b"other", Some(&secret)),
            Proof::new(b"token", Some(&Secret::new("sharex"))),
        ] {
            assert!(!proof.is(&other.value()));
        }
        assert!(!proof.is(&HeaderValue::from_static("")));
        assert!(!format!("{proof:?} {secret:?} {:?}", proof.value()).contains("746f"));
    }
}

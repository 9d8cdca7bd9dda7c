//! The private listener: requests that other nodes pass on, and nothing else.

use std::sync::Arc;

use http::{Request, StatusCode};
use http_body_util::Either;
use hyper::body::Incoming;
use sockhop::engine::{PeerAddress, Secure};

use super::headers::take_introduction;
use super::metrics::Metrics;
use super::owner::{Proof, session_of};
use crate::http::{Answer, Mounts, Site, status};

/// Serves the sessions of this node to other nodes.
pub(crate) struct PrivateSite {
    pub(crate) mounts: Arc<Mounts>,
    /// What members show.
    pub(crate) proof: Proof,
    pub(crate) metrics: Metrics,
}

impl Site for PrivateSite {
    async fn respond(self: Arc<Self>, mut request: Request<Incoming>) -> Answer {
        let introduction = take_introduction(request.headers_mut());
        if !introduction
            .proof
            .is_some_and(|shown| self.proof.is(&shown))
        {
            self.metrics.received("forbidden");
            return status(StatusCode::FORBIDDEN);
        }
        // Handshakes are served where they arrive, so nobody passes one on.
        let names_session = session_of(request.uri()).is_some();
        let mount = self.mounts.find(request.uri().path());
        let Some(mount) = mount.filter(|_| names_session) else {
            self.metrics.received("not_found");
            return status(StatusCode::NOT_FOUND);
        };
        self.metrics.received("served");
        let extensions = request.extensions_mut();
        extensions.remove::<PeerAddress>();
        if let Some(client) = introduction.client {
            extensions.insert(PeerAddress(client));
        }
        if introduction.secure {
            extensions.insert(Secure);
        }
        mount.call(request.map(Either::Left)).await
    }
}

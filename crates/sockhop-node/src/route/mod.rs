//! Requests that reach the wrong node are passed on to the one that owns their session.
//!
//! The id of a session begins with the tag of its node, so the owner is known without a question.
//! Its address comes from the cluster's membership and from nowhere else: a client can name a
//! node, but never an address. A request takes one hop: what arrives at the private listener is
//! served there, and what carries the mark of a hop is not passed on by the public one either.

mod advertise;
mod forward;
mod headers;
mod members;
mod metrics;
mod owner;
mod private;
mod splice;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use http::{Method, Request};
use http_body_util::Either;
use hyper::body::Incoming;
use sockhop::engine::Tasks;
use sockhop::engine::lane::RequestHead;
use sockhop::engineio::NodeTag;
use sockhop_redis::Secret;

pub(crate) use advertise::advertised;
pub(crate) use forward::ForwardedBody;
pub(crate) use members::members_of;
pub(crate) use metrics::Metrics;
pub(crate) use owner::{FindOwner, Owner, Proof};
pub(crate) use private::PrivateSite;

use crate::http::{Answer, MountPoint};
use forward::Forwarder;
use metrics::Outcome;

/// How the nodes of a cluster reach each other.
#[derive(Clone, Debug)]
pub struct PrivateConfig {
    /// Where other nodes reach this one. Default 127.0.0.1:0, a free port, which is enough when
    /// all nodes are on one machine.
    pub listen: SocketAddr,
    /// What the others are told: an address, or a name, with or without a port. Default: the
    /// address of `listen`, or where that is unspecified, the one that packets to Redis leave by.
    pub advertise: Option<String>,
    /// What all nodes of the cluster know besides the tokens that they exchange over Redis.
    /// Default: nothing.
    pub secret: Option<Secret>,
    /// Requests and WebSockets that may be under way to other nodes at once; more are answered
    /// 503. Default 20,000.
    pub max_forwarded: usize,
    /// How long connecting to another node may take. Default 1 s.
    pub connect_timeout: Duration,
}

impl Default for PrivateConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            advertise: None,
            secret: None,
            max_forwarded: 20_000,
            connect_timeout: Duration::from_secs(1),
        }
    }
}

/// Decides which node serves a request.
pub(crate) struct Router {
    own_tag: NodeTag,
    find_owner: FindOwner,
    forwarder: Forwarder,
    metrics: Metrics,
}

impl Router {
    /// A router of the node with this tag.
    pub(crate) fn new(
        own_tag: NodeTag,
        find_owner: FindOwner,
        config: &PrivateConfig,
        metrics: Metrics,
        tasks: &Tasks,
    ) -> Self {
        Self {
            own_tag,
            find_owner,
            forwarder: Forwarder::new(config, metrics.clone(), tasks),
            metrics,
        }
    }

    /// Answers a request of a client: here, unless its session is another live node's.
    pub(crate) async fn respond(
        &self,
        mount: &MountPoint,
        mut request: Request<Incoming>,
    ) -> Answer {
        // Only between nodes do these headers mean anything.
        let hopped = headers::strip_internal(request.headers_mut());
        match self.owner(&request) {
            Some(owner) if !hopped => {
                // Requests of this node's own sessions should not carry the size of this future.
                Box::pin(self.forwarder.forward(mount, request, owner)).await
            }
            Some(_) => {
                self.metrics.forwarded(Outcome::Hopped);
                mount.call(request.map(Either::Left)).await
            }
            None => mount.call(request.map(Either::Left)).await,
        }
    }

    /// Whether a request is for this node without any doubt, and carries nothing between nodes.
    pub(crate) fn is_ours(&self, head: &RequestHead<'_>) -> bool {
        let session = owner::session_in(head.query());
        let is_own = session.is_none_or(|session| session.node_tag() == self.own_tag);
        is_own && !headers::is_internal(head)
    }

    /// Ends what is under way to other nodes, WebSockets at random times within `spread`.
    pub(crate) fn drain(&self, spread: Duration) {
        self.forwarder.drain(spread);
    }

    /// The other node that owns the session of this request. A session of no known node is
    /// unknown here too, and refused as such by the mount.
    fn owner(&self, request: &Request<Incoming>) -> Option<Owner> {
        if !matches!(*request.method(), Method::GET | Method::POST) {
            return None;
        }
        let tag = owner::session_of(request.uri())?.node_tag();
        if tag == self.own_tag {
            return None;
        }
        let owner = (self.find_owner)(tag);
        if owner.is_none() {
            self.metrics.forwarded(Outcome::UnknownOwner);
        }
        owner
    }
}

//! Nodes of a cluster, as they tell about themselves.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::bus::NodeId;

/// One node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which.
    pub node: NodeId,
    /// When it started. *Units:* milliseconds since 1970.
    pub started_ms: u64,
    /// The version of its sockhop.
    pub version: String,
    /// The dialects that it speaks beside the native wire.
    pub dialects: Vec<String>,
    /// Where it takes requests that reached the wrong node.
    pub address: Option<SocketAddr>,
    /// What such a request must carry.
    pub token: ForwardToken,
}

impl Member {
    /// The tag in the ids of its sessions and sockets.
    #[must_use]
    pub const fn tag(&self) -> u32 {
        self.node.tag()
    }
}

/// A secret that a node draws at its start and tells the other nodes, so that it knows their
/// requests from those of anybody else.
///
/// *Shape:* 32 random bytes. `Debug` shows none of them.
#[derive(Clone, Copy, Eq)]
pub struct ForwardToken([u8; 32]);

impl ForwardToken {
    /// The token of these bytes, which the caller drew at random.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Takes the same time wherever two tokens differ.
impl PartialEq for ForwardToken {
    fn eq(&self, other: &Self) -> bool {
        let bytes = self.0.iter().zip(&other.0);
        bytes.fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
    }
}

impl fmt::Debug for ForwardToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ForwardToken(…)")
    }
}

/// How a node takes part in its cluster, and every limit of that with its default.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// Where other nodes can bring requests that reached them by mistake. Default: nowhere.
    pub advertise: Option<SocketAddr>,
    /// What those requests must carry. Default: none is set, and the server draws one.
    pub forward_token: Option<ForwardToken>,
    /// The dialects that this node speaks, as the others are told. Default: none.
    pub dialects: Vec<String>,
    /// How often the node says that it is there. Default 2 s.
    pub heartbeat: Duration,
    /// How long a node that says nothing counts as there. Default 8 s.
    pub member_timeout: Duration,
    /// How long a query waits for the other nodes. Default 5 s.
    pub request_timeout: Duration,
    /// Other nodes that are known at once; more are ignored, and counted. Default 1,024.
    pub max_members: usize,
    /// Queries of this node that wait for answers; more are not sent to other nodes, whose answers
    /// are then missing. Default 10,000.
    pub max_requests: usize,
    /// Queries of other nodes that this node works on; more are ignored, and counted. Default 10,000.
    pub max_served: usize,
    /// Rooms of one broadcast that are published each on its own; a broadcast to more goes to every
    /// node of the namespace. Default 16.
    pub max_topics_per_broadcast: usize,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            advertise: None,
            forward_token: None,
            dialects: Vec::new(),
            heartbeat: Duration::from_secs(2),
            member_timeout: Duration::from_secs(8),
            request_timeout: Duration::from_secs(5),
            max_members: 1_024,
            max_requests: 10_000,
            max_served: 10_000,
            max_topics_per_broadcast: 16,
        }
    }
}

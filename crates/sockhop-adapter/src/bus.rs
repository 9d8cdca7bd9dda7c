//! How bytes get from node to node.

mod memory;

use std::fmt;
use std::task::{Context, Poll};

use bytes::Bytes;

pub use memory::{MemoryBus, MemoryBusLimits, MemoryBusStats, MemoryHub};

/// Identifies a node of a cluster, once: a node that comes back is a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u64);

impl NodeId {
    /// The node with this number, which the caller drew at random.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Why a frame did not get onto the bus, or not to every node. An outage: local delivery is not
/// affected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// The frame is larger than the bus takes.
    #[error("frame of {bytes} bytes exceeds the limit of {limit}")]
    FrameTooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A list in the message is longer than the wire takes.
    #[error("list of {items} items exceeds the limit of {limit}")]
    ListTooLong {
        /// Rooms, exceptions or attachments.
        items: usize,
        /// The limit.
        limit: usize,
    },
    /// A queue is full.
    #[error("a queue of the bus is full")]
    QueueFull,
    /// No such node is attached.
    #[error("node {0} is not there")]
    UnknownNode(NodeId),
}

/// Moves frames between the nodes of a cluster, as one node sees it. It does not look into them.
///
/// *Shape:* four operations: publish to the subscribers of a topic, publish to one node, subscribe
/// (and unsubscribe), and incoming. None of them waits. Frames of one node reach another in the
/// order in which they were published, whatever their topics. A node that subscribes to its own
/// topic hears itself.
pub trait Bus: fmt::Debug + Send + Sync + 'static {
    /// The node that this end belongs to.
    fn node(&self) -> NodeId;

    /// Whether there is no other node, so that publishing would be in vain.
    fn is_alone(&self) -> bool;

    /// Sends a frame to every node that subscribed to `topic`.
    ///
    /// # Errors
    /// Some or all nodes will miss the frame. It is counted.
    fn publish(&self, topic: &str, frame: Bytes) -> Result<(), BusError>;

    /// Sends a frame to one node, whatever it subscribed to.
    ///
    /// # Errors
    /// The node will miss the frame. It is counted.
    fn publish_to_node(&self, node: NodeId, frame: Bytes) -> Result<(), BusError>;

    /// Begins to receive what is published to `topic`. Subscriptions are counted: the topic stays
    /// until it was unsubscribed as often as it was subscribed.
    fn subscribe(&self, topic: &str);

    /// Takes one subscription back.
    fn unsubscribe(&self, topic: &str);

    /// Takes out the frames that have arrived, oldest first and at least one, or registers the
    /// one task that drives this node to be woken.
    fn poll_incoming(&self, cx: &mut Context<'_>) -> Poll<Vec<Bytes>>;
}

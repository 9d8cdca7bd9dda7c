//! How bytes get from node to node.

mod channels;
mod inbox;
mod lonely;
mod memory;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use engineio_proto::Text;

pub use channels::MemoryChannels;
pub use inbox::Inbox;
pub use lonely::LonelyBus;
pub use memory::{Fate, MemoryBus, MemoryBusLimits, MemoryBusStats, MemoryHub, Network};

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

    /// The tag in the ids of this node's sessions and sockets: the top 24 bits.
    #[must_use]
    pub const fn tag(self) -> u32 {
        (self.0 >> 40) as u32
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
    /// There is no connection to the other nodes at the moment.
    #[error("the link to the other nodes is down")]
    LinkDown,
}

/// Whether a node can be heard and hears the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Yes, as far as the bus knows.
    Up,
    /// No.
    Down {
        /// Since when.
        since: Instant,
    },
}

impl Link {
    /// Whether it is [`Link::Up`].
    #[must_use]
    pub const fn is_up(self) -> bool {
        matches!(self, Self::Up)
    }
}

/// A wait that ends by itself, such as [`Bus::synced`].
pub type Wait<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Moves frames between the nodes of a cluster, as one node sees it. It does not look into them,
/// and it knows nothing of who is a member.
///
/// *Shape:* publish to the subscribers of a topic, publish to one node, subscribe (and
/// unsubscribe), and incoming. None of them waits. Frames of one node reach another in the order
/// in which they were published, whatever their topics. A node that subscribes to its own topic
/// hears itself. What is published while the link is down is lost; subscriptions are not.
pub trait Bus: fmt::Debug + Send + Sync + 'static {
    /// The node that this end belongs to.
    fn node(&self) -> NodeId;

    /// Whether it is certain that there is no other node and that none will come. Default: no.
    fn is_alone(&self) -> bool {
        false
    }

    /// Sends a frame to every node that subscribed to `topic`.
    ///
    /// # Errors
    /// Some or all nodes will miss the frame. It is counted.
    fn publish(&self, topic: &str, frame: Bytes) -> Result<(), BusError>;

    /// Sends a frame to one node, whatever it subscribed to.
    ///
    /// # Errors
    /// The node will miss the frame. It is counted. That the node is not there is not always
    /// known, so success says nothing about that.
    fn publish_to_node(&self, node: NodeId, frame: Bytes) -> Result<(), BusError>;

    /// Begins to receive what is published to `topic`. Subscriptions are counted: the topic stays
    /// until it was unsubscribed as often as it was subscribed.
    ///
    /// *Shape:* returns at once and is in force a little later, see [`Self::synced`]. Many changes
    /// in a short time travel together.
    fn subscribe(&self, topic: &str);

    /// Takes one subscription back.
    fn unsubscribe(&self, topic: &str);

    /// Ready when every subscription that was made before this call is in force; also when the
    /// link is down (they are in force when it is up again) or a bounded wait has passed.
    fn synced(&self) -> Wait<()>;

    /// Whether this node is heard and hears.
    fn link(&self) -> Link;

    /// Takes out the frames that have arrived, oldest first and at least one, or registers the
    /// one task that drives this node to be woken.
    fn poll_incoming(&self, cx: &mut Context<'_>) -> Poll<Vec<Bytes>>;
}

/// What came over a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelMessage {
    /// On which one.
    pub channel: Text,
    /// The bytes as they were published.
    pub payload: Bytes,
}

/// Plain channels beside the [`Bus`], for the dialects of other servers that meet at the same
/// place. Names are used as they are, without a prefix.
///
/// *Shape:* as the bus, nothing waits, and subscriptions are counted and outlive the link. A
/// message on a channel that was subscribed by name and by pattern comes once for each.
pub trait Channels: fmt::Debug + Send + Sync + 'static {
    /// Sends a message to whoever subscribed to the channel.
    ///
    /// # Errors
    /// Some or all will miss it. It is counted.
    fn publish(&self, channel: &str, payload: Bytes) -> Result<(), BusError>;

    /// Begins to receive what is published on this channel.
    fn subscribe(&self, channel: &str);

    /// Takes one [`Self::subscribe`] back.
    fn unsubscribe(&self, channel: &str);

    /// Begins to receive what is published on every channel that fits a pattern of Redis: `*` is
    /// any text, `?` any byte, `[ab]` one of these, and `\\` takes away a meaning.
    fn subscribe_pattern(&self, pattern: &str);

    /// Takes one [`Self::subscribe_pattern`] back.
    fn unsubscribe_pattern(&self, pattern: &str);

    /// How many connections subscribed to this channel by name. `None`: not known in time.
    fn count_subscribers(&self, channel: &str) -> Wait<Option<usize>>;

    /// As [`Bus::synced`].
    fn synced(&self) -> Wait<()>;

    /// Takes out the messages that have arrived, oldest first and at least one, or registers the
    /// one task that drives this node to be woken.
    fn poll_incoming(&self, cx: &mut Context<'_>) -> Poll<Vec<ChannelMessage>>;
}

//! The bus between nodes of one process.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use smallvec::SmallVec;

use super::inbox::Inbox;
use super::{Bus, BusError, Link, MemoryChannels, NodeId, Wait};
use crate::stats::Counter;

/// What the bus inside one process takes.
#[derive(Clone, Copy, Debug)]
pub struct MemoryBusLimits {
    /// Bytes of one frame. Default: 16 MiB.
    pub max_frame_bytes: usize,
    /// Bytes waiting for one node. Default: 64 MiB.
    pub max_queue_bytes: usize,
}

impl Default for MemoryBusLimits {
    fn default() -> Self {
        Self {
            max_frame_bytes: 16 << 20,
            max_queue_bytes: 64 << 20,
        }
    }
}

/// What one end of the bus has moved.
#[derive(Debug, Default)]
pub struct MemoryBusStats {
    /// Frames published here that every receiver took.
    pub published: Counter,
    /// Frames published here that were refused for their size.
    pub refused: Counter,
    /// Frames queued for this node.
    pub received: Counter,
    /// Bytes of the frames queued for this node.
    pub received_bytes: Counter,
    /// Frames that this node missed because its queue was full.
    pub dropped: Counter,
    /// Frames that this node missed because its link was down or the [`Network`] lost them.
    pub lost: Counter,
}

/// Decides what becomes of frames on their way; for simulations.
pub trait Network: fmt::Debug + Send + Sync + 'static {
    /// Says what becomes of a frame. Called once for each receiver, in the order of the frames.
    fn carry(&self, from: NodeId, to: NodeId, frame: &Bytes) -> Fate;
}

/// What becomes of a frame on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives at once.
    Deliver,
    /// It arrives at once, and once more.
    Twice,
    /// It is lost, and counted.
    Drop,
    /// The network has kept a copy and will bring it with [`MemoryHub::deliver`].
    Held,
}

/// Where the nodes of one process meet.
#[derive(Clone, Debug, Default)]
pub struct MemoryHub(Arc<Hub>);

#[derive(Debug, Default)]
struct Hub {
    limits: MemoryBusLimits,
    network: Option<Arc<dyn Network>>,
    directory: RwLock<Directory>,
    channels: super::channels::Hub,
}

#[derive(Debug, Default)]
struct Directory {
    nodes: HashMap<NodeId, Arc<Port>>,
    /// Who subscribed to a topic, and how often.
    topics: HashMap<Box<str>, HashMap<NodeId, usize>>,
    /// Whose link is down, and since when.
    down: HashMap<NodeId, Instant>,
}

/// Where the frames for one node wait.
#[derive(Debug)]
struct Port {
    node: NodeId,
    inbox: Inbox<Bytes>,
    stats: MemoryBusStats,
}

/// One node's end of a [`MemoryHub`]. Dropping it detaches the node.
#[derive(Debug)]
pub struct MemoryBus {
    node: NodeId,
    hub: Arc<Hub>,
    port: Arc<Port>,
}

impl MemoryHub {
    /// A hub without nodes.
    #[must_use]
    pub fn new(limits: MemoryBusLimits) -> Self {
        Self(Arc::new(Hub {
            limits,
            ..Hub::default()
        }))
    }

    /// A hub without nodes whose frames travel through `network`.
    #[must_use]
    pub fn with_network(limits: MemoryBusLimits, network: Arc<dyn Network>) -> Self {
        Self(Arc::new(Hub {
            limits,
            network: Some(network),
            ..Hub::default()
        }))
    }

    /// Lets `node` in. `None`: it is in already.
    #[must_use]
    pub fn attach(&self, node: NodeId) -> Option<MemoryBus> {
        let port = Arc::new(Port {
            node,
            inbox: Inbox::new(self.0.limits.max_queue_bytes, Bytes::len),
            stats: MemoryBusStats::default(),
        });
        self.0.change(|directory| {
            if directory.nodes.contains_key(&node) {
                return None;
            }
            directory.nodes.insert(node, Arc::clone(&port));
            Some(())
        })?;
        Some(MemoryBus {
            node,
            hub: Arc::clone(&self.0),
            port,
        })
    }

    /// An end of the plain channels of this hub.
    #[must_use]
    pub fn channels(&self) -> MemoryChannels {
        self.0.channels.attach(self.0.limits)
    }

    /// Takes the link of a node down, as from `now`: it can neither publish nor receive.
    pub fn take_down(&self, node: NodeId, now: Instant) {
        self.0.change(|directory| {
            directory.down.entry(node).or_insert(now);
        });
    }

    /// Brings the link of a node up again. Its subscriptions are as they were.
    pub fn bring_up(&self, node: NodeId) {
        self.0.change(|directory| {
            directory.down.remove(&node);
        });
    }

    /// Brings a frame that was [held](Fate::Held). False: nobody takes it.
    pub fn deliver(&self, to: NodeId, frame: Bytes) -> bool {
        let port = self.0.look(|directory| directory.port(to));
        port.is_some_and(|port| port.push(frame).is_ok())
    }
}

impl Hub {
    fn look<R>(&self, look: impl FnOnce(&Directory) -> R) -> R {
        look(
            &self
                .directory
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    fn change<R>(&self, change: impl FnOnce(&mut Directory) -> R) -> R {
        change(
            &mut self
                .directory
                .write()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    fn carry(&self, from: NodeId, to: &Port, frame: &Bytes) -> Result<(), BusError> {
        let fate = match &self.network {
            Some(network) => network.carry(from, to.node, frame),
            None => Fate::Deliver,
        };
        match fate {
            Fate::Deliver => to.push(frame.clone()),
            Fate::Twice => to.push(frame.clone()).and_then(|()| to.push(frame.clone())),
            Fate::Drop => {
                to.stats.lost.add(1);
                Ok(())
            }
            Fate::Held => Ok(()),
        }
    }
}

impl Directory {
    /// Where frames for `node` go; `None`, and counted, while its link is down.
    fn port(&self, node: NodeId) -> Option<Arc<Port>> {
        let port = self.nodes.get(&node)?;
        if self.down.contains_key(&node) {
            port.stats.lost.add(1);
            return None;
        }
        Some(Arc::clone(port))
    }
}

impl Port {
    fn push(&self, frame: Bytes) -> Result<(), BusError> {
        let len = frame.len();
        if !self.inbox.push(frame) {
            self.stats.dropped.add(1);
            return Err(BusError::QueueFull);
        }
        self.stats.received.add(1);
        self.stats.received_bytes.add(len);
        Ok(())
    }
}

impl MemoryBus {
    /// What this end has moved.
    #[must_use]
    pub fn stats(&self) -> &MemoryBusStats {
        &self.port.stats
    }

    /// The topics that this node is subscribed to, in order.
    #[must_use]
    pub fn subscriptions(&self) -> Vec<String> {
        let mut topics: Vec<String> = self.hub.look(|directory| {
            let topics = directory.topics.iter();
            topics
                .filter(|(_, subscribers)| subscribers.contains_key(&self.node))
                .map(|(topic, _)| topic.to_string())
                .collect()
        });
        topics.sort_unstable();
        topics
    }

    fn send(&self, receivers: &[Arc<Port>], frame: &Bytes) -> Result<(), BusError> {
        // One full queue is no reason for the others to miss the frame.
        let mut result = Ok(());
        for port in receivers {
            result = self.hub.carry(self.node, port, frame).and(result);
        }
        if result.is_ok() {
            self.port.stats.published.add(1);
        }
        result
    }

    fn check(&self, frame: &Bytes) -> Result<(), BusError> {
        let limit = self.hub.limits.max_frame_bytes;
        if frame.len() > limit {
            self.port.stats.refused.add(1);
            return Err(BusError::FrameTooLarge {
                bytes: frame.len(),
                limit,
            });
        }
        match self.link() {
            Link::Up => Ok(()),
            Link::Down { .. } => Err(BusError::LinkDown),
        }
    }
}

impl Bus for MemoryBus {
    fn node(&self) -> NodeId {
        self.node
    }

    fn publish(&self, topic: &str, frame: Bytes) -> Result<(), BusError> {
        self.check(&frame)?;
        let receivers: SmallVec<[Arc<Port>; 8]> = self.hub.look(|directory| {
            let subscribers = directory.topics.get(topic).into_iter().flatten();
            subscribers
                .filter_map(|(node, _)| directory.port(*node))
                .collect()
        });
        self.send(&receivers, &frame)
    }

    fn publish_to_node(&self, node: NodeId, frame: Bytes) -> Result<(), BusError> {
        self.check(&frame)?;
        let receiver = self.hub.look(|directory| {
            if !directory.nodes.contains_key(&node) {
                return Err(BusError::UnknownNode(node));
            }
            Ok(directory.port(node))
        })?;
        self.send(receiver.as_slice(), &frame)
    }

    fn subscribe(&self, topic: &str) {
        self.hub.change(|directory| {
            let subscribers = directory.topics.entry(topic.into()).or_default();
            *subscribers.entry(self.node).or_default() += 1;
        });
    }

    fn unsubscribe(&self, topic: &str) {
        self.hub.change(|directory| {
            let Some(subscribers) = directory.topics.get_mut(topic) else {
                return;
            };
            if let Some(count) = subscribers.get_mut(&self.node) {
                *count -= 1;
                if *count == 0 {
                    subscribers.remove(&self.node);
                }
            }
            if subscribers.is_empty() {
                directory.topics.remove(topic);
            }
        });
    }

    fn synced(&self) -> Wait<()> {
        Box::pin(std::future::ready(()))
    }

    fn link(&self) -> Link {
        self.hub
            .look(|directory| match directory.down.get(&self.node) {
                Some(&since) => Link::Down { since },
                None => Link::Up,
            })
    }

    fn poll_incoming(&self, cx: &mut Context<'_>) -> Poll<Vec<Bytes>> {
        self.port.inbox.poll_take(cx)
    }
}

impl Drop for MemoryBus {
    fn drop(&mut self) {
        self.hub.change(|directory| {
            directory.nodes.remove(&self.node);
            directory.down.remove(&self.node);
            directory.topics.retain(|_, subscribers| {
                subscribers.remove(&self.node);
                !subscribers.is_empty()
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::super::inbox::ENTRY_OVERHEAD_BYTES;
    use super::*;

    fn attach(hub: &MemoryHub, node: u64) -> MemoryBus {
        hub.attach(NodeId::new(node)).unwrap()
    }

    fn incoming(bus: &MemoryBus) -> Vec<Bytes> {
        match bus.poll_incoming(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(frames) => frames,
            Poll::Pending => Vec::new(),
        }
    }

    #[test]
    fn a_topic_reaches_its_subscribers_only_and_in_order() {
        let hub = MemoryHub::default();
        let [a, b, c] = [1, 2, 3].map(|node| attach(&hub, node));
        b.subscribe("/");
        c.subscribe("/other");
        for frame in ["one", "two"] {
            a.publish("/", Bytes::from(frame)).unwrap();
        }
        a.publish_to_node(NodeId::new(2), Bytes::from("three"))
            .unwrap();
        assert_eq!(incoming(&b), ["one", "two", "three"]);
        assert!(incoming(&a).is_empty());
        assert!(incoming(&c).is_empty());
    }

    #[test]
    fn subscriptions_are_counted() {
        let hub = MemoryHub::default();
        let bus = attach(&hub, 1);
        bus.subscribe("/");
        bus.subscribe("/");
        bus.unsubscribe("/");
        bus.publish("/", Bytes::from("heard")).unwrap();
        bus.unsubscribe("/");
        bus.publish("/", Bytes::from("unheard")).unwrap();
        assert_eq!(incoming(&bus), ["heard"]);
        assert!(hub.0.look(|directory| directory.topics.is_empty()));
    }

    #[test]
    fn a_full_queue_is_counted_and_the_other_nodes_still_receive() {
        let hub = MemoryHub::new(MemoryBusLimits {
            max_frame_bytes: 100,
            max_queue_bytes: 2 * (100 + ENTRY_OVERHEAD_BYTES),
        });
        let [a, b, c] = [1, 2, 3].map(|node| attach(&hub, node));
        b.subscribe("/");
        c.subscribe("/");
        let frame = Bytes::from(vec![0; 100]);
        a.publish("/", frame.clone()).unwrap();
        a.publish("/", frame.clone()).unwrap();
        assert_eq!(incoming(&c).len(), 2);
        assert_eq!(a.publish("/", frame.clone()), Err(BusError::QueueFull));
        assert_eq!(b.stats().dropped.get(), 1);
        assert_eq!((incoming(&b).len(), incoming(&c).len()), (2, 1));
        assert_eq!(a.publish("/", frame), Ok(()));
    }

    #[test]
    fn a_frame_above_the_limit_is_refused_and_counted() {
        let hub = MemoryHub::new(MemoryBusLimits {
            max_frame_bytes: 3,
            ..MemoryBusLimits::default()
        });
        let bus = attach(&hub, 1);
        let refusal = BusError::FrameTooLarge { bytes: 4, limit: 3 };
        assert_eq!(bus.publish("/", Bytes::from("four")), Err(refusal));
        assert_eq!(bus.stats().refused.get(), 1);
    }

    #[test]
    fn a_node_that_detached_leaves_nothing_behind() {
        let hub = MemoryHub::default();
        let a = attach(&hub, 1);
        let b = attach(&hub, 2);
        assert!(hub.attach(NodeId::new(2)).is_none());
        b.subscribe("/");
        drop(b);
        assert!(hub.0.look(|directory| directory.topics.is_empty()));
        assert_eq!(
            a.publish_to_node(NodeId::new(2), Bytes::new()),
            Err(BusError::UnknownNode(NodeId::new(2)))
        );
    }

    #[test]
    fn while_its_link_is_down_a_node_neither_speaks_nor_hears() {
        let hub = MemoryHub::default();
        let [a, b] = [1, 2].map(|node| attach(&hub, node));
        b.subscribe("/");
        let since = Instant::now();
        hub.take_down(b.node(), since);
        assert_eq!(b.link(), Link::Down { since });
        a.publish("/", Bytes::from("lost")).unwrap();
        let refusal = Err(BusError::LinkDown);
        assert_eq!(b.publish_to_node(a.node(), Bytes::from("unsaid")), refusal);
        hub.bring_up(b.node());
        a.publish("/", Bytes::from("heard")).unwrap();
        assert_eq!(incoming(&b), ["heard"]);
        assert_eq!(b.stats().lost.get(), 1);
        assert!(b.link().is_up() && incoming(&a).is_empty());
    }

    #[derive(Debug)]
    struct ByFirstLetter;

    impl Network for ByFirstLetter {
        fn carry(&self, _: NodeId, _: NodeId, frame: &Bytes) -> Fate {
            match frame.first() {
                Some(b't') => Fate::Twice,
                Some(b'd') => Fate::Drop,
                Some(b'h') => Fate::Held,
                _ => Fate::Deliver,
            }
        }
    }

    #[test]
    fn a_network_loses_repeats_and_holds_frames() {
        let hub = MemoryHub::with_network(MemoryBusLimits::default(), Arc::new(ByFirstLetter));
        let [a, b] = [1, 2].map(|node| attach(&hub, node));
        b.subscribe("/");
        for frame in ["hold", "one", "twice", "drop"] {
            a.publish("/", Bytes::from(frame)).unwrap();
        }
        assert!(hub.deliver(b.node(), Bytes::from("hold")));
        assert_eq!(incoming(&b), ["one", "twice", "twice", "hold"]);
        assert_eq!(b.stats().lost.get(), 1);
        assert!(!hub.deliver(NodeId::new(3), Bytes::new()));
    }
}

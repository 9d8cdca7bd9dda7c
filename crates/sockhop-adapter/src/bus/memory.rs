//! The bus between nodes of one process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use smallvec::SmallVec;

use super::{Bus, BusError, NodeId};
use crate::stats::Counter;

/// What a queued frame costs besides its bytes.
const ENTRY_OVERHEAD_BYTES: usize = 64;

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
}

/// Where the nodes of one process meet.
#[derive(Clone, Debug, Default)]
pub struct MemoryHub(Arc<Hub>);

#[derive(Debug, Default)]
struct Hub {
    limits: MemoryBusLimits,
    directory: RwLock<Directory>,
}

#[derive(Debug, Default)]
struct Directory {
    nodes: HashMap<NodeId, Arc<Inbox>>,
    /// Who subscribed to a topic, and how often.
    topics: HashMap<Box<str>, HashMap<NodeId, usize>>,
}

#[derive(Debug, Default)]
struct Inbox {
    queue: Mutex<Queue>,
    stats: MemoryBusStats,
}

#[derive(Debug, Default)]
struct Queue {
    frames: Vec<Bytes>,
    bytes: usize,
    waker: Option<Waker>,
}

/// One node's end of a [`MemoryHub`]. Dropping it detaches the node.
#[derive(Debug)]
pub struct MemoryBus {
    node: NodeId,
    hub: Arc<Hub>,
    inbox: Arc<Inbox>,
}

impl MemoryHub {
    /// A hub without nodes.
    #[must_use]
    pub fn new(limits: MemoryBusLimits) -> Self {
        Self(Arc::new(Hub {
            limits,
            directory: RwLock::default(),
        }))
    }

    /// Lets `node` in. `None`: it is in already.
    #[must_use]
    pub fn attach(&self, node: NodeId) -> Option<MemoryBus> {
        let inbox = Arc::new(Inbox::default());
        self.0.change(|directory| {
            if directory.nodes.contains_key(&node) {
                return None;
            }
            directory.nodes.insert(node, Arc::clone(&inbox));
            Some(())
        })?;
        Some(MemoryBus {
            node,
            hub: Arc::clone(&self.0),
            inbox,
        })
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
}

impl Inbox {
    fn push(&self, frame: Bytes, limits: &MemoryBusLimits) -> Result<(), BusError> {
        let cost = frame.len() + ENTRY_OVERHEAD_BYTES;
        let waker = {
            let mut queue = self.lock();
            if queue.bytes + cost > limits.max_queue_bytes {
                self.stats.dropped.add(1);
                return Err(BusError::QueueFull);
            }
            self.stats.received.add(1);
            self.stats.received_bytes.add(frame.len());
            queue.bytes += cost;
            queue.frames.push(frame);
            queue.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryBus {
    /// What this end has moved.
    #[must_use]
    pub fn stats(&self) -> &MemoryBusStats {
        &self.inbox.stats
    }

    fn send(&self, receivers: &[Arc<Inbox>], frame: &Bytes) -> Result<(), BusError> {
        // One full queue is no reason for the others to miss the frame.
        let mut result = Ok(());
        for inbox in receivers {
            result = inbox.push(frame.clone(), &self.hub.limits).and(result);
        }
        if result.is_ok() {
            self.inbox.stats.published.add(1);
        }
        result
    }

    fn check_size(&self, frame: &Bytes) -> Result<(), BusError> {
        let limit = self.hub.limits.max_frame_bytes;
        if frame.len() <= limit {
            return Ok(());
        }
        self.inbox.stats.refused.add(1);
        Err(BusError::FrameTooLarge {
            bytes: frame.len(),
            limit,
        })
    }
}

impl Bus for MemoryBus {
    fn node(&self) -> NodeId {
        self.node
    }

    fn is_alone(&self) -> bool {
        self.hub.look(|directory| directory.nodes.len() <= 1)
    }

    fn publish(&self, topic: &str, frame: Bytes) -> Result<(), BusError> {
        self.check_size(&frame)?;
        let receivers: SmallVec<[Arc<Inbox>; 8]> = self.hub.look(|directory| {
            let subscribers = directory.topics.get(topic).into_iter().flatten();
            subscribers
                .filter_map(|(node, _)| directory.nodes.get(node).cloned())
                .collect()
        });
        self.send(&receivers, &frame)
    }

    fn publish_to_node(&self, node: NodeId, frame: Bytes) -> Result<(), BusError> {
        self.check_size(&frame)?;
        let receiver = self
            .hub
            .look(|directory| directory.nodes.get(&node).cloned());
        self.send(&[receiver.ok_or(BusError::UnknownNode(node))?], &frame)
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

    fn poll_incoming(&self, cx: &mut Context<'_>) -> Poll<Vec<Bytes>> {
        let mut queue = self.inbox.lock();
        if !queue.frames.is_empty() {
            queue.bytes = 0;
            return Poll::Ready(std::mem::take(&mut queue.frames));
        }
        let registered = |waker: &Waker| waker.will_wake(cx.waker());
        if !queue.waker.as_ref().is_some_and(registered) {
            let replaced = queue.waker.replace(cx.waker().clone());
            // Dropping a waker may drop a whole task: not while this is locked.
            drop(queue);
            drop(replaced);
        }
        Poll::Pending
    }
}

impl Drop for MemoryBus {
    fn drop(&mut self) {
        self.hub.change(|directory| {
            directory.nodes.remove(&self.node);
            directory.topics.retain(|_, subscribers| {
                subscribers.remove(&self.node);
                !subscribers.is_empty()
            });
        });
    }
}

#[cfg(test)]
mod tests {
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
        assert!(!a.is_alone());
        drop(b);
        assert!(a.is_alone());
        assert!(hub.0.look(|directory| directory.topics.is_empty()));
        assert_eq!(
            a.publish_to_node(NodeId::new(2), Bytes::new()),
            Err(BusError::UnknownNode(NodeId::new(2)))
        );
    }
}

//! What all links of a bus share.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant as StdInstant};

use bytes::Bytes;
use sockhop_adapter::bus::Inbox;
use sockhop_adapter::{ChannelMessage, Link as LinkState, NodeId};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::RedisConfig;
use crate::connect::Connector;
use crate::link::Role;
use crate::metrics::{Dropped, Metrics};

/// Failures to connect are told at most this often.
const TELL_FAILURES_EVERY: Duration = Duration::from_secs(10);

/// Starts tasks. A closure will do: `|name, task| tasks.spawn(name, task)`.
pub trait Spawner: Send + Sync + 'static {
    /// Runs `task` on the runtime that the bus was started on.
    fn spawn_boxed(&self, name: &'static str, task: Pin<Box<dyn Future<Output = ()> + Send>>);
}

impl<F> Spawner for F
where
    F: Fn(&'static str, Pin<Box<dyn Future<Output = ()> + Send>>) + Send + Sync + 'static,
{
    fn spawn_boxed(&self, name: &'static str, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self(name, task);
    }
}

impl dyn Spawner {
    pub(crate) fn spawn(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.spawn_boxed(name, Box::pin(task));
    }
}

pub(crate) struct Shared {
    pub(crate) config: RedisConfig,
    pub(crate) node: NodeId,
    pub(crate) connector: Connector,
    pub(crate) metrics: Metrics,
    pub(crate) spawner: Arc<dyn Spawner>,
    pub(crate) frames: Inbox<Bytes>,
    pub(crate) messages: Inbox<ChannelMessage>,
    /// The whole bus has ended.
    pub(crate) closed: CancellationToken,
    closing: AtomicBool,
    overall: watch::Sender<Overall>,
    moved: Notify,
    failure_told: Mutex<Option<Instant>>,
}

/// The links together.
#[derive(Clone, Copy, Debug)]
struct Overall {
    down: usize,
    state: LinkState,
}

/// Whom a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It is a frame of another node.
    Bus,
    /// We sent it to ourselves.
    Canary,
    /// It came over a channel of somebody else's naming.
    Channel,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(
        config: RedisConfig,
        node: NodeId,
        connector: Connector,
        metrics: Metrics,
        spawner: Arc<dyn Spawner>,
    ) -> Self {
        let limit = config.incoming_queue_bytes;
        Self {
            config,
            node,
            connector,
            metrics,
            spawner,
            frames: Inbox::new(limit, Bytes::len),
            messages: Inbox::new(limit, |message| {
                message.channel.len() + message.payload.len()
            }),
            closed: CancellationToken::new(),
            closing: AtomicBool::new(false),
            overall: watch::Sender::new(Overall {
                down: 0,
                state: LinkState::Down {
                    since: StdInstant::now(),
                },
            }),
            moved: Notify::new(),
            failure_told: Mutex::new(None),
        }
    }

    /// The channel of one node.
    pub(crate) fn node_channel(&self, node: NodeId) -> String {
        format!("{}:n:{node}", self.config.prefix)
    }

    /// The channel of one topic.
    pub(crate) fn topic_channel(&self, topic: &str) -> String {
        format!("{}:t:{topic}", self.config.prefix)
    }

    /// The channel on which a link talks to itself.
    pub(crate) fn canary_channel(&self) -> String {
        format!("{}:c:{}", self.config.prefix, self.node)
    }

    /// Whom a message on this channel is for.
    pub(crate) fn origin(&self, channel: &[u8]) -> Origin {
        match channel.strip_prefix(self.config.prefix.as_bytes()) {
            Some([b':', b't' | b'n', b':', ..]) => Origin::Bus,
            Some([b':', b'c', b':', ..]) => Origin::Canary,
            _ => Origin::Channel,
        }
    }

    /// What the server's list of clients calls a connection of ours.
    pub(crate) fn client_name(&self, role: Role) -> String {
        format!("sockhop-{}-{}", self.node, role.name())
    }

    /// Hands over what arrived and counts it.
    pub(crate) fn deliver(&self, frames: &mut Vec<Bytes>, messages: &mut Vec<ChannelMessage>) {
        let count = frames.len() + messages.len();
        if count == 0 {
            return;
        }
        let frame_bytes: usize = frames.iter().map(Bytes::len).sum();
        let message_bytes: usize = messages.iter().map(|message| message.payload.len()).sum();
        self.metrics.received.inc_by(count as u64);
        self.metrics
            .received_bytes
            .inc_by((frame_bytes + message_bytes) as u64);
        let frames = self.frames.extend(frames.drain(..));
        let dropped = frames + self.messages.extend(messages.drain(..));
        if dropped > 0 {
            self.metrics.dropped(Dropped::IncomingFull, dropped);
        }
    }

    /// From now on nothing is published, and what is queued leaves.
    pub(crate) fn begin_closing(&self) {
        self.closing.store(true, Ordering::Release);
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// One link more is down; also one that is yet to come.
    pub(crate) fn link_went_down(&self) {
        self.overall.send_modify(|overall| {
            overall.down += 1;
            if overall.state.is_up() {
                let since = StdInstant::now();
                overall.state = LinkState::Down { since };
            }
            self.metrics.link_up.set(0);
        });
    }

    /// One link less is down; also one that was down and is not needed any more.
    pub(crate) fn link_went_up(&self) {
        self.overall.send_modify(|overall| {
            overall.down = overall.down.saturating_sub(1);
            if overall.down == 0 {
                overall.state = LinkState::Up;
                self.metrics.link_up.set(1);
            }
        });
    }

    /// Whether the node hears itself over all links.
    pub(crate) fn state(&self) -> LinkState {
        self.overall.borrow().state
    }

    /// Waits until the node hears itself over all links, or until it does not.
    pub(crate) async fn reached(&self, up: bool) {
        let mut overall = self.overall.subscribe();
        // The sender is ours, so it is not gone.
        let _ = overall
            .wait_for(|overall| overall.state.is_up() == up)
            .await;
    }

    /// The servers of a cluster are not known yet: a link that is down.
    pub(crate) fn servers_unknown(&self) {
        self.link_went_down();
    }

    /// Now they are.
    pub(crate) fn servers_known(&self) {
        self.link_went_up();
    }

    /// A server said, or it looks as if, another one has taken over.
    pub(crate) fn something_moved(&self) {
        self.moved.notify_one();
    }

    /// Waits for [`Self::something_moved`].
    pub(crate) async fn moved(&self) {
        self.moved.notified().await;
    }

    /// The gauges of one link have moved by this much.
    pub(crate) fn observe(&self, outgoing_bytes: i64, subscriptions: i64) {
        self.metrics.outgoing_bytes().add(outgoing_bytes);
        self.metrics.subscriptions.add(subscriptions);
        let incoming = self.frames.bytes() + self.messages.bytes();
        let incoming = i64::try_from(incoming).unwrap_or(i64::MAX);
        self.metrics.incoming_bytes().set(incoming);
    }

    /// Lets `tell` tell that a connection failed, unless one was told just now.
    pub(crate) fn tell_failure(&self, tell: impl FnOnce()) {
        let now = Instant::now();
        let mut told = self
            .failure_told
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| now.duration_since(told) >= TELL_FAILURES_EVERY) {
            *told = Some(now);
            drop(told);
            tell();
        }
    }
}

//! The bus of one node.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use sockhop_adapter::{Bus, BusError, ChannelMessage, Channels, Link as LinkState, NodeId, Wait};
use tokio::time::timeout;

use crate::config::RedisConfig;
use crate::connect::Connector;
use crate::error::RedisError;
use crate::link::{Canary, Link};
use crate::metrics::{Dropped, Metrics};
use crate::resp::{Kind, Value};
use crate::shared::{Shared, Spawner};
use crate::target::{Sentinels, Target};
use crate::url::Mode;

/// The [`Bus`] of one node over Redis pub/sub, and the plain [`Channels`] beside it.
///
/// *Shape:* nothing waits and nothing fails for good. It starts with the link down, connects in the
/// background, and connects again whenever it does not hear itself. Dropping it closes the
/// connections at once; [`Self::close`] first lets go what is queued.
pub struct RedisBus {
    shared: Arc<Shared>,
    link: Arc<Link>,
}

impl fmt::Debug for RedisBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBus")
            .field("node", &self.shared.node)
            .field("link", &self.link)
            .finish()
    }
}

impl RedisBus {
    /// Starts the bus of `node`. It needs no Redis yet; see [`Bus::link`] and [`Self::link_up`].
    ///
    /// # Errors
    /// The configuration contradicts itself, or a file that it names cannot be used.
    ///
    /// # Panics
    /// Outside of a tokio runtime with time and I/O.
    pub fn start(
        config: RedisConfig,
        node: NodeId,
        metrics: Metrics,
        spawner: impl Spawner,
    ) -> Result<Self, RedisError> {
        let connector = Connector::new(&config)?;
        let target = match &config.url.mode {
            Mode::Single(address) => Target::Fixed(address.clone()),
            Mode::Sentinel { sentinels, master } => {
                Target::Sentinel(Sentinels::new(sentinels.clone(), master.clone()))
            }
            Mode::Cluster { .. } => {
                return Err(RedisError::Config("Redis Cluster is not supported yet"));
            }
        };
        let shared = Shared::new(config, node, connector, metrics, Arc::new(spawner));
        let shared = Arc::new(shared);
        let canary = Canary {
            kind: Kind::Channel,
            channel: shared.canary_channel(),
        };
        let link = Link::new(&shared, target, canary);
        link.subscribe(Kind::Channel, &shared.node_channel(node));
        link.start();
        if matches!(link.target, Target::Sentinel(_)) {
            let followed = Arc::clone(&link);
            shared.spawner.spawn(
                "redis-sentinel",
                async move { followed.follow_master().await },
            );
        }
        Ok(Self { shared, link })
    }

    /// Waits until the link is up.
    pub async fn link_up(&self) {
        self.link.reached(true).await;
    }

    /// Waits until the link is down.
    pub async fn link_down(&self) {
        self.link.reached(false).await;
    }

    /// Publishes what is queued, for at most the command timeout, and closes the connections.
    pub async fn close(&self) {
        self.shared.begin_closing();
        let flushed = self.link.flushed();
        // What did not leave in time is lost with the connection, and counted.
        let _ = timeout(self.shared.config.command_timeout, flushed).await;
        self.shared.closed.cancel();
    }

    fn publish_on(&self, kind: Kind, channel: &[&[u8]], payload: &Bytes) -> Result<(), BusError> {
        let result = self.try_publish(kind, channel, payload);
        let metrics = &self.shared.metrics;
        match result {
            Ok(()) => {
                metrics.published.inc();
                metrics.published_bytes.inc_by(payload.len() as u64);
            }
            Err(BusError::FrameTooLarge { .. }) => metrics.dropped(Dropped::FrameTooLarge, 1),
            Err(BusError::QueueFull) => metrics.dropped(Dropped::QueueFull, 1),
            Err(BusError::LinkDown | BusError::ListTooLong { .. } | BusError::UnknownNode(_)) => {
                metrics.dropped(Dropped::LinkDown, 1);
            }
        }
        result
    }

    fn try_publish(&self, kind: Kind, channel: &[&[u8]], payload: &Bytes) -> Result<(), BusError> {
        let limit = self.shared.config.max_frame_bytes;
        if payload.len() > limit {
            return Err(BusError::FrameTooLarge {
                bytes: payload.len(),
                limit,
            });
        }
        if self.shared.is_closing() {
            return Err(BusError::LinkDown);
        }
        self.link.outgoing.publish(kind, channel, payload)
    }

    fn wait_for_subscriptions(&self) -> Wait<()> {
        Box::pin(self.link.synced())
    }
}

impl Drop for RedisBus {
    fn drop(&mut self) {
        self.shared.closed.cancel();
    }
}

impl Bus for RedisBus {
    fn node(&self) -> NodeId {
        self.shared.node
    }

    fn publish(&self, topic: &str, frame: Bytes) -> Result<(), BusError> {
        let prefix = self.shared.config.prefix.as_bytes();
        self.publish_on(Kind::Channel, &[prefix, b":t:", topic.as_bytes()], &frame)
    }

    fn publish_to_node(&self, node: NodeId, frame: Bytes) -> Result<(), BusError> {
        let channel = self.shared.node_channel(node);
        self.publish_on(Kind::Channel, &[channel.as_bytes()], &frame)
    }

    fn subscribe(&self, topic: &str) {
        let channel = self.shared.topic_channel(topic);
        self.link.subscribe(Kind::Channel, &channel);
    }

    fn unsubscribe(&self, topic: &str) {
        let channel = self.shared.topic_channel(topic);
        self.link.unsubscribe(Kind::Channel, &channel);
    }

    fn synced(&self) -> Wait<()> {
        self.wait_for_subscriptions()
    }

    fn link(&self) -> LinkState {
        self.link.state()
    }

    fn poll_incoming(&self, cx: &mut Context<'_>) -> Poll<Vec<Bytes>> {
        self.shared.frames.poll(cx)
    }
}

impl Channels for RedisBus {
    fn publish(&self, channel: &str, payload: Bytes) -> Result<(), BusError> {
        self.publish_on(Kind::Channel, &[channel.as_bytes()], &payload)
    }

    fn subscribe(&self, channel: &str) {
        self.link.subscribe(Kind::Channel, channel);
    }

    fn unsubscribe(&self, channel: &str) {
        self.link.unsubscribe(Kind::Channel, channel);
    }

    fn subscribe_pattern(&self, pattern: &str) {
        self.link.subscribe(Kind::Pattern, pattern);
    }

    fn unsubscribe_pattern(&self, pattern: &str) {
        self.link.unsubscribe(Kind::Pattern, pattern);
    }

    fn count_subscribers(&self, channel: &str) -> Wait<Option<usize>> {
        let words: [&[u8]; 3] = [b"PUBSUB", b"NUMSUB", channel.as_bytes()];
        let answer = self.link.outgoing.ask(&words);
        let limit = self.shared.config.command_timeout;
        Box::pin(async move {
            match timeout(limit, answer?).await.ok()?.ok()? {
                Value::Array(pair) => match pair.as_slice() {
                    [_, Value::Int(count)] => usize::try_from(*count).ok(),
                    _ => None,
                },
                _ => None,
            }
        })
    }

    fn synced(&self) -> Wait<()> {
        self.wait_for_subscriptions()
    }

    fn poll_incoming(&self, cx: &mut Context<'_>) -> Poll<Vec<ChannelMessage>> {
        self.shared.messages.poll(cx)
    }
}

//! The bus of one node.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use sockhop_adapter::{Bus, BusError, ChannelMessage, Channels, Link as LinkState, NodeId, Wait};
use tokio::time::timeout;

use crate::cluster::follow_cluster;
use crate::config::RedisConfig;
use crate::connect::Connector;
use crate::error::RedisError;
use crate::link::{Canary, Link};
use crate::metrics::{Dropped, Metrics};
use crate::resp::{Kind, Value};
use crate::routes::Routes;
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
    routes: Arc<Routes>,
    /// How our own channels are subscribed.
    kind: Kind,
}

impl fmt::Debug for RedisBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBus")
            .field("node", &self.shared.node)
            .field("routes", &self.routes)
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
        config.check()?;
        let connector = Connector::new(&config)?;
        let mode = config.url.mode.clone();
        let sharded = config.cluster_sharded && matches!(mode, Mode::Cluster { .. });
        let shared = Shared::new(config, node, connector, metrics, Arc::new(spawner));
        let shared = Arc::new(shared);
        let kind = if sharded { Kind::Shard } else { Kind::Channel };
        let routes = Arc::new(match mode {
            Mode::Single(address) => Routes::single(one_link(&shared, Target::Fixed(address))),
            Mode::Sentinel { sentinels, master } => {
                let target = Target::Sentinel(Sentinels::new(sentinels, master));
                let link = one_link(&shared, target);
                let followed = Arc::clone(&link);
                shared.spawner.spawn(
                    "redis-sentinel",
                    async move { followed.follow_master().await },
                );
                Routes::single(link)
            }
            Mode::Cluster { .. } => Routes::unknown(),
        });
        routes.subscribe(kind, &shared.node_channel(node));
        if let Mode::Cluster { seeds } = &shared.config.url.mode {
            shared.servers_unknown();
            let following = follow_cluster(Arc::clone(&shared), Arc::clone(&routes), seeds.clone());
            shared.spawner.spawn("redis-cluster", following);
        }
        Ok(Self {
            shared,
            routes,
            kind,
        })
    }

    /// Waits until the link is up.
    pub async fn link_up(&self) {
        self.shared.reached(true).await;
    }

    /// Waits until the link is down.
    pub async fn link_down(&self) {
        self.shared.reached(false).await;
    }

    /// Publishes what is queued, for at most the command timeout, and closes the connections.
    pub async fn close(&self) {
        self.shared.begin_closing();
        let links = self.routes.links();
        let flushed = async {
            for link in &links {
                link.flushed().await;
            }
        };
        // What did not leave in time is lost with the connection, and counted.
        let _ = timeout(self.shared.config.command_timeout, flushed).await;
        self.shared.closed.cancel();
    }

    fn publish_on(&self, kind: Kind, channel: &[&str], payload: &Bytes) -> Result<(), BusError> {
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

    fn try_publish(&self, kind: Kind, channel: &[&str], payload: &Bytes) -> Result<(), BusError> {
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
        let name = || channel.concat();
        self.routes.publish(kind, name, |link| {
            link.outgoing.publish(kind, channel, payload)
        })
    }

    fn wait_for_subscriptions(&self) -> Wait<()> {
        let waits: Vec<_> = self
            .routes
            .links()
            .iter()
            .map(|link| link.synced())
            .collect();
        Box::pin(async move {
            for wait in waits {
                wait.await;
            }
        })
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
        let prefix = self.shared.config.prefix.as_str();
        self.publish_on(self.kind, &[prefix, ":t:", topic], &frame)
    }

    fn publish_to_node(&self, node: NodeId, frame: Bytes) -> Result<(), BusError> {
        let channel = self.shared.node_channel(node);
        self.publish_on(self.kind, &[&channel], &frame)
    }

    fn subscribe(&self, topic: &str) {
        let channel = self.shared.topic_channel(topic);
        self.routes.subscribe(self.kind, &channel);
    }

    fn unsubscribe(&self, topic: &str) {
        let channel = self.shared.topic_channel(topic);
        self.routes.unsubscribe(self.kind, &channel);
    }

    fn synced(&self) -> Wait<()> {
        self.wait_for_subscriptions()
    }

    fn link(&self) -> LinkState {
        self.shared.state()
    }

    fn poll_incoming(&self, cx: &mut Context<'_>) -> Poll<Vec<Bytes>> {
        self.shared.frames.poll_take(cx)
    }
}

impl Channels for RedisBus {
    fn publish(&self, channel: &str, payload: Bytes) -> Result<(), BusError> {
        self.publish_on(Kind::Channel, &[channel], &payload)
    }

    fn subscribe(&self, channel: &str) {
        self.routes.subscribe(Kind::Channel, channel);
    }

    fn unsubscribe(&self, channel: &str) {
        self.routes.unsubscribe(Kind::Channel, channel);
    }

    fn subscribe_pattern(&self, pattern: &str) {
        self.routes.subscribe(Kind::Pattern, pattern);
    }

    fn unsubscribe_pattern(&self, pattern: &str) {
        self.routes.unsubscribe(Kind::Pattern, pattern);
    }

    fn count_subscribers(&self, channel: &str) -> Wait<Option<usize>> {
        let words: [&[u8]; 3] = [b"PUBSUB", b"NUMSUB", channel.as_bytes()];
        // Each server of a cluster knows only the connections that it has itself.
        let links = self.routes.links();
        let answers: Vec<_> = links.iter().map(|link| link.outgoing.ask(&words)).collect();
        let limit = self.shared.config.command_timeout;
        Box::pin(async move {
            let sum = async {
                let mut sum = 0;
                for answer in answers {
                    sum += subscribers(&answer?.await.ok()?)?;
                }
                (!links.is_empty()).then_some(sum)
            };
            timeout(limit, sum).await.ok()?
        })
    }

    fn synced(&self) -> Wait<()> {
        self.wait_for_subscriptions()
    }

    fn poll_incoming(&self, cx: &mut Context<'_>) -> Poll<Vec<ChannelMessage>> {
        self.shared.messages.poll_take(cx)
    }
}

fn one_link(shared: &Arc<Shared>, target: Target) -> Arc<Link> {
    let canary = Canary {
        kind: Kind::Channel,
        channel: shared.canary_channel(),
    };
    let link = Link::new(shared, target, canary);
    link.start();
    link
}

/// Reads the answer to PUBSUB NUMSUB for one channel.
fn subscribers(value: &Value) -> Option<usize> {
    let Value::Array(pair) = value else {
        return None;
    };
    match pair.as_slice() {
        [_, Value::Int(count)] => usize::try_from(*count).ok(),
        _ => None,
    }
}

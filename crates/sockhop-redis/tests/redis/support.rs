//! Buses on a real Redis, and waiting for what they bring.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use prometheus::Registry;
use sockhop_adapter::{Bus, Channels, NodeId};
use sockhop_redis::{Metrics, RedisBus, RedisConfig};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

/// Until what must happen has happened; generous, for loaded machines: a sentinel that was not run
/// for two seconds distrusts its clock and does nothing for thirty.
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);

/// One node's bus and what it has received so far.
pub(crate) struct Node {
    pub(crate) bus: Arc<RedisBus>,
    pub(crate) registry: Registry,
    waiting: Mutex<VecDeque<Bytes>>,
}

/// The configuration for one URL, with its defaults.
pub(crate) fn config(url: &str) -> RedisConfig {
    RedisConfig::new(url.parse().expect("a URL"))
}

impl Node {
    /// Starts a bus and waits until its link is up.
    pub(crate) async fn start(config: RedisConfig) -> Self {
        let node = Self::start_down(config);
        within("the link is up", node.bus.link_up()).await;
        node
    }

    /// Starts a bus that need not find its server.
    pub(crate) fn start_down(config: RedisConfig) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let node = NodeId::new(NEXT.fetch_add(1, Ordering::Relaxed));
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).expect("a fresh registry");
        #[expect(
            clippy::disallowed_methods,
            reason = "tests have no server to track tasks"
        )]
        let spawner = |_, task| drop(tokio::spawn(task));
        let bus = RedisBus::start(config, node, metrics, spawner).expect("a sound configuration");
        Self {
            bus: Arc::new(bus),
            registry,
            waiting: Mutex::default(),
        }
    }

    pub(crate) fn id(&self) -> NodeId {
        self.bus.node()
    }

    pub(crate) fn publish(&self, topic: &str, frame: &str) {
        let frame = Bytes::copy_from_slice(frame.as_bytes());
        Bus::publish(&*self.bus, topic, frame).expect("published");
    }

    pub(crate) fn subscribe(&self, topic: &str) {
        Bus::subscribe(&*self.bus, topic);
    }

    pub(crate) fn unsubscribe(&self, topic: &str) {
        Bus::unsubscribe(&*self.bus, topic);
    }

    pub(crate) async fn synced(&self) {
        within("subscriptions are in force", Bus::synced(&*self.bus)).await;
    }

    /// The next frame.
    pub(crate) async fn next(&self) -> Bytes {
        loop {
            if let Some(frame) = self.waiting.lock().unwrap().pop_front() {
                return frame;
            }
            let batch = poll_fn(|cx| Bus::poll_incoming(&*self.bus, cx));
            let batch = within("a frame arrives", batch).await;
            self.waiting.lock().unwrap().extend(batch);
        }
    }

    /// The next frame as text.
    pub(crate) async fn next_text(&self) -> String {
        String::from_utf8(self.next().await.to_vec()).expect("text")
    }

    /// The next messages of plain channels, at least one.
    pub(crate) async fn next_messages(&self) -> Vec<(String, Bytes)> {
        let batch = poll_fn(|cx| Channels::poll_incoming(&*self.bus, cx));
        let batch = within("a message arrives", batch).await;
        let pair = |message: sockhop_adapter::ChannelMessage| {
            (message.channel.to_string(), message.payload)
        };
        batch.into_iter().map(pair).collect()
    }

    /// Waits until the link is down.
    pub(crate) async fn link_down(&self) {
        within("the link is down", self.bus.link_down()).await;
    }

    pub(crate) async fn link_up(&self) {
        within("the link is up", self.bus.link_up()).await;
    }

    /// The value of one series, its label being `value` if it has any.
    pub(crate) fn metric(&self, name: &str, label: &str) -> u64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name);
        let series = family.expect("a metric of this name").get_metric().iter();
        let wanted = series.filter(|series| {
            let labels = series.get_label();
            label.is_empty() || labels.iter().any(|pair| pair.value() == label)
        });
        let values =
            wanted.map(|series| series.get_counter().get_value() + series.get_gauge().get_value());
        values.sum::<f64>() as u64
    }
}

/// Fails the test if `future` takes too long.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {DEADLINE:?}: {what}"),
    }
}

/// Waits until a condition holds that nobody announces.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    within(what, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// A way to a server that can fall silent without closing anything.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    silent: watch::Sender<bool>,
}

impl Proxy {
    pub(crate) async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("a bound address").port();
        let silent = watch::Sender::new(false);
        let silences = silent.clone();
        #[expect(
            clippy::disallowed_methods,
            reason = "tests have no server to track tasks"
        )]
        let accepting = tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut silence = silences.subscribe();
                // A connection made after the silence began is not part of it.
                silence.mark_unchanged();
                let copying = tokio::spawn(async move {
                    let far = TcpStream::connect(("127.0.0.1", server)).await;
                    let mut far = far.expect("the server is there");
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        // Both ends stay open, and nothing passes any more.
                        _ = silence.changed() => std::future::pending().await,
                    }
                });
                drop(copying);
            }
        });
        drop(accepting);
        Self { port, silent }
    }

    /// Lets the connections that there are fall silent; new ones work.
    pub(crate) fn silence(&self) {
        self.silent.send_modify(|silent| *silent = true);
    }
}

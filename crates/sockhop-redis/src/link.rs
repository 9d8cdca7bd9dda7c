//! One Redis server as a node sees it: a publishing and a subscription connection, each with its
//! task, and whether the node hears itself over them.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant as StdInstant;

use sockhop_adapter::Link as LinkState;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::backoff::{Backoff, random};
use crate::connect::Stream;
use crate::error::{ConnectError, Fault};
use crate::metrics::Dropped;
use crate::outgoing::Outgoing;
use crate::resp::Kind;
use crate::shared::Shared;
use crate::subscriptions::Subscriptions;
use crate::target::Target;

/// What both tasks of a link and the bus share.
pub(crate) struct Link {
    pub(crate) shared: Arc<Shared>,
    pub(crate) target: Target,
    pub(crate) outgoing: Outgoing,
    subscriptions: Mutex<Subscriptions>,
    /// There are changes of subscriptions.
    pub(crate) changes: Notify,
    status: watch::Sender<Status>,
    /// Moves when both connections are to be made anew.
    restarts: watch::Sender<u64>,
    /// How often a subscription connection was made, to tell the canaries of each apart.
    connections: AtomicU64,
    pub(crate) canary: Canary,
    /// What this link has added to the gauges of the bus.
    observed: Mutex<Observed>,
    /// This link is not needed any more, or the whole bus is not.
    pub(crate) closed: CancellationToken,
    /// The publishing task has ended.
    flushed: CancellationToken,
}

/// The channel on which a link talks to itself.
#[derive(Clone, Debug)]
pub(crate) struct Canary {
    pub(crate) kind: Kind,
    pub(crate) channel: String,
}

/// What others may know and wait for.
#[derive(Clone, Copy, Debug)]
struct Status {
    state: LinkState,
    confirmed: u64,
}

#[derive(Debug, Default)]
struct Observed {
    outgoing_bytes: usize,
    subscriptions: usize,
}

/// One of the two connections of a link.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Role {
    Publish,
    Subscribe,
}

impl Role {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("target", &self.target)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if !self.state().is_up() {
            self.shared.link_went_up();
        }
    }
}

impl Link {
    pub(crate) fn new(shared: &Arc<Shared>, target: Target, canary: Canary) -> Arc<Self> {
        shared.link_went_down();
        let mut subscriptions = Subscriptions::default();
        subscriptions.subscribe(canary.kind, &canary.channel);
        let status = Status {
            state: LinkState::Down {
                since: StdInstant::now(),
            },
            confirmed: 0,
        };
        Arc::new(Self {
            shared: Arc::clone(shared),
            target,
            outgoing: Outgoing::new(shared.config.publish_queue_bytes),
            subscriptions: Mutex::new(subscriptions),
            changes: Notify::new(),
            status: watch::Sender::new(status),
            restarts: watch::Sender::new(0),
            connections: AtomicU64::new(0),
            canary,
            observed: Mutex::default(),
            closed: shared.closed.child_token(),
            flushed: CancellationToken::new(),
        })
    }

    /// Starts both tasks.
    pub(crate) fn start(self: &Arc<Self>) {
        let spawner = &self.shared.spawner;
        let link = Arc::clone(self);
        spawner.spawn(
            "redis-publish",
            async move { link.run(Role::Publish).await },
        );
        let link = Arc::clone(self);
        spawner.spawn("redis-subscribe", async move {
            link.run(Role::Subscribe).await;
        });
    }

    /// Whether the node hears itself over this link.
    pub(crate) fn state(&self) -> LinkState {
        self.status.borrow().state
    }

    pub(crate) fn subscriptions(&self) -> MutexGuard<'_, Subscriptions> {
        let subscriptions = self.subscriptions.lock();
        subscriptions.unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn subscribe(&self, kind: Kind, name: &str) {
        if self.subscriptions().subscribe(kind, name) {
            self.changes.notify_one();
        }
    }

    pub(crate) fn unsubscribe(&self, kind: Kind, name: &str) {
        if self.subscriptions().unsubscribe(kind, name) {
            self.changes.notify_one();
        }
    }

    /// Takes out what another link is to carry, with its counts.
    pub(crate) fn take_subscriptions(
        &self,
        leaves: impl FnMut(Kind, &str) -> bool,
    ) -> Vec<(Kind, Arc<str>, usize)> {
        let Canary { kind, channel } = &self.canary;
        let mut leaves = leaves;
        let taken = self
            .subscriptions()
            .take(|of, name| (of, name) != (*kind, channel) && leaves(of, name));
        if !taken.is_empty() {
            self.changes.notify_one();
        }
        taken
    }

    /// Tries again what the server ended or refused.
    pub(crate) fn retry_lost(&self) {
        if self.subscriptions().retry_lost() {
            self.changes.notify_one();
        }
    }

    /// Ready when what is wanted now is in force, when the link is down, or when it took too long.
    pub(crate) fn synced(&self) -> impl Future<Output = ()> + Send + 'static {
        let wish = self.subscriptions().generation();
        let limit = self.shared.config.sync_timeout;
        let mut status = self.status.subscribe();
        async move {
            let in_force =
                status.wait_for(|status| !status.state.is_up() || status.confirmed >= wish);
            // Late or given up: the caller was promised an end of waiting, nothing else.
            let _ = timeout(limit, in_force).await;
        }
    }

    /// The connection confirmed everything up to this wish.
    pub(crate) fn confirmed(&self, confirmed: u64) {
        self.status.send_if_modified(|status| {
            let moved = status.confirmed != confirmed;
            status.confirmed = confirmed;
            moved
        });
    }

    pub(crate) fn up(&self) {
        let went_up = self.status.send_if_modified(|status| {
            let was_down = !status.state.is_up();
            status.state = LinkState::Up;
            was_down
        });
        if went_up {
            tracing::info!(server = %self.target, "the bus is up");
            self.shared.link_went_up();
        }
    }

    pub(crate) fn down(&self, why: &dyn fmt::Display) {
        let went_down = self.status.send_if_modified(|status| {
            let was_up = status.state.is_up();
            if was_up {
                let since = StdInstant::now();
                status.state = LinkState::Down { since };
            }
            was_up
        });
        if went_down {
            if self.closed.is_cancelled() {
                tracing::info!(server = %self.target, "the bus is closed");
            } else {
                tracing::warn!(server = %self.target, reason = %why, "the bus is down");
            }
            self.shared.link_went_down();
        }
    }

    /// Makes both connections anew.
    pub(crate) fn restart(&self) {
        self.restarts.send_modify(|restarts| *restarts += 1);
    }

    /// Brings the gauges up to date.
    pub(crate) fn observe(&self) {
        let now = Observed {
            outgoing_bytes: self.outgoing.bytes(),
            subscriptions: self.subscriptions().wanted(),
        };
        let mut before = self.observed.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.observe(
            difference(before.outgoing_bytes, now.outgoing_bytes),
            difference(before.subscriptions, now.subscriptions),
        );
        *before = now;
    }

    /// A number for a new subscription connection.
    pub(crate) fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    /// Keeps one connection until the link is closed.
    async fn run(&self, role: Role) {
        let mut backoff = Backoff::new(&self.shared.config);
        let mut restarts = self.restarts.subscribe();
        let mut lost = Instant::now();
        loop {
            restarts.mark_unchanged();
            let attempt = self.closed.run_until_cancelled(self.connect(role)).await;
            let Some(attempt) = attempt else { break };
            self.shared.metrics.connect(role.name(), attempt.is_ok());
            match attempt {
                Ok(stream) => {
                    let began = Instant::now();
                    let fault = match role {
                        Role::Publish => self.publish_on(stream, &mut restarts).await,
                        Role::Subscribe => self.subscribe_on(stream, &mut restarts).await,
                    };
                    if matches!(fault, Fault::Stopped) {
                        break;
                    }
                    // In a Redis Cluster another server may have taken its place.
                    self.shared.something_moved();
                    self.shared.metrics.disconnect(role.name(), fault.reason());
                    tracing::info!(
                        server = %self.target, connection = role.name(), reason = %fault,
                        "a connection of the bus was lost"
                    );
                    lost = Instant::now();
                    // A server that accepts and closes at once is no better than none.
                    if lost - began > self.shared.config.canary_timeout {
                        backoff.reset();
                    }
                }
                Err(error) => {
                    self.failed(role, &error);
                }
            }
            let wait = backoff.after_failure(lost.elapsed(), random());
            if self.closed.run_until_cancelled(sleep(wait)).await.is_none() {
                break;
            }
            self.give_up_what_waited_too_long();
        }
        match role {
            Role::Publish => {
                let lost = self.outgoing.abandon();
                self.shared.metrics.dropped(Dropped::ConnectionLost, lost);
                self.flushed.cancel();
            }
            Role::Subscribe => self.down(&Fault::Stopped),
        }
    }

    /// Lets everything that is queued leave, once the bus is closing, and waits for that.
    pub(crate) async fn flushed(&self) {
        self.outgoing.wake();
        self.flushed.cancelled().await;
    }

    async fn connect(&self, role: Role) -> Result<Box<dyn Stream>, ConnectError> {
        let name = self.shared.client_name(role);
        self.target.connect(&self.shared.connector, &name).await
    }

    fn failed(&self, role: Role, error: &ConnectError) {
        self.shared.tell_failure(|| {
            tracing::warn!(
                server = %self.target, connection = role.name(), reason = %error,
                "cannot connect the bus"
            );
        });
    }
}

/// Ready when the other side asked for new connections.
pub(crate) async fn restarted(restarts: &mut watch::Receiver<u64>) {
    // Without a sender there is no link any more, and its token ends the task.
    if restarts.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn difference(before: usize, now: usize) -> i64 {
    let whole = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
    whole(now) - whole(before)
}

//! The task that joins a server to its cluster.

use std::future::{IntoFuture, pending, poll_fn, ready};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sockhop_adapter::{
    Adapter, Cluster, Gathered, Gathering, Host, MemberEvent, Merge, ServerEvent, Wait,
};
use tokio::sync::watch;

use crate::connection::Control;
use crate::handler::Outcome;
use crate::server::Server;
use crate::servers;

/// How long a change of the link may stay unnoticed.
const LINK_INTERVAL: Duration = Duration::from_millis(250);

/// Frames that are read in a row; then other tasks get their turn, and heartbeats theirs.
const MAX_FRAMES_PER_TURN: usize = 256;

impl Host<Control> for Server {
    fn adapter(&self, namespace: &str) -> Option<Arc<Adapter<Control>>> {
        Self::adapter(self, namespace)
    }

    fn spawn(&self, work: Wait<()>) {
        self.tasks().spawn("query", work);
    }

    fn server_event(&self, event: ServerEvent) {
        servers::dispatch(self, event);
    }
}

/// Rooms that were joined. Await it before other nodes are told to emit to them.
///
/// *Shape:* ready when the other nodes' emits reach this node: at once without a cluster, else after
/// one round to the bus; also when the link is down, in which case that holds as soon as it is up.
#[derive(Debug)]
pub struct Joined(Arc<Cluster>);

impl Joined {
    pub(crate) fn new(cluster: &Arc<Cluster>) -> Self {
        Self(Arc::clone(cluster))
    }
}

impl IntoFuture for Joined {
    type Output = ();
    type IntoFuture = Wait<()>;

    fn into_future(self) -> Wait<()> {
        match self.0.is_alone() {
            true => Box::pin(ready(())),
            false => self.0.bus().synced(),
        }
    }
}

/// What many sockets were asked for, on every node. It is under way already, awaited or not.
///
/// *Shape:* the result is how many sockets were concerned, and which nodes did not say in time. When
/// sockets have joined rooms, it is there when the emits of every node reach them.
#[derive(Debug)]
pub struct Changed {
    server: Server,
    counts: Gathering<usize>,
}

impl Changed {
    pub(crate) fn new(server: &Server, counts: Gathering<usize>) -> Self {
        Self {
            server: server.clone(),
            counts,
        }
    }
}

impl IntoFuture for Changed {
    type Output = Gathered<usize>;
    type IntoFuture = Wait<Gathered<usize>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { gathered(&self.server, self.counts).await })
    }
}

/// A handler may end with a change without waiting for the other nodes.
impl Outcome for Changed {
    fn into_result(self) -> Result<(), String> {
        Ok(())
    }
}

/// Says when members have come or gone: see [`Server::member_changes`].
#[derive(Clone, Debug)]
pub struct MemberChanges(watch::Receiver<()>);

impl MemberChanges {
    /// Waits for the next change. Changes since the last call, or since this was made, are one.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            // The server is gone, and its cluster with it.
            pending().await
        }
    }
}

impl Server {
    /// Says from now on when [`Self::members`] has changed.
    #[must_use]
    pub fn member_changes(&self) -> MemberChanges {
        MemberChanges(self.member_news().subscribe())
    }
}

/// Waits for answers, until their deadline at the latest.
pub(crate) async fn gathered<T: Merge>(server: &Server, mut answers: Gathering<T>) -> Gathered<T> {
    if let Some(deadline) = answers.deadline() {
        tokio::select! {
            gathered = &mut answers => return gathered,
            () = tokio::time::sleep_until(deadline.into()) => {}
        }
        server.cluster().handle_timeout(now());
    }
    answers.await
}

/// Brings frames and time to the cluster until the server stops; then says goodbye.
pub(crate) async fn drive(server: Server) {
    let cluster = Arc::clone(server.cluster());
    loop {
        cluster.handle_timeout(now());
        tell(&server);
        let latest = now() + LINK_INTERVAL;
        let wake = cluster.poll_timeout().map_or(latest, |at| at.min(latest));
        let frames = tokio::select! {
            frames = poll_fn(|cx| cluster.bus().poll_incoming(cx)) => frames,
            () = tokio::time::sleep_until(wake.into()) => continue,
            () = server.tasks().stopped() => break,
        };
        for part in frames.chunks(MAX_FRAMES_PER_TURN) {
            cluster.handle_timeout(now());
            for frame in part {
                cluster.handle_frame(now(), frame, &server);
            }
            tell(&server);
            // A bus that is never empty is no reason for other tasks to wait.
            tokio::task::yield_now().await;
        }
    }
    cluster.close();
}

fn tell(server: &Server) {
    let mut changed = false;
    while let Some(event) = server.cluster().poll_event() {
        changed = true;
        match event {
            MemberEvent::Joined(member) if member.tag() == server.cluster().node().tag() => {
                tracing::warn!(node = %member.node, "a node has the tag of this one: restart one of them");
            }
            MemberEvent::Joined(member) => {
                tracing::info!(node = %member.node, version = %member.version, "a node is there");
            }
            MemberEvent::Left(node) => tracing::info!(%node, "a node is gone"),
        }
    }
    if changed {
        server.member_news().send_replace(());
    }
}

pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A handler may end with a join without waiting for the other nodes.
impl Outcome for Joined {
    fn into_result(self) -> Result<(), String> {
        Ok(())
    }
}

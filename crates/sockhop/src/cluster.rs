//! The task that joins a server to its cluster.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sockhop_adapter::{Adapter, Host, MemberEvent};

use crate::connection::Control;
use crate::server::Server;

/// How long a change of the link may stay unnoticed.
const LINK_INTERVAL: Duration = Duration::from_millis(250);

impl Host<Control> for Server {
    fn adapter(&self, namespace: &str) -> Option<Arc<Adapter<Control>>> {
        Self::adapter(self, namespace)
    }
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
        for frame in &frames {
            cluster.handle_frame(now(), frame, &server);
        }
        // A bus that is never empty is no reason for other tasks to wait.
        tokio::task::yield_now().await;
    }
    cluster.close();
}

fn tell(server: &Server) {
    while let Some(event) = server.cluster().poll_event() {
        match event {
            MemberEvent::Joined(member) => {
                tracing::info!(node = %member.node, version = %member.version, "a node is there");
            }
            MemberEvent::Left(node) => tracing::info!(%node, "a node is gone"),
        }
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

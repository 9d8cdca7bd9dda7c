//! Following the servers of a Redis Cluster.

use std::sync::Arc;

use tokio::time::{sleep, timeout};

use crate::error::ConnectError;
use crate::resp::Value;
use crate::routes::Routes;
use crate::shared::Shared;
use crate::slots::{SlotRange, parse_slots};
use crate::url::Address;

const QUESTION: [&[u8]; 2] = [b"CLUSTER", b"SLOTS"];

/// Asks who has which slots, again and again, and at once when a server said that something has
/// moved.
pub(crate) async fn follow_cluster(shared: Arc<Shared>, routes: Arc<Routes>, seeds: Vec<Address>) {
    let mut known: Option<Vec<SlotRange>> = None;
    let follow = async {
        loop {
            match ask_anybody(&shared, &routes, &seeds).await {
                Ok(ranges) => {
                    // Also without a change: a subscription may have been refused meanwhile.
                    routes.follow(&shared, &ranges);
                    if known.replace(ranges).is_none() {
                        shared.servers_known();
                    }
                }
                Err(error) => shared.tell_failure(|| {
                    tracing::warn!(reason = %error, "no server of the Redis Cluster answers");
                }),
            }
            tokio::select! {
                () = sleep(shared.config.topology_interval) => {}
                // Servers agree on a move within moments, not at once.
                () = shared.moved() => sleep(shared.config.backoff_min).await,
            }
        }
    };
    shared.closed.run_until_cancelled(follow).await;
}

/// The links' own connections first, then new ones to the seeds.
async fn ask_anybody(
    shared: &Shared,
    routes: &Routes,
    seeds: &[Address],
) -> Result<Vec<SlotRange>, ConnectError> {
    for link in routes.links() {
        let Some(address) = link.target.address() else {
            continue;
        };
        if let Some(answer) = link.outgoing.ask(&QUESTION)
            && let Ok(Ok(value)) = timeout(shared.config.connect_timeout, answer).await
            && let Some(ranges) = usable(&value, address)
        {
            return Ok(ranges);
        }
    }
    let mut failure = ConnectError::NoCluster;
    for seed in seeds {
        match shared.connector.ask(seed, &QUESTION).await {
            Ok(value) => match usable(&value, seed) {
                Some(ranges) => return Ok(ranges),
                None => failure = ConnectError::NoCluster,
            },
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// A server that has just started and knows nobody yet is not asked about the others.
fn usable(value: &Value, asked: &Address) -> Option<Vec<SlotRange>> {
    parse_slots(value, asked).filter(|ranges| !ranges.is_empty())
}

//! Two WebSockets made one: what the client says goes to the owner, and the other way round.

use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::sync::watch;

use crate::drain::random_share;

/// What is read at once, for each direction. Large messages take more turns; an idle connection
/// holds two of these.
const BUFFER_BYTES: usize = 4 * 1024;

/// Copies in both directions until one side ends.
pub(super) async fn splice(client: OnUpgrade, owner: OnUpgrade) {
    let (client, owner) = match tokio::try_join!(client, owner) {
        Ok(both) => both,
        Err(error) => {
            tracing::debug!(%error, "a WebSocket that was passed on did not come about");
            return;
        }
    };
    let (mut client, mut owner) = (TokioIo::new(client), TokioIo::new(owner));
    let copied =
        copy_bidirectional_with_sizes(&mut client, &mut owner, BUFFER_BYTES, BUFFER_BYTES).await;
    if let Err(error) = copied {
        tracing::trace!(%error, "a WebSocket that was passed on ended");
    }
}

/// Waits until it is this connection's turn to end, after draining has begun.
pub(super) async fn drained(mut draining: watch::Receiver<Option<Duration>>) {
    let spread = match draining.wait_for(Option::is_some).await {
        Ok(spread) => spread.unwrap_or_default(),
        Err(_) => return,
    };
    tokio::time::sleep(spread.mul_f64(random_share())).await;
}

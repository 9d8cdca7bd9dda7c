//! The end of a node: unready, still serving, sessions closed little by little, gone.

use std::time::Duration;

use sockhop::engine::OpenSessions;
use sockhop::engineio::CloseReason;
use tokio::time::{Instant, sleep_until};

/// How a node ends when it is asked to.
#[derive(Clone, Debug)]
pub struct DrainConfig {
    /// How long a node that says it is not ready goes on serving, so that balancers notice
    /// first. Default 0.
    pub grace: Duration,
    /// The time over which open sessions are closed, so that their clients do not all come to
    /// the other nodes at once. Default 0: all at once.
    pub spread: Duration,
    /// How long all of it may take; what is not finished then is cut off. Default 25 s.
    pub deadline: Duration,
}

impl Default for DrainConfig {
    fn default() -> Self {
        Self {
            grace: Duration::ZERO,
            spread: Duration::ZERO,
            deadline: Duration::from_secs(25),
        }
    }
}

/// Time for one batch of sessions, on average.
const BATCH_EVERY: Duration = Duration::from_millis(50);

/// Closes all `sessions` within `spread`, in batches at random times.
pub(crate) async fn close_sessions(mut sessions: Vec<OpenSessions>, spread: Duration) {
    let total: usize = sessions.iter().map(OpenSessions::len).sum();
    if total == 0 {
        return;
    }
    let begun = Instant::now();
    let batches = batches(spread).min(total);
    let each = spread / u32::try_from(batches).unwrap_or(u32::MAX);
    for batch in 0..batches {
        // A random moment of its own part of the time.
        let part = each * u32::try_from(batch).unwrap_or(u32::MAX);
        sleep_until(begun + part + each.mul_f64(random_share())).await;
        // What is left, divided by the batches that are left, comes out even.
        let left: usize = sessions.iter().map(OpenSessions::len).sum();
        let mut count = left.div_ceil(batches - batch);
        for open in &mut sessions {
            let closing = count.min(open.len());
            open.close(closing, &CloseReason::ServerShutdown);
            count -= closing;
        }
    }
}

fn batches(spread: Duration) -> usize {
    let batches = spread.as_millis() / BATCH_EVERY.as_millis();
    usize::try_from(batches).unwrap_or(usize::MAX).max(1)
}

/// A number from 0 to 1. Without random bytes it is 0: the batches then keep their time.
pub(crate) fn random_share() -> f64 {
    let random = getrandom::u32().unwrap_or(0);
    f64::from(random) / f64::from(u32::MAX)
}

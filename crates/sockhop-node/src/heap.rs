//! Memory of sessions that are gone, given back to the system.

use std::time::Duration;

use prometheus::{IntCounter, Registry};
use sockhop::engine::{self, Tasks};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

/// From one look at the number of sessions to the next.
const INTERVAL: Duration = Duration::from_secs(1);

/// Sessions that must be gone before it is worth the time that a release takes: some megabytes.
const WORTH_SESSIONS: u64 = 1_000;

/// Between two releases at least, since threads that allocate wait for each of them.
const REST: Duration = Duration::from_secs(5);

/// Gives memory back for as long as the server serves. Must be called within a runtime.
///
/// # Errors
/// When the registry holds a metric of this name already.
pub(crate) fn release_memory(
    registry: &Registry,
    sessions: engine::Metrics,
    tasks: &Tasks,
) -> Result<(), prometheus::Error> {
    let releases = IntCounter::new(
        "sockhop_node_heap_releases_total",
        "Times that free memory was given back to the system.",
    )?;
    registry.register(Box::new(releases.clone()))?;
    let stopping = tasks.clone();
    tasks.spawn("heap", async move {
        let mut ebb = Ebb::new(Instant::now());
        loop {
            tokio::select! {
                () = sleep(INTERVAL) => {}
                () = stopping.stopped() => return,
            }
            let open = sessions.open_sessions();
            if !ebb.is_due(Instant::now(), open) {
                continue;
            }
            let begun = Instant::now();
            // Not here: it takes milliseconds.
            if matches!(spawn_blocking(sockhop_heap::release).await, Ok(true)) {
                releases.inc();
                tracing::debug!(open, took = ?begun.elapsed(), "free memory was given back");
            }
        }
    });
    Ok(())
}

/// Decides when a release is worth it: when there are far fewer sessions than at the most since the
/// last one, and once more when it has come to rest after that, for those that were too few to be
/// worth one of their own. Sessions that come and go in equal numbers use each other's memory, so
/// that the number of those that ended alone would be no reason.
#[derive(Debug)]
struct Ebb {
    most: u64,
    last: u64,
    /// There was a release, and the number has only fallen since.
    falling: bool,
    released: Instant,
}

impl Ebb {
    fn new(now: Instant) -> Self {
        Self {
            most: 0,
            last: 0,
            falling: false,
            released: now,
        }
    }

    /// Whether memory is to be released now that there are `open` sessions. If so, the next release
    /// is counted from here.
    fn is_due(&mut self, now: Instant, open: u64) -> bool {
        self.most = self.most.max(open);
        self.falling &= open <= self.last;
        let gone = self.most - open;
        let is_rest = self.falling && open == self.last && gone > 0;
        self.last = open;
        let due = (gone >= WORTH_SESSIONS || is_rest) && now >= self.released + REST;
        if due {
            self.falling = gone >= WORTH_SESSIONS;
            self.most = open;
            self.released = now;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When of the looks at these numbers of sessions, one a second, a release was due.
    fn due(open: impl IntoIterator<Item = u64>) -> Vec<usize> {
        let begin = Instant::now();
        let mut ebb = Ebb::new(begin);
        let mut now = begin;
        let looks = open.into_iter().enumerate().filter(|&(_, open)| {
            now += INTERVAL;
            ebb.is_due(now, open)
        });
        looks.map(|(second, _)| second).collect()
    }

    #[test]
    fn a_release_is_due_when_a_thousand_sessions_are_gone() {
        let mut open = vec![1_500; 10];
        open.extend([501, 500, 0]);
        assert_eq!(due(open), [11]);
    }

    #[test]
    fn the_last_of_an_ebb_are_released_when_it_has_come_to_rest() {
        let mut open = vec![2_000; 10];
        open.extend([900, 800, 700, 100, 100, 100, 100]);
        open.extend([100; 20]);
        assert_eq!(due(open), [10, 15]);
    }

    #[test]
    fn sessions_that_come_and_go_are_no_reason() {
        let open = (0..1_000).map(|second| 50_000 + second % 2 * 900);
        assert_eq!(due(open), [0; 0]);
    }

    #[test]
    fn an_ebb_is_followed_by_a_release_every_few_seconds() {
        let mut open = vec![20_000; 10];
        open.extend((0..20).map(|second| 19_000 - second * 1_000));
        open.extend([0; 10]);
        assert_eq!(due(open), [10, 15, 20, 25, 30]);
    }

    #[test]
    fn the_most_is_counted_anew_after_each_release() {
        let mut open = vec![5_000; 10];
        open.extend([0; 10]);
        open.extend([900; 10]);
        open.extend([0; 10]);
        assert_eq!(due(open), [10]);
    }

    #[tokio::test]
    async fn the_task_ends_with_the_server() {
        let registry = Registry::new();
        let sessions = engine::Metrics::register(&registry).unwrap();
        let tasks = Tasks::default();
        release_memory(&registry, sessions, &tasks).unwrap();
        assert_eq!(tasks.len(), 1);
        tasks.stop();
        tasks.finished().await;
    }
}

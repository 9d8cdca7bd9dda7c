//! Open-loop pacing: every unit of work has its intended time, and a late one is not forgiven.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// The runtime's timer counts in milliseconds, which would show in every latency: a thread that
/// sleeps by itself is good to about 60 µs.
const SHORTEST_SLEEP: Duration = Duration::from_micros(200);

/// What is due later than this is not due in any run, however low the rate is.
const NEVER: Duration = Duration::from_secs(366 * 24 * 3600);

/// Hands out due times at a rate.
#[derive(Debug)]
pub struct Pacer {
    times: Times,
    handed_out: u64,
    bell: Arc<Notify>,
    stop: Arc<AtomicBool>,
}

impl Pacer {
    /// Begins now.
    #[must_use]
    pub fn new(per_second: f64) -> Self {
        let times = Times {
            start: Instant::now(),
            per_second,
        };
        let bell = Arc::new(Notify::new());
        let stop = Arc::new(AtomicBool::new(false));
        let (ring, stopped) = (Arc::clone(&bell), Arc::clone(&stop));
        std::thread::spawn(move || {
            let mut next = 0;
            while !stopped.load(Ordering::Relaxed) {
                ring.notify_one();
                let now = Instant::now();
                next = times.next_ring(next, now);
                std::thread::sleep(times.due(next).saturating_duration_since(now));
            }
        });
        Self {
            times,
            handed_out: 0,
            bell,
            stop,
        }
    }

    /// Waits until one is due; its intended time.
    pub async fn due(&mut self) -> Instant {
        let due = self.times.due(self.handed_out);
        while Instant::now() < due {
            self.bell.notified().await;
        }
        self.handed_out += 1;
        due
    }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The due times of a rate, and when to ring for them.
#[derive(Clone, Copy, Debug)]
struct Times {
    start: Instant,
    per_second: f64,
}

impl Times {
    fn due(self, number: u64) -> Instant {
        let offset = Duration::try_from_secs_f64(float(number) / self.per_second);
        self.start + offset.unwrap_or(NEVER).min(NEVER)
    }

    /// The unit to ring for after that of `last`. It is always one still to come: a bell that was
    /// late and went on from there would make all that follow late by the rest of a period.
    fn next_ring(self, last: u64, now: Instant) -> u64 {
        let step = whole((SHORTEST_SLEEP.as_secs_f64() * self.per_second).ceil());
        let due_by_now = whole(now.duration_since(self.start).as_secs_f64() * self.per_second);
        (last + step).max(due_by_now + 1)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positive and small"
)]
fn whole(value: f64) -> u64 {
    value as u64
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(per_second: f64) -> (Times, Instant) {
        let start = Instant::now();
        (Times { start, per_second }, start)
    }

    #[test]
    fn the_bell_rings_at_each_due_time() {
        let (times, start) = at(1000.0);
        let woken = start + Duration::from_micros(5_080);
        assert_eq!(times.next_ring(5, woken), 6);
        assert_eq!(times.due(6), start + Duration::from_millis(6));
    }

    #[test]
    fn a_bell_that_was_late_is_back_at_the_due_times() {
        let (times, start) = at(1000.0);
        let woken = start + Duration::from_micros(9_700);
        assert_eq!(times.next_ring(5, woken), 10);
    }

    #[test]
    fn at_a_high_rate_the_bell_rings_once_for_several() {
        let (times, start) = at(20_000.0);
        let woken = start + Duration::from_micros(260);
        assert_eq!(times.next_ring(4, woken), 8);
    }

    #[test]
    fn at_a_rate_of_almost_nothing_only_the_first_is_due() {
        let (times, start) = at(1e-300);
        assert_eq!(times.due(0), start);
        assert_eq!(times.due(1), start + NEVER);
    }
}

//! Open-loop pacing: every unit of work has its intended time, and a late one is not forgiven.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// The runtime's timer counts in milliseconds, which would show in every latency: a thread that
/// sleeps by itself is good to about 60 µs.
const SHORTEST_SLEEP: Duration = Duration::from_micros(200);

/// Hands out due times at a rate.
#[derive(Debug)]
pub struct Pacer {
    start: Instant,
    period_ns: f64,
    handed_out: u64,
    bell: Arc<Notify>,
    stop: Arc<AtomicBool>,
}

impl Pacer {
    /// Begins now.
    #[must_use]
    pub fn new(per_second: f64) -> Self {
        let start = Instant::now();
        let period_ns = 1e9 / per_second;
        let bell = Arc::new(Notify::new());
        let stop = Arc::new(AtomicBool::new(false));
        let (ring, stopped) = (Arc::clone(&bell), Arc::clone(&stop));
        let period = Duration::from_nanos(to_nanos(period_ns)).max(SHORTEST_SLEEP);
        std::thread::spawn(move || {
            let mut next = start;
            while !stopped.load(Ordering::Relaxed) {
                ring.notify_one();
                next += period;
                let now = Instant::now();
                match next.checked_duration_since(now) {
                    Some(rest) => std::thread::sleep(rest),
                    None => next = now,
                }
            }
        });
        Self {
            start,
            period_ns,
            handed_out: 0,
            bell,
            stop,
        }
    }

    /// Waits until one is due; its intended time.
    pub async fn due(&mut self) -> Instant {
        let offset = to_nanos(self.period_ns * u64_to_f64(self.handed_out));
        let due = self.start + Duration::from_nanos(offset);
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

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positive and short"
)]
fn to_nanos(value: f64) -> u64 {
    value as u64
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn u64_to_f64(value: u64) -> f64 {
    value as f64
}

//! How long to wait before the next attempt to connect.

use std::time::Duration;

use crate::config::RedisConfig;

/// After this much of an outage attempts become rare.
const EARLY: Duration = Duration::from_secs(60);

/// Doubling waits with jitter; the most is low in the first minute of an outage.
///
/// A restart takes seconds, and a cluster should notice its end within one. An outage of minutes
/// is a fault that somebody mends, where the attempts of many nodes only disturb.
#[derive(Debug)]
pub(crate) struct Backoff {
    min: Duration,
    max_early: Duration,
    max_late: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(config: &RedisConfig) -> Self {
        Self {
            min: config.backoff_min,
            max_early: config.backoff_max_first_minute,
            max_late: config.backoff_max,
            next: config.backoff_min,
        }
    }

    /// The connection was good.
    pub(crate) fn reset(&mut self) {
        self.next = self.min;
    }

    /// The wait after a failure `outage` after the last success: half of it fixed, half random.
    pub(crate) fn after_failure(&mut self, outage: Duration, random: u32) -> Duration {
        let max = if outage < EARLY {
            self.max_early
        } else {
            self.max_late
        };
        let wait = self.next.min(max);
        self.next = wait.saturating_mul(2).min(max);
        let jitter = f64::from(random) / (f64::from(u32::MAX) + 1.0);
        wait / 2 + (wait / 2).mul_f64(jitter)
    }
}

/// Spreads waits; not for secrets.
pub(crate) fn random() -> u32 {
    // Without randomness nodes only come at the same time.
    getrandom::u32().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff() -> Backoff {
        let url = "redis://localhost".parse().unwrap();
        Backoff::new(&RedisConfig::new(url))
    }

    // Without randomness half of each wait is left.
    #[test]
    fn waits_double_up_to_the_most_of_the_first_minute_and_then_beyond() {
        let mut backoff = backoff();
        let early: Vec<_> = (0..7)
            .map(|_| backoff.after_failure(Duration::ZERO, 0).as_millis())
            .collect();
        assert_eq!(early, [25, 50, 100, 200, 400, 500, 500]);
        let late: Vec<_> = (0..4)
            .map(|_| backoff.after_failure(EARLY, 0).as_millis())
            .collect();
        assert_eq!(late, [500, 1000, 2000, 2500]);
    }

    #[test]
    fn at_least_half_of_a_wait_is_kept_and_a_success_begins_anew() {
        let mut backoff = backoff();
        assert_eq!(backoff.after_failure(EARLY, 0), Duration::from_millis(25));
        backoff.reset();
        assert_eq!(backoff.after_failure(EARLY, 0), Duration::from_millis(25));
    }
}

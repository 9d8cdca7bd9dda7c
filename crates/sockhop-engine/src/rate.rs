//! Rates that are really so many per second, kept in one instant each.

use std::time::{Duration, Instant};

/// So many per second in the long run, and so many at once.
///
/// *Shape:* the generic cell rate algorithm: what is remembered is the instant at which the bucket
/// would be full again. Nothing has to be refilled, so no timer can be late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// In the long run; 0 is no limit.
    pub per_second: u64,
    /// At once, after a pause; at least 1.
    pub burst: u64,
}

impl Rate {
    /// No limit.
    pub const UNLIMITED: Self = Self {
        per_second: 0,
        burst: 1,
    };

    /// Whether there is a limit at all.
    #[must_use]
    pub fn is_limited(self) -> bool {
        self.per_second > 0
    }

    /// How long `count` take at this rate.
    fn time_of(self, count: u64) -> Duration {
        let nanos = u128::from(count) * 1_000_000_000 / u128::from(self.per_second.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Takes `count` out of the bucket that is full again at `full`.
    ///
    /// *Shape:* a count larger than the burst passes when the bucket is full, so that nothing is
    /// too large for ever.
    ///
    /// # Errors
    /// There are not so many; the time until there are.
    pub(crate) fn take(self, full: &mut Instant, now: Instant, count: u64) -> Result<(), Duration> {
        if !self.is_limited() {
            return Ok(());
        }
        let begin = (*full).max(now);
        let taken = (begin - now) + self.time_of(count);
        let most = self.time_of(self.burst.max(1));
        if taken > most && begin > now {
            return Err(taken - most);
        }
        *full = begin + self.time_of(count);
        Ok(())
    }
}

impl Default for Rate {
    fn default() -> Self {
        Self::UNLIMITED
    }
}

/// What happens to a client that sends more than its rates allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OverRate {
    /// Its session is closed.
    #[default]
    Close,
    /// What the message asks for is not done.
    Drop,
}

/// What one session may send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionRates {
    /// Messages. Default: no limit.
    pub messages: Rate,
    /// Bytes of messages. Default: no limit.
    pub bytes: Rate,
    /// What happens when there are more. Default: the session is closed.
    pub over: OverRate,
}

impl SessionRates {
    /// Whether there is a limit at all.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.messages.is_limited() || self.bytes.is_limited()
    }
}

/// How far one session has used its rates.
#[derive(Debug)]
pub(crate) struct Meter {
    messages: Instant,
    bytes: Instant,
}

impl Meter {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            messages: now,
            bytes: now,
        }
    }

    /// A message of `bytes` has come: whether it is within the rates.
    pub(crate) fn take(&mut self, rates: &SessionRates, now: Instant, bytes: usize) -> bool {
        let messages = rates.messages.take(&mut self.messages, now, 1);
        let bytes = rates.bytes.take(&mut self.bytes, now, bytes as u64);
        messages.is_ok() && bytes.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of one try per millisecond pass.
    fn passed(rate: Rate, milliseconds: u64) -> u64 {
        let start = tokio::time::Instant::now().into_std();
        let mut full = start;
        let tries = (0..milliseconds).map(|ms| start + Duration::from_millis(ms));
        tries
            .filter(|now| rate.take(&mut full, *now, 1).is_ok())
            .count() as u64
    }

    #[test]
    fn it_is_really_so_many_per_second() {
        let rate = Rate {
            per_second: 100,
            burst: 20,
        };
        // 20 at once and 100 in each of ten seconds.
        assert!((1_019..=1_021).contains(&passed(rate, 10_000)));
        assert_eq!(passed(Rate::UNLIMITED, 500), 500);
    }

    #[test]
    fn the_wait_that_is_told_is_long_enough() {
        let rate = Rate {
            per_second: 2,
            burst: 1,
        };
        let now = tokio::time::Instant::now().into_std();
        let mut full = now;
        assert_eq!(rate.take(&mut full, now, 1), Ok(()));
        let wait = rate.take(&mut full, now, 1).unwrap_err();
        assert_eq!(wait, Duration::from_millis(500));
        assert_eq!(rate.take(&mut full, now + wait, 1), Ok(()));
    }

    #[test]
    fn what_is_larger_than_the_burst_passes_when_nothing_else_did() {
        let rate = Rate {
            per_second: 1_000,
            burst: 1_000,
        };
        let now = tokio::time::Instant::now().into_std();
        let mut full = now;
        assert_eq!(rate.take(&mut full, now, 5_000), Ok(()));
        let wait = rate.take(&mut full, now, 1).unwrap_err();
        assert_eq!(wait, Duration::from_millis(4_001));
    }
}

//! Whether a subscription connection hears what its own node says. Sans-IO.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::RedisConfig;

/// After as many timeouts without a message to ourselves the connection is given up although it
/// brings other messages: the server may have forgotten what is subscribed.
const PATIENCE: u32 = 4;

/// What is known about one subscription connection.
#[derive(Debug)]
pub(crate) struct Hearing {
    connection: u64,
    born: Instant,
    interval: Duration,
    timeout: Duration,
    /// The wish with which everything is subscribed that was wanted at the start.
    complete: u64,
    is_complete: bool,
    last_sent: Option<Instant>,
    last_heard: Instant,
    last_bytes: Instant,
    last_check: Instant,
}

/// What to think of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Good,
    /// The link is down, but the connection may have a backlog that a new one would lose.
    Late,
    /// The connection is of no use.
    Deaf,
}

impl Hearing {
    /// A new connection, on which everything is subscribed once `complete` is confirmed.
    pub(crate) fn new(config: &RedisConfig, connection: u64, complete: u64, now: Instant) -> Self {
        Self {
            connection,
            born: now,
            interval: config.canary_interval,
            timeout: config.canary_timeout,
            complete,
            is_complete: false,
            last_sent: None,
            last_heard: now,
            last_bytes: now,
            last_check: now,
        }
    }

    /// Bytes have arrived.
    pub(crate) fn received(&mut self, now: Instant) {
        self.last_bytes = now;
        if !self.is_complete {
            // A hundred thousand confirmations take their time, and none of them is a canary.
            self.last_heard = now;
        }
    }

    /// Everything up to this wish is in force. Says whether that made the connection complete.
    pub(crate) fn confirmed(&mut self, confirmed: u64) -> bool {
        let completes = !self.is_complete && confirmed >= self.complete;
        self.is_complete |= completes;
        completes
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// What to send to ourselves now.
    pub(crate) fn canary(&self, now: Instant) -> String {
        let age = now.saturating_duration_since(self.born).as_micros();
        format!("{} {age}", self.connection)
    }

    /// It is on its way.
    pub(crate) fn sent(&mut self, now: Instant) {
        self.last_sent = Some(now);
    }

    /// Whether it is time for the next one.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        let due = |sent| now.saturating_duration_since(sent) >= self.interval;
        self.is_complete && self.last_sent.is_none_or(due)
    }

    /// A message to ourselves came back after the time that is returned. `None`: it is not from this
    /// connection, and says nothing about it.
    pub(crate) fn heard(&mut self, canary: &[u8], now: Instant) -> Option<Duration> {
        let (connection, age) = std::str::from_utf8(canary).ok()?.split_once(' ')?;
        if connection.parse() != Ok(self.connection) {
            return None;
        }
        let sent = self
            .born
            .checked_add(Duration::from_micros(age.parse().ok()?))?;
        self.last_heard = now;
        Some(now.saturating_duration_since(sent))
    }

    /// Judges the connection; to be called several times within the timeout. `has_backlog`: what we
    /// publish has not all left, so that the canary may still be with us.
    pub(crate) fn judge(&mut self, has_backlog: bool, now: Instant) -> Verdict {
        let gap = now.saturating_duration_since(self.last_check);
        self.last_check = now;
        // If this task did not run for a while, what has arrived since then is still unread: the
        // fault is here and not in the link.
        if gap > self.interval {
            self.last_heard += gap;
            self.last_bytes += gap;
        }
        let unheard = now.saturating_duration_since(self.last_heard);
        let silent = now.saturating_duration_since(self.last_bytes);
        if unheard <= self.timeout {
            Verdict::Good
        } else if unheard > self.timeout * PATIENCE || (silent > self.timeout && !has_backlog) {
            Verdict::Deaf
        } else {
            Verdict::Late
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(100);

    fn hearing() -> (Hearing, Instant) {
        let now = Instant::now();
        let config = RedisConfig::new("redis://localhost".parse().unwrap());
        let mut hearing = Hearing::new(&config, 7, 1, now);
        assert!(hearing.confirmed(1));
        (hearing, now)
    }

    /// Judges in small steps and says after how many the verdict was no longer `Good`.
    fn wait(
        hearing: &mut Hearing,
        now: &mut Instant,
        mut at_step: impl FnMut(&mut Hearing, Instant) -> Verdict,
    ) -> (u32, Verdict) {
        for step in 1..1_000 {
            *now += STEP;
            let verdict = at_step(hearing, *now);
            if verdict != Verdict::Good {
                return (step, verdict);
            }
        }
        (u32::MAX, Verdict::Good)
    }

    #[test]
    fn a_silent_connection_is_deaf_after_the_timeout() {
        let (mut hearing, mut now) = hearing();
        let (steps, verdict) = wait(&mut hearing, &mut now, |hearing, now| {
            hearing.judge(false, now)
        });
        assert_eq!((steps, verdict), (16, Verdict::Deaf));
    }

    #[test]
    fn a_connection_with_a_backlog_is_late_first_and_deaf_later() {
        for with_us in [true, false] {
            let (mut hearing, mut now) = hearing();
            let mut judge = |hearing: &mut Hearing, now| {
                if !with_us {
                    hearing.received(now);
                }
                hearing.judge(with_us, now)
            };
            let (steps, verdict) = wait(&mut hearing, &mut now, &mut judge);
            assert_eq!((steps, verdict), (16, Verdict::Late));
            let late = |hearing: &mut Hearing, now| match judge(hearing, now) {
                Verdict::Late => Verdict::Good,
                verdict => verdict,
            };
            let (steps, verdict) = wait(&mut hearing, &mut now, late);
            assert_eq!((steps, verdict), (45, Verdict::Deaf));
        }
    }

    #[test]
    fn hearing_oneself_is_good_and_measures_the_way() {
        let (mut hearing, mut now) = hearing();
        for _ in 0..100 {
            let canary = hearing.canary(now);
            hearing.sent(now);
            assert!(!hearing.is_due(now));
            now += 5 * STEP;
            assert_eq!(hearing.heard(canary.as_bytes(), now), Some(5 * STEP));
            assert_eq!(hearing.judge(false, now), Verdict::Good);
            assert!(hearing.is_due(now));
        }
    }

    #[test]
    fn what_another_connection_sent_or_nobody_of_us_says_nothing() {
        let (mut hearing, now) = hearing();
        for canary in [
            &b"8 100"[..],
            b"7",
            b"7 x",
            b"",
            b"\xff 1",
            b"7 99999999999999999999",
        ] {
            assert_eq!(hearing.heard(canary, now), None);
        }
    }

    #[test]
    fn a_task_that_did_not_run_blames_nobody() {
        let (mut hearing, mut now) = hearing();
        now += 100 * STEP;
        assert_eq!(hearing.judge(false, now), Verdict::Good);
    }

    #[test]
    fn confirmations_count_as_long_as_the_connection_is_not_complete() {
        let now = Instant::now();
        let config = RedisConfig::new("redis://localhost".parse().unwrap());
        let mut hearing = Hearing::new(&config, 7, 1, now);
        let mut later = now;
        for _ in 0..100 {
            later += STEP;
            hearing.received(later);
            assert_eq!(hearing.judge(false, later), Verdict::Good);
        }
        assert!(!hearing.is_due(later));
    }
}

//! Deadlines as data.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// What a session may be waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// Version 4: the next ping is due.
    Ping,
    /// The peer's heartbeat must have come: its pong in version 4, its next ping in version 3.
    Pong,
    /// A pending poll is released, so that the peer can stop polling and upgrade.
    Noop,
    /// The probing WebSocket must have finished its upgrade.
    UpgradeDeadline,
    /// What is left to say must have reached the peer.
    CloseDeadline,
}

impl Timer {
    const ALL: [Self; 5] = [
        Self::Ping,
        Self::Pong,
        Self::Noop,
        Self::UpgradeDeadline,
        Self::CloseDeadline,
    ];
}

/// One optional deadline for each [`Timer`].
///
/// *Shape:* an `Option<Instant>` takes 16 bytes, and half of that is enough for nanoseconds since
/// the beginning of a session: they last for 584 years.
#[derive(Clone, Debug)]
pub(crate) struct TimerTable {
    epoch: Instant,
    deadlines: [Option<NonZeroU64>; Timer::ALL.len()],
}

impl TimerTable {
    /// A table without deadlines, for times from `epoch` on.
    pub(crate) fn new(epoch: Instant) -> Self {
        Self {
            epoch,
            deadlines: Default::default(),
        }
    }

    /// Starts or restarts `timer`. A deadline beyond the end of time is never reached.
    pub(crate) fn start(&mut self, timer: Timer, now: Instant, after: Duration) {
        let deadline = now.saturating_duration_since(self.epoch).checked_add(after);
        self.set(timer, deadline.and_then(nanoseconds));
    }

    /// Stops `timer`.
    pub(crate) fn stop(&mut self, timer: Timer) {
        self.set(timer, None);
    }

    /// Stops every timer.
    pub(crate) fn stop_all(&mut self) {
        *self = Self::new(self.epoch);
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        // Asked at the end of every turn of a session, hence without branches.
        let deadlines = self.deadlines.iter();
        let next = deadlines.fold(u64::MAX, |next, deadline| {
            next.min(deadline.map_or(u64::MAX, NonZeroU64::get))
        });
        if next == u64::MAX {
            return None;
        }
        self.epoch.checked_add(Duration::from_nanos(next))
    }

    /// Stops and returns the timer that expired first by `now`, and how long ago.
    pub(crate) fn take_expired(&mut self, now: Instant) -> Option<(Timer, Duration)> {
        let now = nanoseconds(now.saturating_duration_since(self.epoch));
        let (deadline, timer) = self
            .deadlines
            .iter_mut()
            .zip(Timer::ALL)
            .filter(|(deadline, _)| deadline.is_some() && **deadline <= now)
            .min_by_key(|(deadline, _)| **deadline)?;
        let late = now?.get().saturating_sub(deadline.take()?.get());
        Some((timer, Duration::from_nanos(late)))
    }

    fn set(&mut self, timer: Timer, deadline: Option<NonZeroU64>) {
        if let Some(entry) = self.deadlines.get_mut(timer as usize) {
            *entry = deadline;
        }
    }
}

/// The epoch itself counts as one nanosecond after it.
fn nanoseconds(since_epoch: Duration) -> Option<NonZeroU64> {
    let nanoseconds = u64::try_from(since_epoch.as_nanos()).ok()?;
    NonZeroU64::new(nanoseconds.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_one_place_for_each_timer() {
        for (index, timer) in Timer::ALL.into_iter().enumerate() {
            assert_eq!(timer as usize, index);
        }
    }

    #[test]
    fn timers_expire_in_the_order_of_their_deadlines() {
        let now = crate::session::tests::base_instant();
        let mut table = TimerTable::new(now);
        assert_eq!(table.next(), None);
        table.start(Timer::Ping, now, Duration::from_secs(3));
        table.start(Timer::CloseDeadline, now, Duration::from_secs(1));
        table.start(Timer::Noop, now, Duration::from_secs(2));
        table.stop(Timer::Noop);
        assert_eq!(table.next(), Some(now + Duration::from_secs(1)));
        let later = now + Duration::from_secs(3);
        assert_eq!(table.take_expired(now), None);
        let late = Duration::from_secs(2);
        assert_eq!(
            table.take_expired(later),
            Some((Timer::CloseDeadline, late))
        );
        assert_eq!(
            table.take_expired(later),
            Some((Timer::Ping, Duration::ZERO))
        );
        assert_eq!(table.take_expired(later), None);
    }

    #[test]
    fn a_deadline_beyond_the_end_of_time_is_never_reached() {
        let now = crate::session::tests::base_instant();
        let mut table = TimerTable::new(now);
        table.start(Timer::Pong, now, Duration::MAX);
        assert_eq!(table.next(), None);
        assert_eq!(table.take_expired(now), None);
    }

    #[test]
    fn a_deadline_may_be_now() {
        let now = crate::session::tests::base_instant();
        let mut table = TimerTable::new(now);
        table.start(Timer::Pong, now, Duration::ZERO);
        assert_eq!(table.take_expired(now), Some((Timer::Pong, Duration::ZERO)));
    }
}

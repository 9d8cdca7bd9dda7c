use std::time::{Duration, Instant};

/// Time for tests of machines that take `now` as an argument: it moves only when told to.
///
/// ```
/// use std::time::Duration;
///
/// let mut clock = testkit::Clock::new();
/// let deadline = clock.after(Duration::from_secs(25));
/// assert!(clock.now() < deadline);
/// clock.advance(Duration::from_secs(25));
/// assert_eq!(clock.now(), deadline);
/// ```
#[derive(Clone, Debug)]
pub struct Clock {
    start: Instant,
    now: Instant,
}

impl Clock {
    /// Starts at an arbitrary instant.
    #[must_use]
    pub fn new() -> Self {
        // An `Instant` cannot be made from nothing; only distances from this one matter.
        let start = Instant::now();
        Self { start, now: start }
    }

    /// The current virtual instant.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// The virtual time that has passed since the clock was made.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.now.duration_since(self.start)
    }

    /// The instant that lies `delay` ahead; the clock itself stays where it is.
    #[must_use]
    pub fn after(&self, delay: Duration) -> Instant {
        self.now + delay
    }

    /// Moves forward and returns the new instant.
    pub fn advance(&mut self, by: Duration) -> Instant {
        self.now += by;
        self.now
    }

    /// Moves forward to a deadline, such as one returned by `poll_timeout`.
    ///
    /// A deadline that has passed already leaves the clock where it is: a machine may ask to be
    /// woken at once, but time never runs backwards.
    pub fn advance_to(&mut self, deadline: Instant) -> Instant {
        self.now = self.now.max(deadline);
        self.now
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn stands_still_until_advanced() {
        let mut clock = Clock::new();
        let start = clock.now();
        assert_eq!(clock.now(), start);
        assert_eq!(clock.advance(SECOND), start + SECOND);
        assert_eq!(clock.now(), start + SECOND);
        assert_eq!(clock.elapsed(), SECOND);
    }

    #[test]
    fn never_runs_backwards() {
        let mut clock = Clock::new();
        let early = clock.after(SECOND);
        let late = clock.after(3 * SECOND);
        assert_eq!(clock.advance_to(late), late);
        assert_eq!(clock.advance_to(early), late);
    }
}

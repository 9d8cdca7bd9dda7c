//! Heartbeats: the client's in version 3, the server's in version 4.

use std::time::{Duration, Instant};

use super::Session;
use super::queue::Queued;
use crate::timer::Timer;
use crate::{PeerViolation, ProtocolVersion};

impl Session {
    /// Version 4: the next ping is due one interval from now. Version 3: the peer's next ping must
    /// come within interval and timeout from now; no other packet counts.
    pub(super) fn restart_heartbeat(&mut self, now: Instant) {
        let interval = self.config.ping_interval;
        match self.version {
            ProtocolVersion::V3 => {
                let patience = interval.saturating_add(self.config.ping_timeout);
                self.timers.start(Timer::Pong, now, patience);
            }
            ProtocolVersion::V4 => {
                self.timers.stop(Timer::Pong);
                self.timers.start(Timer::Ping, now, interval);
            }
        }
    }

    pub(super) fn stop_heartbeat(&mut self) {
        self.timers.stop(Timer::Ping);
        self.timers.stop(Timer::Pong);
    }

    pub(super) fn handle_ping(&mut self, now: Instant, data: &str) {
        match self.version {
            ProtocolVersion::V3 => {
                self.restart_heartbeat(now);
                if self.queue.push_pong(data).is_err() {
                    self.violation(PeerViolation::TooManyPings);
                }
            }
            ProtocolVersion::V4 => self.violation(PeerViolation::HeartbeatDirection),
        }
    }

    pub(super) fn handle_pong(&mut self, now: Instant) {
        match self.version {
            ProtocolVersion::V3 => self.violation(PeerViolation::HeartbeatDirection),
            // An unasked pong proves life as well as any.
            ProtocolVersion::V4 => self.restart_heartbeat(now),
        }
    }

    /// The patience for the pong counts from when the ping was due, so that a driver's lateness does
    /// not keep silent peers longer than interval and timeout. After a long sleep of this process
    /// the peer still has nearly all of it.
    pub(super) fn ping_is_due(&mut self, now: Instant, late: Duration) {
        self.queue.push(Queued::Ping);
        let timeout = self.config.ping_timeout;
        let share = timeout.checked_div(LATENESS_SHARE).unwrap_or_default();
        let patience = timeout.saturating_sub(late.min(share));
        self.timers.start(Timer::Pong, now, patience);
    }
}

/// At most one part in so many of the patience for a pong is taken back for a late ping.
const LATENESS_SHARE: u32 = 16;

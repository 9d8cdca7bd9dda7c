//! The upgrade from long-polling to a WebSocket.
//!
//! ```text
//!   client                                   server
//!     │ WebSocket with sid ──────────────────▶ │ candidate; messages keep flowing on polling
//!     │ 2probe ──────────────────────────────▶ │
//!     │ ◀─────────────────────────────── 3probe│
//!     │ ◀─────────────────── 6, to a pending poll
//!     │ (stops polling) 5 ───────────────────▶ │ everything leaves on the WebSocket
//! ```

use std::time::{Duration, Instant};

use super::polling::LastWord;
use super::queue::Queued;
use super::{Event, Phase, Session, TransportId};
use crate::timer::Timer;
use crate::{IncomingPacket, Message, WsRefused};

/// How long a poll may be pending that arrives when the probe was answered.
///
/// A poll that was pending before is released together with the answer, and so is the first after
/// it: a client that saw the end of its poll before the answer has polled once more, and waits for
/// the end of that, too. To release every poll at once would have a client poll without pause for
/// as long as the answer is on its way.
const NOOP_DELAY: Duration = Duration::from_millis(100);

/// Which WebSocket a session has, and what for.
///
/// ```text
///           attach              switch, once probed
///   None ───────────▶ Candidate ───────▶ Current ◀── sessions that begin
///     ▲                   │                          on a WebSocket
///     └───── abandon ─────┘
///            (deadline, wrong packet, gone, or the session is over)
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upgrade {
    /// The session is on polling.
    None,
    /// The session is on polling and this WebSocket may take over.
    Candidate { id: TransportId, probe: Probe },
    /// The session is on this WebSocket, for good.
    Current(TransportId),
}

/// How far a candidate's probe is.
///
/// ```text
///   Awaited ──probe──▶ Asked ──take_probe──▶ Answered
///                        ▲───────probe──────────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    /// The peer has not probed: it may not switch.
    Awaited,
    /// The peer waits for the answer.
    Asked,
    /// The answer is out.
    Answered,
}

impl Upgrade {
    /// A WebSocket arrives; `false` when the session has one.
    #[must_use]
    pub(super) fn attach(&mut self, id: TransportId) -> bool {
        match self {
            Self::None => {
                *self = Self::Candidate {
                    id,
                    probe: Probe::Awaited,
                };
                true
            }
            Self::Candidate { .. } | Self::Current(_) => false,
        }
    }

    /// The candidate becomes the session's transport, and says how far its probe was; `None` when
    /// there is none that has probed.
    #[must_use]
    pub(super) fn switch(&mut self) -> Option<Probe> {
        match *self {
            Self::Candidate {
                id,
                probe: probe @ (Probe::Asked | Probe::Answered),
            } => {
                *self = Self::Current(id);
                Some(probe)
            }
            Self::Candidate { .. } | Self::None | Self::Current(_) => None,
        }
    }

    /// The candidate is given up; returns it.
    pub(super) fn abandon(&mut self) -> Option<TransportId> {
        match *self {
            Self::Candidate { id, .. } => {
                *self = Self::None;
                Some(id)
            }
            Self::None | Self::Current(_) => None,
        }
    }

    /// Records that the candidate sent its probe.
    pub(super) fn probe(&mut self) {
        match self {
            Self::Candidate { probe, .. } => *probe = Probe::Asked,
            Self::None | Self::Current(_) => {}
        }
    }

    /// Whether a candidate has sent its probe.
    pub(super) fn is_probed(self) -> bool {
        match self {
            Self::Candidate { probe, .. } => probe != Probe::Awaited,
            Self::None | Self::Current(_) => false,
        }
    }

    /// The candidate whose probe waits for its answer, which is now given.
    pub(super) fn take_probe(&mut self) -> Option<TransportId> {
        match self {
            Self::Candidate {
                id,
                probe: probe @ Probe::Asked,
            } => {
                *probe = Probe::Answered;
                Some(*id)
            }
            Self::Candidate { .. } | Self::None | Self::Current(_) => None,
        }
    }
}

impl Session {
    /// A WebSocket with this session's id arrived, which may take over from polling.
    ///
    /// # Errors
    /// [`WsRefused`] when the session does not take it; the session is unharmed.
    pub fn handle_ws_open(&mut self, now: Instant) -> Result<TransportId, WsRefused> {
        // A discarded candidate must be closed before the next one, so one place is enough for it.
        let welcome = self.phase == Phase::Open
            && self.config.allow_upgrades
            && self.discarded.is_none()
            && self.upgrade == Upgrade::None;
        if !welcome {
            return Err(WsRefused);
        }
        let id = self.issue_transport_id();
        if !self.upgrade.attach(id) {
            return Err(WsRefused);
        }
        self.timers
            .start(Timer::UpgradeDeadline, now, self.config.upgrade_timeout);
        Ok(id)
    }

    pub(super) fn handle_candidate_message(&mut self, content: Message) {
        match IncomingPacket::decode(self.version, content) {
            Ok(IncomingPacket::Ping(data)) if data.as_str() == "probe" => {
                if !self.upgrade.is_probed() {
                    self.releases_next_poll = true;
                }
                self.upgrade.probe();
                if self.phase == Phase::Open {
                    self.poll.release(LastWord::Noop);
                }
            }
            Ok(IncomingPacket::Upgrade) => self.switch(),
            Ok(
                IncomingPacket::Open
                | IncomingPacket::Close
                | IncomingPacket::Ping(_)
                | IncomingPacket::Pong(_)
                | IncomingPacket::Message(_)
                | IncomingPacket::Noop,
            )
            | Err(_) => self.discard_candidate(),
        }
    }

    /// A client that saw its probe answered waits for its pending poll to end.
    pub(super) fn noop_is_due(&mut self) {
        self.poll.release(LastWord::Noop);
    }

    /// A poll arrived: if the client has probed, it is not to stay for long.
    pub(super) fn poll_meets_upgrade(&mut self, now: Instant) {
        if self.phase != Phase::Open || !self.upgrade.is_probed() {
            return;
        }
        if std::mem::take(&mut self.releases_next_poll) && self.queue.is_empty() {
            self.poll.release(LastWord::Noop);
        } else {
            self.timers.start(Timer::Noop, now, NOOP_DELAY);
        }
    }

    /// The session stays as it was; only the candidate is closed.
    pub(super) fn discard_candidate(&mut self) {
        if let Some(id) = self.abandon_candidate() {
            self.discarded = Some(id);
        }
    }

    /// The candidate is gone, or somebody else closes it.
    pub(super) fn abandon_candidate(&mut self) -> Option<TransportId> {
        self.timers.stop(Timer::Noop);
        self.timers.stop(Timer::UpgradeDeadline);
        self.upgrade.abandon()
    }

    fn switch(&mut self) {
        let Some(probe) = self.upgrade.switch() else {
            self.discard_candidate();
            return;
        };
        if probe == Probe::Asked {
            // A peer that does not wait for the answer gets it all the same, before anything else.
            self.queue
                .push_first(Queued::Pong(Some(Box::new("probe".into()))));
        }
        self.timers.stop(Timer::Noop);
        self.timers.stop(Timer::UpgradeDeadline);
        self.poll.release(LastWord::Noop);
        if self.phase == Phase::Open {
            self.events.push(Event::Upgraded);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Input, transitions};
    use super::*;

    #[test]
    fn the_diagram_of_the_upgrade_is_its_code() {
        let old = TransportId::FIRST;
        let candidate = |probe| Upgrade::Candidate { id: old, probe };
        let states = [
            ("None", Upgrade::None),
            ("Candidate", candidate(Probe::Awaited)),
            ("Candidate(asked)", candidate(Probe::Asked)),
            ("Candidate(answered)", candidate(Probe::Answered)),
            ("Current", Upgrade::Current(old)),
        ];
        let table = transitions(
            &states,
            &[
                Input("attach", |upgrade| {
                    upgrade.attach(TransportId::FIRST.next()).to_string()
                }),
                Input("probe", |upgrade| {
                    upgrade.probe();
                    String::new()
                }),
                Input("take_probe", |upgrade| {
                    upgrade.take_probe().is_some().to_string()
                }),
                Input("switch", |upgrade| format!("{:?}", upgrade.switch())),
                Input("abandon", |upgrade| upgrade.abandon().is_some().to_string()),
            ],
        );
        assert_eq!(
            table,
            "None attach -> Candidate { id: TransportId(2), probe: Awaited } true\n\
             None probe -> None\n\
             None take_probe -> None false\n\
             None switch -> None None\n\
             None abandon -> None false\n\
             Candidate attach -> Candidate { id: TransportId(1), probe: Awaited } false\n\
             Candidate probe -> Candidate { id: TransportId(1), probe: Asked }\n\
             Candidate take_probe -> Candidate { id: TransportId(1), probe: Awaited } false\n\
             Candidate switch -> Candidate { id: TransportId(1), probe: Awaited } None\n\
             Candidate abandon -> None true\n\
             Candidate(asked) attach -> Candidate { id: TransportId(1), probe: Asked } false\n\
             Candidate(asked) probe -> Candidate { id: TransportId(1), probe: Asked }\n\
             Candidate(asked) take_probe -> Candidate { id: TransportId(1), probe: Answered } true\n\
             Candidate(asked) switch -> Current(TransportId(1)) Some(Asked)\n\
             Candidate(asked) abandon -> None true\n\
             Candidate(answered) attach -> Candidate { id: TransportId(1), probe: Answered } false\n\
             Candidate(answered) probe -> Candidate { id: TransportId(1), probe: Asked }\n\
             Candidate(answered) take_probe -> Candidate { id: TransportId(1), probe: Answered } false\n\
             Candidate(answered) switch -> Current(TransportId(1)) Some(Answered)\n\
             Candidate(answered) abandon -> None true\n\
             Current attach -> Current(TransportId(1)) false\n\
             Current probe -> Current(TransportId(1))\n\
             Current take_probe -> Current(TransportId(1)) false\n\
             Current switch -> Current(TransportId(1)) None\n\
             Current abandon -> Current(TransportId(1)) false\n"
        );
    }
}

//! Long-polling: the pending GET, the POST beside it, and the bodies of both.

use std::time::Instant;

use bytes::Bytes;

use super::{Phase, Session, SessionConfig, Transmit, TransportId};
use crate::payload::{self, BodyKind, Parts};
use crate::{
    Packet, PeerViolation, ProtocolVersion, Refusal, RequestError, Text, Transport, handshake,
};

/// A pending poll, of which there is one at most.
///
/// ```text
///            park              release
///   Empty ─────────▶ Parked ─────────▶ Released
///     ▲                 │                  │
///     └──── vacate ─────┴──────────────────┘
///           (answered, or the requester went away)
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum PollSlot {
    /// No GET is pending.
    #[default]
    Empty,
    /// A GET waits for packets.
    Parked(TransportId),
    /// A GET is about to be answered with this one packet.
    Released(TransportId, LastWord),
}

/// What a released poll is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastWord {
    /// Stop polling, or poll again.
    Noop,
    /// The session is over.
    Close,
}

impl PollSlot {
    /// A GET arrives; `false` when one is pending already.
    #[must_use]
    pub(super) fn park(&mut self, id: TransportId) -> bool {
        match self {
            Self::Empty => {
                *self = Self::Parked(id);
                true
            }
            Self::Parked(_) | Self::Released(..) => false,
        }
    }

    /// A parked GET is to be answered with `word`, whatever is queued.
    pub(super) fn release(&mut self, word: LastWord) {
        match *self {
            Self::Parked(id) => *self = Self::Released(id, word),
            Self::Empty | Self::Released(..) => {}
        }
    }

    /// The GET was answered or is gone.
    pub(super) fn vacate(&mut self) {
        *self = Self::Empty;
    }

    /// The GET in the slot.
    pub(super) fn id(self) -> Option<TransportId> {
        match self {
            Self::Empty => None,
            Self::Parked(id) | Self::Released(id, _) => Some(id),
        }
    }
}

impl Session {
    /// A GET arrived. It is parked until [`Transmit::PollBody`] answers it; the first GET of a
    /// session, which opens it, comes here like any other.
    ///
    /// # Errors
    /// [`Refusal::Empty`] when another GET is pending, which ends the session;
    /// [`RequestError::BadRequest`] when the session is on a WebSocket, which does not.
    pub fn handle_poll(&mut self, now: Instant) -> Result<TransportId, Refusal> {
        self.check_polling()?;
        let id = self.issue_transport_id();
        if !self.poll.park(id) {
            self.violation(PeerViolation::OverlappingPoll);
            return Err(Refusal::Empty);
        }
        self.poll_meets_upgrade(now);
        Ok(id)
    }

    /// The head of a POST arrived; its body follows with [`Self::handle_post`] under the same id.
    ///
    /// # Errors
    /// [`Refusal::Empty`] when another POST is unfinished, which ends the session;
    /// [`RequestError::BadRequest`] when the session is on a WebSocket, which does not.
    pub fn handle_post_start(&mut self, _now: Instant) -> Result<TransportId, Refusal> {
        self.check_polling()?;
        if self.post.is_some() {
            self.violation(PeerViolation::OverlappingPost);
            return Err(Refusal::Empty);
        }
        let id = self.issue_transport_id();
        self.post = Some(id);
        Ok(id)
    }

    /// The body of POST `id` arrived whole. Answer `ok` unless refused.
    ///
    /// *Shape:* the driver has enforced [`SessionConfig::max_payload`](super::SessionConfig) and
    /// has unwrapped a JSONP form. A malformed body ends the session, and yet its answer is `ok`,
    /// as from engine.io.
    ///
    /// # Errors
    /// [`Refusal::Empty`] for a POST that was given up meanwhile, and for a version 4 body that is
    /// not text, which ends the session.
    pub fn handle_post(
        &mut self,
        now: Instant,
        id: TransportId,
        kind: BodyKind,
        body: Bytes,
    ) -> Result<(), Refusal> {
        if self.post != Some(id) {
            return Err(Refusal::Empty);
        }
        self.post = None;
        if (self.version, kind) == (ProtocolVersion::V4, BodyKind::Binary) {
            self.violation(PeerViolation::BinaryBody);
            return Err(Refusal::Empty);
        }
        self.stats.bytes_in = self.stats.bytes_in.saturating_add(body.len() as u64);
        let max_packets = self.config.max_packets_per_post;
        for packet in payload::decode(self.version, kind, body, max_packets) {
            match packet {
                Ok(packet) => self.handle_packet(now, packet),
                Err(violation) => self.violation(violation),
            }
            // What follows the packet that ended the session is not for us any more.
            if self.phase == Phase::Closed {
                break;
            }
        }
        Ok(())
    }

    /// Answers the pending GET if there is something to say.
    pub(super) fn transmit_poll(&mut self) -> Option<Transmit> {
        match self.poll {
            PollSlot::Released(id, word) => {
                self.poll.vacate();
                let packet = match word {
                    LastWord::Noop => Packet::Noop,
                    LastWord::Close => Packet::Close,
                };
                let body = payload::encode(self.version, self.peer, &[packet]);
                self.count_out(1, body.bytes.len());
                Some(Transmit::PollBody {
                    id,
                    body,
                    refund_bytes: 0,
                })
            }
            PollSlot::Parked(id) if !self.queue.is_empty() => {
                self.poll.vacate();
                Some(self.transmit_queue(id))
            }
            PollSlot::Parked(_) | PollSlot::Empty => None,
        }
    }

    fn transmit_queue(&mut self, id: TransportId) -> Transmit {
        let open = if self.queue.starts_with_open() {
            handshake::json(&self.config, self.id, Transport::Polling)
        } else {
            Text::default()
        };
        let SessionConfig {
            max_packets_per_body,
            max_payload,
            ..
        } = *self.config;
        let mut parts = Parts::new(self.version, self.peer, max_packets_per_body, max_payload);
        self.queue.fill(&open, &mut parts);
        let body = parts.encode();
        let packets = parts.len();
        let taken = self.queue.advance(packets);
        self.count_out(packets, body.bytes.len());
        if taken.close {
            self.finish();
        }
        Transmit::PollBody {
            id,
            body,
            refund_bytes: taken.refund_bytes,
        }
    }

    fn check_polling(&self) -> Result<(), Refusal> {
        if self.phase == Phase::Closed {
            return Err(RequestError::SessionUnknown.into());
        }
        match self.transport() {
            Transport::Polling => Ok(()),
            Transport::WebSocket => Err(RequestError::BadRequest.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Input, transitions};
    use super::*;

    #[test]
    fn the_diagram_of_the_poll_slot_is_its_code() {
        let old = TransportId::FIRST;
        let states = [
            ("Empty", PollSlot::Empty),
            ("Parked", PollSlot::Parked(old)),
            ("Released", PollSlot::Released(old, LastWord::Noop)),
        ];
        let table = transitions(
            &states,
            &[
                Input("park", |slot| {
                    slot.park(TransportId::FIRST.next()).to_string()
                }),
                Input("release", |slot| {
                    slot.release(LastWord::Close);
                    String::new()
                }),
                Input("vacate", |slot| {
                    slot.vacate();
                    String::new()
                }),
            ],
        );
        assert_eq!(
            table,
            "Empty park -> Parked(TransportId(2)) true\n\
             Empty release -> Empty\n\
             Empty vacate -> Empty\n\
             Parked park -> Parked(TransportId(1)) false\n\
             Parked release -> Released(TransportId(1), Close)\n\
             Parked vacate -> Empty\n\
             Released park -> Released(TransportId(1), Noop) false\n\
             Released release -> Released(TransportId(1), Noop)\n\
             Released vacate -> Empty\n"
        );
    }
}

//! A binary packet on its way: the head is here, attachments are missing.

use std::time::Instant;

use bytes::Bytes;

use crate::client::Limits;
use crate::decode::Head;
use crate::error::PeerViolation;
use crate::packet::{Content, Packet};

/// A packet that waits for its attachments.
///
/// *Shape:* bounded in number by the announced count (itself below
/// [`Limits::max_attachments`]), in bytes by [`Limits::max_packet_bytes`], in time by
/// [`Limits::attachment_timeout`] between two messages.
#[derive(Debug)]
pub struct Reassembly {
    packet: Packet,
    attachments: Vec<Bytes>,
    missing: usize,
    bytes: usize,
    deadline: Instant,
}

/// What an attachment made of the packet.
#[derive(Debug)]
pub enum Progress {
    /// More attachments are missing.
    Waiting(Box<Reassembly>),
    /// The packet is complete.
    Complete(Packet),
}

impl Reassembly {
    /// Waits for the attachments that `head`, a message of `head_bytes`, announced.
    #[must_use]
    pub fn new(now: Instant, limits: &Limits, head: Head, head_bytes: usize) -> Box<Self> {
        Box::new(Self {
            packet: head.packet,
            // Not reserved for the announced count: nothing of it may ever come.
            attachments: Vec::new(),
            missing: head.attachments,
            bytes: head_bytes,
            deadline: deadline(now, limits),
        })
    }

    /// Takes the next attachment.
    ///
    /// # Errors
    /// The packet has become too large.
    pub fn add(
        mut self: Box<Self>,
        now: Instant,
        limits: &Limits,
        data: Bytes,
    ) -> Result<Progress, PeerViolation> {
        self.bytes = self.bytes.saturating_add(data.len());
        if self.bytes > limits.max_packet_bytes {
            return Err(PeerViolation::PacketTooLarge);
        }
        self.attachments.push(data);
        self.missing = self.missing.saturating_sub(1);
        self.deadline = deadline(now, limits);
        if self.missing > 0 {
            return Ok(Progress::Waiting(self));
        }
        Ok(Progress::Complete(
            self.packet.with_attachments(self.attachments),
        ))
    }

    /// When the next attachment has to be here.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }
}

fn deadline(now: Instant, limits: &Limits) -> Instant {
    now.checked_add(limits.attachment_timeout).unwrap_or(now)
}

impl Packet {
    fn with_attachments(self, attachments: Vec<Bytes>) -> Self {
        let content = match self.content {
            Content::Event { name, payload, ack } => Content::Event {
                name,
                payload: payload.with_attachments(attachments),
                ack,
            },
            Content::Ack { id, payload } => Content::Ack {
                id,
                payload: payload.with_attachments(attachments),
            },
            other @ (Content::Connect { .. } | Content::Disconnect | Content::ConnectError) => {
                other
            }
        };
        Self { content, ..self }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use engineio_proto::Message;

    use super::*;
    use crate::client::tests::start;
    use crate::decode::decode;
    use crate::{Parser, SocketioVersion};

    fn head(text: &str) -> Head {
        let message = Message::Text(text.into());
        decode(
            Parser::Json,
            SocketioVersion::V5,
            &Limits::default(),
            message,
        )
        .unwrap()
    }

    const TWO: &str = r#"52-["x",{"_placeholder":true,"num":1},{"_placeholder":true,"num":0}]"#;

    #[test]
    fn attachments_go_where_their_placeholders_are() {
        let limits = Limits::default();
        let waiting = Reassembly::new(start(), &limits, head(TWO), TWO.len());
        let Progress::Waiting(waiting) = waiting.add(start(), &limits, "a".into()).unwrap() else {
            panic!("one is missing");
        };
        let Progress::Complete(packet) = waiting.add(start(), &limits, "b".into()).unwrap() else {
            panic!("none is missing");
        };
        let Content::Event { payload, .. } = packet.content else {
            panic!("an event");
        };
        let args = payload.args().unwrap().0;
        assert_eq!(args, [Bytes::from("b").into(), Bytes::from("a").into()]);
    }

    #[test]
    fn head_and_attachments_together_are_limited() {
        let limits = Limits {
            max_packet_bytes: TWO.len() + 3,
            ..Limits::default()
        };
        let waiting = Reassembly::new(start(), &limits, head(TWO), TWO.len());
        let Progress::Waiting(waiting) = waiting.add(start(), &limits, "abc".into()).unwrap()
        else {
            panic!("one is missing");
        };
        let violation = waiting.add(start(), &limits, "d".into()).unwrap_err();
        assert_eq!(violation, PeerViolation::PacketTooLarge);
    }

    #[test]
    fn every_attachment_gives_time_for_the_next() {
        let limits = Limits::default();
        let waiting = Reassembly::new(start(), &limits, head(TWO), TWO.len());
        let deadline = waiting.deadline();
        assert_eq!(deadline, start() + limits.attachment_timeout);
        let later = start() + Duration::from_secs(5);
        let Progress::Waiting(waiting) = waiting.add(later, &limits, "a".into()).unwrap() else {
            panic!("one is missing");
        };
        assert_eq!(waiting.deadline(), deadline + Duration::from_secs(5));
    }
}

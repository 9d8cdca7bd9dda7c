//! Messages that came over the bus.

use std::time::{Duration, Instant};

use bytes::Bytes;
use engineio_proto::{Encoded, Message, MessageWriter, Text};
use socketio_proto::decode::decode;
use socketio_proto::packet::{Content, Packet};
use socketio_proto::reassembly::{Progress, Reassembly};
use socketio_proto::{
    AckId, EncodeError, Limits, Parser, Payload, PeerViolation, SocketioVersion, encode_event,
};

use super::wire::{self, WireError};
use crate::bus::NodeId;
use crate::options::BroadcastOptions;

/// A message of another node.
///
/// *Shape:* shares the memory of the frame it came in.
#[derive(Debug)]
pub struct BusMessage {
    pub(crate) node: NodeId,
    pub(crate) sequence: u64,
    pub(crate) namespace: Text,
    pub(crate) options: BroadcastOptions,
    pub(crate) acks: Option<Wanted>,
    pub(crate) packet: Remote,
}

impl BusMessage {
    /// Reads a frame.
    ///
    /// # Errors
    /// It is not a frame of this version of the wire, or it is damaged. Memory in use stays below
    /// a small multiple of its size.
    pub fn decode(frame: &Bytes) -> Result<Self, WireError> {
        match wire::decode(frame)? {
            (_, wire::Frame::Broadcast(message)) => Ok(message),
            (
                _,
                wire::Frame::Announcement(..)
                | wire::Frame::Goodbye
                | wire::Frame::Request { .. }
                | wire::Frame::Answer { .. },
            ) => Err(WireError::NotABroadcast),
        }
    }

    /// The node that published it.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The name of the namespace it is for.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }
}

/// The acks that another node wants for a broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Its own number for them.
    pub(crate) request: u64,
    /// How long it waits.
    pub(crate) timeout: Duration,
}

/// An event as another node wrote it for its own sockets: one message and its attachments.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Remote {
    /// How it is written.
    pub(crate) parser: Parser,
    pub(crate) head: Message,
    pub(crate) attachments: Vec<Bytes>,
}

/// Why an event cannot be written for another parser.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TranscodeError {
    #[error("the packet is no event with all its attachments")]
    NotAnEvent,
    #[error("the packet is no ack")]
    NotAnAck,
    #[error(transparent)]
    Decode(#[from] PeerViolation),
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

impl Remote {
    /// The bytes as they are, for sockets that read them.
    ///
    /// The text is copied once, behind room for the header of a WebSocket frame; that lets go of
    /// the frame of the bus, too. Attachments share its memory.
    pub(crate) fn to_encoded(&self) -> Encoded {
        match &self.head {
            Message::Text(text) => {
                let mut writer = MessageWriter::with_capacity(text.len());
                writer.buffer().extend_from_slice(text.as_bytes());
                writer.finish(self.attachments.clone())
            }
            Message::Binary(data) => Encoded::binary(data.clone()),
        }
    }

    /// The event written anew, for sockets with another parser than those of the sender.
    pub(crate) fn transcode(&self, parser: Parser) -> Result<Encoded, TranscodeError> {
        self.rewrite(parser, None)
    }

    /// The event with an ack id of this node instead of the sender's. In JSON only the few bytes
    /// of the head change.
    pub(crate) fn with_ack_id(
        &self,
        namespace: &str,
        parser: Parser,
        id: AckId,
    ) -> Result<Encoded, TranscodeError> {
        match (&self.head, parser) {
            (Message::Text(text), Parser::Json) => {
                let (before, after) =
                    around_ack_id(text, namespace).ok_or(TranscodeError::NotAnEvent)?;
                let id = id.to_string();
                let mut writer = MessageWriter::with_capacity(text.len() + id.len());
                for part in [before, &id, after] {
                    writer.buffer().extend_from_slice(part.as_bytes());
                }
                Ok(writer.finish(self.attachments.clone()))
            }
            (Message::Text(_) | Message::Binary(_), parser) => self.rewrite(parser, Some(id)),
        }
    }

    /// A packet of the JSON parser as it arrives elsewhere. `None`: it is none.
    pub(crate) fn of_json(packet: &Encoded) -> Option<Self> {
        let mut frames = packet.frames();
        let head = frames.next().filter(|head| !head.is_binary())?;
        let text = Bytes::copy_from_slice(head.data().get(1..)?);
        Some(Self {
            parser: Parser::Json,
            head: Message::Text(Text::from_utf8(text).ok()?),
            attachments: frames
                .map(|frame| Bytes::copy_from_slice(frame.data()))
                .collect(),
        })
    }

    /// The arguments of an ack.
    pub(crate) fn ack_payload(&self) -> Result<Payload, TranscodeError> {
        match self.read()?.content {
            Content::Ack { payload, .. } => Ok(payload),
            Content::Connect { .. }
            | Content::Disconnect
            | Content::Event { .. }
            | Content::ConnectError => Err(TranscodeError::NotAnAck),
        }
    }

    fn rewrite(&self, parser: Parser, id: Option<AckId>) -> Result<Encoded, TranscodeError> {
        let packet = self.read()?;
        let Content::Event { name, payload, ack } = &packet.content else {
            return Err(TranscodeError::NotAnEvent);
        };
        Ok(encode_event(
            parser,
            packet.namespace(),
            id.or(*ack),
            name,
            payload,
        )?)
    }

    fn read(&self) -> Result<Packet, TranscodeError> {
        // The limits of peers do not bind users of the server, and the frame has its own.
        let limits = Limits {
            max_attachments: usize::MAX,
            max_packet_bytes: usize::MAX,
            max_name_bytes: usize::MAX,
            ..Limits::default()
        };
        let head = decode(self.parser, SocketioVersion::V5, &limits, self.head.clone())?;
        if head.attachments != self.attachments.len() {
            return Err(TranscodeError::NotAnEvent);
        }
        if head.attachments == 0 {
            return Ok(head.packet);
        }
        // All attachments are here already, so the deadline has no meaning.
        let now = Instant::now();
        let mut reassembly = Reassembly::new(now, &limits, head, self.head.len());
        for data in &self.attachments {
            match reassembly.add(now, &limits, data.clone())? {
                Progress::Waiting(more) => reassembly = more,
                Progress::Complete(packet) => return Ok(packet),
            }
        }
        Err(TranscodeError::NotAnEvent)
    }
}

/// What is before and behind the ack id in the text of an event:
/// `2[<namespace>,]<id>[…` or `5<attachments>-[<namespace>,]<id>[…`.
fn around_ack_id<'a>(text: &'a str, namespace: &str) -> Option<(&'a str, &'a str)> {
    let rest = match text.as_bytes().first()? {
        b'2' => &text[1..],
        b'5' => text.split_once('-')?.1,
        _ => return None,
    };
    let rest = match namespace {
        "/" => rest,
        name => rest.strip_prefix(name)?.strip_prefix(',')?,
    };
    let after = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    if after.len() == rest.len() {
        return None;
    }
    Some((text.strip_suffix(rest)?, after))
}

#[cfg(test)]
mod tests {
    use socketio_proto::{Args, Value};

    use super::*;

    fn asking(parser: Parser, namespace: &str, payload: &Args) -> Remote {
        let packet = encode_event(parser, namespace, Some(AckId::new(7)), "a[1", payload).unwrap();
        let mut frames = packet.frames();
        let head = frames.next().unwrap().data();
        let head = match parser {
            Parser::Json => Message::Text(std::str::from_utf8(&head[1..]).unwrap().into()),
            Parser::Msgpack => Message::Binary(Bytes::copy_from_slice(head)),
        };
        Remote {
            parser,
            head,
            attachments: frames
                .map(|frame| Bytes::copy_from_slice(frame.data()))
                .collect(),
        }
    }

    #[test]
    fn an_ack_id_is_replaced_in_every_form_of_a_packet() {
        let plain = Args(vec!["12[3".into()]);
        let picture = Args(vec![
            Value::Binary(Bytes::from_static(b"picture")),
            1_u64.into(),
        ]);
        for payload in [plain, picture, Args::default()] {
            for namespace in ["/", "/9,b"].map(|name| name.trim_end_matches(",b")) {
                for from in [Parser::Json, Parser::Msgpack] {
                    let remote = asking(from, namespace, &payload);
                    for to in [Parser::Json, Parser::Msgpack] {
                        let id = AckId::new(123_456);
                        let written = remote.with_ack_id(namespace, to, id).unwrap();
                        let expected = encode_event(to, namespace, Some(id), "a[1", &payload);
                        let data = |packet: &Encoded| -> Vec<Vec<u8>> {
                            packet.frames().map(|frame| frame.data().to_vec()).collect()
                        };
                        assert_eq!(data(&written), data(&expected.unwrap()));
                    }
                }
            }
        }
    }

    #[test]
    fn a_packet_without_an_ack_id_is_refused() {
        for text in [
            "",
            "2[\"a\"]",
            "3/chat,7[]",
            "2/other,7[]",
            "5/chat,7[]",
            "2/chat,[7]",
        ] {
            assert_eq!(around_ack_id(text, "/chat"), None, "{text}");
        }
    }
}

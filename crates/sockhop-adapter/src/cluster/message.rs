//! Messages that came over the bus.

use std::time::{Duration, Instant};

use bytes::Bytes;
use engineio_proto::{Encoded, Message, MessageWriter, Text};
use socketio_proto::decode::decode;
use socketio_proto::packet::{Content, Packet};
use socketio_proto::reassembly::{Progress, Reassembly};
use socketio_proto::{EncodeError, Limits, Parser, PeerViolation, SocketioVersion, encode_event};

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
    #[expect(dead_code, reason = "acks across nodes come with the requests")]
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
            (_, wire::Frame::Announcement(..) | wire::Frame::Goodbye) => {
                Err(WireError::NotABroadcast)
            }
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
        let packet = self.read()?;
        let Content::Event { name, payload, ack } = &packet.content else {
            return Err(TranscodeError::NotAnEvent);
        };
        Ok(encode_event(
            parser,
            packet.namespace(),
            *ack,
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

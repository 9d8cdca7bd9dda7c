//! The default parser: `<type>[<attachments>-][<namespace>,][<ack id>][<payload>]`.

use std::io;

use bytes::Bytes;
use engineio_proto::{Encoded, MessageWriter};
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter};

use super::{Passed, Sink};
use crate::SocketioVersion;
use crate::ack::AckId;
use crate::error::{ConnectError, EncodeError};
use crate::payload::Payload;
use crate::value::Value;

/// Room for the payload of a usual event, so that its buffer is allocated once.
const PAYLOAD_CAPACITY_BYTES: usize = 192;

/// Writes an event or ack and takes the binary data out of it.
pub(super) struct JsonSink {
    writer: MessageWriter,
    /// Where the packet type is, which changes when binary data turns up.
    type_at: usize,
    /// Where the arguments begin.
    arguments_at: usize,
    attachments: Vec<Bytes>,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Event,
    Ack,
}

impl JsonSink {
    pub(super) fn event(
        namespace: &str,
        ack: Option<AckId>,
        event: &str,
    ) -> Result<Self, EncodeError> {
        let mut writer = MessageWriter::with_capacity(
            PAYLOAD_CAPACITY_BYTES
                .saturating_add(namespace.len())
                .saturating_add(event.len()),
        );
        let buffer = writer.buffer();
        let type_at = buffer.len();
        write_head(buffer, b'2', namespace, ack);
        buffer.push(b'[');
        serde_json::to_writer(&mut *buffer, event)?;
        let arguments_at = buffer.len();
        Ok(Self {
            writer,
            type_at,
            arguments_at,
            attachments: Vec::new(),
            kind: Kind::Event,
        })
    }

    pub(super) fn ack(namespace: &str, id: AckId) -> Self {
        let mut writer =
            MessageWriter::with_capacity(PAYLOAD_CAPACITY_BYTES.saturating_add(namespace.len()));
        let buffer = writer.buffer();
        let type_at = buffer.len();
        write_head(buffer, b'3', namespace, Some(id));
        buffer.push(b'[');
        let arguments_at = buffer.len();
        Self {
            writer,
            type_at,
            arguments_at,
            attachments: Vec::new(),
            kind: Kind::Ack,
        }
    }

    pub(super) fn finish(mut self) -> Encoded {
        let buffer = self.writer.buffer();
        buffer.push(b']');
        if !self.attachments.is_empty() {
            let binary_type = match self.kind {
                Kind::Event => 5,
                Kind::Ack => 6,
            };
            let head = format!("{binary_type}{}-", self.attachments.len());
            buffer.splice(self.type_at..=self.type_at, head.into_bytes());
        }
        self.writer.finish(self.attachments)
    }
}

impl Sink for JsonSink {
    fn begin(&mut self, _count: usize) -> Result<(), EncodeError> {
        self.writer.buffer().truncate(self.arguments_at);
        self.attachments.clear();
        Ok(())
    }

    fn argument<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        let buffer = self.writer.buffer();
        if self.kind == Kind::Event || buffer.len() > self.arguments_at {
            buffer.push(b',');
        }
        let formatter = AttachmentFormatter {
            attachments: &mut self.attachments,
        };
        let mut serializer = serde_json::Serializer::with_formatter(buffer, formatter);
        Ok(value.serialize(&mut serializer)?)
    }

    fn pass_on(&mut self, payload: &Payload) -> Result<Passed, EncodeError> {
        let Some((list, attachments)) = payload.json_as_it_arrived() else {
            return Ok(Passed::No);
        };
        self.begin(0)?;
        if !list.is_empty() {
            let buffer = self.writer.buffer();
            if self.kind == Kind::Event {
                buffer.push(b',');
            }
            buffer.extend_from_slice(list.as_bytes());
        }
        self.attachments.extend_from_slice(attachments);
        Ok(Passed::Yes)
    }
}

/// Compact JSON with a placeholder for each binary.
struct AttachmentFormatter<'a> {
    attachments: &'a mut Vec<Bytes>,
}

impl Formatter for AttachmentFormatter<'_> {
    fn write_byte_array<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        value: &[u8],
    ) -> io::Result<()> {
        let index = self.attachments.len();
        self.attachments.push(Bytes::copy_from_slice(value));
        write!(writer, r#"{{"_placeholder":true,"num":{index}}}"#)
    }
}

pub(super) fn connect(version: SocketioVersion, namespace: &str, sid: &str) -> Encoded {
    let mut writer = packet(b'0', namespace);
    if version == SocketioVersion::V5 {
        let buffer = writer.buffer();
        buffer.extend_from_slice(br#"{"sid":"#);
        write_value(buffer, sid);
        buffer.push(b'}');
    }
    writer.finish(Vec::new())
}

pub(super) fn connect_error(
    version: SocketioVersion,
    namespace: &str,
    error: &ConnectError,
) -> Encoded {
    let mut writer = packet(b'4', namespace);
    let buffer = writer.buffer();
    match (version, &error.data) {
        (SocketioVersion::V4, Some(data)) => write_value(buffer, data),
        (SocketioVersion::V4, None) => write_value(buffer, &error.message),
        (SocketioVersion::V5, _) => write_value(buffer, &Refusal::from(error)),
    }
    writer.finish(Vec::new())
}

pub(super) fn disconnect(namespace: &str) -> Encoded {
    packet(b'1', namespace).finish(Vec::new())
}

/// What a peer of protocol 5 reads in a CONNECT_ERROR.
#[derive(Serialize)]
pub(crate) struct Refusal<'a> {
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Value>,
}

impl<'a> From<&'a ConnectError> for Refusal<'a> {
    fn from(error: &'a ConnectError) -> Self {
        Self {
            message: &error.message,
            data: error.data.as_ref(),
        }
    }
}

fn packet(packet_type: u8, namespace: &str) -> MessageWriter {
    let mut writer = MessageWriter::with_capacity(namespace.len().saturating_add(48));
    write_head(writer.buffer(), packet_type, namespace, None);
    writer
}

/// Everything in front of the payload. Numbers go straight into the buffer, without a `String`.
fn write_head(buffer: &mut Vec<u8>, packet_type: u8, namespace: &str, id: Option<AckId>) {
    buffer.push(packet_type);
    if namespace != "/" {
        buffer.extend_from_slice(namespace.as_bytes());
        buffer.push(b',');
    }
    if let Some(id) = id {
        write_value(buffer, &id.number());
    }
}

/// Writes a value that always can be written: text, a number, or a [`Value`], whose keys are text.
/// Binary data, which these packets cannot carry, becomes an array of numbers.
fn write_value<T: Serialize + ?Sized>(buffer: &mut Vec<u8>, value: &T) {
    let start = buffer.len();
    let mut serializer = serde_json::Serializer::with_formatter(&mut *buffer, CompactFormatter);
    if value.serialize(&mut serializer).is_err() {
        buffer.truncate(start);
        buffer.extend_from_slice(b"null");
    }
}

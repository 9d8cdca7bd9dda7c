//! Packets for sockets.

use std::time::Duration;

use bytes::Bytes;
use engineio_proto::{Encoded, Message};
use socketio_proto::Parser;

use super::KIND_BROADCAST;
use super::codec::{FIXED_LEN, LEN, Reader, WireError, Writer, packet_len, rooms_len};
use crate::bus::{BusError, NodeId};
use crate::cluster::message::{BusMessage, Remote, Wanted};
use crate::options::BroadcastOptions;

pub(super) const FLAG_VOLATILE: u8 = 1;
pub(super) const FLAG_UNCOMPRESSED: u8 = 2;
pub(super) const FLAG_MSGPACK: u8 = 4;
const FLAG_ACKS: u8 = 8;
const KNOWN_FLAGS: u8 = FLAG_VOLATILE | FLAG_UNCOMPRESSED | FLAG_MSGPACK | FLAG_ACKS;

/// What is written besides the packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Broadcast<'a> {
    pub(crate) node: NodeId,
    /// The node's own count of broadcasts: copies of one have the same.
    pub(crate) sequence: u64,
    pub(crate) namespace: &'a str,
    pub(crate) options: &'a BroadcastOptions,
    pub(crate) parser: Parser,
    pub(crate) acks: Option<Wanted>,
}

/// Writes a broadcast. What concerns only the node that sends it (`local`, the sender's key) is
/// not written.
///
/// # Errors
/// Too many rooms or attachments, or a part that is longer than 4 GiB.
pub(crate) fn encode_broadcast(
    broadcast: &Broadcast<'_>,
    packet: &Encoded,
) -> Result<Bytes, BusError> {
    let Broadcast {
        node,
        sequence,
        namespace,
        options,
        parser,
        acks,
    } = *broadcast;
    let flags = [
        (FLAG_VOLATILE, options.volatile),
        (FLAG_UNCOMPRESSED, !options.compress),
        (FLAG_MSGPACK, parser == Parser::Msgpack),
        (FLAG_ACKS, acks.is_some()),
    ]
    .into_iter()
    .filter_map(|(flag, set)| set.then_some(flag))
    .fold(0, |flags, flag| flags | flag);

    let mut out = Writer::new(KIND_BROADCAST, node, encoded_len(broadcast, packet));
    out.number(sequence);
    out.byte(flags);
    out.blob(namespace.as_bytes())?;
    out.rooms(&options.rooms)?;
    out.rooms(&options.except)?;
    if let Some(Wanted { request, timeout }) = acks {
        out.number(request);
        out.millis(timeout);
    }
    out.packet(packet)?;
    Ok(out.finish())
}

pub(super) fn encoded_len(broadcast: &Broadcast<'_>, packet: &Encoded) -> usize {
    let names = rooms_len(&broadcast.options.rooms) + rooms_len(&broadcast.options.except);
    let acks = broadcast.acks.map_or(0, |_| 8 + LEN);
    FIXED_LEN + 8 + 1 + LEN + broadcast.namespace.len() + names + acks + packet_len(packet)
}

pub(super) fn read(node: NodeId, reader: &mut Reader) -> Result<BusMessage, WireError> {
    let sequence = reader.number()?;
    let flags = reader.byte()?;
    if flags & !KNOWN_FLAGS != 0 {
        return Err(WireError::UnknownFlags(flags & !KNOWN_FLAGS));
    }
    let has = |flag| flags & flag != 0;
    let namespace = reader.text()?;
    let options = BroadcastOptions {
        rooms: reader.rooms()?,
        except: reader.rooms()?,
        except_socket: None,
        volatile: has(FLAG_VOLATILE),
        // It has travelled far enough.
        local: true,
        compress: !has(FLAG_UNCOMPRESSED),
    };
    let acks = match has(FLAG_ACKS) {
        true => Some(Wanted {
            request: reader.number()?,
            timeout: reader.millis()?,
        }),
        false => None,
    };
    let (parser, head) = match has(FLAG_MSGPACK) {
        true => (Parser::Msgpack, Message::Binary(reader.blob()?)),
        false => (Parser::Json, Message::Text(reader.text()?)),
    };
    let attachments: Vec<Bytes> = reader.list(Reader::blob)?;
    if parser == Parser::Msgpack && !attachments.is_empty() {
        return Err(WireError::UnexpectedAttachments);
    }
    Ok(BusMessage {
        node,
        sequence,
        namespace,
        options,
        acks,
        packet: Remote {
            parser,
            head,
            attachments,
        },
    })
}

impl Writer {
    /// A time span in milliseconds, at most 49 days.
    pub(super) fn millis(&mut self, span: Duration) {
        let millis = u32::try_from(span.as_millis()).unwrap_or(u32::MAX);
        self.bytes(&millis.to_be_bytes());
    }
}

impl Reader {
    pub(super) fn millis(&mut self) -> Result<Duration, WireError> {
        let millis = u32::from_be_bytes(self.array()?);
        Ok(Duration::from_millis(millis.into()))
    }
}

//! The bytes of messages on the bus.
//!
//! ```text
//! u8 version (1) · u8 kind (1: broadcast) · u64 node · u8 flags
//! name namespace · u32 count, names of rooms · u32 count, names of except
//! blob head · u32 count, blobs of attachments
//! ```
//! Numbers are big-endian; a name or blob is a `u32` length and that many bytes, names and text
//! heads in UTF-8. Flags: 1 volatile, 2 do not compress, 4 written for the msgpack parser. The head
//! is the packet as it goes to sockets, without the Engine.IO type: a text, or for the msgpack
//! parser binary data with everything inside.
//!
//! A reader refuses other versions, unknown kinds and flags, and whatever does not end exactly at
//! the end of the frame.

use bytes::Bytes;
use engineio_proto::{Encoded, Frame, Message, Text};
use smallvec::SmallVec;
use socketio_proto::Parser;

use super::message::{BusMessage, Remote};
use crate::bus::{BusError, NodeId};
use crate::options::BroadcastOptions;
use crate::recipient::Room;

const VERSION: u8 = 1;
const KIND_BROADCAST: u8 = 1;

const FLAG_VOLATILE: u8 = 1;
const FLAG_UNCOMPRESSED: u8 = 2;
const FLAG_MSGPACK: u8 = 4;
const KNOWN_FLAGS: u8 = FLAG_VOLATILE | FLAG_UNCOMPRESSED | FLAG_MSGPACK;

/// Length of version, kind, node and flags.
const FIXED_LEN: usize = 11;
/// Length of a length or count.
const LEN: usize = 4;
/// Items of a list: rooms, exceptions or attachments of one message. Items can be empty, so the
/// size of a frame alone would allow for lists far larger than itself.
const MAX_ITEMS: usize = 65_536;

/// Why a frame of the bus cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// It was written by another version of this format.
    #[error("unknown version {0} of the wire")]
    UnknownVersion(u8),
    /// It is of a kind that this version does not have.
    #[error("unknown kind of message {0}")]
    UnknownKind(u8),
    /// It has flags that this version does not have.
    #[error("unknown flags {0:#x}")]
    UnknownFlags(u8),
    /// It ends too early.
    #[error("truncated frame")]
    Truncated,
    /// It goes on after its end.
    #[error("{0} bytes after the end of the frame")]
    TrailingBytes(usize),
    /// A text is not UTF-8.
    #[error("text that is not UTF-8")]
    InvalidText,
    /// A list has more items than a message may have.
    #[error("list of {0} items")]
    ListTooLong(usize),
    /// Attachments beside a packet of the msgpack parser, which has everything inside.
    #[error("unexpected attachments")]
    UnexpectedAttachments,
}

/// Writes a broadcast of `node`. What concerns only that node (`local`, the sender's key) is not
/// written.
///
/// # Errors
/// Too many rooms or attachments, or a part that is longer than 4 GiB.
pub(crate) fn encode_broadcast(
    node: NodeId,
    namespace: &str,
    options: &BroadcastOptions,
    parser: Parser,
    packet: &Encoded,
) -> Result<Bytes, BusError> {
    let flags = [
        (FLAG_VOLATILE, options.volatile),
        (FLAG_UNCOMPRESSED, !options.compress),
        (FLAG_MSGPACK, parser == Parser::Msgpack),
    ]
    .into_iter()
    .filter_map(|(flag, set)| set.then_some(flag))
    .fold(0, |flags, flag| flags | flag);

    let mut out = Vec::with_capacity(encoded_len(namespace, options, packet));
    out.extend_from_slice(&[VERSION, KIND_BROADCAST]);
    out.extend_from_slice(&node.number().to_be_bytes());
    out.push(flags);
    put_blob(&mut out, namespace.as_bytes())?;
    for rooms in [&options.rooms, &options.except] {
        put_count(&mut out, rooms.len())?;
        for room in rooms {
            put_blob(&mut out, room.as_str().as_bytes())?;
        }
    }
    for (index, part) in packet.frames().enumerate() {
        if index == 0 {
            put_blob(&mut out, head_bytes(part))?;
            put_count(&mut out, packet.frame_count() - 1)?;
        } else {
            put_blob(&mut out, part.data())?;
        }
    }
    Ok(out.into())
}

/// The packet without the Engine.IO type, which text carries inside and binary does not.
fn head_bytes(head: &Frame) -> &[u8] {
    match head.is_binary() {
        true => head.data(),
        false => head.data().get(1..).unwrap_or_default(),
    }
}

fn encoded_len(namespace: &str, options: &BroadcastOptions, packet: &Encoded) -> usize {
    let rooms = options.rooms.iter().chain(&options.except);
    let names: usize = rooms.map(|room| LEN + room.as_str().len()).sum();
    let frames: usize = packet.frames().map(|frame| LEN + frame.data().len()).sum();
    FIXED_LEN + LEN + namespace.len() + 2 * LEN + names + LEN + frames
}

fn put_count(out: &mut Vec<u8>, items: usize) -> Result<(), BusError> {
    let limit = MAX_ITEMS;
    if items > limit {
        return Err(BusError::ListTooLong { items, limit });
    }
    put_len(out, items)
}

fn put_len(out: &mut Vec<u8>, bytes: usize) -> Result<(), BusError> {
    let len = u32::try_from(bytes).map_err(|_| BusError::FrameTooLarge {
        bytes,
        limit: u32::MAX as usize,
    })?;
    out.extend_from_slice(&len.to_be_bytes());
    Ok(())
}

fn put_blob(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), BusError> {
    put_len(out, bytes.len())?;
    out.extend_from_slice(bytes);
    Ok(())
}

/// Reads what [`encode_broadcast`] wrote.
pub(super) fn decode(frame: &Bytes) -> Result<BusMessage, WireError> {
    let mut reader = Reader(frame.clone());
    let [version] = reader.array()?;
    if version != VERSION {
        return Err(WireError::UnknownVersion(version));
    }
    let [kind] = reader.array()?;
    if kind != KIND_BROADCAST {
        return Err(WireError::UnknownKind(kind));
    }
    let node = NodeId::new(u64::from_be_bytes(reader.array()?));
    let [flags] = reader.array()?;
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
    let (parser, head) = match has(FLAG_MSGPACK) {
        true => (Parser::Msgpack, Message::Binary(reader.blob()?)),
        false => (Parser::Json, Message::Text(reader.text()?)),
    };
    let attachments: Vec<Bytes> = reader.list(Reader::blob)?;
    reader.end()?;
    if parser == Parser::Msgpack && !attachments.is_empty() {
        return Err(WireError::UnexpectedAttachments);
    }
    Ok(BusMessage {
        node,
        namespace,
        options,
        packet: Remote {
            parser,
            head,
            attachments,
        },
    })
}

/// What is left of a frame.
struct Reader(Bytes);

impl Reader {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (array, _) = self
            .0
            .split_first_chunk::<N>()
            .ok_or(WireError::Truncated)?;
        let array = *array;
        let _ = self.0.split_to(N);
        Ok(array)
    }

    fn len(&mut self) -> Result<usize, WireError> {
        let len = u32::from_be_bytes(self.array()?);
        usize::try_from(len).map_err(|_| WireError::Truncated)
    }

    fn blob(&mut self) -> Result<Bytes, WireError> {
        let len = self.len()?;
        if len > self.0.len() {
            return Err(WireError::Truncated);
        }
        Ok(self.0.split_to(len))
    }

    fn text(&mut self) -> Result<Text, WireError> {
        Text::from_utf8(self.blob()?).map_err(|_| WireError::InvalidText)
    }

    /// A counted list. Nothing is reserved for the count, which may be a lie: every item takes
    /// bytes of the frame, and the list ends with them.
    fn list<T, L: Default + Extend<T>>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, WireError>,
    ) -> Result<L, WireError> {
        let mut list = L::default();
        let items = self.len()?;
        if items > MAX_ITEMS {
            return Err(WireError::ListTooLong(items));
        }
        for _ in 0..items {
            list.extend([item(self)?]);
        }
        Ok(list)
    }

    fn rooms(&mut self) -> Result<SmallVec<[Room; 4]>, WireError> {
        self.list(|reader| Ok(Room::from(&*reader.text()?)))
    }

    fn end(self) -> Result<(), WireError> {
        match self.0.len() {
            0 => Ok(()),
            rest => Err(WireError::TrailingBytes(rest)),
        }
    }
}

#[cfg(test)]
mod tests;

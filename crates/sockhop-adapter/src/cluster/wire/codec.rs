//! Numbers, names, blobs and lists, as all frames have them.

use bytes::Bytes;
use engineio_proto::{Encoded, Frame, Text};
use smallvec::SmallVec;

use crate::bus::{BusError, NodeId};
use crate::recipient::Room;

/// The version of the wire. Nodes of different versions do not understand each other.
const VERSION: u8 = 2;
/// Length of version, kind and node.
pub(super) const FIXED_LEN: usize = 10;
/// Length of a length or count.
pub(super) const LEN: usize = 4;
/// Items of a list. Items can be empty, so the size of a frame alone would allow for lists far
/// larger than itself.
pub(super) const MAX_ITEMS: usize = 65_536;

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
    /// It is of another kind than a broadcast.
    #[error("not a broadcast")]
    NotABroadcast,
    /// A packet that cannot be read.
    #[error("a packet that cannot be read")]
    InvalidPacket,
    /// An address that cannot be read.
    #[error("no address")]
    InvalidAddress,
    /// Attachments beside a packet of the msgpack parser, which has everything inside.
    #[error("unexpected attachments")]
    UnexpectedAttachments,
}

/// The bytes of a frame that is being written.
pub(super) struct Writer(Vec<u8>);

impl Writer {
    /// A frame of this kind, with room for `capacity` bytes.
    pub(super) fn new(kind: u8, node: NodeId, capacity: usize) -> Self {
        let mut out = Vec::with_capacity(capacity);
        out.extend_from_slice(&[VERSION, kind]);
        out.extend_from_slice(&node.number().to_be_bytes());
        Self(out)
    }

    pub(super) fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    pub(super) fn number(&mut self, number: u64) {
        self.bytes(&number.to_be_bytes());
    }

    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }

    /// Bytes whose number the reader knows.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn count(&mut self, items: usize) -> Result<(), BusError> {
        let limit = MAX_ITEMS;
        if items > limit {
            return Err(BusError::ListTooLong { items, limit });
        }
        self.len(items)
    }

    pub(super) fn len(&mut self, bytes: usize) -> Result<(), BusError> {
        let len = u32::try_from(bytes).map_err(|_| BusError::FrameTooLarge {
            bytes,
            limit: u32::MAX as usize,
        })?;
        self.0.extend_from_slice(&len.to_be_bytes());
        Ok(())
    }

    pub(super) fn blob(&mut self, bytes: &[u8]) -> Result<(), BusError> {
        self.len(bytes.len())?;
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    pub(super) fn rooms(&mut self, rooms: &[Room]) -> Result<(), BusError> {
        self.count(rooms.len())?;
        rooms
            .iter()
            .try_for_each(|room| self.blob(room.as_str().as_bytes()))
    }

    /// A packet: its head without the Engine.IO type, and its attachments.
    pub(super) fn packet(&mut self, packet: &Encoded) -> Result<(), BusError> {
        for (index, part) in packet.frames().enumerate() {
            if index == 0 {
                self.blob(head_bytes(part))?;
                self.count(packet.frame_count() - 1)?;
            } else {
                self.blob(part.data())?;
            }
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Bytes {
        self.0.into()
    }
}

/// The packet without the Engine.IO type, which text carries inside and binary does not.
fn head_bytes(head: &Frame) -> &[u8] {
    match head.is_binary() {
        true => head.data(),
        false => head.data().get(1..).unwrap_or_default(),
    }
}

/// How many bytes [`Writer::packet`] needs, at most.
pub(super) fn packet_len(packet: &Encoded) -> usize {
    let frames: usize = packet.frames().map(|frame| LEN + frame.data().len()).sum();
    LEN + frames
}

/// How many bytes [`Writer::rooms`] needs.
pub(super) fn rooms_len(rooms: &[Room]) -> usize {
    let names: usize = rooms.iter().map(|room| LEN + room.as_str().len()).sum();
    LEN + names
}

/// What is left of a frame.
pub(super) struct Reader(Bytes);

impl Reader {
    /// Reads the kind of a frame and the node that sent it.
    pub(super) fn open(frame: &Bytes) -> Result<(u8, NodeId, Self), WireError> {
        let mut reader = Self(frame.clone());
        let version = reader.byte()?;
        if version != VERSION {
            return Err(WireError::UnknownVersion(version));
        }
        let kind = reader.byte()?;
        let node = NodeId::new(reader.number()?);
        Ok((kind, node, reader))
    }

    pub(super) fn byte(&mut self) -> Result<u8, WireError> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn number(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (array, _) = self
            .0
            .split_first_chunk::<N>()
            .ok_or(WireError::Truncated)?;
        let array = *array;
        let _ = self.0.split_to(N);
        Ok(array)
    }

    pub(super) fn len(&mut self) -> Result<usize, WireError> {
        let len = u32::from_be_bytes(self.array()?);
        usize::try_from(len).map_err(|_| WireError::Truncated)
    }

    pub(super) fn blob(&mut self) -> Result<Bytes, WireError> {
        let len = self.len()?;
        if len > self.0.len() {
            return Err(WireError::Truncated);
        }
        Ok(self.0.split_to(len))
    }

    pub(super) fn text(&mut self) -> Result<Text, WireError> {
        Text::from_utf8(self.blob()?).map_err(|_| WireError::InvalidText)
    }

    /// A counted list. Nothing is reserved for the count, which may be a lie: every item takes
    /// bytes of the frame, and the list ends with them.
    pub(super) fn list<T, L: Default + Extend<T>>(
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

    pub(super) fn rooms(&mut self) -> Result<SmallVec<[Room; 4]>, WireError> {
        self.list(|reader| Ok(Room::from(&*reader.text()?)))
    }

    pub(super) fn end(self) -> Result<(), WireError> {
        match self.0.len() {
            0 => Ok(()),
            rest => Err(WireError::TrailingBytes(rest)),
        }
    }
}

//! The bytes of frames on the bus.
//!
//! ```text
//! every frame: u8 version (2) · u8 kind · u64 node · and by kind:
//! 1 broadcast: u64 sequence · u8 flags · name namespace · u32 count, names of rooms
//!              · u32 count, names of except · [u64 request · u32 timeout in ms] · packet
//! 2 hello, 3 alive: u64 start in ms since 1970 · name version · u32 count, names of dialects
//!              · name address, or nothing · 32 bytes of token
//! 4 goodbye:   nothing
//! 5 request:   u64 number · u8 operation · name namespace · and by operation:
//!              1 sockets: options · 2 join, 3 leave: whom, u32 count, names of rooms
//!              · 4 disconnect: options, u8 whole session · 5 rooms: nothing
//!              · 6 event: name, u8 answer wanted, packet
//! 6 answer:    u64 number of its own · u64 number of the request · u8 last · u8 kind · and by kind:
//!              1 nothing · 2 count: u64 · 3 sockets: u32 count, packets · 4 rooms: u32 count, names
//!              · 5 acks: u64 sockets asked, u32 count of (name id, packet) · 6 event: packet
//! options: u32 count, names of rooms · u32 count, names of except
//! whom: u8 0, options · or u8 1, name of a socket
//! packet: blob head (of an answer or event: as of an ack in JSON) · u32 count, blobs of attachments
//! ```
//! Numbers are big-endian; a name or blob is a `u32` length and that many bytes, names and text
//! heads in UTF-8. Flags: 1 volatile, 2 do not compress, 4 written for the msgpack parser, 8 acks are
//! wanted for this request. The head is the packet as it goes to sockets, without the Engine.IO type:
//! a text, or for the msgpack parser binary data with everything inside.
//!
//! A reader refuses other versions, unknown kinds and flags, and whatever does not end exactly at
//! the end of the frame.

mod broadcast;
mod codec;
mod member;
mod query;

use bytes::Bytes;

use super::answer::{Answer, Request};
use super::member::Member;
use super::message::BusMessage;
use crate::bus::NodeId;
pub(crate) use broadcast::{Broadcast, encode_broadcast};
use codec::Reader;
pub use codec::WireError;
pub(crate) use member::encode_announcement;
pub(crate) use query::{encode_answer, encode_request};

const KIND_BROADCAST: u8 = 1;
const KIND_HELLO: u8 = 2;
const KIND_ALIVE: u8 = 3;
const KIND_GOODBYE: u8 = 4;
const KIND_REQUEST: u8 = 5;
const KIND_ANSWER: u8 = 6;

/// What a frame says.
#[derive(Debug)]
pub(crate) enum Frame {
    /// A packet for sockets.
    Broadcast(BusMessage),
    /// A node is there. `true`: it wants to know who else is.
    Announcement(Member, bool),
    /// A node goes.
    Goodbye,
    /// A node asks.
    Request { number: u64, request: Request },
    /// A node answers.
    Answer {
        /// Its own number, so that copies are known.
        number: u64,
        /// What it answers.
        request: u64,
        last: bool,
        answer: Answer,
    },
}

impl Frame {
    /// The number that its node gave it, if copies of it are to be dropped.
    pub(crate) fn number(&self) -> Option<u64> {
        match self {
            Self::Broadcast(message) => Some(message.sequence),
            Self::Request { number, .. } | Self::Answer { number, .. } => Some(*number),
            Self::Announcement(..) | Self::Goodbye => None,
        }
    }
}

/// Reads a frame: which node sent it, and what it says.
///
/// # Errors
/// It is not a frame of this version of the wire, or it is damaged. Memory in use stays below a
/// small multiple of its size.
pub(crate) fn decode(frame: &Bytes) -> Result<(NodeId, Frame), WireError> {
    let (kind, node, mut reader) = Reader::open(frame)?;
    let content = match kind {
        KIND_BROADCAST => Frame::Broadcast(broadcast::read(node, &mut reader)?),
        KIND_HELLO | KIND_ALIVE => {
            Frame::Announcement(member::read(node, &mut reader)?, kind == KIND_HELLO)
        }
        KIND_GOODBYE => Frame::Goodbye,
        KIND_REQUEST => query::read_request(&mut reader)?,
        KIND_ANSWER => query::read_answer(&mut reader)?,
        unknown => return Err(WireError::UnknownKind(unknown)),
    };
    reader.end()?;
    Ok((node, content))
}

#[cfg(test)]
mod tests;

//! The bytes of frames on the bus.
//!
//! ```text
//! every frame: u8 version (2) · u8 kind · u64 node · and by kind:
//! 1 broadcast: u64 sequence · u8 flags · name namespace · u32 count, names of rooms
//!              · u32 count, names of except · [u64 request · u32 timeout in ms] · packet
//! 2 hello, 3 alive: u64 start in ms since 1970 · name version · u32 count, names of dialects
//!              · name address, or nothing · 32 bytes of token
//! 4 goodbye:   nothing
//! packet: blob head · u32 count, blobs of attachments
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

use bytes::Bytes;

use super::member::Member;
use super::message::BusMessage;
use crate::bus::NodeId;
pub(crate) use broadcast::{Broadcast, encode_broadcast};
use codec::Reader;
pub use codec::WireError;
pub(crate) use member::encode_announcement;

const KIND_BROADCAST: u8 = 1;
const KIND_HELLO: u8 = 2;
const KIND_ALIVE: u8 = 3;
const KIND_GOODBYE: u8 = 4;

/// What a frame says.
#[derive(Debug)]
pub(crate) enum Frame {
    /// A packet for sockets.
    Broadcast(BusMessage),
    /// A node is there. `true`: it wants to know who else is.
    Announcement(Member, bool),
    /// A node goes.
    Goodbye,
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
        unknown => return Err(WireError::UnknownKind(unknown)),
    };
    reader.end()?;
    Ok((node, content))
}

#[cfg(test)]
mod tests;

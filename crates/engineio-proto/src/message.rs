//! What Engine.IO carries for Socket.IO: text or binary messages.
//!
//! Incoming ones are a [`Message`]. Outgoing ones are an [`Encoded`]: bytes made once and shared
//! by every recipient. The buffer of an outgoing text begins with its WebSocket header and the
//! Engine.IO packet type, so the same bytes are the whole frame for a WebSocket and, without the
//! header, the packet for a polling body.

use std::fmt;
use std::ops::{AddAssign, Deref, Range};
use std::str::Utf8Error;
use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use bytes::Bytes;
use bytestring::ByteString;

use crate::ProtocolVersion;

/// UTF-8 text in shared memory: a slice of it shares the same memory.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Text(ByteString);

impl Text {
    /// Takes over `bytes` if they are valid UTF-8.
    ///
    /// # Errors
    /// Where the text stops being UTF-8.
    pub fn from_utf8(bytes: Bytes) -> Result<Self, Utf8Error> {
        ByteString::try_from(bytes).map(Self)
    }

    /// The text as a string slice.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part in `range` (byte offsets), sharing memory; `None` when the range is out of bounds
    /// or splits a character.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Option<Self> {
        self.0.get(range).map(|part| Self(self.0.slice_ref(part)))
    }

    /// The bytes, sharing memory.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0.into_bytes()
    }
}

impl Deref for Text {
    type Target = str;
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// One message that arrived from the peer, without its Engine.IO packet type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A text message.
    Text(Text),
    /// A binary message.
    Binary(Bytes),
}

impl Message {
    /// Length of the content in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(data) => data.len(),
        }
    }

    /// Whether the message has no content.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a session's task is asked to do, in the order in which it was asked.
#[derive(Debug)]
pub enum Outgoing<C> {
    /// Send this packet to the peer.
    Packet(Encoded),
    /// Something for the layer above the session, which alone knows its meaning.
    Control(C),
}

/// Room in front of a text for the longest WebSocket header of a server (2 + 8 bytes).
const HEADER_ROOM: usize = 10;

/// Bytes that one entry in a queue costs besides its content.
const ENTRY_OVERHEAD_BYTES: usize = 64;

/// Writes the text of one outgoing message behind the room for its headers.
///
/// The writer starts with the Engine.IO packet type `4` in place: write the Socket.IO packet only.
#[derive(Debug)]
pub struct MessageWriter {
    buffer: Vec<u8>,
}

impl MessageWriter {
    /// A writer whose buffer can take `capacity` bytes of text before it grows.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        let mut buffer = Vec::with_capacity(capacity.saturating_add(HEADER_ROOM + 1));
        buffer.extend_from_slice(&[0; HEADER_ROOM]);
        buffer.push(b'4');
        Self { buffer }
    }

    /// The buffer to append UTF-8 text to. What is already in it must stay.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Bytes of text written so far, without the packet type.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buffer.len().saturating_sub(HEADER_ROOM + 1)
    }

    /// Whether no text was written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Closes the message: `attachments` follow the text as binary messages, in this order.
    #[must_use]
    pub fn finish(self, attachments: Vec<Bytes>) -> Encoded {
        Encoded::from_frames(Frame::text(self.buffer), attachments)
    }
}

/// One outgoing message, ready for every transport and both protocol versions.
#[derive(Clone)]
pub struct Frame {
    content: Content,
    /// Base64 form for polling bodies and `b64=1` peers, made on first use.
    base64: OnceLock<Bytes>,
    /// Length of the text packet in UTF-16 code units, for version 3 bodies, counted on first use.
    utf16_len: OnceLock<usize>,
}

#[derive(Clone)]
enum Content {
    /// `[room][WebSocket header][4][text]`; the header starts at `start`.
    Text {
        buffer: Bytes,
        start: usize,
    },
    Binary(Bytes),
}

impl Frame {
    fn text(mut buffer: Vec<u8>) -> Self {
        let packet_len = buffer.len().saturating_sub(HEADER_ROOM);
        let (header, header_len) = websocket_text_header(packet_len);
        let start = HEADER_ROOM.saturating_sub(header_len);
        if let (Some(room), Some(header)) =
            (buffer.get_mut(start..HEADER_ROOM), header.get(..header_len))
        {
            room.copy_from_slice(header);
        }
        Self::new(Content::Text {
            buffer: buffer.into(),
            start,
        })
    }

    fn new(content: Content) -> Self {
        Self {
            content,
            base64: OnceLock::new(),
            utf16_len: OnceLock::new(),
        }
    }

    /// Whether this is a binary message.
    #[must_use]
    pub fn is_binary(&self) -> bool {
        matches!(self.content, Content::Binary(_))
    }

    /// The whole unmasked WebSocket frame of a text message (header, `4`, text); `None` for binary.
    #[must_use]
    pub fn websocket_text(&self) -> Option<&[u8]> {
        match &self.content {
            Content::Text { buffer, start } => buffer.get(*start..),
            Content::Binary(_) => None,
        }
    }

    /// The header that precedes [`Self::data`] in a binary WebSocket frame, and its length.
    /// Version 3 puts the packet type `0x04` between header and data; it is part of this header.
    #[must_use]
    pub fn websocket_binary_header(&self, version: ProtocolVersion) -> ([u8; 11], usize) {
        let mut bytes = [0; 11];
        let type_len = usize::from(version == ProtocolVersion::V3);
        let (header, header_len) =
            websocket_header(0x82, self.data().len().saturating_add(type_len));
        for (to, from) in bytes.iter_mut().zip(header) {
            *to = from;
        }
        if let (ProtocolVersion::V3, Some(byte)) = (version, bytes.get_mut(header_len)) {
            *byte = 4;
        }
        (bytes, header_len.saturating_add(type_len))
    }

    /// The header that precedes [`Self::base64`] in the text frame that a peer gets instead of
    /// binary when it opened its session with `b64=1`, and its length. The letters `b` (version 4)
    /// or `b4` (version 3) between header and data are part of this header.
    #[must_use]
    pub fn websocket_base64_header(&self, version: ProtocolVersion) -> ([u8; 12], usize) {
        let mark: &[u8] = match version {
            ProtocolVersion::V3 => b"b4",
            ProtocolVersion::V4 => b"b",
        };
        let mut bytes = [0; 12];
        let packet_len = self.base64().len().saturating_add(mark.len());
        let (header, header_len) = websocket_text_header(packet_len);
        let content = header.iter().take(header_len).chain(mark);
        for (to, from) in bytes.iter_mut().zip(content) {
            *to = *from;
        }
        (bytes, header_len.saturating_add(mark.len()))
    }

    /// The content: for a text message the packet from its type `4` on, for binary the data.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        match &self.content {
            Content::Text { buffer, .. } => buffer.get(HEADER_ROOM..).unwrap_or_default(),
            Content::Binary(data) => data,
        }
    }

    /// The data in standard base64, made once for all recipients.
    #[must_use]
    pub fn base64(&self) -> &[u8] {
        self.base64.get_or_init(|| {
            base64::engine::general_purpose::STANDARD
                .encode(self.data())
                .into()
        })
    }

    /// Length of [`Self::data`] in UTF-16 code units, counted once for all recipients.
    #[must_use]
    pub fn utf16_len(&self) -> usize {
        *self.utf16_len.get_or_init(|| {
            std::str::from_utf8(self.data()).map_or(0, |text| text.encode_utf16().count())
        })
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.content {
            Content::Text { .. } => {
                write!(f, "Text({:?})", String::from_utf8_lossy(self.data()))
            }
            Content::Binary(data) => write!(f, "Binary({} bytes)", data.len()),
        }
    }
}

/// Header of an unmasked text frame with `len` bytes of content, and how many of its bytes count.
pub(crate) fn websocket_text_header(len: usize) -> ([u8; HEADER_ROOM], usize) {
    websocket_header(0x81, len)
}

/// Header of an unmasked, final WebSocket frame and how many of its bytes count.
fn websocket_header(first: u8, len: usize) -> ([u8; HEADER_ROOM], usize) {
    let mut header = [0; HEADER_ROOM];
    let wide = u64::try_from(len).unwrap_or(u64::MAX);
    let [.., b6, b7] = wide.to_be_bytes();
    if let Ok(short @ 0..=125) = u8::try_from(len) {
        header[..2].copy_from_slice(&[first, short]);
        (header, 2)
    } else if u16::try_from(len).is_ok() {
        header[..4].copy_from_slice(&[first, 126, b6, b7]);
        (header, 4)
    } else {
        header[..2].copy_from_slice(&[first, 127]);
        header[2..].copy_from_slice(&wide.to_be_bytes());
        (header, HEADER_ROOM)
    }
}

/// A packet of the layer above, encoded once: one message and the attachments that must follow it.
///
/// *Shape:* cloning shares the bytes. The frames always travel together and in order.
#[derive(Clone)]
pub struct Encoded(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    head: Frame,
    attachments: Box<[Frame]>,
    budget_bytes: usize,
    compress: bool,
    gives_way: GivesWay,
}

/// Whether a packet may be dropped when too much waits for its peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GivesWay {
    /// No: without it the peer could not go on, or nobody said that it could.
    #[default]
    Never,
    /// Yes, the oldest first, so that newer ones can follow.
    ToNewer,
    /// Yes: it was volatile, and waits only because there was room.
    Volatile,
}

/// What was dropped to make room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GaveWay {
    /// Budget of all of it, to be refunded.
    pub bytes: usize,
    /// Packets that gave way [to newer ones](GivesWay::ToNewer).
    pub to_newer: u64,
    /// [Volatile](GivesWay::Volatile) packets.
    pub volatile: u64,
}

impl AddAssign for GaveWay {
    fn add_assign(&mut self, other: Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.to_newer = self.to_newer.saturating_add(other.to_newer);
        self.volatile = self.volatile.saturating_add(other.volatile);
    }
}

impl GaveWay {
    /// Notes that `packet` was dropped.
    pub fn add(&mut self, packet: GivesWay, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        match packet {
            GivesWay::Never => {}
            GivesWay::ToNewer => self.to_newer = self.to_newer.saturating_add(1),
            GivesWay::Volatile => self.volatile = self.volatile.saturating_add(1),
        }
    }
}

impl Encoded {
    /// One text message.
    #[must_use]
    pub fn text(text: &str) -> Self {
        let mut writer = MessageWriter::with_capacity(text.len());
        writer.buffer().extend_from_slice(text.as_bytes());
        writer.finish(Vec::new())
    }

    /// One binary message.
    #[must_use]
    pub fn binary(data: impl Into<Bytes>) -> Self {
        Self::from_frames(Frame::new(Content::Binary(data.into())), Vec::new())
    }

    fn from_frames(head: Frame, attachments: Vec<Bytes>) -> Self {
        let attachments: Box<[Frame]> = attachments
            .into_iter()
            .map(|data| Frame::new(Content::Binary(data)))
            .collect();
        let budget_bytes = attachments
            .iter()
            .chain([&head])
            .map(|frame| frame.data().len().saturating_add(ENTRY_OVERHEAD_BYTES))
            .fold(0, usize::saturating_add);
        Self(Arc::new(Inner {
            head,
            attachments,
            budget_bytes,
            compress: true,
            gives_way: GivesWay::Never,
        }))
    }

    /// The same packet with the wish that a polling body holding it is not compressed.
    #[must_use]
    pub fn without_compression(self) -> Self {
        // Cloning frames shares their bytes, and what was derived from them.
        let inner = Arc::unwrap_or_clone(self.0);
        Self(Arc::new(Inner {
            compress: false,
            ..inner
        }))
    }

    /// The same packet, which may be dropped when too much waits for its peer.
    #[must_use]
    pub fn giving_way(mut self, gives_way: GivesWay) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.gives_way = gives_way;
            return self;
        }
        let inner = Arc::unwrap_or_clone(self.0);
        Self(Arc::new(Inner { gives_way, ..inner }))
    }

    /// The head and then its attachments.
    pub fn frames(&self) -> impl ExactSizeIterator<Item = &Frame> {
        (0..self.frame_count()).map(|index| self.frame(index).unwrap_or(&self.0.head))
    }

    /// Frame `index`: 0 is the head, the attachments follow.
    #[must_use]
    pub fn frame(&self, index: usize) -> Option<&Frame> {
        match index.checked_sub(1) {
            None => Some(&self.0.head),
            Some(attachment) => self.0.attachments.get(attachment),
        }
    }

    /// One more than the number of attachments.
    #[must_use]
    pub fn frame_count(&self) -> usize {
        self.0.attachments.len().saturating_add(1)
    }

    /// What this packet costs in an outbox: its content and a constant for each frame, in bytes.
    #[must_use]
    pub fn budget_bytes(&self) -> usize {
        self.0.budget_bytes
    }

    /// Whether the packet may be dropped when too much waits for its peer.
    #[must_use]
    pub fn gives_way(&self) -> GivesWay {
        self.0.gives_way
    }

    /// Whether a polling body holding this packet may be compressed.
    #[must_use]
    pub fn compress(&self) -> bool {
        self.0.compress
    }
}

impl fmt::Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.frames()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_a_whole_websocket_frame_at_every_header_length() {
        for (len, header) in [
            (3, vec![0x81, 4]),
            (124, vec![0x81, 125]),
            (125, vec![0x81, 126, 0, 126]),
            (65_534, vec![0x81, 126, 0xff, 0xff]),
            (65_535, vec![0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let encoded = Encoded::text(&"x".repeat(len));
            let frame = encoded.frame(0).unwrap().websocket_text().unwrap();
            assert_eq!(&frame[..header.len()], header, "text of {len}");
            assert_eq!(frame[header.len()], b'4');
            assert_eq!(frame.len(), header.len() + 1 + len);
        }
    }

    #[test]
    fn version_3_puts_the_packet_type_in_front_of_binary_data() {
        let encoded = Encoded::binary(&b"\x01\x02"[..]);
        let frame = encoded.frame(0).unwrap();
        let (header, len) = frame.websocket_binary_header(ProtocolVersion::V3);
        assert_eq!(&header[..len], [0x82, 3, 4]);
        let (header, len) = frame.websocket_binary_header(ProtocolVersion::V4);
        assert_eq!(&header[..len], [0x82, 2]);
    }

    #[test]
    fn attachments_follow_their_text() {
        let mut writer = MessageWriter::with_capacity(8);
        writer.buffer().extend_from_slice(b"51-[]");
        let encoded = writer.finish(vec![Bytes::from_static(b"abc")]);
        let data: Vec<&[u8]> = encoded.frames().map(Frame::data).collect();
        assert_eq!(data, [&b"451-[]"[..], b"abc"]);
        assert_eq!(encoded.frame(1).unwrap().base64(), b"YWJj");
    }

    #[test]
    fn a_shared_packet_can_be_had_without_compression() {
        let encoded = Encoded::text("secret");
        let plain = encoded.clone().without_compression();
        assert!(encoded.compress() && !plain.compress());
        let [old, new] = [&encoded, &plain].map(|encoded| encoded.frame(0).unwrap().data());
        assert!(std::ptr::eq(old, new), "the bytes are shared");
    }

    #[test]
    fn base64_for_a_websocket_has_its_mark_in_the_header() {
        let encoded = Encoded::binary(vec![0; 300]);
        let frame = encoded.frame(0).unwrap();
        for (version, expected) in [
            (ProtocolVersion::V3, &b"\x81\x7e\x01\x92b4"[..]),
            (ProtocolVersion::V4, b"\x81\x7e\x01\x91b"),
        ] {
            let (header, len) = frame.websocket_base64_header(version);
            assert_eq!(&header[..len], expected);
        }
    }

    #[test]
    fn lengths_are_counted_in_utf16_units() {
        assert_eq!(Encoded::text("€😀").frame(0).unwrap().utf16_len(), 4);
    }
}

//! Several packets in one HTTP body, and JSONP.

mod jsonp;
mod v3;
mod v4;

use bytes::Bytes;

use crate::{Frame, IncomingPacket, Packet, PeerViolation, ProtocolVersion};

pub use jsonp::{unwrap_jsonp, wrap_jsonp};

/// The form of a body, which its `Content-Type` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BodyKind {
    /// UTF-8 text: `text/plain; charset=UTF-8`.
    Text,
    /// Length-prefixed binary of version 3: `application/octet-stream`.
    Binary,
}

/// The body of an answer to a poll, before JSONP wrapping and compression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// Which `Content-Type` it has.
    pub kind: BodyKind,
    /// The content.
    pub bytes: Vec<u8>,
    /// Whether it may be compressed: no message in it asked not to be.
    pub compress: bool,
}

/// What a peer can take, told by the query of its first request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollingPeer {
    /// Whether it takes binary data as such; not with `b64=1`.
    pub supports_binary: bool,
    /// Whether its lengths in a version 3 text body count UTF-16 units, as JavaScript does;
    /// python-engineio 3.x counts code points.
    pub counts_utf16: bool,
    /// The index `j` of a JSONP peer, which gets every body as a script.
    pub jsonp: Option<u32>,
}

impl Default for PollingPeer {
    fn default() -> Self {
        Self {
            supports_binary: true,
            counts_utf16: true,
            jsonp: None,
        }
    }
}

impl PollingPeer {
    /// Whether a polling body for this peer may be binary: a script cannot be.
    pub(crate) fn takes_binary_body(self) -> bool {
        self.supports_binary && self.jsonp.is_none()
    }
}

/// Writes `packets` as the body of an answer to a poll.
///
/// *Shape:* version 4 is text always. Version 3 is binary when a packet needs it and the peer can
/// take it, else text; no packets are `0:`. The attachments of a message are packets of their own.
#[must_use]
pub fn encode(version: ProtocolVersion, peer: PollingPeer, packets: &[Packet]) -> Body {
    let mut parts = Parts::unlimited(version, peer);
    for packet in packets {
        if let Some((digit, data)) = packet.control() {
            parts.push(Part::Control { digit, data });
        }
        if let Packet::Message { encoded, .. } = packet {
            for frame in packet.frames() {
                parts.push(Part::Message {
                    frame,
                    compress: encoded.compress(),
                });
            }
        }
    }
    parts.encode()
}

/// Reads the packets of a POST body one by one, sharing its memory.
///
/// *Shape:* at most `max_packets` packets. After the first error there are no more items; packets
/// before it are valid, and engine.io has acted on them by the time it meets the error.
///
/// *Errors (of the items):* whatever is malformed; [`PeerViolation::EmptyPayload`] for an empty
/// text; [`PeerViolation::TooManyPackets`]; [`PeerViolation::BinaryBody`] for a binary body in
/// version 4. All end the session.
#[must_use]
pub fn decode(
    version: ProtocolVersion,
    kind: BodyKind,
    body: Bytes,
    max_packets: usize,
) -> Decoder {
    let form = match (version, kind) {
        (ProtocolVersion::V4, BodyKind::Text) => v4::Decoder::new(body).map(Form::V4),
        (ProtocolVersion::V4, BodyKind::Binary) => Err(PeerViolation::BinaryBody),
        (ProtocolVersion::V3, BodyKind::Text) => v3::TextDecoder::new(body).map(Form::V3Text),
        (ProtocolVersion::V3, BodyKind::Binary) => Ok(Form::V3Binary(v3::BinaryDecoder::new(body))),
    };
    Decoder {
        form: form.unwrap_or_else(Form::Failed),
        packets_left: max_packets,
    }
}

/// The packets of one body; made by [`decode`].
#[derive(Debug)]
pub struct Decoder {
    form: Form,
    packets_left: usize,
}

#[derive(Debug)]
enum Form {
    V4(v4::Decoder),
    V3Text(v3::TextDecoder),
    V3Binary(v3::BinaryDecoder),
    Failed(PeerViolation),
    Done,
}

impl Iterator for Decoder {
    type Item = Result<IncomingPacket, PeerViolation>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut item = match &mut self.form {
            Form::V4(decoder) => decoder.next(),
            Form::V3Text(decoder) => decoder.next(),
            Form::V3Binary(decoder) => decoder.next(),
            Form::Failed(violation) => Some(Err(*violation)),
            Form::Done => None,
        };
        match (&item, self.packets_left.checked_sub(1)) {
            (Some(Ok(_)), Some(left)) => self.packets_left = left,
            (Some(Ok(_)), None) => item = Some(Err(PeerViolation::TooManyPackets)),
            (Some(Err(_)) | None, _) => {}
        }
        if !matches!(item, Some(Ok(_))) {
            self.form = Form::Done;
        }
        item
    }
}

/// One packet of a body: an attachment is a packet of its own here.
#[derive(Clone, Copy)]
pub(crate) enum Part<'a> {
    Control { digit: char, data: &'a str },
    Message { frame: &'a Frame, compress: bool },
}

impl<'a> Part<'a> {
    /// The bytes behind the framing, and whether they are binary.
    fn content(&self) -> (Option<char>, &'a [u8], bool) {
        match *self {
            Self::Control { digit, data } => (Some(digit), data.as_bytes(), false),
            Self::Message { frame, .. } => (None, frame.data(), frame.is_binary()),
        }
    }

    /// An upper bound of what the part adds to a body, in bytes.
    fn cost(&self, version: ProtocolVersion, binary_body: bool) -> usize {
        let (digit, content, is_binary) = self.content();
        let content_len = match (is_binary, version, binary_body) {
            (false, _, _) | (true, ProtocolVersion::V3, true) => content.len(),
            (true, ProtocolVersion::V4, _) | (true, ProtocolVersion::V3, false) => {
                content.len().div_ceil(3).saturating_mul(4)
            }
        };
        let framing = match version {
            ProtocolVersion::V3 => v3::MAX_FRAMING_BYTES,
            ProtocolVersion::V4 => v4::MAX_FRAMING_BYTES,
        };
        content_len
            .saturating_add(usize::from(digit.is_some()))
            .saturating_add(framing)
    }
}

/// The packets that are to share one body.
pub(crate) struct Parts<'a> {
    version: ProtocolVersion,
    binary_body: bool,
    counts_utf16: bool,
    max_packets: usize,
    max_bytes: usize,
    parts: Vec<Part<'a>>,
    bytes: usize,
}

impl<'a> Parts<'a> {
    /// An empty collection that takes at most this much; but always one packet.
    pub(crate) fn new(
        version: ProtocolVersion,
        peer: PollingPeer,
        max_packets: usize,
        max_bytes: usize,
    ) -> Self {
        Self {
            version,
            binary_body: peer.takes_binary_body(),
            counts_utf16: peer.counts_utf16,
            max_packets,
            max_bytes,
            parts: Vec::new(),
            bytes: 0,
        }
    }

    fn unlimited(version: ProtocolVersion, peer: PollingPeer) -> Self {
        Self::new(version, peer, usize::MAX, usize::MAX)
    }

    /// Adds `part` if there is room for it; says whether there was.
    pub(crate) fn push(&mut self, part: Part<'a>) -> bool {
        let cost = part.cost(self.version, self.binary_body);
        let bytes = self.bytes.saturating_add(cost);
        let fits = self.parts.len() < self.max_packets && bytes <= self.max_bytes;
        if fits || self.parts.is_empty() {
            self.parts.push(part);
            self.bytes = bytes;
            return true;
        }
        false
    }

    /// Number of packets in the body.
    pub(crate) fn len(&self) -> usize {
        self.parts.len()
    }

    /// The body with all of them.
    pub(crate) fn encode(&self) -> Body {
        let mut bytes = Vec::with_capacity(self.bytes);
        let kind = match self.version {
            ProtocolVersion::V4 => {
                v4::encode(&self.parts, &mut bytes);
                BodyKind::Text
            }
            ProtocolVersion::V3
                if self.binary_body && v3::wants_binary(&self.parts, self.counts_utf16) =>
            {
                v3::encode_binary(&self.parts, &mut bytes);
                BodyKind::Binary
            }
            ProtocolVersion::V3 => {
                v3::encode_text(&self.parts, &mut bytes);
                BodyKind::Text
            }
        };
        let compress = self.parts.iter().all(|part| match part {
            Part::Control { .. } => true,
            Part::Message { compress, .. } => *compress,
        });
        Body {
            kind,
            bytes,
            compress,
        }
    }
}

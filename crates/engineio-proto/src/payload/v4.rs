//! Bodies of version 4: texts separated by one control character, binary data in base64.

use bytes::Bytes;

use super::Part;
use crate::{IncomingPacket, PeerViolation, ProtocolVersion, Text};

/// Between two packets of a body.
const SEPARATOR: char = '\u{1e}';

/// The separator and the letter `b`.
pub(super) const MAX_FRAMING_BYTES: usize = 2;

/// Appends the packets to `out`.
pub(super) fn encode(parts: &[Part<'_>], out: &mut Vec<u8>) {
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            out.extend(SEPARATOR.encode_utf8(&mut [0; 4]).bytes());
        }
        match part {
            Part::Control { digit, data } => {
                out.extend(digit.encode_utf8(&mut [0; 4]).bytes());
                out.extend_from_slice(data.as_bytes());
            }
            Part::Message { frame, .. } if frame.is_binary() => {
                out.push(b'b');
                out.extend_from_slice(frame.base64());
            }
            Part::Message { frame, .. } => out.extend_from_slice(frame.data()),
        }
    }
}

/// Reads the packets of a body.
#[derive(Debug)]
pub(super) struct Decoder {
    text: Text,
    /// Where the next packet begins; `None` after the last one.
    next: Option<usize>,
}

impl Decoder {
    pub(super) fn new(body: Bytes) -> Result<Self, PeerViolation> {
        let text = Text::from_utf8(body).map_err(|_| PeerViolation::NotUtf8)?;
        if text.is_empty() {
            return Err(PeerViolation::EmptyPayload);
        }
        Ok(Self {
            text,
            next: Some(0),
        })
    }
}

impl Iterator for Decoder {
    type Item = Result<IncomingPacket, PeerViolation>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.next?;
        let len = self.text.get(start..)?.find(SEPARATOR);
        let end = len.map_or(self.text.len(), |len| start.saturating_add(len));
        self.next = len.map(|_| end.saturating_add(SEPARATOR.len_utf8()));
        let packet = self.text.slice(start..end)?;
        Some(IncomingPacket::decode_text(ProtocolVersion::V4, &packet))
    }
}

//! Bodies of version 3: packets behind their lengths, as text or as binary.

use bytes::{Buf as _, Bytes};

use super::Part;
use crate::{IncomingPacket, PeerViolation, ProtocolVersion, Text};

/// Twenty digits, two marks, and `b4`.
pub(super) const MAX_FRAMING_BYTES: usize = 24;

/// More digits than any body could need; engine.io allows 310.
const MAX_LENGTH_DIGITS: usize = 10;

/// Ends the length in a text body.
const TEXT_MARK: char = ':';

/// Ends the length in a binary body.
const BINARY_MARK: u8 = 0xff;

/// Whether a peer that can take a binary body should get one for these packets.
///
/// Binary data is one reason. Characters outside the basic plane are the other, for a peer that
/// does not count UTF-16 units in a text body: in a binary one everybody counts bytes.
pub(super) fn wants_binary(parts: &[Part<'_>], counts_utf16: bool) -> bool {
    parts.iter().any(|part| {
        let (_, content, is_binary) = part.content();
        is_binary || (!counts_utf16 && content.iter().any(|byte| *byte >= 0xf0))
    })
}

/// Appends the packets as text: `<length>:<packet>`, where the length counts UTF-16 code units.
pub(super) fn encode_text(parts: &[Part<'_>], out: &mut Vec<u8>) {
    if parts.is_empty() {
        out.extend_from_slice(b"0:");
    }
    for part in parts {
        match part {
            Part::Control { digit, data } => {
                push_length(data.encode_utf16().count().saturating_add(1), out);
                out.extend(digit.encode_utf8(&mut [0; 4]).bytes());
                out.extend_from_slice(data.as_bytes());
            }
            Part::Message { frame, .. } if frame.is_binary() => {
                push_length(frame.base64().len().saturating_add(2), out);
                out.extend_from_slice(b"b4");
                out.extend_from_slice(frame.base64());
            }
            Part::Message { frame, .. } => {
                push_length(frame.utf16_len(), out);
                out.extend_from_slice(frame.data());
            }
        }
    }
}

fn push_length(len: usize, out: &mut Vec<u8>) {
    out.extend(len.to_string().bytes());
    out.extend(TEXT_MARK.encode_utf8(&mut [0; 4]).bytes());
}

/// Appends the packets as binary: `0` for text or `1` for binary, the digits of the length in
/// bytes, each as one byte from 0 to 9, `0xff`, and the packet.
pub(super) fn encode_binary(parts: &[Part<'_>], out: &mut Vec<u8>) {
    for part in parts {
        let (digit, content, is_binary) = part.content();
        let type_len = usize::from(is_binary || digit.is_some());
        out.push(u8::from(is_binary));
        let len = content.len().saturating_add(type_len).to_string();
        out.extend(len.bytes().map(|ascii| ascii & 0x0f));
        out.push(BINARY_MARK);
        if is_binary {
            out.push(4);
        }
        out.extend(digit.into_iter().flat_map(|digit| u8::try_from(digit).ok()));
        out.extend_from_slice(content);
    }
}

/// Reads the packets of a text body.
#[derive(Debug)]
pub(super) struct TextDecoder {
    text: Text,
    /// Where the next length begins.
    next: usize,
}

impl TextDecoder {
    pub(super) fn new(body: Bytes) -> Result<Self, PeerViolation> {
        let text = Text::from_utf8(body).map_err(|_| PeerViolation::NotUtf8)?;
        if text.is_empty() {
            return Err(PeerViolation::EmptyPayload);
        }
        Ok(Self { text, next: 0 })
    }

    /// The next packet, of which `0:` is none.
    fn packet(&mut self) -> Result<Text, PeerViolation> {
        let rest = self.text.get(self.next..).unwrap_or_default();
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits > MAX_LENGTH_DIGITS {
            return Err(PeerViolation::PayloadLength);
        }
        let (length, after) = rest.split_at_checked(digits).unwrap_or_default();
        let units: usize = length.parse().map_err(|_| PeerViolation::PayloadLength)?;
        let content = after
            .strip_prefix(TEXT_MARK)
            .ok_or(PeerViolation::PayloadLength)?;
        let len = bytes_of_utf16_units(content, units).ok_or(PeerViolation::PayloadLength)?;
        let start = self.text.len().saturating_sub(content.len());
        let end = start.saturating_add(len);
        self.next = end;
        self.text
            .slice(start..end)
            .ok_or(PeerViolation::PayloadLength)
    }
}

impl Iterator for TextDecoder {
    type Item = Result<IncomingPacket, PeerViolation>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.next < self.text.len() {
            match self.packet() {
                Ok(packet) if packet.is_empty() => {}
                Ok(packet) => {
                    return Some(IncomingPacket::decode_text(ProtocolVersion::V3, &packet));
                }
                Err(violation) => return Some(Err(violation)),
            }
        }
        None
    }
}

/// How many bytes the first `units` UTF-16 code units of `text` take; `None` when the text is
/// shorter or the last unit is half of a character.
fn bytes_of_utf16_units(text: &str, units: usize) -> Option<usize> {
    // Nearly all bodies are ASCII here, where both counts agree.
    if text.as_bytes().get(..units)?.is_ascii() {
        return Some(units);
    }
    let mut left = units;
    for (at, char) in text.char_indices() {
        if left == 0 {
            return Some(at);
        }
        left = left.checked_sub(char.len_utf16())?;
    }
    (left == 0).then_some(text.len())
}

/// Reads the packets of a binary body.
#[derive(Debug)]
pub(super) struct BinaryDecoder {
    rest: Bytes,
}

impl BinaryDecoder {
    pub(super) fn new(body: Bytes) -> Self {
        Self { rest: body }
    }

    fn packet(&mut self, kind: u8) -> Result<IncomingPacket, PeerViolation> {
        let mut len: usize = 0;
        let mut digits: usize = 0;
        loop {
            let digit = self
                .rest
                .try_get_u8()
                .map_err(|_| PeerViolation::PayloadLength)?;
            if digit == BINARY_MARK && digits > 0 {
                break;
            }
            digits = digits.saturating_add(1);
            if digit > 9 || digits > MAX_LENGTH_DIGITS {
                return Err(PeerViolation::PayloadLength);
            }
            len = len.saturating_mul(10).saturating_add(usize::from(digit));
        }
        if len > self.rest.len() {
            return Err(PeerViolation::PayloadLength);
        }
        let content = self.rest.split_to(len);
        match kind {
            0 => {
                let text = Text::from_utf8(content).map_err(|_| PeerViolation::NotUtf8)?;
                IncomingPacket::decode_text(ProtocolVersion::V3, &text)
            }
            1 => IncomingPacket::decode_binary(ProtocolVersion::V3, content),
            _ => Err(PeerViolation::PayloadKind),
        }
    }
}

impl Iterator for BinaryDecoder {
    type Item = Result<IncomingPacket, PeerViolation>;

    fn next(&mut self) -> Option<Self::Item> {
        let kind = self.rest.try_get_u8().ok()?;
        Some(self.packet(kind))
    }
}

//! One Engine.IO packet, in both directions.

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;

use crate::message::websocket_text_header;
use crate::{Encoded, Frame, Message, PeerViolation, ProtocolVersion, Text};

/// A packet to the peer.
#[derive(Clone, Debug)]
pub enum Packet {
    /// The first packet of a session: the JSON of [`handshake::json`](crate::handshake::json).
    Open(Text),
    /// The session is over. Only polling says so in a packet.
    Close,
    /// A heartbeat, or a probe when it carries data.
    Ping(Text),
    /// The answer to a ping, with the same data.
    Pong(Text),
    /// A message and its attachments, from frame `first_frame` on.
    ///
    /// *Shape:* `first_frame` is 0 except when the earlier frames already left in a polling body
    /// and the session was upgraded in between.
    Message {
        /// All the frames.
        encoded: Encoded,
        /// Index of the first frame to write.
        first_frame: usize,
    },
    /// The peer's upgrade is complete.
    Upgrade,
    /// Nothing: releases a pending poll.
    Noop,
}

impl Packet {
    /// The frames of a message that are still to be written; none for other packets.
    pub fn frames(&self) -> impl Iterator<Item = &Frame> {
        let (encoded, first_frame) = match self {
            Self::Message {
                encoded,
                first_frame,
            } => (Some(encoded), *first_frame),
            Self::Open(_)
            | Self::Close
            | Self::Ping(_)
            | Self::Pong(_)
            | Self::Upgrade
            | Self::Noop => (None, 0),
        };
        encoded
            .into_iter()
            .flat_map(Encoded::frames)
            .skip(first_frame)
    }

    /// The type digit and the data of a packet other than a message.
    #[must_use]
    pub fn control(&self) -> Option<(char, &str)> {
        match self {
            Self::Open(json) => Some(('0', json)),
            Self::Close => Some(('1', "")),
            Self::Ping(data) => Some(('2', data)),
            Self::Pong(data) => Some(('3', data)),
            Self::Message { .. } => None,
            Self::Upgrade => Some(('5', "")),
            Self::Noop => Some(('6', "")),
        }
    }

    /// Appends the packet as whole unmasked WebSocket frames.
    ///
    /// *Shape:* a copy of every byte; for messages on the hot path write the shared bytes of each
    /// [`Frame`] instead. Without `supports_binary` binary data goes out as base64 in text frames.
    pub fn write_websocket(
        &self,
        version: ProtocolVersion,
        supports_binary: bool,
        out: &mut Vec<u8>,
    ) {
        if let Some((digit, data)) = self.control() {
            let digit_len = digit.len_utf8();
            let (header, header_len) = websocket_text_header(data.len().saturating_add(digit_len));
            out.extend(header.into_iter().take(header_len));
            out.extend(digit.encode_utf8(&mut [0; 4]).bytes());
            out.extend_from_slice(data.as_bytes());
        }
        for frame in self.frames() {
            if let Some(text) = frame.websocket_text() {
                out.extend_from_slice(text);
            } else if supports_binary {
                let (header, header_len) = frame.websocket_binary_header(version);
                out.extend(header.into_iter().take(header_len));
                out.extend_from_slice(frame.data());
            } else {
                let (header, header_len) = frame.websocket_base64_header(version);
                out.extend(header.into_iter().take(header_len));
                out.extend_from_slice(frame.base64());
            }
        }
    }
}

/// A packet from the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IncomingPacket {
    /// Means nothing to a server.
    Open,
    /// The peer ends the session.
    Close,
    /// A heartbeat of version 3, or an upgrade's probe.
    Ping(Text),
    /// A heartbeat of version 4.
    Pong(Text),
    /// A message for the layer above.
    Message(Message),
    /// The peer sends everything else over this WebSocket.
    Upgrade,
    /// Nothing.
    Noop,
}

impl IncomingPacket {
    /// Reads a packet from a text frame, or from one text of a polling body.
    ///
    /// *Shape:* `<type digit><data>`; binary messages are `b<base64>` in version 4 and
    /// `b4<base64>` in version 3. Version 4 accepts the `b` form on a WebSocket too, as engine.io
    /// does.
    ///
    /// # Errors
    /// [`PeerViolation::EmptyPacket`], [`PeerViolation::PacketType`], [`PeerViolation::Base64`].
    pub fn decode_text(version: ProtocolVersion, text: &Text) -> Result<Self, PeerViolation> {
        let mut chars = text.chars();
        let digit = chars.next().ok_or(PeerViolation::EmptyPacket)?;
        let data = || text.slice(digit.len_utf8()..text.len()).unwrap_or_default();
        match (digit, version) {
            ('0', _) => Ok(Self::Open),
            ('1', _) => Ok(Self::Close),
            ('2', _) => Ok(Self::Ping(data())),
            ('3', _) => Ok(Self::Pong(data())),
            ('4', _) => Ok(Self::Message(Message::Text(data()))),
            ('5', _) => Ok(Self::Upgrade),
            ('6', _) => Ok(Self::Noop),
            ('b', ProtocolVersion::V4) => decode_base64(chars.as_str()),
            ('b', ProtocolVersion::V3) => {
                let data = chars.as_str().strip_prefix('4');
                decode_base64(data.ok_or(PeerViolation::PacketType)?)
            }
            _ => Err(PeerViolation::PacketType),
        }
    }

    /// Reads a packet from a binary frame, or from one binary part of a version 3 body.
    ///
    /// *Shape:* the data of a message; in version 3 behind the byte `0x04`.
    ///
    /// # Errors
    /// Version 3 only: [`PeerViolation::EmptyPacket`], [`PeerViolation::PacketType`].
    pub fn decode_binary(version: ProtocolVersion, data: Bytes) -> Result<Self, PeerViolation> {
        let data = match (version, data.first()) {
            (ProtocolVersion::V4, _) => data,
            (ProtocolVersion::V3, Some(4)) => data.slice(1..),
            (ProtocolVersion::V3, Some(_)) => return Err(PeerViolation::PacketType),
            (ProtocolVersion::V3, None) => return Err(PeerViolation::EmptyPacket),
        };
        Ok(Self::Message(Message::Binary(data)))
    }

    /// Reads a packet from the content of one WebSocket message.
    ///
    /// # Errors
    /// As [`Self::decode_text`] and [`Self::decode_binary`].
    pub fn decode(version: ProtocolVersion, content: Message) -> Result<Self, PeerViolation> {
        match content {
            Message::Text(text) => Self::decode_text(version, &text),
            Message::Binary(data) => Self::decode_binary(version, data),
        }
    }
}

fn decode_base64(text: &str) -> Result<IncomingPacket, PeerViolation> {
    let data = LIBERAL_BASE64
        .decode(text)
        .map_err(|_| PeerViolation::Base64)?;
    Ok(IncomingPacket::Message(Message::Binary(data.into())))
}

/// The standard alphabet; padding may be missing, since decoders of other servers do not mind.
const LIBERAL_BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

#[cfg(test)]
mod tests {
    use super::*;
    use ProtocolVersion::{V3, V4};

    fn binary(data: &'static [u8]) -> IncomingPacket {
        IncomingPacket::Message(Message::Binary(Bytes::from_static(data)))
    }

    #[test]
    fn base64_may_lack_its_padding() {
        for text in ["bAQIDBA==", "bAQIDBA=", "bAQIDBA"] {
            let packet = IncomingPacket::decode_text(V4, &Text::from(text));
            assert_eq!(packet, Ok(binary(&[1, 2, 3, 4])), "{text}");
        }
        let packet = IncomingPacket::decode_text(V4, &Text::from("b*"));
        assert_eq!(packet, Err(PeerViolation::Base64));
    }

    #[test]
    fn version_3_has_a_packet_type_before_binary_data() {
        let decode = IncomingPacket::decode_binary;
        assert_eq!(decode(V3, Bytes::from_static(&[4, 1])), Ok(binary(&[1])));
        assert_eq!(
            decode(V3, Bytes::from_static(&[2, 1])),
            Err(PeerViolation::PacketType)
        );
        assert_eq!(decode(V3, Bytes::new()), Err(PeerViolation::EmptyPacket));
        assert_eq!(decode(V4, Bytes::new()), Ok(binary(&[])));
    }

    #[test]
    fn a_websocket_gets_whole_frames() {
        let mut out = Vec::new();
        Packet::Pong(Text::from("probe")).write_websocket(V4, true, &mut out);
        assert_eq!(out, b"\x81\x063probe");
        let message = |first_frame| Packet::Message {
            encoded: Encoded::binary(&b"\x01\x02\x03"[..]),
            first_frame,
        };
        out.clear();
        message(0).write_websocket(V3, true, &mut out);
        assert_eq!(out, b"\x82\x04\x04\x01\x02\x03");
        out.clear();
        message(0).write_websocket(V3, false, &mut out);
        assert_eq!(out, b"\x81\x06b4AQID");
        out.clear();
        message(0).write_websocket(V4, false, &mut out);
        assert_eq!(out, b"\x81\x05bAQID");
        out.clear();
        message(1).write_websocket(V4, false, &mut out);
        assert_eq!(out, b"");
    }
}

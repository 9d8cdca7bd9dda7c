//! Packets of a peer in MessagePack: the keys are read, the payload is left as it is.

use std::ops::Range;

use bytes::Bytes;
use engineio_proto::Text;
use serde::Deserialize;

use super::token::{Extensions, Token, Tokens};
use crate::SocketioVersion;
use crate::ack::AckId;
use crate::client::Limits;
use crate::decode::{PacketType, check_event_name, split_namespace};
use crate::error::PeerViolation;
use crate::packet::{Content, Packet};
use crate::payload::Payload;

/// Decodes a binary message. Unknown keys are ignored, as is `options`, which clients send.
pub(crate) fn decode(
    version: SocketioVersion,
    limits: &Limits,
    bytes: &Bytes,
) -> Result<Packet, PeerViolation> {
    let fields = Fields::read(bytes).ok_or(PeerViolation::InvalidMsgpack)?;
    let packet_type = match (fields.packet_type, version) {
        (Some(Token::Unsigned(0)), _) => PacketType::Connect,
        (Some(Token::Unsigned(1)), _) => PacketType::Disconnect,
        (Some(Token::Unsigned(2)), _) => PacketType::Event,
        (Some(Token::Unsigned(3)), _) => PacketType::Ack,
        (Some(Token::Unsigned(4)), _) => PacketType::ConnectError,
        // Clients 2.x number packets with binary data as the default parser does.
        (Some(Token::Unsigned(5)), SocketioVersion::V4) => PacketType::Event,
        (Some(Token::Unsigned(6)), SocketioVersion::V4) => PacketType::Ack,
        (Some(_) | None, _) => return Err(PeerViolation::UnknownPacketType),
    };
    let (namespace, query) = match fields.namespace {
        Some(Token::Str(range)) => {
            let name = text(bytes, range).ok_or(PeerViolation::IllegalNamespace)?;
            split_namespace(version, limits, name)?
        }
        Some(token) if !is_nothing(&token) => return Err(PeerViolation::IllegalNamespace),
        Some(_) | None => (None, None),
    };
    let id = match fields.id {
        Some(Token::Unsigned(number)) => Some(AckId::new(number)),
        Some(token) if !is_nothing(&token) => return Err(PeerViolation::IllegalAckId),
        Some(_) | None => None,
    };
    let data = fields.data;
    let content = match packet_type {
        PacketType::Connect => Content::Connect {
            auth: connect_payload(version, bytes, data)?,
        },
        PacketType::Disconnect if data.is_some() => return Err(PeerViolation::DisconnectPayload),
        PacketType::Disconnect => Content::Disconnect,
        PacketType::Event => {
            let (name, payload) = event(bytes, data, limits)?;
            Content::Event {
                name,
                payload,
                ack: id,
            }
        }
        PacketType::Ack => Content::Ack {
            id: id.ok_or(PeerViolation::IllegalAckId)?,
            payload: ack_payload(bytes, data)?,
        },
        PacketType::ConnectError => Content::ConnectError,
    };
    Ok(Packet {
        namespace,
        query,
        content,
    })
}

/// The values of the keys of a packet; of equal keys the last one counts.
#[derive(Default)]
struct Fields {
    packet_type: Option<Token>,
    namespace: Option<Token>,
    id: Option<Token>,
    /// `None` for nil and `undefined` too.
    data: Option<Data>,
}

struct Data {
    token: Token,
    range: Range<usize>,
    extensions: Extensions,
}

impl Fields {
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut tokens = Tokens::new(bytes, 0);
        let Token::Map(len) = tokens.next()? else {
            return None;
        };
        let mut fields = Self::default();
        for _ in 0..len {
            let Token::Str(key) = tokens.next()? else {
                return None;
            };
            let start = tokens.at();
            let token = Tokens::new(bytes, start).next()?;
            let extensions = tokens.skip_value()?;
            match bytes.get(key)? {
                b"type" => fields.packet_type = Some(token),
                b"nsp" => fields.namespace = Some(token),
                b"id" => fields.id = Some(token),
                b"data" => {
                    fields.data = Some(Data {
                        range: start..tokens.at(),
                        token,
                        extensions,
                    })
                    .filter(|data| !is_nothing(&data.token));
                }
                _ => {}
            }
        }
        tokens.is_at_end().then_some(fields)
    }
}

/// Whether a value stands for an absent one: nil of Python, `undefined` of notepack.
fn is_nothing(token: &Token) -> bool {
    match token {
        Token::Nil => true,
        Token::Ext(kind, range) => *kind == 0 && range.len() == 1,
        Token::Bool
        | Token::Unsigned(_)
        | Token::Negative(_)
        | Token::Float(_)
        | Token::Str(_)
        | Token::Bin
        | Token::Array(_)
        | Token::Map(_) => false,
    }
}

fn connect_payload(
    version: SocketioVersion,
    bytes: &Bytes,
    data: Option<Data>,
) -> Result<Payload, PeerViolation> {
    match (version, data) {
        (SocketioVersion::V4, _) | (SocketioVersion::V5, None) => Ok(Payload::default()),
        (SocketioVersion::V5, Some(data)) if matches!(data.token, Token::Map(_)) => {
            Ok(payload(bytes, data.range, data.extensions, 1))
        }
        (SocketioVersion::V5, Some(_)) => Err(PeerViolation::ConnectPayload),
    }
}

fn event(
    bytes: &Bytes,
    data: Option<Data>,
    limits: &Limits,
) -> Result<(Text, Payload), PeerViolation> {
    let data = data.ok_or(PeerViolation::EventPayload)?;
    let Token::Array(len) = data.token else {
        return Err(PeerViolation::EventPayload);
    };
    let mut tokens = Tokens::new(bytes, data.range.start);
    // The array itself, then the name; an empty array is followed by something else.
    tokens.next();
    let count = len.checked_sub(1).ok_or(PeerViolation::IllegalEventName)?;
    let name = match tokens.next() {
        Some(Token::Str(range)) => text(bytes, range).ok_or(PeerViolation::IllegalEventName)?,
        Some(Token::Unsigned(number)) => number.to_string().into(),
        Some(Token::Negative(number)) => number.to_string().into(),
        Some(Token::Float(number)) => number.to_string().into(),
        Some(
            Token::Nil
            | Token::Bool
            | Token::Bin
            | Token::Array(_)
            | Token::Map(_)
            | Token::Ext(..),
        )
        | None => return Err(PeerViolation::IllegalEventName),
    };
    check_event_name(&name, limits)?;
    let arguments = tokens.at()..data.range.end;
    Ok((name, payload(bytes, arguments, data.extensions, count)))
}

fn ack_payload(bytes: &Bytes, data: Option<Data>) -> Result<Payload, PeerViolation> {
    let data = data.ok_or(PeerViolation::AckPayload)?;
    let Token::Array(count) = data.token else {
        return Err(PeerViolation::AckPayload);
    };
    let mut tokens = Tokens::new(bytes, data.range.start);
    tokens.next();
    let arguments = tokens.at()..data.range.end;
    Ok(payload(bytes, arguments, data.extensions, count))
}

/// `count` values at `range`, sharing the memory of the message.
fn payload(bytes: &Bytes, range: Range<usize>, extensions: Extensions, count: u32) -> Payload {
    let values = bytes.get(range).unwrap_or_default();
    Payload::msgpack(bytes.slice_ref(values), count, extensions)
}

fn text(bytes: &Bytes, range: Range<usize>) -> Option<Text> {
    Text::from_utf8(bytes.slice_ref(bytes.get(range)?)).ok()
}

/// A packet without payload as clients 2.x write it, in JSON.
#[derive(Deserialize)]
struct TextPacket {
    r#type: u8,
    #[serde(default)]
    nsp: Option<String>,
}

/// Decodes a text message of a peer of protocol 4: its parser writes CONNECT and DISCONNECT as
/// `{"type":0,"nsp":"/admin"}`.
pub(crate) fn decode_text(limits: &Limits, text: &str) -> Result<Packet, PeerViolation> {
    let packet: TextPacket = serde_json::from_str(text).map_err(|_| PeerViolation::InvalidJson)?;
    let TextPacket { r#type, nsp } = packet;
    let content = match r#type {
        0 => Content::Connect {
            auth: Payload::default(),
        },
        1 => Content::Disconnect,
        4 => Content::ConnectError,
        2 | 3 | 5 | 6 => return Err(PeerViolation::UnexpectedText),
        _ => return Err(PeerViolation::UnknownPacketType),
    };
    let name = nsp.unwrap_or_else(|| "/".to_owned());
    let (namespace, query) = split_namespace(SocketioVersion::V4, limits, name.into())?;
    Ok(Packet {
        namespace,
        query,
        content,
    })
}

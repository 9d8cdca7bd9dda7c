//! Packets of a peer: checked to the letter, payloads left as they are.

use std::cell::Cell;

use engineio_proto::{Message, Text};
use serde::de::{DeserializeSeed, IgnoredAny};
use serde_json::error::Category;

use crate::ack::AckId;
use crate::client::Limits;
use crate::error::PeerViolation;
use crate::name::is_reserved_event;
use crate::packet::{Content, Packet};
use crate::payload::Payload;
use crate::value::PlaceholderCheck;
use crate::{Parser, SocketioVersion, msgpack};

/// A packet and how many attachments must follow before it is complete.
#[derive(Clone, Debug)]
pub struct Head {
    /// The packet; its placeholders point into attachments that are still missing.
    pub packet: Packet,
    /// Number of binary messages to come.
    pub attachments: usize,
}

/// Decodes one message that is not an attachment.
///
/// The payload is checked once and stays raw: no tree is built, nothing is copied.
///
/// # Errors
/// The rule that the peer broke; the session has to be closed.
pub fn decode(
    parser: Parser,
    version: SocketioVersion,
    limits: &Limits,
    message: Message,
) -> Result<Head, PeerViolation> {
    match (parser, message) {
        (Parser::Json, Message::Text(text)) => decode_text(version, limits, text),
        (Parser::Json, Message::Binary(_)) => Err(PeerViolation::UnexpectedBinary),
        (Parser::Msgpack, Message::Binary(data)) => {
            msgpack::decode(version, limits, &data).map(|packet| Head {
                packet,
                attachments: 0,
            })
        }
        (Parser::Msgpack, Message::Text(text)) => match version {
            SocketioVersion::V4 => msgpack::decode_text(limits, &text).map(|packet| Head {
                packet,
                attachments: 0,
            }),
            SocketioVersion::V5 => Err(PeerViolation::UnexpectedText),
        },
    }
}

/// The types of packets, without the distinction of binary ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PacketType {
    Connect,
    Disconnect,
    Event,
    Ack,
    ConnectError,
}

/// `<type>[<attachments>-][<namespace>,][<ack id>][<payload>]`.
fn decode_text(
    version: SocketioVersion,
    limits: &Limits,
    text: Text,
) -> Result<Head, PeerViolation> {
    let mut cursor = Cursor { text: &text, at: 0 };
    let (packet_type, binary) = match cursor.next() {
        Some(b'0') => (PacketType::Connect, false),
        Some(b'1') => (PacketType::Disconnect, false),
        Some(b'2') => (PacketType::Event, false),
        Some(b'3') => (PacketType::Ack, false),
        Some(b'4') => (PacketType::ConnectError, false),
        Some(b'5') => (PacketType::Event, true),
        Some(b'6') => (PacketType::Ack, true),
        Some(_) | None => return Err(PeerViolation::UnknownPacketType),
    };
    let attachments = match binary {
        true => Some(cursor.attachments(limits)?),
        false => None,
    };
    let (namespace, query) = cursor.namespace(version, limits)?;
    let id = cursor.ack_id()?;
    let start = cursor.at;
    let content = match packet_type {
        PacketType::Connect => Content::Connect {
            auth: connect_payload(version, text, start)?,
        },
        PacketType::Disconnect if start < text.len() => {
            return Err(PeerViolation::DisconnectPayload);
        }
        PacketType::Disconnect => Content::Disconnect,
        PacketType::Event => {
            let start = array(&text, start, attachments, PeerViolation::EventPayload)?;
            let (name, arguments) = event_name(&text, start, limits)?;
            Content::Event {
                name,
                payload: Payload::json(text, start, arguments),
                ack: id,
            }
        }
        PacketType::Ack => {
            let id = id.ok_or(PeerViolation::IllegalAckId)?;
            let start = array(&text, start, attachments, PeerViolation::AckPayload)?;
            Content::Ack {
                id,
                payload: Payload::json(text, start, start.saturating_add(1)),
            }
        }
        PacketType::ConnectError => Content::ConnectError,
    };
    Ok(Head {
        packet: Packet {
            namespace,
            query,
            content,
        },
        attachments: attachments.unwrap_or(0),
    })
}

/// Reads the head of a packet from left to right.
struct Cursor<'a> {
    text: &'a Text,
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at = self.at.saturating_add(1);
        Some(byte)
    }

    /// The digits from here on, possibly none.
    fn digits(&mut self) -> &str {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at = self.at.saturating_add(1);
        }
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// The number of attachments and the dash behind it. The limit is checked before anything
    /// else is read, so that an absurd number costs nothing.
    fn attachments(&mut self, limits: &Limits) -> Result<usize, PeerViolation> {
        let digits = self.digits();
        if digits.is_empty() {
            return Err(PeerViolation::IllegalAttachmentCount);
        }
        // Digits that do not fit are a number above every limit.
        let count = digits.parse().unwrap_or(usize::MAX);
        if self.next() != Some(b'-') {
            return Err(PeerViolation::IllegalAttachmentCount);
        }
        if count > limits.max_attachments {
            return Err(PeerViolation::TooManyAttachments);
        }
        Ok(count)
    }

    /// The namespace, if it is not `/`, with its query. The comma may be missing at the end.
    fn namespace(
        &mut self,
        version: SocketioVersion,
        limits: &Limits,
    ) -> Result<(Option<Text>, Option<Text>), PeerViolation> {
        if self.peek() != Some(b'/') {
            return Ok((None, None));
        }
        let rest = self.text.get(self.at..).unwrap_or_default();
        let len = rest.find(',').unwrap_or(rest.len());
        let end = self.at.saturating_add(len);
        let whole = self.text.slice(self.at..end);
        self.at = end.saturating_add(1).min(self.text.len());
        let whole = whole.ok_or(PeerViolation::IllegalNamespace)?;
        split_namespace(version, limits, whole)
    }

    fn ack_id(&mut self) -> Result<Option<AckId>, PeerViolation> {
        match self.digits() {
            "" => Ok(None),
            digits => digits
                .parse()
                .map(|number| Some(AckId::new(number)))
                .map_err(|_| PeerViolation::IllegalAckId),
        }
    }
}

/// Checks a namespace and takes the query of protocol 4 off it; `/` becomes `None`.
pub(crate) fn split_namespace(
    version: SocketioVersion,
    limits: &Limits,
    whole: Text,
) -> Result<(Option<Text>, Option<Text>), PeerViolation> {
    let (name, query) = match (version, whole.find('?')) {
        (SocketioVersion::V4, Some(mark)) => (
            whole.slice(0..mark),
            whole.slice(mark.saturating_add(1)..whole.len()),
        ),
        (SocketioVersion::V4, None) | (SocketioVersion::V5, _) => (Some(whole), None),
    };
    let name = name.ok_or(PeerViolation::IllegalNamespace)?;
    if !name.starts_with('/') {
        return Err(PeerViolation::IllegalNamespace);
    }
    if name.len() > limits.max_name_bytes {
        return Err(PeerViolation::NameTooLong);
    }
    Ok((Some(name).filter(|name| name.as_str() != "/"), query))
}

/// The auth data of a CONNECT: an object or nothing. Peers of protocol 4 have none to give; what
/// they send in its place means nothing, but it has to be JSON.
fn connect_payload(
    version: SocketioVersion,
    text: Text,
    start: usize,
) -> Result<Payload, PeerViolation> {
    if start >= text.len() {
        return Ok(Payload::default());
    }
    let json = text.get(start..).unwrap_or_default();
    check_json(json)?;
    match version {
        SocketioVersion::V4 => Ok(Payload::default()),
        SocketioVersion::V5 if json.trim_ascii_start().starts_with('{') => {
            Ok(Payload::json_one(text, start))
        }
        SocketioVersion::V5 => Err(PeerViolation::ConnectPayload),
    }
}

/// Checks the JSON array that follows `start` and returns where its bracket is.
fn array(
    text: &Text,
    start: usize,
    attachments: Option<usize>,
    not_an_array: PeerViolation,
) -> Result<usize, PeerViolation> {
    let bracket = skip_whitespace(text, start);
    let json = text.get(bracket..).unwrap_or_default();
    if json.is_empty() {
        return Err(not_an_array);
    }
    check_json(json)?;
    if !json.starts_with('[') {
        return Err(not_an_array);
    }
    // In a packet that is not binary a placeholder is an object like any other.
    if let Some(attachments) = attachments {
        check_placeholders(json, attachments)?;
    }
    Ok(bracket)
}

/// serde_json skips values without recursion, so that no nesting overflows the stack.
fn check_json(json: &str) -> Result<(), PeerViolation> {
    serde_json::from_str::<IgnoredAny>(json)
        .map(|_| ())
        .map_err(|_| PeerViolation::InvalidJson)
}

fn check_placeholders(json: &str, attachments: usize) -> Result<(), PeerViolation> {
    match walk_placeholders(json, attachments) {
        Err(error) if error.classify() == Category::Data => Err(PeerViolation::IllegalPlaceholder),
        // Valid JSON can still be nested too deeply or hold a number beyond `f64`: no fault of the
        // packet, whoever decodes the payload will be told.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Whether the placeholders in valid JSON point to all of `attachments` attachments in their
/// order. A data error if one points to none of them, a syntax error if the JSON could not be
/// walked to its end.
pub(crate) fn walk_placeholders(json: &str, attachments: usize) -> serde_json::Result<bool> {
    let next = Cell::new(Some(0));
    let walk = |json: &str| {
        next.set(Some(0));
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let check = PlaceholderCheck {
            attachments,
            next: &next,
        };
        check.deserialize(&mut deserializer)
    };
    match walk(json) {
        Err(error) if error.classify() == Category::Syntax => walk(&without_surrogates(json)),
        result => result,
    }
    .map(|_| next.get() == Some(attachments))
}

/// Valid JSON with another character for each escaped half of a surrogate pair, because half of
/// them without the other stops serde_json. No key that matters here has such a character.
fn without_surrogates(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    while let Some((before, escape)) = rest.split_once('\\') {
        out.push_str(before);
        let (replacement, len) = match escape.as_bytes() {
            [
                b'u',
                b'd' | b'D',
                b'8' | b'9' | b'a'..=b'f' | b'A'..=b'F',
                ..,
            ] => (r"\ufffd", 5),
            [b'\\', ..] => (r"\\", 1),
            _ => (r"\", 0),
        };
        out.push_str(replacement);
        rest = escape.get(len..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

/// The name of an event in a valid array that begins at `bracket`, and where its arguments begin.
fn event_name(
    text: &Text,
    bracket: usize,
    limits: &Limits,
) -> Result<(Text, usize), PeerViolation> {
    let start = skip_whitespace(text, bracket.saturating_add(1));
    let rest = text.as_bytes().get(start..).unwrap_or_default();
    let (name, len) = match rest.first() {
        Some(b'"') => string_name(text, start)?,
        Some(b'-' | b'0'..=b'9') => {
            let len = rest
                .iter()
                .position(|byte| matches!(byte, b',' | b']' | b' ' | b'\t' | b'\n' | b'\r'))
                .unwrap_or(rest.len());
            (text.slice(start..start.saturating_add(len)), len)
        }
        Some(_) | None => return Err(PeerViolation::IllegalEventName),
    };
    let name = name.ok_or(PeerViolation::IllegalEventName)?;
    check_event_name(&name, limits)?;
    let end = skip_whitespace(text, start.saturating_add(len));
    let comma = usize::from(text.as_bytes().get(end) == Some(&b','));
    Ok((name, end.saturating_add(comma)))
}

/// The JSON string at `start`: without its quotes, and its length with them.
fn string_name(text: &Text, start: usize) -> Result<(Option<Text>, usize), PeerViolation> {
    let inside = start.saturating_add(1);
    let rest = text.as_bytes().get(inside..).unwrap_or_default();
    let (mut escaped, mut escapes) = (false, false);
    let len = rest.iter().position(|&byte| {
        let end = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        escapes |= escaped;
        end
    });
    let len = len.ok_or(PeerViolation::InvalidJson)?;
    let quoted_len = len.saturating_add(2);
    if !escapes {
        return Ok((text.slice(inside..inside.saturating_add(len)), quoted_len));
    }
    let quoted = text.get(start..start.saturating_add(quoted_len));
    let name: String = serde_json::from_str(quoted.unwrap_or_default())
        .map_err(|_| PeerViolation::IllegalEventName)?;
    Ok((Some(name.into()), quoted_len))
}

pub(crate) fn check_event_name(name: &str, limits: &Limits) -> Result<(), PeerViolation> {
    if name.len() > limits.max_name_bytes {
        return Err(PeerViolation::NameTooLong);
    }
    if is_reserved_event(name) {
        return Err(PeerViolation::ReservedEvent);
    }
    Ok(())
}

/// The first position from `at` on that is not JSON white space.
fn skip_whitespace(text: &str, at: usize) -> usize {
    let rest = text.as_bytes().get(at..).unwrap_or_default();
    let len = rest
        .iter()
        .position(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
        .unwrap_or(rest.len());
    at.saturating_add(len)
}

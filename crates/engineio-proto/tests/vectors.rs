//! Golden vectors: what is on the wire, read and written, in both protocol versions.

use bytes::Bytes;
use engineio_proto::payload::{self, unwrap_jsonp, wrap_jsonp};
use engineio_proto::{
    Body, BodyKind, Encoded, IncomingPacket, Message, MessageWriter, Packet, PollingPeer,
    ProtocolVersion, Text,
};
use serde_json::Value;

#[test]
fn packets_are_read_and_written_as_in_the_vectors() {
    for vector in vectors(include_str!("vectors/packets.json")) {
        let packet = &vector["packet"];
        if writes(&vector) {
            let mut frame = Vec::new();
            let supports_binary = peer(&vector).supports_binary;
            outgoing(packet).write_websocket(version(&vector), supports_binary, &mut frame);
            let (opcode, content) = match wire(&vector) {
                Message::Text(text) => (0x81, text.into_bytes()),
                Message::Binary(data) => (0x82, data),
            };
            let len = u8::try_from(content.len()).expect("vectors are short");
            assert!(len < 126, "{vector}");
            assert_eq!(frame, [&[opcode, len], &content[..]].concat(), "{vector}");
        }
        if reads(&vector) {
            let read = IncomingPacket::decode(version(&vector), wire(&vector));
            assert_eq!(read, Ok(incoming(packet).remove(0)), "{vector}");
        }
    }
}

#[test]
fn payloads_are_read_and_written_as_in_the_vectors() {
    for vector in vectors(include_str!("vectors/payloads.json")) {
        let packets = vector["packets"].as_array().expect("a list");
        let (kind, bytes) = body(&vector);
        if writes(&vector) {
            let packets: Vec<Packet> = packets.iter().map(outgoing).collect();
            let written = payload::encode(version(&vector), peer(&vector), &packets);
            let expected = Body {
                kind,
                bytes: bytes.to_vec(),
                compress: true,
            };
            assert_eq!(written, expected, "{vector}");
        }
        if reads(&vector) {
            let read: Result<Vec<_>, _> =
                payload::decode(version(&vector), kind, bytes, 100).collect();
            assert_eq!(
                read,
                Ok(packets.iter().flat_map(incoming).collect()),
                "{vector}"
            );
        }
    }
}

#[test]
fn malformed_payloads_break_the_rule_that_the_vectors_name() {
    for vector in vectors(include_str!("vectors/malformed.json")) {
        let (kind, bytes) = body(&vector);
        let mut packets = payload::decode(version(&vector), kind, bytes, 100);
        let violation = packets
            .find_map(Result::err)
            .map(|error| format!("{error:?}"));
        assert_eq!(violation.as_deref(), vector["error"].as_str(), "{vector}");
        assert_eq!(packets.next(), None, "{vector}");
    }
}

#[test]
fn scripts_and_forms_are_as_in_the_vectors() {
    for vector in vectors(include_str!("vectors/jsonp.json")) {
        let body = vector["body"].as_str().expect("a text");
        if let Some(field) = vector["field"].as_str() {
            assert_eq!(unwrap_jsonp(field), body, "{vector}");
            continue;
        }
        let j = vector["j"].as_u64().and_then(|j| u32::try_from(j).ok());
        let body = Body {
            kind: BodyKind::Text,
            bytes: body.into(),
            compress: true,
        };
        let script = wrap_jsonp(j.expect("a small number"), &body);
        let script = String::from_utf8(script).expect("scripts are text");
        assert_eq!(Some(script.as_str()), vector["script"].as_str(), "{vector}");
    }
}

fn vectors(json: &str) -> Vec<Value> {
    serde_json::from_str(json).expect("the vectors are valid JSON")
}

fn writes(vector: &Value) -> bool {
    vector["direction"] != "decode"
}

fn reads(vector: &Value) -> bool {
    vector["direction"] != "encode"
}

fn version(vector: &Value) -> ProtocolVersion {
    match vector["version"].as_u64() {
        Some(3) => ProtocolVersion::V3,
        Some(4) => ProtocolVersion::V4,
        other => panic!("unknown version {other:?}"),
    }
}

fn peer(vector: &Value) -> PollingPeer {
    PollingPeer {
        supports_binary: vector["supports_binary"] != false,
        counts_utf16: vector["counts_utf16"] != false,
        jsonp: vector["jsonp"].as_u64().and_then(|j| u32::try_from(j).ok()),
    }
}

fn wire(vector: &Value) -> Message {
    match vector["text"].as_str() {
        Some(text) => Message::Text(Text::from(text)),
        None => Message::Binary(hex(&vector["binary"])),
    }
}

fn body(vector: &Value) -> (BodyKind, Bytes) {
    if vector["text_hex"].is_string() {
        return (BodyKind::Text, hex(&vector["text_hex"]));
    }
    match wire(vector) {
        Message::Text(text) => (BodyKind::Text, text.into_bytes()),
        Message::Binary(data) => (BodyKind::Binary, data),
    }
}

fn hex(value: &Value) -> Bytes {
    let digits = value.as_str().expect("hexadecimal digits");
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal digits"))
        .collect()
}

fn outgoing(packet: &Value) -> Packet {
    let data = || Text::from(packet["data"].as_str().unwrap_or_default());
    match packet["type"].as_str().expect("a type") {
        "open" => Packet::Open(data()),
        "close" => Packet::Close,
        "ping" => Packet::Ping(data()),
        "pong" => Packet::Pong(data()),
        "upgrade" => Packet::Upgrade,
        "noop" => Packet::Noop,
        "message" => Packet::Message {
            encoded: encoded(packet),
            first_frame: 0,
        },
        other => panic!("unknown type {other}"),
    }
}

fn encoded(packet: &Value) -> Encoded {
    let Some(text) = packet["text"].as_str() else {
        return Encoded::binary(hex(&packet["binary"]));
    };
    let mut writer = MessageWriter::with_capacity(text.len());
    writer.buffer().extend_from_slice(text.as_bytes());
    writer.finish(attachments(packet))
}

fn attachments(packet: &Value) -> Vec<Bytes> {
    let attachments = packet["attachments"].as_array();
    attachments.into_iter().flatten().map(hex).collect()
}

fn incoming(packet: &Value) -> Vec<IncomingPacket> {
    let data = || Text::from(packet["data"].as_str().unwrap_or_default());
    let first = match packet["type"].as_str().expect("a type") {
        "open" => IncomingPacket::Open,
        "close" => IncomingPacket::Close,
        "ping" => IncomingPacket::Ping(data()),
        "pong" => IncomingPacket::Pong(data()),
        "upgrade" => IncomingPacket::Upgrade,
        "noop" => IncomingPacket::Noop,
        "message" => IncomingPacket::Message(match packet["text"].as_str() {
            Some(text) => Message::Text(Text::from(text)),
            None => Message::Binary(hex(&packet["binary"])),
        }),
        other => panic!("unknown type {other}"),
    };
    let attachments = attachments(packet).into_iter();
    let attachments = attachments.map(|data| IncomingPacket::Message(Message::Binary(data)));
    [first].into_iter().chain(attachments).collect()
}

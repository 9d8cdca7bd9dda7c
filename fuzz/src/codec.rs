//! Packets and payloads of Engine.IO, packets of Socket.IO.

use bytes::Bytes;
use engineio_proto::payload;
use engineio_proto::{
    BodyKind, Encoded, IncomingPacket, Message, Packet, PollingPeer, ProtocolVersion, SessionId,
    Text,
};
use socketio_proto::decode::decode;
use socketio_proto::packet::Content;
use socketio_proto::{Args, Limits, Parser, SocketioVersion, Value, encode_ack, encode_event};

use super::input::Input;
use super::naive::{self, Decoded, Naive};

fn version(flag: bool) -> ProtocolVersion {
    if flag {
        ProtocolVersion::V4
    } else {
        ProtocolVersion::V3
    }
}

/// One packet, from a text and from a binary frame; and everything else that a client names.
pub fn engineio_packet(data: &[u8]) {
    let mut input = Input(data);
    let version = version(input.flag());
    let content = Bytes::copy_from_slice(input.0);
    let _ = IncomingPacket::decode(version, Message::Binary(content.clone()));
    let lossy = String::from_utf8_lossy(&content);
    if let Some(id) = SessionId::parse(&lossy) {
        assert_eq!(id.to_string(), lossy, "an id has one form");
    }
    let _ = payload::unwrap_jsonp(&lossy);
    let Ok(text) = Text::from_utf8(content) else {
        return;
    };
    let Ok(packet) = IncomingPacket::decode_text(version, &text) else {
        return;
    };
    if let IncomingPacket::Message(Message::Text(inside)) = &packet {
        assert_eq!(&text[1..], &inside[..]);
    }
}

/// The packets of a body and whether it ended with a fault, in the words of the naive decoder.
fn decoded(version: ProtocolVersion, kind: BodyKind, body: &[u8]) -> Decoded {
    let mut packets = Vec::new();
    let mut faulty = false;
    for item in payload::decode(version, kind, Bytes::copy_from_slice(body), usize::MAX) {
        assert!(!faulty, "nothing follows a fault");
        match item {
            Ok(packet) => packets.push(in_naive_words(packet)),
            Err(_) => faulty = true,
        }
    }
    assert!(packets.len() <= body.len() + 1, "every packet takes a byte");
    (packets, faulty)
}

fn in_naive_words(packet: IncomingPacket) -> Naive {
    let text = |digit, data: &str| Naive::Text(digit, data.to_owned());
    match packet {
        // What these carry means nothing, so it is not kept.
        IncomingPacket::Open => text('0', ""),
        IncomingPacket::Close => text('1', ""),
        IncomingPacket::Ping(data) => text('2', &data),
        IncomingPacket::Pong(data) => text('3', &data),
        IncomingPacket::Message(Message::Text(data)) => text('4', &data),
        IncomingPacket::Message(Message::Binary(data)) => Naive::Binary(data.to_vec()),
        IncomingPacket::Upgrade => text('5', ""),
        IncomingPacket::Noop => text('6', ""),
    }
}

fn without_ignored_data(decoded: Decoded) -> Decoded {
    let packets = decoded.0.into_iter().map(|packet| match packet {
        Naive::Text(digit @ ('0' | '1' | '5' | '6'), _) => Naive::Text(digit, String::new()),
        other => other,
    });
    (packets.collect(), decoded.1)
}

/// Bodies of version 3, text and binary, against the naive decoder.
pub fn payload_v3(data: &[u8]) {
    let mut input = Input(data);
    let (kind, naive): (_, fn(&[u8]) -> Decoded) = match input.flag() {
        true => (BodyKind::Text, naive::decode_v3_text),
        false => (BodyKind::Binary, naive::decode_v3_binary),
    };
    let expected = without_ignored_data(naive(input.0));
    assert_eq!(decoded(ProtocolVersion::V3, kind, input.0), expected);
}

/// Bodies of version 4 against the naive decoder.
pub fn payload_v4(data: &[u8]) {
    let expected = without_ignored_data(naive::decode_v4(data));
    assert_eq!(decoded(ProtocolVersion::V4, BodyKind::Text, data), expected);
    let (packets, faulty) = decoded(ProtocolVersion::V4, BodyKind::Binary, data);
    assert!(packets.is_empty() && faulty);
}

/// What is encoded here and decoded by the naive decoder is what was to be sent.
pub fn payload_differential(data: &[u8]) {
    let mut input = Input(data);
    let version = version(input.flag());
    let peer = PollingPeer {
        supports_binary: input.flag(),
        counts_utf16: true,
        jsonp: None,
    };
    let (mut packets, mut expected) = (Vec::new(), Vec::new());
    while !input.is_empty() && packets.len() < 16 {
        let kind = input.byte();
        let piece = input.piece();
        let text = String::from_utf8_lossy(piece).replace('\u{1e}', "");
        let message = |encoded| Packet::Message {
            encoded,
            first_frame: 0,
        };
        let (packet, naive) = match kind % 5 {
            0 => (Packet::Close, Naive::Text('1', String::new())),
            1 => (
                Packet::Pong(Text::from(text.as_str())),
                Naive::Text('3', text),
            ),
            2 => (Packet::Noop, Naive::Text('6', String::new())),
            3 => (message(Encoded::text(&text)), Naive::Text('4', text)),
            _ => {
                let binary = Encoded::binary(Bytes::copy_from_slice(piece));
                (message(binary), Naive::Binary(piece.to_vec()))
            }
        };
        packets.push(packet);
        expected.push(naive);
    }
    if packets.is_empty() {
        return;
    }
    let body = payload::encode(version, peer, &packets);
    let (read, faulty) = match (version, body.kind) {
        (ProtocolVersion::V4, _) => naive::decode_v4(&body.bytes),
        (ProtocolVersion::V3, BodyKind::Text) => naive::decode_v3_text(&body.bytes),
        (ProtocolVersion::V3, BodyKind::Binary) => naive::decode_v3_binary(&body.bytes),
    };
    assert!(!faulty && read == expected, "{expected:?} became {read:?}");
    // And read back by the decoder that is not naive.
    assert_eq!(decoded(version, body.kind, &body.bytes), (expected, false));
}

fn socketio(parser: Parser, version: SocketioVersion, message: Message) {
    let Ok(head) = decode(parser, version, &Limits::default(), message) else {
        return;
    };
    assert!(head.attachments <= Limits::default().max_attachments);
    let namespace = head.packet.namespace().to_owned();
    match &head.packet.content {
        Content::Event { name, payload, ack } => {
            // A number is a name too, and longer as text than as MessagePack.
            assert!(name.len() <= Limits::default().max_name_bytes);
            let _ = (payload.decode::<Value>(), payload.args());
            // What can be read can be written again, for both parsers.
            for parser in [Parser::Json, Parser::Msgpack] {
                let _ = encode_event(parser, &namespace, *ack, name, payload);
                if let Ok(args) = payload.decode::<Args>() {
                    let _ = encode_event(parser, &namespace, *ack, name, &args);
                }
            }
        }
        Content::Ack { payload, id } => {
            for parser in [Parser::Json, Parser::Msgpack] {
                let _ = encode_ack(parser, &namespace, *id, payload);
            }
        }
        _ => {}
    }
}

/// A packet of the default parser.
pub fn socketio_json(data: &[u8]) {
    let mut input = Input(data);
    let version = if input.flag() {
        SocketioVersion::V5
    } else {
        SocketioVersion::V4
    };
    if let Ok(text) = Text::from_utf8(Bytes::copy_from_slice(input.0)) {
        socketio(Parser::Json, version, Message::Text(text));
    }
}

/// A packet of the MessagePack parser.
pub fn socketio_msgpack(data: &[u8]) {
    let message = || Message::Binary(Bytes::copy_from_slice(data));
    socketio(Parser::Msgpack, SocketioVersion::V5, message());
    socketio(Parser::Msgpack, SocketioVersion::V4, message());
}

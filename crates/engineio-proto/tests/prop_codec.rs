//! Property tests: what is written is read back, in every version and for every peer.

use bytes::Bytes;
use engineio_proto::payload::{self, unwrap_jsonp, wrap_jsonp};
use engineio_proto::{
    Body, BodyKind, Encoded, IncomingPacket, Message, Packet, PollingPeer, ProtocolVersion, Text,
};
use proptest::prelude::*;

/// Texts with characters of every UTF-8 length, quotes, backslashes and line breaks.
fn text() -> impl Strategy<Value = String> {
    let chars = prop_oneof![
        any::<char>(),
        prop::sample::select(vec![
            'a', '4', ':', '\\', 'n', '"', '\n', '€', '😀', '\u{2028}'
        ]),
    ];
    prop::collection::vec(chars, 0..40).prop_map(|chars| chars.into_iter().collect())
}

/// A text without the character that separates packets in version 4, which JSON always escapes.
fn packet_text() -> impl Strategy<Value = String> {
    text().prop_map(|text| text.replace('\u{1e}', ""))
}

fn packet() -> impl Strategy<Value = (Packet, IncomingPacket)> {
    let message = |encoded| Packet::Message {
        encoded,
        first_frame: 0,
    };
    prop_oneof![
        Just((Packet::Close, IncomingPacket::Close)),
        Just((Packet::Noop, IncomingPacket::Noop)),
        Just((Packet::Upgrade, IncomingPacket::Upgrade)),
        packet_text().prop_map(|data| {
            let data = Text::from(data);
            (Packet::Ping(data.clone()), IncomingPacket::Ping(data))
        }),
        packet_text().prop_map(|data| {
            let data = Text::from(data);
            (Packet::Pong(data.clone()), IncomingPacket::Pong(data))
        }),
        packet_text().prop_map(move |text| {
            let incoming = IncomingPacket::Message(Message::Text(Text::from(text.as_str())));
            (message(Encoded::text(&text)), incoming)
        }),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(move |data| {
            let data = Bytes::from(data);
            let incoming = IncomingPacket::Message(Message::Binary(data.clone()));
            (message(Encoded::binary(data)), incoming)
        }),
    ]
}

fn version() -> impl Strategy<Value = ProtocolVersion> {
    prop::sample::select(vec![ProtocolVersion::V3, ProtocolVersion::V4])
}

proptest! {
    #[test]
    fn payloads_survive_a_round_trip(
        version in version(),
        supports_binary in any::<bool>(),
        jsonp in prop::option::of(any::<u32>()),
        packets in prop::collection::vec(packet(), 1..20),
    ) {
        let (outgoing, incoming): (Vec<Packet>, Vec<IncomingPacket>) = packets.into_iter().unzip();
        let peer = PollingPeer { supports_binary, counts_utf16: true, jsonp };
        let body = payload::encode(version, peer, &outgoing);
        if jsonp.is_some() || !supports_binary {
            prop_assert_eq!(body.kind, BodyKind::Text);
        }
        let read: Result<Vec<_>, _> =
            payload::decode(version, body.kind, body.bytes.into(), usize::MAX).collect();
        prop_assert_eq!(read, Ok(incoming));
    }

    #[test]
    fn packets_survive_a_websocket(
        version in version(),
        supports_binary in any::<bool>(),
        (outgoing, incoming) in packet(),
    ) {
        let mut frame = Vec::new();
        outgoing.write_websocket(version, supports_binary, &mut frame);
        let content = websocket_content(&frame);
        prop_assert_eq!(IncomingPacket::decode(version, content), Ok(incoming));
    }

    #[test]
    fn scripts_hold_the_json_of_their_body(text in text(), j in any::<u32>()) {
        let body = Body { kind: BodyKind::Text, bytes: text.clone().into(), compress: true };
        let script = String::from_utf8(wrap_jsonp(j, &body)).unwrap();
        let has_line_breaks = script.contains(['\n', '\u{2028}', '\u{2029}']);
        prop_assert!(!has_line_breaks);
        let json = script.strip_prefix(&format!("___eio[{j}](")).unwrap();
        let json = json.strip_suffix(");").unwrap();
        prop_assert_eq!(serde_json::from_str::<String>(json).unwrap(), text);
    }

    #[test]
    fn forms_bring_back_what_the_client_meant(text in text()) {
        // What engine.io-client does to a body before it puts it into a form.
        let field = text.replace("\\n", "\\\\n").replace('\n', "\\n");
        // An odd case that its own escaping does not keep apart: a backslash before a line break.
        prop_assume!(!text.contains("\\\n") && !text.contains("\\\\n"));
        prop_assert_eq!(unwrap_jsonp(&field), text);
    }
}

/// The content of the one unmasked frame in `frame`.
fn websocket_content(frame: &[u8]) -> Message {
    let (header_len, content_len) = match frame[1] {
        126 => (4, usize::from(u16::from_be_bytes([frame[2], frame[3]]))),
        short => (2, usize::from(short)),
    };
    let content = Bytes::copy_from_slice(&frame[header_len..]);
    assert_eq!(content.len(), content_len);
    match frame[0] {
        0x81 => Message::Text(Text::from_utf8(content).unwrap()),
        0x82 => Message::Binary(content),
        other => panic!("unknown opcode {other}"),
    }
}

use bytes::Bytes;
use engineio_proto::{Encoded, Message};
use serde::{Serialize, Serializer};

use super::*;
use crate::client::Limits;
use crate::decode::decode;
use crate::packet::{Content as PacketContent, Packet};
use crate::{AckId, Args, Parser, SocketioVersion, Value, encode_ack, encode_event};

fn payload_of(packet: Packet) -> Payload {
    match packet.content {
        PacketContent::Event { payload, .. } | PacketContent::Ack { payload, .. } => payload,
        PacketContent::Connect { auth } => auth,
        PacketContent::Disconnect | PacketContent::ConnectError => panic!("no payload"),
    }
}

fn json(text: &str, attachments: &[Bytes]) -> Payload {
    let message = Message::Text(text.into());
    let limits = Limits::default();
    let head = decode(Parser::Json, SocketioVersion::V5, &limits, message).unwrap();
    assert_eq!(head.attachments, attachments.len());
    match attachments {
        [] => payload_of(head.packet),
        list => payload_of(head.packet).with_attachments(list.to_vec()),
    }
}

/// The payload of event `x` with these arguments, at most 14.
fn msgpack(count: u8, values: &[u8]) -> Payload {
    let message = Message::Binary(event_packet(count, values).into());
    let limits = Limits::default();
    let head = decode(Parser::Msgpack, SocketioVersion::V5, &limits, message).unwrap();
    payload_of(head.packet)
}

fn event_packet(count: u8, values: &[u8]) -> Vec<u8> {
    let head = b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data";
    [head, &[0x91 + count][..], b"\xa1x", values].concat()
}

fn event<T: Serialize + ?Sized>(parser: Parser, payload: &T) -> Encoded {
    encode_event(parser, "/", None, "x", payload).unwrap()
}

fn head(encoded: &Encoded) -> &[u8] {
    encoded.frame(0).unwrap().data()
}

fn text<T: Serialize + ?Sized>(payload: &T) -> String {
    let encoded = event(Parser::Json, payload);
    assert_eq!(encoded.frame_count(), 1);
    String::from_utf8(head(&encoded).to_vec()).unwrap()
}

#[test]
fn lone_surrogates_come_back_byte_identical() {
    let packet = r#"2["x","\ud83d",{"\uDC00": "\u00e9"} ,1.0,1e999]"#;
    let payload = json(packet, &[]);
    payload.args().unwrap_err();
    assert_eq!(text(&payload), format!("4{packet}"));
    let ack = encode_ack(Parser::Json, "/", AckId::new(1), &payload).unwrap();
    let expected: &[u8] = br#"431["\ud83d",{"\uDC00": "\u00e9"} ,1.0,1e999]"#;
    assert_eq!(head(&ack), expected);
    let error = encode_event(Parser::Msgpack, "/", None, "x", &payload).unwrap_err();
    assert!(matches!(error, crate::EncodeError::Msgpack(_)), "{error}");
}

#[test]
fn placeholders_out_of_their_order_are_numbered_anew() {
    let places = r#"{"_placeholder":true,"num":1},{"_placeholder":true,"num":0}"#;
    let attachments = [Bytes::from_static(b"a"), Bytes::from_static(b"b")];
    let payload = json(&format!(r#"52-["x",{places}]"#), &attachments);
    let encoded = event(Parser::Json, &payload);
    let frames: Vec<&[u8]> = encoded.frames().map(|frame| frame.data()).collect();
    let places = r#"{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}"#;
    let expected = format!(r#"452-["x",{places}]"#);
    assert_eq!(frames, [expected.as_bytes(), b"b", b"a"]);
}

#[test]
fn attachments_come_back_with_the_same_placeholders_when_nothing_can_be_read() {
    // Neither in depth-first order nor each used once, beside half a surrogate pair.
    let packet = concat!(
        r#"52-["x",{"num":1,"_placeholder":true},"\ud83d",{"_placeholder":true,"num":0},"#,
        r#"[{"_placeholder":true,"num":1}]]"#
    );
    let attachments = [Bytes::from_static(b"a"), Bytes::from_static(b"b")];
    let payload = json(packet, &attachments);
    let encoded = event(Parser::Json, &payload);
    let frames: Vec<&[u8]> = encoded.frames().map(|frame| frame.data()).collect();
    assert_eq!(frames, [format!("4{packet}").as_bytes(), b"a", b"b"]);
    assert!(frames[1].as_ptr() == attachments[0].as_ptr(), "shared");
}

#[test]
fn extensions_come_back_identical_and_are_read_as_json_types() {
    let values = [
        &b"\xd7\x00\x00\x00\x01\x8d\xf4\xdc\x54\x95"[..], // Date
        b"\xd4\x00\x00",                                  // undefined
        b"\xc7\x03\x00abc",                               // ArrayBuffer
        b"\x81\xa1a\xd6\x2aabcd",                         // unknown, inside a map
        b"\xca\x3f\xc0\x00\x00",                          // float of 32 bits
    ];
    let values = values.concat();
    let payload = msgpack(5, &values);
    assert_eq!(payload.len_bytes(), values.len());
    let encoded = event(Parser::Msgpack, &payload);
    assert_eq!(head(&encoded), event_packet(5, &values));
    let ack = encode_ack(Parser::Msgpack, "/", AckId::new(1), &payload).unwrap();
    assert!(head(&ack).ends_with(&[b"data\x95", &values[..]].concat()));

    let read: (String, Value, Bytes) = payload.decode().unwrap();
    let expected = ("2024-02-29T12:34:56.789Z", Value::Null, &b"abc"[..]);
    assert_eq!((read.0.as_str(), read.1, &read.2[..]), expected);
    assert_eq!(payload.args().unwrap().0[4], 1.5.into());
}

#[test]
fn the_other_parser_gets_what_it_can_write() {
    let date = msgpack(1, b"\xd7\x00\x00\x00\x01\x8d\xf4\xdc\x54\x95");
    assert_eq!(text(&date), r#"42["x","2024-02-29T12:34:56.789Z"]"#);
    let binary = json(
        r#"51-["x",{"_placeholder":true,"num":0},7]"#,
        &[Bytes::from_static(b"a")],
    );
    let encoded = event(Parser::Msgpack, &binary);
    assert_eq!(head(&encoded), event_packet(2, b"\xc4\x01a\x07"));
    let encoded = event(Parser::Json, &msgpack(2, b"\xc4\x01a\x07"));
    assert_eq!(
        head(&encoded),
        br#"451-["x",{"_placeholder":true,"num":0},7]"#
    );
}

#[test]
fn payloads_made_here_and_auth_data_are_serialised() {
    let made = Payload::from_args(Args(vec![1_u64.into(), Bytes::from_static(b"a").into()]));
    let encoded = event(Parser::Json, &made);
    assert_eq!(
        head(&encoded),
        br#"451-["x",1,{"_placeholder":true,"num":0}]"#
    );
    assert_eq!(
        text(&json(r#"0{"token": 1}"#, &[])),
        r#"42["x",{"token":1}]"#
    );
}

#[test]
fn no_argument_is_passed_on_as_none() {
    for empty in [
        Payload::default(),
        json(r#"2["x"]"#, &[]),
        json("31[ ]", &[]),
        msgpack(0, b""),
    ] {
        assert_eq!(text(&empty), r#"42["x"]"#);
        let encoded = event(Parser::Msgpack, &empty);
        assert_eq!(head(&encoded), event_packet(0, b""));
        let ack = encode_ack(Parser::Json, "/", AckId::new(1), &empty).unwrap();
        assert_eq!(head(&ack), b"431[]");
    }
}

#[test]
fn references_and_newtypes_around_a_payload_are_passed_on_too() {
    #[derive(Serialize)]
    struct Wrapper<T>(T);

    let payload = json(r#"2["x",1.0, "\ud83d"]"#, &[]);
    let expected = r#"42["x",1.0, "\ud83d"]"#;
    assert_eq!(text(&&&payload), expected);
    assert_eq!(text(&Wrapper(&payload)), expected);
    assert_eq!(text(&Box::new(payload)), expected);
}

#[test]
fn a_payload_inside_something_is_one_argument_of_it() {
    #[derive(Serialize)]
    struct Named<'a> {
        a: &'a Payload,
    }

    let payload = json(r#"2["x", 1 , {"a": 2}]"#, &[]);
    assert_eq!(text(&(&payload,)), r#"42["x",[1,{"a":2}]]"#);
    assert_eq!(text(&(0, &payload)), r#"42["x",0,[1,{"a":2}]]"#);
    assert_eq!(text(&Some(&payload)), r#"42["x",[1,{"a":2}]]"#);
    assert_eq!(text(&Named { a: &payload }), r#"42["x",{"a":[1,{"a":2}]}]"#);
    let values = msgpack(2, b"\x01\xd4\x00\x00");
    let encoded = event(Parser::Msgpack, &(&values,));
    assert_eq!(head(&encoded), event_packet(1, b"\x92\x01\xc0"));
    assert_eq!(
        serde_json::to_string(&payload).unwrap(),
        r#"[1,{"a":2}]"#,
        "outside of packets too"
    );
}

#[test]
fn a_payload_that_a_type_serialises_on_the_side_is_not_taken_for_its_content() {
    struct Sealed(Payload);

    impl Serialize for Sealed {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let text = serde_json::to_string(&self.0).map_err(S::Error::custom)?;
            serializer.serialize_newtype_struct("Sealed", &text)
        }
    }

    let payload = json(r#"2["x",1e1]"#, &[]);
    assert_eq!(text(&Sealed(payload.clone())), r#"42["x","[10.0]"]"#);
    assert_eq!(text(&payload), r#"42["x",1e1]"#);
}

#[test]
fn json_that_could_break_the_next_peer_is_not_passed_on() {
    let nested = |depth: usize| {
        let text = format!(r#"2["x", {}"\"]"{}]"#, "[".repeat(depth), "]".repeat(depth));
        json(&text, &[])
    };
    for depth in [100, 125, 126, 127, 128, 1000] {
        let payload = nested(depth);
        let passed = encode_event(Parser::Json, "/", None, "x", &payload);
        assert_eq!(passed.is_ok(), payload.args().is_ok(), "{depth}");
        assert_eq!(payload.json_as_it_arrived().is_some(), passed.is_ok());
    }
    // Many brackets, but none deep.
    let wide = format!(r#"2["x","[[[\"{{\\",{}1]"#, "[],{},".repeat(200));
    assert_eq!(text(&json(&wide, &[])), format!("4{wide}"));

    let attachment = [Bytes::from_static(b"a")];
    let beyond = json(
        r#"51-["x",1e999,{"_placeholder":true,"num":9}]"#,
        &attachment,
    );
    encode_event(Parser::Json, "/", None, "x", &beyond).unwrap_err();
    for control in [r#"2["x","{}"]"#, r#"2["x",{}1]"#] {
        let message = Message::Text(control.replace("{}", "\u{1e}").into());
        let limits = Limits::default();
        decode(Parser::Json, SocketioVersion::V5, &limits, message).unwrap_err();
    }
}

#[test]
fn a_lone_surrogate_does_not_hide_a_placeholder_without_attachment() {
    for surrogate in [r"\ud83d", r"\\\uDFFF", r"\ud83d\ud83d\ude00"] {
        for (num, fits) in [(0, true), (1, false)] {
            let text =
                format!(r#"51-["x","{surrogate}",{{"_placeh\u006flder":true,"num":{num}}}]"#);
            let message = Message::Text(text.into());
            let limits = Limits::default();
            let head = decode(Parser::Json, SocketioVersion::V5, &limits, message);
            assert_eq!(head.is_ok(), fits, "{surrogate} {num}");
        }
    }
}

#[test]
fn msgpack_that_could_break_the_next_peer_is_not_passed_on() {
    for depth in [100, 126, 127, 128, 1000] {
        let mut values = vec![0x91; depth];
        values.push(0xc0);
        let payload = msgpack(1, &values);
        let passed = encode_event(Parser::Msgpack, "/", None, "x", &payload);
        assert_eq!(passed.is_ok(), payload.args().is_ok(), "{depth}");
        assert_eq!(payload.msgpack_as_it_arrived().is_some(), passed.is_ok());
    }
    // A key that is a number becomes a text, a text that is not UTF-8 becomes binary data.
    let keys = msgpack(1, b"\x82\xa1a\x01\x07\x02");
    let encoded = event(Parser::Msgpack, &keys);
    assert_eq!(head(&encoded), event_packet(1, b"\x82\xa1a\x01\xa17\x02"));
    let encoded = event(Parser::Msgpack, &msgpack(1, b"\xa1\xff"));
    assert_eq!(head(&encoded), event_packet(1, b"\xc4\x01\xff"));
    // Values of maps may be anything, and many levels one after the other are not deep.
    let siblings = [
        &b"\x83\xa1a\x80\xa1b\xc0\xa1c\xdc\x00\xc8"[..],
        &[0x90; 200],
    ]
    .concat();
    let payload = msgpack(1, &siblings);
    assert!(payload.msgpack_as_it_arrived().is_some());
}

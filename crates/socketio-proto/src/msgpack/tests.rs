use bytes::Bytes;
use engineio_proto::Message;

use crate::client::Limits;
use crate::packet::{Content, Packet};
use crate::{Args, Parser, PeerViolation, SocketioVersion, Value};

fn decode_for(version: SocketioVersion, bytes: &[u8]) -> Result<Packet, PeerViolation> {
    let message = Message::Binary(Bytes::copy_from_slice(bytes));
    crate::decode::decode(Parser::Msgpack, version, &Limits::default(), message)
        .map(|head| head.packet)
}

fn decode(bytes: &[u8]) -> Result<Packet, PeerViolation> {
    decode_for(SocketioVersion::V5, bytes)
}

/// The arguments of event `x` whose payload array is `data`.
fn args(data: &[u8]) -> Vec<Value> {
    let packet = [b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data", data].concat();
    let Content::Event { payload, .. } = decode(&packet).unwrap().content else {
        panic!("an event");
    };
    payload.args().unwrap().0
}

#[test]
fn extensions_become_what_json_peers_would_send() {
    let date = b"\x92\xa1x\xd7\x00\x00\x00\x01\x8d\xf4\xdc\x54\x95";
    assert_eq!(args(date), ["2024-02-29T12:34:56.789Z".into()]);
    let undefined = b"\x93\xa1x\xd4\x00\x00\x01";
    assert_eq!(args(undefined), [Value::Null, 1_u64.into()]);
    let array_buffer = b"\x92\xa1x\xc7\x03\x00abc";
    assert_eq!(args(array_buffer), [Bytes::from("abc").into()]);
    // The same lengths as `undefined` and a date, but of an ArrayBuffer.
    let array_buffer = b"\x92\xa1x\xc7\x01\x00a";
    assert_eq!(args(array_buffer), [Bytes::from("a").into()]);
    let array_buffer = b"\x92\xa1x\xc7\x08\x00abcdefgh";
    assert_eq!(args(array_buffer), [Bytes::from("abcdefgh").into()]);
    let unknown = b"\x92\xa1x\xd6\x2aabcd";
    assert_eq!(args(unknown), [Bytes::from("abcd").into()]);
    let nested = b"\x92\xa1x\x81\xa1a\x92\xd4\x00\x00\xc4\x01b";
    let expected = vec![Value::Null, Bytes::from("b").into()];
    assert_eq!(args(nested)[0].get("a"), Some(&Value::Array(expected)));
}

#[test]
fn timestamps_of_the_specification_are_dates_too() {
    let seconds = b"\x92\xa1x\xd6\xff\x00\x00\x00\x01";
    assert_eq!(args(seconds), ["1970-01-01T00:00:01.000Z".into()]);
    // 500 million nanoseconds in the upper 30 bits, one second in the lower 34.
    let packed = (500_000_000_u64 << 34 | 1).to_be_bytes();
    let data = [&b"\x92\xa1x\xd7\xff"[..], &packed].concat();
    assert_eq!(args(&data), ["1970-01-01T00:00:01.500Z".into()]);
    let long = [
        &b"\x92\xa1x\xc7\x0c\xff\x00\x00\x00\x00"[..],
        &(-1_i64).to_be_bytes(),
    ]
    .concat();
    assert_eq!(args(&long), ["1969-12-31T23:59:59.000Z".into()]);
    let impossible = [
        &b"\x92\xa1x\xc7\x0c\xff\x00\x00\x00\x00"[..],
        &i64::MAX.to_be_bytes(),
    ]
    .concat();
    assert_eq!(args(&impossible), [Value::Null]);
}

#[test]
fn numbers_and_keys_of_every_width_are_read() {
    let data = b"\x98\xa1x\xff\xd0\x80\xcd\x01\x00\xcf\x00\x00\x01\x00\x00\x00\x00\x00\
        \xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\xca\x3f\xc0\x00\x00\x81\x01\xc3";
    let expected = [
        Value::from(-1_i64),
        Value::from(-128_i64),
        Value::from(256_u64),
        Value::from(1_u64 << 40),
        Value::from(1.5),
        Value::from(1.5),
        Value::Object(vec![("1".to_owned(), Value::Bool(true))]),
    ];
    assert_eq!(args(data), expected);
}

#[test]
fn event_names_may_be_numbers() {
    let packet = decode(b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x91\x07").unwrap();
    let Content::Event { name, .. } = packet.content else {
        panic!("an event");
    };
    assert_eq!(&*name, "7");
}

#[test]
fn python_peers_may_send_nil_where_others_send_nothing() {
    let packet = decode(b"\x84\xa4type\x01\xa4data\xc0\xa3nsp\xc0\xa2id\xc0").unwrap();
    assert!(matches!(packet.content, Content::Disconnect));
    assert_eq!(packet.namespace(), "/");
    let packet = decode(b"\x82\xa4type\x00\xa4data\xc0").unwrap();
    assert!(matches!(packet.content, Content::Connect { auth } if auth.is_empty()));
}

#[test]
fn options_and_unknown_keys_are_ignored() {
    let bytes = b"\x85\xa4type\x02\xa4data\x91\xa1x\xa7options\x81\xa8compress\xc3\
        \xa2id\x05\xa3nsp\xa2/a";
    let packet = decode(bytes).unwrap();
    assert_eq!(packet.namespace(), "/a");
    assert!(matches!(packet.content, Content::Event { ack: Some(id), .. } if id.number() == 5));
}

#[test]
fn broken_packets_are_violations() {
    for (bytes, violation) in [
        (&b""[..], PeerViolation::InvalidMsgpack),
        (b"\x90", PeerViolation::InvalidMsgpack),
        (b"\x80\x00", PeerViolation::InvalidMsgpack),
        (b"\x81\x01\x01", PeerViolation::InvalidMsgpack),
        (b"\xdf\xff\xff\xff\xff", PeerViolation::InvalidMsgpack),
        (
            b"\x81\xa4data\xdd\xff\xff\xff\xff",
            PeerViolation::InvalidMsgpack,
        ),
        (
            b"\x81\xa4data\xc6\xff\xff\xff\xff",
            PeerViolation::InvalidMsgpack,
        ),
        (b"\x81\xa4data\xc1", PeerViolation::InvalidMsgpack),
        (b"\x80", PeerViolation::UnknownPacketType),
        (b"\x81\xa4type\x05", PeerViolation::UnknownPacketType),
        (b"\x81\xa4type\xff", PeerViolation::UnknownPacketType),
        (b"\x81\xa4type\xa11", PeerViolation::UnknownPacketType),
        (
            b"\x82\xa4type\x00\xa3nsp\xa1a",
            PeerViolation::IllegalNamespace,
        ),
        (
            b"\x82\xa4type\x00\xa3nsp\x01",
            PeerViolation::IllegalNamespace,
        ),
        (
            b"\x82\xa4type\x00\xa3nsp\xa2/\xff",
            PeerViolation::IllegalNamespace,
        ),
        (
            b"\x82\xa4type\x00\xa4data\x90",
            PeerViolation::ConnectPayload,
        ),
        (
            b"\x82\xa4type\x01\xa4data\x80",
            PeerViolation::DisconnectPayload,
        ),
        (b"\x81\xa4type\x02", PeerViolation::EventPayload),
        (b"\x82\xa4type\x02\xa4data\x80", PeerViolation::EventPayload),
        (
            b"\x82\xa4type\x02\xa4data\x90",
            PeerViolation::IllegalEventName,
        ),
        (
            b"\x82\xa4type\x02\xa4data\x91\xc3",
            PeerViolation::IllegalEventName,
        ),
        (
            b"\x82\xa4type\x02\xa4data\x91\x81\xa1a\xa1b",
            PeerViolation::IllegalEventName,
        ),
        (
            b"\x82\xa4type\x02\xa4data\x91\xa7connect",
            PeerViolation::ReservedEvent,
        ),
        (
            b"\x83\xa4type\x02\xa4data\x91\xa1x\xa2id\xff",
            PeerViolation::IllegalAckId,
        ),
        (
            b"\x83\xa4type\x02\xa4data\x91\xa1x\xa2id\xa11",
            PeerViolation::IllegalAckId,
        ),
        (b"\x82\xa4type\x03\xa4data\x90", PeerViolation::IllegalAckId),
        (b"\x82\xa4type\x03\xa2id\x01", PeerViolation::AckPayload),
    ] {
        assert_eq!(decode(bytes).unwrap_err(), violation, "{bytes:?}");
    }
}

#[test]
fn clients_2_write_packets_without_payload_as_json_text() {
    let decode = |version, text: &str| {
        let message = Message::Text(text.into());
        crate::decode::decode(Parser::Msgpack, version, &Limits::default(), message)
            .map(|head| head.packet)
    };
    let packet = decode(
        SocketioVersion::V4,
        r#"{"type":0,"nsp":"/a?b=c","options":{}}"#,
    )
    .unwrap();
    assert_eq!(packet.namespace(), "/a");
    assert_eq!(packet.query.as_deref(), Some("b=c"));
    assert!(matches!(packet.content, Content::Connect { .. }));
    let packet = decode(SocketioVersion::V4, r#"{"type":1,"nsp":"/"}"#).unwrap();
    assert!(matches!(packet.content, Content::Disconnect));
    for (version, text, violation) in [
        (SocketioVersion::V4, "{", PeerViolation::InvalidJson),
        (
            SocketioVersion::V4,
            r#"{"type":2}"#,
            PeerViolation::UnexpectedText,
        ),
        (
            SocketioVersion::V4,
            r#"{"type":9}"#,
            PeerViolation::UnknownPacketType,
        ),
        (
            SocketioVersion::V5,
            r#"{"type":0}"#,
            PeerViolation::UnexpectedText,
        ),
    ] {
        assert_eq!(decode(version, text).unwrap_err(), violation);
    }
}

#[test]
fn clients_2_number_binary_events_apart() {
    let bytes = b"\x83\xa4type\x05\xa3nsp\xa1/\xa4data\x92\xa1x\xc4\x01a";
    let packet = decode_for(SocketioVersion::V4, bytes).unwrap();
    let Content::Event { payload, .. } = packet.content else {
        panic!("an event");
    };
    let expected = Args(vec![Bytes::from("a").into()]);
    assert_eq!(payload.args().unwrap(), expected);
    assert_eq!(decode(bytes).unwrap_err(), PeerViolation::UnknownPacketType);
}

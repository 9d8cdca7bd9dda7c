//! Golden vectors: the bytes of the specification, of the official parsers and of real peers, in
//! both directions.

use bytes::Bytes;
use engineio_proto::{Encoded, Message};
use serde_json::json;
use socketio_proto::decode::decode;
use socketio_proto::packet::{Content, Packet};
use socketio_proto::{
    AckId, Args, ConnectError, Limits, Parser, SocketioVersion, Value, encode_ack, encode_connect,
    encode_connect_error, encode_disconnect, encode_event,
};

/// The messages of a packet; the packet type of Engine.IO is part of a text.
fn messages(encoded: &Encoded) -> Vec<Vec<u8>> {
    encoded
        .frames()
        .map(|frame| frame.data().to_vec())
        .collect()
}

fn text(encoded: &Encoded) -> String {
    let [head] = &messages(encoded)[..] else {
        panic!("one message: {encoded:?}");
    };
    String::from_utf8(head.clone()).unwrap()
}

fn decode_text(version: SocketioVersion, text: &str) -> Packet {
    let message = Message::Text(text.into());
    let head = decode(Parser::Json, version, &Limits::default(), message).unwrap();
    assert_eq!(head.attachments, 0);
    head.packet
}

fn decode_msgpack(bytes: &[u8]) -> Packet {
    let message = Message::Binary(Bytes::copy_from_slice(bytes));
    let limits = Limits::default();
    decode(Parser::Msgpack, SocketioVersion::V5, &limits, message)
        .unwrap()
        .packet
}

/// A packet in one line: namespace, kind, name, ack id, arguments.
fn summary(packet: &Packet) -> String {
    let namespace = packet.namespace();
    let args = |payload: &socketio_proto::Payload| {
        serde_json::to_string(&payload.args().unwrap().0).unwrap()
    };
    match &packet.content {
        Content::Connect { auth } => format!("{namespace} connect {}", args(auth)),
        Content::Disconnect => format!("{namespace} disconnect"),
        Content::Event { name, payload, ack } => {
            let ack = ack.map_or("-".to_owned(), |id| id.to_string());
            format!("{namespace} event {ack} {} {}", &**name, args(payload))
        }
        Content::Ack { id, payload } => format!("{namespace} ack {id} {}", args(payload)),
        Content::ConnectError => format!("{namespace} connect_error"),
    }
}

#[test]
fn texts_of_peers_are_read() {
    for (wire, expected) in [
        ("0", "/ connect []"),
        ("0{}", "/ connect [{}]"),
        (r#"0{"token":"123"}"#, r#"/ connect [{"token":"123"}]"#),
        ("0/admin,", "/admin connect []"),
        ("0/admin", "/admin connect []"),
        (
            r#"0/admin,{"token":"123"}"#,
            r#"/admin connect [{"token":"123"}]"#,
        ),
        ("0/,{}", "/ connect [{}]"),
        ("1", "/ disconnect"),
        ("1/admin,", "/admin disconnect"),
        ("1/admin", "/admin disconnect"),
        (r#"2["foo"]"#, r#"/ event - foo []"#),
        (r#"2["foo",1,{}]"#, r#"/ event - foo [1,{}]"#),
        (r#"2/admin,["bar"]"#, "/admin event - bar []"),
        (r#"2/admin,12["bar",null]"#, "/admin event 12 bar [null]"),
        (r#"20["foo"]"#, "/ event 0 foo []"),
        (r#"2007["foo"]"#, "/ event 7 foo []"),
        (r#"2[1,"a",{}]"#, r#"/ event - 1 ["a",{}]"#),
        (r#"2[-1.5]"#, "/ event - -1.5 []"),
        (
            r#"2["chat message","€😀"]"#,
            r#"/ event - chat message ["€😀"]"#,
        ),
        (r#"2["\ud83d\ude00\"\n",0]"#, "/ event - 😀\"\n [0]"),
        (r#"2["\\",0]"#, r#"/ event - \ [0]"#),
        ("2 [ \"x\" ,\t1 , 2 ]\n", "/ event - x [1,2]"),
        (
            r#"2["x",{"_placeholder":true,"num":9}]"#,
            r#"/ event - x [{"_placeholder":true,"num":9}]"#,
        ),
        (r#"3/admin,456["bar"]"#, r#"/admin ack 456 ["bar"]"#),
        ("30[]", "/ ack 0 []"),
        ("318446744073709551615[]", "/ ack 18446744073709551615 []"),
        (r#"50-["x",1]"#, "/ event - x [1]"),
        ("60-7[1]", "/ ack 7 [1]"),
    ] {
        let packet = decode_text(SocketioVersion::V5, wire);
        assert_eq!(summary(&packet), expected, "{wire}");
    }
}

#[test]
fn texts_of_protocol_4_peers_are_read() {
    for (wire, query, expected) in [
        ("0/test?tok=1,", Some("tok=1"), "/test connect []"),
        ("0/test?tok=1", Some("tok=1"), "/test connect []"),
        ("0/test", None, "/test connect []"),
        ("0/test,", None, "/test connect []"),
        ("0/?a=b,", Some("a=b"), "/ connect []"),
        (r#"0/test,{"ignored":1}"#, None, "/test connect []"),
        ("0/test,[]", None, "/test connect []"),
        ("1/test?tok=1,", Some("tok=1"), "/test disconnect"),
        (r#"2/test,0["ev",{}]"#, None, "/test event 0 ev [{}]"),
    ] {
        let packet = decode_text(SocketioVersion::V4, wire);
        assert_eq!(summary(&packet), expected, "{wire}");
        assert_eq!(packet.query.as_deref(), query, "{wire}");
    }
    let packet = decode_text(SocketioVersion::V5, "0/test?tok=1,");
    assert_eq!(packet.namespace(), "/test?tok=1");
}

#[test]
fn messages_of_the_official_messagepack_parser_are_read() {
    // Written by notepack.io 2.2.
    for (wire, expected) in [
        (
            &b"\x83\xa4type\x00\xa4data\xd4\x00\x00\xa3nsp\xa1/"[..],
            "/ connect []",
        ),
        (
            b"\x83\xa4type\x00\xa4data\x81\xa5token\xa3abc\xa3nsp\xa6/admin",
            r#"/admin connect [{"token":"abc"}]"#,
        ),
        (b"\x82\xa4type\x01\xa3nsp\xa6/admin", "/admin disconnect"),
        (
            b"\x85\xa4type\x02\xa4data\x93\xa3msg\xa7\xe2\x82\xac\xf0\x9f\x98\x80\x81\xa1a\xc4\x03\
              \x01\x02\x03\xa7options\x81\xa8compress\xc3\xa2id\x07\xa3nsp\xa1/",
            r#"/ event 7 msg ["€😀",{"a":[1,2,3]}]"#,
        ),
        (
            b"\x84\xa4type\x02\xa4data\x95\xa1d\xd7\x00\x00\x00\x01\x8d\xf4\xdc\x54\x95\xd4\x00\x00\
              \x93\xff\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\xcf\x00\x00\x01\x00\x00\x00\x00\x00\
              \xd7\x00\xff\xff\xff\xff\xff\xff\xff\xff\xa7options\x81\xa8compress\xc3\xa3nsp\xa1/",
            "/ event - d [\"2024-02-29T12:34:56.789Z\",null,[-1,1.5,1099511627776],\
             \"1969-12-31T23:59:59.999Z\"]",
        ),
        (
            b"\x84\xa4type\x03\xa4data\x90\xa2id\xcd\x01\x2c\xa3nsp\xa2/a",
            "/a ack 300 []",
        ),
        (
            b"\x83\xa4type\x02\xa4data\x92\xa1b\xc7\x03\x00\x01\x02\x03\xa3nsp\xa1/",
            "/ event - b [[1,2,3]]",
        ),
    ] {
        assert_eq!(summary(&decode_msgpack(wire)), expected, "{wire:02x?}");
    }
}

#[test]
fn events_and_acks_are_written_as_texts() {
    let event = |namespace, ack: Option<u64>, payload: Value| {
        let ack = ack.map(AckId::new);
        text(&encode_event(Parser::Json, namespace, ack, "a", &payload).unwrap())
    };
    assert_eq!(event("/", None, json!({}).into()), r#"42["a",{}]"#);
    assert_eq!(event("/test", Some(1), 1_u64.into()), r#"42/test,1["a",1]"#);
    assert_eq!(
        event("/", Some(0), "é\"\u{1}".into()),
        "420[\"a\",\"é\\\"\\u0001\"]"
    );
    let ack = |namespace, id, payload: Args| {
        text(&encode_ack(Parser::Json, namespace, AckId::new(id), &payload).unwrap())
    };
    assert_eq!(ack("/", 123, Args::default()), "43123[]");
    assert_eq!(
        ack("/b", 0, Args(vec!["a".into(), Value::Null])),
        r#"43/b,0["a",null]"#
    );
}

#[test]
fn binary_packets_are_a_text_and_its_attachments() {
    let nested = json!({"b": ["c"]});
    let payload = (
        Value::from(nested),
        Bytes::from("abc"),
        vec![Value::from(Bytes::from("def"))],
    );
    let encoded = encode_event(Parser::Json, "/cool", Some(AckId::new(23)), "a", &payload);
    let head: &[u8] = concat!(
        r#"452-/cool,23["a",{"b":["c"]},{"_placeholder":true,"num":0},"#,
        r#"[{"_placeholder":true,"num":1}]]"#
    )
    .as_bytes();
    assert_eq!(messages(&encoded.unwrap()), [head, b"abc", b"def"]);
    let encoded = encode_ack(Parser::Json, "/", AckId::new(127), &Bytes::from("xxx"));
    assert_eq!(
        messages(&encoded.unwrap()),
        [&br#"461-127[{"_placeholder":true,"num":0}]"#[..], b"xxx"]
    );
}

#[test]
fn connections_are_answered_in_the_words_of_each_protocol() {
    use SocketioVersion::{V4, V5};
    let connect = |version, namespace| text(&encode_connect(Parser::Json, version, namespace, "s"));
    assert_eq!(connect(V5, "/"), r#"40{"sid":"s"}"#);
    assert_eq!(connect(V5, "/admin"), r#"40/admin,{"sid":"s"}"#);
    assert_eq!(connect(V4, "/"), "40");
    assert_eq!(connect(V4, "/test"), "40/test,");

    let error = |version, namespace, error: &ConnectError| {
        text(&encode_connect_error(
            Parser::Json,
            version,
            namespace,
            error,
        ))
    };
    let unknown = ConnectError::invalid_namespace();
    let message = r#"44/nope,{"message":"Invalid namespace"}"#;
    assert_eq!(error(V5, "/nope", &unknown), message);
    assert_eq!(
        error(V4, "/nope", &unknown),
        r#"44/nope,"Invalid namespace""#
    );
    let denied = ConnectError::new("no").with_data(json!({"code": 7}));
    let both = r#"44/deny,{"message":"no","data":{"code":7}}"#;
    assert_eq!(error(V5, "/deny", &denied), both);
    assert_eq!(error(V4, "/deny", &denied), r#"44/deny,{"code":7}"#);

    assert_eq!(text(&encode_disconnect(Parser::Json, "/")), "41");
    assert_eq!(
        text(&encode_disconnect(Parser::Json, "/admin")),
        "41/admin,"
    );
}

#[test]
fn messagepack_packets_are_one_binary_message() {
    let one = |encoded: Encoded| {
        assert!(encoded.frame(0).unwrap().is_binary());
        let [message] = <[_; 1]>::try_from(messages(&encoded)).unwrap();
        message
    };
    let payload = (Bytes::from("\u{1}"), 300, json!({"a": null}));
    let encoded = encode_event(Parser::Msgpack, "/", Some(AckId::new(7)), "x", &payload);
    assert_eq!(
        one(encoded.unwrap()),
        b"\x84\xa4type\x02\xa3nsp\xa1/\xa2id\x07\xa4data\x94\xa1x\xc4\x01\x01\xcd\x01\x2c\x81\xa1a\xc0"
    );
    let encoded = encode_ack(Parser::Msgpack, "/a", AckId::new(300), &());
    assert_eq!(
        one(encoded.unwrap()),
        b"\x84\xa4type\x03\xa3nsp\xa2/a\xa2id\xcd\x01\x2c\xa4data\x90"
    );
    assert_eq!(
        one(encode_connect(
            Parser::Msgpack,
            SocketioVersion::V4,
            "/",
            "s"
        )),
        b"\x82\xa4type\x00\xa3nsp\xa1/"
    );
    assert_eq!(
        one(encode_disconnect(Parser::Msgpack, "/a")),
        b"\x82\xa4type\x01\xa3nsp\xa2/a"
    );
    let error = ConnectError::new("no").with_data(json!({"code": 7}));
    assert_eq!(
        one(encode_connect_error(
            Parser::Msgpack,
            SocketioVersion::V5,
            "/",
            &error
        )),
        b"\x83\xa4type\x04\xa3nsp\xa1/\xa4data\x82\xa7message\xa2no\xa4data\x81\xa4code\x07"
    );
    assert_eq!(
        one(encode_connect_error(
            Parser::Msgpack,
            SocketioVersion::V4,
            "/",
            &error
        )),
        b"\x83\xa4type\x04\xa3nsp\xa1/\xa4data\xa2no"
    );
}

use engineio_proto::Message;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::*;
use crate::client::Limits;
use crate::decode::decode;
use crate::packet::Content;
use crate::{Parser, SocketioVersion, encode_event};

/// The payload of an event, decoded by each parser.
fn payloads<T: Serialize>(sent: &T) -> [Payload; 2] {
    [Parser::Json, Parser::Msgpack].map(|parser| {
        let encoded = encode_event(parser, "/", None, "name", sent).unwrap();
        let mut frames = encoded.frames().map(|frame| frame.data().to_vec());
        let first = frames.next().unwrap();
        let message = match parser {
            Parser::Json => Message::Text(String::from_utf8(first).unwrap()[1..].into()),
            Parser::Msgpack => Message::Binary(first.into()),
        };
        let head = decode(parser, SocketioVersion::V5, &Limits::default(), message).unwrap();
        let Content::Event { payload, .. } = head.packet.content else {
            panic!("an event");
        };
        match head.attachments {
            0 => payload,
            _ => payload.with_attachments(frames.map(Into::into).collect()),
        }
    })
}

fn json(text: &str) -> Payload {
    let message = Message::Text(text.into());
    let head = decode(
        Parser::Json,
        SocketioVersion::V5,
        &Limits::default(),
        message,
    );
    match head.unwrap().packet.content {
        Content::Event { payload, .. } | Content::Ack { payload, .. } => payload,
        Content::Connect { auth } => auth,
        Content::Disconnect | Content::ConnectError => panic!("no payload"),
    }
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Named {
    id: u64,
    #[serde(default)]
    note: Option<String>,
    data: Bytes,
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Choice {
    Bare,
    One(u8),
    Two(u8, u8),
    Named { a: serde_bytes::ByteBuf },
}

#[test]
fn tuples_take_arguments_by_position() {
    for payload in payloads(&(1, "two", vec![3])) {
        let all: (u8, String, Vec<u8>) = payload.decode().unwrap();
        assert_eq!(all, (1, "two".to_owned(), vec![3]));
        assert_eq!(payload.decode::<(u8,)>().unwrap(), (1,));
        assert_eq!(payload.decode::<u8>().unwrap(), 1);
        payload.decode::<()>().unwrap();
        let more: (u8, String, Vec<u8>, Option<u8>) = payload.decode().unwrap();
        assert_eq!(more.3, None);
        let args: Args = payload.decode().unwrap();
        assert_eq!(args, payload.args().unwrap());
        assert_eq!(args.0.len(), 3);
        payload.decode::<(u8, u8)>().unwrap_err();
        payload.decode::<(u8, String, Vec<u8>, u8)>().unwrap_err();
    }
}

#[test]
fn a_missing_argument_is_null() {
    for payload in payloads(&()) {
        assert!(payload.is_empty());
        assert_eq!(payload.decode::<Option<u8>>().unwrap(), None);
        assert_eq!(payload.decode::<Value>().unwrap(), Value::Null);
        assert_eq!(payload.decode::<Args>().unwrap(), Args::default());
        payload.decode::<()>().unwrap();
        payload.decode::<u8>().unwrap_err();
    }
}

#[test]
fn binary_data_goes_into_typed_payloads() {
    let named = Named {
        id: 7,
        note: Some("€😀".to_owned()),
        data: Bytes::from_static(b"\x00\xff"),
    };
    for payload in payloads(&named) {
        assert_eq!(payload.decode::<Named>().unwrap(), named);
    }
    let pair = (Bytes::from_static(b"a"), serde_bytes::ByteBuf::from("b"));
    for payload in payloads(&pair) {
        assert_eq!(
            payload.decode::<(Bytes, serde_bytes::ByteBuf)>().unwrap(),
            pair
        );
    }
}

#[test]
fn enums_are_read_by_both_parsers_with_and_without_binary() {
    for choice in [
        Choice::Bare,
        Choice::One(1),
        Choice::Two(1, 2),
        Choice::Named {
            a: serde_bytes::ByteBuf::from("a"),
        },
    ] {
        // The binary beside it takes the other way through the JSON parser.
        for payload in payloads(&(&choice, Bytes::from_static(b"x"))) {
            assert_eq!(payload.decode::<Choice>().unwrap(), choice);
        }
        for payload in payloads(&(&choice,)) {
            assert_eq!(payload.decode::<Choice>().unwrap(), choice);
        }
    }
}

#[test]
fn binary_data_of_values_shares_memory_with_the_message() {
    for payload in payloads(&Value::Binary(Bytes::from(vec![7; 100]))) {
        let (first, second) = (payload.args().unwrap(), payload.args().unwrap());
        match (&first.0[0], &second.0[0]) {
            (Value::Binary(one), Value::Binary(two)) => assert_eq!(one.as_ptr(), two.as_ptr()),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn raw_json_is_the_list_of_arguments() {
    assert_eq!(json(r#"2["x"]"#).raw_json(), Some(""));
    assert_eq!(json(r#"2["x",1]"#).raw_json(), Some("1"));
    assert_eq!(
        json(r#"2[ "x" , 1 , {"a": 2} ] "#).raw_json(),
        Some(r#"1 , {"a": 2}"#)
    );
    assert_eq!(json("30[]").raw_json(), Some(""));
    assert_eq!(json("30[ 1 ]").raw_json(), Some("1"));
    assert_eq!(json(r#"0{"a":1}"#).raw_json(), Some(r#"{"a":1}"#));
    assert!(json("30[ ]").is_empty());
    assert!(!json("30[ 1 ]").is_empty());
}

#[test]
fn arguments_with_white_space_are_read() {
    let payload = json(r#"2[ "x" , 1 , 2 ]"#);
    assert_eq!(payload.decode::<(u8, u8)>().unwrap(), (1, 2));
    assert_eq!(json("30[ 1 , 2 ]").decode::<(u8, u8)>().unwrap(), (1, 2));
}

#[test]
fn raw_values_are_cut_out_of_json() {
    let payload = json(r#"2["x",{"a":1e2},3]"#);
    let raw: Box<RawValue> = payload.decode().unwrap();
    assert_eq!(raw.get(), r#"{"a":1e2}"#);
}

#[test]
fn a_payload_can_be_passed_on() {
    for payload in payloads(&(1, Bytes::from_static(b"x"))) {
        for passed in payloads(&payload) {
            assert_eq!(passed.args().unwrap(), payload.args().unwrap());
        }
    }
}

#[test]
fn nesting_beyond_the_limit_is_an_error_and_not_an_overflow() {
    let deep = format!("2[\"x\",{}{}]", "[".repeat(100_000), "]".repeat(100_000));
    let payload = json(&deep);
    payload.args().unwrap_err();
    payload.decode::<Value>().unwrap_err();
    assert!(payload.raw_json().is_some());
}

#[test]
fn auth_data_is_one_argument() {
    #[derive(Debug, Deserialize, PartialEq)]
    struct Auth {
        token: String,
    }
    let auth = json(r#"0{"token":"x"}"#);
    assert_eq!(auth.decode::<Auth>().unwrap().token, "x");
    assert_eq!(auth.decode::<(Auth,)>().unwrap().0.token, "x");
    assert_eq!(json("0").decode::<Option<Auth>>().unwrap(), None);
}

#[test]
fn values_made_here_are_read_like_those_that_arrived() {
    let payload = Payload::from_args(Args(vec![1_u64.into(), "b".into()]));
    assert_eq!(
        payload.decode::<(u8, String)>().unwrap(),
        (1, "b".to_owned())
    );
    assert!(Payload::from_args(Args::default()).is_empty());
}

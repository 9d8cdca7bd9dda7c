use bytes::Bytes;
use serde::{Serialize, Serializer};

use super::*;
use crate::value::{Args, Value};

fn json<T: Serialize + ?Sized>(payload: &T) -> String {
    let encoded = encode_event(Parser::Json, "/", None, "x", payload).unwrap();
    String::from_utf8(encoded.frame(0).unwrap().data().to_vec()).unwrap()
}

#[derive(Serialize)]
struct Wrapper<T>(T);
#[derive(Serialize)]
struct Pair(u8, u8);
#[derive(Serialize)]
struct Nothing;
#[derive(Serialize)]
struct Named {
    a: u8,
}
#[derive(Serialize)]
enum Choice {
    Bare,
    One(u8),
    Two(u8, u8),
    Named { a: u8 },
}

#[test]
fn tuples_are_several_arguments_and_all_else_is_one() {
    assert_eq!(json(&()), r#"42["x"]"#);
    assert_eq!(json(&Nothing), r#"42["x"]"#);
    assert_eq!(json(&(1, "b")), r#"42["x",1,"b"]"#);
    assert_eq!(json(&Pair(1, 2)), r#"42["x",1,2]"#);
    assert_eq!(json(&[1, 2]), r#"42["x",1,2]"#);
    assert_eq!(json(&Wrapper((1, 2))), r#"42["x",1,2]"#);
    assert_eq!(json(&((1, 2), ())), r#"42["x",[1,2],null]"#);
    assert_eq!(
        json(&Args(vec![true.into(), Value::Null])),
        r#"42["x",true,null]"#
    );
    assert_eq!(json(&vec![1, 2]), r#"42["x",[1,2]]"#);
    assert_eq!(json("text"), r#"42["x","text"]"#);
    assert_eq!(json(&None::<u8>), r#"42["x",null]"#);
    assert_eq!(json(&Some((1, 2))), r#"42["x",[1,2]]"#);
    assert_eq!(json(&Value::Null), r#"42["x",null]"#);
    assert_eq!(json(&Named { a: 1 }), r#"42["x",{"a":1}]"#);
    assert_eq!(json(&Choice::Bare), r#"42["x","Bare"]"#);
    assert_eq!(json(&Choice::One(1)), r#"42["x",{"One":1}]"#);
    assert_eq!(json(&Choice::Two(1, 2)), r#"42["x",{"Two":[1,2]}]"#);
    assert_eq!(
        json(&Choice::Named { a: 1 }),
        r#"42["x",{"Named":{"a":1}}]"#
    );
    assert_eq!(json(&format_args!("{}", 1)), r#"42["x","1"]"#);
}

#[test]
fn everything_that_serde_calls_bytes_becomes_an_attachment() {
    let payload = (
        Bytes::from_static(b"a"),
        serde_bytes::Bytes::new(b"b"),
        Value::Array(vec![Value::Binary(Bytes::from_static(b"c"))]),
    );
    let encoded = encode_ack(Parser::Json, "/a", AckId::new(7), &payload).unwrap();
    let frames: Vec<&[u8]> = encoded.frames().map(|frame| frame.data()).collect();
    let head: &[u8] = concat!(
        r#"463-/a,7[{"_placeholder":true,"num":0},"#,
        r#"{"_placeholder":true,"num":1},[{"_placeholder":true,"num":2}]]"#
    )
    .as_bytes();
    assert_eq!(frames, [head, b"a", b"b", b"c"]);
    assert!(frames[0].len() == encoded.frame(0).unwrap().data().len());
}

#[test]
fn reserved_names_are_not_sent() {
    let error = encode_event(Parser::Json, "/", None, "connect", &()).unwrap_err();
    assert_eq!(error.to_string(), "event name `connect` is reserved");
}

/// Announces two elements and writes what it is told to, or fails.
struct Liar {
    writes: usize,
    fails: bool,
}

impl Serialize for Liar {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::{Error, SerializeTuple};
        let mut tuple = serializer.serialize_tuple(2)?;
        for _ in 0..self.writes {
            tuple.serialize_element(&1)?;
        }
        if self.fails {
            return Err(S::Error::custom("on purpose"));
        }
        tuple.end()
    }
}

#[test]
fn a_payload_that_lies_or_fails_is_not_sent() {
    for parser in [Parser::Json, Parser::Msgpack] {
        let lie = Liar {
            writes: 1,
            fails: false,
        };
        let error = encode_event(parser, "/", None, "x", &lie).unwrap_err();
        assert!(
            matches!(error, EncodeError::ArgumentCount { .. }),
            "{error}"
        );
        let failure = Liar {
            writes: 1,
            fails: true,
        };
        let error = encode_event(parser, "/", None, "x", &failure).unwrap_err();
        assert!(
            matches!(error, EncodeError::Json(_) | EncodeError::Msgpack(_)),
            "{error}"
        );
    }
}

#[test]
fn types_with_a_text_form_use_it_with_both_parsers() {
    let address = std::net::Ipv4Addr::LOCALHOST;
    assert_eq!(json(&address), r#"42["x","127.0.0.1"]"#);
    let encoded = encode_ack(Parser::Msgpack, "/", AckId::new(0), &address).unwrap();
    assert!(encoded.frame(0).unwrap().data().ends_with(b"\xa9127.0.0.1"));
}

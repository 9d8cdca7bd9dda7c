//! Whatever is encoded is decoded to the same, by both parsers.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use engineio_proto::{Encoded, Message};
use proptest::prelude::*;
use socketio_proto::{
    AckId, Args, Client, ClientConfig, ClientEvent, Limits, Parser, Payload, SocketioVersion,
    Value, encode_ack, encode_event,
};

#[expect(
    clippy::disallowed_methods,
    reason = "an instant cannot be made out of nothing; tests only add to this one"
)]
fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

/// Finite numbers only: JSON has no others.
fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1e9..1e9).prop_map(|number: f64| Value::from(number.trunc() + 0.5)),
        any::<String>().prop_map(Value::from),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|data| Value::Binary(Bytes::from(data))),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::btree_map("[a-z€😀\"\\\\]{0,6}", inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn args() -> impl Strategy<Value = Args> {
    prop::collection::vec(value(), 0..5).prop_map(Args)
}

fn namespace() -> impl Strategy<Value = String> {
    prop_oneof![Just("/".to_owned()), "/[a-z0-9?#/€-]{1,12}"]
}

/// A peer that has joined `namespace` and may send any number of attachments.
fn joined(parser: Parser, namespace: &str) -> Client<()> {
    let config = ClientConfig {
        parser,
        limits: Limits {
            max_attachments: usize::MAX,
            ..Limits::default()
        },
        ..ClientConfig::default()
    };
    let mut client = Client::new(start(), Arc::new(config), SocketioVersion::V5);
    // A namespace has the shape of a CONNECT for both parsers.
    let connect = match parser {
        Parser::Json => Message::Text(format!("0{namespace},").into()),
        Parser::Msgpack => {
            let len = u8::try_from(namespace.len()).unwrap();
            let bytes = [
                &b"\x82\xa4type\x00\xa3nsp\xd9"[..],
                &[len],
                namespace.as_bytes(),
            ]
            .concat();
            Message::Binary(bytes.into())
        }
    };
    client.handle_message(start(), connect).unwrap();
    client.accept(namespace, "sid").unwrap();
    while client.poll_event().is_some() {}
    client
}

/// Hands over a packet as if the peer had sent it.
fn deliver(client: &mut Client<()>, packet: &Encoded) {
    for frame in packet.frames() {
        let message = match frame.is_binary() {
            true => Message::Binary(Bytes::copy_from_slice(frame.data())),
            false => Message::Text(std::str::from_utf8(&frame.data()[1..]).unwrap().into()),
        };
        client.handle_message(start(), message).unwrap();
    }
}

fn check_arguments(payload: &Payload, sent: &Args) {
    assert_eq!(&payload.args().unwrap(), sent);
    assert_eq!(&payload.decode::<Args>().unwrap(), sent);
    let padded = |index: usize| sent.0.get(index).cloned().unwrap_or_default();
    assert_eq!(payload.decode::<Value>().unwrap(), padded(0));
    assert_eq!(
        payload.decode::<(Value, Value)>().unwrap(),
        (padded(0), padded(1))
    );
    assert_eq!(payload.is_empty(), sent.0.is_empty());
    if let Some(json) = payload.raw_json() {
        serde_json::from_str::<serde_json::Value>(&format!("[{json}]")).unwrap();
    }
}

fn parser() -> impl Strategy<Value = Parser> {
    prop_oneof![Just(Parser::Json), Just(Parser::Msgpack)]
}

proptest! {
    #[test]
    fn events_survive_the_way(
        parser in parser(),
        namespace in namespace(),
        event in "[a-zA-Z €😀\"\\\\]{0,12}",
        ack in prop::option::of(any::<u64>().prop_map(AckId::new)),
        args in args(),
    ) {
        prop_assume!(!socketio_proto::is_reserved_event(&event));
        let encoded = encode_event(parser, &namespace, ack, &event, &args).unwrap();
        let mut client = joined(parser, &namespace);
        deliver(&mut client, &encoded);
        let Some(ClientEvent::Event { namespace: n, name, payload, ack: a }) = client.poll_event()
        else {
            panic!("an event");
        };
        prop_assert_eq!((&*n, &*name, a), (&*namespace, &*event, ack));
        check_arguments(&payload, &args);
        prop_assert!(client.poll_event().is_none());
    }

    #[test]
    fn acks_survive_the_way(parser in parser(), id in any::<u64>(), args in args()) {
        let id = AckId::new(id);
        let encoded = encode_ack(parser, "/", id, &args).unwrap();
        let mut client = joined(parser, "/");
        client.expect_ack("/", id, None, ()).unwrap();
        deliver(&mut client, &encoded);
        let Some(ClientEvent::Ack { payload, .. }) = client.poll_event() else {
            panic!("an ack");
        };
        check_arguments(&payload, &args);
    }

    #[test]
    fn what_is_passed_on_is_the_same(from in parser(), to in parser(), args in args()) {
        let first = encode_event(from, "/", None, "x", &args).unwrap();
        let mut client = joined(from, "/");
        deliver(&mut client, &first);
        let Some(ClientEvent::Event { payload, .. }) = client.poll_event() else {
            panic!("an event");
        };
        let direct = encode_event(to, "/", None, "x", &args).unwrap();
        let passed = encode_event(to, "/", None, "x", &payload).unwrap();
        let bytes = |encoded: &Encoded| -> Vec<Vec<u8>> {
            encoded.frames().map(|frame| frame.data().to_vec()).collect()
        };
        prop_assert_eq!(bytes(&direct), bytes(&passed));
    }
}

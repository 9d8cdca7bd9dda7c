//! Peers that mean harm: no bytes cause a panic, limits hold, nothing accumulates.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use engineio_proto::Message;
use proptest::prelude::*;
use socketio_proto::{
    Client, ClientConfig, ClientEvent, Limits, Parser, PeerViolation, SocketioVersion, Value,
};

#[expect(
    clippy::disallowed_methods,
    reason = "an instant cannot be made out of nothing; tests only add to this one"
)]
fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

/// A peer that has joined `/`.
fn joined(parser: Parser, version: SocketioVersion) -> Client<()> {
    let config = ClientConfig {
        parser,
        ..ClientConfig::default()
    };
    let mut client = Client::new(start(), Arc::new(config), version);
    if version == SocketioVersion::V5 {
        let connect = match parser {
            Parser::Json => Message::Text("0".into()),
            Parser::Msgpack => Message::Binary(Bytes::from_static(b"\x81\xa4type\x00")),
        };
        client.handle_message(start(), connect).unwrap();
    }
    client.accept("/", "sid").unwrap();
    while client.poll_event().is_some() {}
    client
}

fn json_client() -> Client<()> {
    joined(Parser::Json, SocketioVersion::V5)
}

fn send(client: &mut Client<()>, text: &str) -> Result<(), PeerViolation> {
    client.handle_message(start(), Message::Text(text.into()))
}

fn attach(client: &mut Client<()>, data: &[u8]) -> Result<(), PeerViolation> {
    client.handle_message(start(), Message::Binary(Bytes::copy_from_slice(data)))
}

/// Reads everything there is to read, as handlers would.
fn drain(client: &mut Client<()>) -> usize {
    let mut events = 0;
    while let Some(event) = client.poll_event() {
        events += 1;
        match event {
            ClientEvent::Event { payload, .. } | ClientEvent::Ack { payload, .. } => {
                let _ = (payload.args(), payload.decode::<(Value, Value)>());
                let _ = (
                    payload.decode::<Value>(),
                    payload.raw_json(),
                    payload.len_bytes(),
                );
                let _ = (payload.is_empty(), format!("{payload:?}"));
            }
            ClientEvent::Connect {
                auth, namespace, ..
            } => {
                let _ = (auth.args(), client.accept(&namespace, "sid"));
            }
            ClientEvent::AckTimeout { .. }
            | ClientEvent::AckLost { .. }
            | ClientEvent::Disconnect { .. }
            | ClientEvent::ConnectTimeout
            | ClientEvent::AttachmentTimeout => {}
        }
    }
    events
}

/// Packets that a decoder must refuse, and why.
const REFUSED: &[(&str, PeerViolation)] = &[
    ("", PeerViolation::UnknownPacketType),
    ("abc", PeerViolation::UnknownPacketType),
    ("7", PeerViolation::UnknownPacketType),
    ("999", PeerViolation::UnknownPacketType),
    ("-1", PeerViolation::UnknownPacketType),
    ("é", PeerViolation::UnknownPacketType),
    // The official acceptance suite.
    ("2{}", PeerViolation::EventPayload),
    (
        r#"2abc["message-with-ack","foo","bar"]"#,
        PeerViolation::InvalidJson,
    ),
    // The tests of the official parser.
    ("5", PeerViolation::IllegalAttachmentCount),
    (
        r#"442["some","data""#,
        PeerViolation::ConnectErrorFromClient,
    ),
    (r#"0/admin,"invalid""#, PeerViolation::ConnectPayload),
    ("0/x,[]", PeerViolation::ConnectPayload),
    ("0/x,null", PeerViolation::ConnectPayload),
    ("0/x,{", PeerViolation::InvalidJson),
    ("1/admin,{}", PeerViolation::DisconnectPayload),
    ("1null", PeerViolation::DisconnectPayload),
    ("1/,[]", PeerViolation::DisconnectPayload),
    (r#"2/admin,"invalid"#, PeerViolation::InvalidJson),
    ("2/admin,{}", PeerViolation::EventPayload),
    (r#"2[{"toString":"foo"}]"#, PeerViolation::IllegalEventName),
    (r#"2[true,"foo"]"#, PeerViolation::IllegalEventName),
    (r#"2[null,"bar"]"#, PeerViolation::IllegalEventName),
    ("2[[]]", PeerViolation::IllegalEventName),
    ("2[]", PeerViolation::IllegalEventName),
    (r#"2["connect"]"#, PeerViolation::ReservedEvent),
    (r#"2["disconnect","123"]"#, PeerViolation::ReservedEvent),
    (r#"2["disconnectin\u0067"]"#, PeerViolation::ReservedEvent),
    (r#"2["newListener"]"#, PeerViolation::ReservedEvent),
    // Nothing where an array has to be.
    ("2", PeerViolation::EventPayload),
    ("21", PeerViolation::EventPayload),
    ("2/", PeerViolation::EventPayload),
    ("2/,1", PeerViolation::EventPayload),
    ("2\"x\"", PeerViolation::EventPayload),
    ("3", PeerViolation::IllegalAckId),
    ("31", PeerViolation::AckPayload),
    ("31{}", PeerViolation::AckPayload),
    ("3[]", PeerViolation::IllegalAckId),
    (r#"3-1[]"#, PeerViolation::IllegalAckId),
    // Ids that are no integer of 64 bits.
    (r#"2-1["x"]"#, PeerViolation::InvalidJson),
    (r#"21.5["x"]"#, PeerViolation::InvalidJson),
    (r#"218446744073709551616["x"]"#, PeerViolation::IllegalAckId),
    // Something after the array.
    (r#"2["x"]["y"]"#, PeerViolation::InvalidJson),
    (r#"2["x"]]"#, PeerViolation::InvalidJson),
    (r#"2["x",]"#, PeerViolation::InvalidJson),
    (r#"2["x" 1]"#, PeerViolation::InvalidJson),
    (r#"2["\x"]"#, PeerViolation::InvalidJson),
    (r#"2["\ud83d"]"#, PeerViolation::IllegalEventName),
    // Attachments: counts.
    (r#"5["x"]"#, PeerViolation::IllegalAttachmentCount),
    (r#"5-["x"]"#, PeerViolation::IllegalAttachmentCount),
    (r#"51["x"]"#, PeerViolation::IllegalAttachmentCount),
    (r#"5-1-["x"]"#, PeerViolation::IllegalAttachmentCount),
    (r#"51.5-["x"]"#, PeerViolation::IllegalAttachmentCount),
    (r#"5a-["x"]"#, PeerViolation::IllegalAttachmentCount),
    (r#"5 1-["x"]"#, PeerViolation::IllegalAttachmentCount),
    (r#"51e1-["x"]"#, PeerViolation::IllegalAttachmentCount),
    (r#"511-["x"]"#, PeerViolation::TooManyAttachments),
    (r#"5999999-["x"]"#, PeerViolation::TooManyAttachments),
    (
        r#"599999999999999999999999999-["x"]"#,
        PeerViolation::TooManyAttachments,
    ),
    ("611-1[]", PeerViolation::TooManyAttachments),
    // Attachments: placeholders.
    (
        r#"51-["hello",{"_placeholder":true,"num":"splice"}]"#,
        PeerViolation::IllegalPlaceholder,
    ),
    (
        r#"51-["hello",{"_placeholder":true,"num":1}]"#,
        PeerViolation::IllegalPlaceholder,
    ),
    (
        r#"51-["hello",{"_placeholder":true,"num":-1}]"#,
        PeerViolation::IllegalPlaceholder,
    ),
    (
        r#"51-["hello",{"_placeholder":true,"num":0.5}]"#,
        PeerViolation::IllegalPlaceholder,
    ),
    (
        r#"51-["hello",{"_placeholder":true,"num":null}]"#,
        PeerViolation::IllegalPlaceholder,
    ),
    (
        r#"51-["hello",{"_placeholder":true}]"#,
        PeerViolation::IllegalPlaceholder,
    ),
    (
        r#"51-["hello",[{"a":{"num":7,"_placeholder":true}}]]"#,
        PeerViolation::IllegalPlaceholder,
    ),
    (
        r#"50-["hello",{"_placeholder":true,"num":0}]"#,
        PeerViolation::IllegalPlaceholder,
    ),
    (
        r#"61-1[{"_placeholder":true,"num":1}]"#,
        PeerViolation::IllegalPlaceholder,
    ),
];

#[test]
fn packets_that_the_official_parser_refuses_are_refused() {
    for &(text, violation) in REFUSED {
        assert_eq!(send(&mut json_client(), text), Err(violation), "{text}");
    }
}

#[test]
fn names_are_limited() {
    let name = "n".repeat(1025);
    for text in [
        format!(r#"2["{name}"]"#),
        format!("0/{name},"),
        format!(r#"2/{name},["x"]"#),
        format!("2[{}]", "1".repeat(1025)),
    ] {
        let result = send(&mut json_client(), &text);
        assert_eq!(result, Err(PeerViolation::NameTooLong));
    }
}

#[test]
fn a_binary_event_without_attachments_does_not_accumulate_binary_messages() {
    for text in [r#"50-["x"]"#, "60-0[]"] {
        let mut client = json_client();
        send(&mut client, text).unwrap();
        for _ in 0..1000 {
            let result = attach(&mut client, b"x");
            assert_eq!(result, Err(PeerViolation::UnexpectedBinary));
        }
        assert_eq!(client.poll_timeout(), None);
    }
}

#[test]
fn attachments_are_not_kept_for_a_peer_that_joined_nothing() {
    let config = Arc::new(ClientConfig::default());
    let mut client: Client<()> = Client::new(start(), config, SocketioVersion::V5);
    assert_eq!(
        send(&mut client, r#"510-["x"]"#),
        Err(PeerViolation::NotConnected)
    );
    send(&mut client, "0").unwrap();
    assert_eq!(
        send(&mut client, r#"510-["x"]"#),
        Err(PeerViolation::NotJoined)
    );
}

#[test]
fn attachments_are_limited_in_bytes_whatever_their_number() {
    let config = ClientConfig {
        limits: Limits {
            max_packet_bytes: 1000,
            ..Limits::default()
        },
        ..ClientConfig::default()
    };
    let mut client: Client<()> = Client::new(start(), Arc::new(config), SocketioVersion::V5);
    send(&mut client, "0").unwrap();
    client.accept("/", "sid").unwrap();
    send(&mut client, r#"510-["x"]"#).unwrap();
    attach(&mut client, &[0; 500]).unwrap();
    let result = attach(&mut client, &[0; 500]);
    assert_eq!(result, Err(PeerViolation::PacketTooLarge));
}

#[test]
fn the_limit_of_attachments_can_be_raised() {
    let config = ClientConfig {
        limits: Limits {
            max_attachments: 11,
            ..Limits::default()
        },
        ..ClientConfig::default()
    };
    let mut client: Client<()> = Client::new(start(), Arc::new(config), SocketioVersion::V5);
    send(&mut client, "0").unwrap();
    client.accept("/", "sid").unwrap();
    send(&mut client, r#"511-["x"]"#).unwrap();
    for _ in 0..11 {
        attach(&mut client, b"x").unwrap();
    }
    assert_eq!(drain(&mut client), 2);
}

#[test]
fn no_nesting_overflows_the_stack() {
    const DEPTH: usize = 1_000_000;
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let nested = [open.repeat(DEPTH), "1".to_owned(), close.repeat(DEPTH)].concat();
        for text in [
            format!(r#"2["x",{nested}]"#),
            format!(r#"50-["x",{nested}]"#),
            format!("30[{nested}]"),
            format!(r#"0/deep,{{"a":{nested}}}"#),
        ] {
            let mut client = json_client();
            send(&mut client, &text).unwrap();
            drain(&mut client);
        }
        let unclosed = format!(r#"2["x",{}"#, open.repeat(DEPTH));
        assert_eq!(
            send(&mut json_client(), &unclosed),
            Err(PeerViolation::InvalidJson)
        );
    }
    let mut deep = b"\x82\xa4type\x02\xa4data\x92\xa1x".to_vec();
    deep.extend(std::iter::repeat_n(0x91, DEPTH));
    deep.push(0xc0);
    let mut client = joined(Parser::Msgpack, SocketioVersion::V5);
    attach(&mut client, &deep).unwrap();
    assert_eq!(drain(&mut client), 1);
}

#[test]
fn namespaces_cannot_be_collected() {
    let mut client = json_client();
    let result = (0..200).try_for_each(|number| send(&mut client, &format!("0/{number},")));
    assert_eq!(result, Err(PeerViolation::TooManyNamespaces));
}

/// Texts that look like packets more often than random ones do.
fn packet_like() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("2".to_owned()),
        Just("51-".to_owned()),
        Just("3".to_owned()),
        Just("/a,".to_owned()),
        Just("0/a,".to_owned()),
        Just("[".to_owned()),
        Just("]".to_owned()),
        Just("\"x\"".to_owned()),
        Just(",".to_owned()),
        Just("{\"_placeholder\":true,\"num\":0}".to_owned()),
        Just("\\".to_owned()),
        Just("\u{e9}".to_owned()),
        "[0-9]{1,3}",
        any::<String>(),
    ];
    prop::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn no_texts_cause_a_panic(
        texts in prop::collection::vec(packet_like(), 1..6),
        data in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        for version in [SocketioVersion::V4, SocketioVersion::V5] {
            for parser in [Parser::Json, Parser::Msgpack] {
                let mut client = joined(parser, version);
                for text in &texts {
                    let _ = send(&mut client, text);
                    let _ = attach(&mut client, &data);
                    drain(&mut client);
                }
            }
        }
    }

    #[test]
    fn no_messagepack_causes_a_panic(
        head in prop::sample::select(vec![
            &b""[..],
            b"\x82\xa4type\x02\xa4data",
            b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x92\xa1x",
            b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x92\xa1x\xc7",
            b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x92\xa1x\xd7",
            b"\x83\xa4type\x03\xa2id\x01\xa4data",
            b"\x82\xa4type\x00\xa4data",
        ]),
        tail in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        for version in [SocketioVersion::V4, SocketioVersion::V5] {
            let mut client = joined(Parser::Msgpack, version);
            let _ = attach(&mut client, &[head, &tail].concat());
            drain(&mut client);
        }
    }
}

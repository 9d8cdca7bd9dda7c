use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::{Args, Parser, Value};

/// The moment at which the virtual clock of a test begins.
#[expect(
    clippy::disallowed_methods,
    reason = "an instant cannot be made out of nothing; tests only add to this one"
)]
pub(crate) fn start() -> Instant {
    use std::sync::OnceLock;
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

fn seconds(seconds: u64) -> Instant {
    start() + Duration::from_secs(seconds)
}

fn client_with(version: SocketioVersion, config: ClientConfig) -> Client<&'static str> {
    Client::new(start(), Arc::new(config), version)
}

fn client() -> Client<&'static str> {
    client_with(SocketioVersion::V5, ClientConfig::default())
}

/// A peer of protocol 5 that joined `/` and `/a`.
fn joined() -> Client<&'static str> {
    let mut client = client();
    text(&mut client, "0").unwrap();
    text(&mut client, "0/a,").unwrap();
    client.accept("/", "root").unwrap();
    client.accept("/a", "a").unwrap();
    events(&mut client);
    client
}

fn text<A>(client: &mut Client<A>, packet: &str) -> Result<(), PeerViolation> {
    client.handle_message(start(), Message::Text(packet.into()))
}

fn binary<A>(client: &mut Client<A>, data: &'static [u8]) -> Result<(), PeerViolation> {
    client.handle_message(start(), Message::Binary(Bytes::from_static(data)))
}

fn events(client: &mut Client<&'static str>) -> Vec<String> {
    std::iter::from_fn(|| client.poll_event())
        .map(|event| match event {
            ClientEvent::Connect {
                namespace,
                query,
                auth,
            } => format!("connect {namespace} {query:?} {auth:?}"),
            ClientEvent::Event {
                namespace,
                name,
                payload,
                ack,
            } => format!("event {namespace} {name:?} {payload:?} {ack:?}"),
            ClientEvent::Ack {
                namespace,
                payload,
                sink,
            } => format!("ack {namespace} {payload:?} {sink}"),
            ClientEvent::AckTimeout { sink } => format!("ack timeout {sink}"),
            ClientEvent::AckLost { sink } => format!("ack lost {sink}"),
            ClientEvent::Disconnect { namespace } => format!("disconnect {namespace}"),
            ClientEvent::ConnectTimeout => "connect timeout".to_owned(),
            ClientEvent::AttachmentTimeout => "attachment timeout".to_owned(),
        })
        .collect()
}

fn wire(encoded: Option<Encoded>) -> String {
    let encoded = encoded.expect("a packet");
    String::from_utf8(encoded.frame(0).unwrap().data().to_vec()).unwrap()
}

#[test]
fn a_peer_of_protocol_5_asks_for_every_namespace() {
    let mut client = client();
    assert!(events(&mut client).is_empty());
    text(&mut client, "0").unwrap();
    text(&mut client, r#"0/admin,{"token":"x"}"#).unwrap();
    assert_eq!(
        events(&mut client),
        [
            "connect / None Payload()",
            r#"connect /admin None Payload({"token":"x"})"#
        ]
    );
    assert_eq!(wire(client.accept("/", "abc")), r#"40{"sid":"abc"}"#);
    assert_eq!(
        wire(client.refuse("/admin", &ConnectError::new("no"))),
        r#"44/admin,{"message":"no"}"#
    );
    assert_eq!(
        client.joined().collect::<Vec<_>>(),
        [&NamespaceName::root()]
    );
}

#[test]
fn a_peer_of_protocol_4_is_in_the_root_without_asking() {
    let mut client = client_with(SocketioVersion::V4, ClientConfig::default());
    assert_eq!(events(&mut client), ["connect / None Payload()"]);
    assert_eq!(wire(client.accept("/", "abc")), "40");
    text(&mut client, "0/test?tok=1,").unwrap();
    text(&mut client, "0/other").unwrap();
    assert_eq!(
        events(&mut client),
        [
            r#"connect /test Some("tok=1") Payload()"#,
            "connect /other None Payload()"
        ]
    );
    assert_eq!(wire(client.accept("/test", "/test#abc")), "40/test,");
    let error = ConnectError::new("no").with_data(7_u64);
    assert_eq!(wire(client.refuse("/other", &error)), "44/other,7");
}

#[test]
fn connect_to_the_root_is_harmless_from_protocol_4() {
    let mut client = client_with(SocketioVersion::V4, ClientConfig::default());
    text(&mut client, "0").unwrap();
    client.accept("/", "abc").unwrap();
    text(&mut client, "0/?a=b,").unwrap();
    assert_eq!(events(&mut client).len(), 1);
    assert_eq!(client.stats().repeated_connects, 2);
}

#[test]
fn nothing_is_allowed_before_the_first_connect() {
    for packet in [r#"2["x"]"#, "1", "30[]", r#"51-["x"]"#, r#"2/a,["x"]"#] {
        assert_eq!(
            text(&mut client(), packet),
            Err(PeerViolation::NotConnected)
        );
    }
}

#[test]
fn a_namespace_that_was_not_joined_takes_nothing() {
    for packet in [r#"2/b,["x"]"#, "1/b,", "3/b,0[]", r#"51-/b,["x"]"#] {
        assert_eq!(text(&mut joined(), packet), Err(PeerViolation::NotJoined));
    }
}

#[test]
fn a_pending_namespace_takes_no_events_yet() {
    let mut client = joined();
    text(&mut client, "0/b,").unwrap();
    assert_eq!(
        text(&mut client, r#"2/b,["x"]"#),
        Err(PeerViolation::NotJoined)
    );
}

#[test]
fn a_joined_namespace_is_not_joined_again() {
    let mut client = joined();
    assert_eq!(text(&mut client, "0"), Err(PeerViolation::AlreadyJoined));
    assert_eq!(text(&mut client, "0/a"), Err(PeerViolation::AlreadyJoined));
}

#[test]
fn a_second_connect_while_pending_is_answered_by_the_first() {
    let mut client = client();
    text(&mut client, "0").unwrap();
    text(&mut client, "0").unwrap();
    assert_eq!(events(&mut client).len(), 1);
    assert!(client.accept("/", "abc").is_some());
    assert!(client.accept("/", "abc").is_none());
}

#[test]
fn a_client_does_not_send_connect_errors() {
    assert_eq!(
        text(&mut joined(), r#"4{"message":"x"}"#),
        Err(PeerViolation::ConnectErrorFromClient)
    );
}

#[test]
fn events_carry_name_arguments_and_ack() {
    let mut client = joined();
    text(&mut client, r#"2["chat message","hi",{"a":1}]"#).unwrap();
    text(&mut client, r#"2/a,12["x"]"#).unwrap();
    assert_eq!(
        events(&mut client),
        [
            r#"event / "chat message" Payload("hi",{"a":1}) None"#,
            r#"event /a "x" Payload() Some(AckId(12))"#
        ]
    );
}

#[test]
fn a_binary_event_is_told_when_it_is_complete() {
    let mut client = joined();
    text(&mut client, r#"51-["x",{"_placeholder":true,"num":0}]"#).unwrap();
    assert!(events(&mut client).is_empty());
    binary(&mut client, b"abc").unwrap();
    let Some(ClientEvent::Event { payload, .. }) = client.poll_event() else {
        panic!("an event");
    };
    let expected = Args(vec![Value::Binary(Bytes::from_static(b"abc"))]);
    assert_eq!(payload.args().unwrap(), expected);
    assert_eq!(client.poll_timeout(), None);
}

#[test]
fn text_is_a_violation_while_attachments_are_missing() {
    let mut client = joined();
    text(&mut client, r#"51-["x",{"_placeholder":true,"num":0}]"#).unwrap();
    assert_eq!(
        text(&mut client, r#"2["x"]"#),
        Err(PeerViolation::UnexpectedText)
    );
}

#[test]
fn binary_is_a_violation_when_nothing_announced_it() {
    assert_eq!(
        binary(&mut joined(), b"x"),
        Err(PeerViolation::UnexpectedBinary)
    );
}

#[test]
fn a_binary_event_without_attachments_does_not_wait_for_any() {
    let mut client = joined();
    text(&mut client, r#"50-["x"]"#).unwrap();
    assert_eq!(events(&mut client).len(), 1);
    assert_eq!(
        binary(&mut client, b"x"),
        Err(PeerViolation::UnexpectedBinary)
    );
}

#[test]
fn missing_attachments_time_out() {
    let mut client = joined();
    text(&mut client, r#"52-["x"]"#).unwrap();
    assert_eq!(client.poll_timeout(), Some(seconds(60)));
    client.handle_timeout(seconds(59));
    assert!(events(&mut client).is_empty());
    client.handle_timeout(seconds(60));
    assert_eq!(events(&mut client), ["attachment timeout"]);
    assert_eq!(client.poll_timeout(), None);
}

#[test]
fn a_packet_larger_than_the_limit_is_a_violation() {
    let config = ClientConfig {
        limits: Limits {
            max_packet_bytes: 20,
            ..Limits::default()
        },
        ..ClientConfig::default()
    };
    let mut client = client_with(SocketioVersion::V5, config);
    assert_eq!(
        text(&mut client, r#"0{"a":"0123456789abcdef"}"#),
        Err(PeerViolation::PacketTooLarge)
    );
}

#[test]
fn a_peer_that_joins_nothing_in_time_is_reported() {
    for version in [SocketioVersion::V4, SocketioVersion::V5] {
        let mut client = client_with(version, ClientConfig::default());
        events(&mut client);
        assert_eq!(client.poll_timeout(), Some(seconds(45)));
        client.handle_timeout(seconds(45));
        assert_eq!(events(&mut client), ["connect timeout"]);
        assert_eq!(client.poll_timeout(), None);
    }
}

#[test]
fn a_refusal_does_not_stop_the_connect_deadline_but_a_consent_does() {
    let mut client = client();
    text(&mut client, "0").unwrap();
    client.refuse("/", &ConnectError::new("no")).unwrap();
    assert_eq!(client.poll_timeout(), Some(seconds(45)));
    text(&mut client, "0").unwrap();
    client.accept("/", "abc").unwrap();
    assert_eq!(client.poll_timeout(), None);
}

#[test]
fn a_peer_can_leave_and_join_again() {
    let mut client = joined();
    text(&mut client, "1/a,").unwrap();
    text(&mut client, "0/a,").unwrap();
    assert_eq!(
        events(&mut client),
        ["disconnect /a", "connect /a None Payload()"]
    );
    assert!(client.accept("/a", "again").is_some());
}

#[test]
fn a_peer_that_leaves_while_pending_gets_no_answer() {
    let mut client = client();
    text(&mut client, "0").unwrap();
    text(&mut client, "1").unwrap();
    assert_eq!(
        events(&mut client),
        ["connect / None Payload()", "disconnect /"]
    );
    assert!(client.accept("/", "abc").is_none());
    assert!(client.refuse("/", &ConnectError::new("no")).is_none());
}

#[test]
fn packets_that_cross_a_disconnect_are_ignored() {
    let mut client = joined();
    assert_eq!(wire(client.disconnect("/a")), "41/a,");
    assert!(client.disconnect("/a").is_none());
    text(&mut client, r#"2/a,["late"]"#).unwrap();
    text(&mut client, "3/a,0[]").unwrap();
    text(&mut client, r#"51-/a,["late"]"#).unwrap();
    binary(&mut client, b"x").unwrap();
    text(&mut client, "1/a,").unwrap();
    assert!(events(&mut client).is_empty());
    assert_eq!(client.stats().crossed_packets, 4);
    assert_eq!(text(&mut client, "1/a,"), Err(PeerViolation::NotJoined));
}

#[test]
fn a_peer_that_was_disconnected_can_join_again() {
    let mut client = joined();
    client.disconnect("/a").unwrap();
    text(&mut client, "0/a,").unwrap();
    assert_eq!(events(&mut client), ["connect /a None Payload()"]);
    assert!(client.accept("/a", "again").is_some());
}

#[test]
fn namespaces_are_limited_and_left_ones_make_room() {
    let config = ClientConfig {
        limits: Limits {
            max_namespaces: 2,
            ..Limits::default()
        },
        ..ClientConfig::default()
    };
    let mut client = client_with(SocketioVersion::V5, config);
    for packet in ["0", "0/a,"] {
        text(&mut client, packet).unwrap();
    }
    client.accept("/a", "a").unwrap();
    client.disconnect("/a").unwrap();
    text(&mut client, "0/b,").unwrap();
    assert_eq!(
        text(&mut client, "0/c,"),
        Err(PeerViolation::TooManyNamespaces)
    );
}

#[test]
fn an_expected_ack_comes_back_with_its_sink_once() {
    let mut client = joined();
    client
        .expect_ack("/a", AckId::new(3), None, "mine")
        .unwrap();
    text(&mut client, "33[1]").unwrap();
    text(&mut client, "3/a,3[1]").unwrap();
    text(&mut client, "3/a,3[1]").unwrap();
    assert_eq!(events(&mut client), ["ack /a Payload(1) mine"]);
    assert_eq!(client.stats().unknown_acks, 2);
}

#[test]
fn an_ack_can_be_binary() {
    let mut client = joined();
    client.expect_ack("/", AckId::new(0), None, "mine").unwrap();
    text(&mut client, r#"61-0[{"_placeholder":true,"num":0}]"#).unwrap();
    binary(&mut client, b"a").unwrap();
    assert_eq!(
        events(&mut client),
        [r#"ack / Payload([Binary(b"a")]) mine"#]
    );
}

#[test]
fn acks_time_out_each_at_its_own_deadline() {
    let mut client = joined();
    let at = Some(seconds(2));
    client.expect_ack("/", AckId::new(0), at, "slow").unwrap();
    client
        .expect_ack("/", AckId::new(1), Some(seconds(1)), "quick")
        .unwrap();
    assert_eq!(client.poll_timeout(), Some(seconds(1)));
    client.handle_timeout(seconds(1));
    assert_eq!(events(&mut client), ["ack timeout quick"]);
    assert_eq!(client.poll_timeout(), Some(seconds(2)));
    client.handle_timeout(seconds(3));
    assert_eq!(events(&mut client), ["ack timeout slow"]);
}

#[test]
fn acks_are_lost_with_their_namespace() {
    let mut client = joined();
    client.expect_ack("/", AckId::new(0), None, "root").unwrap();
    client.expect_ack("/a", AckId::new(0), None, "a").unwrap();
    text(&mut client, "1/a,").unwrap();
    assert_eq!(events(&mut client), ["disconnect /a", "ack lost a"]);
    client.disconnect("/").unwrap();
    assert_eq!(events(&mut client), ["ack lost root"]);
    assert_eq!(client.pending_acks(), 0);
}

#[test]
fn an_ack_of_an_earlier_membership_is_unknown() {
    let mut client = joined();
    client.expect_ack("/a", AckId::new(0), None, "old").unwrap();
    client.disconnect("/a").unwrap();
    text(&mut client, "0/a,").unwrap();
    client.accept("/a", "again").unwrap();
    client.expect_ack("/a", AckId::new(1), None, "new").unwrap();
    events(&mut client);
    text(&mut client, "3/a,0[]").unwrap();
    assert_eq!(events(&mut client), Vec::<String>::new());
}

#[test]
fn a_sink_that_cannot_wait_is_given_back() {
    let config = ClientConfig {
        limits: Limits {
            max_pending_acks: 1,
            ..Limits::default()
        },
        ..ClientConfig::default()
    };
    let mut client = client_with(SocketioVersion::V5, config);
    assert_eq!(
        client.expect_ack("/", AckId::new(0), None, "unknown"),
        Err("unknown")
    );
    text(&mut client, "0").unwrap();
    assert_eq!(
        client.expect_ack("/", AckId::new(0), None, "pending"),
        Err("pending")
    );
    client.accept("/", "abc").unwrap();
    client
        .expect_ack("/", AckId::new(0), None, "first")
        .unwrap();
    assert_eq!(
        client.expect_ack("/", AckId::new(1), None, "full"),
        Err("full")
    );
}

#[test]
fn closing_gives_back_every_sink() {
    let mut client = joined();
    client.expect_ack("/", AckId::new(0), None, "root").unwrap();
    client
        .expect_ack("/a", AckId::new(0), Some(seconds(1)), "a")
        .unwrap();
    assert_eq!(client.close().collect::<Vec<_>>(), ["root", "a"]);
    assert_eq!(client.poll_timeout(), None);
    assert_eq!(client.joined().count(), 0);
}

#[test]
fn one_client_may_speak_messagepack() {
    let config = ClientConfig {
        parser: Parser::Msgpack,
        ..ClientConfig::default()
    };
    let mut client = client_with(SocketioVersion::V5, config);
    binary(
        &mut client,
        b"\x83\xa4type\x00\xa4data\xd4\x00\x00\xa3nsp\xa1/",
    )
    .unwrap();
    assert_eq!(events(&mut client), ["connect / None Payload()"]);
    let consent = client.accept("/", "s").unwrap();
    assert_eq!(
        consent.frame(0).unwrap().data(),
        b"\x83\xa4type\x00\xa3nsp\xa1/\xa4data\x81\xa3sid\xa1s"
    );
    assert_eq!(text(&mut client, "1"), Err(PeerViolation::UnexpectedText));
}

#[test]
fn an_idle_client_is_small() {
    let size = size_of::<Client<Arc<str>>>();
    assert!(size <= 232, "{size} bytes");
    let mut client = joined();
    events(&mut client);
    assert_eq!(client.events.capacity(), 0);
}

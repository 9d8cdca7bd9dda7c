//! Hostile peers: no bytes cause a panic, and what they cost is bounded.

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::base_instant;
use engineio_proto::payload::{self, unwrap_jsonp, wrap_jsonp};
use engineio_proto::{
    Body, BodyKind, CloseReason, Encoded, Event, IncomingPacket, Message, NodeTag, PeerViolation,
    PollingPeer, ProtocolVersion, Session, SessionConfig, SessionId, Text, Transport,
};
use proptest::prelude::*;

const MEGABYTE: usize = 1_000_000;

#[test]
fn a_flood_of_tiny_packets_stops_at_the_limit() {
    let tiny = [
        (ProtocolVersion::V3, BodyKind::Text, &b"1:2"[..]),
        (ProtocolVersion::V3, BodyKind::Binary, b"\x00\x01\xff2"),
        (ProtocolVersion::V4, BodyKind::Text, b"4\x1e"),
    ];
    for (version, kind, packet) in tiny {
        let body = Bytes::from(packet.repeat(MEGABYTE / packet.len()));
        let packets: Vec<_> = payload::decode(version, kind, body, 1_000).collect();
        assert_eq!(packets.len(), 1_001);
        let violation = packets.last().and_then(|last| last.clone().err());
        assert_eq!(violation, Some(PeerViolation::TooManyPackets));
    }
}

#[test]
fn a_flood_of_nothing_costs_one_walk() {
    let body = "0:".repeat(MEGABYTE / 2);
    let mut packets = payload::decode(ProtocolVersion::V3, BodyKind::Text, body.into(), 1_000);
    assert_eq!(packets.next(), None);
}

#[test]
fn declared_lengths_are_not_believed() {
    let v3 = ProtocolVersion::V3;
    for body in ["9999999999:4", "1000000:4", "2:4", &"9".repeat(MEGABYTE)] {
        let body = Bytes::from(body.to_owned());
        let mut packets = payload::decode(v3, BodyKind::Text, body, 1_000);
        assert_eq!(packets.next(), Some(Err(PeerViolation::PayloadLength)));
        assert_eq!(packets.next(), None);
    }
    let digits = [&[1][..], &[9; MEGABYTE]].concat();
    for body in [
        &[1, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 0xff, 4][..],
        &[0, 2, 0xff, b'4'],
        &digits,
    ] {
        let body = Bytes::copy_from_slice(body);
        let mut packets = payload::decode(v3, BodyKind::Binary, body, 1_000);
        assert_eq!(packets.next(), Some(Err(PeerViolation::PayloadLength)));
        assert_eq!(packets.next(), None);
    }
}

#[test]
fn a_flood_of_pings_ends_the_session_before_it_costs_much() {
    let config = SessionConfig {
        max_packets_per_post: usize::MAX,
        ..SessionConfig::default()
    };
    let mut session = session(ProtocolVersion::V3, Transport::Polling, config);
    let post = session.handle_post_start(base_instant()).unwrap();
    let body = Bytes::from("1:2".repeat(MEGABYTE / 3));
    let answer = session.handle_post(base_instant(), post, BodyKind::Text, body);
    assert_eq!(answer, Ok(()));
    let reason = CloseReason::Violation(PeerViolation::TooManyPings);
    assert_eq!(session.poll_event(), Some(Event::Closed(reason)));
    assert_eq!(session.stats().packets_in, 129);
}

#[test]
fn a_peer_that_never_polls_cannot_make_the_session_grow() {
    let config = SessionConfig::default();
    let mut session = session(ProtocolVersion::V3, Transport::Polling, config);
    let mut posts = 0;
    while let Ok(post) = session.handle_post_start(base_instant()) {
        let body = Bytes::from(format!("50001:2{}", "x".repeat(50_000)));
        let _answer = session.handle_post(base_instant(), post, BodyKind::Text, body);
        posts += 1;
    }
    assert!(posts <= 3, "{posts} posts of 50 kB were kept");
}

fn session(version: ProtocolVersion, transport: Transport, config: SessionConfig) -> Session {
    Session::new(
        base_instant(),
        Arc::new(config),
        SessionId::new(NodeTag::MAX, [0; 12]),
        version,
        transport,
        PollingPeer::default(),
    )
}

fn version() -> impl Strategy<Value = ProtocolVersion> {
    prop::sample::select(vec![ProtocolVersion::V3, ProtocolVersion::V4])
}

fn kind() -> impl Strategy<Value = BodyKind> {
    prop::sample::select(vec![BodyKind::Text, BodyKind::Binary])
}

/// Bytes, most of which mean something to one of the decoders.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        4 => prop::sample::select(b"0123456789:b4\x1e\x00\x01\xff\\n".to_vec()),
        1 => any::<u8>(),
    ];
    prop_oneof![
        3 => prop::collection::vec(byte, 0..64),
        1 => any::<String>().prop_map(String::into_bytes),
    ]
}

fn exhaust(version: ProtocolVersion, kind: BodyKind, body: Bytes) {
    let body_len = body.len();
    let packets: Vec<_> = payload::decode(version, kind, body, usize::MAX).collect();
    assert!(packets.len() <= body_len + 1, "every packet takes a byte");
    let errors = packets.iter().filter(|packet| packet.is_err()).count();
    assert!(errors <= 1, "an error is the last item");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_body_causes_a_panic(version in version(), kind in kind(), body in bytes()) {
        exhaust(version, kind, body.into());
    }

    #[test]
    fn no_damaged_body_causes_a_panic(
        version in version(),
        data in prop::collection::vec(any::<u8>(), 0..20),
        text in any::<String>(),
        at in any::<prop::sample::Index>(),
        damage in any::<u8>(),
        cut in any::<bool>(),
    ) {
        let message = |encoded| engineio_proto::Packet::Message { encoded, first_frame: 0 };
        let packets = [message(Encoded::text(&text)), message(Encoded::binary(data))];
        let mut body = payload::encode(version, PollingPeer::default(), &packets);
        let at = at.index(body.bytes.len());
        if cut {
            body.bytes.truncate(at);
        } else {
            body.bytes[at] = damage;
        }
        exhaust(version, body.kind, body.bytes.into());
    }

    #[test]
    fn no_packet_causes_a_panic(version in version(), content in bytes()) {
        let content = Bytes::from(content);
        let _packet = IncomingPacket::decode(version, Message::Binary(content.clone()));
        if let Ok(text) = Text::from_utf8(content) {
            let _packet = IncomingPacket::decode(version, Message::Text(text));
        }
    }

    #[test]
    fn no_session_id_causes_a_panic(text in any::<String>(), bytes in bytes()) {
        let _id = SessionId::parse(&text);
        let _id = SessionId::parse(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn no_jsonp_text_causes_a_panic(bytes in bytes()) {
        let _body = unwrap_jsonp(&String::from_utf8_lossy(&bytes));
        let body = Body { kind: BodyKind::Text, bytes, compress: true };
        let script = wrap_jsonp(u32::MAX, &body);
        prop_assert!(std::str::from_utf8(&script).is_ok());
    }

    #[test]
    fn no_input_makes_a_session_panic_or_answer_after_its_end(
        version in version(),
        transport in prop::sample::select(vec![Transport::Polling, Transport::WebSocket]),
        inputs in prop::collection::vec((any::<bool>(), kind(), bytes()), 0..8),
    ) {
        let mut session = session(version, transport, SessionConfig::default());
        let now = base_instant();
        for (on_websocket, kind, content) in inputs {
            let content = Bytes::from(content);
            if let Ok(post) = session.handle_post_start(now) {
                let _answer = session.handle_post(now, post, kind, content.clone());
            }
            let _refused = session.handle_ws_open(now);
            if on_websocket && let Ok(text) = Text::from_utf8(content.clone()) {
                session.handle_ws_message(now, session.current_transport(), Message::Text(text));
            } else {
                let message = Message::Binary(content);
                session.handle_ws_message(now, session.current_transport(), message);
            }
        }
        let mut closed = false;
        while let Some(event) = session.poll_event() {
            prop_assert!(!closed);
            closed = matches!(event, Event::Closed(_));
        }
        while session.poll_transmit(now).is_some() {}
        prop_assert_eq!(session.is_closed(), closed);
    }
}

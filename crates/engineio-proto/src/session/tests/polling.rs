use super::*;
use crate::ProtocolVersion::{V3, V4};
use crate::RequestError;
use crate::Transport::{Polling, WebSocket};

#[test]
fn the_first_poll_opens_the_session() {
    for (version, before) in [(V4, ""), (V3, "114:")] {
        let mut fixture = Fixture::fresh(version, Polling, test_config(), PollingPeer::default());
        assert_eq!(fixture.out(), "");
        fixture.get();
        assert_eq!(
            fixture.out(),
            format!(
                "get {before}0{{\"sid\":\"AAAAAQEBAQEBAQEBAQEB\",\"upgrades\":[\"websocket\"],\
                 \"pingInterval\":300,\"pingTimeout\":200,\"maxPayload\":1000000}}"
            )
        );
    }
}

#[test]
fn what_is_queued_before_the_first_poll_follows_the_open_packet() {
    let mut fixture = Fixture::fresh(V4, Polling, test_config(), PollingPeer::default());
    fixture.send("0");
    fixture.get();
    let out = fixture.out();
    assert!(out.starts_with("get 0{"), "{out}");
    assert!(out.ends_with("} 40"), "{out}");
}

#[test]
fn a_poll_waits_for_a_message() {
    let mut fixture = Fixture::open(V4, Polling);
    fixture.get();
    assert_eq!(fixture.out(), "");
    assert!(fixture.session.is_writable());
    fixture.send("a");
    assert!(!fixture.session.is_writable());
    fixture.send("b");
    assert_eq!(fixture.out(), "get 4a 4b");
    assert!(!fixture.session.is_writable(), "no poll is pending");
    fixture.send("c");
    assert_eq!(fixture.out(), "");
    fixture.get();
    assert_eq!(fixture.out(), "get 4c");
}

#[test]
fn second_poll_closes_the_session() {
    for (version, close) in [(V4, "get 1"), (V3, "get 1:1")] {
        let mut fixture = Fixture::open(version, Polling);
        fixture.get();
        let second = fixture.session.handle_poll(fixture.now);
        assert_eq!(second, Err(Refusal::Empty));
        assert_eq!(fixture.out(), close);
        assert_eq!(fixture.events(), "closed: transport error");
        assert!(fixture.session.is_closed());
        let late = fixture.session.handle_poll(fixture.now);
        assert_eq!(late, Err(RequestError::SessionUnknown.into()));
    }
}

#[test]
fn second_post_closes_the_session_and_gives_up_the_first() {
    let mut fixture = Fixture::open(V4, Polling);
    fixture.get();
    let first = fixture.session.handle_post_start(fixture.now).unwrap();
    let second = fixture.session.handle_post_start(fixture.now);
    assert_eq!(second, Err(Refusal::Empty));
    assert_eq!(fixture.out(), "get 1");
    assert_eq!(fixture.events(), "closed: transport error");
    let body = Bytes::from_static(b"4late");
    let late = fixture
        .session
        .handle_post(fixture.now, first, BodyKind::Text, body);
    assert_eq!(late, Err(Refusal::Empty));
    assert_eq!(fixture.events(), "");
}

#[test]
fn a_post_beside_a_poll_is_normal() {
    let mut fixture = Fixture::open(V4, Polling);
    fixture.get();
    fixture.post("4a\u{1e}4b\u{1e}bAQID");
    assert_eq!(fixture.events(), r#"a | b | b"\x01\x02\x03""#);
    fixture.send("c");
    assert_eq!(fixture.out(), "get 4c");
}

#[test]
fn an_aborted_poll_closes_the_session() {
    for why in [Detached::Closed, Detached::Failed] {
        let mut fixture = Fixture::open(V4, Polling);
        let id = fixture.get();
        fixture.detach(id, why);
        assert_eq!(fixture.events(), "closed: transport error");
        assert_eq!(fixture.out(), "");
        assert!(fixture.session.is_closed());
    }
}

#[test]
fn an_aborted_post_closes_the_session() {
    let mut fixture = Fixture::open(V4, Polling);
    fixture.get();
    let id = fixture.session.handle_post_start(fixture.now).unwrap();
    fixture.detach(id, Detached::Closed);
    assert_eq!(fixture.events(), "closed: transport error");
    assert_eq!(fixture.out(), "get 1");
}

#[test]
fn late_news_of_an_answered_poll_is_ignored() {
    let mut fixture = Fixture::open(V4, Polling);
    let id = fixture.get();
    fixture.send("a");
    assert_eq!(fixture.out(), "get 4a");
    fixture.detach(id, Detached::Closed);
    assert_eq!(fixture.events(), "");
}

#[test]
fn a_post_above_the_limit_leaves_the_session_alive() {
    let mut fixture = Fixture::open(V4, Polling);
    let id = fixture.session.handle_post_start(fixture.now).unwrap();
    fixture.detach(id, Detached::TooLarge);
    fixture.post("4next");
    assert_eq!(fixture.events(), "next");
}

#[test]
fn a_binary_body_is_refused_in_version_4_and_taken_in_version_3() {
    let mut fixture = Fixture::open(V4, Polling);
    fixture.get();
    let result = fixture.post_body(BodyKind::Binary, &b"4a"[..]);
    assert_eq!(result, Err(Refusal::Empty));
    assert_eq!(fixture.events(), "closed: transport error");
    assert_eq!(fixture.out(), "get 1");
    let mut fixture = Fixture::open(V3, Polling);
    let body = &b"\x00\x02\xff4a\x01\x03\xff\x04\x01\x02"[..];
    assert_eq!(fixture.post_body(BodyKind::Binary, body), Ok(()));
    assert_eq!(fixture.events(), r#"a | b"\x01\x02""#);
}

#[test]
fn a_malformed_post_is_answered_ok_and_closes_the_session() {
    for (version, body) in [
        (V4, ""),
        (V4, "abc"),
        (V4, "4a\u{1e}\u{1e}4b"),
        (V4, "b!"),
        (V3, ""),
        (V3, "4a"),
        (V3, "3:4a"),
        (V3, "2:4a9"),
    ] {
        let mut fixture = Fixture::open(version, Polling);
        fixture.get();
        fixture.post(body);
        let events = fixture.events();
        assert!(
            events.ends_with("closed: parse error"),
            "{body:?}: {events}"
        );
        assert!(fixture.out().ends_with('1'), "{body:?}");
    }
}

#[test]
fn packets_before_a_malformed_one_count_and_later_ones_do_not() {
    let mut fixture = Fixture::open(V4, Polling);
    fixture.post("4a\u{1e}x\u{1e}4b");
    assert_eq!(fixture.events(), "a | closed: parse error");
}

#[test]
fn one_post_has_a_limited_number_of_packets() {
    let config = SessionConfig {
        max_packets_per_post: 2,
        ..test_config()
    };
    let mut fixture = Fixture::with_config(V4, Polling, config);
    fixture.post("4a\u{1e}4b");
    fixture.post("4a\u{1e}4b\u{1e}4c");
    assert_eq!(fixture.events(), "a | b | a | b | closed: parse error");
}

#[test]
fn packets_that_mean_nothing_to_a_server_are_ignored() {
    for transport in [Polling, WebSocket] {
        let mut fixture = Fixture::open(V4, transport);
        for text in ["0", "5", "6", "4alive"] {
            match transport {
                Polling => fixture.post(text),
                WebSocket => fixture.ws(text),
            }
        }
        assert_eq!(fixture.events(), "alive");
    }
}

#[test]
fn polling_requests_of_a_websocket_session_are_bad_requests() {
    let mut fixture = Fixture::open(V4, WebSocket);
    let refused = Err(RequestError::BadRequest.into());
    assert_eq!(fixture.session.handle_poll(fixture.now), refused);
    assert_eq!(fixture.session.handle_post_start(fixture.now), refused);
    assert_eq!(fixture.events(), "");
}

#[test]
fn a_body_holds_at_most_16_packets() {
    let mut fixture = Fixture::open(V4, Polling);
    for _ in 0..20 {
        fixture.send("a");
    }
    fixture.get();
    assert_eq!(fixture.out(), format!("get {}", ["4a"; 16].join(" ")));
    fixture.get();
    assert_eq!(fixture.out(), "get 4a 4a 4a 4a");
}

#[test]
fn a_body_is_limited_in_bytes_but_a_larger_packet_goes_alone() {
    let config = SessionConfig {
        max_payload: 12,
        ..test_config()
    };
    let mut fixture = Fixture::with_config(V4, Polling, config);
    for text in ["aaa", "bbb", "0123456789abcdef", "c", "d"] {
        fixture.send(text);
    }
    let mut bodies = Vec::new();
    for _ in 0..3 {
        fixture.get();
        bodies.push(fixture.out());
    }
    assert_eq!(
        bodies,
        ["get 4aaa 4bbb", "get 40123456789abcdef", "get 4c 4d"]
    );
}

#[test]
fn attachments_continue_in_the_next_body_before_anything_else() {
    let config = SessionConfig {
        max_packets_per_body: 2,
        ..test_config()
    };
    let mut fixture = Fixture::with_config(V4, Polling, config);
    fixture.session.send(with_attachments());
    fixture.get();
    assert_eq!(refunds(&mut fixture), [0]);
    fixture.send("next");
    fixture.get();
    let budget = with_attachments().budget_bytes() + Encoded::text("next").budget_bytes();
    assert_eq!(refunds(&mut fixture), [budget]);
    fixture.session.send(with_attachments());
    fixture.get();
    assert_eq!(refunds(&mut fixture), [0], "the next message starts anew");
}

#[test]
fn attachments_follow_their_message_in_every_form() {
    let base64 = PollingPeer {
        supports_binary: false,
        counts_utf16: true,
        jsonp: None,
    };
    let script = PollingPeer {
        supports_binary: true,
        counts_utf16: true,
        jsonp: Some(0),
    };
    for (version, peer, body) in [
        (V4, PollingPeer::default(), &b"451-[]\x1ebAQ==\x1ebAgM="[..]),
        (V4, base64, b"451-[]\x1ebAQ==\x1ebAgM="),
        (V3, base64, b"6:451-[]6:b4AQ==6:b4AgM="),
        (V3, script, b"6:451-[]6:b4AQ==6:b4AgM="),
        (
            V3,
            PollingPeer::default(),
            b"\x00\x06\xff451-[]\x01\x02\xff\x04\x01\x01\x03\xff\x04\x02\x03",
        ),
    ] {
        let mut fixture = Fixture::fresh(version, Polling, test_config(), peer);
        fixture.get();
        fixture.out();
        fixture.session.send(with_attachments());
        fixture.get();
        match fixture.session.poll_transmit(fixture.now) {
            Some(Transmit::PollBody {
                body: answer,
                refund_bytes,
                ..
            }) => {
                assert_eq!(answer.bytes, body);
                let kind = if body[0] == 0 {
                    BodyKind::Binary
                } else {
                    BodyKind::Text
                };
                assert_eq!(answer.kind, kind);
                assert_eq!(refund_bytes, with_attachments().budget_bytes());
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn one_message_that_must_not_be_compressed_keeps_its_body_as_it_is() {
    let mut fixture = Fixture::open(V4, Polling);
    fixture.get();
    fixture.send("a");
    fixture
        .session
        .send(Encoded::text("secret").without_compression());
    match fixture.session.poll_transmit(fixture.now) {
        Some(Transmit::PollBody { body, .. }) => assert!(!body.compress),
        other => panic!("{other:?}"),
    }
}

fn with_attachments() -> Encoded {
    let mut writer = crate::MessageWriter::with_capacity(8);
    writer.buffer().extend_from_slice(b"51-[]");
    writer.finish(vec![Bytes::from_static(&[1]), Bytes::from_static(&[2, 3])])
}

fn refunds(fixture: &mut Fixture) -> Vec<usize> {
    std::iter::from_fn(|| fixture.session.poll_transmit(fixture.now))
        .map(|transmit| match transmit {
            Transmit::PollBody { refund_bytes, .. } => refund_bytes,
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn room_is_made_of_the_oldest_that_give_way() {
    let mut fixture = Fixture::open(V4, Polling);
    let marked = |text: &str| Encoded::text(text).giving_way(GivesWay::ToNewer);
    fixture.send("firm");
    for text in ["a", "b", "c"] {
        fixture.session.send(marked(text));
    }
    let waiting = Encoded::text("v").giving_way(GivesWay::Volatile);
    fixture.session.send(waiting);
    let bytes = marked("a").budget_bytes();
    let gone = fixture.session.make_room(bytes + 1);
    assert_eq!(
        (gone.bytes, gone.to_newer, gone.volatile),
        (2 * bytes, 2, 0)
    );
    fixture.get();
    assert_eq!(fixture.out(), "get 4firm 4c 4v");
    fixture.session.send(marked("d"));
    fixture.send("firm");
    assert_eq!(fixture.session.make_room(usize::MAX).to_newer, 1);
    fixture.get();
    assert_eq!(fixture.out(), "get 4firm");
}

#[test]
fn a_message_that_has_left_in_part_does_not_give_way() {
    let config = SessionConfig {
        max_packets_per_body: 2,
        ..test_config()
    };
    let mut fixture = Fixture::with_config(V4, Polling, config);
    let message = with_attachments().giving_way(GivesWay::ToNewer);
    fixture.session.send(message.clone());
    fixture.session.send(message);
    fixture.get();
    let head = fixture.out();
    let gone = fixture.session.make_room(usize::MAX);
    assert_eq!(gone.to_newer, 1);
    fixture.get();
    let rest = fixture.out();
    assert!(
        head.starts_with("get 45") && rest.starts_with("get b"),
        "{head} {rest}"
    );
    assert!(!rest.contains("45"), "{rest}");
}

use super::*;
use crate::ProtocolVersion::{V3, V4};
use crate::RequestError;
use crate::Transport::{Polling, WebSocket};
use crate::WsRefused;

#[test]
fn messages_keep_flowing_on_polling_until_the_switch() {
    for version in [V3, V4] {
        let mut fixture = Fixture::open(version, Polling);
        let id = fixture.candidate();
        fixture.ws_text(id, "2probe");
        fixture.send("a");
        assert_eq!(fixture.out(), "ws 3probe");
        fixture.get();
        assert!(fixture.out().ends_with("4a"));
        fixture.send("b");
        fixture.ws_text(id, "5");
        fixture.send("c");
        assert_eq!(fixture.out(), "ws 4b | ws 4c");
        assert_eq!(fixture.events(), "upgraded");
        assert_eq!(fixture.session.transport(), WebSocket);
        assert_eq!(fixture.session.current_transport(), id);
        assert!(fixture.session.is_writable());
    }
}

#[test]
fn a_pending_poll_and_the_next_are_released_with_the_probes_answer_and_later_ones_after_100_ms() {
    for (version, noop) in [(V4, "get 6"), (V3, "get 1:6")] {
        let config = SessionConfig {
            upgrade_timeout: Duration::from_secs(1),
            ..SessionConfig::default()
        };
        let mut fixture = Fixture::with_config(version, Polling, config);
        fixture.get();
        let id = fixture.candidate();
        fixture.pass(100);
        assert_eq!(fixture.out(), "", "only after the probe");
        fixture.ws_text(id, "2probe");
        assert_eq!(fixture.out(), format!("ws 3probe | {noop}"));
        fixture.get();
        assert_eq!(
            fixture.out(),
            noop,
            "it was sent before the answer was seen"
        );
        for _ in 0..3 {
            fixture.get();
            fixture.pass(99);
            assert_eq!(fixture.out(), "");
            fixture.pass(1);
            assert_eq!(fixture.out(), noop);
        }
        fixture.pass(550);
        fixture.get();
        fixture.pass(50);
        assert_eq!(fixture.out(), "close ws", "and then the poll stays");
        fixture.pass(1_000);
        assert_eq!(fixture.out(), "");
        fixture.send("a");
        assert!(fixture.out().starts_with("get "));
        fixture.get();
        fixture.pass(1_000);
        assert_eq!(fixture.out(), "", "there is no poll to release");
    }
}

#[test]
fn a_poll_pending_at_the_switch_is_answered_with_noop() {
    let mut fixture = Fixture::open(V4, Polling);
    fixture.get();
    let id = fixture.candidate();
    fixture.ws_text(id, "2probe");
    fixture.ws_text(id, "5");
    fixture.send("a");
    assert_eq!(fixture.out(), "get 6 | ws 3probe | ws 4a");
    let refused = fixture.session.handle_poll(fixture.now);
    assert_eq!(refused, Err(RequestError::BadRequest.into()));
    assert_eq!(fixture.events(), "upgraded");
}

#[test]
fn a_probe_that_misses_its_deadline_loses_only_the_websocket() {
    let mut fixture = Fixture::open(V4, Polling);
    let id = fixture.candidate();
    fixture.pass(UPGRADE_TIMEOUT_MS - 1);
    assert_eq!(fixture.out(), "");
    fixture.pass(1);
    assert_eq!(fixture.out(), "close ws");
    assert_eq!(fixture.events(), "");
    fixture.ws_text(id, "5");
    assert_eq!(fixture.session.transport(), Polling);
    fixture.get();
    fixture.send("a");
    assert_eq!(fixture.out(), "get 4a");
    fixture.upgrade();
}

#[test]
fn any_other_packet_on_the_probing_websocket_loses_only_the_websocket() {
    for text in ["2", "2other", "3probe", "4hi", "6", "x", ""] {
        let mut fixture = Fixture::open(V4, Polling);
        let id = fixture.candidate();
        fixture.ws_text(id, text);
        assert_eq!(fixture.out(), "close ws", "{text:?}");
        assert_eq!(fixture.events(), "");
        fixture.post("4alive");
        assert_eq!(fixture.events(), "alive");
    }
}

#[test]
fn binary_on_the_probing_websocket_loses_only_the_websocket() {
    let mut fixture = Fixture::open(V4, Polling);
    let id = fixture.candidate();
    let data = Message::Binary(Bytes::from_static(b"5"));
    fixture.session.handle_ws_message(fixture.now, id, data);
    assert_eq!(fixture.out(), "close ws");
    assert_eq!(fixture.events(), "");
}

#[test]
fn a_probing_websocket_that_goes_away_leaves_the_session_alone() {
    for why in [
        Detached::Closed,
        Detached::Failed,
        Detached::TooLarge,
        Detached::Violation,
    ] {
        let mut fixture = Fixture::open(V4, Polling);
        let id = fixture.candidate();
        fixture.ws_text(id, "2probe");
        fixture.out();
        fixture.detach(id, why);
        assert_eq!(fixture.out(), "");
        fixture.get();
        fixture.pass(INTERVAL_MS - 1);
        assert_eq!(fixture.out(), "", "there is no poll to release");
        assert_eq!(fixture.events(), "");
    }
}

#[test]
fn a_second_websocket_is_refused_during_and_after_an_upgrade() {
    let mut fixture = Fixture::open(V4, Polling);
    fixture.candidate();
    assert_eq!(fixture.session.handle_ws_open(fixture.now), Err(WsRefused));
    let mut fixture = Fixture::open(V4, Polling);
    fixture.upgrade();
    assert_eq!(fixture.session.handle_ws_open(fixture.now), Err(WsRefused));
    fixture.ws("4alive");
    assert_eq!(fixture.events(), "alive");
}

#[test]
fn upgrades_can_be_switched_off() {
    let config = SessionConfig {
        allow_upgrades: false,
        ..test_config()
    };
    let mut fixture = Fixture::with_config(V4, Polling, config);
    assert_eq!(fixture.session.handle_ws_open(fixture.now), Err(WsRefused));
    assert_eq!(fixture.events(), "");
}

#[test]
fn heartbeats_go_over_polling_while_a_probe_is_in_progress() {
    let mut fixture = Fixture::open(V4, Polling);
    fixture.pass(INTERVAL_MS - 50);
    let id = fixture.candidate();
    fixture.ws_text(id, "2probe");
    fixture.get();
    assert_eq!(fixture.out(), "ws 3probe | get 6");
    fixture.get();
    fixture.pass(50);
    assert_eq!(fixture.out(), "get 2");
}

#[test]
fn a_post_that_began_before_the_switch_still_counts() {
    let mut fixture = Fixture::open(V4, Polling);
    let post = fixture.session.handle_post_start(fixture.now).unwrap();
    fixture.upgrade();
    let body = Bytes::from_static(b"4early");
    let result = fixture
        .session
        .handle_post(fixture.now, post, BodyKind::Text, body);
    assert_eq!(result, Ok(()));
    assert_eq!(fixture.events(), "early");
}

#[test]
fn polling_requests_cut_off_after_the_switch_do_no_harm() {
    let mut fixture = Fixture::open(V4, Polling);
    let get = fixture.get();
    let post = fixture.session.handle_post_start(fixture.now).unwrap();
    fixture.upgrade();
    fixture.detach(get, Detached::Closed);
    fixture.detach(post, Detached::Closed);
    assert_eq!(fixture.events(), "");
    assert_eq!(fixture.out(), "");
}

#[test]
fn attachments_left_behind_by_a_body_leave_on_the_websocket() {
    let config = SessionConfig {
        max_packets_per_body: 1,
        ..test_config()
    };
    let mut fixture = Fixture::with_config(V4, Polling, config);
    let mut writer = crate::MessageWriter::with_capacity(8);
    writer.buffer().extend_from_slice(b"52-[]");
    let attachments = vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")];
    fixture.session.send(writer.finish(attachments));
    fixture.get();
    assert_eq!(fixture.out(), "get 452-[]");
    fixture.upgrade();
    fixture.send("next");
    assert_eq!(fixture.out(), "ws one two | ws 4next");
}

#[test]
fn an_upgrade_packet_without_a_probe_loses_only_the_websocket() {
    let mut fixture = Fixture::open(V4, Polling);
    let id = fixture.candidate();
    fixture.ws_text(id, "5");
    assert_eq!(
        (fixture.events(), fixture.out()),
        (String::new(), "close ws".to_owned())
    );
    fixture.send("a");
    fixture.get();
    assert_eq!(fixture.out(), "get 4a");
}

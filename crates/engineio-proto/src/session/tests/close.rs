use super::*;
use crate::ProtocolVersion::{V3, V4};
use crate::Transport::{Polling, WebSocket};

#[test]
fn a_client_that_closes_on_polling_has_its_poll_released() {
    for (version, packet, noop) in [(V4, "1", "get 6"), (V3, "1:1", "get 1:6")] {
        let mut fixture = Fixture::open(version, Polling);
        fixture.get();
        fixture.post(packet);
        assert_eq!(fixture.events(), "closed: transport close");
        assert_eq!(fixture.out(), noop);
        assert!(fixture.session.is_closed());
    }
}

#[test]
fn a_poll_that_the_closing_post_overtook_is_released_all_the_same() {
    let mut fixture = Fixture::open(V4, Polling);
    fixture.send("lost");
    fixture.post("1");
    assert_eq!(fixture.events(), "closed: transport close");
    assert!(fixture.session.awaits_overtaken_poll());
    fixture.get();
    assert_eq!(fixture.out(), "get 6");
    assert!(fixture.session.is_closed());
    assert_eq!(fixture.session.stats().messages_lost, 1);
}

#[test]
fn a_closing_post_without_a_poll_beside_it_is_soon_the_end() {
    let mut fixture = Fixture::open(V4, Polling);
    fixture.post("1");
    fixture.pass(50);
    assert_eq!(fixture.events(), "closed: transport close");
    assert!(fixture.session.is_closed());
}

#[test]
fn what_follows_a_close_packet_is_ignored() {
    let mut fixture = Fixture::open(V4, Polling);
    fixture.post("4a\u{1e}1\u{1e}4b\u{1e}x");
    assert_eq!(fixture.events(), "a | closed: transport close");
}

#[test]
fn a_close_packet_on_a_websocket_closes() {
    let mut fixture = Fixture::open(V4, WebSocket);
    fixture.ws("1");
    assert_eq!(fixture.events(), "closed: transport close");
    assert_eq!(fixture.out(), "close ws");
    assert!(fixture.session.is_closed());
}

#[test]
fn a_websocket_that_goes_away_closes_the_session() {
    for (why, reason) in [
        (Detached::Closed, "closed: transport close"),
        (Detached::Failed, "closed: transport error"),
        (Detached::TooLarge, "closed: transport error"),
        (Detached::Violation, "closed: transport error"),
    ] {
        let mut fixture = Fixture::open(V4, WebSocket);
        fixture.send("lost");
        fixture.detach(fixture.session.current_transport(), why);
        assert_eq!(fixture.events(), reason);
        assert_eq!(fixture.out(), "", "the driver closes it");
        assert!(fixture.session.is_closed());
        assert_eq!(fixture.session.stats().messages_lost, 1);
    }
}

#[test]
fn malformed_websocket_messages_close_the_session() {
    for text in ["", "x", "9", "b*"] {
        let mut fixture = Fixture::open(V4, WebSocket);
        fixture.ws(text);
        assert_eq!(fixture.events(), "closed: parse error", "{text:?}");
        assert_eq!(fixture.out(), "close ws");
    }
}

#[test]
fn a_close_on_a_websocket_lets_the_queue_leave_first() {
    let mut fixture = Fixture::open(V4, WebSocket);
    fixture.send("1");
    fixture.close(CloseReason::ForcedClose);
    assert_eq!(fixture.events(), "closed: forced close");
    assert!(!fixture.session.is_closed());
    fixture.send("late");
    assert_eq!(fixture.out(), "ws 41 | close ws");
    assert!(fixture.session.is_closed());
    assert_eq!(fixture.session.stats().messages_lost, 1);
}

#[test]
fn a_close_answers_the_pending_poll() {
    for (version, close) in [(V4, "get 1"), (V3, "get 1:1")] {
        let mut fixture = Fixture::open(version, Polling);
        fixture.get();
        fixture.close(CloseReason::ForcedClose);
        assert_eq!(fixture.out(), close);
        assert_eq!(fixture.events(), "closed: forced close");
        assert!(fixture.session.is_closed());
    }
}

#[test]
fn a_close_without_a_poll_waits_for_the_next_one() {
    let mut fixture = Fixture::open(V4, Polling);
    fixture.close(CloseReason::ForcedClose);
    assert_eq!(fixture.events(), "closed: forced close");
    assert_eq!(fixture.out(), "");
    fixture.pass(CLOSE_TIMEOUT_MS - 1);
    assert!(!fixture.session.is_closed());
    fixture.get();
    assert_eq!(fixture.out(), "get 6 1");
    assert!(fixture.session.is_closed());
    assert_eq!(fixture.session.poll_timeout(), None);
}

#[test]
fn a_close_that_nobody_fetches_is_kept_for_a_limited_time() {
    let mut fixture = Fixture::open(V4, Polling);
    fixture.send("lost");
    fixture.close(CloseReason::ForcedClose);
    fixture.pass(CLOSE_TIMEOUT_MS);
    assert_eq!(fixture.events(), "closed: forced close");
    assert!(fixture.session.is_closed());
    assert_eq!(fixture.session.stats().messages_lost, 1);
}

#[test]
fn messages_before_the_close_still_leave_by_poll() {
    let config = SessionConfig {
        max_packets_per_body: 2,
        ..test_config()
    };
    let mut fixture = Fixture::with_config(V4, Polling, config);
    fixture.get();
    for text in ["a", "b", "c"] {
        fixture.send(text);
    }
    fixture.close(CloseReason::ServerShutdown);
    assert_eq!(fixture.out(), "get 4a 4b");
    fixture.get();
    assert_eq!(fixture.out(), "get 4c");
    fixture.get();
    assert_eq!(fixture.out(), "get 1");
    assert_eq!(fixture.events(), "closed: forced close");
    assert!(fixture.session.is_closed());
    assert_eq!(fixture.session.stats().messages_lost, 0);
}

#[test]
fn a_closing_session_sends_no_heartbeats_and_hears_no_messages() {
    let mut fixture = Fixture::open(V4, Polling);
    fixture.close(CloseReason::ForcedClose);
    fixture.pass(INTERVAL_MS + TIMEOUT_MS);
    fixture.post("4late");
    assert_eq!(fixture.events(), "closed: forced close");
    fixture.post("1");
    assert!(fixture.session.is_closed());
}

#[test]
fn a_slow_consumer_is_not_waited_for() {
    let mut fixture = Fixture::open(V4, Polling);
    fixture.send("lost");
    fixture.close(CloseReason::SlowConsumer);
    assert_eq!(fixture.events(), "closed: transport error");
    assert!(fixture.session.is_closed());
    assert_eq!(fixture.session.stats().messages_lost, 1);
}

#[test]
fn an_orderly_close_can_be_cut_short() {
    let mut fixture = Fixture::open(V4, WebSocket);
    fixture.send("lost");
    fixture.close(CloseReason::ForcedClose);
    fixture.close(CloseReason::ForcedClose);
    fixture.close(CloseReason::SlowConsumer);
    assert_eq!(fixture.events(), "closed: forced close");
    assert_eq!(fixture.out(), "close ws");
    assert!(fixture.session.is_closed());
}

#[test]
fn a_websocket_that_takes_nothing_is_closed_in_the_end() {
    let mut fixture = Fixture::open(V4, WebSocket);
    fixture.close(CloseReason::ForcedClose);
    fixture.pass(CLOSE_TIMEOUT_MS);
    assert_eq!(fixture.out(), "close ws");
}

#[test]
fn a_session_that_ends_closes_the_probing_websocket() {
    let mut fixture = Fixture::open(V4, Polling);
    fixture.get();
    fixture.candidate();
    fixture.close(CloseReason::PingTimeout);
    assert_eq!(fixture.out(), "close ws | get 1");
    assert_eq!(fixture.events(), "closed: ping timeout");
    assert!(fixture.session.is_closed());
}

#[test]
fn an_upgrade_that_completes_during_a_close_carries_the_last_messages() {
    let mut fixture = Fixture::open(V4, Polling);
    let id = fixture.candidate();
    fixture.ws_text(id, "2probe");
    fixture.out();
    fixture.send("last");
    fixture.close(CloseReason::ForcedClose);
    assert_eq!(fixture.out(), "");
    fixture.ws_text(id, "5");
    assert_eq!(fixture.out(), "ws 4last | close ws");
    assert_eq!(fixture.events(), "closed: forced close");
    assert!(fixture.session.is_closed());
}

#[test]
fn a_closing_session_releases_no_poll_without_its_goodbye() {
    for probe_first in [true, false] {
        let mut fixture = Fixture::open(V4, Polling);
        let id = fixture.candidate();
        if probe_first {
            fixture.ws_text(id, "2probe");
        }
        fixture.close(CloseReason::ForcedClose);
        if !probe_first {
            fixture.ws_text(id, "2probe");
        }
        assert_eq!(fixture.out(), "ws 3probe");
        fixture.get();
        fixture.pass(100);
        assert_eq!(fixture.out(), "get 6 1 | close ws");
    }
}

#[test]
fn nothing_happens_after_the_end() {
    let mut fixture = Fixture::open(V4, WebSocket);
    let id = fixture.session.current_transport();
    fixture.ws("1");
    fixture.events();
    fixture.out();
    fixture.ws_text(id, "4late");
    fixture.ws_text(id, "1");
    fixture.ws_text(id, "");
    fixture.detach(id, Detached::Closed);
    fixture.close(CloseReason::ForcedClose);
    fixture.pass(10_000);
    assert_eq!(fixture.out(), "");
    assert_eq!(fixture.events(), "");
}

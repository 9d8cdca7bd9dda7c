use super::*;
use crate::ProtocolVersion::{V3, V4};
use crate::Transport::{Polling, WebSocket};

#[test]
fn version_4_pings_one_interval_after_the_last_pong() {
    let mut fixture = Fixture::open(V4, WebSocket);
    fixture.pass(INTERVAL_MS - 1);
    assert_eq!(fixture.out(), "");
    fixture.pass(1);
    assert_eq!(fixture.out(), "ws 2");
    fixture.pass(TIMEOUT_MS - 1);
    fixture.ws("3");
    fixture.pass(INTERVAL_MS - 1);
    assert_eq!(fixture.out(), "");
    fixture.pass(1);
    assert_eq!(fixture.out(), "ws 2");
    assert_eq!(fixture.events(), "");
}

#[test]
fn version_4_closes_when_the_pong_is_late() {
    let mut fixture = Fixture::open(V4, WebSocket);
    fixture.pass(INTERVAL_MS + TIMEOUT_MS - 1);
    assert_eq!(fixture.events(), "");
    fixture.pass(1);
    assert_eq!(fixture.events(), "closed: ping timeout");
    // The ping was never fetched, so the goodbye is all that leaves.
    assert_eq!(fixture.out(), "close ws");
    assert!(fixture.session.is_closed());
    assert_eq!(fixture.session.poll_timeout(), None);
}

#[test]
fn a_driver_that_pings_a_little_late_keeps_no_silent_peer_longer() {
    let mut fixture = Fixture::open(V4, WebSocket);
    fixture.oversleep(INTERVAL_MS + 3);
    fixture.pass(TIMEOUT_MS - 4);
    assert_eq!(fixture.events(), "");
    fixture.pass(1);
    assert_eq!(fixture.events(), "closed: ping timeout");
}

#[test]
fn after_a_long_sleep_of_the_driver_the_peer_has_time_for_its_pong() {
    let mut fixture = Fixture::open(V4, WebSocket);
    fixture.oversleep(INTERVAL_MS + 60_000);
    fixture.pass(TIMEOUT_MS * 9 / 10);
    assert_eq!(fixture.events(), "");
    fixture.ws("3");
    fixture.pass(INTERVAL_MS - 1);
    assert_eq!(fixture.events(), "");
}

#[test]
fn messages_do_not_stand_in_for_a_version_4_pong() {
    let mut fixture = Fixture::open(V4, WebSocket);
    fixture.pass(INTERVAL_MS);
    fixture.ws("4hi");
    fixture.pass(TIMEOUT_MS);
    assert_eq!(fixture.events(), "hi | closed: ping timeout");
}

#[test]
fn an_unasked_version_4_pong_postpones_the_next_ping() {
    let mut fixture = Fixture::open(V4, WebSocket);
    fixture.pass(INTERVAL_MS - 1);
    fixture.ws("3");
    fixture.pass(INTERVAL_MS - 1);
    assert_eq!(fixture.out(), "");
    fixture.pass(1);
    assert_eq!(fixture.out(), "ws 2");
}

#[test]
fn version_4_pings_travel_by_poll_and_the_pong_by_post() {
    let mut fixture = Fixture::open(V4, Polling);
    fixture.get();
    fixture.pass(INTERVAL_MS);
    assert_eq!(fixture.out(), "get 2");
    fixture.post("3");
    fixture.get();
    fixture.pass(INTERVAL_MS);
    assert_eq!(fixture.out(), "get 2");
}

#[test]
fn a_version_4_client_must_not_ping() {
    for text in ["2", "2probe"] {
        let mut fixture = Fixture::open(V4, WebSocket);
        fixture.ws(text);
        assert_eq!(fixture.events(), "closed: transport error", "{text}");
        assert_eq!(fixture.out(), "close ws");
    }
}

#[test]
fn a_version_3_client_must_not_pong() {
    let mut fixture = Fixture::open(V3, WebSocket);
    fixture.ws("3");
    assert_eq!(fixture.events(), "closed: transport error");
}

#[test]
fn version_3_pongs_echo_the_data_of_their_ping() {
    let mut fixture = Fixture::open(V3, WebSocket);
    fixture.ws("2");
    fixture.ws("2probe");
    assert_eq!(fixture.out(), "ws 3 | ws 3probe");
    let mut fixture = Fixture::open(V3, Polling);
    fixture.post("1:26:2pr€be");
    fixture.get();
    assert_eq!(fixture.out(), "get 1:36:3pr€be");
}

#[test]
fn version_3_closes_interval_and_timeout_after_the_last_ping() {
    let mut fixture = Fixture::open(V3, WebSocket);
    fixture.pass(INTERVAL_MS + TIMEOUT_MS - 1);
    fixture.ws("2");
    fixture.pass(INTERVAL_MS + TIMEOUT_MS - 1);
    fixture.ws("4only pings count");
    assert_eq!(fixture.events(), "only pings count");
    fixture.pass(1);
    assert_eq!(fixture.events(), "closed: ping timeout");
}

#[test]
fn version_3_servers_never_ping() {
    let mut fixture = Fixture::open(V3, WebSocket);
    fixture.pass(INTERVAL_MS + TIMEOUT_MS - 1);
    assert_eq!(fixture.out(), "");
}

#[test]
fn a_peer_that_pings_without_polling_is_closed() {
    let config = SessionConfig {
        max_packets_per_post: 100,
        ..test_config()
    };
    let mut fixture = Fixture::with_config(V3, Polling, config);
    fixture.post(&"1:2".repeat(100));
    assert_eq!(fixture.events(), "");
    fixture.post(&"1:2".repeat(100));
    assert_eq!(fixture.events(), "closed: transport error");
}

#[test]
fn waiting_pongs_are_bounded_in_bytes() {
    let mut fixture = Fixture::open(V3, Polling);
    let ping = format!("100001:2{}", "x".repeat(100_000));
    fixture.post(&ping);
    assert_eq!(fixture.events(), "");
    fixture.post(&ping);
    assert_eq!(fixture.events(), "closed: transport error");
}

#[test]
fn fetched_pongs_make_room_for_more() {
    let mut fixture = Fixture::open(V3, Polling);
    for _ in 0..100 {
        fixture.post(&"1:2".repeat(16));
        fixture.get();
        assert_eq!(fixture.out(), format!("get {}", "1:3".repeat(16)));
    }
    assert_eq!(fixture.events(), "");
}

#[test]
fn an_outstanding_pong_may_come_on_the_new_transport() {
    let mut fixture = Fixture::open(V4, Polling);
    fixture.get();
    fixture.pass(INTERVAL_MS);
    assert_eq!(fixture.out(), "get 2");
    fixture.upgrade();
    fixture.ws("3");
    fixture.pass(TIMEOUT_MS);
    assert_eq!(fixture.events(), "");
}

//! The hot path allocates nothing per message.

mod common;

use std::sync::Arc;

use common::base_instant;
use engineio_proto::{
    Encoded, Message, NodeTag, PollingPeer, ProtocolVersion, Session, SessionConfig, SessionId,
    Text, Transport,
};

#[test]
fn a_message_on_an_open_websocket_allocates_nothing() {
    let mut session = open_websocket();
    let message = Encoded::text("2[\"event\"]");
    let counts = allocation_counter::measure(|| {
        for _ in 0..100 {
            session.send(message.clone());
            while session.poll_transmit(base_instant()).is_some() {}
        }
    });
    assert_eq!(counts.count_total, 0, "{counts:?}");
}

#[test]
fn a_burst_on_an_open_websocket_allocates_no_more_than_its_queue() {
    let mut session = open_websocket();
    let message = Encoded::text("2[\"event\"]");
    let counts = allocation_counter::measure(|| {
        for _ in 0..1_000 {
            session.send(message.clone());
        }
        while session.poll_transmit(base_instant()).is_some() {}
    });
    assert!(counts.count_total <= 10, "{counts:?}");
    assert_eq!(
        counts.count_current, 0,
        "a large queue is freed: {counts:?}"
    );
}

#[test]
fn a_message_from_a_websocket_allocates_nothing() {
    let mut session = open_websocket();
    let id = session.current_transport();
    let content = Text::from("42[\"event\"]");
    // `Bytes` allocates its reference count when it is shared for the first time.
    let _shared = content.clone();
    let counts = allocation_counter::measure(|| {
        for _ in 0..100 {
            let message = Message::Text(content.clone());
            session.handle_ws_message(base_instant(), id, message);
            while session.poll_event().is_some() {}
        }
    });
    assert_eq!(counts.count_total, 0, "{counts:?}");
}

#[test]
fn an_idle_session_holds_no_heap() {
    let config = Arc::new(SessionConfig::default());
    let counts = allocation_counter::measure(|| {
        let session = websocket(Arc::clone(&config));
        std::mem::forget(session);
    });
    assert_eq!(counts.count_current, 0, "{counts:?}");
}

fn open_websocket() -> Session {
    let mut session = websocket(Arc::new(SessionConfig::default()));
    assert!(session.poll_transmit(base_instant()).is_some());
    session
}

fn websocket(config: Arc<SessionConfig>) -> Session {
    Session::new(
        base_instant(),
        config,
        SessionId::new(NodeTag::default(), [0; 12]),
        ProtocolVersion::V4,
        Transport::WebSocket,
        PollingPeer::default(),
    )
}

//! What the adapter asks sessions to do: collect acks, disconnect; and what it knows about sockets.

mod support;

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use engineio_proto::{Encoded, Outgoing};
use socketio_proto::{AckId, Args, EncodeError, Parser, Payload, Value, encode_event};
use sockhop_adapter::{
    AckCollector, AckResponses, Adapter, BroadcastOptions, Directive, DisconnectScope, ExpectAck,
    LonelyBus, NodeId, Room, RoomLimits,
};
use sockhop_outbox::Taken;
use support::{Peer, connect};

fn adapter() -> Adapter<Directive> {
    let bus = LonelyBus::new(NodeId::new(1));
    support::adapter(Arc::new(bus), RoomLimits::default())
}

fn to(rooms: &[&str]) -> BroadcastOptions {
    BroadcastOptions {
        rooms: rooms.iter().map(|&room| Room::from(room)).collect(),
        ..BroadcastOptions::default()
    }
}

/// The one directive that waits for a peer.
fn directive(peer: &Peer) -> Directive {
    let mut cx = Context::from_waker(Waker::noop());
    let Poll::Ready(Taken::Items(items)) = peer.outbox.poll_take(&mut cx) else {
        panic!("nothing is queued");
    };
    assert_eq!(items.len(), 1);
    match items.into_iter().next() {
        Some(Outgoing::Control(directive)) => directive,
        Some(Outgoing::Packet(_)) | None => panic!("no directive"),
    }
}

fn expected_ack(peer: &Peer) -> ExpectAck {
    match directive(peer) {
        Directive::ExpectAck(expect) => *expect,
        Directive::Disconnect { .. } => panic!("asked to disconnect"),
    }
}

fn ask(adapter: &Adapter<Directive>, options: &BroadcastOptions) -> Arc<AckCollector> {
    let id = adapter.next_ack_id();
    let deadline = Some(Instant::now() + Duration::from_secs(5));
    let mut encode = |parser: Parser| -> Result<Encoded, EncodeError> {
        encode_event(parser, "/chat", Some(id), "question", &())
    };
    adapter
        .broadcast_with_ack(options, id, deadline, &mut encode)
        .unwrap()
}

fn responses(acks: &AckCollector) -> Option<AckResponses> {
    match acks.poll_responses(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(responses) => Some(responses),
        Poll::Pending => None,
    }
}

fn answer(text: &str) -> Payload {
    Payload::from_args(Args(vec![Value::String(text.into())]))
}

#[test]
fn every_recipient_is_asked_once_and_the_answers_are_collected() {
    let adapter = adapter();
    let peers = ["a", "b", "c"].map(|id| connect(&adapter, id, Parser::Json));
    for peer in &peers[..2] {
        for room in ["red", "blue"] {
            adapter.rooms().join(peer.key, &room.into()).unwrap();
        }
    }
    let acks = ask(&adapter, &to(&["red", "blue"]));
    for (peer, text) in peers.iter().zip(["yes", "no"]) {
        let expect = expected_ack(peer);
        assert_eq!((expect.socket, expect.id), (peer.key, AckId::new(0)));
        assert_eq!(peer.outbox.queued_bytes(), expect.packet.budget_bytes());
        assert!(responses(&acks).is_none());
        expect.slot.answer(answer(text));
    }
    let responses = responses(&acks).unwrap();
    assert_eq!((responses.expected, responses.missing()), (2, 0));
    assert_eq!(responses.answers[1].0.as_str(), "b");
    assert_eq!(responses.answers[1].1.decode::<String>().unwrap(), "no");
    assert_eq!(adapter.next_ack_id(), AckId::new(1));
}

#[test]
fn a_session_that_ends_is_missed_instead_of_awaited() {
    let adapter = adapter();
    let [gone, closing, full] =
        ["gone", "closing", "full"].map(|id| connect(&adapter, id, Parser::Json));
    drop(gone.outbox.close());
    assert!(full.outbox.charge(1 << 20) == sockhop_outbox::Push::Queued);
    let acks = ask(&adapter, &to(&[]));
    assert!(responses(&acks).is_none());
    drop(closing.outbox.close());
    let responses = responses(&acks).unwrap();
    assert_eq!((responses.expected, responses.missing()), (3, 3));
    assert_eq!(adapter.stats().late.get(), 1);
    assert_eq!(adapter.stats().overflows.get(), 1);
}

#[test]
fn asking_nobody_writes_nothing() {
    let adapter = adapter();
    let acks = adapter
        .broadcast_with_ack(&to(&[]), AckId::new(0), None, &mut |_| {
            panic!("nobody needs this")
        })
        .unwrap();
    assert_eq!(responses(&acks).unwrap().expected, 0);
}

#[test]
fn sockets_are_disconnected_by_their_own_sessions() {
    let adapter = adapter();
    let [a, b] = ["a", "b"].map(|id| connect(&adapter, id, Parser::Json));
    let asked = adapter.disconnect_sockets(&to(&["a"]), DisconnectScope::Session);
    assert_eq!(asked, 1);
    match directive(&a) {
        Directive::Disconnect { socket, scope } => {
            assert_eq!((socket, scope), (a.key, DisconnectScope::Session));
        }
        Directive::ExpectAck(_) => panic!("asked for an ack"),
    }
    let mut cx = Context::from_waker(Waker::noop());
    assert!(b.outbox.poll_take(&mut cx).is_pending());
    assert_eq!(adapter.rooms().len(), 2, "until the session says so");
}

#[test]
fn fetched_sockets_come_with_their_rooms() {
    let adapter = adapter();
    let [a, _b] = ["a", "b"].map(|id| connect(&adapter, id, Parser::Json));
    adapter.sockets_join(&to(&["a"]), &["red", "blue"].map(Room::from));
    let sockets = adapter.fetch_sockets(&to(&["red", "a"]));
    assert_eq!(sockets.len(), 1);
    assert_eq!(
        sockets[0].id,
        *adapter.rooms().socket(a.key).unwrap().info.id()
    );
    let rooms: Vec<&str> = sockets[0].rooms.iter().map(Room::as_str).collect();
    assert_eq!(rooms, ["a", "red", "blue"]);
}

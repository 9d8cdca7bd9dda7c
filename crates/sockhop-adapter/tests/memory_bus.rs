//! Two nodes of one process on one bus.

mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use engineio_proto::{Encoded, Frame, Outgoing};
use socketio_proto::{Args, EncodeError, Parser, Value, encode_event};
use sockhop_adapter::bus::MemoryBusLimits;
use sockhop_adapter::{
    Adapter, BroadcastError, BroadcastOptions, Bus, BusError, Cluster, Directive, Host, LonelyBus,
    MemoryBus, MemoryHub, NodeId, Room, RoomLimits, ServerEvent, Wait,
};
use sockhop_outbox::Taken;
use support::Peer;

struct Node {
    cluster: Arc<Cluster>,
    adapter: Arc<Adapter<Directive>>,
    bus: Arc<MemoryBus>,
    peers: HashMap<&'static str, Peer>,
}

impl Node {
    fn new(hub: &MemoryHub, number: u64) -> Self {
        let bus = Arc::new(hub.attach(NodeId::new(number)).unwrap());
        let adapter = support::adapter(bus.clone(), RoomLimits::default());
        Self {
            cluster: Arc::clone(adapter.cluster()),
            adapter: Arc::new(adapter),
            bus,
            peers: HashMap::new(),
        }
    }

    fn connect(&mut self, id: &'static str, parser: Parser, rooms: &[&str]) {
        let peer = support::connect(&self.adapter, id, parser);
        for &room in rooms {
            self.adapter.rooms().join(peer.key, &room.into()).unwrap();
        }
        self.peers.insert(id, peer);
    }

    /// What the task that drives this node does.
    fn drive(&self) -> usize {
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(frames) = self.bus.poll_incoming(&mut cx) else {
            return 0;
        };
        for frame in &frames {
            self.cluster.handle_frame(Instant::now(), frame, self);
        }
        frames.len()
    }

    /// The data of all frames that a socket got.
    fn received(&self, id: &str) -> Vec<Vec<u8>> {
        let outbox = &self.peers[id].outbox;
        let mut received = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(Taken::Items(items)) = outbox.poll_take(&mut cx) {
            for item in items {
                let Outgoing::Packet(packet) = item else {
                    panic!("only packets are expected");
                };
                received.extend(packet.frames().map(|frame: &Frame| frame.data().to_vec()));
                outbox.refund(packet.budget_bytes());
            }
        }
        received
    }

    fn emit(&self, options: &BroadcastOptions) {
        self.adapter.broadcast(options, &mut news).unwrap();
    }
}

impl Host<Directive> for Node {
    fn adapter(&self, namespace: &str) -> Option<Arc<Adapter<Directive>>> {
        (namespace == "/chat").then(|| Arc::clone(&self.adapter))
    }

    fn spawn(&self, _: Wait<()>) {}

    fn server_event(&self, _: ServerEvent) {}
}

fn news(parser: Parser) -> Result<Encoded, EncodeError> {
    let picture = Value::Binary(Bytes::from_static(b"picture"));
    let payload = Args(vec![Value::String("headline".into()), picture]);
    encode_event(parser, "/chat", None, "news", &payload)
}

fn to(rooms: &[&str]) -> BroadcastOptions {
    BroadcastOptions {
        rooms: rooms.iter().map(|&room| Room::from(room)).collect(),
        ..BroadcastOptions::default()
    }
}

fn pair() -> (Node, Node) {
    let hub = MemoryHub::default();
    (Node::new(&hub, 1), Node::new(&hub, 2))
}

fn frames_of(packet: Result<Encoded, EncodeError>) -> Vec<Vec<u8>> {
    let packet = packet.unwrap();
    packet.frames().map(|frame| frame.data().to_vec()).collect()
}

#[test]
fn a_broadcast_reaches_the_members_on_the_other_node_with_the_same_bytes() {
    let (mut a, mut b) = pair();
    a.connect("a1", Parser::Json, &["red"]);
    b.connect("b1", Parser::Json, &["red"]);
    b.connect("b2", Parser::Json, &["blue"]);
    a.emit(&to(&["red"]));
    b.drive();
    assert_eq!(a.received("a1"), frames_of(news(Parser::Json)));
    assert_eq!(b.received("b1"), frames_of(news(Parser::Json)));
    assert!(b.received("b2").is_empty());
    assert_eq!(b.adapter.stats().transcoded.get(), 0);
}

#[test]
fn a_node_drops_its_own_messages() {
    let (mut a, mut b) = pair();
    a.connect("a1", Parser::Json, &[]);
    b.connect("b1", Parser::Json, &[]);
    a.emit(&to(&[]));
    assert_eq!(a.drive(), 1);
    assert_eq!(a.adapter.stats().own.get(), 1);
    assert_eq!(a.received("a1").len(), 2, "the head and one attachment");
    b.drive();
    assert_eq!(b.received("b1").len(), 2);
}

#[test]
fn a_socket_in_two_rooms_gets_it_once_and_exceptions_hold_on_every_node() {
    let (mut a, mut b) = pair();
    a.connect("a1", Parser::Json, &["red", "blue"]);
    b.connect("b1", Parser::Json, &["red", "blue"]);
    b.connect("b2", Parser::Json, &["red", "muted"]);
    b.connect("b3", Parser::Json, &["blue"]);
    let options = BroadcastOptions {
        // The sender; a member of a room; a socket named by its id.
        except_socket: Some(a.peers["a1"].key),
        except: ["muted", "b3"].map(Room::from).into_iter().collect(),
        ..to(&["red", "blue"])
    };
    a.emit(&options);
    b.drive();
    assert!(a.received("a1").is_empty());
    assert_eq!(b.received("b1").len(), 2);
    assert!(b.received("b2").is_empty());
    assert!(b.received("b3").is_empty());
}

#[test]
fn local_broadcasts_stay_on_their_node() {
    let (mut a, mut b) = pair();
    a.connect("a1", Parser::Json, &[]);
    b.connect("b1", Parser::Json, &[]);
    a.emit(&BroadcastOptions {
        local: true,
        ..to(&[])
    });
    assert_eq!(b.drive(), 0);
    assert_eq!(a.adapter.stats().published.get(), 0);
    assert_eq!(a.received("a1").len(), 2);
}

#[test]
fn a_node_alone_publishes_and_encodes_nothing_for_the_bus() {
    let bus = LonelyBus::new(NodeId::new(1));
    let adapter = support::adapter(Arc::new(bus), RoomLimits::default());
    let delivery = adapter
        .broadcast(&to(&[]), &mut |_| panic!("nobody needs this"))
        .unwrap();
    assert_eq!(delivery.recipients, 0);
    assert_eq!(adapter.stats().published.get(), 0);
}

#[test]
fn a_node_without_sockets_encodes_once_for_the_others() {
    let (a, mut b) = pair();
    b.connect("b1", Parser::Json, &[]);
    let mut parsers = Vec::new();
    a.adapter
        .broadcast(&to(&[]), &mut |parser| {
            parsers.push(parser);
            news(parser)
        })
        .unwrap();
    assert_eq!(parsers, [Parser::Json]);
    b.drive();
    assert_eq!(b.received("b1"), frames_of(news(Parser::Json)));
}

#[test]
fn sockets_with_another_parser_get_the_packet_written_anew_once() {
    for (here, there) in [
        (Parser::Json, Parser::Msgpack),
        (Parser::Msgpack, Parser::Json),
    ] {
        let (mut a, mut b) = pair();
        a.connect("a1", here, &[]);
        b.connect("b1", there, &[]);
        b.connect("b2", there, &[]);
        b.connect("b3", here, &[]);
        a.emit(&to(&[]));
        b.drive();
        assert_eq!(b.received("b1"), frames_of(news(there)));
        assert_eq!(b.received("b2"), frames_of(news(there)));
        assert_eq!(b.received("b3"), frames_of(news(here)));
        assert_eq!(b.adapter.stats().transcoded.get(), 1);
    }
}

#[test]
fn volatile_and_compression_travel_with_the_message() {
    let (a, mut b) = pair();
    b.connect("ready", Parser::Json, &[]);
    b.connect("busy", Parser::Json, &[]);
    b.peers["ready"].outbox.set_writable(true);
    a.emit(&BroadcastOptions {
        volatile: true,
        compress: false,
        ..to(&[])
    });
    b.drive();
    assert!(b.received("busy").is_empty());
    assert_eq!(b.adapter.stats().volatile_dropped.get(), 1);
    let mut cx = Context::from_waker(Waker::noop());
    let Poll::Ready(Taken::Items(items)) = b.peers["ready"].outbox.poll_take(&mut cx) else {
        panic!("nothing received");
    };
    for item in items {
        assert!(matches!(item, Outgoing::Packet(packet) if !packet.compress()));
    }
}

#[test]
fn messages_of_one_emitter_arrive_in_order() {
    let (a, mut b) = pair();
    b.connect("b1", Parser::Json, &["red"]);
    for number in 0..100 {
        let options = match number % 2 {
            0 => to(&["red"]),
            _ => to(&[]),
        };
        a.adapter
            .broadcast(&options, &mut |parser| {
                encode_event(parser, "/chat", None, "count", &number)
            })
            .unwrap();
    }
    b.drive();
    let received = b.received("b1");
    let expected = (0..100).map(|number| format!("42/chat,[\"count\",{number}]").into_bytes());
    assert_eq!(received, expected.collect::<Vec<_>>());
}

#[test]
fn a_message_without_a_local_recipient_is_counted() {
    let (a, b) = pair();
    a.emit(&to(&[]));
    b.drive();
    assert_eq!(b.adapter.stats().received.get(), 1);
    assert_eq!(b.adapter.stats().discarded.get(), 1);
}

#[test]
fn a_full_bus_is_reported_and_does_not_hinder_local_delivery() {
    let hub = MemoryHub::new(MemoryBusLimits {
        max_queue_bytes: 10,
        ..MemoryBusLimits::default()
    });
    let (mut a, mut b) = (Node::new(&hub, 1), Node::new(&hub, 2));
    a.connect("a1", Parser::Json, &[]);
    b.connect("b1", Parser::Json, &[]);
    match a.adapter.broadcast(&to(&[]), &mut news) {
        Err(BroadcastError::Bus { source, delivery }) => {
            assert_eq!(source, BusError::QueueFull);
            assert_eq!(delivery.recipients, 1);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(a.adapter.stats().publish_failures.get(), 1);
    assert_eq!(b.bus.stats().dropped.get(), 1);
    assert_eq!(a.received("a1").len(), 2);
}

#[test]
fn what_nobody_can_read_is_counted_and_dropped() {
    let (a, mut b) = pair();
    b.connect("b1", Parser::Json, &[]);
    a.bus
        .publish_to_node(b.bus.node(), Bytes::from_static(b"\x01nonsense"))
        .unwrap();
    b.drive();
    assert_eq!(b.adapter.stats().bad_frames.get(), 1);
    assert!(b.received("b1").is_empty());
}

#[test]
fn a_dropped_adapter_no_longer_listens() {
    let (a, b) = pair();
    let Node {
        adapter,
        cluster,
        bus,
        ..
    } = b;
    drop((adapter, cluster));
    a.emit(&to(&[]));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(bus.poll_incoming(&mut cx).is_pending());
}

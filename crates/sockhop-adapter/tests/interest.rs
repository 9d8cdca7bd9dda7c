//! Which frames reach which node.

mod support;

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use engineio_proto::{NodeTag, Outgoing, SessionId};
use socketio_proto::{Parser, encode_event};
use sockhop_adapter::{
    Adapter, BroadcastOptions, Bus, Cluster, Directive, Host, LonelyBus, MemoryBus, MemoryHub,
    NodeId, Room, RoomLimits, ServerEvent, SocketId, Wait,
};
use sockhop_outbox::Taken;
use support::Peer;

struct Node {
    cluster: Arc<Cluster>,
    adapter: Arc<Adapter<Directive>>,
    bus: Arc<MemoryBus>,
    tag: u32,
}

impl Host<Directive> for Node {
    fn adapter(&self, namespace: &str) -> Option<Arc<Adapter<Directive>>> {
        (namespace == "/chat").then(|| Arc::clone(&self.adapter))
    }

    fn spawn(&self, _: Wait<()>) {}

    fn server_event(&self, _: ServerEvent) {}
}

impl Node {
    fn new(hub: &MemoryHub, tag: u32) -> Self {
        let bus = Arc::new(hub.attach(NodeId::new(u64::from(tag) << 40)).unwrap());
        let adapter = support::adapter(bus.clone(), RoomLimits::default());
        Self {
            cluster: Arc::clone(adapter.cluster()),
            adapter: Arc::new(adapter),
            bus,
            tag,
        }
    }

    /// Connects a socket whose id tells where it lives.
    fn connect(&self, number: u8, rooms: &[&str]) -> (SocketId, Peer) {
        let tag = NodeTag::new(self.tag).unwrap();
        let id = SessionId::new(tag, [number; 12]).to_string();
        let peer = support::connect(&self.adapter, &id, Parser::Json);
        for &room in rooms {
            self.adapter.rooms().join(peer.key, &room.into()).unwrap();
        }
        (SocketId::from(id), peer)
    }

    fn drive(&self) {
        self.cluster.handle_timeout(Instant::now());
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(frames) = self.bus.poll_incoming(&mut cx) {
            for frame in &frames {
                self.cluster.handle_frame(Instant::now(), frame, self);
            }
        }
    }

    fn emit(&self, rooms: &[&str]) {
        let options = BroadcastOptions {
            rooms: rooms.iter().map(|&room| Room::from(room)).collect(),
            ..BroadcastOptions::default()
        };
        let mut write = |parser| encode_event(parser, "/chat", None, "news", &());
        self.adapter.broadcast(&options, &mut write).unwrap();
    }

    fn received(&self) -> u64 {
        self.adapter.stats().received.get()
    }

    fn discarded(&self) -> u64 {
        self.adapter.stats().discarded.get()
    }
}

/// Nodes that know each other.
fn nodes<const N: usize>() -> [Node; N] {
    let hub = MemoryHub::default();
    let nodes = std::array::from_fn(|index| Node::new(&hub, index as u32 + 1));
    for _ in 0..3 {
        nodes.iter().for_each(Node::drive);
    }
    for node in &nodes {
        assert_eq!(node.cluster.members().len(), N);
    }
    nodes
}

fn count(peer: &Peer) -> usize {
    let mut cx = Context::from_waker(Waker::noop());
    let mut count = 0;
    while let Poll::Ready(Taken::Items(items)) = peer.outbox.poll_take(&mut cx) {
        for item in items {
            let Outgoing::Packet(packet) = item else {
                panic!("only packets are expected");
            };
            peer.outbox.refund(packet.budget_bytes());
            count += 1;
        }
    }
    count
}

#[test]
fn a_node_hears_of_a_room_only_while_it_has_a_member() {
    let [a, b] = nodes();
    a.emit(&["red"]);
    b.drive();
    assert_eq!(b.received(), 0);
    let before = b.bus.subscriptions();
    let (_, one) = b.connect(1, &["red"]);
    let (_, two) = b.connect(2, &["red"]);
    assert_eq!(b.bus.subscriptions().len(), before.len() + 1);
    a.emit(&["red"]);
    b.drive();
    assert_eq!((count(&one), count(&two)), (1, 1));
    b.adapter.rooms().leave(one.key, "red");
    a.emit(&["red"]);
    b.drive();
    assert_eq!((count(&one), count(&two)), (0, 1));
    b.adapter.rooms().disconnect(two.key);
    assert_eq!(b.bus.subscriptions(), before);
    a.emit(&["red"]);
    b.drive();
    assert_eq!((b.received(), b.discarded()), (2, 0));
}

#[test]
fn what_is_for_one_socket_goes_to_its_node_alone() {
    let [a, b, c] = nodes();
    let before = b.bus.subscriptions();
    let (id, peer) = b.connect(1, &[]);
    assert_eq!(b.bus.subscriptions(), before, "its own room needs none");
    a.emit(&[id.as_str()]);
    b.drive();
    c.drive();
    assert_eq!(count(&peer), 1);
    assert_eq!((b.received(), c.received()), (1, 0));
    // On its own node it needs no bus at all.
    b.emit(&[id.as_str()]);
    assert_eq!((count(&peer), b.adapter.stats().published.get()), (1, 0));
}

#[test]
fn the_id_of_an_old_client_leads_to_its_node_too() {
    let [a, b, c] = nodes();
    let (id, _) = b.connect(1, &[]);
    let old = format!("/chat#{id}");
    let peer = support::connect(&b.adapter, &old, Parser::Json);
    a.emit(&[&old]);
    b.drive();
    c.drive();
    assert_eq!((count(&peer), c.received()), (1, 0));
}

#[test]
fn an_id_without_a_living_node_is_a_room_like_any_other() {
    let [a, b] = nodes();
    let stranger = SessionId::new(NodeTag::new(99).unwrap(), [9; 12]).to_string();
    let (_, peer) = b.connect(1, &[&stranger]);
    a.emit(&[&stranger]);
    b.drive();
    assert_eq!(count(&peer), 1);
}

#[test]
fn a_room_that_only_looks_like_an_id_of_some_node_reaches_its_members_once() {
    let [a, b, c] = nodes();
    // By its form an id of the first node, which has no such socket.
    let room = SessionId::new(NodeTag::new(a.tag).unwrap(), [9; 12]).to_string();
    let (_, at_a) = a.connect(1, &[&room]);
    let (_, at_b) = b.connect(2, &[&room]);
    for sender in [&a, &b, &c] {
        sender.emit(&[&room]);
        for node in [&a, &b, &c, &a, &b, &c] {
            node.drive();
        }
        assert_eq!((count(&at_a), count(&at_b)), (1, 1), "from {}", sender.tag);
    }
    assert_eq!(a.adapter.stats().strays.get(), 2);
    assert_eq!(c.received(), 0);
}

#[test]
fn a_broadcast_to_several_rooms_is_delivered_once() {
    let [a, b, c] = nodes();
    let (id, one) = b.connect(1, &["red", "blue"]);
    let (_, two) = b.connect(2, &["blue"]);
    let (_, none) = c.connect(3, &["green"]);
    a.emit(&["red", "blue", "red", id.as_str()]);
    b.drive();
    c.drive();
    assert_eq!((count(&one), count(&two), count(&none)), (1, 1, 0));
    assert_eq!(b.adapter.stats().duplicates.get(), 2);
    assert_eq!((b.received(), c.received()), (1, 0));
}

#[test]
fn a_broadcast_to_very_many_rooms_goes_to_the_namespace_once() {
    let [a, b] = nodes();
    let names: Vec<String> = (0..100).map(|number| format!("room {number}")).collect();
    let rooms: Vec<&str> = names.iter().map(String::as_str).collect();
    let (_, peer) = b.connect(1, &rooms);
    a.emit(&rooms);
    b.drive();
    assert_eq!(count(&peer), 1);
    assert_eq!((b.received(), b.adapter.stats().duplicates.get()), (1, 0));
}

#[test]
fn a_dropped_adapter_leaves_no_subscription() {
    let [_a, b] = nodes();
    let _peer = b.connect(1, &["red", "blue"]);
    let Node {
        cluster,
        adapter,
        bus,
        ..
    } = b;
    assert_eq!(bus.subscriptions().len(), 4);
    drop(adapter);
    assert_eq!(bus.subscriptions().len(), 1);
    drop(cluster);
    assert!(bus.subscriptions().is_empty());
}

#[test]
fn alone_an_emit_to_a_room_of_others_writes_nothing() {
    let bus = Arc::new(LonelyBus::new(NodeId::new(1)));
    let adapter = support::adapter(bus, RoomLimits::default());
    let options = BroadcastOptions {
        rooms: [Room::from("red")].into_iter().collect(),
        ..BroadcastOptions::default()
    };
    let delivery = adapter.broadcast(&options, &mut |_| panic!("nobody needs this"));
    assert_eq!(delivery.unwrap().recipients, 0);
}

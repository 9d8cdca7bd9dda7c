//! One node of the simulation.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use engineio_proto::{NodeTag, Outgoing, SessionId};
use socketio_proto::{Parser, encode_event};
use sockhop_adapter::{
    Adapter, BroadcastOptions, Bus, Cluster, Directive, Host, MemoryBus, MemoryHub, NodeId, Room,
    RoomLimits, ServerEvent, SocketId, Wait,
};
use sockhop_outbox::Taken;
use testkit::Random;

use crate::support::{self, Peer};

/// A message by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packet(pub(crate) usize);

pub(crate) struct Node {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) adapter: Arc<Adapter<Directive>>,
    pub(crate) bus: Arc<MemoryBus>,
    peers: BTreeMap<SocketId, Peer>,
    connected: Mutex<u32>,
    /// What takes a while.
    work: Mutex<Vec<Wait<()>>>,
}

impl Host<Directive> for Node {
    fn adapter(&self, namespace: &str) -> Option<Arc<Adapter<Directive>>> {
        (namespace == "/chat").then(|| Arc::clone(&self.adapter))
    }

    fn spawn(&self, work: Wait<()>) {
        self.work.lock().expect("one thread").push(work);
    }

    fn server_event(&self, _: ServerEvent) {}
}

impl Node {
    pub(crate) fn start(hub: &MemoryHub, number: u64) -> Self {
        let bus = hub.attach(NodeId::new(number)).expect("a new number");
        let bus = Arc::new(bus);
        let adapter = support::adapter(bus.clone(), RoomLimits::default());
        Self {
            cluster: Arc::clone(adapter.cluster()),
            adapter: Arc::new(adapter),
            bus,
            peers: BTreeMap::new(),
            connected: Mutex::default(),
            work: Mutex::default(),
        }
    }

    /// Does what there is to do now; whether there was anything.
    pub(crate) fn drive(&self, now: Instant) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        self.cluster.handle_timeout(now);
        let frames = match self.bus.poll_incoming(&mut cx) {
            Poll::Ready(frames) => frames,
            Poll::Pending => Vec::new(),
        };
        for frame in &frames {
            self.cluster.handle_frame(now, frame, self);
        }
        let mut work = self.work.lock().expect("one thread");
        work.retain_mut(|work| work.as_mut().poll(&mut cx).is_pending());
        !frames.is_empty()
    }

    pub(crate) fn connect(&mut self, salt: u8) -> SocketId {
        let mut connected = self.connected.lock().expect("one thread");
        *connected += 1;
        let mut random = [salt; 12];
        random[..4].copy_from_slice(&connected.to_be_bytes());
        let tag = NodeTag::new(self.bus.node().tag()).expect("24 bits");
        let id = SessionId::new(tag, random).to_string();
        let parser = match salt % 3 {
            0 => Parser::Msgpack,
            _ => Parser::Json,
        };
        let peer = support::connect(&self.adapter, &id, parser);
        let id = SocketId::from(id);
        drop(connected);
        self.peers.insert(id.clone(), peer);
        id
    }

    pub(crate) fn disconnect(&mut self, socket: &SocketId) -> Vec<Packet> {
        let packets = self.take(socket);
        let peer = self.peers.remove(socket).expect("it is connected");
        self.adapter.rooms().disconnect(peer.key);
        packets
    }

    pub(crate) fn join(&self, socket: &SocketId, room: &str) {
        let key = self.peers[socket].key;
        self.adapter
            .rooms()
            .join(key, &Room::from(room))
            .expect("few rooms");
    }

    pub(crate) fn leave(&self, socket: &SocketId, room: &str) {
        self.adapter.rooms().leave(self.peers[socket].key, room);
    }

    pub(crate) fn is_in(&self, socket: &SocketId, room: &str) -> bool {
        let rooms = self.adapter.rooms().rooms_of(self.peers[socket].key);
        rooms.is_some_and(|rooms| rooms.iter().any(|it| it.as_str() == room))
    }

    pub(crate) fn sockets(&self) -> impl Iterator<Item = &SocketId> {
        self.peers.keys()
    }

    pub(crate) fn any_socket(&self, random: &mut Random) -> Option<SocketId> {
        match self.peers.len() {
            0 => None,
            count => self.peers.keys().nth(random.below(count)).cloned(),
        }
    }

    pub(crate) fn emit(&self, options: &BroadcastOptions, number: usize) {
        let mut write = |parser| encode_event(parser, "/chat", None, "n", &number);
        // Other nodes may miss it, which is what this is about.
        let _ = self.adapter.broadcast(options, &mut write);
    }

    /// What a socket has got since the last call.
    pub(crate) fn take(&self, socket: &SocketId) -> Vec<Packet> {
        let outbox = &self.peers[socket].outbox;
        let mut cx = Context::from_waker(Waker::noop());
        let mut packets = Vec::new();
        while let Poll::Ready(Taken::Items(items)) = outbox.poll_take(&mut cx) {
            for item in items {
                let Outgoing::Packet(packet) = item else {
                    panic!("only packets are expected");
                };
                let data = packet.frame(0).expect("a head").data();
                packets.push(Packet(number_in(data)));
                outbox.refund(packet.budget_bytes());
            }
        }
        packets
    }
}

/// The number in an event, as text or as MessagePack at the end of it.
fn number_in(data: &[u8]) -> usize {
    if data.starts_with(b"42/chat,[\"n\",") {
        let text = std::str::from_utf8(&data[13..data.len() - 1]).expect("text");
        return text.parse().expect("a number");
    }
    match *data {
        [.., 0xcd, high, low] => usize::from(u16::from_be_bytes([high, low])),
        [.., 0xcc, byte] => usize::from(byte),
        [.., byte] => usize::from(byte),
        [] => panic!("nothing"),
    }
}

//! How many messages of the bus reach a node that has nobody for them.
//!
//! Eight nodes, 2,000 rooms of ten sockets each, spread at random; every socket emits to its rooms
//! while others join and leave. `cargo run --release -p sockhop-adapter --example discards`
//!
//! Prints the discard ratio and ends with 1 if it is 1 % or more.

use std::process::ExitCode;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use engineio_proto::{NodeTag, Outgoing, SessionId};
use socketio_proto::{NamespaceName, Parser, Value, encode_event};
use sockhop_adapter::bus::MemoryBusLimits;
use sockhop_adapter::{
    Adapter, BroadcastOptions, Bus, Cluster, ClusterConfig, Directive, ForwardToken, Host,
    Identity, MemoryBus, MemoryHub, NodeId, Recipient, Room, RoomLimits, ServerEvent, SocketId,
    SocketInfo, SocketKey, Stats, Wait,
};
use sockhop_outbox::{Outbox, Taken};
use testkit::Random;

const NODES: usize = 8;
const ROOMS: usize = 2_000;
const ROOM_SIZE: usize = 10;
const EMITS: usize = 200_000;
/// Emits after which one socket leaves its room and another takes its place.
const EMITS_PER_MOVE: usize = 10;
/// Emits between two turns in which the nodes take what has come: subscriptions and messages cross
/// on their way as on a real bus.
const EMITS_PER_TURN: usize = 16;
const MAX_DISCARD_PERCENT: f64 = 1.0;

#[derive(Debug)]
struct Info(SocketId);

impl SocketInfo for Info {
    fn id(&self) -> &SocketId {
        &self.0
    }

    fn handshake(&self) -> Value {
        Value::Null
    }

    fn data(&self) -> Value {
        Value::Null
    }
}

struct Node {
    adapter: Arc<Adapter<Directive>>,
    bus: Arc<MemoryBus>,
}

impl Host<Directive> for Node {
    fn adapter(&self, namespace: &str) -> Option<Arc<Adapter<Directive>>> {
        (namespace == "/").then(|| Arc::clone(&self.adapter))
    }

    fn spawn(&self, _: Wait<()>) {}

    fn server_event(&self, _: ServerEvent) {}
}

struct Socket {
    node: usize,
    key: SocketKey,
    id: SocketId,
    outbox: Outbox<Outgoing<Directive>>,
}

impl Node {
    fn start(hub: &MemoryHub, number: u64) -> Self {
        let bus = Arc::new(hub.attach(NodeId::new(number << 40)).expect("a new number"));
        let identity = Identity {
            started_ms: 0,
            version: String::new(),
            token: ForwardToken::new([0; 32]),
        };
        let shared = Arc::clone(&bus) as Arc<dyn Bus>;
        let stats = Arc::new(Stats::default());
        let cluster = Cluster::new(
            shared,
            ClusterConfig::default(),
            identity,
            stats,
            Instant::now(),
        );
        let adapter = Adapter::new(NamespaceName::root(), RoomLimits::default(), cluster);
        Self {
            adapter: Arc::new(adapter),
            bus,
        }
    }

    fn drive(&self) {
        let cluster = self.adapter.cluster();
        cluster.handle_timeout(Instant::now());
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(frames) = self.bus.poll_incoming(&mut cx) {
            for frame in &frames {
                cluster.handle_frame(Instant::now(), frame, self);
            }
        }
    }

    fn connect(&self, node: usize, number: usize) -> Socket {
        let mut random = [0; 12];
        random[..8].copy_from_slice(&(number as u64).to_be_bytes());
        let tag = NodeTag::new(self.bus.node().tag()).expect("24 bits");
        let id = SocketId::from(SessionId::new(tag, random).to_string());
        let socket = Socket {
            node,
            key: SocketKey::next(),
            id: id.clone(),
            outbox: Outbox::new(1 << 20),
        };
        self.adapter.rooms().connect(Recipient {
            key: socket.key,
            parser: Parser::Json,
            outbox: socket.outbox.clone(),
            info: Arc::new(Info(id)),
        });
        socket
    }

    fn emit(&self, room: &str, sender: Option<SocketKey>) {
        let options = BroadcastOptions {
            rooms: [Room::from(room)].into_iter().collect(),
            except_socket: sender,
            ..BroadcastOptions::default()
        };
        let mut write = |parser| encode_event(parser, "/", None, "news", &("a headline", 42));
        self.adapter
            .broadcast(&options, &mut write)
            .expect("the bus has room");
    }
}

fn empty(sockets: &[Socket]) -> usize {
    let mut cx = Context::from_waker(Waker::noop());
    let mut count = 0;
    for socket in sockets {
        while let Poll::Ready(Taken::Items(items)) = socket.outbox.poll_take(&mut cx) {
            for item in items {
                if let Outgoing::Packet(packet) = item {
                    socket.outbox.refund(packet.budget_bytes());
                    count += 1;
                }
            }
        }
    }
    count
}

fn name(room: usize) -> String {
    format!("room-{room}")
}

fn main() -> ExitCode {
    let mut random = Random::new(1);
    let hub = MemoryHub::new(MemoryBusLimits::default());
    let nodes: Vec<Node> = (1..=NODES as u64).map(|it| Node::start(&hub, it)).collect();
    (0..3).for_each(|_| nodes.iter().for_each(Node::drive));
    // One socket for each place in a room, on any node.
    let sockets: Vec<Socket> = (0..ROOMS * ROOM_SIZE)
        .map(|number| {
            let node = random.below(NODES);
            nodes[node].connect(node, number)
        })
        .collect();
    let rooms_of = |socket: &Socket| nodes[socket.node].adapter.rooms();
    let mut room_of: Vec<usize> = (0..sockets.len())
        .map(|number| number / ROOM_SIZE)
        .collect();
    for (socket, &room) in sockets.iter().zip(&room_of) {
        let room = Room::from(name(room));
        rooms_of(socket).join(socket.key, &room).expect("one room");
    }

    let start = Instant::now();
    let mut delivered = 0;
    for number in 0..EMITS {
        let sender = random.below(sockets.len());
        let socket = &sockets[sender];
        // One in ten is for a single socket, by its id.
        if random.happens(10) {
            let other = &sockets[random.below(sockets.len())];
            nodes[socket.node].emit(other.id.as_str(), None);
        } else {
            nodes[socket.node].emit(&name(room_of[sender]), Some(socket.key));
        }
        if number % EMITS_PER_MOVE == 0 {
            let mover = random.below(sockets.len());
            let (from, to) = (room_of[mover], random.below(ROOMS));
            rooms_of(&sockets[mover]).leave(sockets[mover].key, &name(from));
            let room = Room::from(name(to));
            rooms_of(&sockets[mover])
                .join(sockets[mover].key, &room)
                .expect("one room");
            room_of[mover] = to;
        }
        if number % EMITS_PER_TURN == 0 {
            nodes.iter().for_each(Node::drive);
        }
        if number % 1_000 == 0 {
            delivered += empty(&sockets);
        }
    }
    nodes.iter().for_each(Node::drive);
    let elapsed = start.elapsed();
    delivered += empty(&sockets);
    report(&nodes, delivered, elapsed)
}

fn report(nodes: &[Node], delivered: usize, elapsed: Duration) -> ExitCode {
    let sum = |read: fn(&Stats) -> u64| -> u64 {
        nodes.iter().map(|node| read(node.adapter.stats())).sum()
    };
    let received = sum(|stats| stats.received.get());
    let discarded = sum(|stats| stats.discarded.get());
    let own = sum(|stats| stats.own.get());
    let percent = 100.0 * discarded as f64 / received.max(1) as f64;
    let flood = EMITS * (NODES - 1);
    print(&format!(
        "{NODES} nodes, {ROOMS} rooms of {ROOM_SIZE}, {EMITS} emits, {delivered} deliveries in \
         {elapsed:.1?}\nmessages received {received} (without interest: {flood}), own {own}\n\
         discarded {discarded}\ndiscard ratio {percent:.3} %"
    ));
    match percent < MAX_DISCARD_PERCENT {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

#[expect(clippy::print_stdout, reason = "this is what the program is for")]
fn print(text: &str) {
    println!("{text}");
}

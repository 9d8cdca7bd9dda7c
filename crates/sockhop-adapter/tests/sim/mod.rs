//! Nodes, sockets and everything that may happen to them.

mod node;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sockhop_adapter::bus::{Fate, MemoryBusLimits, Network};
use sockhop_adapter::{BroadcastOptions, Bus, MemoryHub, NodeId, Room, SocketId};
use testkit::{Clock, Faults, Net, Random};

use node::{Node, Packet};

const NODES: usize = 5;
const ROOMS: [&str; 4] = ["red", "blue", "green", "grey"];
/// Who is in it never leaves it.
const MUTED: &str = "muted";
const TIMEOUT: Duration = Duration::from_secs(5);

/// Something that happens.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Connect,
    Disconnect,
    Join,
    Leave,
    Emit,
    Pass,
    Weather,
    Cut,
    Heal,
    LinkDown,
    LinkUp,
    Kill,
}

impl Step {
    /// What happens next. Most of the time somebody says something.
    pub(crate) fn draw(random: &mut Random) -> Self {
        match random.below(100) {
            0..12 => Self::Connect,
            12..16 => Self::Disconnect,
            16..28 => Self::Join,
            28..36 => Self::Leave,
            36..72 => Self::Emit,
            72..88 => Self::Pass,
            88..91 => Self::Weather,
            91..93 => Self::Cut,
            93..95 => Self::Heal,
            95..97 => Self::LinkDown,
            97..99 => Self::LinkUp,
            _ => Self::Kill,
        }
    }
}

/// The wire between the nodes, and its clock.
#[derive(Debug)]
struct Wire(Mutex<Net<Bytes>>);

impl Network for Wire {
    fn carry(&self, from: NodeId, to: NodeId, frame: &Bytes) -> Fate {
        let mut net = self.0.lock().expect("one thread");
        net.send(from.number(), to.number(), frame);
        Fate::Held
    }
}

/// What was emitted, and who must not get it.
#[derive(Debug)]
struct Emitted {
    emitter: NodeId,
    /// None: everybody.
    rooms: Vec<String>,
    skipped: HashSet<SocketId>,
    except_muted: bool,
}

pub(crate) struct Sim {
    clock: Clock,
    hub: MemoryHub,
    wire: Arc<Wire>,
    nodes: Vec<Node>,
    started: u64,
    emitted: Vec<Emitted>,
    /// The rooms that a socket has ever been in.
    ever: HashMap<SocketId, HashSet<String>>,
    /// What sockets of all times have got.
    got: BTreeMap<SocketId, Vec<Packet>>,
}

impl Sim {
    /// Five nodes that have not said hello.
    pub(crate) fn new(seed: u64) -> Self {
        let clock = Clock::new();
        let wire = Arc::new(Wire(Mutex::new(Net::new(!seed, clock.now()))));
        let network = Arc::clone(&wire) as Arc<dyn Network>;
        let mut sim = Self {
            hub: MemoryHub::with_network(MemoryBusLimits::default(), network),
            clock,
            wire,
            nodes: Vec::new(),
            started: 0,
            emitted: Vec::new(),
            ever: HashMap::new(),
            got: BTreeMap::new(),
        };
        for _ in 0..NODES {
            sim.start();
        }
        sim
    }

    fn start(&mut self) {
        self.started += 1;
        let number = (self.started << 40) | self.started;
        self.nodes.push(Node::start(&self.hub, number));
    }

    fn net<R>(&self, f: impl FnOnce(&mut Net<Bytes>) -> R) -> R {
        f(&mut self.wire.0.lock().expect("one thread"))
    }

    pub(crate) fn step(&mut self, step: &Step, random: &mut Random) {
        let node = random.below(self.nodes.len());
        let id = self.nodes[node].bus.node();
        let room = *random.pick(&ROOMS);
        match step {
            Step::Connect => {
                let number = u8::try_from(random.below(256)).expect("a byte");
                let muted = random.happens(20);
                let socket = self.nodes[node].connect(number);
                self.ever.entry(socket.clone()).or_default();
                if muted {
                    self.join(node, &socket, MUTED);
                }
            }
            Step::Disconnect => {
                if let Some(socket) = self.nodes[node].any_socket(random) {
                    let packets = self.nodes[node].disconnect(&socket);
                    self.got.entry(socket).or_default().extend(packets);
                }
            }
            Step::Join => {
                if let Some(socket) = self.nodes[node].any_socket(random) {
                    self.join(node, &socket, room);
                }
            }
            Step::Leave => {
                if let Some(socket) = self.nodes[node].any_socket(random) {
                    self.nodes[node].leave(&socket, room);
                }
            }
            Step::Emit => self.emit_something(node, random),
            Step::Pass => self.pass(Duration::from_millis(random.below(1500) as u64)),
            Step::Weather => {
                let faults = Faults {
                    lost_percent: random.below(20),
                    repeated_percent: random.below(40),
                    max_delay: Duration::from_millis(random.below(400) as u64),
                };
                self.net(|net| net.set_faults(faults));
            }
            Step::Cut => {
                for node in &self.nodes {
                    let part = random.below(2);
                    self.net(|net| net.set_part(node.bus.node().number(), part));
                }
            }
            Step::Heal => self.net(Net::heal),
            Step::LinkDown => self.hub.take_down(id, self.clock.now()),
            Step::LinkUp => self.hub.bring_up(id),
            Step::Kill => {
                self.keep(node);
                self.nodes.swap_remove(node);
                self.start();
            }
        }
        self.settle();
    }

    fn join(&mut self, node: usize, socket: &SocketId, room: &str) {
        self.nodes[node].join(socket, room);
        let ever = self.ever.get_mut(socket).expect("it has connected");
        ever.insert(room.to_owned());
    }

    fn emit_something(&mut self, node: usize, random: &mut Random) {
        let mut rooms: Vec<String> = Vec::new();
        match random.below(10) {
            0..3 => {}
            3..7 => rooms.push((*random.pick(&ROOMS)).to_owned()),
            7..9 => rooms.extend(ROOMS.iter().take(3).map(|&room| room.to_owned())),
            _ => {
                let other = random.below(self.nodes.len());
                let socket = self.nodes[other].any_socket(random);
                rooms.extend(socket.map(|socket| socket.to_string()));
            }
        }
        let except_muted = random.happens(30);
        let sender = match random.happens(40) {
            true => self.nodes[node].any_socket(random),
            false => None,
        };
        let elsewhere = match random.happens(30) {
            true => {
                let other = random.below(self.nodes.len());
                self.nodes[other].any_socket(random)
            }
            false => None,
        };
        self.emit(node, rooms, except_muted, (sender, elsewhere));
    }

    /// Emits a message whose content is its number.
    fn emit(
        &mut self,
        node: usize,
        rooms: Vec<String>,
        except_muted: bool,
        (sender, elsewhere): (Option<SocketId>, Option<SocketId>),
    ) -> usize {
        let number = self.emitted.len();
        let muted = except_muted.then(|| Room::from(MUTED));
        let options = BroadcastOptions {
            rooms: rooms.iter().map(|room| Room::from(room.as_str())).collect(),
            except: muted
                .into_iter()
                .chain(elsewhere.iter().map(Room::from))
                .collect(),
            except_socket: sender
                .as_ref()
                .and_then(|id| self.nodes[node].adapter.rooms().lookup(id.as_str())),
            ..BroadcastOptions::default()
        };
        self.nodes[node].emit(&options, number);
        self.emitted.push(Emitted {
            emitter: self.nodes[node].bus.node(),
            rooms,
            skipped: sender.into_iter().chain(elsewhere).collect(),
            except_muted,
        });
        number
    }

    /// Lets time pass, stopping wherever something is due.
    pub(crate) fn pass(&mut self, by: Duration) {
        let end = self.clock.after(by);
        loop {
            let due = self
                .nodes
                .iter()
                .filter_map(|node| node.cluster.poll_timeout());
            let due = due.chain(self.net(|net| net.next_arrival())).min();
            match due.filter(|&due| due <= end) {
                // A machine that is due now was just served: not again at the same instant.
                Some(due) if due > self.clock.now() => self.clock.advance_to(due),
                Some(_) => self.clock.advance(Duration::from_millis(1)),
                None => break,
            };
            self.settle();
        }
        self.clock.advance_to(end);
        self.settle();
    }

    /// Lets everything happen that can happen now.
    fn settle(&mut self) {
        let now = self.clock.now();
        self.net(|net| net.set_now(now));
        loop {
            let mut busy = false;
            while let Some((to, frame)) = self.net(Net::poll) {
                self.hub.deliver(NodeId::new(to), frame);
                busy = true;
            }
            for node in &self.nodes {
                busy |= node.drive(now);
            }
            if !busy {
                return;
            }
        }
    }

    /// Ends all faults, and gives everybody time to notice.
    pub(crate) fn heal(&mut self) {
        self.net(|net| {
            net.heal();
            net.set_faults(Faults::default());
        });
        for node in &self.nodes {
            self.hub.bring_up(node.bus.node());
        }
        self.pass(Duration::from_secs(12));
    }

    fn keep(&mut self, node: usize) {
        let sockets: Vec<SocketId> = self.nodes[node].sockets().cloned().collect();
        for socket in sockets {
            let packets = self.nodes[node].take(&socket);
            self.got.entry(socket).or_default().extend(packets);
        }
    }

    /// Nothing twice, nothing out of order, nothing for those it was not for.
    pub(crate) fn check_deliveries(&mut self) {
        for node in 0..self.nodes.len() {
            self.keep(node);
        }
        for (socket, packets) in &self.got {
            let mut last: HashMap<NodeId, usize> = HashMap::new();
            for &Packet(number) in packets {
                let emitted = &self.emitted[number];
                let before = last.insert(emitted.emitter, number);
                assert!(
                    before < Some(number),
                    "{socket}: {before:?} before {number}"
                );
                assert!(!emitted.skipped.contains(socket), "{socket} was skipped");
                let ever = &self.ever[socket];
                let muted = emitted.except_muted && ever.contains(MUTED);
                assert!(!muted, "{socket} is muted");
                let is_for = |room: &String| room == socket.as_str() || ever.contains(room);
                let meant = emitted.rooms.is_empty() || emitted.rooms.iter().any(is_for);
                assert!(meant, "{socket} is in none of {:?}", emitted.rooms);
            }
        }
    }

    /// Everybody knows everybody.
    pub(crate) fn check_members(&self) {
        let all: BTreeSet<NodeId> = self.nodes.iter().map(|node| node.bus.node()).collect();
        for node in &self.nodes {
            let known = node.cluster.members();
            let known: BTreeSet<NodeId> = known.iter().map(|member| member.node).collect();
            assert_eq!(known, all);
            assert!(node.cluster.status().settled);
        }
    }

    /// Everybody listens to exactly what its sockets need.
    pub(crate) fn check_interest(&self) {
        for node in &self.nodes {
            let mut expected: BTreeSet<String> = ["/chat".to_owned(), "@nodes".to_owned()].into();
            for room in ROOMS.into_iter().chain([MUTED]) {
                if !node.adapter.rooms().sockets_in(room).is_empty() {
                    expected.insert(format!("5/chat#{room}"));
                }
            }
            let subscribed: BTreeSet<String> = node.bus.subscriptions().into_iter().collect();
            assert_eq!(subscribed, expected);
        }
    }

    /// On a whole network each message reaches exactly those it is for.
    pub(crate) fn check_everybody_is_reached(&mut self, random: &mut Random) {
        for node in 0..self.nodes.len() {
            let target = match random.below(5) {
                4 => None,
                index => Some(ROOMS[index].to_owned()),
            };
            let rooms: Vec<String> = target.iter().cloned().collect();
            let number = self.emit(node, rooms, false, (None, None));
            self.settle();
            for index in 0..self.nodes.len() {
                self.keep(index);
                for socket in self.nodes[index].sockets() {
                    let in_room = |room: &String| self.nodes[index].is_in(socket, room);
                    let meant = target.as_ref().is_none_or(in_room);
                    let got = self.got.get(socket);
                    let got = got.is_some_and(|packets| packets.contains(&Packet(number)));
                    assert_eq!(got, meant, "{socket} and {target:?}");
                }
            }
        }
    }

    /// A query finds the sockets of all nodes.
    pub(crate) fn check_queries(&mut self) {
        let all: BTreeSet<SocketId> = self
            .nodes
            .iter()
            .flat_map(|node| node.sockets().cloned().collect::<Vec<_>>())
            .collect();
        let everybody = BroadcastOptions::default();
        for index in 0..self.nodes.len() {
            let now = self.clock.now();
            let adapter = &self.nodes[index].adapter;
            let mut asked = Box::pin(adapter.fetch_everywhere(&everybody, now, TIMEOUT));
            self.settle();
            let Some(found) = ready(&mut asked) else {
                panic!("all have answered");
            };
            assert!(found.is_complete(), "{:?}", found.missing);
            let found: BTreeSet<SocketId> = found.into_iter().map(|socket| socket.id).collect();
            assert_eq!(found, all);
        }
    }

    /// A query that cannot reach some nodes names them, in time.
    pub(crate) fn check_a_query_through_a_cut(&mut self, random: &mut Random) {
        let cut = 1 + random.below(NODES - 1);
        let lost: BTreeSet<NodeId> = self.nodes[1..=cut.min(NODES - 1)]
            .iter()
            .map(|node| node.bus.node())
            .collect();
        for node in &lost {
            self.net(|net| net.set_part(node.number(), 1));
        }
        let expected: usize = self
            .nodes
            .iter()
            .filter(|node| !lost.contains(&node.bus.node()))
            .map(|node| node.sockets().count())
            .sum();
        let everybody = BroadcastOptions::default();
        let now: Instant = self.clock.now();
        let adapter = &self.nodes[0].adapter;
        let mut asked = Box::pin(adapter.fetch_everywhere(&everybody, now, TIMEOUT));
        self.pass(TIMEOUT - Duration::from_millis(1));
        assert!(ready(&mut asked).is_none(), "there is time left");
        self.pass(Duration::from_millis(1));
        let found = ready(&mut asked).expect("its time is up");
        assert_eq!(found.found.len(), expected);
        let missing: BTreeSet<NodeId> = found.missing.into_iter().collect();
        assert_eq!(missing, lost);
        assert_eq!(self.nodes[0].cluster.status().requests, 0);
    }
}

fn ready<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    let mut cx = Context::from_waker(Waker::noop());
    match std::pin::Pin::new(future).poll(&mut cx) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

//! The index of rooms does the same as a naive model, under random operations.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use engineio_proto::{Encoded, Outgoing};
use proptest::collection::vec;
use proptest::prelude::*;
use socketio_proto::Parser;
use sockhop_adapter::{
    Adapter, BroadcastOptions, Directive, DisconnectScope, LonelyBus, NodeId, Room, RoomLimits,
    RoomsError,
};
use sockhop_outbox::Taken;
use support::Peer;

const SOCKETS: [&str; 6] = ["s0", "s1", "s2", "s3", "s4", "s5"];
/// Sockets may join the rooms of others, too.
const ROOMS: [&str; 7] = ["red", "blue", "green", "grey", "s0", "s1", "s2"];
const MAX_ROOMS: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Connect(usize),
    Disconnect(usize),
    Join(usize, usize),
    Leave(usize, usize),
    Close(usize),
    Broadcast(Target),
    JoinAll(Target, usize),
    LeaveAll(Target, usize),
    DisconnectAll(Target),
}

#[derive(Clone, Debug)]
struct Target {
    rooms: Vec<usize>,
    except: Vec<usize>,
    sender: Option<usize>,
}

fn socket() -> impl Strategy<Value = usize> {
    0..SOCKETS.len()
}

fn room() -> impl Strategy<Value = usize> {
    0..ROOMS.len()
}

fn target() -> impl Strategy<Value = Target> {
    (
        vec(room(), 0..4),
        vec(room(), 0..3),
        prop::option::of(socket()),
    )
        .prop_map(|(rooms, except, sender)| Target {
            rooms,
            except,
            sender,
        })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => socket().prop_map(Step::Connect),
        1 => socket().prop_map(Step::Disconnect),
        6 => (socket(), room()).prop_map(|(socket, room)| Step::Join(socket, room)),
        2 => (socket(), room()).prop_map(|(socket, room)| Step::Leave(socket, room)),
        1 => room().prop_map(Step::Close),
        6 => target().prop_map(Step::Broadcast),
        1 => (target(), room()).prop_map(|(target, room)| Step::JoinAll(target, room)),
        1 => (target(), room()).prop_map(|(target, room)| Step::LeaveAll(target, room)),
        1 => target().prop_map(Step::DisconnectAll),
    ]
}

/// The index as one would write it without regard to speed: connected sockets and their rooms,
/// the own one not included.
#[derive(Default)]
struct Model(BTreeMap<&'static str, BTreeSet<&'static str>>);

impl Model {
    fn is_in(&self, socket: &str, room: &str) -> bool {
        self.0
            .get(socket)
            .is_some_and(|rooms| socket == room || rooms.contains(room))
    }

    fn join(&mut self, socket: &'static str, room: &'static str) -> Result<bool, RoomsError> {
        let is_in = self.is_in(socket, room);
        let rooms = self.0.get_mut(socket).ok_or(RoomsError::UnknownSocket)?;
        if is_in {
            return Ok(false);
        }
        if rooms.len() == MAX_ROOMS {
            return Err(RoomsError::TooManyRooms { limit: MAX_ROOMS });
        }
        Ok(rooms.insert(room))
    }

    fn leave(&mut self, socket: &str, room: &str) -> bool {
        self.0
            .get_mut(socket)
            .is_some_and(|rooms| rooms.remove(room))
    }

    fn sockets_in(&self, room: &str) -> Vec<&'static str> {
        let sockets = self.0.keys().copied();
        sockets.filter(|socket| self.is_in(socket, room)).collect()
    }

    fn all_rooms(&self) -> BTreeSet<&'static str> {
        let joined = self.0.values().flatten().copied();
        self.0.keys().copied().chain(joined).collect()
    }

    fn reached(&self, target: &Target) -> Vec<&'static str> {
        let any = |socket: &str, rooms: &[usize]| {
            rooms.iter().any(|&room| self.is_in(socket, ROOMS[room]))
        };
        self.0
            .keys()
            .copied()
            .filter(|socket| target.rooms.is_empty() || any(socket, &target.rooms))
            .filter(|socket| !any(socket, &target.except))
            .filter(|socket| target.sender.map(|sender| SOCKETS[sender]) != Some(*socket))
            .collect()
    }
}

struct World {
    adapter: Adapter<Directive>,
    peers: BTreeMap<&'static str, Peer>,
    model: Model,
}

impl World {
    fn new() -> Self {
        let bus = LonelyBus::new(NodeId::new(1));
        let limits = RoomLimits {
            max_rooms_per_socket: MAX_ROOMS,
            ..RoomLimits::default()
        };
        Self {
            adapter: support::adapter(Arc::new(bus), limits),
            peers: BTreeMap::new(),
            model: Model::default(),
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Connect(number) => self.connect(number),
            Step::Disconnect(number) => self.disconnect(SOCKETS[number]),
            Step::Join(socket, room) => self.join(SOCKETS[socket], ROOMS[room]),
            Step::Leave(socket, room) => {
                let (socket, room) = (SOCKETS[socket], ROOMS[room]);
                let expected = self.model.leave(socket, room);
                if let Some(peer) = self.peers.get(socket) {
                    assert_eq!(self.adapter.rooms().leave(peer.key, room), expected);
                }
            }
            Step::Close(room) => {
                let room = ROOMS[room];
                let members = self.model.sockets_in(room);
                let left = members
                    .iter()
                    .filter(|socket| self.model.leave(socket, room));
                assert_eq!(left.count(), self.adapter.rooms().close_room(room));
            }
            Step::Broadcast(target) => self.broadcast(&target),
            Step::JoinAll(target, room) => {
                let reached = self.model.reached(&target);
                for socket in &reached {
                    let _ = self.model.join(socket, ROOMS[room]);
                }
                let options = self.options(&target);
                let count = self.adapter.sockets_join(&options, &[ROOMS[room].into()]);
                assert_eq!(count, reached.len());
            }
            Step::LeaveAll(target, room) => {
                let reached = self.model.reached(&target);
                for socket in &reached {
                    self.model.leave(socket, ROOMS[room]);
                }
                let options = self.options(&target);
                let count = self.adapter.sockets_leave(&options, &[ROOMS[room].into()]);
                assert_eq!(count, reached.len());
            }
            Step::DisconnectAll(target) => {
                let options = self.options(&target);
                let scope = DisconnectScope::Namespace;
                let asked = self.adapter.disconnect_sockets(&options, scope);
                let reached = self.model.reached(&target);
                assert_eq!(asked, reached.len());
                assert_eq!(self.received(), reached);
            }
        }
    }

    fn connect(&mut self, number: usize) {
        let id = SOCKETS[number];
        if self.peers.contains_key(id) {
            return;
        }
        let parser = match number % 2 {
            0 => Parser::Json,
            _ => Parser::Msgpack,
        };
        let peer = support::connect(&self.adapter, id, parser);
        self.peers.insert(id, peer);
        self.model.0.insert(id, BTreeSet::new());
    }

    fn disconnect(&mut self, id: &'static str) {
        let expected = self.model.0.remove(id);
        if let Some(peer) = self.peers.remove(id) {
            let rooms = self.adapter.rooms().disconnect(peer.key);
            let rooms: BTreeSet<&str> = rooms.iter().map(Room::as_str).collect();
            assert_eq!(Some(rooms), expected);
            assert!(self.adapter.rooms().disconnect(peer.key).is_empty());
        }
    }

    fn join(&mut self, socket: &'static str, room: &'static str) {
        let expected = self.model.join(socket, room);
        if let Some(peer) = self.peers.get(socket) {
            let joined = self.adapter.rooms().join(peer.key, &room.into());
            assert_eq!(joined, expected);
        }
    }

    fn broadcast(&mut self, target: &Target) {
        let mut encoded = Vec::new();
        let delivery = self
            .adapter
            .broadcast(&self.options(target), &mut |parser| {
                encoded.push(parser);
                Ok(Encoded::text("2[\"event\"]"))
            })
            .unwrap();
        let reached = self.model.reached(target);
        assert_eq!(delivery.recipients, reached.len());
        assert_eq!(self.received(), reached);
        // Sockets with an even number speak JSON.
        let needed: Vec<Parser> = [
            (Parser::Json, ["s0", "s2", "s4"]),
            (Parser::Msgpack, ["s1", "s3", "s5"]),
        ]
        .into_iter()
        .filter(|(_, ids)| ids.iter().any(|id| reached.contains(id)))
        .map(|(parser, _)| parser)
        .collect();
        assert_eq!(encoded, needed);
    }

    fn options(&self, target: &Target) -> BroadcastOptions {
        let rooms =
            |numbers: &[usize]| numbers.iter().map(|&number| ROOMS[number].into()).collect();
        let sender = target
            .sender
            .and_then(|sender| self.peers.get(SOCKETS[sender]));
        BroadcastOptions {
            rooms: rooms(&target.rooms),
            except: rooms(&target.except),
            except_socket: sender.map(|peer| peer.key),
            ..BroadcastOptions::default()
        }
    }

    /// Who got something; nobody may get two.
    fn received(&self) -> Vec<&'static str> {
        let mut cx = Context::from_waker(Waker::noop());
        let mut received = Vec::new();
        for (id, peer) in &self.peers {
            match peer.outbox.poll_take(&mut cx) {
                Poll::Ready(Taken::Items(items)) => {
                    assert_eq!(items.len(), 1, "{id} got it more than once");
                    for item in items {
                        if let Outgoing::Packet(packet) = item {
                            peer.outbox.refund(packet.budget_bytes());
                        }
                    }
                    received.push(*id);
                }
                Poll::Ready(Taken::Overflowed | Taken::Closed) => panic!("{id} has ended"),
                Poll::Pending => {}
            }
        }
        received
    }

    fn check(&self) {
        let rooms = self.adapter.rooms();
        assert_eq!(rooms.len(), self.model.0.len());
        for (id, peer) in &self.peers {
            assert_eq!(rooms.lookup(id), Some(peer.key));
            let known = rooms.rooms_of(peer.key).unwrap();
            assert_eq!(known[0].as_str(), *id);
            let joined: BTreeSet<&str> = known[1..].iter().map(Room::as_str).collect();
            assert_eq!(&joined, &self.model.0[id]);
        }
        for room in ROOMS {
            let mut sockets = rooms.sockets_in(room);
            sockets.sort_unstable();
            let sockets: Vec<&str> = sockets.iter().map(|id| id.as_str()).collect();
            assert_eq!(sockets, self.model.sockets_in(room));
        }
        let all = rooms.all_rooms();
        assert_eq!(all.len(), self.model.all_rooms().len());
        let all: BTreeSet<&str> = all.iter().map(Room::as_str).collect();
        assert_eq!(all, self.model.all_rooms());
    }
}

proptest! {
    #[test]
    fn the_index_does_what_the_model_does(steps in vec(step(), 1..120)) {
        let mut world = World::new();
        for step in steps {
            world.run(step);
            world.check();
        }
    }
}

//! What a broadcast and an idle socket may cost.

mod support;

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use allocation_counter::measure;
use engineio_proto::Outgoing;
use socketio_proto::{Parser, encode_event};
use sockhop_adapter::{
    Adapter, BroadcastOptions, Directive, LonelyBus, NodeId, Recipient, Room, RoomLimits, SocketKey,
};
use sockhop_outbox::{Outbox, Taken};
use support::Peer;

fn adapter() -> Adapter<Directive> {
    let bus = LonelyBus::new(NodeId::new(1));
    support::adapter(Arc::new(bus), RoomLimits::default())
}

/// `count` sockets; every second one speaks MessagePack if `mixed`.
fn crowd(adapter: &Adapter<Directive>, count: usize, mixed: bool) -> Vec<Peer> {
    (0..count)
        .map(|number| {
            let parser = match mixed && number % 2 == 1 {
                true => Parser::Msgpack,
                false => Parser::Json,
            };
            support::connect(adapter, &format!("socket-{number}"), parser)
        })
        .collect()
}

fn to(rooms: &[&str]) -> BroadcastOptions {
    BroadcastOptions {
        rooms: rooms.iter().map(|&room| Room::from(room)).collect(),
        ..BroadcastOptions::default()
    }
}

fn empty(peers: &[Peer]) {
    let mut cx = Context::from_waker(Waker::noop());
    for peer in peers {
        while let Poll::Ready(Taken::Items(items)) = peer.outbox.poll_take(&mut cx) {
            for item in items {
                if let Outgoing::Packet(packet) = item {
                    peer.outbox.refund(packet.budget_bytes());
                }
            }
        }
    }
}

/// Broadcasts once; returns how many were reached, how often the payload was written, and how
/// many allocations that took.
fn broadcast(adapter: &Adapter<Directive>, options: &BroadcastOptions) -> (usize, usize, u64) {
    let mut serialisations = 0;
    let mut recipients = 0;
    let allocations = measure(|| {
        let delivery = adapter
            .broadcast(options, &mut |parser| {
                serialisations += 1;
                encode_event(parser, "/chat", None, "news", &("a headline", 42))
            })
            .unwrap();
        recipients = delivery.recipients;
    });
    (recipients, serialisations, allocations.count_total)
}

/// A room of everybody, and two rooms that overlap in the middle third.
fn fill_rooms(adapter: &Adapter<Directive>, peers: &[Peer]) {
    let third = peers.len() / 3;
    for (number, peer) in peers.iter().enumerate() {
        adapter.rooms().join(peer.key, &"all".into()).unwrap();
        if number < 2 * third {
            adapter.rooms().join(peer.key, &"left".into()).unwrap();
        }
        if number >= third {
            adapter.rooms().join(peer.key, &"right".into()).unwrap();
        }
    }
}

#[test]
fn a_broadcast_to_a_thousand_sockets_serialises_once_and_allocates_nothing_per_recipient() {
    for options in [to(&[]), to(&["all"]), to(&["left", "right"])] {
        let mut costs = Vec::new();
        for count in [10, 1000] {
            let adapter = adapter();
            let peers = crowd(&adapter, count, false);
            fill_rooms(&adapter, &peers);
            let (recipients, serialisations, allocations) = broadcast(&adapter, &options);
            assert_eq!((recipients, serialisations), (count, 1));
            costs.push(allocations);
            empty(&peers);
            let (_, _, again) = broadcast(&adapter, &options);
            assert_eq!(again, allocations, "a later broadcast costs the same");
        }
        assert_eq!(costs[0], costs[1], "allocations to 10 and to 1000 sockets");
        assert!(costs[0] <= 5, "{} allocations", costs[0]);
    }
}

#[test]
fn exceptions_cost_nothing_per_recipient_either() {
    let mut costs = Vec::new();
    for count in [12, 1200] {
        let adapter = adapter();
        let peers = crowd(&adapter, count, false);
        fill_rooms(&adapter, &peers);
        let options = BroadcastOptions {
            except_socket: Some(peers[0].key),
            except: [Room::from("socket-1")].into_iter().collect(),
            ..to(&["all"])
        };
        let (recipients, serialisations, allocations) = broadcast(&adapter, &options);
        assert_eq!((recipients, serialisations), (count - 2, 1));
        costs.push(allocations);
    }
    assert_eq!(costs[0], costs[1]);
}

#[test]
fn two_parsers_cost_two_serialisations() {
    let adapter = adapter();
    let peers = crowd(&adapter, 1000, true);
    let (recipients, serialisations, _) = broadcast(&adapter, &to(&[]));
    assert_eq!((recipients, serialisations), (1000, 2));
    drop(peers);
}

#[test]
fn a_broadcast_to_nobody_serialises_nothing() {
    let adapter = adapter();
    let peers = crowd(&adapter, 1, false);
    assert_eq!(broadcast(&adapter, &to(&["empty"])), (0, 0, 0));
    let everybody_else = BroadcastOptions {
        except_socket: Some(peers[0].key),
        ..BroadcastOptions::default()
    };
    assert_eq!(broadcast(&adapter, &everybody_else), (0, 0, 0));
}

#[test]
fn a_connected_socket_without_rooms_costs_less_than_250_bytes_of_index() {
    // Just after the maps have grown, which is when they are emptiest.
    const COUNT: u64 = 7_300;
    let adapter = adapter();
    let donor = self::adapter();
    let infos: Vec<_> = crowd(&donor, COUNT as usize, false)
        .iter()
        .map(|peer| donor.rooms().socket(peer.key).unwrap().info)
        .collect();
    let outbox = Outbox::new(1 << 20);
    let memory = measure(|| {
        for info in infos {
            adapter.rooms().connect(Recipient {
                key: SocketKey::next(),
                parser: Parser::Json,
                outbox: outbox.clone(),
                info,
            });
        }
    });
    let per_socket = memory.bytes_current.cast_unsigned() / COUNT;
    assert!(per_socket < 250, "{per_socket} bytes");
}

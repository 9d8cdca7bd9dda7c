//! What it costs to push one broadcast to 1,000 sockets whose tasks sleep.

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use engineio_proto::{Encoded, Outgoing};
use socketio_proto::{Parser, encode_event};
use sockhop_adapter::{
    Adapter, BroadcastOptions, BusMessage, Directive, LonelyBus, MemoryHub, NodeId, Room,
    RoomLimits,
};
use sockhop_outbox::Taken;
use support::Peer;

const RECIPIENTS: usize = 1000;

fn crowd(adapter: &Adapter<Directive>) -> Vec<Peer> {
    let peers: Vec<Peer> = (0..RECIPIENTS)
        .map(|number| support::connect(adapter, &format!("socket-{number}"), Parser::Json))
        .collect();
    for (number, peer) in peers.iter().enumerate() {
        let half = if number % 2 == 0 { "even" } else { "odd" };
        for room in ["all", half] {
            adapter
                .rooms()
                .join(peer.key, &room.into())
                .expect("within the limits");
        }
    }
    peers
}

/// Takes everything out and goes to sleep again, as the tasks of the sessions do.
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

fn options(rooms: &[&str]) -> BroadcastOptions {
    BroadcastOptions {
        rooms: rooms.iter().map(|&room| Room::from(room)).collect(),
        ..BroadcastOptions::default()
    }
}

/// Times `push` alone; emptying the outboxes is not part of it.
fn timed(iterations: u64, peers: &[Peer], mut push: impl FnMut()) -> Duration {
    empty(peers);
    let mut total = Duration::ZERO;
    for _ in 0..iterations {
        let start = Instant::now();
        push();
        total += start.elapsed();
        empty(peers);
    }
    total
}

fn adapter(hub: &MemoryHub, node: u64) -> Adapter<Directive> {
    let bus = hub.attach(NodeId::new(node)).expect("a new node");
    support::adapter(Arc::new(bus), RoomLimits::default())
}

fn local(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fan_out");
    group.throughput(Throughput::Elements(RECIPIENTS as u64));
    let bus = LonelyBus::new(NodeId::new(1));
    let adapter = support::adapter(Arc::new(bus), RoomLimits::default());
    let peers = crowd(&adapter);

    let packet = Encoded::text("2/chat,[\"news\"]");
    group.bench_function("outboxes_only", |bencher| {
        bencher.iter_custom(|iterations| {
            timed(iterations, &peers, || {
                for peer in &peers {
                    let item = Outgoing::Packet(packet.clone());
                    let _ = black_box(peer.outbox.push(item, packet.budget_bytes()));
                }
            })
        });
    });

    let sender = peers[0].key;
    for (name, options) in [
        ("namespace", options(&[])),
        ("room", options(&["all"])),
        (
            "room_without_sender",
            BroadcastOptions {
                except_socket: Some(sender),
                ..options(&["all"])
            },
        ),
        (
            "room_except_half",
            BroadcastOptions {
                except: [Room::from("odd")].into_iter().collect(),
                ..options(&["all"])
            },
        ),
        ("two_rooms_each_socket_in_one", options(&["even", "odd"])),
        ("two_rooms_half_in_both", options(&["all", "odd"])),
    ] {
        group.bench_with_input(
            BenchmarkId::new("local", name),
            &options,
            |bencher, options| {
                bencher.iter_custom(|iterations| {
                    timed(iterations, &peers, || {
                        let delivery = adapter.broadcast(options, &mut |parser| {
                            encode_event(parser, "/chat", None, "news", &("a headline", 42))
                        });
                        let _ = black_box(delivery);
                    })
                });
            },
        );
    }
    group.finish();
}

/// One recipient: what a broadcast costs besides its pushes, here and when it came over the bus.
fn overhead(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one_recipient");
    let hub = MemoryHub::default();
    let [here, there] = [1, 2].map(|node| adapter(&hub, node));
    let peers = [support::connect(&there, "only", Parser::Json)];
    let broadcast = |adapter: &Adapter<Directive>, options: &BroadcastOptions| {
        let delivery = adapter.broadcast(options, &mut |parser| {
            encode_event(parser, "/chat", None, "news", &("a headline", 42))
        });
        let _ = black_box(delivery);
    };
    let local = BroadcastOptions {
        local: true,
        ..options(&["only"])
    };
    group.bench_function("local", |bencher| {
        bencher.iter_custom(|iterations| timed(iterations, &peers, || broadcast(&there, &local)));
    });

    let frame = published(&here, &hub);
    group.bench_function("received_from_the_bus", |bencher| {
        bencher.iter_custom(|iterations| {
            timed(iterations, &peers, || {
                let message = BusMessage::decode(&frame).expect("it was written here");
                let _ = black_box(there.receive(&message));
            })
        });
    });
    group.finish();
}

/// The frame of a broadcast to the one socket on the other node.
fn published(adapter: &Adapter<Directive>, hub: &MemoryHub) -> Bytes {
    use sockhop_adapter::Bus;

    let listener = hub.attach(NodeId::new(3)).expect("a new node");
    listener.subscribe("/chat");
    adapter
        .broadcast(&options(&[]), &mut |parser| {
            encode_event(parser, "/chat", None, "news", &("a headline", 42))
        })
        .expect("the queues are empty");
    match listener.poll_incoming(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(frames) => frames[0].clone(),
        Poll::Pending => unreachable!("it was published just now"),
    }
}

criterion_group!(benches, local, overhead);
criterion_main!(benches);

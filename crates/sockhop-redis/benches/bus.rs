//! What it costs to receive a message: parsing alone, and everything from the socket to the batch
//! that the node takes, as processor time of the receiving thread; and what a caller of `publish`
//! pays.

use std::fs;
use std::future::poll_fn;
use std::hint::black_box;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use prometheus::Registry;
use sockhop_adapter::{Bus, NodeId};
use sockhop_redis::resp::{Limits, Push, Step, parse_push, put_bulk, put_header};
use sockhop_redis::{Metrics, RedisBus, RedisConfig};
use testkit::RedisServer;
use tokio::runtime::Builder;

/// A chat message with its header.
const PAYLOAD_BYTES: usize = 200;

/// The clock of the scheduler moves with its ticks, so fewer messages could take no time.
const AT_LEAST: u64 = 100_000;

fn parse(criterion: &mut Criterion) {
    let mut wire = BytesMut::new();
    let mut messages: u64 = 0;
    while wire.len() < 64 << 10 {
        put_header(&mut wire, b'*', 3);
        put_bulk(&mut wire, b"message");
        put_bulk(&mut wire, b"sockhop:t:/#room");
        put_bulk(&mut wire, &[7; PAYLOAD_BYTES]);
        messages += 1;
    }
    let wire = wire.freeze();
    let mut group = criterion.benchmark_group("receive");
    group.throughput(Throughput::Elements(messages));
    group.bench_function("parse and slice 64 KiB", |bencher| {
        let limits = Limits::default();
        bencher.iter(|| {
            let mut at = 0;
            while at < wire.len()
                && let Ok(Step::Done(Push::Message { payload, .. }, end)) =
                    parse_push(&wire, at, &limits)
            {
                black_box(wire.slice(payload));
                at = end;
            }
        });
    });
    group.finish();
}

/// Processor time of the calling thread so far.
fn processor_time() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let first = text
        .split(' ')
        .next()
        .and_then(|number| number.parse().ok());
    Duration::from_nanos(first.expect("nanoseconds"))
}

fn start_bus(url: &str, node: u64) -> RedisBus {
    let metrics = Metrics::register(&Registry::new()).expect("a fresh registry");
    let config = RedisConfig::new(url.parse().expect("a URL"));
    #[expect(
        clippy::disallowed_methods,
        reason = "a bench has no server to track tasks"
    )]
    let spawner = |_, task| drop(tokio::spawn(task));
    RedisBus::start(config, NodeId::new(node), metrics, spawner).expect("a sound configuration")
}

/// A thread that takes in as many messages as it is told and says what that cost.
fn receiver(url: String) -> (SyncSender<u64>, Receiver<Duration>) {
    let (tell, told) = sync_channel::<u64>(1);
    let (say, said) = sync_channel(1);
    thread::spawn(move || {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let bus = start_bus(&url, 1);
            Bus::subscribe(&bus, "/#room");
            bus.link_up().await;
            bus.synced().await;
            say.send(Duration::ZERO).expect("somebody waits");
            while let Ok(wanted) = told.recv() {
                let before = processor_time();
                let mut got = 0;
                while got < wanted {
                    let batch = poll_fn(|cx| Bus::poll_incoming(&bus, cx)).await;
                    got += black_box(batch).len() as u64;
                }
                say.send(processor_time() - before).expect("somebody waits");
            }
        });
    });
    said.recv().expect("it is ready");
    (tell, said)
}

/// A thread that publishes as many messages as it is told.
fn emitter(url: String) -> SyncSender<u64> {
    let (tell, told) = sync_channel::<u64>(1);
    thread::spawn(move || {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let bus = start_bus(&url, 2);
            bus.link_up().await;
            let payload = Bytes::from(vec![7; PAYLOAD_BYTES]);
            while let Ok(wanted) = told.recv() {
                for _ in 0..wanted {
                    while Bus::publish(&bus, "/#room", payload.clone()).is_err() {
                        tokio::task::yield_now().await;
                    }
                }
                // The next command is waited for without the runtime, so all must have left.
                while is_busy(&bus).await {}
            }
        });
    });
    tell
}

/// Lets the connection go on until the server has answered everything.
async fn is_busy(bus: &RedisBus) -> bool {
    use sockhop_adapter::Channels;
    // Asked behind all messages, so its answer comes after theirs.
    Channels::count_subscribers(bus, "nobody").await.is_none()
}

fn receive(criterion: &mut Criterion) {
    let server = RedisServer::start();
    let (receive, cost) = receiver(server.url());
    let emit = emitter(server.url());
    let mut group = criterion.benchmark_group("receive");
    group.throughput(Throughput::Elements(1));
    group.bench_function("processor time of a message", |bencher| {
        bencher.iter_custom(|messages| {
            let many = messages.max(AT_LEAST);
            receive.send(many).expect("the receiver runs");
            emit.send(many).expect("the emitter runs");
            let cost = cost.recv().expect("the receiver answers");
            cost.mul_f64(messages as f64 / many as f64)
        });
    });
    group.finish();
}

/// What a caller of `publish` pays; the connection is driven by another thread.
fn publish(criterion: &mut Criterion) {
    const QUEUED_AT_ONCE: u64 = 1_000;
    let server = RedisServer::start();
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let bus = runtime.block_on(async {
        let bus = start_bus(&server.url(), 1);
        bus.link_up().await;
        bus
    });
    let payload = Bytes::from(vec![7; PAYLOAD_BYTES]);
    let mut group = criterion.benchmark_group("publish");
    group.throughput(Throughput::Elements(1));
    group.bench_function("time of the caller", |bencher| {
        bencher.iter_custom(|messages| {
            let mut cost = Duration::ZERO;
            let mut left = messages;
            while left > 0 {
                let now = left.min(QUEUED_AT_ONCE);
                // Too short for the clock of the scheduler, which moves with its ticks.
                let before = Instant::now();
                for _ in 0..now {
                    Bus::publish(&bus, "/#room", payload.clone()).expect("room in the queue");
                }
                cost += before.elapsed();
                left -= now;
                while runtime.block_on(is_busy(&bus)) {}
            }
            cost
        });
    });
    group.finish();
}

criterion_group!(benches, parse, receive, publish);
criterion_main!(benches);

//! Clients that come in thousands and leave things half done, while others want to be served.
//!
//! `ABUSE_SCALE=1 cargo test --release -p sockhop-node --test hostile abuse -- --nocapture` is the
//! whole of it: 10,000 of each kind, 2,000 WebSockets that never read. With every `cargo test` a
//! fortieth of that runs.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::attack::{self, Target};
use crate::peer::{Arrived, Fault, Frame};
use crate::process::{Node, Witness, open_websocket, wait_until};
use crate::script::{Abandon, Case, Step};

/// Clients that are at it at the same time.
const AT_ONCE: usize = 8;

/// Sessions that one of them has open at a time.
const PORTION: usize = 25;

/// How long the witness is alone.
const QUIET: Duration = Duration::from_secs(3);

/// Ping interval, ping timeout and upgrade timeout of the node under test.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// What a loaded machine may add to that.
const SLACK: Duration = Duration::from_secs(20);

/// How far the heap may be from where it was, when what the allocator kept has been given back. Of
/// fewer than a thousand sessions nothing is.
const KEPT_MIB: u64 = 16;

fn scale() -> usize {
    let scale = std::env::var("ABUSE_SCALE").ok();
    scale.and_then(|text| text.parse().ok()).unwrap_or(40)
}

/// At least `count` clients that leave a session in the state that `how` names; how many it were.
fn abandon(node: &Node, how: &str, count: usize) -> Result<usize, Fault> {
    // In portions, so that the client's own descriptors suffice.
    let portions = count.div_ceil(AT_ONCE * PORTION);
    let case = |count| Case {
        name: how.to_owned(),
        each: Vec::new(),
        linear: None,
        needs_redis: false,
        steps: vec![Step::Abandon(Abandon {
            count,
            how: how.to_owned(),
        })],
    };
    let faults = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                let target = Target {
                    nodes: vec![node.address],
                    redis: None,
                };
                for _ in 0..portions {
                    if let Err(fault) = attack::run(&target, &case(PORTION), 0) {
                        faults.lock().expect("no worker panics").push(fault);
                        return;
                    }
                }
            });
        }
    });
    match faults.into_inner().expect("no worker panics").pop() {
        Some(fault) => Err(fault),
        None => Ok(portions * PORTION * AT_ONCE),
    }
}

/// WebSockets that never read, under broadcasts to everybody, until the server has had enough of them;
/// of how many because of what waited for them. On a slow machine their heartbeat ends them before.
fn never_read(node: &Node, count: usize) -> Result<u64, Fault> {
    let deaf: Result<Vec<_>, _> = (0..count)
        .map(|_| open_websocket(node.address).map(|(peer, _)| peer))
        .collect();
    let deaf = deaf?;
    let (mut speaker, _) = open_websocket(node.address)?;
    let said = Frame::text(&format!("421[\"chat message\",\"{}\"]", "x".repeat(1_900)));
    let begin = Instant::now();
    // Until only the speaker is left.
    while node.sessions()? > 1 {
        if begin.elapsed() > 6 * SLACK {
            return Err(format!("{} of {count} are left", node.sessions()?));
        }
        for _ in 0..200 {
            speaker.write(&said.bytes());
        }
        let mut acks = 0;
        while acks < 200 {
            match speaker.arrived(Instant::now() + SLACK)? {
                Arrived::Text(text) => acks += usize::from(text.starts_with("431")),
                other => return Err(format!("{other:?}")),
            }
        }
    }
    drop(deaf);
    node.metric_line("sockhop_engine_sessions_closed_total{reason=\"slow_consumer\"}")
}

#[test]
fn thousands_of_clients_that_leave_things_half_done_leave_nothing_behind() {
    let scale = scale();
    let count = 10_000 / scale;
    let mut node = Node::start(&[]);
    let settled = |node: &Node, descriptors: usize| {
        let (sessions, now) = (node.sessions()?, node.descriptors());
        if sessions > 1 || now > descriptors {
            return Err(format!("{sessions} sessions, {now} descriptors"));
        }
        Ok(())
    };

    let witness = Witness::start(node.address).expect("a witness is served");
    // A measurement, not a condition.
    std::thread::sleep(QUIET);
    let (_, quiet) = witness.finish_with_p99().expect("the witness is served");

    wait_until(SLACK, || settled(&node, usize::MAX)).expect("the witness is gone");
    let (descriptors, memory) = (node.descriptors(), node.anonymous_mib());
    let mut lines = Vec::new();
    for how in ["polling", "probing", "parked"] {
        let witness = Witness::start(node.address).expect("a witness is served");
        let began = Instant::now();
        let abandoned = abandon(&node, how, count).expect(how);
        let (took, done) = (began.elapsed(), Instant::now());
        let (_, busy) = witness.finish_with_p99().expect("the witness is served");
        wait_until(GONE_WITHIN + SLACK, || settled(&node, descriptors)).expect(how);
        lines.push(format!(
            "{abandoned} {how} in {took:.1?}, gone after {:.1?}, p99 of the witness {busy:.1?}",
            done.elapsed()
        ));
    }

    let slow = never_read(&node, 2_000 / scale).expect("who does not read is closed");
    let peak = node.peak_mib();
    wait_until(GONE_WITHIN + SLACK, || settled(&node, descriptors)).expect("nothing is left");
    let given_back = || match node.anonymous_mib() {
        left if left <= memory + KEPT_MIB => Ok(()),
        left => Err(format!("{memory} MiB before, {left} after")),
    };
    let given_back = wait_until(SLACK, given_back);
    let left = node.anonymous_mib();
    let releases = node.metric("sockhop_node_heap_releases_total").unwrap_or(0);
    eprintln!(
        "abuse: p99 of the witness {quiet:.1?} when alone; {}; {} that never read, {slow} closed as \
         slow; \
         descriptors {descriptors} before and after; {memory} MiB before, {peak} at most, {left} after {releases} releases",
        lines.join("; "),
        2_000 / scale,
    );
    assert!(node.lives());
    given_back.expect("memory is back");
}

#[test]
fn the_memory_of_a_rush_that_is_over_goes_back_to_the_system() {
    let count = 6_000;
    let node = Node::start(&[]);
    let empty = || match node.sessions()? {
        0 => Ok(()),
        sessions => Err(format!("{sessions} sessions")),
    };
    // The first clients pay for what all share.
    abandon(&node, "polling", 400).expect("a few");
    wait_until(GONE_WITHIN + SLACK, empty).expect("nobody is left");
    let before = node.anonymous_mib();

    abandon(&node, "polling", count).expect("a rush");
    let most = node.anonymous_mib();
    wait_until(GONE_WITHIN + SLACK, empty).expect("nobody is left");
    let ended = node.anonymous_mib();
    let given_back = wait_until(SLACK, || match node.anonymous_mib() {
        left if left <= before + (most - before) / 4 => Ok(()),
        left => Err(format!(
            "{before} MiB before, {most} in the rush, {left} after"
        )),
    });
    let left = node.anonymous_mib();
    let releases = node
        .metric("sockhop_node_heap_releases_total")
        .expect("metrics");
    eprintln!(
        "abuse: {count} sessions, {before} MiB of heap before, {most} with them, {ended} when they had ended, {left} \
         after {releases} releases"
    );
    given_back.expect("memory is back");
}

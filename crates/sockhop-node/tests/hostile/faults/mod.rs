//! Three real nodes, a real Redis and real clients, and everything that can break between them.
//!
//! `FAULT_ROUNDS=3 cargo test -p sockhop-node --test hostile faults -- --nocapture` does each three
//! times and prints the time lines; `FAULT_CLIENTS=1700` has 1,700 clients at each node meanwhile,
//! `FAULT_ONLY=redis,kill` does those whose names contain one of the words, and `UPDATE_DOCS=1`
//! writes what was seen into `docs/reliability.md`.
//!
//! As root, or where users may make namespaces, all of it runs in a network of its own, with one
//! more for each node. Elsewhere it runs on the loopback, and says which faults it had to leave out.

mod balancer;
mod between_nodes;
mod clients;
mod clock;
mod cluster;
mod crowd;
mod ground;
mod logs;
mod processes;
mod redis;
mod timeline;

use std::collections::BTreeMap;

use crate::peer::Fault;
use crate::process::Node;
use cluster::Cluster;
use ground::{Entered, Ground};
use timeline::{Before, Rounds, Timeline};

/// Clients of each node while something breaks, unless `FAULT_CLIENTS` says otherwise.
const CLIENTS: usize = 50;

/// Breaks something, sees what must be seen meanwhile, and ends it.
type Break = fn(&mut Cluster, &mut Timeline) -> Result<(), Fault>;

/// What a fault needs of the machine.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    Networks,
    Balancer,
    Clock,
}

const FAULTS: [(&str, Needs, Break); 17] = [
    ("one node cut off from Redis", Needs::Nothing, redis::cut),
    (
        "one node's connections to Redis half-open",
        Needs::Nothing,
        redis::half_open,
    ),
    (
        "all packets between one node and Redis lost",
        Needs::Networks,
        redis::lost,
    ),
    (
        "100 ms more each way to Redis and to clients",
        Needs::Nothing,
        redis::slow,
    ),
    (
        "SIGSTOP and SIGCONT of Redis",
        Needs::Nothing,
        redis::stopped,
    ),
    (
        "Redis killed and started again",
        Needs::Nothing,
        redis::killed,
    ),
    (
        "kill -9 of a node, and a new one",
        Needs::Nothing,
        processes::killed,
    ),
    (
        "SIGSTOP and SIGCONT of a node",
        Needs::Nothing,
        processes::stopped,
    ),
    (
        "all clients reconnect at once",
        Needs::Nothing,
        clients::stampede,
    ),
    (
        "clients of one node vanish without a word",
        Needs::Networks,
        clients::vanish,
    ),
    (
        "3 of 100 packets lost at every node",
        Needs::Networks,
        clients::loss,
    ),
    (
        "one node cut off from the other nodes",
        Needs::Networks,
        between_nodes::cut,
    ),
    (
        "the machine of a node vanishes",
        Needs::Networks,
        between_nodes::vanished,
    ),
    (
        "one node cut off from the balancer",
        Needs::Balancer,
        balancer::cut,
    ),
    ("a full disk under the log", Needs::Nothing, logs::full),
    ("a log that nobody reads", Needs::Nothing, logs::unread),
    (
        "the clock 3 h ahead, then 6 h back",
        Needs::Clock,
        clock::jumps,
    ),
];

/// A number of the environment.
fn number(name: &str, otherwise: usize) -> usize {
    let text = std::env::var(name).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Whether somebody asked for this fault.
fn is_asked_for(name: &str) -> bool {
    match std::env::var("FAULT_ONLY") {
        Ok(words) => words.split(',').any(|word| name.contains(word.trim())),
        Err(_) => true,
    }
}

/// One fault: what breaks, what is right afterwards, and that nothing is left.
fn go_through(cluster: &mut Cluster, fault: Break, rounds: &mut Rounds) -> Result<String, Fault> {
    let before = Before::of(&cluster.nodes)?;
    let mut timeline = Timeline::begin();
    fault(cluster, &mut timeline).map_err(|fault| format!("{fault} (so far: {timeline})"))?;
    cluster
        .heals()
        .map_err(|fault| format!("{fault} (after {timeline})"))?;
    cluster
        .is_empty()
        .map_err(|fault| format!("{fault} (after {timeline})"))?;
    timeline.mark("nothing is left");
    if !cluster.nodes.iter_mut().all(Node::lives) {
        return Err("a process is gone".to_owned());
    }
    let mut losses = before.losses(&cluster.nodes)?;
    losses.extend(timeline.counts());
    let said = format!("{timeline}; counted: {losses:?}");
    rounds.add(timeline, losses);
    Ok(said)
}

/// What is missing for a fault.
fn missing(cluster: &Cluster, needs: Needs) -> Result<(), String> {
    match needs {
        Needs::Nothing => Ok(()),
        Needs::Networks => cluster.has_networks(),
        Needs::Balancer => cluster.has_networks().and_then(|()| balancer::program()),
        Needs::Clock => clock::library().map(drop),
    }
}

#[test]
fn the_cluster_is_right_again_after_every_fault() {
    let name = "faults::the_cluster_is_right_again_after_every_fault";
    match ground::enter(name) {
        Entered::There(right) => assert!(right, "a fault did not end as it should: see above"),
        Entered::Here(ground) => run(ground),
    }
}

fn run(ground: Ground) {
    let clients = number("FAULT_CLIENTS", CLIENTS);
    eprintln!("faults: {ground}");
    let mut cluster = Cluster::start(ground, clients).expect("the cluster finds itself");
    let mut seen: BTreeMap<&str, Rounds> = BTreeMap::new();
    let mut left_out = 0;
    for (name, needs, fault) in FAULTS {
        if !is_asked_for(name) {
            continue;
        }
        if let Err(why) = missing(&cluster, needs) {
            eprintln!("fault left out: {name}: {why}");
            left_out += 1;
            continue;
        }
        for round in 1..=number("FAULT_ROUNDS", 1) {
            let rounds = seen.entry(name).or_default();
            match go_through(&mut cluster, fault, rounds) {
                Ok(said) => eprintln!("fault, round {round}: {name}: {said}"),
                Err(fault) => {
                    cluster.show_logs();
                    panic!("{name}: {fault}");
                }
            }
        }
    }
    eprintln!(
        "faults: {} gone through, {left_out} left out, {} clients",
        seen.len(),
        3 * clients
    );
    if std::env::var_os("UPDATE_DOCS").is_some() {
        timeline::write_rows(&FAULTS.map(|(name, ..)| name), &seen, 3 * clients);
    }
}

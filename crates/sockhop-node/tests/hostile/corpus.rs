//! The corpus: one file for each published report, and what must hold after each of them.

use std::sync::Mutex;
use std::time::Duration;

use testkit::RedisServer;

use crate::attack::{self, Target};
use crate::peer::Fault;
use crate::process::{Node, PATIENCE, Witness, wait_until};
use crate::script::{Case, Program, Script, corpus};

/// Nodes that are attacked at once. The waiting for deadlines is most of the time.
const AT_ONCE: usize = 6;

/// Memory that the allocator may keep after a file, over what the process had before it.
const KEPT_MIB: u64 = 32;

/// Connections that two nodes keep for their next requests to each other, both ends of both ways.
const KEPT_CONNECTIONS: usize = 4;

/// What computing time may cost at least, so that a scheduler's whim does not count.
const NOISE: Duration = Duration::from_millis(10);

/// How much more than eight times an input that is eight times as long may cost.
const STEEPNESS: u32 = 3;

/// What one file took.
struct Tally {
    name: String,
    inputs: usize,
    echoes: usize,
    slowest_echo: Duration,
    grown_mib: u64,
}

#[test]
fn the_corpus_holds_on_one_node() {
    let tallies = attack_all(|program| Field {
        nodes: vec![match program {
            Program::Sockhop => Node::start(&[]),
            Program::Contract => Node::start_contract(""),
        }],
        redis: None,
        kept_connections: 0,
    });
    report("one node", &tallies);
}

#[test]
fn the_corpus_holds_on_a_cluster_and_through_its_forwarder() {
    let tallies = attack_all(|program| {
        let redis = RedisServer::start();
        let url = redis.url();
        let environment = [
            ("SOCKHOP__REDIS__URL", url.as_str()),
            ("SOCKHOP__CLUSTER__DIALECTS", "node,python"),
        ];
        let nodes: Vec<_> = (0..2)
            .map(|_| match program {
                Program::Sockhop => Node::start(&environment),
                Program::Contract => Node::start_contract(&url),
            })
            .collect();
        nodes.iter().for_each(|node| node.wait_for_members(2));
        Field {
            nodes,
            redis: Some(redis),
            kept_connections: KEPT_CONNECTIONS,
        }
    });
    report("two nodes and their Redis", &tallies);
}

/// What is attacked.
struct Field {
    nodes: Vec<Node>,
    redis: Option<RedisServer>,
    /// Descriptors that may stay, for the next request between the nodes.
    kept_connections: usize,
}

/// Runs all files, several at once, each worker against nodes of its own.
fn attack_all(start: impl Fn(Program) -> Field + Sync) -> Vec<Tally> {
    let only = std::env::var("HOSTILE_FILE").unwrap_or_default();
    let files = corpus()
        .into_iter()
        .filter(|(name, _)| name.contains(&only));
    let files = Mutex::new(files);
    let results = Mutex::new((Vec::new(), Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                let mut running: Option<(Program, Field)> = None;
                loop {
                    let next = files.lock().expect("no worker panics").next();
                    let Some((name, script)) = next else { return };
                    let (_, field) = match &mut running {
                        Some(running) if running.0 == script.program => running,
                        other => other.insert((script.program, start(script.program))),
                    };
                    let result = field.attack(&name, &script);
                    let mut results = results.lock().expect("no worker panics");
                    match result {
                        Ok(tally) => results.0.push(tally),
                        Err(fault) => {
                            results.1.push(format!("{name} ({}): {fault}", script.id));
                            running = None;
                        }
                    }
                }
            });
        }
    });
    let (tallies, faults) = results.into_inner().expect("no worker panics");
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults.join("\n")
    );
    tallies
}

impl Field {
    fn attack(&mut self, name: &str, script: &Script) -> Result<Tally, Fault> {
        let witness = Witness::of(&self.nodes[0])?;
        self.settle(&vec![usize::MAX; self.nodes.len()])?;
        let before: Vec<_> = self.nodes.iter().map(Node::descriptors).collect();
        let resident: Vec<_> = self.nodes.iter().map(Node::resident_mib).collect();
        self.nodes.iter().for_each(Node::forget_peak);

        let mut inputs = 0;
        for case in &script.cases {
            // What only Redis can bring needs a Redis.
            if case.needs_redis && self.redis.is_none() {
                continue;
            }
            inputs += match case.linear {
                None => attack::run(&self.target(), case, 0)?,
                Some(most) => self.linear(case, most)?,
            };
        }

        for (node, resident) in self.nodes.iter_mut().zip(&resident) {
            if !node.lives() {
                return Err("the process is gone".to_owned());
            }
            let grown = node.peak_mib().saturating_sub(*resident);
            if grown > script.peak_mib {
                return Err(format!(
                    "grew by {grown} MiB, more than {}",
                    script.peak_mib
                ));
            }
        }
        self.settle(&before)?;
        let grown = self.nodes.iter().zip(&resident);
        let grown = grown.map(|(node, before)| node.resident_mib().saturating_sub(*before));
        let grown_mib = grown.max().unwrap_or_default();
        if grown_mib > KEPT_MIB {
            return Err(format!("{grown_mib} MiB are still there afterwards"));
        }
        let (echoes, slowest_echo) = witness.finish()?;
        Ok(Tally {
            name: name.to_owned(),
            inputs,
            echoes,
            slowest_echo,
            grown_mib,
        })
    }

    fn target(&self) -> Target<'_> {
        Target {
            nodes: self.nodes.iter().map(|node| node.address).collect(),
            redis: self.redis.as_ref(),
        }
    }

    /// Waits until nothing of an attack is left: no session but the witness's, no descriptor more
    /// than `before` and those that are kept.
    fn settle(&self, before: &[usize]) -> Result<(), Fault> {
        wait_until(PATIENCE, || {
            let mut sessions = 0;
            for (node, before) in self.nodes.iter().zip(before) {
                sessions += node.sessions()?;
                let now = node.descriptors();
                if now > before.saturating_add(self.kept_connections) {
                    return Err(format!("{now} descriptors, {before} before"));
                }
            }
            if sessions > 1 {
                return Err(format!("{sessions} sessions are left"));
            }
            Ok(())
        })
    }

    /// Runs a case with an eighth of its size and with all of it, and compares the computing time.
    fn linear(&self, case: &Case, most: usize) -> Result<usize, Fault> {
        let computed = || self.nodes.iter().map(Node::computed).sum::<Duration>();
        let mut times = [Duration::ZERO; 2];
        let mut inputs = 0;
        for (time, n) in times.iter_mut().zip([most / 8, most]) {
            let before = computed();
            inputs += attack::run(&self.target(), case, n)?;
            *time = computed() - before;
        }
        let [small, large] = times;
        if large > small.max(NOISE) * 8 * STEEPNESS {
            return Err(format!(
                "{}: {small:?} for an eighth, {large:?} for all",
                case.name
            ));
        }
        Ok(inputs)
    }
}

fn report(what: &str, tallies: &[Tally]) {
    let inputs: usize = tallies.iter().map(|tally| tally.inputs).sum();
    let echoes: usize = tallies.iter().map(|tally| tally.echoes).sum();
    let slowest = tallies.iter().max_by_key(|tally| tally.slowest_echo);
    let slowest = slowest.map_or(String::new(), |tally| {
        format!("{:?} in {}", tally.slowest_echo, tally.name)
    });
    let grown = tallies
        .iter()
        .map(|tally| tally.grown_mib)
        .max()
        .unwrap_or_default();
    eprintln!(
        "corpus, {what}: {} files, {inputs} inputs, {echoes} echoes of the witness (slowest \
         {slowest}), at most {grown} MiB kept",
        tallies.len(),
    );
}

//! Three real nodes and a real Redis, broken in every way that needs no other machine.
//!
//! `FAULT_ROUNDS=3 cargo test -p sockhop-node --test hostile faults -- --nocapture` does each three
//! times and prints the time lines; `FAULT_CLIENTS=1700` makes 5,100 of the 900 that come back at once.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use testkit::{FaultProxy, Network, RedisServer};

use crate::peer::{Arrived, Fault, Frame, Peer, head};
use crate::process::{Node, open_websocket, wait_until};

/// How long anything may take to be right again, on a machine with other work.
const HEALED_WITHIN: Duration = Duration::from_secs(40);

/// After this a message that did not come is said again, where it may be lost.
const AGAIN: Duration = Duration::from_secs(2);

/// How long a fault lasts once it has shown.
const LASTS: Duration = Duration::from_secs(1);

/// Clients that come back to each node at once, unless `FAULT_CLIENTS` says otherwise.
const CLIENTS: usize = 300;

/// Three nodes, each behind a proxy of its own to their Redis.
struct Cluster {
    redis: RedisServer,
    proxies: Vec<FaultProxy>,
    nodes: Vec<Node>,
}

impl Cluster {
    fn start() -> Self {
        let redis = RedisServer::start();
        let server = SocketAddr::from(([127, 0, 0, 1], redis.port()));
        let proxies: Vec<_> = (0..3).map(|_| FaultProxy::start(server)).collect();
        let nodes = proxies.iter().map(start_node).collect();
        let cluster = Self {
            redis,
            proxies,
            nodes,
        };
        cluster.heals().expect("the cluster finds itself");
        cluster
    }

    /// Everything is right: all nodes ready, each with all members, and each hears the others.
    fn heals(&self) -> Result<Duration, Fault> {
        let began = Instant::now();
        wait_until(HEALED_WITHIN, || {
            for node in &self.nodes {
                ready(node, true)?;
                members(node, self.nodes.len() as u64)?;
            }
            Ok(())
        })?;
        for (from, to) in [(0, 1), (1, 2), (2, 0)] {
            wait_until(HEALED_WITHIN, || {
                delivers_within(AGAIN, &self.nodes[from], &self.nodes[to])
            })?;
        }
        Ok(began.elapsed())
    }

    /// No session is left at any node.
    fn is_empty(&self) -> Result<(), Fault> {
        wait_until(HEALED_WITHIN, || {
            let sessions = self.nodes.iter().map(Node::sessions);
            match sessions.sum::<Result<u64, _>>()? {
                0 => Ok(()),
                left => Err(format!("{left} sessions are left")),
            }
        })
    }
}

fn start_node(proxy: &FaultProxy) -> Node {
    let url = format!("redis://{}", proxy.address());
    Node::start(&[
        ("SOCKHOP__REDIS__URL", &url),
        ("SOCKHOP__CLUSTER__HEARTBEAT_MS", "300"),
        ("SOCKHOP__CLUSTER__MEMBER_TIMEOUT_MS", "2000"),
    ])
}

fn ready(node: &Node, wanted: bool) -> Result<(), Fault> {
    let mut peer = Peer::connect(node.address)?;
    peer.write(head("GET", "/readyz", &["Connection: close".to_owned()]).as_bytes());
    let status = peer.answer(Instant::now() + Duration::from_secs(5))?.status;
    if (status == 200) == wanted {
        return Ok(());
    }
    Err(format!("readyz is {status}"))
}

fn members(node: &Node, wanted: u64) -> Result<(), Fault> {
    match node.metric("sockhop_node_members")? {
        now if now == wanted => Ok(()),
        now => Err(format!("{now} members, not {wanted}")),
    }
}

/// What a client of one node says to everybody reaches a client of the other.
fn delivers(from: &Node, to: &Node) -> Result<(), Fault> {
    delivers_within(Duration::from_secs(20), from, to)
}

fn delivers_within(patience: Duration, from: &Node, to: &Node) -> Result<(), Fault> {
    let (mut listener, _) = open_websocket(to.address)?;
    let (mut speaker, _) = open_websocket(from.address)?;
    speaker.write(&Frame::text("42[\"chat message\",\"over there\"]").bytes());
    let deadline = Instant::now() + patience;
    loop {
        match listener.arrived(deadline)? {
            Arrived::Text(text) if text.contains("over there") => return Ok(()),
            Arrived::Text(_) | Arrived::Binary(_) | Arrived::Pong => {}
            other => return Err(format!("{other:?}")),
        }
    }
}

fn signal(node: &Node, name: &str) {
    let pid = node.pid().to_string();
    let status = Command::new("kill").args([name, &pid]).status();
    assert!(status.expect("kill runs").success());
}

/// Waits until a fault shows; after how long.
fn shows(check: impl FnMut() -> Result<(), Fault>) -> Result<Duration, Fault> {
    let began = Instant::now();
    wait_until(HEALED_WITHIN, check)?;
    Ok(began.elapsed())
}

/// A fault of the network between one node and Redis.
fn network(cluster: &Cluster, network: Network) -> Result<String, Fault> {
    let (proxy, node) = (&cluster.proxies[0], &cluster.nodes[0]);
    proxy.set(network);
    let unready = shows(|| ready(node, false))?;
    // Its own clients are served, and so are the others'.
    delivers(node, node)?;
    delivers(&cluster.nodes[1], &cluster.nodes[2])?;
    proxy.set(Network::Passes);
    Ok(format!("unready after {unready:.1?}"))
}

fn slow_network(cluster: &Cluster) -> Result<String, Fault> {
    cluster.proxies[0].set(Network::Delays(Duration::from_millis(100)));
    wait_until(HEALED_WITHIN, || {
        delivers_within(AGAIN, &cluster.nodes[0], &cluster.nodes[1])
    })?;
    wait_until(HEALED_WITHIN, || {
        delivers_within(AGAIN, &cluster.nodes[2], &cluster.nodes[0])
    })?;
    for node in &cluster.nodes {
        ready(node, true)?;
    }
    cluster.proxies[0].set(Network::Passes);
    Ok("still ready, still delivers".to_owned())
}

fn killed_node(cluster: &mut Cluster) -> Result<String, Fault> {
    let dead = cluster.nodes.remove(0);
    signal(&dead, "-KILL");
    let gone = shows(|| cluster.nodes.iter().try_for_each(|node| members(node, 2)))?;
    delivers(&cluster.nodes[0], &cluster.nodes[1])?;
    drop(dead);
    let node = start_node(&cluster.proxies[0]);
    cluster.nodes.insert(0, node);
    Ok(format!("gone from the others after {gone:.1?}"))
}

fn stopped_node(cluster: &Cluster) -> Result<String, Fault> {
    let others = &cluster.nodes[1..];
    signal(&cluster.nodes[0], "-STOP");
    let gone = shows(|| others.iter().try_for_each(|node| members(node, 2)));
    let carried_on = delivers(&others[0], &others[1]);
    signal(&cluster.nodes[0], "-CONT");
    carried_on?;
    Ok(format!("gone from the others after {:.1?}", gone?))
}

fn stopped_redis(cluster: &Cluster) -> Result<String, Fault> {
    cluster.redis.freeze();
    let unready = shows(|| cluster.nodes.iter().try_for_each(|node| ready(node, false)));
    let local = delivers(&cluster.nodes[0], &cluster.nodes[0]);
    cluster.redis.thaw();
    local?;
    Ok(format!("all unready after {:.1?}", unready?))
}

fn restarted_redis(cluster: &mut Cluster) -> Result<String, Fault> {
    cluster.redis.stop();
    let unready = shows(|| cluster.nodes.iter().try_for_each(|node| ready(node, false)))?;
    delivers(&cluster.nodes[0], &cluster.nodes[0])?;
    std::thread::sleep(LASTS);
    cluster.redis.start_again();
    Ok(format!("all unready after {unready:.1?}"))
}

/// Everybody's connection breaks, and everybody comes back to the next node at once.
fn stampede(cluster: &Cluster) -> Result<String, Fault> {
    let open = |node: &Node| -> Result<Vec<Peer>, Fault> {
        let peers = (0..number("FAULT_CLIENTS", CLIENTS))
            .map(|_| open_websocket(node.address).map(|(peer, _)| peer));
        peers.collect()
    };
    let clients = open(&cluster.nodes[0])?;
    clients.into_iter().for_each(Peer::reset);
    let began = Instant::now();
    let back: Result<Vec<Vec<Peer>>, Fault> = std::thread::scope(|scope| {
        let all: Vec<_> = cluster
            .nodes
            .iter()
            .map(|node| scope.spawn(move || open(node)))
            .collect();
        let all = all
            .into_iter()
            .map(|one| one.join().map_err(|_| "a client panicked")?);
        all.collect()
    });
    let back = back?;
    let took = began.elapsed();
    let count: usize = back.iter().map(Vec::len).sum();
    Ok(format!("{count} clients were back after {took:.1?}"))
}

type Break = fn(&mut Cluster) -> Result<String, Fault>;

const FAULTS: [(&str, Break); 8] = [
    ("one node cut off from Redis", |cluster| {
        network(cluster, Network::Cuts)
    }),
    ("one node's connections to Redis half-open", |cluster| {
        network(cluster, Network::Swallows)
    }),
    (
        "100 ms more each way between one node and Redis",
        |cluster| slow_network(cluster),
    ),
    ("kill -9 of a node, and a new one", killed_node),
    ("SIGSTOP and SIGCONT of a node", |cluster| {
        stopped_node(cluster)
    }),
    ("SIGSTOP and SIGCONT of Redis", |cluster| {
        stopped_redis(cluster)
    }),
    ("Redis killed and started again", restarted_redis),
    ("all clients reconnect at once", |cluster| stampede(cluster)),
];

/// A number of the environment.
fn number(name: &str, otherwise: usize) -> usize {
    let text = std::env::var(name).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn the_cluster_is_right_again_after_every_fault() {
    let rounds = number("FAULT_ROUNDS", 1);
    let mut cluster = Cluster::start();
    for round in 1..=rounds {
        for (name, fault) in FAULTS {
            let said = fault(&mut cluster).unwrap_or_else(|fault| panic!("{name}: {fault}"));
            let healed = cluster
                .heals()
                .unwrap_or_else(|fault| panic!("{name}: {fault}"));
            cluster
                .is_empty()
                .unwrap_or_else(|fault| panic!("{name}: {fault}"));
            assert!(
                cluster.nodes.iter_mut().all(Node::lives),
                "{name}: a process is gone"
            );
            eprintln!("fault, round {round}: {name}: {said}; all right {healed:.1?} after its end");
        }
    }
}

//! Three nodes, their Redis, and what must be true of them before and after every fault.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use testkit::{FaultProxy, RedisServer};

use super::crowd::Crowd;
use super::ground::{self, Ground};
use super::timeline::Counters;
use crate::peer::Fault;
use crate::process::{Node, wait_until};

/// How long anything may take to be right again, on a machine with other work.
pub(super) const HEALED_WITHIN: Duration = Duration::from_secs(40);

/// Nodes of the cluster.
pub(super) const ALL: [usize; 3] = [0, 1, 2];

/// Ports of the nodes that have a network of their own.
pub(super) const PUBLIC: u16 = 8080;
pub(super) const PRIVATE: u16 = 7000;
pub(super) const CONTROL: u16 = 9000;

/// With more clients than this at each node, pings are rarer.
const FEW: usize = 300;

/// Three nodes, each behind a proxy of its own to their Redis.
pub(super) struct Cluster {
    pub(super) ground: Ground,
    pub(super) redis: RedisServer,
    pub(super) proxies: Vec<FaultProxy>,
    pub(super) nodes: Vec<Node>,
    /// Clients of each node while something breaks.
    pub(super) clients: usize,
    /// What a node without clients has.
    baseline: Vec<Idle>,
    starts: usize,
    /// What connects the networks of the nodes.
    cables: [Option<String>; 3],
}

/// What is left of a node when nobody is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Idle {
    descriptors: usize,
    subscriptions: u64,
}

/// How one node is started.
#[derive(Default)]
pub(super) struct Start<'a> {
    pub(super) environment: &'a [(&'a str, &'a str)],
    /// Where its log goes; to a file of the harness without it.
    pub(super) log: Option<Stdio>,
}

impl Cluster {
    pub(super) fn start(ground: Ground, clients: usize) -> Result<Self, Fault> {
        let host = match ground {
            Ground::Namespaces => ground::HARNESS,
            Ground::Loopback(_) => Ipv4Addr::LOCALHOST.into(),
        };
        let redis = RedisServer::start();
        let server = SocketAddr::from(([127, 0, 0, 1], redis.port()));
        let proxies = ALL.map(|_| FaultProxy::start_at(host, server));
        let mut cluster = Self {
            ground,
            redis,
            proxies: proxies.into(),
            nodes: Vec::new(),
            clients,
            baseline: Vec::new(),
            starts: 0,
            cables: [None, None, None],
        };
        for index in ALL {
            let node = cluster.launch(index, Start::default())?;
            cluster.nodes.push(node);
        }
        cluster.knows_everybody()?;
        for node in &cluster.nodes {
            cluster.baseline.push(idle(node)?);
        }
        Ok(cluster)
    }

    /// Whether packets can be lost here; why not otherwise.
    pub(super) fn has_networks(&self) -> Result<(), String> {
        match &self.ground {
            Ground::Namespaces => Ok(()),
            Ground::Loopback(why) => Err(format!("no network namespaces with iptables: {why}")),
        }
    }

    /// Milliseconds between two pings, and for their answer.
    pub(super) fn ping(&self) -> Duration {
        Duration::from_secs(if self.clients > FEW { 5 } else { 2 })
    }

    /// Starts a node in the place of the one that was there, which must have ended.
    pub(super) fn start_again(&mut self, index: usize, start: Start<'_>) -> Result<(), Fault> {
        let node = self.launch(index, start)?;
        self.nodes[index] = node;
        Ok(())
    }

    /// Kills a node and starts it anew.
    pub(super) fn replace(&mut self, index: usize, start: Start<'_>) -> Result<(), Fault> {
        self.nodes[index].kill();
        self.start_again(index, start)?;
        self.knows_everybody()
    }

    fn launch(&mut self, index: usize, start: Start<'_>) -> Result<Node, Fault> {
        self.starts += 1;
        let (host, ports) = match self.ground {
            Ground::Namespaces => (ground::address(index), [PUBLIC, PRIVATE, CONTROL]),
            Ground::Loopback(_) => (Ipv4Addr::LOCALHOST.into(), free_ports()?),
        };
        let [public, private, control] = ports.map(|port| SocketAddr::new(host, port));
        let log = match start.log {
            Some(log) => log,
            None => Stdio::from(File::create(self.log(index)).map_err(|error| error.to_string())?),
        };
        let mut command = self.command(index);
        let ping = self.ping().as_millis().to_string();
        command
            .args(["--listen", &public.to_string()])
            .args(["--private-listen", &private.to_string()])
            .args(["--control-listen", &control.to_string()])
            .args(["--ping-interval-ms", &ping, "--ping-timeout-ms", &ping])
            .env(
                "SOCKHOP__REDIS__URL",
                format!("redis://{}", self.proxies[index].address()),
            )
            .env("SOCKHOP__CLUSTER__HEARTBEAT_MS", "300")
            .env("SOCKHOP__CLUSTER__MEMBER_TIMEOUT_MS", "2000")
            .envs(start.environment.iter().copied())
            .stderr(log);
        let mut process = command.spawn().map_err(|error| error.to_string())?;
        // The command holds an end of the pipe that the log may be.
        drop(command);
        if let Ground::Namespaces = self.ground {
            let before = self.cables[index].take();
            self.cables[index] = Some(ground::connect(&mut process, before.as_deref())?);
        }
        let mut node = Node::of(process, public, control);
        wait_until(HEALED_WITHIN, || match node.lives() {
            true => node.page("/healthz").map(drop),
            false => Err("a node does not start".to_owned()),
        })?;
        // The public listener comes last.
        wait_until(HEALED_WITHIN, || ready(&node, true))?;
        Ok(node)
    }

    /// The ends of the logs of all nodes, for whoever looks for what went wrong.
    pub(super) fn show_logs(&self) {
        const LINES: usize = 30;
        let Ok(files) = std::fs::read_dir(self.redis.folder()) else {
            return;
        };
        for path in files.flatten().map(|file| file.path()) {
            if path.extension().is_none_or(|extension| extension != "log") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            eprintln!("{}:", path.display());
            for line in &lines[lines.len().saturating_sub(LINES)..] {
                eprintln!("    {line}");
            }
        }
    }

    fn command(&self, index: usize) -> Command {
        let binary = Path::new(env!("CARGO_BIN_EXE_sockhop"));
        match self.ground {
            Ground::Namespaces => ground::command(index, binary),
            Ground::Loopback(_) => Command::new(binary),
        }
    }

    fn log(&self, index: usize) -> PathBuf {
        self.redis
            .folder()
            .join(format!("node-{index}-{}.log", self.starts))
    }

    /// Clients of all nodes.
    pub(super) fn crowd(&self) -> Result<Crowd, Fault> {
        Crowd::open(&self.ways(), self.clients)
    }

    /// The public addresses of all nodes.
    pub(super) fn ways(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.address).collect()
    }

    pub(super) fn all_ready(&self) -> Result<(), Fault> {
        self.nodes.iter().try_for_each(|node| ready(node, true))
    }

    pub(super) fn none_ready(&self) -> Result<(), Fault> {
        self.nodes.iter().try_for_each(|node| ready(node, false))
    }

    /// All nodes are ready, and each has all members.
    fn knows_everybody(&self) -> Result<(), Fault> {
        wait_until(HEALED_WITHIN, || {
            self.all_ready()?;
            let all = self.nodes.len() as u64;
            self.nodes.iter().try_for_each(|node| members(node, all))
        })
    }

    /// Everything is right: all nodes ready, each with all members, and what is said at each to
    /// everybody or to a room is heard once at each.
    pub(super) fn heals(&self) -> Result<(), Fault> {
        self.knows_everybody()?;
        let choir = Crowd::open(&self.ways(), 1)?;
        choir.hear(&ALL, &ALL).map(drop)
    }

    /// As [`Self::heals`], for clients that were there during a fault, at these nodes.
    pub(super) fn is_right_for(&self, crowd: &Crowd, nodes: &[usize]) -> Result<(), Fault> {
        self.knows_everybody()?;
        crowd.hear_in_the_end(nodes)?;
        crowd.hear(nodes, nodes).map(drop)
    }

    /// Nothing is left of clients, and every session that was opened was counted when it ended.
    pub(super) fn is_empty(&self) -> Result<(), Fault> {
        wait_until(HEALED_WITHIN, || {
            for (index, node) in self.nodes.iter().enumerate() {
                let (left, before) = (self.left(node)?, self.baseline[index]);
                if left.descriptors > before.descriptors
                    || left.subscriptions != before.subscriptions
                {
                    return Err(format!("node {index}: {left:?}, but {before:?} before"));
                }
            }
            Ok(())
        })
    }

    fn left(&self, node: &Node) -> Result<Idle, Fault> {
        let counters = Counters::of(node)?;
        let open = counters.sum("sockhop_engine_sessions");
        let opened = counters.sum("sockhop_engine_sessions_opened_total");
        let closed = counters.sum("sockhop_engine_sessions_closed_total");
        if opened != closed + open {
            return Err(format!(
                "{opened} sessions opened, {closed} closed, {open} open"
            ));
        }
        for gauge in [
            "sockhop_engine_sessions",
            "sockhop_engine_parked_polls",
            "sockhop_sockets",
            "sockhop_route_in_flight",
        ] {
            match counters.sum(gauge) {
                0 => {}
                left => return Err(format!("{gauge} is {left}")),
            }
        }
        Ok(Idle {
            descriptors: node.descriptors(),
            subscriptions: counters.sum("sockhop_bus_subscriptions"),
        })
    }
}

/// What a node has when nobody is there: the same several times in a row.
fn idle(node: &Node) -> Result<Idle, Fault> {
    let look = || {
        Ok::<_, Fault>(Idle {
            descriptors: node.descriptors(),
            subscriptions: node.metric("sockhop_bus_subscriptions")?,
        })
    };
    let (mut before, mut times) = (look()?, 0);
    wait_until(HEALED_WITHIN, || {
        let now = look()?;
        times = if now == before { times + 1 } else { 0 };
        before = now;
        match times {
            10.. => Ok(()),
            _ => Err("a node does not come to rest".to_owned()),
        }
    })?;
    Ok(before)
}

fn free_ports() -> Result<[u16; 3], Fault> {
    let held: Result<Vec<_>, _> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0")).collect();
    let held = held.map_err(|error| error.to_string())?;
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(&held) {
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        *port = address.port();
    }
    Ok(ports)
}

pub(super) fn ready(node: &Node, wanted: bool) -> Result<(), Fault> {
    let status = node.page("/readyz")?.status;
    if (status == 200) == wanted {
        return Ok(());
    }
    Err(format!("readyz is {status}"))
}

pub(super) fn members(node: &Node, wanted: u64) -> Result<(), Fault> {
    match node.metric("sockhop_node_members")? {
        now if now == wanted => Ok(()),
        now => Err(format!("{now} members, not {wanted}")),
    }
}

pub(super) fn signal(node: &Node, name: &str) {
    let pid = node.pid().to_string();
    let status = Command::new("kill").args([name, &pid]).status();
    assert!(status.expect("kill runs").success());
}

/// Waits until a fault shows.
pub(super) fn shows(check: impl FnMut() -> Result<(), Fault>) -> Result<(), Fault> {
    wait_until(HEALED_WITHIN, check)
}

/// The address of a node, when it has one of its own.
pub(super) fn addresses(nodes: &[usize]) -> Vec<IpAddr> {
    nodes.iter().map(|&node| ground::address(node)).collect()
}

/// How much of a series a node has counted beyond `before`.
pub(super) fn counted(node: &Node, before: &Counters, series: &str) -> Result<u64, Fault> {
    Ok(Counters::of(node)?
        .get(series)
        .saturating_sub(before.get(series)))
}

/// At least so much of a series was counted beyond `before`, or will be.
pub(super) fn counts(
    node: &Node,
    before: &Counters,
    series: &str,
    wanted: usize,
) -> Result<(), Fault> {
    wait_until(HEALED_WITHIN, || match counted(node, before, series)? {
        now if now >= wanted as u64 => Ok(()),
        now => Err(format!("{series} rose by {now}, not by {wanted}")),
    })
}

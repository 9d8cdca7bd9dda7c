//! What happens between the balancer, a real HAProxy, and the nodes.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::clients::PING_TIMEOUT;
use super::cluster::{ALL, Cluster, HEALED_WITHIN, PUBLIC, counts, members, ready, shows};
use super::crowd::Crowd;
use super::ground::{self, HARNESS, Packets};
use super::timeline::{Counters, Timeline};
use crate::peer::{Fault, Peer};
use crate::process::{open_websocket, wait_until};

/// Where Debian has it.
const PROGRAM: &str = "/usr/sbin/haproxy";

/// Where it listens.
const PORT: u16 = 8000;

/// New clients that must not notice anything.
const NEW: usize = 30;

/// Each in its turn, as long as it says that it is ready. Clients of a node that is not reached any
/// more are told at once.
const CONFIGURATION: &str = "
global
  maxconn 8000
defaults
  mode http
  timeout connect 1s
  timeout check 1s
  timeout client 60s
  timeout server 60s
  timeout tunnel 1h
  retries 3
  option redispatch 1
  retry-on conn-failure
  default-server inter 300ms fall 2 rise 2 check on-marked-down shutdown-sessions
frontend clients
  bind {address}
  default_backend nodes
backend nodes
  balance roundrobin
  option httpchk GET /readyz
";

/// Whether there is a balancer.
pub(super) fn program() -> Result<(), String> {
    match Path::new(PROGRAM).exists() {
        true => Ok(()),
        false => Err(format!("no {PROGRAM} (apt-get install haproxy)")),
    }
}

struct Balancer {
    process: Child,
    address: SocketAddr,
}

impl Balancer {
    fn start(cluster: &Cluster) -> Result<Self, Fault> {
        let address = SocketAddr::new(HARNESS, PORT);
        let mut configuration = CONFIGURATION.replace("{address}", &address.to_string());
        for (node, way) in cluster.ways().iter().enumerate() {
            configuration.push_str(&format!("  server node{node} {way}\n"));
        }
        let file = cluster.redis.folder().join("haproxy.cfg");
        fs::write(&file, configuration).map_err(|error| error.to_string())?;
        let process = Command::new(PROGRAM)
            .args(["-db", "-q", "-f"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let process = process.map_err(|error| format!("haproxy: {error}"))?;
        let balancer = Self { process, address };
        wait_until(HEALED_WITHIN, || balancer.open().map(drop))?;
        Ok(balancer)
    }

    fn open(&self) -> Result<Peer, Fault> {
        open_websocket(self.address).map(|(peer, _)| peer)
    }

    /// New clients, as many as it takes until `enough` of the node's sessions are theirs.
    fn reaches(&self, cluster: &Cluster, node: usize) -> Result<(), Fault> {
        let opened = "sockhop_engine_sessions_opened_total";
        let before = cluster.nodes[node].metric(opened)?;
        wait_until(HEALED_WITHIN, || {
            let all: Result<Vec<_>, _> = ALL.iter().map(|_| self.open()).collect();
            drop(all?);
            match cluster.nodes[node].metric(opened)? {
                now if now > before => Ok(()),
                _ => Err(format!("no new client came to node {node}")),
            }
        })
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// No packet passes between the balancer and one node; nodes and Redis reach each other.
pub(super) fn cut(cluster: &mut Cluster, timeline: &mut Timeline) -> Result<(), Fault> {
    let balancer = Balancer::start(cluster)?;
    for node in ALL {
        balancer.reaches(cluster, node)?;
    }
    wait_until(HEALED_WITHIN, || match cluster.nodes[0].sessions()? {
        0 => Ok(()),
        left => Err(format!("{left} sessions are left of before")),
    })?;
    let crowd = Crowd::open(&[balancer.address; 3], cluster.clients)?;
    let node = &cluster.nodes[0];
    let cut_off = usize::try_from(node.sessions()?).unwrap_or(usize::MAX);
    timeline.restart();
    ground::lose(node.pid(), Packets::OfPort(PUBLIC))?;
    let meanwhile = apart(cluster, &balancer, &crowd, timeline);
    ground::lose_no_more(node.pid())?;
    meanwhile?;
    timeline.mark("all of them are counted as ping timeouts; the fault ends");
    balancer.reaches(cluster, 0)?;
    timeline.mark("new clients come to it");
    let lost: usize = ALL.iter().map(|&way| crowd.lost(way)).sum();
    match lost == cut_off {
        true => Ok(()),
        false => Err(format!(
            "{lost} clients lost their connection, not {cut_off}"
        )),
    }
}

fn apart(
    cluster: &Cluster,
    balancer: &Balancer,
    crowd: &Crowd,
    timeline: &mut Timeline,
) -> Result<(), Fault> {
    let node = &cluster.nodes[0];
    let before = Counters::of(node)?;
    let cut_off = usize::try_from(before.sum("sockhop_engine_sessions")).unwrap_or(usize::MAX);
    shows(
        || match ALL.iter().map(|&way| crowd.lost(way)).sum::<usize>() {
            lost if lost == cut_off => Ok(()),
            lost => Err(format!(
                "{lost} clients lost their connection, not {cut_off}"
            )),
        },
    )?;
    timeline.mark("the balancer has told the clients of that node, and no others");
    let new: Result<Vec<_>, _> = (0..NEW).map(|_| balancer.open()).collect();
    timeline.mark(format!("{} new clients came to the others", new?.len()));
    ready(node, true)?;
    members(node, 3)?;
    shows(|| match node.sessions()? {
        0 => Ok(()),
        left => Err(format!("{left} sessions are left")),
    })?;
    timeline.mark("its sessions are closed");
    counts(node, &before, PING_TIMEOUT, cut_off)
}

//! Several real Redis servers: a Redis Cluster, and a master with a replica and a sentinel.

use std::thread;
use std::time::{Duration, Instant};

use crate::redis::{RedisReply, RedisServer, free_port};

/// Until servers agree with each other; generous, for loaded machines.
const AGREE_DEADLINE: Duration = Duration::from_secs(60);

const SLOTS: usize = 16_384;

/// Waits until servers agree, which nobody announces.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + AGREE_DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "servers do not agree: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A Redis Cluster of masters that share the slots evenly, the first ones the first slots.
#[derive(Debug)]
pub struct RedisCluster {
    servers: Vec<RedisServer>,
    masters: usize,
}

impl RedisCluster {
    /// Starts as many masters, and one replica for each if asked for.
    ///
    /// # Panics
    /// They do not start, or do not agree.
    #[must_use]
    pub fn start(masters: usize, with_replicas: bool) -> Self {
        let count = if with_replicas { 2 * masters } else { masters };
        let servers: Vec<_> = (0..count).map(|_| start_member()).collect();
        let cluster = Self { servers, masters };
        let [first, others @ ..] = cluster.servers.as_slice() else {
            panic!("a cluster has at least one server");
        };
        for server in others {
            let port = server.port().to_string();
            let bus_port = server.option("--cluster-port").to_owned();
            first.run(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus_port]);
        }
        for (number, server) in cluster.servers[..masters].iter().enumerate() {
            let slots = number * SLOTS / masters..(number + 1) * SLOTS / masters;
            let (from, to) = (slots.start.to_string(), (slots.end - 1).to_string());
            server.run(&["CLUSTER", "ADDSLOTSRANGE", &from, &to]);
        }
        until("all know each other", || {
            cluster.servers.iter().all(|server| {
                let info = server.ask(&["CLUSTER", "INFO"]);
                info.text().contains("cluster_state:ok")
                    && info
                        .text()
                        .contains(&format!("cluster_known_nodes:{count}"))
            })
        });
        for (number, server) in cluster.servers[masters..].iter().enumerate() {
            let master = cluster.servers[number].ask(&["CLUSTER", "MYID"]);
            until("it may follow", || {
                let answer = server.ask(&["CLUSTER", "REPLICATE", master.text()]);
                !matches!(answer, RedisReply::Error(_))
            });
            until("it follows", || {
                let info = server.ask(&["INFO", "replication"]);
                info.text().contains("master_link_status:up")
            });
        }
        cluster
    }

    /// The servers: the masters, then the replicas in the same order.
    #[must_use]
    pub fn servers(&self) -> &[RedisServer] {
        &self.servers
    }

    /// The same, to stop or start one.
    pub fn servers_mut(&mut self) -> &mut [RedisServer] {
        &mut self.servers
    }

    /// The URL, with all masters as seeds.
    #[must_use]
    pub fn url(&self) -> String {
        let masters = self.servers[..self.masters].iter();
        let seeds: Vec<_> = masters
            .map(|server| format!("127.0.0.1:{}", server.port()))
            .collect();
        format!("redis+cluster://{}", seeds.join(","))
    }

    /// Moves one slot from one server to another, by their positions.
    ///
    /// # Panics
    /// A server refuses.
    pub fn move_slot(&self, slot: u16, from: usize, to: usize) {
        let slot = slot.to_string();
        let id = |position: usize| self.servers[position].ask(&["CLUSTER", "MYID"]);
        let (source, target) = (id(from), id(to));
        let set = |position: usize, how: &[&str]| {
            let command = [&["CLUSTER", "SETSLOT", &slot], how].concat();
            self.servers[position].run(&command);
        };
        set(to, &["IMPORTING", source.text()]);
        set(from, &["MIGRATING", target.text()]);
        for position in [to, from] {
            set(position, &["NODE", target.text()]);
        }
    }
}

fn start_member() -> RedisServer {
    let bus_port = free_port().to_string();
    RedisServer::start_with(&[
        "--cluster-enabled",
        "yes",
        "--cluster-config-file",
        "nodes.conf",
        "--cluster-node-timeout",
        "2000",
        "--cluster-port",
        &bus_port,
    ])
}

/// A master with one replica, and a sentinel that may decide alone.
#[derive(Debug)]
pub struct RedisSentinel {
    /// The first master.
    pub master: RedisServer,
    /// Its replica.
    pub replica: RedisServer,
    /// Who watches them, under the name `mymaster`.
    pub sentinel: RedisServer,
}

impl RedisSentinel {
    /// Starts all three and waits until they know each other.
    ///
    /// # Panics
    /// They do not start, or do not agree.
    #[must_use]
    pub fn start() -> Self {
        let master = RedisServer::start();
        let port = master.port().to_string();
        let replica = RedisServer::start_with(&["--replicaof", &format!("127.0.0.1 {port}")]);
        until("the replica follows", || {
            let info = replica.ask(&["INFO", "replication"]);
            info.text().contains("master_link_status:up")
        });
        let sentinel = RedisServer::start_sentinel(&format!(
            "sentinel monitor mymaster 127.0.0.1 {port} 1\n\
             sentinel down-after-milliseconds mymaster 1000\n\
             sentinel failover-timeout mymaster 5000\n"
        ));
        until("the sentinel knows the replica", || {
            let replicas = sentinel.ask(&["SENTINEL", "REPLICAS", "mymaster"]);
            matches!(&replicas, RedisReply::List(list) if !list.is_empty())
        });
        Self {
            master,
            replica,
            sentinel,
        }
    }

    /// The URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!(
            "redis+sentinel://127.0.0.1:{}/mymaster",
            self.sentinel.port()
        )
    }
}

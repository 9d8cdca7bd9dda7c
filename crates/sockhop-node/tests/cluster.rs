//! Processes of the `contract` example on one real Redis.

mod support;

use std::net::TcpStream;
use std::time::{Duration, Instant};

use support::contract::{Contract, WebSocket, post};
use support::{Node, get, until};
use testkit::RedisServer;

#[test]
fn broadcasts_rooms_and_exceptions_hold_across_processes() {
    let redis = RedisServer::start();
    let nodes: [Contract; 3] = Contract::cluster(&redis.url());
    let [(mut a, a_id), (mut b, b_id), (mut c, c_id)] = nodes.each_ref().map(WebSocket::connect);

    assert_eq!(a.call("\"broadcast\",\"not to me\""), "[\"ok\"]");
    for other in [&mut b, &mut c] {
        assert_eq!(other.hear(), "42[\"broadcast\",\"not to me\"]");
    }
    for socket in [&mut a, &mut b, &mut c] {
        assert_eq!(socket.call("\"join\",\"red\""), "[\"ok\"]");
    }
    assert_eq!(c.call("\"join\",\"muted\""), "[\"ok\"]");

    assert_eq!(b.call("\"room-broadcast\",\"red\",1"), "[\"ok\"]");
    for other in [&mut a, &mut c] {
        assert_eq!(other.hear(), "42[\"room-msg\",\"red\",1]");
    }
    b.say("421[\"room-except\",\"red\",\"muted\",2]");
    assert_eq!(b.hear(), "42[\"room-msg\",\"red\",2]");
    assert_eq!(b.hear(), "431[\"ok\"]");
    assert_eq!(a.hear(), "42[\"room-msg\",\"red\",2]");

    // One socket of another node, by its id.
    assert_eq!(a.call(&format!("\"room-emit\",\"{c_id}\",3")), "[\"ok\"]");
    assert_eq!(c.hear(), format!("42[\"room-msg\",\"{c_id}\",3]"));

    let members = c.call("\"members\",\"red\"");
    for id in [&a_id, &b_id, &c_id] {
        assert!(members.contains(id.as_str()), "{members}");
    }
    assert_eq!(a.call("\"leave\",\"red\""), "[\"ok\"]");
    assert_eq!(c.call("\"room-broadcast\",\"red\",4"), "[\"ok\"]");
    assert_eq!(b.hear(), "42[\"room-msg\",\"red\",4]");
    for socket in [&mut a, &mut b, &mut c] {
        socket.settle();
    }
}

/// A polling client of either protocol whose every request goes to the next node.
struct Wanderer<'a> {
    nodes: &'a [Contract; 3],
    turn: usize,
    version: u8,
    target: String,
}

impl<'a> Wanderer<'a> {
    fn connect(nodes: &'a [Contract; 3], version: u8) -> Self {
        let mut client = Self {
            nodes,
            turn: usize::from(version),
            version,
            target: format!("/socket.io/?EIO={version}&transport=polling"),
        };
        let open = client.poll();
        let (_, sid) = open.split_once("\"sid\":\"").expect("an id");
        client.target.push_str("&sid=");
        client.target.push_str(&sid[..20]);
        if version == 4 {
            client.post("40");
        }
        let mut welcome = open;
        while !welcome.contains("[\"auth\",{}]") {
            welcome = client.poll();
        }
        client
    }

    fn node(&mut self) -> &'a Contract {
        self.turn += 1;
        &self.nodes[self.turn % 3]
    }

    fn poll(&mut self) -> String {
        let (status, body) = self.node().poll(&self.target);
        assert_eq!(status, 200, "{body}");
        body
    }

    fn post(&mut self, packet: &str) {
        let body = match self.version {
            3 => format!("{}:{packet}", packet.encode_utf16().count()),
            _ => packet.to_owned(),
        };
        assert_eq!(
            self.node().post(&self.target, &body),
            (200, "ok".to_owned())
        );
    }

    fn echo(&mut self, text: &str) {
        self.post(&format!("42[\"message\",\"{text}\"]"));
        let echo = format!("42[\"message-back\",\"{text}\"]");
        let heard = self.poll();
        assert!(heard.ends_with(&echo), "{heard}");
    }
}

#[test]
fn clients_without_memory_of_a_node_are_served_by_all() {
    let redis = RedisServer::start();
    let nodes: [Contract; 3] = Contract::cluster(&redis.url());
    for version in [3, 4] {
        let mut client = Wanderer::connect(&nodes, version);
        for text in ["one", "zwei €", "trois 😀", "four"] {
            client.echo(text);
        }
        // The upgrade takes place at whichever node.
        let target = client.target.replace("polling", "websocket");
        let mut socket = WebSocket::open(client.node().address, &target);
        socket.say("2probe");
        assert_eq!(socket.hear(), "3probe");
        // A poll that waits at the owner is released for the upgrade.
        socket.say("5");
        for text in ["five", "six"] {
            socket.say(&format!("42[\"message\",\"{text}\"]"));
            assert_eq!(socket.hear(), format!("42[\"message-back\",\"{text}\"]"));
        }
    }
    let forwarded = |node: &Contract, outcome: &str| {
        let name = format!("sockhop_route_forwarded_total{{outcome=\"{outcome}\"}}");
        node.metric(&name).unwrap_or_default()
    };
    let sum = |outcome: &str| -> f64 { nodes.iter().map(|node| forwarded(node, outcome)).sum() };
    assert!(sum("answered") >= 8.0);
    for outcome in [
        "unknown_owner",
        "unreachable",
        "refused",
        "failed",
        "owner_left",
        "timed_out",
    ] {
        assert_eq!(sum(outcome), 0.0, "{outcome}");
    }
}

#[test]
fn the_others_carry_on_when_a_node_is_killed() {
    let redis = RedisServer::start();
    let mut nodes: [Contract; 3] = Contract::cluster(&redis.url());
    let [(mut a, _), (mut b, _), (mut c, _)] = nodes.each_ref().map(WebSocket::connect);
    let (status, open) = nodes[2].poll("/socket.io/?EIO=4&transport=polling");
    assert_eq!(status, 200);
    let (_, sid) = open.split_once("\"sid\":\"").unwrap();
    let orphan = format!("/socket.io/?EIO=4&transport=polling&sid={}", &sid[..20]);

    nodes[2].kill();
    assert_eq!(c.next(), None);
    // A session of the dead node is unknown at once, whether its death is known or not.
    let begun = Instant::now();
    let (status, body) = nodes[0].poll(&orphan);
    assert_eq!(status, 400);
    assert!(body.starts_with("{\"code\":1,"), "{body}");
    assert!(begun.elapsed() < Duration::from_secs(5));

    assert_eq!(a.call("\"broadcast\",1"), "[\"ok\"]");
    assert_eq!(b.hear(), "42[\"broadcast\",1]");
    let (mut again, _) = WebSocket::connect(&nodes[1]);
    assert_eq!(b.call("\"broadcast\",2"), "[\"ok\"]");
    for socket in [&mut a, &mut again] {
        assert_eq!(socket.hear(), "42[\"broadcast\",2]");
        socket.settle();
    }
    for node in &nodes[..2] {
        until("the dead node to be given up", || {
            node.metric("sockhop_node_members") == Some(2.0)
        });
        assert!(node.is_ready());
    }
}

#[test]
fn a_node_that_ends_in_order_is_gone_at_once() {
    let redis = RedisServer::start();
    let mut nodes: [Contract; 2] = Contract::cluster(&redis.url());
    let pid = nodes[1].process.id().to_string();
    let sent = std::process::Command::new("kill").arg(pid).status();
    assert!(sent.unwrap().success());
    assert!(nodes[1].process.wait().unwrap().success());
    // Long before its heartbeat would be missed.
    let begun = Instant::now();
    until("the node to be gone", || {
        nodes[0].metric("sockhop_node_members") == Some(1.0)
    });
    assert!(begun.elapsed() < Duration::from_secs(4));
}

#[test]
fn without_redis_a_node_serves_its_own_clients_and_says_that_it_is_not_ready() {
    let mut redis = RedisServer::start();
    redis.stop();
    let node = Contract::start(&redis.url(), 1);
    let (status, _, ready) = get(node.address, "/readyz", "");
    assert_eq!(status, 503);
    assert!(
        ready.contains("the link to the other nodes has been down"),
        "{ready}"
    );
    let [(mut a, _), (mut b, _)] = [(); 2].map(|()| WebSocket::connect(&node));
    assert_eq!(a.call("\"join\",\"red\""), "[\"ok\"]");
    assert_eq!(b.call("\"room-emit\",\"red\",1"), "[\"ok\"]");
    assert_eq!(a.hear(), "42[\"room-msg\",\"red\",1]");
    redis.start_again();
    until("the node to be ready", || node.is_ready());
}

#[test]
fn every_metric_is_documented() {
    let redis = RedisServer::start();
    let node = Contract::start(&redis.url(), 1);
    let (_, _, metrics) = get(node.address, "/metrics", "");
    let names = metrics.lines().filter_map(|line| {
        let (name, _) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        Some(name.to_owned())
    });
    let document = include_str!("../../../docs/operations.md");
    let missing: Vec<_> = names
        .filter(|name| !document.contains(&format!("`{name}`")))
        .collect();
    assert!(
        metrics.contains("sockhop_route_forwarded_total"),
        "{metrics}"
    );
    assert!(missing.is_empty(), "not in docs/operations.md: {missing:?}");
}

/// Somebody in the lobby of the chat, and what he was told when he joined.
fn chatter(node: &Node, name: &str) -> (WebSocket, String) {
    let target = "/socket.io/?EIO=4&transport=websocket";
    let mut socket = WebSocket::open(node.address, target);
    socket.say("40");
    socket.hear_of(&["40{"]);
    let wish = format!("{{\"name\":\"{name}\",\"room\":\"lobby\"}}");
    socket.say(&format!("421[\"join room\",{wish}]"));
    let joined = socket.hear_of(&["431["]);
    (socket, joined)
}

#[test]
fn the_chat_knows_the_people_of_all_nodes() {
    let redis = RedisServer::start();
    let url = redis.url();
    let arguments = ["--redis-url", &url];
    let (mut a, b) = (Node::start(&arguments), Node::start(&arguments));
    for node in [&a, &b] {
        until("the nodes to know each other", || {
            let (_, _, metrics) = node.get("/metrics", "");
            metrics.contains("sockhop_node_members 2\n")
        });
    }
    let (_ann, _) = chatter(&a, "Ann");
    let (mut bob, joined) = chatter(&b, "Bob");
    // Bob may have been there before Ann was heard of.
    if !joined.contains("\"name\":\"Ann\"") {
        bob.hear_of(&["\"joined\"", "\"name\":\"Ann\""]);
    }
    let (_cid, joined) = chatter(&b, "Cid");
    for name in ["Ann", "Bob", "Cid"] {
        assert!(joined.contains(&format!("\"name\":\"{name}\"")), "{joined}");
    }
    a.process.kill().unwrap();
    bob.hear_of(&["\"left\"", "\"name\":\"Ann\""]);
    bob.hear_of(&["\"rooms\"", "{\"name\":\"lobby\",\"people\":2}"]);
    // A node that comes is told.
    let c = Node::start(&arguments);
    until("the new node to know everybody", || {
        let (_, joined) = chatter(&c, "Dot");
        ["Bob", "Cid"].iter().all(|name| joined.contains(name))
    });
}

#[test]
fn a_node_that_drains_serves_its_sessions_through_the_others() {
    let redis = RedisServer::start();
    let url = redis.url();
    let drain = ["--redis-url", &url, "--drain-spread-ms", "20000"];
    let (a, b) = (Node::start(&drain), Node::start(&drain[..2]));
    until("the nodes to know each other", || {
        let (_, _, metrics) = b.get("/metrics", "");
        metrics.contains("sockhop_node_members 2\n")
    });
    let handshake = "/socket.io/?EIO=4&transport=polling";
    let sessions: Vec<String> = (0..20)
        .map(|_| {
            let (_, _, open) = a.get(handshake, "");
            let (_, sid) = open.split_once("\"sid\":\"").unwrap();
            format!("{handshake}&sid={}", &sid[..20])
        })
        .collect();
    a.signal("TERM");
    until("the public listener to be closed", || {
        TcpStream::connect(a.address).is_err()
    });
    // Few of them have been closed by now.
    let polls = sessions.iter().map(|target| post(b.address, target, "40"));
    let served = polls.filter(|(status, _)| *status == 200).count();
    assert!(served > 0);
}

/// Clients during the restart of Redis.
const CLIENTS: usize = 1_000;

#[test]
fn a_restart_of_redis_disconnects_nobody() {
    let mut redis = RedisServer::start();
    let nodes: [Contract; 3] = Contract::cluster(&redis.url());
    let mut clients: Vec<WebSocket> = (0..CLIENTS)
        .map(|number| WebSocket::connect(&nodes[number % 3]).0)
        .collect();

    let stopped = Instant::now();
    redis.stop();
    until("every node to be unready", || {
        nodes.iter().all(|node| !node.is_ready())
    });
    let unready = stopped.elapsed();
    // Those of its own node hear a client meanwhile.
    assert_eq!(clients[0].call("\"broadcast\",\"meanwhile\""), "[\"ok\"]");
    assert_eq!(clients[3].hear(), "42[\"broadcast\",\"meanwhile\"]");
    redis.start_again();
    let started = Instant::now();
    until("every node to be ready", || {
        nodes.iter().all(Contract::is_ready)
    });
    let ready = started.elapsed();
    eprintln!("unready after {unready:?}, ready {ready:?} after Redis was back");

    assert_eq!(clients[0].call("\"broadcast\",\"after\""), "[\"ok\"]");
    for client in &mut clients[1..] {
        // The other nodes may have missed what was said while there was no Redis.
        let mut heard = client.hear();
        if heard == "42[\"broadcast\",\"meanwhile\"]" {
            heard = client.hear();
        }
        assert_eq!(heard, "42[\"broadcast\",\"after\"]");
    }
    for node in &nodes {
        let sessions = "sockhop_engine_sessions{protocol=\"4\",transport=\"websocket\"}";
        let open = node.metric(sessions).unwrap();
        assert!(open >= (CLIENTS / 3) as f64, "{open}");
        assert_eq!(node.metric("sockhop_node_members"), Some(3.0));
    }
    // Two and five seconds are promised; a machine that does something else meanwhile may be late.
    assert!(unready < Duration::from_secs(6), "{unready:?}");
    assert!(ready < Duration::from_secs(15), "{ready:?}");
}

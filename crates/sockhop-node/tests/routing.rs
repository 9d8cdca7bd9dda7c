//! Requests at the wrong node, between nodes of one process on an in-memory bus.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use sockhop::{
    ClusterConfig, Cors, DisconnectReason, EngineConfig, MemoryBusLimits, MemoryHub, NodeId,
    Origins, Payload, Socket,
};
use sockhop_node::{Node, NodeConfig, PrivateConfig, Secret};
use tokio::runtime::Runtime;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// Nodes that end with the test.
struct Nodes {
    runtime: Runtime,
    hub: MemoryHub,
    started: u64,
}

#[derive(Clone, Copy)]
struct At {
    public: SocketAddr,
    private: SocketAddr,
    control: SocketAddr,
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

/// A loopback address that nothing else uses, so that all its ports are free.
fn free_ip() -> IpAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, high | 0x80, low, NEXT.fetch_add(1, Ordering::Relaxed)).into()
}

impl Nodes {
    fn new() -> Self {
        Self {
            runtime: Runtime::new().unwrap(),
            hub: MemoryHub::new(MemoryBusLimits::default()),
            started: 0,
        }
    }

    /// Starts a node that echoes, and tells the room `watchers` who is gone.
    fn start(&mut self, configure: impl FnOnce(&mut NodeConfig)) -> At {
        let ip = free_ip();
        let [public, private, control] = [8080, 7000, 9090].map(|port| SocketAddr::new(ip, port));
        let at = At {
            public,
            private,
            control,
        };
        let mut config = NodeConfig {
            listen: at.public,
            control: Some(at.control),
            engine: EngineConfig {
                cors: Cors {
                    origins: Origins::List(vec!["http://app.example".to_owned()]),
                    credentials: true,
                },
                ..EngineConfig::default()
            },
            private: PrivateConfig {
                listen: at.private,
                ..PrivateConfig::default()
            },
            cluster: ClusterConfig {
                heartbeat: Duration::from_millis(100),
                ..ClusterConfig::default()
            },
            ..NodeConfig::default()
        };
        configure(&mut config);
        self.started += 1;
        let bus = self.hub.attach(Self::id(self.started)).unwrap();
        let _within = self.runtime.enter();
        let node = Node::on_bus(config, Arc::new(bus)).unwrap();
        node.server()
            .of("/")
            .on("echo", |socket: Socket, args: Payload| async move {
                socket.emit("echo", &args)
            })
            .on("watch", |socket: Socket, (): ()| async move {
                socket.join("watchers");
                socket.emit("watching", &())
            })
            .on_disconnect(|socket: Socket, reason: DisconnectReason| async move {
                socket.within("watchers").emit("gone", reason.as_str())
            });
        self.runtime.spawn(node.run(std::future::pending()));
        until("the node to be ready", || {
            request(at.control, "GET", "/readyz", "", "").is_some_and(|ready| ready.status == 200)
        });
        at
    }

    /// The node that was started so many-th.
    fn id(number: u64) -> NodeId {
        NodeId::new(number << 40)
    }

    /// Starts a node, the first one, whose machine is about to vanish; and one that gives it up after
    /// a second. Returns where the other is, the target of a session of the first, and a word for each
    /// request that came there.
    fn about_to_vanish(&mut self) -> (At, String, mpsc::Receiver<()>) {
        let listener = TcpListener::bind((free_ip(), 7000)).unwrap();
        let silent = listener.local_addr().unwrap();
        let owner = self.start(|config| config.private.advertise = Some(silent.to_string()));
        let other = self.start(|config| config.cluster.member_timeout = Duration::from_secs(1));
        until("the nodes to know each other", || {
            metric(other, "sockhop_node_members") == 2
        });
        (other, connected(owner), fall_silent(listener))
    }

    /// Nobody hears the first node any more.
    fn vanish(&self) {
        self.hub.take_down(Self::id(1), Instant::now());
    }

    /// So many nodes that know each other.
    fn cluster<const N: usize>(&mut self) -> [At; N] {
        let nodes = [(); N].map(|()| self.start(|_| {}));
        for node in nodes {
            until("the nodes to know each other", || {
                let line = format!("sockhop_node_members {N}\n");
                get(node.control, "/metrics").body.contains(&line)
            });
        }
        nodes
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "still waiting for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn open(address: SocketAddr) -> Option<TcpStream> {
    let stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    Some(stream)
}

fn head_of(method: &str, target: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\
         {headers}\r\n{body}"
    )
}

/// One request on a connection of its own. `headers` are whole lines.
fn request(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &str,
    body: &str,
) -> Option<Answer> {
    let mut stream = open(address)?;
    let head = head_of(
        method,
        target,
        &format!("Connection: close\r\n{headers}"),
        body,
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some(Answer {
        status: head.split(' ').nth(1)?.parse().ok()?,
        head: head.to_lowercase(),
        body: body.to_owned(),
    })
}

fn get(address: SocketAddr, target: &str) -> Answer {
    request(address, "GET", target, "", "").unwrap()
}

fn post(address: SocketAddr, target: &str, body: &str) -> Answer {
    request(address, "POST", target, "", body).unwrap()
}

/// Opens a polling session, and returns where its requests go.
fn handshake(at: At) -> String {
    let open = get(at.public, "/socket.io/?EIO=4&transport=polling");
    assert_eq!(open.status, 200, "{open:?}");
    let (_, sid) = open.body.split_once("\"sid\":\"").unwrap();
    format!("/socket.io/?EIO=4&transport=polling&sid={}", &sid[..20])
}

/// A polling session that is in the namespace `/`.
fn connected(at: At) -> String {
    let target = handshake(at);
    assert_eq!(post(at.public, &target, "40").body, "ok");
    assert!(get(at.public, &target).body.starts_with("40{\"sid\""));
    target
}

fn metric(at: At, name: &str) -> u64 {
    let metrics = get(at.control, "/metrics").body;
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    line.map_or(0, |value| value.trim().parse().unwrap())
}

fn forwarded(at: At, outcome: &str) -> u64 {
    let name = format!("sockhop_route_forwarded_total{{outcome=\"{outcome}\"}}");
    metric(at, &name)
}

#[test]
fn polls_and_posts_reach_their_session_through_any_node() {
    let mut all = Nodes::new();
    let nodes: [At; 3] = all.cluster();
    let target = handshake(nodes[0]);
    assert_eq!(post(nodes[1].public, &target, "40").body, "ok");
    let answer = get(nodes[2].public, &target);
    assert!(answer.body.starts_with("40{\"sid\""), "{answer:?}");
    assert!(!answer.head.contains("sockhop-"), "{answer:?}");
    for (turn, text) in ["a", "é€😀", "c"].into_iter().enumerate() {
        let event = format!("42[\"echo\",\"{text}\"]");
        assert_eq!(post(nodes[turn].public, &target, &event).body, "ok");
        assert_eq!(get(nodes[(turn + 1) % 3].public, &target).body, event);
    }
    assert!(forwarded(nodes[1], "answered") >= 2);
    until("nothing to be under way", || {
        metric(nodes[1], "sockhop_route_in_flight{kind=\"request\"}") == 0
    });
}

/// Asks for a WebSocket; the connection, and what the answer said.
fn upgrade(at: At, target: &str) -> (TcpStream, String) {
    let target = target.replace("polling", "websocket");
    let mut stream = open(at.public).unwrap();
    let head = format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nOrigin: http://app.example\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let answer = head_from(&mut stream);
    (stream, answer)
}

/// The head of a request or of an answer, in lower case.
fn head_from(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap().to_lowercase()
}

/// Sends a short text frame, masked with zeros.
fn say(stream: &mut TcpStream, text: &str) {
    let mut frame = vec![0x81, 0x80 | u8::try_from(text.len()).unwrap(), 0, 0, 0, 0];
    frame.extend_from_slice(text.as_bytes());
    stream.write_all(&frame).unwrap();
}

/// The next short frame.
fn hear(stream: &mut TcpStream) -> String {
    let mut head = [0; 2];
    stream.read_exact(&mut head).unwrap();
    assert!(head[1] < 126, "{head:?}");
    let mut text = vec![0; head[1].into()];
    stream.read_exact(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn a_session_upgrades_through_another_node() {
    let mut all = Nodes::new();
    let [one, two] = all.cluster();
    let target = connected(one);
    let (mut stream, answer) = upgrade(two, &target);
    assert!(answer.starts_with("http/1.1 101"), "{answer}");
    for header in [
        "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=",
        "access-control-allow-origin: http://app.example",
        "upgrade: websocket",
    ] {
        assert!(answer.contains(header), "{answer}");
    }
    say(&mut stream, "2probe");
    assert_eq!(hear(&mut stream), "3probe");
    say(&mut stream, "5");
    for text in ["one", "two"] {
        let event = format!("42[\"echo\",\"{text}\"]");
        say(&mut stream, &event);
        assert_eq!(hear(&mut stream), event);
    }
    assert_eq!(forwarded(two, "upgraded"), 1);
    let under_way = "sockhop_route_in_flight{kind=\"websocket\"}";
    assert_eq!(metric(two, under_way), 1);
    let sessions = "sockhop_engine_sessions{protocol=\"4\",transport=\"websocket\"}";
    assert_eq!(metric(one, sessions), 1);
    drop(stream);
    until("the owner to notice", || metric(one, sessions) == 0);
    until("nothing to be under way", || metric(two, under_way) == 0);
}

#[test]
fn a_session_of_nobody_is_unknown_everywhere_in_the_same_words() {
    let mut all = Nodes::new();
    let [one, _two] = all.cluster();
    let own = handshake(one);
    let (path, sid) = own.split_at(own.len() - 20);
    let origin = "Origin: http://app.example\r\n";
    // Another session of this node, and one of a node that does not exist.
    let unknown = format!("{path}{}AAAAAAAAAAAAAAAA", &sid[..4]);
    let nobody = format!("{path}____AAAAAAAAAAAAAAAA");
    let ask = |target: &str| request(one.public, "GET", target, origin, "").unwrap();
    let (local, foreign) = (ask(&unknown), ask(&nobody));
    assert_eq!(local.status, 400);
    assert!(local.body.starts_with("{\"code\":1,"), "{local:?}");
    assert_eq!((foreign.status, &foreign.body), (400, &local.body));
    assert!(
        foreign
            .head
            .contains("access-control-allow-origin: http://app.example"),
        "{foreign:?}"
    );
    assert!(upgrade(one, &nobody).1.starts_with("http/1.1 400"));
    assert_eq!(forwarded(one, "unknown_owner"), 2);
    assert_eq!(
        request(one.public, "OPTIONS", &nobody, origin, "")
            .unwrap()
            .status,
        204
    );
}

#[test]
fn an_owner_that_does_not_answer_is_no_reason_to_wait() {
    let mut all = Nodes::new();
    let nowhere = SocketAddr::new(free_ip(), 7000);
    let owner = all.start(|config| config.private.advertise = Some(nowhere.to_string()));
    let other = all.start(|_| {});
    until("the nodes to know each other", || {
        metric(other, "sockhop_node_members") == 2
    });
    let target = connected(owner);
    let begun = Instant::now();
    for answer in [
        get(other.public, &target),
        post(other.public, &target, "40"),
    ] {
        assert_eq!(answer.status, 400);
        assert!(answer.body.starts_with("{\"code\":1,"), "{answer:?}");
    }
    let (_, websocket) = upgrade(other, &target);
    assert!(websocket.starts_with("http/1.1 400"), "{websocket}");
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(forwarded(other, "unreachable"), 3);
    assert_eq!(post(owner.public, &target, "41").status, 200);
}

#[test]
fn only_members_are_served_at_the_private_listener() {
    let mut all = Nodes::new();
    let [node] = all.cluster();
    let target = connected(node);
    for headers in [
        "",
        "sockhop-forward-proof: 00\r\n",
        "sockhop-forwarded-for: 127.0.0.1:1\r\n",
    ] {
        for path in [
            &*target,
            "/",
            "/metrics",
            "/healthz",
            "/socket.io/socket.io.js",
        ] {
            let answer = request(node.private, "GET", path, headers, "").unwrap();
            assert_eq!(
                (answer.status, &*answer.body),
                (403, ""),
                "{path} {headers}"
            );
        }
    }
    assert_eq!(
        metric(node, "sockhop_route_received_total{result=\"forbidden\"}"),
        15
    );
}

#[test]
fn nodes_with_different_secrets_do_not_serve_each_other() {
    let mut all = Nodes::new();
    let with = |secret: &'static str| {
        move |config: &mut NodeConfig| config.private.secret = Some(Secret::new(secret))
    };
    let [a, b, c] = [with("one"), with("one"), with("two")].map(|each| all.start(each));
    for node in [a, b, c] {
        until("the nodes to know each other", || {
            metric(node, "sockhop_node_members") == 3
        });
    }
    let target = connected(a);
    assert_eq!(post(b.public, &target, "42[\"echo\"]").status, 200);
    let refused = post(c.public, &target, "42[\"echo\"]");
    assert!(refused.body.starts_with("{\"code\":1,"), "{refused:?}");
    assert_eq!(forwarded(c, "refused"), 1);
}

#[test]
fn a_request_takes_one_hop() {
    let mut all = Nodes::new();
    let [one, two] = all.cluster();
    let target = connected(one);
    let mark = "sockhop-forwarded-for: 127.0.0.1:1\r\n";
    let answer = request(two.public, "GET", &target, mark, "").unwrap();
    assert_eq!(answer.status, 400);
    assert!(answer.body.starts_with("{\"code\":1,"), "{answer:?}");
    assert_eq!(forwarded(two, "hopped"), 1);
}

#[test]
fn too_many_requests_under_way_are_refused_with_a_word_to_come_again() {
    let mut all = Nodes::new();
    let owner = all.start(|_| {});
    let other = all.start(|config| config.private.max_forwarded = 0);
    until("the nodes to know each other", || {
        metric(other, "sockhop_node_members") == 2
    });
    let target = connected(owner);
    let origin = "Origin: http://app.example\r\n";
    let answer = request(other.public, "GET", &target, origin, "").unwrap();
    assert_eq!(answer.status, 503);
    for header in [
        "retry-after: 5",
        "access-control-allow-origin: http://app.example",
    ] {
        assert!(answer.head.contains(header), "{answer:?}");
    }
    assert_eq!(forwarded(other, "busy"), 1);
}

#[test]
fn the_owner_sees_that_a_poll_at_another_node_was_aborted() {
    let mut all = Nodes::new();
    let [one, two] = all.cluster();
    let target = connected(one);
    let mut poll = open(two.public).unwrap();
    poll.write_all(head_of("GET", &target, "", "").as_bytes())
        .unwrap();
    let parked = "sockhop_engine_parked_polls";
    until("the poll to wait at its owner", || metric(one, parked) == 1);
    drop(poll);
    until("the owner to notice", || metric(one, parked) == 0);
    assert_eq!(forwarded(two, "aborted"), 1);
}

/// Takes requests as a machine does that vanishes with them: polls are not answered, other requests
/// by halves, and no connection ends.
fn fall_silent(listener: TcpListener) -> mpsc::Receiver<()> {
    let (say, came) = mpsc::sync_channel(8);
    thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let head = head_from(&mut stream);
            let answer = match &head {
                head if head.starts_with("post") => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no",
                _ => "",
            };
            stream.write_all(answer.as_bytes()).unwrap();
            kept.push(stream);
            if say.send(()).is_err() {
                return;
            }
        }
    });
    came
}

#[test]
fn a_poll_at_an_owner_that_vanished_is_refused_when_its_membership_ends() {
    let mut all = Nodes::new();
    let (other, target, came) = all.about_to_vanish();
    let poll = thread::spawn(move || get(other.public, &target));
    came.recv_timeout(PATIENCE).unwrap();
    all.vanish();
    let answer = poll.join().unwrap();
    assert_eq!(answer.status, 400);
    assert!(answer.body.starts_with("{\"code\":1,"), "{answer:?}");
    assert_eq!(forwarded(other, "owner_left"), 1);
}

#[test]
fn what_an_owner_that_vanished_had_begun_to_answer_ends_when_its_membership_does() {
    let mut all = Nodes::new();
    let (other, target, came) = all.about_to_vanish();
    let half = thread::spawn(move || post(other.public, &target, "41"));
    came.recv_timeout(PATIENCE).unwrap();
    all.vanish();
    assert_eq!(half.join().unwrap().body, "o");
    until("nothing to be under way", || {
        metric(other, "sockhop_route_in_flight{kind=\"request\"}") == 0
    });
}

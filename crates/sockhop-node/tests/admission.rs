//! Who may come, and how much a session may say: the sections `[admission]` and `[rates]`.

mod support;

use std::io::{Read, Write};
use std::time::Instant;

use support::{Node, read_until};

const HANDSHAKE: &str = "/socket.io/?EIO=4&transport=polling";

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// A node whose configuration file says this.
fn node(name: &str, toml: &str) -> Node {
    let file = format!("sockhop-admission-{}-{name}.toml", std::process::id());
    let path = std::env::temp_dir().join(file);
    std::fs::write(&path, toml).unwrap();
    let node = Node::start(&["--config", path.to_str().unwrap()]);
    std::fs::remove_file(&path).unwrap();
    node
}

/// The status of a WebSocket handshake with these headers, each a whole line.
fn websocket(node: &Node, query: &str, headers: &str) -> u16 {
    let mut stream = node.open();
    let target = format!("/socket.io/?EIO=4&transport={query}");
    let host = node.address;
    let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{UPGRADE}{headers}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    std::str::from_utf8(&status[9..]).unwrap().parse().unwrap()
}

fn counted(node: &Node, line: &str) -> bool {
    let (_, _, metrics) = node.get("/metrics", "");
    metrics.lines().any(|other| other == line)
}

#[test]
fn handshakes_over_the_rate_are_told_when_to_come_again_and_cost_no_session() {
    let node = node(
        "rate",
        "[admission]\nhandshakes_per_second = 1\nhandshake_burst = 5",
    );
    let began = Instant::now();
    let answers: Vec<_> = (0..50).map(|_| node.get(HANDSHAKE, "")).collect();
    let admitted = answers.iter().filter(|answer| answer.0 == 200).count();
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap();
    assert!((5..=6 + seconds).contains(&admitted), "{admitted} of 50");
    let refused: Vec<_> = answers.iter().filter(|answer| answer.0 == 503).collect();
    assert_eq!(refused.len(), 50 - admitted);
    assert!(
        refused
            .iter()
            .all(|answer| answer.1.contains("retry-after: "))
    );
    let refusals = format!(
        "sockhop_engine_requests_refused_total{{code=\"rate\"}} {}",
        50 - admitted
    );
    assert!(counted(&node, &refusals), "{refusals}");
    // A session that is there is not concerned.
    let sid = answers[0].2.split('"').nth(3).unwrap();
    assert_eq!(node.get(&format!("{HANDSHAKE}&sid={sid}x"), "").0, 400);
}

#[test]
fn an_address_has_its_own_rate_and_number_of_sessions_behind_a_trusted_proxy_too() {
    let node = node(
        "address",
        "[admission]\naddress_handshakes_per_second = 1\naddress_handshake_burst = 100\n\
         address_sessions = 2\ntrusted_proxies = [\"127.0.0.0/8\"]",
    );
    let of = |address: &str| {
        node.get(HANDSHAKE, &format!("X-Forwarded-For: {address}\r\n"))
            .0
    };
    assert_eq!(
        [of("1.1.1.1"), of("1.1.1.1"), of("1.1.1.1")],
        [200, 200, 429]
    );
    // What a client invents stands before what the proxy wrote.
    assert_eq!(of("9.9.9.9, 1.1.1.1"), 429);
    assert_eq!(of("2.2.2.2"), 200);
    let refusals = "sockhop_engine_requests_refused_total{code=\"address_sessions\"} 2";
    assert!(counted(&node, refusals));
}

#[test]
fn nobody_but_a_trusted_proxy_can_be_somebody_else() {
    let node = node("forged", "[admission]\naddress_sessions = 1");
    let of = |address: &str| {
        node.get(HANDSHAKE, &format!("X-Forwarded-For: {address}\r\n"))
            .0
    };
    assert_eq!([of("1.1.1.1"), of("2.2.2.2")], [200, 429]);
}

#[test]
fn the_proxy_protocol_says_whose_a_connection_is() {
    let node = node(
        "proxy",
        "[admission]\naddress_sessions = 1\nproxy_protocol = true",
    );
    let status = |header: &[u8]| {
        let mut stream = node.open();
        stream.write_all(header).unwrap();
        let request = format!("GET {HANDSHAKE} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let _ = stream.write_all(request.as_bytes());
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer.get(9..12).unwrap_or("end").to_owned()
    };
    let line = |address: &str| format!("PROXY TCP4 {address} 127.0.0.1 4711 80\r\n");
    assert_eq!(status(line("1.1.1.1").as_bytes()), "200");
    assert_eq!(status(line("1.1.1.1").as_bytes()), "429");
    assert_eq!(status(line("2.2.2.2").as_bytes()), "200");
    let binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x03\x03\x03\x03\x7f\0\0\x01\x12\x67\0\x50";
    assert_eq!(status(binary), "200");
    assert_eq!(status(binary), "429");
    assert_eq!(status(b""), "end");
}

#[test]
fn connections_of_an_address_over_the_limit_are_closed() {
    let node = node("connections", "[admission]\naddress_connections = 3");
    let held: Vec<_> = (0..3).map(|_| node.open()).collect();
    // Each is counted once its first request was answered.
    for mut stream in &held {
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        stream.read_exact(&mut [0; 12]).unwrap();
    }
    let mut fourth = node.open();
    let _ = fourth.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut answer = Vec::new();
    let _ = fourth.read_to_end(&mut answer);
    assert_eq!(answer, b"");
}

#[test]
fn a_page_of_another_origin_gets_no_websocket_and_no_script() {
    let node = Node::start(&["--cors-origin", "http://friend.example"]);
    let own = format!("Origin: http://{}\r\n", node.address);
    for (headers, status) in [
        ("", 101),
        (own.as_str(), 101),
        ("Origin: http://friend.example\r\n", 101),
        ("Origin: http://evil.example\r\n", 403),
        ("Origin: null\r\n", 403),
    ] {
        assert_eq!(websocket(&node, "websocket", headers), status, "{headers}");
    }
    let script = format!("{HANDSHAKE}&j=0");
    assert_eq!(node.get(&script, "Sec-Fetch-Site: cross-site\r\n").0, 403);
    assert_eq!(node.get(&script, "Sec-Fetch-Site: same-origin\r\n").0, 200);
    assert_eq!(node.get(&script, "").0, 200);
    // Browsers keep this answer from the page themselves.
    assert_eq!(
        node.get(HANDSHAKE, "Origin: http://evil.example\r\n").0,
        200
    );
    let refusals = "sockhop_engine_requests_refused_total{code=\"origin\"} 3";
    assert!(counted(&node, refusals));
    let lax = self::node("lax", "[cors]\ncheck_origin = false");
    assert_eq!(
        websocket(&lax, "websocket", "Origin: http://evil.example\r\n"),
        101
    );
}

/// A masked text frame of at most 125 bytes.
fn frame(text: &str) -> Vec<u8> {
    let len = u8::try_from(text.len()).unwrap();
    [&[0x81, 0x80 | len, 0, 0, 0, 0], text.as_bytes()].concat()
}

#[test]
fn a_session_over_its_rate_is_closed() {
    let node = node(
        "close",
        "[rates]\nmessages_per_second = 1\nmessage_burst = 5",
    );
    let mut client = node.connect();
    for _ in 0..20 {
        let _ = client.write_all(&frame("42[\"nothing\"]"));
    }
    let mut rest = Vec::new();
    let _ = client.read_to_end(&mut rest);
    assert!(counted(
        &node,
        "sockhop_engine_sessions_closed_total{reason=\"rate_limited\"} 1"
    ));
}

#[test]
fn over_the_common_budget_the_newest_that_do_not_read_are_closed() {
    let node = node(
        "memory",
        "[limits]\noutbox_bytes = 100000000\n[admission]\nmemory_budget_bytes = 2000000",
    );
    let mut reader = node.connect();
    // Two that never read; what the kernel takes for them is not the node's.
    let idle: Vec<_> = (0..2).map(|_| node.connect()).collect();
    let reason = "sockhop_engine_sessions_closed_total{reason=\"memory_budget\"} ";
    let text = "x".repeat(1_900);
    let message = format!("42[\"chat message\",\"{text}\"]");
    let len = u16::try_from(message.len()).unwrap().to_be_bytes();
    let head = [0x81, 0xfe, len[0], len[1], 0, 0, 0, 0];
    let burst = [&head[..], message.as_bytes()].concat().repeat(100);
    let mut chunk = vec![0; 1 << 20];
    for _ in 0..400 {
        reader.write_all(&burst).unwrap();
        let mut read = 0;
        while read < 100 * message.len() {
            read += reader.read(&mut chunk).unwrap();
        }
        if !counted(&node, &format!("{reason}0")) {
            break;
        }
    }
    assert!(counted(&node, &format!("{reason}1")) || counted(&node, &format!("{reason}2")));
    drop(idle);
    // Who reads is still served.
    reader
        .write_all(&frame("421[\"chat message\",{}]"))
        .unwrap();
    read_until(&mut reader, b"431");
}

#[test]
fn or_its_events_are_dropped_and_counted_and_it_lives() {
    let node = node(
        "drop",
        "[rates]\nmessages_per_second = 50\nmessage_burst = 5\nover = \"drop\"",
    );
    let mut client = node.connect();
    for _ in 0..200 {
        client.write_all(&frame("42[\"nothing\"]")).unwrap();
    }
    // Once the rate has room again its events arrive; until then they are asked anew.
    client
        .set_read_timeout(Some(std::time::Duration::from_millis(100)))
        .unwrap();
    let mut answered = false;
    let mut chunk = [0; 256];
    while !answered {
        client
            .write_all(&frame("427[\"chat message\",{}]"))
            .unwrap();
        let len = client.read(&mut chunk).unwrap_or(0);
        answered = chunk[..len].windows(3).any(|part| part == b"437");
    }
    let (_, _, metrics) = node.get("/metrics", "");
    let line = "sockhop_dropped_total{reason=\"rate\"} ";
    let dropped = metrics
        .lines()
        .find_map(|other| other.strip_prefix(line))
        .unwrap();
    assert!(
        dropped.parse::<u32>().unwrap() >= 100,
        "{dropped} events were dropped"
    );
    let mut other = node.connect();
    other.write_all(&frame("421[\"chat message\",{}]")).unwrap();
    read_until(&mut other, b"431");
}

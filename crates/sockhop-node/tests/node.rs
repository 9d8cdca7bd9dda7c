//! The binary as its user meets it.

mod support;

use std::io::{Read, Write};
use std::process::Command;

use support::Node;

#[test]
fn without_arguments_there_is_a_chat_page_health_and_metrics() {
    let node = Node::start(&[]);
    let (status, head, page) = node.get("/", "");
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/html"), "{head}");
    assert!(page.contains("<title>"), "{page}");
    assert_eq!(node.get("/healthz", "").0, 200);
    assert_eq!(node.get("/nothing", "").0, 404);

    let _client = node.connect();
    let (status, _, metrics) = node.get("/metrics", "");
    assert_eq!(status, 200);
    for line in [
        "sockhop_engine_sessions{protocol=\"4\",transport=\"websocket\"} 1",
        "sockhop_sockets 1",
        "sockhop_connects_total{result=\"accepted\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in:\n{metrics}");
    }
}

#[test]
fn the_browser_client_comes_from_its_directory_or_from_the_cdn() {
    let dir = std::env::temp_dir().join(format!("sockhop-clients-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("socket.io.js"), "/*!\n * Socket.IO v9.8.7\n */").unwrap();
    let node = Node::start(&["--client-dir", dir.to_str().unwrap()]);
    let (status, head, _) = node.get("/socket.io/socket.io.js", "");
    assert_eq!(status, 200);
    assert!(head.contains("etag: \"9.8.7\""), "{head}");
    let known = "If-None-Match: \"9.8.7\"\r\n";
    assert_eq!(node.get("/socket.io/socket.io.js", known).0, 304);
    assert_eq!(node.get("/socket.io/socket.io.min.js", "").0, 404);
    std::fs::remove_dir_all(&dir).unwrap();

    let (status, head, _) = Node::start(&[]).get("/socket.io/socket.io.js", "");
    assert_eq!(status, 302);
    assert!(head.contains("location: https://cdn.socket.io/"), "{head}");
}

#[cfg(target_os = "linux")]
#[test]
fn the_table_of_descriptors_is_large_before_the_first_client_comes() {
    let node = Node::start(&["--max-sessions", "3000"]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.process.id())).unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("FDSize:"));
    let size: u32 = size.unwrap().trim().parse().unwrap();
    // 256 without; the limit of open files may be as low as 1,024.
    assert!(size >= 1_024, "{size}");
}

#[test]
fn an_unfinished_request_head_is_dropped() {
    let node = Node::start(&["--header-timeout-ms", "200"]);
    let mut stream = node.open();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: loc").unwrap();
    // The end of the connection, with or without an answer, within the patience of the read.
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    assert_eq!(node.get("/healthz", "").0, 200);
}

#[test]
fn an_overlong_request_head_is_refused() {
    let node = Node::start(&[]);
    let mut stream = node.open();
    let head = format!(
        "GET /healthz HTTP/1.1\r\nX-Long: {}\r\n\r\n",
        "x".repeat(20_000)
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    assert_eq!(node.get("/healthz", "").0, 200);
}

#[test]
fn a_request_whose_body_nobody_reads_is_answered_all_the_same() {
    let node = Node::start(&[]);
    let mut stream = node.open();
    let chunks = "4\r\nxxxx\r\n".repeat(10);
    let request =
        format!("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer:?}");
}

#[test]
fn sigterm_says_goodbye_to_the_clients_and_ends_with_success() {
    let mut node = Node::start(&[]);
    let mut client = node.connect();
    node.signal("TERM");
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    // A close frame without a status.
    assert!(rest.ends_with(&[0x88, 0]), "{rest:?}");
    drop(client);
    assert!(node.process.wait().unwrap().success());
}

#[test]
fn an_address_in_use_is_said_in_words() {
    let node = Node::start(&[]);
    let output = Command::new(env!("CARGO_BIN_EXE_sockhop"))
        .args(["--listen", &node.address.to_string()])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        log.contains(&format!("cannot listen on {}", node.address)),
        "{log}"
    );
    assert!(log.contains("in use"), "{log}");
}

//! What an idle client costs the real binary, in resident memory.

mod support;

use std::net::TcpStream;

use support::Node;

/// Clients of the measurement.
const CLIENTS: usize = 2_000;

/// The budget of one idle WebSocket client, in bytes.
const BUDGET_BYTES: usize = 6 * 1024;

/// Proportional set size of the process, in bytes.
fn resident_bytes(node: &Node) -> usize {
    let path = format!("/proc/{}/smaps_rollup", node.process.id());
    let rollup = std::fs::read_to_string(path).unwrap();
    let line = rollup
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .unwrap();
    line.trim()
        .trim_end_matches(" kB")
        .parse::<usize>()
        .unwrap()
        * 1024
}

#[test]
fn an_idle_websocket_client_costs_at_most_six_kilobytes() {
    let node = Node::start(&["--workers", "1"]);
    // The first clients pay for buffers and tables that all share.
    let _warm: Vec<TcpStream> = (0..100).map(|_| node.connect()).collect();
    let before = resident_bytes(&node);
    let _clients: Vec<TcpStream> = (0..CLIENTS).map(|_| node.connect()).collect();
    let bytes = (resident_bytes(&node) - before) / CLIENTS;
    eprintln!("resident bytes of an idle WebSocket client: {bytes}");
    assert!(bytes <= BUDGET_BYTES, "{bytes} bytes for each idle client");
}

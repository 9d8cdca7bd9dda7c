//! How the binary ends, and what it tells its operators meanwhile.

mod support;

use std::io::Read;
use std::net::TcpStream;
use std::thread;
use std::time::Instant;

use support::{Node, get, until};

#[test]
fn operators_have_a_listener_of_their_own() {
    let node = Node::start(&["--control-listen", "127.0.0.1:0"]);
    let control = node.control.unwrap();
    for path in ["/healthz", "/readyz"] {
        assert_eq!(get(control, path, "").0, 200, "{path}");
        assert_eq!(node.get(path, "").0, 200, "{path}");
    }
    let (_, _, ready) = get(control, "/readyz", "");
    assert_eq!(ready, r#"{"status":"ready","reasons":[]}"#);
    let (status, _, metrics) = get(control, "/metrics", "");
    assert_eq!(status, 200);
    for line in [
        "sockhop_node_ready 1",
        "sockhop_node_draining_seconds 0",
        "sockhop_node_loop_lateness_seconds_bucket{le=\"0.001\"}",
    ] {
        assert!(metrics.contains(line), "{line} is not in:\n{metrics}");
    }
    assert_eq!(node.get("/metrics", "").0, 404);
    assert_eq!(get(control, "/", "").0, 404);
    assert_eq!(
        get(control, "/socket.io/?EIO=4&transport=polling", "").0,
        404
    );
}

#[test]
fn a_node_that_drains_says_so_and_serves_until_its_grace_is_over() {
    let grace = [
        "--drain-grace-ms",
        "3000",
        "--control-listen",
        "127.0.0.1:0",
    ];
    let mut node = Node::start(&grace);
    let control = node.control.unwrap();
    node.signal("TERM");
    until("the node to be unready", || {
        get(control, "/readyz", "").0 == 503
    });
    let (_, _, ready) = get(control, "/readyz", "");
    assert_eq!(ready, r#"{"status":"not ready","reasons":["draining"]}"#);
    // A client of a balancer that has not noticed yet.
    let mut client = node.connect();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    assert!(rest.ends_with(&[0x88, 0]), "{rest:?}");
    assert!(node.process.wait().unwrap().success());
}

#[test]
fn sessions_are_closed_little_by_little() {
    let mut node = Node::start(&["--drain-spread-ms", "1500"]);
    let clients: Vec<TcpStream> = (0..60).map(|_| node.connect()).collect();
    node.signal("TERM");
    let mut waiting = Vec::new();
    for mut client in clients {
        waiting.push(thread::spawn(move || {
            client.read_to_end(&mut Vec::new()).unwrap();
            Instant::now()
        }));
    }
    let mut ends: Vec<Instant> = waiting.into_iter().map(|end| end.join().unwrap()).collect();
    ends.sort();
    let half = ends[30] - ends[0];
    let all = ends[59] - ends[0];
    assert!(all.as_millis() > 500, "{all:?}");
    assert!(half < all, "{half:?} of {all:?}");
    assert!(node.process.wait().unwrap().success());
}

#[test]
fn a_second_signal_ends_the_node_at_once() {
    let grace = ["--drain-grace-ms", "20000"];
    let mut node = Node::start(&grace);
    let begun = Instant::now();
    node.signal("TERM");
    until("the node to be unready", || {
        node.get("/readyz", "").0 == 503
    });
    node.signal("TERM");
    assert_eq!(node.process.wait().unwrap().code(), Some(130));
    assert!(begun.elapsed().as_secs() < 20);
}

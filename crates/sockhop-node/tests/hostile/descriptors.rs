//! A node that has no descriptors left.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::peer::{Peer, head};
use crate::process::{Node, PATIENCE, wait_until};

/// Descriptors of the node.
const DESCRIPTORS: usize = 64;

/// For how long nobody can be accepted.
const STARVED: Duration = Duration::from_secs(2);

#[test]
fn without_descriptors_it_waits_instead_of_spinning_and_serves_again_afterwards() {
    let mut node = Node::start_with_descriptors(DESCRIPTORS);
    // The kernel takes them all; the node can accept only some.
    let held: Vec<_> = (0..2 * DESCRIPTORS)
        .map(|_| TcpStream::connect(node.address).expect("the backlog has room"))
        .collect();
    wait_until(PATIENCE, || match node.descriptors() {
        now if now >= DESCRIPTORS => Ok(()),
        now => Err(format!("{now} descriptors")),
    })
    .expect("the node runs out of descriptors");
    let (began, before) = (Instant::now(), node.computed());
    // What is measured is a stretch of time in which nothing happens.
    std::thread::sleep(STARVED);
    let (computed, passed) = (node.computed() - before, began.elapsed());
    assert!(
        computed < passed / 4,
        "{computed:?} of {passed:?} were computed"
    );
    assert!(node.lives());

    drop(held);
    wait_until(PATIENCE, || {
        let mut peer = Peer::connect(node.address)?;
        let close = ["Connection: close".to_owned()];
        peer.write(head("GET", "/healthz", &close).as_bytes());
        match peer.answer(Instant::now() + Duration::from_secs(5))?.status {
            200 => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .expect("it serves again");
}

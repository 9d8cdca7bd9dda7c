//! What happens between clients and nodes.

use super::cluster::{ALL, Cluster, PUBLIC, counts, shows};
use super::crowd::Crowd;
use super::ground::{self, Packets};
use super::timeline::{Counters, Timeline};
use crate::peer::Fault;
use crate::process::open_websocket;

/// At least so many clients of each node come back at once.
const STAMPEDE: usize = 300;

/// How many packets of a hundred are lost, each way.
const LOST: u8 = 3;

/// New clients of a node while packets are lost.
const NEW: usize = 10;

/// Sessions closed because a ping was not answered.
pub(super) const PING_TIMEOUT: &str =
    "sockhop_engine_sessions_closed_total{reason=\"ping_timeout\"}";

/// Everybody's connection breaks, and everybody comes back at once, to another node.
pub(super) fn stampede(cluster: &mut Cluster, timeline: &mut Timeline) -> Result<(), Fault> {
    let each = cluster.clients.max(STAMPEDE);
    let before = Crowd::open(&cluster.ways(), each)?;
    timeline.restart();
    ALL.iter().for_each(|&node| before.reset_group(node));
    let mut ways = cluster.ways();
    ways.rotate_left(1);
    let back = Crowd::open(&ways, each)?;
    timeline.mark("all are back and hear each other");
    cluster.is_right_for(&back, &ALL)?;
    back.all_stand(&ALL)?;
    timeline.mark("everybody heard everything once");
    Ok(())
}

/// Clients whose packets end without an end of their connections.
pub(super) fn vanish(cluster: &mut Cluster, timeline: &mut Timeline) -> Result<(), Fault> {
    let crowd = cluster.crowd()?;
    let node = &cluster.nodes[0];
    let before = Counters::of(node)?;
    timeline.restart();
    ground::lose(node.pid(), Packets::OfPort(PUBLIC))?;
    let vanished = crowd.drop_group(0);
    let gone = shows(|| match node.sessions()? {
        0 => Ok(()),
        left => Err(format!("{left} sessions are left")),
    });
    timeline.mark("their sessions are closed");
    let others = crowd.hear(&[1, 2], &[1, 2]);
    ground::lose_no_more(node.pid())?;
    gone?;
    others?;
    counts(node, &before, PING_TIMEOUT, vanished)?;
    timeline.mark("all of them are counted as ping timeouts; the fault ends");
    cluster.is_right_for(&crowd, &[1, 2])?;
    crowd.all_stand(&[1, 2])?;
    Ok(())
}

/// Packets of everybody, to Redis, to other nodes and to clients.
pub(super) fn loss(cluster: &mut Cluster, timeline: &mut Timeline) -> Result<(), Fault> {
    let crowd = cluster.crowd()?;
    timeline.restart();
    for node in &cluster.nodes {
        ground::lose(node.pid(), Packets::Percent(LOST))?;
    }
    let served = under_loss(cluster, &crowd, timeline);
    let mut lost = 0;
    for node in &cluster.nodes {
        lost += ground::lose_no_more(node.pid())?;
    }
    served?;
    if lost == 0 {
        return Err("no packet was lost".to_owned());
    }
    eprintln!("fault: {lost} packets were lost");
    timeline.mark("the fault ends");
    cluster.is_right_for(&crowd, &ALL)?;
    crowd.all_stand(&ALL)?;
    timeline.mark("everybody hears everybody, no client lost");
    Ok(())
}

fn under_loss(cluster: &Cluster, crowd: &Crowd, timeline: &mut Timeline) -> Result<(), Fault> {
    for node in &cluster.nodes {
        for _ in 0..NEW {
            open_websocket(node.address)?;
        }
    }
    timeline.mark(format!("{NEW} new clients at each node"));
    // A node whose canary was unlucky is without Redis for a moment, and says so.
    crowd.hear_in_the_end(&ALL)?;
    timeline.mark("everybody hears everybody");
    shows(|| match ALL.iter().all(|&node| crowd.pings(node) > 0) {
        true => Ok(()),
        false => Err("not everybody was pinged".to_owned()),
    })?;
    timeline.mark("everybody has answered a ping");
    Ok(())
}

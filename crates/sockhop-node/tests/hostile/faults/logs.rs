//! What happens to a node whose log goes nowhere.

use std::fs::{self, File};
use std::io::{PipeReader, pipe};
use std::process::Stdio;

use super::cluster::{ALL, Cluster, Start, counted, counts, shows};
use super::ground::{self, Ground};
use super::timeline::{Counters, Timeline};
use crate::peer::{Fault, Frame};
use crate::process::{Node, echo, open_websocket};

/// What a disk has that is full soon.
const DISK: &str = "size=256k";

const FAILED: &str = "sockhop_node_log_lines_dropped_total{reason=\"write_failed\"}";
const TOO_MANY: &str = "sockhop_node_log_lines_dropped_total{reason=\"queue_full\"}";

/// Events of one burst of noise.
const EVENTS: usize = 2_000;

/// Everything that happens is logged.
const ALL_OF_IT: [(&str, &str); 1] = [("SOCKHOP_LOG", "trace")];

fn failed(error: impl std::fmt::Display) -> Fault {
    error.to_string()
}

/// The log is on a disk that becomes full, and has room again later. Where there may be no such disk,
/// it is the device that is always full.
pub(super) fn full(cluster: &mut Cluster, timeline: &mut Timeline) -> Result<(), Fault> {
    let Ground::Namespaces = cluster.ground else {
        let device = File::options()
            .write(true)
            .open("/dev/full")
            .map_err(failed)?;
        serves_without(cluster, timeline, device.into(), FAILED)?;
        return quiet_again(cluster, timeline);
    };
    let disk = cluster.redis.folder().join("disk");
    fs::create_dir_all(&disk).map_err(failed)?;
    let place = disk.display().to_string();
    ground::run("mount", &["-t", "tmpfs", "-o", DISK, "tmpfs", &place])?;
    let log = disk.join("log");
    let file = File::options()
        .append(true)
        .create(true)
        .open(&log)
        .map_err(failed)?;
    serves_without(cluster, timeline, file.into(), FAILED)?;
    // As a rotation would.
    File::options()
        .write(true)
        .open(&log)
        .and_then(|file| file.set_len(0))
        .map_err(failed)?;
    shows(|| {
        let _ = open_websocket(cluster.nodes[0].address)?;
        match fs::read_to_string(&log)
            .map_err(failed)?
            .contains("log lines were dropped")
        {
            true => Ok(()),
            false => Err("the log does not say what it lacks".to_owned()),
        }
    })?;
    timeline.mark("with room again, the log says what it lacks");
    quiet_again(cluster, timeline)?;
    ground::run("umount", &[&place]).map(drop)
}

/// The log is a pipe whose reader hangs.
pub(super) fn unread(cluster: &mut Cluster, timeline: &mut Timeline) -> Result<(), Fault> {
    let (reader, writer): (PipeReader, _) = pipe().map_err(failed)?;
    serves_without(cluster, timeline, writer.into(), TOO_MANY)?;
    quiet_again(cluster, timeline)?;
    drop(reader);
    Ok(())
}

/// A node with this log serves until it has counted lines that went nowhere, and then, too.
fn serves_without(
    cluster: &mut Cluster,
    timeline: &mut Timeline,
    log: Stdio,
    counter: &str,
) -> Result<(), Fault> {
    cluster.replace(
        0,
        Start {
            environment: &ALL_OF_IT,
            log: Some(log),
        },
    )?;
    timeline.restart();
    let crowd = cluster.crowd()?;
    let nothing = Counters::default();
    let node = &cluster.nodes[0];
    shows(|| {
        make_noise(node)?;
        crowd.hear(&ALL, &ALL)?;
        match Counters::of(node)?.get(counter) {
            0 => Err("every line was written".to_owned()),
            _ => Ok(()),
        }
    })?;
    timeline.mark("lines are dropped and counted");
    crowd.hear(&ALL, &ALL)?;
    crowd.all_stand(&ALL)?;
    cluster.all_ready()?;
    timeline.mark("all ready, everybody hears everybody, no client lost");
    counts(node, &nothing, counter, 1)?;
    let reason = counter.split('"').nth(1).unwrap_or_default();
    let dropped = counted(node, &nothing, counter)?;
    timeline.count(format!("log lines dropped {reason}"), dropped);
    Ok(())
}

/// Events that no handler can read, of each of which a line is logged.
fn make_noise(node: &Node) -> Result<(), Fault> {
    let (mut peer, _) = open_websocket(node.address)?;
    let event = Frame::text("42[\"chat message\"]").bytes();
    peer.write(&event.repeat(EVENTS));
    echo(&mut peer, 1)
}

fn quiet_again(cluster: &mut Cluster, timeline: &mut Timeline) -> Result<(), Fault> {
    cluster.replace(0, Start::default())?;
    timeline.mark("a new node with another log");
    Ok(())
}

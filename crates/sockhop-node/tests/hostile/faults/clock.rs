//! What happens when the machine's clock is set.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::cluster::{ALL, Cluster, Start, members, shows};
use super::timeline::Timeline;
use crate::peer::{Arrived, Fault, Frame};
use crate::process::{PATIENCE, open_websocket};

/// What pretends another time to the node. The clock that only counts on is left alone, as it is
/// when somebody sets a real machine's clock.
const LIBRARY: &str = "libfaketimeMT.so.1";

/// How far the node's clock may be from where it was set: what it took to ask.
const NEAR_S: i64 = 60;

const HOUR_S: i64 = 3_600;

/// Where the library is.
pub(super) fn library() -> Result<PathBuf, String> {
    let folders = fs::read_dir("/usr/lib").map_err(|error| error.to_string())?;
    let mut all = folders
        .flatten()
        .map(|folder| folder.path().join("faketime").join(LIBRARY));
    all.find(|path| path.exists())
        .ok_or_else(|| format!("{LIBRARY} is not installed (apt-get install faketime)"))
}

/// How far the clock of a node is ahead, as its answers say.
fn ahead_s(node: SocketAddr) -> Result<i64, Fault> {
    let (mut peer, _) = open_websocket(node)?;
    peer.write(&Frame::text("42[\"join room\",{\"name\":\"a\",\"room\":\"clock\"}]").bytes());
    peer.write(&Frame::text("421[\"chat message\",{\"text\":\"what time is it\"}]").bytes());
    let deadline = Instant::now() + PATIENCE;
    let there = loop {
        match peer.arrived(deadline)? {
            Arrived::Text(text) if text.starts_with("431") => {
                let (_, at) = text.split_once("\"at\":").ok_or_else(|| text.clone())?;
                let digits = at
                    .split(|c: char| !c.is_ascii_digit())
                    .next()
                    .unwrap_or_default();
                break digits.parse::<i64>().map_err(|error| error.to_string())? / 1000;
            }
            Arrived::Text(_) | Arrived::Binary(_) | Arrived::Pong => {}
            other => return Err(format!("no answer but {other:?}")),
        }
    };
    let here = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    Ok(there - i64::try_from(here).unwrap_or(i64::MAX))
}

fn set(file: &Path, hours: i64) -> Result<(), Fault> {
    let (next, offset) = (
        file.with_extension("next"),
        format!("{:+}\n", hours * HOUR_S),
    );
    let written = fs::write(&next, offset).and_then(|()| fs::rename(&next, file));
    written.map_err(|error| error.to_string())
}

/// One node's clock is set forward and back, and one hour at a time is nothing to it.
pub(super) fn jumps(cluster: &mut Cluster, timeline: &mut Timeline) -> Result<(), Fault> {
    let library = library()?.display().to_string();
    let file = cluster.redis.folder().join("clock");
    let path = file.display().to_string();
    set(&file, 0)?;
    cluster.replace(
        0,
        Start {
            environment: &[
                ("LD_PRELOAD", &library),
                ("FAKETIME_TIMESTAMP_FILE", &path),
                ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
                ("FAKETIME_NO_CACHE", "1"),
            ],
            log: None,
        },
    )?;
    let crowd = cluster.crowd()?;
    let node = cluster.nodes[0].address;
    timeline.restart();
    for hours in [3, -3] {
        set(&file, hours)?;
        shows(|| match ahead_s(node)? - hours * HOUR_S {
            off if off.abs() < NEAR_S => Ok(()),
            off => Err(format!("the clock is {off} s from where it was set")),
        })?;
        let pings = crowd.pings(0);
        crowd.hear(&ALL, &ALL)?;
        // A deadline of that clock would pass now, or would not for hours.
        shows(|| match crowd.pings(0) > pings {
            true => Ok(()),
            false => Err("not everybody was pinged".to_owned()),
        })?;
        for node in &cluster.nodes {
            members(node, 3)?;
        }
        cluster.all_ready()?;
        crowd.all_stand(&ALL)?;
        timeline.mark(format!(
            "at {hours:+} h all ready, three members, no client lost, pings go on"
        ));
    }
    drop(crowd);
    cluster.replace(0, Start::default())?;
    timeline.mark("a new node with the machine's clock");
    Ok(())
}

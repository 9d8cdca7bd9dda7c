//! What happens between nodes and Redis, and to Redis.

use std::time::Duration;

use testkit::{FaultProxy, Network};

use super::cluster::{ALL, Cluster, ready, shows};
use super::crowd::Crowd;
use super::ground::{self, Packets};
use super::timeline::{Before, Timeline};
use crate::peer::Fault;
use crate::process::{echo, open_websocket, wait_until};

/// How much later bytes arrive.
const LATER: Duration = Duration::from_millis(100);

/// Connections end, and new ones end at once.
pub(super) fn cut(cluster: &mut Cluster, timeline: &mut Timeline) -> Result<(), Fault> {
    proxied(cluster, timeline, Network::Cuts)
}

/// Connections stay, and nothing passes.
pub(super) fn half_open(cluster: &mut Cluster, timeline: &mut Timeline) -> Result<(), Fault> {
    proxied(cluster, timeline, Network::Swallows)
}

fn proxied(cluster: &mut Cluster, timeline: &mut Timeline, network: Network) -> Result<(), Fault> {
    let crowd = cluster.crowd()?;
    timeline.restart();
    cluster.proxies[0].set(network);
    let alone = alone(cluster, &crowd, timeline);
    cluster.proxies[0].set(Network::Passes);
    let (before, said) = alone?;
    rejoined(cluster, &crowd, timeline)?;
    heard_or_counted(cluster, &crowd, &before, &said)
}

/// No packet arrives any more, and no end of a connection either.
pub(super) fn lost(cluster: &mut Cluster, timeline: &mut Timeline) -> Result<(), Fault> {
    let crowd = cluster.crowd()?;
    let (pid, port) = (cluster.nodes[0].pid(), cluster.proxies[0].address().port());
    timeline.restart();
    ground::lose(pid, Packets::OfPort(port))?;
    let alone = alone(cluster, &crowd, timeline);
    ground::lose_no_more(pid)?;
    let (before, said) = alone?;
    rejoined(cluster, &crowd, timeline)?;
    heard_or_counted(cluster, &crowd, &before, &said)
}

/// The first node has no Redis: it says so, and serves its own clients. What they said meanwhile.
fn alone(
    cluster: &Cluster,
    crowd: &Crowd,
    timeline: &mut Timeline,
) -> Result<(Before, Vec<u32>), Fault> {
    shows(|| ready(&cluster.nodes[0], false))?;
    timeline.mark("it is unready");
    let before = Before::of(&cluster.nodes[..1])?;
    let said = crowd.hear(&[0], &[0])?;
    crowd.hear(&[1, 2], &[1, 2])?;
    timeline.mark("its clients hear each other, the others too");
    Ok((before, said))
}

/// What clients of other nodes did not hear at all was counted.
fn heard_or_counted(
    cluster: &Cluster,
    crowd: &Crowd,
    before: &Before,
    said: &[u32],
) -> Result<(), Fault> {
    let losses = before.losses(&cluster.nodes[..1])?;
    let counted = losses
        .iter()
        .filter(|(name, _)| name.starts_with("bus messages dropped"));
    let counted: u64 = counted.map(|(_, messages)| messages).sum();
    match crowd.missed(1, said) {
        missed if missed <= counted => Ok(()),
        missed => Err(format!(
            "{missed} messages were missed, counted are {losses:?}"
        )),
    }
}

fn rejoined(cluster: &Cluster, crowd: &Crowd, timeline: &mut Timeline) -> Result<(), Fault> {
    timeline.mark("the fault ends");
    cluster.is_right_for(crowd, &ALL)?;
    crowd.all_stand(&ALL)?;
    timeline.mark("ready, everybody hears everybody, no client lost");
    Ok(())
}

/// Nothing but time is lost.
pub(super) fn slow(cluster: &mut Cluster, timeline: &mut Timeline) -> Result<(), Fault> {
    let crowd = cluster.crowd()?;
    let way = FaultProxy::start_at(cluster.proxies[0].address().ip(), cluster.nodes[0].address);
    timeline.restart();
    way.set(Network::Delays(LATER));
    cluster.proxies[0].set(Network::Delays(LATER));
    let (mut slow, _) = open_websocket(way.address())?;
    echo(&mut slow, 1)?;
    crowd.hear(&ALL, &ALL)?;
    cluster.all_ready()?;
    crowd.all_stand(&ALL)?;
    timeline.mark("all ready, everybody hears everybody");
    cluster.proxies[0].set(Network::Passes);
    rejoined(cluster, &crowd, timeline)
}

/// A Redis that hangs.
pub(super) fn stopped(cluster: &mut Cluster, timeline: &mut Timeline) -> Result<(), Fault> {
    let crowd = cluster.crowd()?;
    timeline.restart();
    cluster.redis.freeze();
    let without = without_redis(cluster, &crowd, timeline);
    cluster.redis.thaw();
    without?;
    rejoined(cluster, &crowd, timeline)
}

/// A Redis that is gone, and one without memories in its place.
pub(super) fn killed(cluster: &mut Cluster, timeline: &mut Timeline) -> Result<(), Fault> {
    let crowd = cluster.crowd()?;
    timeline.restart();
    cluster.redis.stop();
    without_redis(cluster, &crowd, timeline)?;
    cluster.redis.start_again();
    rejoined(cluster, &crowd, timeline)
}

fn without_redis(cluster: &Cluster, crowd: &Crowd, timeline: &mut Timeline) -> Result<(), Fault> {
    wait_until(Duration::from_secs(40), || cluster.none_ready())?;
    timeline.mark("all are unready");
    for node in ALL {
        crowd.hear(&[node], &[node])?;
    }
    timeline.mark("clients of one node hear each other");
    Ok(())
}

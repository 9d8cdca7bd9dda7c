//! Nodes that end or hang.

use super::cluster::{Cluster, Start, members, shows, signal};
use super::crowd::Crowd;
use super::timeline::Timeline;
use crate::peer::Fault;

/// The nodes that nothing happens to.
const OTHERS: [usize; 2] = [1, 2];

/// A crash.
pub(super) fn killed(cluster: &mut Cluster, timeline: &mut Timeline) -> Result<(), Fault> {
    let crowd = cluster.crowd()?;
    timeline.restart();
    signal(&cluster.nodes[0], "-KILL");
    shows(|| match crowd.standing(0) {
        0 => Ok(()),
        left => Err(format!("{left} clients believe to be connected")),
    })?;
    timeline.mark("its clients know");
    let back = Crowd::open(&cluster.ways()[1..], cluster.clients.div_ceil(2))?;
    timeline.mark("they are back at the others");
    shows(|| {
        OTHERS
            .iter()
            .try_for_each(|&node| members(&cluster.nodes[node], 2))
    })?;
    timeline.mark("the others know");
    crowd.hear(&OTHERS, &OTHERS)?;
    cluster.nodes[0].kill();
    cluster.start_again(0, Start::default())?;
    timeline.mark("a new node is ready");
    drop(back);
    cluster.is_right_for(&crowd, &OTHERS)?;
    crowd.all_stand(&OTHERS)?;
    timeline.mark("everybody hears everybody, no client of the others lost");
    Ok(())
}

/// A machine that does nothing for a while.
pub(super) fn stopped(cluster: &mut Cluster, timeline: &mut Timeline) -> Result<(), Fault> {
    let crowd = cluster.crowd()?;
    timeline.restart();
    signal(&cluster.nodes[0], "-STOP");
    let gone = shows(|| {
        OTHERS
            .iter()
            .try_for_each(|&node| members(&cluster.nodes[node], 2))
    });
    timeline.mark("gone from the others");
    let carried_on = crowd.hear(&OTHERS, &OTHERS);
    signal(&cluster.nodes[0], "-CONT");
    gone?;
    carried_on?;
    timeline.mark("the fault ends");
    // Clients of the stopped node may have been given up for not answering in its time.
    cluster.is_right_for(&crowd, &OTHERS)?;
    crowd.all_stand(&OTHERS)?;
    timeline.mark("everybody hears everybody, no client of the others lost");
    Ok(())
}

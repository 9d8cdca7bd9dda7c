//! What happens on the way between nodes, over which requests for each other's sessions go.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::cluster::{ALL, Cluster, Start, addresses, counts, members, shows, signal};
use super::crowd::Crowd;
use super::ground::{self, HARNESS, Packets};
use super::timeline::{Counters, Timeline};
use crate::peer::{Answer, Fault, Frame, Peer, head, sid_in, upgrade_headers};
use crate::process::PATIENCE;

/// The nodes that are there all the time.
const OTHERS: [usize; 2] = [1, 2];

/// What an owner may take to answer beyond a ping interval and a ping timeout.
const OWNER_SLACK: Duration = Duration::from_secs(5);

/// How soon what is under way to a node ends when its membership has.
const SOON: Duration = Duration::from_secs(3);

/// What a loaded machine may add.
const SLACK: Duration = Duration::from_secs(10);

/// A client of one node whose balancer brings its requests to another.
struct Visitor {
    via: SocketAddr,
    sid: String,
    parked: Peer,
}

fn request(via: SocketAddr, method: &str, sid: &str, body: &str) -> Result<Peer, Fault> {
    let mut peer = Peer::connect(via)?;
    let target = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
    let headers = [
        format!("Content-Length: {}", body.len()),
        "Content-Type: text/plain".to_owned(),
        "Connection: close".to_owned(),
    ];
    peer.write(head(method, &target, &headers).as_bytes());
    peer.write(body.as_bytes());
    Ok(peer)
}

fn ok(answer: &Answer) -> Result<(), Fault> {
    match answer.status {
        200 => Ok(()),
        other => Err(format!("{other}: {}", answer.body)),
    }
}

impl Visitor {
    /// A session of `owner` whose poll waits there, and was asked for at `via`.
    fn start(owner: SocketAddr, via: SocketAddr) -> Result<Self, Fault> {
        let mut peer = Peer::connect(owner)?;
        let close = ["Connection: close".to_owned()];
        peer.write(head("GET", "/socket.io/?EIO=4&transport=polling", &close).as_bytes());
        let opened = peer.answer(soon())?;
        let sid = sid_in(&opened.body).ok_or_else(|| format!("no session but {opened:?}"))?;
        ok(&request(via, "POST", &sid, "40")?.answer(soon())?)?;
        ok(&request(via, "GET", &sid, "")?.answer(soon())?)?;
        let parked = request(via, "GET", &sid, "")?;
        Ok(Self { via, sid, parked })
    }

    /// Sends a message to its session.
    fn asks(&self) -> Result<Peer, Fault> {
        let message = "42[\"chat message\",\"from afar\"]";
        request(self.via, "POST", &self.sid, message)
    }
}

/// An answer as sessions get it that nobody knows: their clients connect anew.
fn turns_away(answer: &Answer) -> Result<(), Fault> {
    match (answer.status, answer.code()) {
        (400, Some(1)) => Ok(()),
        _ => Err(format!("not refused but {answer:?}")),
    }
}

/// A WebSocket of a session of `owner`, over `via`.
fn splice(owner: SocketAddr, via: SocketAddr) -> Result<Peer, Fault> {
    let mut peer = Peer::connect(owner)?;
    let close = ["Connection: close".to_owned()];
    peer.write(head("GET", "/socket.io/?EIO=4&transport=polling", &close).as_bytes());
    let opened = peer.answer(soon())?;
    let sid = sid_in(&opened.body).ok_or_else(|| format!("no session but {opened:?}"))?;
    let mut peer = Peer::connect(via)?;
    let target = format!("/socket.io/?EIO=4&transport=websocket&sid={sid}");
    peer.write(head("GET", &target, &upgrade_headers()).as_bytes());
    let answer = peer.answer(soon())?;
    if answer.status != 101 {
        return Err(format!("no WebSocket but {answer:?}"));
    }
    peer.write(&Frame::text("2probe").bytes());
    peer.arrived(soon())?;
    peer.write(&Frame::text("5").bytes());
    peer.write(&Frame::text("40").bytes());
    peer.arrived(soon())?;
    Ok(peer)
}

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// A request that is under way to another node is refused before anybody could lose patience.
fn is_turned_away(cluster: &Cluster, request: &mut Peer) -> Result<(), Fault> {
    let deadline = 2 * cluster.ping() + OWNER_SLACK + SLACK;
    turns_away(&request.answer(Instant::now() + deadline)?)
}

fn forwarded(outcome: &str) -> String {
    format!("sockhop_route_forwarded_total{{outcome=\"{outcome}\"}}")
}

/// No packet passes between the private listeners; Redis is there for all.
pub(super) fn cut(cluster: &mut Cluster, timeline: &mut Timeline) -> Result<(), Fault> {
    let crowd = cluster.crowd()?;
    let ways = cluster.ways();
    let mut visitor = Visitor::start(ways[0], ways[1])?;
    let mut fresh = Visitor::start(ways[0], ways[2])?;
    let spliced = splice(ways[0], ways[1])?;
    timeline.restart();
    let pid = cluster.nodes[0].pid();
    ground::lose(pid, Packets::Of(&addresses(&OTHERS)))?;
    let meanwhile = apart(cluster, &crowd, [&mut visitor, &mut fresh], timeline);
    ground::lose_no_more(pid)?;
    meanwhile?;
    timeline.mark("the fault ends");
    drop(spliced);
    let visitor = Visitor::start(ways[0], ways[1])?;
    ok(&visitor.asks()?.answer(soon())?)?;
    timeline.mark("requests are passed on again");
    cluster.is_right_for(&crowd, &ALL)?;
    crowd.all_stand(&ALL)
}

fn apart(
    cluster: &Cluster,
    crowd: &Crowd,
    [visitor, fresh]: [&mut Visitor; 2],
    timeline: &mut Timeline,
) -> Result<(), Fault> {
    let before = Counters::of(&cluster.nodes[1])?;
    // Over a kept connection, which nobody can know to be dead yet, or over a new one.
    for mut asked in [visitor.asks()?, fresh.asks()?] {
        is_turned_away(cluster, &mut asked)?;
    }
    timeline.mark("requests for its sessions are refused, 400 and code 1");
    for visitor in [visitor, fresh] {
        is_turned_away(cluster, &mut visitor.parked)?;
    }
    timeline.mark("so are the polls that waited");
    for &node in &ALL {
        members(&cluster.nodes[node], 3)?;
    }
    cluster.all_ready()?;
    crowd.hear(&ALL, &ALL)?;
    crowd.all_stand(&ALL)?;
    timeline.mark("three members, all ready, everybody hears everybody");
    counts(&cluster.nodes[1], &before, &forwarded("timed_out"), 1)
}

/// A machine without power: its connections end, and nobody is told.
pub(super) fn vanished(cluster: &mut Cluster, timeline: &mut Timeline) -> Result<(), Fault> {
    let crowd = cluster.crowd()?;
    let ways = cluster.ways();
    let mut visitor = Visitor::start(ways[0], ways[1])?;
    let spliced = splice(ways[0], ways[1])?;
    let before = Counters::of(&cluster.nodes[1])?;
    timeline.restart();
    let mut everybody = addresses(&OTHERS);
    everybody.push(HARNESS);
    ground::lose(cluster.nodes[0].pid(), Packets::Of(&everybody))?;
    signal(&cluster.nodes[0], "-KILL");
    cluster.nodes[0].kill();
    crowd.drop_group(0);
    shows(|| {
        OTHERS
            .iter()
            .try_for_each(|&node| members(&cluster.nodes[node], 2))
    })?;
    timeline.mark("gone from the others");
    is_turned_away(cluster, &mut visitor.asks()?)?;
    timeline.mark("a request for its session is refused, 400 and code 1");
    let deadline = Instant::now() + SOON;
    turns_away(&visitor.parked.answer(deadline)?)?;
    timeline.mark("so is the poll that waited");
    crowd.hear(&OTHERS, &OTHERS)?;
    for outcome in ["unknown_owner", "owner_left"] {
        counts(&cluster.nodes[1], &before, &forwarded(outcome), 1)?;
    }
    drop(spliced);
    cluster.start_again(0, Start::default())?;
    timeline.mark("a new node is ready");
    cluster.is_right_for(&crowd, &OTHERS)?;
    crowd.all_stand(&OTHERS)
}

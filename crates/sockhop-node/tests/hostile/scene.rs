//! A session in one of its states, and how to look at it from outside.

use std::time::{Duration, Instant};

use crate::peer::{Answer, Arrived, Fault, Frame, Peer, head, sid_in, upgrade_headers};
use crate::process::{Node, PATIENCE, open_websocket, wait_until};

/// The states of a session, as the columns of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// There is no session yet: the input is, or follows, the first request.
    Handshaking,
    /// On polling, no GET pending.
    PollingOpen,
    /// On polling, a GET waits.
    PollParked,
    /// On polling, a WebSocket has arrived and said nothing.
    Probing,
    /// On polling, the probe of a WebSocket is answered.
    Upgrading,
    /// On a WebSocket.
    WebSocketOpen,
    /// The server has closed it, its last packets wait to be fetched.
    Closing,
    /// It is over.
    Closed,
    /// The id is of no session of this node, nor of any that it knows. On a cluster: the session is
    /// open on polling, and nobody has asked another node for it yet.
    Foreign,
    /// On a cluster: the id has the form of no member's.
    OfNoNode,
}

pub(crate) const STATES: [(State, &str); 9] = [
    (State::Handshaking, "handshaking"),
    (State::PollingOpen, "polling open"),
    (State::PollParked, "poll parked"),
    (State::Probing, "probing"),
    (State::Upgrading, "upgrading"),
    (State::WebSocketOpen, "WebSocket open"),
    (State::Closing, "closing"),
    (State::Closed, "closed"),
    (State::Foreign, "foreign"),
];

/// The columns on a cluster.
pub(crate) const CLUSTER_STATES: [(State, &str); 10] = {
    let [a, b, c, d, e, f, g, h, i] = STATES;
    [a, b, c, d, e, f, g, h, i, (State::OfNoNode, "of no node")]
};

/// Where a session lives, and where it is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) owner: &'a Node,
    /// Another node: whatever names a session is sent there.
    pub(crate) door: Option<&'a Node>,
}

/// A session in a state, with its connections.
pub(crate) struct Scene<'a> {
    place: Place<'a>,
    pub(crate) state: State,
    sid: String,
    poll: Option<Peer>,
    pub(crate) websocket: Option<Peer>,
    /// Requests of the input that are not answered.
    pub(crate) waiting: Vec<Peer>,
}

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

impl<'a> Scene<'a> {
    pub(crate) fn set(place: Place<'a>, state: State) -> Result<Self, Fault> {
        let node = place.owner;
        let mut scene = Self {
            place,
            state,
            sid: String::new(),
            poll: None,
            websocket: None,
            waiting: Vec::new(),
        };
        wait_until(PATIENCE, || parked(node, 0))?;
        match state {
            State::Handshaking => {}
            State::Foreign if place.door.is_some() => {
                let alone = Place {
                    door: None,
                    ..place
                };
                let here = Self::set(alone, State::PollingOpen)?;
                scene.sid = here.sid;
            }
            State::Foreign | State::OfNoNode => {
                "AAAAAAAAAAAAAAAAAAAA".clone_into(&mut scene.sid);
            }
            State::WebSocketOpen if place.door.is_some() => {
                // Only an upgrade brings a WebSocket to the node of its session through another.
                scene.open()?;
                let mut websocket = scene.upgrade()?;
                websocket.write(&Frame::text("2probe").bytes());
                expect(websocket.arrived(soon())?, "3probe")?;
                websocket.write(&Frame::text("5").bytes());
                websocket.write(&ping());
                match websocket.arrived(soon())? {
                    Arrived::Pong => scene.websocket = Some(websocket),
                    other => return Err(format!("no pong but {other:?}")),
                }
            }
            State::WebSocketOpen => {
                let (websocket, sid) = open_websocket(node.address)?;
                scene.websocket = Some(websocket);
                scene.sid = sid;
            }
            State::PollingOpen => scene.open()?,
            State::PollParked => {
                scene.open()?;
                let mut poll = scene.connect()?;
                poll.write(head("GET", &scene.target("4", "polling"), &[]).as_bytes());
                scene.poll = Some(poll);
                wait_until(PATIENCE, || parked(node, 1))?;
            }
            State::Probing | State::Upgrading => {
                scene.open()?;
                let mut websocket = scene.upgrade()?;
                if state == State::Upgrading {
                    websocket.write(&Frame::text("2probe").bytes());
                    expect(websocket.arrived(soon())?, "3probe")?;
                }
                scene.websocket = Some(websocket);
            }
            State::Closing => {
                let closed = || node.metric("sockhop_engine_sessions_closed_total");
                let before = closed()?;
                let opened = scene.request("GET", "")?;
                scene.sid = sid_in(&opened.body).ok_or("no session")?;
                // It joins nothing, so the node closes it; nobody has fetched that yet.
                wait_until(PATIENCE, || {
                    (closed()? > before)
                        .then_some(())
                        .ok_or_else(|| "still open".to_owned())
                })?;
            }
            State::Closed => {
                scene.open()?;
                scene.request("POST", "1")?;
            }
        }
        Ok(scene)
    }

    /// A polling session, joined to `/`, with nothing waiting for it.
    fn open(&mut self) -> Result<(), Fault> {
        let opened = self.request("GET", "")?;
        self.sid = sid_in(&opened.body).ok_or("no session")?;
        self.request("POST", "40")?;
        let joined = self.request("GET", "")?;
        if joined.body.starts_with("40{") {
            return Ok(());
        }
        Err(format!("not joined: {joined:?}"))
    }

    /// A WebSocket that the session has taken note of.
    fn upgrade(&self) -> Result<Peer, Fault> {
        let mut websocket = self.connect()?;
        let target = self.target("4", "websocket");
        websocket.write(head("GET", &target, &upgrade_headers()).as_bytes());
        let answer = websocket.answer(soon())?;
        if answer.status != 101 {
            return Err(format!("no upgrade: {answer:?}"));
        }
        websocket.write(&ping());
        match websocket.arrived(soon())? {
            Arrived::Pong => Ok(websocket),
            other => Err(format!("no pong but {other:?}")),
        }
    }

    pub(crate) fn target(&self, eio: &str, transport: &str) -> String {
        let sid = match self.sid.as_str() {
            "" => String::new(),
            sid => format!("&sid={sid}"),
        };
        format!("/socket.io/?EIO={eio}&transport={transport}{sid}")
    }

    /// Whether a GET waits in this state.
    pub(crate) fn parks(&self) -> bool {
        match self.state {
            State::PollingOpen | State::Probing => true,
            State::Foreign => self.place.door.is_some(),
            State::Handshaking
            | State::PollParked
            | State::Upgrading
            | State::WebSocketOpen
            | State::Closing
            | State::Closed
            | State::OfNoNode => false,
        }
    }

    /// Whether requests for the session are sent to another node than its own.
    pub(crate) fn is_passed_on(&self) -> bool {
        self.place.door.is_some() && !self.sid.is_empty()
    }

    /// The node that has the session, or will.
    pub(crate) fn owner(&self) -> &'a Node {
        self.place.owner
    }

    /// A connection to the node that the session is asked for at.
    pub(crate) fn connect(&self) -> Result<Peer, Fault> {
        let door = self.place.door.filter(|_| self.is_passed_on());
        Peer::connect(door.unwrap_or(self.place.owner).address)
    }

    fn request(&self, method: &str, body: &str) -> Result<Answer, Fault> {
        let headers = [
            "Connection: close".to_owned(),
            format!("Content-Length: {}", body.len()),
        ];
        let mut peer = self.connect()?;
        peer.write(head(method, &self.target("4", "polling"), &headers).as_bytes());
        peer.write(body.as_bytes());
        peer.answer(soon())
    }

    /// A WebSocket for frames to arrive on: the session's, or for a handshake one whose first
    /// request is followed by the frames at once.
    pub(crate) fn frames(&mut self, bytes: &[u8]) -> Option<()> {
        if self.state == State::Handshaking {
            let mut websocket = self.connect().ok()?;
            let target = self.target("4", "websocket");
            let mut early = head("GET", &target, &upgrade_headers()).into_bytes();
            early.extend_from_slice(bytes);
            websocket.write(&early);
            websocket.answer(soon()).ok()?;
            self.websocket = Some(websocket);
        } else {
            self.websocket.as_mut()?.write(bytes);
        }
        Some(())
    }

    /// What became of the WebSocket: what it was told, and whether it is open.
    pub(crate) fn websocket_says(&mut self) -> Vec<String> {
        let Some(websocket) = &mut self.websocket else {
            return Vec::new();
        };
        let mut said = Vec::new();
        // Of two pongs the second comes from a turn after the one that dealt with the input.
        for _ in 0..2 {
            websocket.write(&ping());
            loop {
                let end = match websocket.arrived(soon()) {
                    Ok(Arrived::Pong) => break,
                    Ok(Arrived::Text(text)) => {
                        let short = text.split('{').next().unwrap_or_default();
                        said.push(format!("`{short}`"));
                        continue;
                    }
                    Ok(Arrived::Binary(_)) => {
                        said.push("binary".to_owned());
                        continue;
                    }
                    Ok(Arrived::Close(Some(code))) => format!("close {code}"),
                    Ok(Arrived::Close(None) | Arrived::End) => "close".to_owned(),
                    Err(fault) => fault,
                };
                if self.state == State::Handshaking {
                    // Whether the open packet is out before the end is chance.
                    said.retain(|word| word != "`0`");
                }
                said.push(end);
                return said;
            }
        }
        said.push("open".to_owned());
        said
    }

    /// What became of the parked GET.
    pub(crate) fn poll_says(&mut self) -> String {
        let Some(poll) = &mut self.poll else {
            return String::new();
        };
        match poll.answer(Instant::now() + Duration::from_millis(100)) {
            Ok(answer) if answer.status == 200 => {
                let short = answer.body.split('{').next().unwrap_or_default();
                format!("poll `{short}`")
            }
            Ok(answer) => format!("poll {}", answer.status),
            Err(fault) if fault.starts_with("no answer") => "poll waits".to_owned(),
            Err(_) => "poll cut off".to_owned(),
        }
    }

    /// What became of the session: a noop is taken, refused, or for nobody.
    pub(crate) fn fate(&self) -> Result<&'static str, Fault> {
        if self.sid.is_empty() {
            return Ok("");
        }
        let answer = self.request("POST", "6")?;
        Ok(match (answer.status, answer.code()) {
            (200, _) => "lives",
            (400, Some(3)) => "lives on its WebSocket",
            (400, Some(1)) => "is gone",
            _ => "?",
        })
    }
}

/// A ping of WebSocket, with which nothing else is confused.
fn ping() -> Vec<u8> {
    let frame = Frame {
        first: 0x89,
        ..Frame::text("?")
    };
    frame.bytes()
}

fn expect(arrived: Arrived, wanted: &str) -> Result<(), Fault> {
    match arrived {
        Arrived::Text(text) if text == wanted => Ok(()),
        other => Err(format!("{wanted} expected, not {other:?}")),
    }
}

/// Whether this many polls wait at a node.
pub(crate) fn parked(node: &Node, polls: u64) -> Result<(), Fault> {
    let now = node.metric("sockhop_engine_parked_polls")?;
    if now == polls {
        return Ok(());
    }
    Err(format!("{now} polls are parked, not {polls}"))
}

//! Runs the steps of a case.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use testkit::RedisServer;

use crate::peer::{Answer, Arrived, Fault, Frame, Peer, head, sid_in, upgrade_headers};
use crate::process::{PATIENCE, echo};
use crate::script::{Abandon, Case, FrameStep, Open, Publish, Request, Step, Vars, words};

/// How long the server may take bytes that nobody reads the answers of.
const STUCK: Duration = Duration::from_secs(2);

/// The mount that every node has, and the one of the example.
const SOCKET_IO: &str = "/socket.io/";
const MSGPACK: &str = "/msgpack/";

/// What is attacked.
pub(crate) struct Target<'a> {
    /// Connections go to one after the other.
    pub(crate) nodes: Vec<SocketAddr>,
    pub(crate) redis: Option<&'a RedisServer>,
}

/// The attacker of one case.
pub(crate) struct Attack<'a> {
    target: &'a Target<'a>,
    connections: usize,
    vars: Vars,
    peers: HashMap<String, Peer>,
    current: String,
    /// The polling session, as the target of its requests.
    polling: String,
    /// Where the last session was opened.
    mount: String,
    /// Requests, frames and cut connections.
    pub(crate) inputs: usize,
}

/// Runs a case once, with `n` where it says so; how many inputs that were.
pub(crate) fn run(target: &Target<'_>, case: &Case, n: usize) -> Result<usize, Fault> {
    let no_values = [String::new()];
    let values = if case.each.is_empty() {
        &no_values[..]
    } else {
        &case.each[..]
    };
    let mut inputs = 0;
    for value in values {
        let mut attack = Attack::new(target, value, n);
        for (index, step) in case.steps.iter().enumerate() {
            attack.step(step).map_err(|fault| {
                format!("{}, {value:?}, step {}: {fault}", case.name, index + 1)
            })?;
        }
        inputs += attack.inputs;
    }
    Ok(inputs)
}

impl<'a> Attack<'a> {
    fn new(target: &'a Target<'a>, each: &str, n: usize) -> Self {
        let vars = Vars {
            each: each.to_owned(),
            n,
            ..Vars::default()
        };
        Self {
            target,
            connections: 0,
            vars,
            peers: HashMap::new(),
            current: String::new(),
            polling: String::new(),
            mount: String::new(),
            inputs: 0,
        }
    }

    fn connect(&mut self) -> Result<Peer, Fault> {
        let nodes = &self.target.nodes;
        let address = nodes[self.connections % nodes.len()];
        self.connections += 1;
        Peer::connect(address)
    }

    fn peer(&mut self) -> Result<&mut Peer, Fault> {
        let name = &self.current;
        self.peers
            .get_mut(name)
            .ok_or_else(|| format!("no connection {name:?}"))
    }

    fn keep(&mut self, name: &str, peer: Peer) {
        name.clone_into(&mut self.current);
        self.peers.insert(name.to_owned(), peer);
    }

    fn step(&mut self, step: &Step) -> Result<(), Fault> {
        let soon = Instant::now() + PATIENCE;
        match step {
            Step::Open(open) => self.open(open),
            Step::Request(request) => {
                let answer = self.request(request)?;
                judge(request, answer.as_ref(), &self.vars)
            }
            Step::Begin(begin) => {
                let peer = self.send(&begin.request)?;
                self.keep(&begin.name, peer);
                Ok(())
            }
            Step::Answer(expect) => {
                let deadline = Instant::now() + Duration::from_millis(expect.deadline_ms);
                let mut peer = self.peers.remove(&expect.name).ok_or("no such request")?;
                let status = peer.answer(deadline).map_or(0, |answer| answer.status);
                one_of(status, &expect.status)
            }
            Step::Connect(name) => {
                let peer = self.connect()?;
                self.keep(name, peer);
                Ok(())
            }
            Step::Write(data) => {
                let bytes = data.bytes(&self.vars);
                self.inputs += 1;
                self.peer()?.write(&bytes);
                Ok(())
            }
            Step::Drip(data) => {
                let bytes = data.bytes(&self.vars);
                self.inputs += 1;
                let peer = self.peer()?;
                bytes.chunks(1).for_each(|byte| peer.write(byte));
                Ok(())
            }
            Step::Stuff(data) => {
                let bytes = data.bytes(&self.vars);
                self.inputs += 1;
                self.peer()?.write_until_stuck(&bytes, STUCK);
                Ok(())
            }
            Step::Frame(frame) => self.frames(frame),
            Step::Msgpack(words) => self.frame(&Frame::binary(words.bytes(&self.vars))),
            Step::Text(text) => self.frame(&Frame::text(&self.vars.fill(text))),
            Step::Expect(text) => self.expect(text, soon),
            Step::Closed(codes) => self.closed(codes, soon),
            Step::Ends(ms) => {
                let deadline = Instant::now() + Duration::from_millis(*ms);
                self.peer()?.ends(deadline)
            }
            Step::HalfClose(_) => {
                self.inputs += 1;
                self.peer()?.half_close();
                Ok(())
            }
            Step::Reset(_) => {
                self.inputs += 1;
                if let Some(peer) = self.peers.remove(&self.current) {
                    peer.reset();
                }
                Ok(())
            }
            Step::On(name) => {
                name.clone_into(&mut self.current);
                Ok(())
            }
            Step::Echo(_) if self.mount == MSGPACK => self.echo_msgpack(soon),
            Step::Echo(_) => echo(self.peer()?, 7),
            Step::Alive(alive) => self.alive(*alive, soon),
            Step::CutEverywhere(request) => self.cut_everywhere(request),
            Step::Sids(count) => self.sids(*count),
            Step::Publish(publish) => self.publish(publish),
            Step::Abandon(abandon) => self.abandon(abandon),
        }
    }

    fn open(&mut self, open: &Open) -> Result<(), Fault> {
        let query = format!(
            "EIO={}&transport={}{}",
            open.eio, open.transport, open.query
        );
        let target = format!("{}?{query}", open.mount);
        open.mount.clone_into(&mut self.mount);
        let mut peer = self.connect()?;
        let deadline = Instant::now() + PATIENCE;
        self.inputs += 1;
        if open.transport == "polling" {
            let close = ["Connection: close".to_owned()];
            peer.write(head("GET", &target, &close).as_bytes());
            let answer = peer.answer(deadline)?;
            self.vars.sid = answer
                .sid()
                .ok_or_else(|| format!("no session: {answer:?}"))?;
            self.polling = format!("{target}&sid={}", self.vars.sid);
            return Ok(());
        }
        peer.write(head("GET", &target, &upgrade_headers()).as_bytes());
        let answer = peer.answer(deadline)?;
        one_of(answer.status, &[101])?;
        let Arrived::Text(opened) = peer.arrived(deadline)? else {
            return Err("no open packet".to_owned());
        };
        self.vars.sid = sid_in(&opened).ok_or("no session id")?;
        self.keep("websocket", peer);
        if open.join && open.mount == MSGPACK {
            self.peer()?
                .write(&Frame::binary(words("82 'type 00 'nsp '/")).bytes());
            return self.expect_msgpack(&words("'type 00"), deadline);
        }
        if open.join && open.eio == "4" {
            self.peer()?.write(&Frame::text("40").bytes());
        }
        if open.join || open.eio == "3" {
            self.expect("40", deadline)?;
        }
        Ok(())
    }

    fn send(&mut self, request: &Request) -> Result<Peer, Fault> {
        let mut peer = self.connect()?;
        self.inputs += 1;
        peer.write(&self.request_bytes(request));
        Ok(peer)
    }

    fn request_bytes(&self, request: &Request) -> Vec<u8> {
        let mut headers: Vec<_> = request
            .headers
            .iter()
            .map(|line| self.vars.fill(line))
            .collect();
        let body = request.body.as_ref().map(|body| body.bytes(&self.vars));
        let names = |name: &str| {
            let begins = |line: &String| line.to_lowercase().starts_with(name);
            request.headers.iter().any(begins)
        };
        if let Some(body) = &body
            && !names("content-length")
            && !names("transfer-encoding")
        {
            headers.push(format!("Content-Length: {}", body.len()));
        }
        if request.upgrade {
            headers.extend(upgrade_headers());
        } else if !names("connection") {
            headers.push("Connection: close".to_owned());
        }
        let target = self.vars.fill(&request.target);
        let mut bytes = head(&request.method, &target, &headers).into_bytes();
        bytes.extend(body.unwrap_or_default());
        bytes
    }

    /// The answer, or none when the connection ended without one.
    fn request(&mut self, request: &Request) -> Result<Option<Answer>, Fault> {
        let mut peer = self.send(request)?;
        let deadline = Instant::now() + Duration::from_millis(request.deadline_ms);
        let answered = if request.method == "HEAD" {
            peer.answer_head(deadline)
        } else {
            peer.answer(deadline)
        };
        let answer = match answered {
            Ok(answer) => Some(answer),
            Err(fault) if fault.starts_with("the connection ended") => None,
            Err(fault) => return Err(fault),
        };
        if request.upgrade {
            self.keep("websocket", peer);
        }
        Ok(answer)
    }

    fn frame(&mut self, frame: &Frame) -> Result<(), Fault> {
        self.inputs += 1;
        self.peer()?.write(&frame.bytes());
        Ok(())
    }

    fn frames(&mut self, step: &FrameStep) -> Result<(), Fault> {
        let declared = step
            .declared
            .as_ref()
            .map(|text| self.vars.fill(text).parse::<u64>());
        let frame = Frame {
            first: step.first,
            masked: step.masked,
            declared: declared.transpose().map_err(|error| error.to_string())?,
            payload: step.payload.bytes(&self.vars),
        };
        let times = self.vars.times(step.times);
        self.inputs += times;
        let bytes = frame.bytes().repeat(times);
        self.peer()?.write(&bytes);
        Ok(())
    }

    fn expect(&mut self, text: &str, deadline: Instant) -> Result<(), Fault> {
        let text = self.vars.fill(text);
        match self.peer()?.arrived(deadline)? {
            Arrived::Text(arrived) if arrived.starts_with(&text) => Ok(()),
            other => Err(format!("expected {text:?}, not {other:?}")),
        }
    }

    /// Waits for a binary frame with these bytes in it.
    fn expect_msgpack(&mut self, bytes: &[u8], deadline: Instant) -> Result<(), Fault> {
        loop {
            match self.peer()?.arrived(deadline)? {
                Arrived::Binary(arrived) if contains(&arrived, bytes) => return Ok(()),
                Arrived::Binary(_) => {}
                other => return Err(format!("expected {bytes:02x?}, not {other:?}")),
            }
        }
    }

    /// Asks for an acknowledgement in MessagePack and waits for it.
    fn echo_msgpack(&mut self, deadline: Instant) -> Result<(), Fault> {
        let event = words("84 'type 02 'nsp '/ 'id 07 'data 92 'message-with-ack 2a");
        self.peer()?.write(&Frame::binary(event).bytes());
        self.expect_msgpack(&words("91 2a"), deadline)
    }

    fn closed(&mut self, codes: &[u16], deadline: Instant) -> Result<(), Fault> {
        loop {
            match self.peer()?.arrived(deadline)? {
                Arrived::End => return Ok(()),
                Arrived::Close(code) => return one_of(code.unwrap_or(0), codes),
                Arrived::Text(_) | Arrived::Binary(_) | Arrived::Pong => {}
            }
        }
    }

    /// A session that is there takes a noop; one that is not is unknown, at every node.
    fn alive(&mut self, alive: bool, deadline: Instant) -> Result<(), Fault> {
        let target = self.polling.clone();
        let eio3 = target.contains("EIO=3");
        let body = if eio3 { "1:6" } else { "6" };
        let headers = [
            "Connection: close".to_owned(),
            format!("Content-Length: {}", body.len()),
        ];
        loop {
            let mut peer = self.connect()?;
            peer.write(head("POST", &target, &headers).as_bytes());
            peer.write(body.as_bytes());
            let answer = peer.answer(deadline)?;
            match (alive, answer.status, answer.code()) {
                (true, 200, _) | (false, 400, Some(1)) => return Ok(()),
                // What ends a session may be under way still.
                (false, ..) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                _ => return Err(format!("alive is not {alive}: {answer:?}")),
            }
        }
    }

    fn cut_everywhere(&mut self, request: &Request) -> Result<(), Fault> {
        let bytes = self.request_bytes(request);
        for len in 0..=bytes.len() {
            let mut reset = self.connect()?;
            reset.write(&bytes[..len]);
            reset.reset();
            let mut ended = self.connect()?;
            ended.write(&bytes[..len]);
            ended.half_close();
            self.inputs += 2;
        }
        Ok(())
    }

    fn sids(&mut self, count: usize) -> Result<(), Fault> {
        let mut sids = Vec::new();
        for _ in 0..count {
            let open = Open {
                transport: "polling".to_owned(),
                mount: SOCKET_IO.to_owned(),
                eio: "4".to_owned(),
                query: String::new(),
                join: false,
            };
            self.open(&open)?;
            sids.push(self.vars.sid.clone());
        }
        let distinct: std::collections::BTreeSet<_> = sids.iter().collect();
        if distinct.len() != count {
            return Err("two sessions have one id".to_owned());
        }
        // The first four characters name the node. Of every other one many values are seen.
        for place in 4..sids[0].len() {
            let seen: std::collections::BTreeSet<_> = sids
                .iter()
                .filter_map(|sid| sid.as_bytes().get(place))
                .collect();
            if seen.len() < 32.min(count / 4) {
                return Err(format!(
                    "character {place} of the ids has {} values",
                    seen.len()
                ));
            }
        }
        Ok(())
    }

    /// Says something to all nodes that the others of their Redis could say.
    fn publish(&mut self, publish: &Publish) -> Result<(), Fault> {
        let redis = self.target.redis.ok_or("no Redis")?;
        let bytes = publish.message.bytes(&self.vars);
        let mut stream =
            TcpStream::connect(("127.0.0.1", redis.port())).map_err(|error| error.to_string())?;
        let channel = self.vars.fill(&publish.channel);
        let mut command = format!(
            "*3\r\n$7\r\nPUBLISH\r\n${}\r\n{channel}\r\n${}\r\n",
            channel.len(),
            bytes.len()
        )
        .into_bytes();
        command.extend_from_slice(&bytes);
        command.extend_from_slice(b"\r\n");
        self.inputs += 1;
        stream
            .write_all(&command)
            .map_err(|error| error.to_string())?;
        let mut answer = [0; 4];
        stream
            .read_exact(&mut answer)
            .map_err(|error| error.to_string())?;
        let heard = answer[1] != b'0';
        (heard || publish.to_nobody)
            .then_some(())
            .ok_or_else(|| format!("nobody hears {channel}"))
    }

    /// Opens sessions and leaves them in the state that `how` names.
    fn abandon(&mut self, abandon: &Abandon) -> Result<(), Fault> {
        for index in 0..abandon.count {
            let transport = if abandon.how == "websocket" {
                "websocket"
            } else {
                "polling"
            };
            self.open(&Open {
                transport: transport.to_owned(),
                mount: SOCKET_IO.to_owned(),
                eio: "4".to_owned(),
                query: String::new(),
                join: false,
            })?;
            let target = self.polling.clone();
            match abandon.how.as_str() {
                "parked" => {
                    let mut peer = self.connect()?;
                    peer.write(head("GET", &target, &[]).as_bytes());
                    if index % 2 == 0 {
                        peer.reset();
                    }
                }
                "probing" => {
                    let mut peer = self.connect()?;
                    let target = target.replace("transport=polling", "transport=websocket");
                    peer.write(head("GET", &target, &upgrade_headers()).as_bytes());
                    one_of(peer.answer(Instant::now() + PATIENCE)?.status, &[101])?;
                    peer.write(&Frame::text("2probe").bytes());
                    self.keep(&format!("abandoned {index}"), peer);
                }
                "websocket" => {
                    let peer = self.peers.remove("websocket").ok_or("no websocket")?;
                    self.keep(&format!("abandoned {index}"), peer);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn one_of(status: u16, expected: &[u16]) -> Result<(), Fault> {
    if expected.contains(&status) {
        return Ok(());
    }
    Err(format!("{status} is none of {expected:?}"))
}

fn judge(request: &Request, answer: Option<&Answer>, vars: &Vars) -> Result<(), Fault> {
    one_of(answer.map_or(0, |answer| answer.status), &request.status)
        .map_err(|fault| format!("{fault}: {answer:?}"))?;
    let Some(answer) = answer else { return Ok(()) };
    if request.code.is_some() && answer.code() != request.code {
        return Err(format!("not code {:?}: {answer:?}", request.code));
    }
    if let Some(without) = &request.without {
        let without = vars.fill(without).to_lowercase();
        if answer.head.contains(&without) || answer.body.to_lowercase().contains(&without) {
            return Err(format!("{without:?} is in {answer:?}"));
        }
    }
    match &request.begins {
        Some(begins) if !answer.body.starts_with(begins) => {
            Err(format!("{begins:?} does not begin {answer:?}"))
        }
        _ => Ok(()),
    }
}

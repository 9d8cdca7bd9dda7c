//! The scenarios: each opens its clients, warms up, and measures a closed loop.

use std::cell::Cell;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Options;
use crate::net::{Incoming, Net};
use crate::usage::{Meter, cpu_ns, pss_bytes};

/// The data of every event, about as long as a chat message.
const DATA: &str = "{\"from\":\"somebody\",\"at\":1700000000000,\"text\":\"the quick brown fox jumps over the lazy dog\"}";

/// Handshakes under way at a time.
const OPENING: usize = 32;

/// How long servers may settle before memory is read.
const SETTLE: Duration = Duration::from_millis(1500);

pub fn run(options: &Options) -> io::Result<Value> {
    match options.scenario.as_str() {
        "broadcast" => broadcast(options),
        "echo" => echo(options),
        "handshake" => handshake(options, false),
        "handshake-upgrade" => handshake(options, true),
        "polling" => polling(options),
        "idle" => idle(options),
        "starve" => starve(options),
        other => Err(io::Error::other(format!("no scenario {other}"))),
    }
}

/// Where a client is on its way in.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    /// Over WebSocket alone.
    Open,
    Connect,
    /// Over polling first.
    PollOpen,
    PollConnectPosted,
    PollConnect,
    Upgrade,
    Probe,
    LastPoll,
    In,
}

struct Client {
    step: Step,
    /// What requests carry to name the session.
    sid: String,
    /// The connection of the polling requests beside the WebSocket.
    beside: Option<usize>,
    port: u16,
}

/// Clients by their connection.
struct Clients {
    net: Net,
    clients: Vec<Client>,
    ports: Vec<u16>,
    begun: usize,
    entered: usize,
}

impl Clients {
    fn new(options: &Options) -> io::Result<Self> {
        Ok(Self {
            net: Net::new()?,
            clients: Vec::new(),
            ports: options.ports.clone(),
            begun: 0,
            entered: 0,
        })
    }

    /// Lets in `count` more clients, alternating over the servers. `way` is their first step.
    fn enter(&mut self, count: usize, way: Step) -> io::Result<()> {
        let target = self.entered + count;
        while self.entered < target {
            while self.begun < target && self.begun < self.entered + OPENING {
                self.begin(way)?;
            }
            let mut news = Vec::new();
            self.net.turn(&mut |index, incoming| {
                let text = match incoming {
                    Incoming::Upgraded => String::new(),
                    Incoming::Body(bytes) | Incoming::Text(bytes) => {
                        String::from_utf8_lossy(bytes).into_owned()
                    }
                };
                news.push((index, text));
            })?;
            for (index, text) in news {
                self.advance(index, &text)?;
            }
        }
        Ok(())
    }

    fn begin(&mut self, way: Step) -> io::Result<()> {
        let port = self.ports[self.begun % self.ports.len()];
        self.begun += 1;
        let index = self.open(port, way)?;
        if way == Step::Open {
            self.net.upgrade(index, "")
        } else {
            self.net.request(index, "", None)
        }
    }

    fn open(&mut self, port: u16, step: Step) -> io::Result<usize> {
        let index = self.net.open(port)?;
        assert_eq!(index, self.clients.len(), "one client for each connection");
        self.clients.push(Client {
            step,
            sid: String::new(),
            beside: None,
            port,
        });
        Ok(index)
    }

    fn advance(&mut self, index: usize, text: &str) -> io::Result<()> {
        let step = self.clients[index].step;
        let next = match step {
            // The 101 answer comes first.
            Step::Open if text.starts_with('0') => {
                self.net.send(index, "40")?;
                Step::Connect
            }
            Step::Connect if text.starts_with("40") => {
                self.entered += 1;
                Step::In
            }
            Step::PollOpen | Step::PollConnectPosted | Step::PollConnect | Step::LastPoll => {
                self.advance_polling(index, text)?
            }
            Step::Upgrade => {
                self.net.send(index, "2probe")?;
                Step::Probe
            }
            Step::Probe if text == "3probe" => Step::LastPoll,
            other => other,
        };
        self.clients[index].step = next;
        if step == Step::Probe && next == Step::LastPoll {
            self.finish_upgrade(index)?;
        }
        Ok(())
    }

    fn advance_polling(&mut self, index: usize, text: &str) -> io::Result<Step> {
        let sid = self.clients[index].sid.clone();
        match self.clients[index].step {
            Step::PollOpen => {
                let sid = text
                    .split("\"sid\":\"")
                    .nth(1)
                    .and_then(|it| it.split('"').next());
                let sid = sid.ok_or_else(|| io::Error::other("no session id"))?;
                let sid = format!("&sid={sid}");
                self.net.request(index, &sid, Some("40"))?;
                self.clients[index].sid = sid;
                Ok(Step::PollConnectPosted)
            }
            Step::PollConnectPosted => {
                self.net.request(index, &sid, None)?;
                Ok(Step::PollConnect)
            }
            // The answer of a pong, which was sent ahead of the poll that matters.
            Step::PollConnect | Step::LastPoll if text == "ok" => Ok(self.clients[index].step),
            Step::PollConnect => {
                self.answer_pings(index, &sid, text)?;
                self.net.request(index, &sid, None)?;
                if !text.contains("40{") {
                    return Ok(Step::PollConnect);
                }
                let port = self.clients[index].port;
                let candidate = self.open(port, Step::Upgrade)?;
                self.clients[candidate].beside = Some(index);
                self.net.upgrade(candidate, &sid)?;
                Ok(Step::LastPoll)
            }
            // A client polls until the probe was answered.
            Step::LastPoll => {
                self.answer_pings(index, &sid, text)?;
                let candidate = self.clients.iter().rposition(|it| it.beside == Some(index));
                let candidate = candidate.expect("it was opened above");
                if self.clients[candidate].step != Step::LastPoll {
                    self.net.request(index, &sid, None)?;
                    return Ok(Step::LastPoll);
                }
                self.clients[index].step = Step::In;
                self.finish_upgrade(candidate)?;
                Ok(Step::In)
            }
            other => Ok(other),
        }
    }

    /// As a client does it that is asked within a poll's body.
    fn answer_pings(&mut self, index: usize, sid: &str, body: &str) -> io::Result<()> {
        if body.split('\u{1e}').any(|packet| packet == "2") {
            self.net.request(index, sid, Some("3"))?;
        }
        Ok(())
    }

    /// The upgrade packet goes when the probe was answered and no poll is left.
    fn finish_upgrade(&mut self, candidate: usize) -> io::Result<()> {
        let polls = self.clients[candidate]
            .beside
            .map(|it| self.clients[it].step);
        if self.clients[candidate].step == Step::LastPoll && polls == Some(Step::In) {
            self.clients[candidate].step = Step::In;
            self.net.send(candidate, "5")?;
            self.entered += 1;
        }
        Ok(())
    }

    /// Counts the events that arrive, for this long.
    fn run(&mut self, duration: Duration, heard: &mut Heard<'_>) -> io::Result<()> {
        let until = Instant::now() + duration;
        let mut answers = Vec::new();
        while Instant::now() < until {
            self.net.turn(&mut |index, incoming| match incoming {
                Incoming::Text(bytes) | Incoming::Body(bytes) => heard(&mut answers, index, bytes),
                Incoming::Upgraded => {}
            })?;
            for (index, say) in answers.drain(..) {
                match say {
                    Say::Text(text) => self.net.send(index, &text)?,
                    Say::Poll(sid) => self.net.request(index, &sid, None)?,
                    Say::Post(sid, body) => self.net.request(index, &sid, Some(&body))?,
                }
            }
        }
        Ok(())
    }
}

/// Told what arrived on which connection; adds what is to be said, and on which.
type Heard<'a> = dyn FnMut(&mut Vec<(usize, Say)>, usize, &[u8]) + 'a;

/// What a client says next.
enum Say {
    Text(String),
    Poll(String),
    Post(String, String),
}

/// Units are messages delivered.
fn broadcast(options: &Options) -> io::Result<Value> {
    let mut clients = Clients::new(options)?;
    clients.enter(options.connections, Step::Open)?;
    // Servers of a cluster learn of each other's rooms.
    if options.ports.len() > 1 {
        thread::sleep(SETTLE);
    }
    let event = format!("42[\"bcast\",{DATA}]");
    let receivers = options.connections as u64;
    for _ in 0..options.in_flight {
        clients.net.send(0, &event)?;
    }
    let mut delivered = 0;
    let mut sent = options.in_flight as u64;
    let in_flight = options.in_flight as u64;
    let mut heard = |answers: &mut Vec<(usize, Say)>, _: usize, text: &[u8]| {
        if !text.starts_with(b"42") {
            return;
        }
        delivered += 1;
        if delivered >= (sent + 1 - in_flight) * receivers {
            sent += 1;
            answers.push((0, Say::Text(event.clone())));
        }
    };
    clients.run(options.warm_up, &mut heard)?;
    let meter = Meter::start(&options.pids);
    let mut count = 0;
    clients.run(options.duration, &mut |answers, index, text| {
        heard(answers, index, text);
        count += u64::from(text.starts_with(b"42"));
    })?;
    Ok(meter.stop(count))
}

/// Units are round trips.
fn echo(options: &Options) -> io::Result<Value> {
    let mut clients = Clients::new(options)?;
    clients.enter(options.connections, Step::Open)?;
    let event = format!("421[\"echo\",{DATA}]");
    for index in 0..options.connections {
        for _ in 0..options.in_flight {
            clients.net.send(index, &event)?;
        }
    }
    let trips = Cell::new(0);
    let mut heard = |answers: &mut Vec<(usize, Say)>, index: usize, text: &[u8]| {
        if text.starts_with(b"431[") {
            trips.set(trips.get() + 1);
            answers.push((index, Say::Text(event.clone())));
        }
    };
    clients.run(options.warm_up, &mut heard)?;
    let (meter, before) = (Meter::start(&options.pids), trips.get());
    clients.run(options.duration, &mut heard)?;
    Ok(meter.stop(trips.get() - before))
}

/// Units are clients let in, from the TCP connection to the answer of the namespace (and to the
/// end of the upgrade). Nobody leaves meanwhile.
fn handshake(options: &Options, upgrading: bool) -> io::Result<Value> {
    let mut clients = Clients::new(options)?;
    let way = if upgrading {
        Step::PollOpen
    } else {
        Step::Open
    };
    clients.enter(options.connections / 10, way)?;
    let meter = Meter::start(&options.pids);
    clients.enter(options.connections, way)?;
    Ok(meter.stop(options.connections as u64))
}

/// Units are rounds: a POST with an event, and the GET beside it that brings the answer.
fn polling(options: &Options) -> io::Result<Value> {
    let mut clients = Clients::new(options)?;
    let mut pairs = Vec::new();
    for _ in 0..options.connections {
        // Up to the answer of the namespace, one by one.
        let index = clients.net.open(options.ports[0])?;
        clients.net.request(index, "", None)?;
        let open = answer_of(&mut clients.net)?;
        let sid = open
            .split("\"sid\":\"")
            .nth(1)
            .and_then(|it| it.split('"').next());
        let sid = format!("&sid={}", sid.unwrap_or_default());
        clients.net.request(index, &sid, Some("40"))?;
        answer_of(&mut clients.net)?;
        clients.net.request(index, &sid, None)?;
        answer_of(&mut clients.net)?;
        let beside = clients.net.open(options.ports[0])?;
        pairs.push((index, beside, sid));
    }
    let event = format!("42[\"echo_emit\",{DATA}]");
    for (poll, post, sid) in &pairs {
        clients.net.request(*poll, sid, None)?;
        clients.net.request(*post, sid, Some(&event))?;
    }
    let rounds = Cell::new(0);
    let mut half = vec![false; pairs.len()];
    let mut heard = |answers: &mut Vec<(usize, Say)>, index: usize, _: &[u8]| {
        // Connections were opened in pairs.
        let (poll, post, sid) = &pairs[index / 2];
        if !std::mem::replace(&mut half[index / 2], true) {
            return;
        }
        half[index / 2] = false;
        rounds.set(rounds.get() + 1);
        answers.push((*poll, Say::Poll(sid.clone())));
        answers.push((*post, Say::Post(sid.clone(), event.clone())));
    };
    clients.run(options.warm_up, &mut heard)?;
    let (meter, before) = (Meter::start(&options.pids), rounds.get());
    clients.run(options.duration, &mut heard)?;
    Ok(meter.stop(rounds.get() - before))
}

fn answer_of(net: &mut Net) -> io::Result<String> {
    let mut body = None;
    while body.is_none() {
        net.turn(&mut |_, incoming| {
            if let Incoming::Body(bytes) = incoming {
                body = Some(String::from_utf8_lossy(bytes).into_owned());
            }
        })?;
    }
    Ok(body.unwrap_or_default())
}

/// Memory of the servers for each connection, and what they do while nothing happens.
fn idle(options: &Options) -> io::Result<Value> {
    thread::sleep(SETTLE);
    let before = pss_bytes(&options.pids);
    let mut clients = Clients::new(options)?;
    clients.enter(options.connections, Step::Open)?;
    thread::sleep(SETTLE);
    let after = pss_bytes(&options.pids);
    let mut answer = json!({
        "units": options.connections,
        "bytes": (after.saturating_sub(before)) as f64 / options.connections as f64,
    });
    if options.duration > SETTLE {
        // Long enough for everybody to be pinged at least once.
        let (cpu, began) = (cpu_ns(&options.pids), Instant::now());
        clients.run(options.duration, &mut |_, _, _| {})?;
        let spent = (cpu_ns(&options.pids) - cpu) as f64;
        answer["idle_cpu_percent"] = json!(100.0 * spent / began.elapsed().as_nanos() as f64);
    }
    Ok(answer)
}

/// Echo round trips, one every 5 ms, while a room of everybody is broadcast to without a pause.
fn starve(options: &Options) -> io::Result<Value> {
    let mut clients = Clients::new(options)?;
    clients.enter(options.connections, Step::Open)?;
    let port = options.ports[0];
    let seconds = options.duration;
    let prober = thread::spawn(move || probe(port, seconds));
    let event = format!("42[\"bcast\",{DATA}]");
    clients.net.send(0, &event)?;
    let (mut delivered, receivers) = (0, options.connections as u64);
    let mut heard = |answers: &mut Vec<(usize, Say)>, _: usize, text: &[u8]| {
        delivered += u64::from(text.starts_with(b"42"));
        if delivered >= receivers {
            delivered = 0;
            answers.push((0, Say::Text(event.clone())));
        }
    };
    let mut broadcasts = 0;
    clients.run(seconds + options.warm_up, &mut |answers, index, text| {
        heard(answers, index, text);
        broadcasts += u64::from(!answers.is_empty());
    })?;
    let mut latencies = prober
        .join()
        .map_err(|_| io::Error::other("the prober failed"))??;
    latencies.sort_unstable();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize] as f64 / 1e6;
    Ok(json!({
        "units": latencies.len(),
        "broadcasts": broadcasts,
        "p50_ms": at(0.5),
        "p99_ms": at(0.99),
        "max_ms": at(1.0),
    }))
}

/// Nanoseconds of each round trip, from when it was due.
fn probe(port: u16, duration: Duration) -> io::Result<Vec<u64>> {
    let mut net = Net::new()?;
    let index = net.open(port)?;
    net.upgrade(index, "")?;
    let until = |net: &mut Net, prefix: &[u8]| -> io::Result<()> {
        let mut found = false;
        while !found {
            net.turn(&mut |_, incoming| {
                found |= matches!(incoming, Incoming::Text(text) if text.starts_with(prefix));
            })?;
        }
        Ok(())
    };
    until(&mut net, b"0")?;
    net.send(index, "40")?;
    until(&mut net, b"40")?;
    let (event, step) = (format!("421[\"echo\",{DATA}]"), Duration::from_millis(5));
    let began = Instant::now();
    let mut due = began;
    let mut latencies = Vec::new();
    while began.elapsed() < duration {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        net.send(index, &event)?;
        until(&mut net, b"431[")?;
        latencies.push(due.elapsed().as_nanos() as u64);
        due += step;
    }
    Ok(latencies)
}

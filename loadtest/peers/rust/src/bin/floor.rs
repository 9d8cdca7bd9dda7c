//! The floor: what the work costs when nothing is done but system calls and the protocol's bytes.
//!
//! One thread, one epoll loop, no timers, no JSON, no limits, no rooms but "everybody". Of a
//! broadcast one frame is prepared and written to each connection. `COALESCE=1` queues the frames
//! of one turn of the loop and writes them together. It trusts its generator: never use it.

use std::collections::HashMap;
use std::env;
use std::io::{self, IoSlice, Read, Write};
use std::rc::Rc;

use base64::Engine as _;
use mio::event::Source;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use sha1::{Digest, Sha1};

const LISTENER: Token = Token(usize::MAX);
const OPEN: &str = "\"upgrades\":[\"websocket\"],\"pingInterval\":25000,\"pingTimeout\":20000,\"maxPayload\":1000000}";

type Frame = Rc<[u8]>;

struct Connection {
    stream: TcpStream,
    websocket: bool,
    /// The session of a WebSocket; polling requests name theirs.
    session: usize,
    queue: Vec<Frame>,
}

/// A polling session.
#[derive(Default)]
struct Polling {
    waiting: Vec<String>,
    parked: Option<usize>,
    /// From then on no poll waits.
    probed: bool,
}

struct Floor {
    poll: Poll,
    connections: Vec<Option<Connection>>,
    polling: HashMap<usize, Polling>,
    sessions: usize,
    members: Vec<usize>,
    dirty: Vec<usize>,
    coalesce: bool,
}

fn main() -> io::Result<()> {
    let port: u16 = env::var("PORT").map_or(3000, |port| port.parse().expect("a port"));
    let mut listener = TcpListener::bind(([0, 0, 0, 0], port).into())?;
    let poll = Poll::new()?;
    listener.register(poll.registry(), LISTENER, Interest::READABLE)?;
    let mut floor = Floor {
        poll,
        connections: Vec::new(),
        polling: HashMap::new(),
        sessions: 0,
        members: Vec::new(),
        dirty: Vec::new(),
        coalesce: env::var("COALESCE").is_ok(),
    };
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        floor.poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                floor.accept(&listener)?;
            } else {
                floor.readable(event.token().0, &mut buffer);
            }
        }
        floor.write_dirty();
    }
}

impl Floor {
    fn accept(&mut self, listener: &TcpListener) -> io::Result<()> {
        while let Ok((mut stream, _)) = listener.accept() {
            stream.set_nodelay(true)?;
            let token = Token(self.connections.len());
            stream.register(self.poll.registry(), token, Interest::READABLE)?;
            self.connections.push(Some(Connection {
                stream,
                websocket: false,
                session: 0,
                queue: Vec::new(),
            }));
        }
        Ok(())
    }

    fn readable(&mut self, index: usize, buffer: &mut [u8]) {
        let Some(connection) = &mut self.connections[index] else {
            return;
        };
        let len = match connection.stream.read(buffer) {
            Ok(0) => 0,
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => 0,
        };
        if len == 0 {
            self.connections[index] = None;
            self.members.retain(|member| *member != index);
        } else if connection.websocket {
            self.frames(index, &mut buffer[..len]);
        } else {
            self.requests(index, &buffer[..len]);
        }
    }

    fn frames(&mut self, index: usize, mut rest: &mut [u8]) {
        while rest.len() >= 6 {
            let (len, head) = match rest[1] & 0x7f {
                126 => (usize::from(u16::from_be_bytes([rest[2], rest[3]])), 4),
                len => (usize::from(len), 2),
            };
            let (frame, next) = rest.split_at_mut(head + 4 + len);
            let (head, payload) = frame.split_at_mut(head + 4);
            let mask = &head[head.len() - 4..];
            for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
                *byte ^= mask;
            }
            let session = self.connections[index].as_ref().map_or(0, |it| it.session);
            match &*payload {
                b"2probe" => {
                    self.send(index, &frame_of("3probe"));
                    self.polling.entry(session).or_default().probed = true;
                    self.answer_poll(session, None);
                }
                b"5" => self.members.push(index),
                payload => {
                    let text = String::from_utf8_lossy(payload);
                    if text == "40" {
                        self.members.push(index);
                    }
                    if let Some(answer) = self.packet(&text, session) {
                        self.send(index, &frame_of(&answer));
                    }
                }
            }
            rest = next;
        }
    }

    /// Serves a packet; returns its answer.
    fn packet(&mut self, text: &str, session: usize) -> Option<String> {
        if text == "40" {
            return Some(format!("40{{\"sid\":\"{session:020}\"}}"));
        }
        if let Some(payload) = text.strip_prefix("42[\"bcast\",") {
            let frame = frame_of(&format!("42[\"msg\",{payload}"));
            for at in 0..self.members.len() {
                self.send(self.members[at], &frame);
            }
        } else if let Some(payload) = text.strip_prefix("42[\"echo_emit\",") {
            return Some(format!("42[\"echo\",{payload}"));
        } else if let Some((id, payload)) = text.strip_prefix("42")?.split_once("[\"echo\",") {
            return Some(format!("43{id}[{payload}"));
        }
        None
    }

    fn requests(&mut self, index: usize, mut bytes: &[u8]) {
        // Requests of this generator arrive whole.
        while let Some(end) = bytes.windows(4).position(|it| it == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let len = header(&head, "content-length").map_or(0, |len| len.parse().unwrap_or(0));
            let body = String::from_utf8_lossy(&bytes[end + 4..end + 4 + len]).into_owned();
            bytes = &bytes[end + 4 + len..];
            let sid = head
                .split_once("&sid=")
                .and_then(|(_, rest)| rest.get(..20));
            let sid = sid.and_then(|sid| sid.parse::<usize>().ok());
            match (header(&head, "sec-websocket-key"), sid) {
                (Some(key), sid) => self.upgrade(index, key, sid),
                (None, None) => {
                    self.sessions += 1;
                    let open = format!("0{{\"sid\":\"{:020}\",{OPEN}", self.sessions);
                    self.send(index, &response(&open));
                }
                (None, Some(sid)) if head.starts_with("POST") => {
                    let answer = self.packet(&body, sid);
                    self.polling.entry(sid).or_default().waiting.extend(answer);
                    self.send(index, &response("ok"));
                    self.answer_poll(sid, None);
                }
                (None, Some(sid)) => self.answer_poll(sid, Some(index)),
            }
        }
    }

    fn upgrade(&mut self, index: usize, key: &str, sid: Option<usize>) {
        let accept = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
        let accept = base64::engine::general_purpose::STANDARD.encode(accept);
        let mut answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: {accept}\r\n\r\n"
        )
        .into_bytes();
        let session = sid.unwrap_or_else(|| {
            self.sessions += 1;
            answer.extend(&*frame_of(&format!(
                "0{{\"sid\":\"{:020}\",{OPEN}",
                self.sessions
            )));
            self.sessions
        });
        if let Some(connection) = &mut self.connections[index] {
            connection.websocket = true;
            connection.session = session;
        }
        self.send(index, &answer.into());
    }

    fn answer_poll(&mut self, sid: usize, parked: Option<usize>) {
        let polling = self.polling.entry(sid).or_default();
        polling.parked = parked.or(polling.parked);
        if polling.waiting.is_empty() && polling.probed {
            polling.waiting.push("6".to_owned());
        }
        if !polling.waiting.is_empty()
            && let Some(index) = polling.parked.take()
        {
            let body = std::mem::take(&mut polling.waiting).join("\u{1e}");
            self.send(index, &response(&body));
        }
    }

    fn send(&mut self, index: usize, frame: &Frame) {
        let Some(connection) = &mut self.connections[index] else {
            return;
        };
        if self.coalesce {
            if connection.queue.is_empty() {
                self.dirty.push(index);
            }
            connection.queue.push(Rc::clone(frame));
        } else {
            write_whole(&mut connection.stream, &[IoSlice::new(frame)]);
        }
    }

    fn write_dirty(&mut self) {
        for index in std::mem::take(&mut self.dirty) {
            let Some(connection) = &mut self.connections[index] else {
                continue;
            };
            for frames in connection.queue.chunks(64) {
                let slices: Vec<_> = frames.iter().map(|frame| IoSlice::new(frame)).collect();
                write_whole(&mut connection.stream, &slices);
            }
            connection.queue.clear();
        }
    }
}

/// The generator reads fast enough for socket buffers never to fill up.
fn write_whole(stream: &mut TcpStream, slices: &[IoSlice<'_>]) {
    let len: usize = slices.iter().map(|slice| slice.len()).sum();
    match stream.write_vectored(slices) {
        Ok(written) => assert_eq!(written, len, "a socket buffer is full"),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            panic!("a socket buffer is full")
        }
        Err(_) => {}
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(": ")?;
        key.eq_ignore_ascii_case(name).then_some(value)
    })
}

fn frame_of(text: &str) -> Frame {
    let mut frame = vec![0x81];
    match u8::try_from(text.len()) {
        Ok(len) if len < 126 => frame.push(len),
        _ => {
            frame.push(126);
            frame.extend(
                u16::try_from(text.len())
                    .expect("a short frame")
                    .to_be_bytes(),
            );
        }
    }
    frame.extend(text.as_bytes());
    frame.into()
}

fn response(body: &str) -> Frame {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=UTF-8\r\ncache-control: no-store\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
    .into()
}

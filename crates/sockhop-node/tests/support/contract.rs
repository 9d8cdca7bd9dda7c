//! The `contract` example as processes of a cluster, and the least Socket.IO client for it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::{PATIENCE, get, until};

/// The example. `cargo test` builds it, unless it is told to run some tests only.
fn program() -> PathBuf {
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_sockhop"));
    let program = binary.parent().unwrap().join("examples/contract");
    let hint = "cargo build -p sockhop-node --example contract";
    assert!(program.exists(), "{} is missing: {hint}", program.display());
    program
}

/// One node.
pub(crate) struct Contract {
    pub(crate) process: Child,
    pub(crate) address: SocketAddr,
}

impl Contract {
    pub(crate) fn start(redis_url: &str, id: usize) -> Self {
        Self::await_listening(Self::spawn(redis_url, id))
    }

    fn spawn(redis_url: &str, id: usize) -> Child {
        Command::new(program())
            .env("PORT", "0")
            .env("REDIS_URL", redis_url)
            .env("NODE_ID", format!("n{id}"))
            // The tests do not answer pings.
            .env("PING_INTERVAL", "60000")
            .env("CONNECT_TIMEOUT", "20000")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn await_listening(mut process: Child) -> Self {
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = lines.find_map(|line| {
            let line = line.unwrap();
            let (_, address) = line.split_once("listening on http://")?;
            Some(address.trim().parse().unwrap())
        });
        // What it logs later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            process,
            address: address.expect("the node says where it listens"),
        }
    }

    /// So many nodes that know each other.
    pub(crate) fn cluster<const N: usize>(redis_url: &str) -> [Self; N] {
        let mut id = 0;
        let nodes = [(); N].map(|()| {
            id += 1;
            Self::spawn(redis_url, id)
        });
        let nodes = nodes.map(Self::await_listening);
        for node in &nodes {
            until("the nodes to know each other", || {
                node.metric("sockhop_node_members") == Some(N as f64) && node.is_ready()
            });
        }
        nodes
    }

    pub(crate) fn is_ready(&self) -> bool {
        get(self.address, "/readyz", "").0 == 200
    }

    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let (_, _, metrics) = get(self.address, "/metrics", "");
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.map(|value| value.trim().parse().unwrap())
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// A polling request: the body of the answer, and its status.
    pub(crate) fn poll(&self, target: &str) -> (u16, String) {
        let (status, _, body) = get(self.address, target, "");
        (status, body)
    }

    pub(crate) fn post(&self, target: &str, body: &str) -> (u16, String) {
        post(self.address, target, body)
    }
}

/// Status and body of the answer to a POST.
pub(crate) fn post(address: SocketAddr, target: &str, body: &str) -> (u16, String) {
    let mut stream = open(address);
    let length = body.len();
    let request = format!(
        "POST {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

impl Drop for Contract {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn open(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// A WebSocket of text frames, which are short when they are sent.
pub(crate) struct WebSocket(TcpStream);

impl WebSocket {
    pub(crate) fn open(address: SocketAddr, target: &str) -> Self {
        let mut stream = open(address);
        let head = format!(
            "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
        Self(stream)
    }

    /// A client of protocol 4 that is in the namespace `/`; its id, too.
    pub(crate) fn connect(node: &Contract) -> (Self, String) {
        let mut socket = Self::open(node.address, "/socket.io/?EIO=4&transport=websocket");
        assert!(socket.hear().starts_with("0{"));
        socket.say("40");
        let connected = socket.hear();
        let (_, id) = connected.split_once("\"sid\":\"").expect("an id");
        let id = id[..20].to_owned();
        assert_eq!(socket.hear(), "42[\"auth\",{}]");
        (socket, id)
    }

    pub(crate) fn say(&mut self, text: &str) {
        // Masked with zeros.
        let mut frame = vec![0x81];
        match u8::try_from(text.len()) {
            Ok(length) if length < 126 => frame.push(0x80 | length),
            _ => {
                frame.push(0x80 | 126);
                frame.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(text.as_bytes());
        self.0.write_all(&frame).unwrap();
    }

    /// The next text frame; `None` when the connection ends.
    pub(crate) fn next(&mut self) -> Option<String> {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).ok()?;
        if head[0] == 0x88 {
            return None;
        }
        assert_eq!(head[0], 0x81, "a whole text frame");
        let length = match head[1] {
            126 => {
                let mut length = [0; 2];
                self.0.read_exact(&mut length).ok()?;
                u16::from_be_bytes(length).into()
            }
            short => usize::from(short),
        };
        let mut text = vec![0; length];
        self.0.read_exact(&mut text).ok()?;
        Some(String::from_utf8(text).unwrap())
    }

    pub(crate) fn hear(&mut self) -> String {
        self.next().expect("a frame")
    }

    /// The next frame that contains all of `parts`; those before it are of no interest.
    pub(crate) fn hear_of(&mut self, parts: &[&str]) -> String {
        loop {
            let frame = self.hear();
            if parts.iter().all(|part| frame.contains(part)) {
                return frame;
            }
        }
    }

    /// Sends an event with an acknowledgement, and waits for it. Events come before it only if they
    /// are expected.
    pub(crate) fn call(&mut self, event: &str) -> String {
        self.say(&format!("421[{event}]"));
        let answer = self.hear();
        let answer = answer.strip_prefix("431");
        answer.expect("an acknowledgement").to_owned()
    }

    /// Nothing has come before the answer to a question.
    pub(crate) fn settle(&mut self) {
        assert_eq!(self.call("\"message-with-ack\",7"), "[7]");
    }
}

//! A peer that may do anything: raw HTTP and WebSocket bytes over a plain connection.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::SockRef;

/// How a conversation failed.
pub(crate) type Fault = String;

/// A connection, and what was read from it and not looked at yet.
pub(crate) struct Peer {
    stream: TcpStream,
    unread: Vec<u8>,
    ended: bool,
    /// Pings of Engine.IO that were answered.
    pub(crate) pings: usize,
}

/// An answer to a request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Lines in lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// The code of the JSON body of an error.
    pub(crate) fn code(&self) -> Option<u64> {
        let body: serde_json::Value = serde_json::from_str(&self.body).ok()?;
        body.get("code")?.as_u64()
    }

    /// The session id in an open packet.
    pub(crate) fn sid(&self) -> Option<String> {
        sid_in(&self.body)
    }
}

/// The session id that an open packet names.
pub(crate) fn sid_in(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("\"sid\":\"")?;
    Some(rest.split('"').next()?.to_owned())
}

/// What arrived on a WebSocket.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrived {
    Text(String),
    Binary(Vec<u8>),
    Pong,
    /// A close frame with its status, if it had one.
    Close(Option<u16>),
    /// The connection ended without a close frame.
    End,
}

/// A frame as a client would write it, or as it would not.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// FIN, RSV bits and opcode.
    pub(crate) first: u8,
    pub(crate) masked: bool,
    /// What the header claims; the payload's own length when absent.
    pub(crate) declared: Option<u64>,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn text(payload: &str) -> Self {
        Self {
            first: 0x81,
            masked: true,
            declared: None,
            payload: payload.as_bytes().to_vec(),
        }
    }

    pub(crate) fn binary(payload: Vec<u8>) -> Self {
        Self {
            first: 0x82,
            masked: true,
            declared: None,
            payload,
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let len = self.declared.unwrap_or(self.payload.len() as u64);
        let mask = if self.masked { 0x80 } else { 0 };
        let mut bytes = vec![self.first];
        match (u8::try_from(len), u16::try_from(len)) {
            (Ok(short @ ..=125), _) => bytes.push(mask | short),
            (_, Ok(medium)) => {
                bytes.push(mask | 126);
                bytes.extend_from_slice(&medium.to_be_bytes());
            }
            _ => {
                bytes.push(mask | 127);
                bytes.extend_from_slice(&len.to_be_bytes());
            }
        }
        if self.masked {
            let key = [0x12, 0x34, 0x56, 0x78];
            bytes.extend_from_slice(&key);
            let payload = self.payload.iter().zip(key.iter().cycle());
            bytes.extend(payload.map(|(byte, key)| byte ^ key));
        } else {
            bytes.extend_from_slice(&self.payload);
        }
        bytes
    }
}

impl Peer {
    pub(crate) fn connect(address: SocketAddr) -> Result<Self, Fault> {
        let stream = TcpStream::connect(address).map_err(|error| format!("connect: {error}"))?;
        stream
            .set_nodelay(true)
            .map_err(|error| error.to_string())?;
        Ok(Self {
            stream,
            unread: Vec::new(),
            ended: false,
            pings: 0,
        })
    }

    /// Writes; a peer that was cut off is no fault, it shows in what is read.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.set_write_timeout(Some(Duration::from_secs(5)));
        let _ = self.stream.write_all(bytes);
    }

    /// Writes as long as the other end takes it; how much that was.
    pub(crate) fn write_until_stuck(&mut self, bytes: &[u8], patience: Duration) -> usize {
        let _ = self.stream.set_write_timeout(Some(patience));
        let mut written = 0;
        while written < bytes.len() {
            match self.stream.write(&bytes[written..]) {
                Ok(0) | Err(_) => break,
                Ok(len) => written += len,
            }
        }
        written
    }

    pub(crate) fn half_close(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Ends the connection with a RST.
    pub(crate) fn reset(self) {
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// Reads once; false when there will be nothing more.
    fn fill(&mut self, deadline: Instant) -> Result<bool, Fault> {
        if self.ended {
            return Ok(false);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err("no answer within the deadline".to_owned());
        }
        let _ = self.stream.set_read_timeout(Some(left));
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => self.ended = true,
            Ok(len) => self.unread.extend_from_slice(&chunk[..len]),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) =>
            {
                return Err("no answer within the deadline".to_owned());
            }
            // A reset is an end too.
            Err(_) => self.ended = true,
        }
        Ok(!self.ended)
    }

    /// Whether the connection ends within the deadline, whatever else arrives.
    pub(crate) fn ends(&mut self, deadline: Instant) -> Result<(), Fault> {
        while self.fill(deadline)? {
            self.unread.clear();
        }
        Ok(())
    }

    /// Reads one answer; its body by its declared length.
    pub(crate) fn answer(&mut self, deadline: Instant) -> Result<Answer, Fault> {
        let mut answer = self.answer_head(deadline)?;
        let len = answer
            .head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        while self.unread.len() < len {
            if !self.fill(deadline)? {
                return Err("the connection ended within a body".to_owned());
            }
        }
        let body: Vec<u8> = self.unread.drain(..len).collect();
        answer.body = String::from_utf8_lossy(&body).into_owned();
        Ok(answer)
    }

    /// Reads an answer without a body.
    pub(crate) fn answer_head(&mut self, deadline: Instant) -> Result<Answer, Fault> {
        let end = loop {
            if let Some(at) = find(&self.unread, b"\r\n\r\n") {
                break at;
            }
            if !self.fill(deadline)? {
                let read = String::from_utf8_lossy(&self.unread).into_owned();
                return Err(format!("the connection ended before an answer: {read:?}"));
            }
        };
        let head = String::from_utf8_lossy(&self.unread[..end]).to_lowercase();
        self.unread.drain(..end + 4);
        let status = head.split(' ').nth(1).and_then(|text| text.parse().ok());
        let status = status.ok_or_else(|| format!("no status in {head:?}"))?;
        Ok(Answer {
            status,
            head,
            body: String::new(),
        })
    }

    /// The next frame that is not a ping of WebSocket or Engine.IO; those are answered.
    pub(crate) fn arrived(&mut self, deadline: Instant) -> Result<Arrived, Fault> {
        loop {
            let Some((opcode, payload)) = self.frame(deadline)? else {
                return Ok(Arrived::End);
            };
            if let Some(arrived) = self.meaning(opcode, payload)? {
                return Ok(arrived);
            }
        }
    }

    /// What has arrived by now, without waiting for more; pings are answered.
    pub(crate) fn arrived_by_now(&mut self) -> Result<Vec<Arrived>, Fault> {
        let mut chunk = [0; 16 * 1024];
        let _ = self.stream.set_nonblocking(true);
        while !self.ended {
            match self.stream.read(&mut chunk) {
                Ok(0) => self.ended = true,
                Ok(len) => self.unread.extend_from_slice(&chunk[..len]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => self.ended = true,
            }
        }
        let _ = self.stream.set_nonblocking(false);
        let mut all = Vec::new();
        while let Some((opcode, payload)) = self.whole_frame() {
            all.extend(self.meaning(opcode, payload)?);
        }
        if self.ended {
            all.push(Arrived::End);
        }
        Ok(all)
    }

    /// What a frame is for somebody who does not care for pings.
    fn meaning(&mut self, opcode: u8, payload: Vec<u8>) -> Result<Option<Arrived>, Fault> {
        Ok(Some(match opcode {
            1 => {
                let text = String::from_utf8_lossy(&payload).into_owned();
                if text == "2" {
                    self.pings += 1;
                    self.write(&Frame::text("3").bytes());
                    return Ok(None);
                }
                Arrived::Text(text)
            }
            2 => Arrived::Binary(payload),
            8 => {
                let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                Arrived::Close(code)
            }
            10 => Arrived::Pong,
            other => return Err(format!("the server sent a frame with opcode {other}")),
        }))
    }

    /// An unmasked frame of the server: opcode and payload.
    fn frame(&mut self, deadline: Instant) -> Result<Option<(u8, Vec<u8>)>, Fault> {
        loop {
            if let Some(frame) = self.whole_frame() {
                return Ok(Some(frame));
            }
            if !self.fill(deadline)? {
                return Ok(None);
            }
        }
    }

    /// The first frame that was read, once all of it was.
    fn whole_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let (opcode, start, len) = frame_head(&self.unread)?;
        let payload = self.unread.get(start..start + len)?.to_vec();
        self.unread.drain(..start + len);
        Some((opcode, payload))
    }
}

/// Opcode, where the payload begins, and how long it is.
fn frame_head(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    let (start, len) = match second & 0x7f {
        126 => (
            4,
            usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?)),
        ),
        127 => {
            let len = u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
            (10, usize::try_from(len).ok()?)
        }
        short => (2, usize::from(short)),
    };
    Some((first & 0x0f, start, len))
}

pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|part| part == needle)
}

/// The head of a request; `headers` are whole lines.
pub(crate) fn head(method: &str, target: &str, headers: &[String]) -> String {
    let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")
}

/// The headers with which a WebSocket begins.
pub(crate) fn upgrade_headers() -> Vec<String> {
    [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ]
    .map(str::to_owned)
    .to_vec()
}

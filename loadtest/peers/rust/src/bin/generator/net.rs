//! Connections of many clients on one epoll loop: HTTP until the 101 answer, then WebSocket.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use mio::event::Source;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

/// Longer than the 25 s between pings, so that idle clients are no error.
const PATIENCE: Duration = Duration::from_secs(30);

/// Connections to one address; more would run out of local ports.
const PER_ADDRESS: usize = 8000;

/// What browsers send with every request.
const BROWSER: &str = "Pragma: no-cache\r\nCache-Control: no-cache\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
    Chrome/140.0.0.0 Safari/537.36\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-US,en;q=0.9\r\n";

const MASK: [u8; 4] = [0x31, 0x7a, 0xc5, 0x0e];

/// What arrived on a connection.
#[derive(Debug)]
pub enum Incoming<'a> {
    /// The 101 answer.
    Upgraded,
    /// The body of another answer.
    Body(&'a [u8]),
    /// A text message.
    Text(&'a [u8]),
}

struct Connection {
    stream: TcpStream,
    host: SocketAddr,
    websocket: bool,
    /// The start of something that has not arrived as a whole.
    partial: Vec<u8>,
}

/// All connections of this process.
pub struct Net {
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    connections: Vec<Connection>,
    opened: usize,
}

impl Net {
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(4096),
            buffer: vec![0; 256 * 1024],
            connections: Vec::new(),
            opened: 0,
        })
    }

    /// Opens a connection; returns its number.
    pub fn open(&mut self, port: u16) -> io::Result<usize> {
        let last = u8::try_from(1 + (self.opened / PER_ADDRESS) % 200).unwrap_or(1);
        self.opened += 1;
        let host = SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), port));
        let stream = std::net::TcpStream::connect(host)?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let mut stream = TcpStream::from_std(stream);
        let index = self.connections.len();
        stream.register(self.poll.registry(), Token(index), Interest::READABLE)?;
        self.connections.push(Connection {
            stream,
            host,
            websocket: false,
            partial: Vec::new(),
        });
        Ok(index)
    }

    /// Asks for a WebSocket: `query` goes behind `transport=websocket`.
    pub fn upgrade(&mut self, index: usize, query: &str) -> io::Result<()> {
        let host = self.connections[index].host;
        self.write(
            index,
            format!(
                "GET /socket.io/?EIO=4&transport=websocket{query} HTTP/1.1\r\nHost: {host}\r\n\
                 Connection: Upgrade\r\n{BROWSER}Upgrade: websocket\r\nOrigin: http://{host}\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            .as_bytes(),
        )
    }

    /// Asks with GET, or with POST where there is a body: `query` goes behind `transport=polling`.
    pub fn request(&mut self, index: usize, query: &str, body: Option<&str>) -> io::Result<()> {
        let host = self.connections[index].host;
        let (method, rest) = match body {
            None => ("GET", "\r\n".to_owned()),
            Some(body) => (
                "POST",
                format!(
                    "Origin: http://{host}\r\nContent-Type: text/plain;charset=UTF-8\r\n\
                     Content-Length: {}\r\n\r\n{body}",
                    body.len()
                ),
            ),
        };
        self.write(
            index,
            format!(
                "{method} /socket.io/?EIO=4&transport=polling{query} HTTP/1.1\r\nHost: {host}\r\n\
                 Connection: keep-alive\r\nAccept: */*\r\n{BROWSER}{rest}"
            )
            .as_bytes(),
        )
    }

    /// Sends a text message.
    pub fn send(&mut self, index: usize, text: &str) -> io::Result<()> {
        let mut frame = vec![0x81];
        match u8::try_from(text.len()) {
            Ok(len) if len < 126 => frame.push(0x80 | len),
            _ => {
                frame.push(0x80 | 126);
                frame.extend(
                    u16::try_from(text.len())
                        .expect("a short message")
                        .to_be_bytes(),
                );
            }
        }
        frame.extend(MASK);
        frame.extend(
            text.bytes()
                .zip(MASK.iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
        self.write(index, &frame)
    }

    fn write(&mut self, index: usize, bytes: &[u8]) -> io::Result<()> {
        let written = self.connections[index].stream.write(bytes)?;
        if written < bytes.len() {
            return Err(io::Error::other("the socket's buffer is full"));
        }
        Ok(())
    }

    /// Waits for news and hands it out, with the number of its connection. Pings are answered.
    pub fn turn(&mut self, heard: &mut dyn FnMut(usize, Incoming<'_>)) -> io::Result<()> {
        self.poll.poll(&mut self.events, Some(PATIENCE))?;
        if self.events.is_empty() {
            return Err(io::Error::other("nothing arrived for 30 s"));
        }
        let mut pings = Vec::new();
        for event in &self.events {
            let index = event.token().0;
            let connection = &mut self.connections[index];
            loop {
                let len = match connection.stream.read(&mut self.buffer) {
                    Ok(0) => return Err(io::Error::other("the server closed a connection")),
                    Ok(len) => len,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                };
                connection.take(&self.buffer[..len], &mut |news| {
                    if matches!(news, Incoming::Text(b"2")) {
                        pings.push(index);
                    } else {
                        heard(index, news);
                    }
                })?;
                if len < self.buffer.len() {
                    break;
                }
            }
        }
        for index in pings {
            self.send(index, "3")?;
        }
        Ok(())
    }
}

impl Connection {
    fn take(&mut self, bytes: &[u8], heard: &mut dyn FnMut(Incoming<'_>)) -> io::Result<()> {
        let kept;
        let mut rest = bytes;
        if !self.partial.is_empty() {
            self.partial.extend(bytes);
            kept = std::mem::take(&mut self.partial);
            rest = &kept;
        }
        while !rest.is_empty() {
            let taken = if self.websocket {
                take_frame(rest, heard)?
            } else {
                take_answer(rest, heard, &mut self.websocket)?
            };
            if taken == 0 {
                self.partial = rest.to_vec();
                break;
            }
            rest = &rest[taken..];
        }
        Ok(())
    }
}

/// Bytes of the frame at the start, 0 if it is not whole.
fn take_frame(bytes: &[u8], heard: &mut dyn FnMut(Incoming<'_>)) -> io::Result<usize> {
    let (len, head) = match bytes {
        [_, 126, high, low, ..] => (usize::from(u16::from_be_bytes([*high, *low])), 4),
        [_, 126, ..] | [_] | [] => return Ok(0),
        [_, len, ..] if *len < 126 => (usize::from(*len), 2),
        _ => return Err(io::Error::other("a frame that is too long")),
    };
    let Some(payload) = bytes.get(head..head + len) else {
        return Ok(0);
    };
    match bytes[0] {
        0x81 => heard(Incoming::Text(payload)),
        0x89 | 0x8a => {}
        other => {
            return Err(io::Error::other(format!(
                "a frame with the opcode {other:x}"
            )));
        }
    }
    Ok(head + len)
}

/// Bytes of the answer at the start, 0 if it is not whole.
fn take_answer(
    bytes: &[u8],
    heard: &mut dyn FnMut(Incoming<'_>),
    websocket: &mut bool,
) -> io::Result<usize> {
    let Some(end) = bytes.windows(4).position(|it| it == b"\r\n\r\n") else {
        return Ok(0);
    };
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    if head.starts_with("http/1.1 101") {
        *websocket = true;
        heard(Incoming::Upgraded);
        return Ok(end + 4);
    }
    if !head.starts_with("http/1.1 200") {
        return Err(io::Error::other(head));
    }
    let body = &bytes[end + 4..];
    if head.contains("transfer-encoding: chunked") {
        let (body, len) = dechunk(body)?;
        if len > 0 {
            heard(Incoming::Body(&body));
            return Ok(end + 4 + len);
        }
        return Ok(0);
    }
    let len = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let len: usize = len
        .and_then(|len| len.parse().ok())
        .ok_or_else(|| io::Error::other("an answer without a length"))?;
    let Some(body) = body.get(..len) else {
        return Ok(0);
    };
    heard(Incoming::Body(body));
    Ok(end + 4 + len)
}

/// A chunked body and its length on the wire, which is 0 if it is not whole.
fn dechunk(mut rest: &[u8]) -> io::Result<(Vec<u8>, usize)> {
    let (whole, mut body) = (rest.len(), Vec::new());
    while let Some(end) = rest.windows(2).position(|it| it == b"\r\n") {
        let len = std::str::from_utf8(&rest[..end]).map_err(io::Error::other)?;
        let len = usize::from_str_radix(len, 16).map_err(io::Error::other)?;
        let Some(chunk) = rest.get(end + 2..end + 4 + len) else {
            break;
        };
        body.extend(&chunk[..len]);
        rest = &rest[end + 4 + len..];
        if len == 0 {
            return Ok((body, whole - rest.len()));
        }
    }
    Ok((Vec::new(), 0))
}

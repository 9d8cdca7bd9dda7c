//! Just enough HTTP/1.1 for polling and for asking for a WebSocket.

use std::fmt::Write as _;

use crate::error::Fault;
use crate::stream::Stream;

/// Longest head of an answer.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Longest body of an answer.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;

/// What every request of one connection says.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// `host:port`.
    pub authority: &'a str,
    /// The cookies to send, empty for none.
    pub cookies: &'a str,
    /// Further header lines, each with its line end.
    pub extra: &'a str,
}

impl Head<'_> {
    /// The request line and the headers, without the empty line.
    #[must_use]
    pub fn request(&self, method: &str, path: &str) -> String {
        let mut text = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{}",
            self.authority, self.extra
        );
        if !self.cookies.is_empty() {
            let _ = write!(text, "Cookie: {}\r\n", self.cookies);
        }
        text
    }
}

/// The head of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The cookies set, as `name=value`.
    pub cookies: Vec<String>,
    /// `Content-Length`.
    length: Option<usize>,
    /// `Transfer-Encoding: chunked`.
    chunked: bool,
    /// `Connection: close`.
    pub closes: bool,
}

/// Reads up to the empty line; what follows stays in `rest`.
///
/// # Errors
/// What the connection says, or [`Fault::Protocol`].
pub async fn read_head(stream: &mut Stream, rest: &mut Vec<u8>) -> Result<Answer, Fault> {
    loop {
        if let Some(at) = rest.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&rest[..at]).into_owned();
            rest.drain(..at + 4);
            return parse_head(&head);
        }
        if rest.len() > MAX_HEAD_BYTES {
            return Err(Fault::Protocol("endless HTTP head"));
        }
        stream.read_more(rest).await?;
    }
}

fn parse_head(head: &str) -> Result<Answer, Fault> {
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
    let mut answer = Answer {
        status: status.ok_or(Fault::Protocol("no HTTP status"))?,
        ..Answer::default()
    };
    for line in lines {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => answer.length = value.parse().ok(),
            "transfer-encoding" => answer.chunked = value.eq_ignore_ascii_case("chunked"),
            "connection" => answer.closes = value.eq_ignore_ascii_case("close"),
            "set-cookie" => {
                let pair = value.split(';').next().unwrap_or_default();
                answer.cookies.push(pair.trim().to_owned());
            }
            _ => {}
        }
    }
    Ok(answer)
}

/// Sends one request and reads its whole answer.
///
/// # Errors
/// What the connection says, or [`Fault::Protocol`].
pub async fn exchange(stream: &mut Stream, request: Vec<u8>) -> Result<(Answer, Vec<u8>), Fault> {
    stream.write_all(request).await?;
    let mut rest = Vec::new();
    let answer = read_head(stream, &mut rest).await?;
    let body = if answer.chunked {
        read_chunks(stream, &mut rest).await?
    } else {
        let length = answer.length.unwrap_or(0);
        if length > MAX_BODY_BYTES {
            return Err(Fault::Protocol("HTTP body too long"));
        }
        while rest.len() < length {
            stream.read_more(&mut rest).await?;
        }
        rest.truncate(length);
        rest
    };
    Ok((answer, body))
}

async fn read_chunks(stream: &mut Stream, rest: &mut Vec<u8>) -> Result<Vec<u8>, Fault> {
    let mut body = Vec::new();
    loop {
        let Some(at) = rest.windows(2).position(|two| two == b"\r\n") else {
            stream.read_more(rest).await?;
            continue;
        };
        let line = String::from_utf8_lossy(&rest[..at]);
        let digits = line.split(';').next().unwrap_or_default().trim();
        let len = usize::from_str_radix(digits, 16).map_err(|_| Fault::Protocol("bad chunk"))?;
        if len > MAX_BODY_BYTES - body.len() {
            return Err(Fault::Protocol("HTTP body too long"));
        }
        while rest.len() < at + 2 + len + 2 {
            stream.read_more(rest).await?;
        }
        body.extend_from_slice(&rest[at + 2..at + 2 + len]);
        rest.drain(..at + 2 + len + 2);
        if len == 0 {
            return Ok(body);
        }
    }
}

//! The client's half of RFC 6455, as little of it as a load test needs.

use base64::Engine as _;

use crate::error::Fault;
use crate::http;
use crate::stream::Stream;

/// Largest message that is accepted.
const MAX_FRAME_BYTES: u64 = 64 * 1024 * 1024;

/// Text, binary, close, ping and pong.
pub const TEXT: u8 = 1;
/// See [`TEXT`].
pub const BINARY: u8 = 2;
/// See [`TEXT`].
pub const CLOSE: u8 = 8;
/// See [`TEXT`].
pub const PING: u8 = 9;
/// See [`TEXT`].
pub const PONG: u8 = 10;

/// Appends one masked frame.
pub fn push_frame(out: &mut Vec<u8>, opcode: u8, parts: &[&[u8]], mask: [u8; 4]) {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    out.reserve(len + 14);
    out.push(0x80 | opcode);
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len), _) if len < 126 => out.push(0x80 | len),
        (_, Ok(len)) => {
            out.push(0x80 | 126);
            out.extend_from_slice(&len.to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    let start = out.len();
    for part in parts {
        out.extend_from_slice(part);
    }
    let body = &mut out[start..];
    let mut blocks = body.chunks_exact_mut(4);
    for block in &mut blocks {
        for (byte, key) in block.iter_mut().zip(mask) {
            *byte ^= key;
        }
    }
    for (byte, key) in blocks.into_remainder().iter_mut().zip(mask) {
        *byte ^= key;
    }
}

/// One frame of the server: opcode, whether it is the last of its message, and its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it is; 0 continues a message.
    pub opcode: u8,
    /// Whether the message ends with it.
    pub last: bool,
    /// The content.
    pub content: &'a [u8],
}

/// The first frame in `bytes` and how many bytes it takes; none if it is not complete.
///
/// # Errors
/// [`Fault::Protocol`] for a masked, compressed or absurdly long frame.
pub fn parse_frame(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, Fault> {
    let [first, second, ..] = *bytes else {
        return Ok(None);
    };
    if first & 0x70 != 0 || second & 0x80 != 0 {
        return Err(Fault::Protocol("frame with reserved bits or a mask"));
    }
    let (len, head) = match second {
        126 => match bytes.get(2..4) {
            Some(len) => (u64::from(u16::from_be_bytes([len[0], len[1]])), 4),
            None => return Ok(None),
        },
        127 => match bytes.get(2..10).and_then(|len| len.try_into().ok()) {
            Some(len) => (u64::from_be_bytes(len), 10),
            None => return Ok(None),
        },
        len => (u64::from(len), 2),
    };
    if len > MAX_FRAME_BYTES {
        return Err(Fault::Protocol("frame too long"));
    }
    let end = head + usize::try_from(len).expect("below the limit");
    let frame = bytes.get(head..end).map(|content| Frame {
        opcode: first & 0x0f,
        last: first & 0x80 != 0,
        content,
    });
    Ok(frame.map(|frame| (frame, end)))
}

/// Asks for the WebSocket; what the server already sent behind its answer is in `rest`.
///
/// # Errors
/// [`Fault::Status`] if the answer is not 101, and what the connection says.
pub async fn upgrade(
    stream: &mut Stream,
    head: &http::Head<'_>,
    path: &str,
    rest: &mut Vec<u8>,
) -> Result<(), Fault> {
    let mut key = [0; 16];
    getrandom::fill(&mut key).expect("the system has randomness");
    let key = base64::engine::general_purpose::STANDARD.encode(key);
    let mut request = head.request("GET", path);
    request.push_str("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n");
    request.push_str("Sec-WebSocket-Key: ");
    request.push_str(&key);
    request.push_str("\r\n\r\n");
    stream.write_all(request.into_bytes()).await?;
    let answer = http::read_head(stream, rest).await?;
    if answer.status == 101 {
        Ok(())
    } else {
        Err(Fault::Status(answer.status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masked_frame_unmasks_to_its_parts() {
        for len in [0, 5, 125, 126, 65_535, 65_536] {
            let body = vec![b'a'; len];
            let mut out = Vec::new();
            push_frame(&mut out, TEXT, &[b"4", &body], [1, 2, 3, 4]);
            let head = out.len() - len - 1;
            let plain: Vec<u8> = out[head..]
                .iter()
                .zip([1, 2, 3, 4].iter().cycle())
                .map(|(byte, key)| byte ^ key)
                .collect();
            assert_eq!(plain[0], b'4');
            assert_eq!(&plain[1..], &body[..]);
        }
    }

    #[test]
    fn a_frame_is_read_once_it_is_complete() {
        let bytes = [0x81, 3, b'4', b'2', b'x', 0x89, 0];
        for cut in 0..5 {
            assert_eq!(parse_frame(&bytes[..cut]), Ok(None));
        }
        let (frame, used) = parse_frame(&bytes).unwrap().unwrap();
        assert_eq!((frame.opcode, frame.content, used), (TEXT, &b"42x"[..], 5));
        let (frame, _) = parse_frame(&bytes[used..]).unwrap().unwrap();
        assert_eq!(frame.opcode, PING);
    }
}

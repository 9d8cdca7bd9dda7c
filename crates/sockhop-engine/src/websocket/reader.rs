//! Bytes from a client in, whole WebSocket messages out (RFC 6455, section 5).
//!
//! A frame that arrives in one piece is copied once, out of the shared read buffer; an idle
//! connection holds no buffer at all.

use std::io::Cursor;

use bytes::{Bytes, BytesMut};
use engineio_proto::{Message, Text};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// What a client may make this end hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadLimits {
    /// Bytes of one message, over all its fragments.
    pub(crate) max_message_bytes: usize,
    /// Frames of one message, empty ones included.
    pub(crate) max_fragments: usize,
}

/// One thing that a client said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    Message(Message),
    Ping(Bytes),
    Pong,
    Close,
}

/// Why a connection cannot be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadError {
    /// A rule of the WebSocket protocol was broken.
    Protocol,
    /// A text message that is not UTF-8.
    Encoding,
    /// A message over the limit in bytes or in fragments.
    TooLarge,
}

impl ReadError {
    /// The close code that tells the client so (RFC 6455, section 7.4.1).
    pub(crate) fn close_code(self) -> u16 {
        match self {
            Self::Protocol => 1002,
            Self::Encoding => 1007,
            Self::TooLarge => 1009,
        }
    }
}

/// Longest header of a client's frame: 2 + 8 bytes of length + 4 of mask.
const MAX_HEADER_BYTES: usize = 14;

/// Bytes reserved ahead for a frame that has not arrived: never what the frame merely declares.
const MAX_RESERVE_BYTES: usize = 64 * 1024;

/// ```text
///            header complete                payload complete, control or FIN
///  Header ───────────────────▶ Payload ───────────────────────────────────▶ Header + message out
///    ▲                            │ payload complete, no FIN
///    └────────────────────────────┘ (kept in `fragments`)
/// ```
#[derive(Debug, Default)]
pub(crate) struct FrameReader {
    state: State,
    /// The data message whose final frame is still to come.
    fragments: Option<Box<Fragments>>,
}

#[derive(Debug)]
enum State {
    Header {
        bytes: [u8; MAX_HEADER_BYTES],
        len: u8,
    },
    Payload(Box<Payload>),
}

impl Default for State {
    fn default() -> Self {
        Self::Header {
            bytes: [0; MAX_HEADER_BYTES],
            len: 0,
        }
    }
}

/// A frame whose payload did not arrive in one piece with its header.
#[derive(Debug)]
struct Payload {
    header: Header,
    data: BytesMut,
}

#[derive(Debug)]
struct Fragments {
    text: bool,
    count: usize,
    data: BytesMut,
}

#[derive(Clone, Copy, Debug)]
struct Header {
    opcode: OpCode,
    fin: bool,
    mask: [u8; 4],
    len: usize,
}

impl FrameReader {
    /// Consumes `chunk` up to the end of the next message, or all of it.
    ///
    /// # Errors
    /// When the connection cannot be read any further.
    pub(crate) fn read(
        &mut self,
        chunk: &mut &[u8],
        limits: ReadLimits,
    ) -> Result<Option<Incoming>, ReadError> {
        loop {
            match &mut self.state {
                State::Header { .. } => {
                    let Some(header) = self.read_header(chunk, limits)? else {
                        return Ok(None);
                    };
                    if let Some((whole, rest)) = chunk.split_at_checked(header.len) {
                        *chunk = rest;
                        if let Some(done) = self.finish(header, BytesMut::from(whole))? {
                            return Ok(Some(done));
                        }
                    } else {
                        let data = BytesMut::with_capacity(header.len.min(MAX_RESERVE_BYTES));
                        self.state = State::Payload(Box::new(Payload { header, data }));
                    }
                }
                State::Payload(payload) => {
                    let missing = payload.header.len - payload.data.len();
                    let (part, rest) = chunk.split_at(missing.min(chunk.len()));
                    payload.data.extend_from_slice(part);
                    *chunk = rest;
                    if part.len() < missing {
                        return Ok(None);
                    }
                    let (header, data) = (payload.header, std::mem::take(&mut payload.data));
                    self.state = State::default();
                    if let Some(done) = self.finish(header, data)? {
                        return Ok(Some(done));
                    }
                }
            }
        }
    }

    /// Reads a header from what was kept of earlier chunks and this one.
    fn read_header(
        &mut self,
        chunk: &mut &[u8],
        limits: ReadLimits,
    ) -> Result<Option<Header>, ReadError> {
        let State::Header { bytes, len } = &mut self.state else {
            return Ok(None);
        };
        let kept = usize::from(*len);
        let parsed = if kept == 0 {
            parse_header(chunk)?
        } else {
            let added = chunk.len().min(MAX_HEADER_BYTES - kept);
            bytes[kept..kept + added].copy_from_slice(&chunk[..added]);
            parse_header(&bytes[..kept + added])?
        };
        let Some((header, header_len)) = parsed else {
            // The parser is satisfied by the longest header, so fewer bytes than that are here.
            let kept_now = (kept + chunk.len()).min(MAX_HEADER_BYTES);
            bytes[kept..kept_now].copy_from_slice(&chunk[..kept_now - kept]);
            *len = u8::try_from(kept_now).unwrap_or(0);
            *chunk = &[];
            return Ok(None);
        };
        *chunk = &chunk[header_len - kept..];
        *len = 0;
        self.check(header, limits)?;
        Ok(Some(header))
    }

    fn check(&self, header: Header, limits: ReadLimits) -> Result<(), ReadError> {
        match (header.opcode, &self.fragments) {
            (OpCode::Control(_), _) if !header.fin || header.len > 125 => Err(ReadError::Protocol),
            (OpCode::Control(_), _) => Ok(()),
            (OpCode::Data(Data::Continue), None)
            | (OpCode::Data(Data::Text | Data::Binary), Some(_))
            | (OpCode::Data(Data::Reserved(_)), _) => Err(ReadError::Protocol),
            (OpCode::Data(Data::Continue), Some(fragments)) => {
                let total = fragments.data.len().saturating_add(header.len);
                if total > limits.max_message_bytes || fragments.count >= limits.max_fragments {
                    return Err(ReadError::TooLarge);
                }
                Ok(())
            }
            (OpCode::Data(Data::Text | Data::Binary), None) => {
                if header.len > limits.max_message_bytes {
                    return Err(ReadError::TooLarge);
                }
                Ok(())
            }
        }
    }

    fn finish(
        &mut self,
        header: Header,
        mut data: BytesMut,
    ) -> Result<Option<Incoming>, ReadError> {
        unmask(&mut data, header.mask);
        match header.opcode {
            OpCode::Control(Control::Ping) => Ok(Some(Incoming::Ping(data.freeze()))),
            OpCode::Control(Control::Pong) => Ok(Some(Incoming::Pong)),
            OpCode::Control(Control::Close) if data.len() == 1 => Err(ReadError::Protocol),
            OpCode::Control(Control::Close) => Ok(Some(Incoming::Close)),
            OpCode::Control(Control::Reserved(_)) => Err(ReadError::Protocol),
            OpCode::Data(Data::Continue) => {
                let Some(fragments) = &mut self.fragments else {
                    return Err(ReadError::Protocol);
                };
                fragments.data.extend_from_slice(&data);
                fragments.count += 1;
                if !header.fin {
                    return Ok(None);
                }
                let text = fragments.text;
                let whole = std::mem::take(&mut fragments.data);
                self.fragments = None;
                message(text, whole).map(Some)
            }
            OpCode::Data(opcode) => {
                let text = opcode == Data::Text;
                if header.fin {
                    return message(text, data).map(Some);
                }
                self.fragments = Some(Box::new(Fragments {
                    text,
                    count: 1,
                    data,
                }));
                Ok(None)
            }
        }
    }
}

fn message(text: bool, data: BytesMut) -> Result<Incoming, ReadError> {
    let data = data.freeze();
    let message = if text {
        Message::Text(Text::from_utf8(data).map_err(|_| ReadError::Encoding)?)
    } else {
        Message::Binary(data)
    };
    Ok(Incoming::Message(message))
}

/// The header at the start of `bytes` and how long it is; `None` when it is not all there.
fn parse_header(bytes: &[u8]) -> Result<Option<(Header, usize)>, ReadError> {
    let mut cursor = Cursor::new(bytes);
    let Some((header, len)) = FrameHeader::parse(&mut cursor).map_err(|_| ReadError::Protocol)?
    else {
        return Ok(None);
    };
    // No extension is negotiated, and a client always masks.
    let Some(mask) = header
        .mask
        .filter(|_| !(header.rsv1 || header.rsv2 || header.rsv3))
    else {
        return Err(ReadError::Protocol);
    };
    let len = usize::try_from(len).map_err(|_| ReadError::TooLarge)?;
    let header_len = usize::try_from(cursor.position()).map_err(|_| ReadError::Protocol)?;
    Ok(Some((
        Header {
            opcode: header.opcode,
            fin: header.is_final,
            mask,
            len,
        },
        header_len,
    )))
}

/// XORs with the mask; in steps of sixteen, which the compiler turns into vector instructions.
fn unmask(data: &mut [u8], mask: [u8; 4]) {
    let wide: [u8; 16] = std::array::from_fn(|index| mask[index % 4]);
    let mut chunks = data.chunks_exact_mut(16);
    for chunk in &mut chunks {
        for (byte, mask) in chunk.iter_mut().zip(wide) {
            *byte ^= mask;
        }
    }
    for (byte, mask) in chunks.into_remainder().iter_mut().zip(wide) {
        *byte ^= mask;
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;

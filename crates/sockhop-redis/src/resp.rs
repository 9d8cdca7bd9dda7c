//! The protocol of Redis (RESP2), as bytes: what a server sends, and the commands for it.
//!
//! It is read by hand because a message costs a sixth of what a general client takes for it, and
//! because its payload stays where it was received: a [`Push`] holds ranges, not copies.
//! Sans-IO; no bytes from outside cause a panic, and every size has a limit.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

/// What is accepted from a server. Beyond it the connection is given up.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one string or array with everything in it. Default: 64 MiB, which is more than
    /// a server's default output limits let through.
    pub max_reply_bytes: usize,
    /// Bytes of one line: a status, an error or a number. Default: 64 KiB.
    pub max_line_bytes: usize,
    /// Elements of one array. Default: 1,048,576.
    pub max_items: usize,
    /// Arrays within arrays. Default: 8.
    pub max_depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_reply_bytes: 64 << 20,
            max_line_bytes: 64 << 10,
            max_items: 1 << 20,
            max_depth: 8,
        }
    }
}

/// Which rule the server broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RespError {
    /// No reply begins with this byte.
    #[error("no reply begins with byte {0:#04x}")]
    UnknownType(u8),
    /// A length or number is not one.
    #[error("malformed number")]
    MalformedNumber,
    /// A string does not end where it should.
    #[error("a string does not end with a line break")]
    MissingLineBreak,
    /// A size is over its limit.
    #[error("{what} over the limit of {limit}")]
    OverLimit {
        /// Which one.
        what: &'static str,
        /// Its limit.
        limit: usize,
    },
    /// A subscription connection brought something that is neither message nor confirmation.
    #[error("unexpected reply")]
    Unexpected,
}

/// What came of an attempt to read.
#[derive(Clone, Debug, PartialEq)]
pub enum Step<T> {
    /// One whole reply, and where the next one begins.
    Done(T, usize),
    /// It cannot be whole before this many bytes are there, counted from the start of the buffer.
    NeedMore(usize),
}

/// A reply with its own copy of everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A status line.
    Status(String),
    /// An error line: a code in capitals and a text.
    Error(String),
    /// A number.
    Int(i64),
    /// A string.
    Bulk(Bytes),
    /// No string or no array.
    Nil,
    /// Several replies.
    Array(Vec<Self>),
}

/// What a set of subscriptions is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A channel by name.
    Channel,
    /// All channels that fit a pattern.
    Pattern,
    /// A channel of one shard of a Redis Cluster.
    Shard,
}

/// One reply on a subscription connection. Ranges are of the buffer that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Push {
    /// A message on a subscribed channel.
    Message {
        /// Its name.
        channel: Range<usize>,
        /// The published bytes.
        payload: Range<usize>,
    },
    /// A message on a channel that fits a subscribed pattern.
    PatternMessage {
        /// The name of the channel.
        channel: Range<usize>,
        /// The published bytes.
        payload: Range<usize>,
    },
    /// A subscription is in force, or has ended.
    Changed {
        /// Of which set.
        kind: Kind,
        /// Whether it is in force.
        subscribed: bool,
        /// Its name or pattern; empty if an end confirms that there was none.
        channel: Range<usize>,
    },
    /// A command failed; its line without the leading `-`.
    Error(Range<usize>),
    /// An answer without interest, such as that to a PING.
    Other,
}

/// Reads the reply at `at` of a buffer of a subscription connection.
///
/// # Errors
/// The server broke the protocol or a limit; what follows cannot be understood any more.
pub fn parse_push(bytes: &[u8], at: usize, limits: &Limits) -> Result<Step<Push>, RespError> {
    let mut reader = Reader { bytes, at, limits };
    match reader.push() {
        Ok(push) => reader.done(push, at),
        Err(stop) => stop.into_step(at, bytes.len(), limits),
    }
}

/// Reads the reply at `at` of a buffer, whatever it is.
///
/// # Errors
/// As for [`parse_push`].
pub fn parse_value(bytes: &[u8], at: usize, limits: &Limits) -> Result<Step<Value>, RespError> {
    let mut reader = Reader { bytes, at, limits };
    match reader.value(0) {
        Ok(value) => reader.done(value, at),
        Err(stop) => stop.into_step(at, bytes.len(), limits),
    }
}

/// Why reading ended before the end of the reply.
enum Stop {
    NeedMore(usize),
    Broken(RespError),
}

impl Stop {
    fn into_step<T>(self, at: usize, have: usize, limits: &Limits) -> Result<Step<T>, RespError> {
        match self {
            Self::Broken(error) => Err(error),
            // Also a reply of many small parts has to end somewhere.
            Self::NeedMore(_) if have.saturating_sub(at) > limits.max_reply_bytes => {
                Err(over("a reply", limits.max_reply_bytes))
            }
            Self::NeedMore(needed) => Ok(Step::NeedMore(needed)),
        }
    }
}

fn over(what: &'static str, limit: usize) -> RespError {
    RespError::OverLimit { what, limit }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    limits: &'a Limits,
}

impl Reader<'_> {
    /// A reply that began at `start` and is whole; its size is judged as it is while it is not.
    fn done<T>(&self, reply: T, start: usize) -> Result<Step<T>, RespError> {
        let limit = self.limits.max_reply_bytes;
        if self.at - start > limit {
            return Err(over("a reply", limit));
        }
        Ok(Step::Done(reply, self.at))
    }

    fn push(&mut self) -> Result<Push, Stop> {
        match self.byte()? {
            b'*' => {}
            b'-' => return Ok(Push::Error(self.line()?)),
            b'+' => {
                self.line()?;
                return Ok(Push::Other);
            }
            b':' => {
                self.number()?;
                return Ok(Push::Other);
            }
            other => return Err(Stop::Broken(RespError::UnknownType(other))),
        }
        let items = self.number()?;
        let verb = self.bulk()?.ok_or(Stop::Broken(RespError::Unexpected))?;
        let verb = self.bytes.get(verb).unwrap_or_default();
        match (items, verb) {
            (3, b"message" | b"smessage") => Ok(Push::Message {
                channel: self.present_bulk()?,
                payload: self.present_bulk()?,
            }),
            (4, b"pmessage") => {
                self.present_bulk()?;
                Ok(Push::PatternMessage {
                    channel: self.present_bulk()?,
                    payload: self.present_bulk()?,
                })
            }
            (3, verb) => {
                let (kind, subscribed) = match verb {
                    b"subscribe" => (Kind::Channel, true),
                    b"unsubscribe" => (Kind::Channel, false),
                    b"psubscribe" => (Kind::Pattern, true),
                    b"punsubscribe" => (Kind::Pattern, false),
                    b"ssubscribe" => (Kind::Shard, true),
                    b"sunsubscribe" => (Kind::Shard, false),
                    _ => return Err(Stop::Broken(RespError::Unexpected)),
                };
                let channel = self.bulk()?.unwrap_or(self.at..self.at);
                if self.byte()? != b':' {
                    return Err(Stop::Broken(RespError::Unexpected));
                }
                self.number()?;
                Ok(Push::Changed {
                    kind,
                    subscribed,
                    channel,
                })
            }
            (2, b"pong") => {
                self.bulk()?;
                Ok(Push::Other)
            }
            _ => Err(Stop::Broken(RespError::Unexpected)),
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, Stop> {
        let kind = self.byte()?;
        Ok(match kind {
            b'+' => Value::Status(self.text()?),
            b'-' => Value::Error(self.text()?),
            b':' => Value::Int(self.number()?),
            b'$' => match self.bulk_body()? {
                Some(range) => {
                    let bytes = self.bytes.get(range).unwrap_or_default();
                    Value::Bulk(Bytes::copy_from_slice(bytes))
                }
                None => Value::Nil,
            },
            b'*' => self.array(depth)?,
            other => return Err(Stop::Broken(RespError::UnknownType(other))),
        })
    }

    fn array(&mut self, depth: usize) -> Result<Value, Stop> {
        if depth >= self.limits.max_depth {
            let limit = self.limits.max_depth;
            return Err(Stop::Broken(over("nesting", limit)));
        }
        let Some(items) = self.length("array items", self.limits.max_items)? else {
            return Ok(Value::Nil);
        };
        // What is only announced gets no memory.
        let mut values = Vec::with_capacity(items.min(64));
        for _ in 0..items {
            values.push(self.value(depth + 1)?);
        }
        Ok(Value::Array(values))
    }

    fn byte(&mut self) -> Result<u8, Stop> {
        let byte = *self
            .bytes
            .get(self.at)
            .ok_or_else(|| Stop::NeedMore(self.at.saturating_add(1)))?;
        self.at += 1;
        Ok(byte)
    }

    /// A string with its `$`.
    fn bulk(&mut self) -> Result<Option<Range<usize>>, Stop> {
        match self.byte()? {
            b'$' => self.bulk_body(),
            other => Err(Stop::Broken(RespError::UnknownType(other))),
        }
    }

    fn present_bulk(&mut self) -> Result<Range<usize>, Stop> {
        self.bulk()?.ok_or(Stop::Broken(RespError::Unexpected))
    }

    fn bulk_body(&mut self) -> Result<Option<Range<usize>>, Stop> {
        let Some(length) = self.length("a string", self.limits.max_reply_bytes)? else {
            return Ok(None);
        };
        let range = self.at..self.at.saturating_add(length);
        let end = range.end.saturating_add(2);
        match self.bytes.get(range.end..end) {
            Some(b"\r\n") => {
                self.at = end;
                Ok(Some(range))
            }
            Some(_) => Err(Stop::Broken(RespError::MissingLineBreak)),
            None => Err(Stop::NeedMore(end)),
        }
    }

    /// A length; `None` is -1.
    fn length(&mut self, what: &'static str, limit: usize) -> Result<Option<usize>, Stop> {
        match self.number()? {
            -1 => Ok(None),
            number => match usize::try_from(number) {
                Ok(length) if length <= limit => Ok(Some(length)),
                Ok(_) => Err(Stop::Broken(over(what, limit))),
                Err(_) => Err(Stop::Broken(RespError::MalformedNumber)),
            },
        }
    }

    fn number(&mut self) -> Result<i64, Stop> {
        const MALFORMED: Stop = Stop::Broken(RespError::MalformedNumber);
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let negative = rest.first() == Some(&b'-');
        let mut value: i64 = 0;
        let mut digits = 0_usize;
        for &byte in rest.get(usize::from(negative)..).unwrap_or_default() {
            if byte == b'\r' {
                let line_end = self.at + usize::from(negative) + digits;
                match self.bytes.get(line_end + 1) {
                    None => return Err(Stop::NeedMore(line_end + 2)),
                    Some(b'\n') if digits > 0 => {}
                    Some(_) => return Err(MALFORMED),
                }
                self.at = line_end + 2;
                return Ok(if negative { -value } else { value });
            }
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return Err(MALFORMED);
            }
            value = value
                .checked_mul(10)
                .and_then(|value| value.checked_add(i64::from(digit)))
                .ok_or(MALFORMED)?;
            digits += 1;
            // Zeros overflow nothing.
            if digits > 20 {
                return Err(MALFORMED);
            }
        }
        Err(Stop::NeedMore(self.bytes.len().saturating_add(2)))
    }

    fn line(&mut self) -> Result<Range<usize>, Stop> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let limit = self.limits.max_line_bytes;
        let searched = rest.get(..limit.saturating_add(2)).unwrap_or(rest);
        if let Some(length) = searched.windows(2).position(|pair| pair == b"\r\n") {
            let start = self.at;
            self.at = start + length + 2;
            return Ok(start..start + length);
        }
        // A line as long as the limit may still wait for the second byte of its end.
        if rest.len() >= limit.saturating_add(2) {
            return Err(Stop::Broken(over("a line", limit)));
        }
        Err(Stop::NeedMore(self.bytes.len().saturating_add(1)))
    }

    fn text(&mut self) -> Result<String, Stop> {
        let range = self.line()?;
        let bytes = self.bytes.get(range).unwrap_or_default();
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }
}

/// Appends one command with its arguments.
pub fn put_command(out: &mut BytesMut, parts: &[&[u8]]) {
    put_header(out, b'*', parts.len());
    for part in parts {
        put_bulk(out, part);
    }
}

/// Appends one string.
pub fn put_bulk(out: &mut BytesMut, bytes: &[u8]) {
    put_header(out, b'$', bytes.len());
    out.reserve(bytes.len() + 2);
    out.put_slice(bytes);
    out.put_slice(b"\r\n");
}

/// Appends the line that announces a string (`$`) or an array (`*`).
pub fn put_header(out: &mut BytesMut, kind: u8, length: usize) {
    let mut digits = [0_u8; 20];
    let mut first = digits.len();
    let mut rest = length;
    loop {
        first -= 1;
        digits[first] = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.reserve(digits.len() + 3);
    out.put_u8(kind);
    out.put_slice(&digits[first..]);
    out.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(bytes: &[u8]) -> Result<Step<Push>, RespError> {
        parse_push(bytes, 0, &Limits::default())
    }

    fn value(bytes: &[u8]) -> Result<Step<Value>, RespError> {
        parse_value(bytes, 0, &Limits::default())
    }

    #[test]
    fn a_message_is_read_where_it_lies() {
        let bytes = b"*3\r\n$7\r\nmessage\r\n$4\r\nroom\r\n$5\r\nhello\r\n";
        let Ok(Step::Done(Push::Message { channel, payload }, end)) = push(bytes) else {
            panic!("no message");
        };
        assert_eq!(
            (&bytes[channel], &bytes[payload]),
            (&b"room"[..], &b"hello"[..])
        );
        assert_eq!(end, bytes.len());
    }

    #[test]
    fn a_pattern_message_names_the_channel_and_not_the_pattern() {
        let bytes = b"*4\r\n$8\r\npmessage\r\n$2\r\nr*\r\n$4\r\nroom\r\n$0\r\n\r\n";
        let Ok(Step::Done(Push::PatternMessage { channel, payload }, _)) = push(bytes) else {
            panic!("no message");
        };
        assert_eq!((&bytes[channel], payload.len()), (&b"room"[..], 0));
    }

    #[test]
    fn a_large_payload_says_how_much_is_missing() {
        let head = b"*3\r\n$7\r\nmessage\r\n$1\r\nr\r\n$1000000\r\n";
        assert_eq!(push(head), Ok(Step::NeedMore(head.len() + 1_000_002)));
    }

    #[test]
    fn the_end_of_all_subscriptions_has_no_name() {
        let bytes = b"*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n";
        let Ok(Step::Done(Push::Changed { channel, .. }, end)) = push(bytes) else {
            panic!("no change");
        };
        assert!(channel.is_empty());
        assert_eq!(end, bytes.len());
    }

    #[test]
    fn an_error_is_a_reply_and_not_a_broken_protocol() {
        let bytes = b"-NOPERM this user has no permissions\r\n";
        let Ok(Step::Done(Push::Error(line), _)) = push(bytes) else {
            panic!("no error");
        };
        assert!(bytes[line].starts_with(b"NOPERM"));
    }

    #[test]
    fn nested_arrays_are_read_up_to_the_limit() {
        let nested = |depth: usize| [b"*1\r\n".repeat(depth), b":7\r\n".to_vec()].concat();
        assert!(matches!(value(&nested(8)), Ok(Step::Done(..))));
        assert_eq!(
            value(&nested(9)),
            Err(RespError::OverLimit {
                what: "nesting",
                limit: 8
            })
        );
    }

    #[test]
    fn announced_sizes_over_the_limit_are_refused_before_they_arrive() {
        for bytes in [&b"$99999999999\r\n"[..], b"*99999999\r\n"] {
            assert!(matches!(value(bytes), Err(RespError::OverLimit { .. })));
        }
        assert_eq!(
            value(b"$99999999999999999999\r\n"),
            Err(RespError::MalformedNumber)
        );
        assert_eq!(value(b"$-2\r\n"), Err(RespError::MalformedNumber));
    }

    #[test]
    fn a_line_without_an_end_is_given_up() {
        let endless = [b"+".to_vec(), vec![b'x'; (64 << 10) + 3]].concat();
        assert!(matches!(value(&endless), Err(RespError::OverLimit { .. })));
    }

    #[test]
    fn a_line_as_long_as_the_limit_may_arrive_byte_by_byte() {
        let line = [&b"+"[..], &[b'x'; 64 << 10], b"\r\n"].concat();
        for missing in 1..3 {
            let part = value(&line[..line.len() - missing]);
            assert!(matches!(part, Ok(Step::NeedMore(_))), "{missing} missing");
        }
        assert!(matches!(value(&line), Ok(Step::Done(..))));
    }

    #[test]
    fn a_reply_over_the_limit_is_refused_whole_as_in_parts() {
        let limits = Limits {
            max_reply_bytes: 40,
            ..Limits::default()
        };
        let reply = [&b"*9\r\n"[..], &b":7\r\n".repeat(9)].concat();
        for len in [reply.len() - 1, reply.len()] {
            let step = parse_value(&reply[..len], 0, &limits);
            assert!(matches!(step, Ok(Step::NeedMore(_) | Step::Done(..))));
        }
        let reply = [&b"*10\r\n"[..], &b":7\r\n".repeat(10)].concat();
        for len in [reply.len() - 1, reply.len()] {
            let step = parse_value(&reply[..len], 0, &limits);
            assert!(matches!(step, Err(RespError::OverLimit { .. })), "{len}");
        }
    }

    #[test]
    fn a_command_reads_back_as_an_array_of_strings() {
        let mut out = BytesMut::new();
        put_command(&mut out, &[b"PUBLISH", b"", &[0; 1000]]);
        let Ok(Step::Done(Value::Array(parts), end)) = value(&out) else {
            panic!("no array");
        };
        assert_eq!(end, out.len());
        assert_eq!(parts[0], Value::Bulk(Bytes::from_static(b"PUBLISH")));
        assert_eq!(parts[2], Value::Bulk(Bytes::from(vec![0; 1000])));
    }
}

//! Heads of requests that leave no doubt about what they mean.
//!
//! Where two readers could understand a head differently, somebody between them may be deceived. The
//! lane therefore takes only what every reader understands alike, and leaves the rest to hyper.

use std::mem::MaybeUninit;

use httparse::{Header, Status};
use memchr::memchr;

use super::familiar::Familiar;

/// Headers of a request; those of one with more are left to hyper.
pub(super) const MAX_HEADERS: usize = 64;

/// Room for the headers of one head.
pub(super) type Slots<'b> = [MaybeUninit<Header<'b>>; MAX_HEADERS];

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    Post,
    Options,
    /// Something else. Never in the lane.
    Other,
}

impl Verb {
    /// Whether the lane takes such a request with a body.
    pub(super) fn may_have_body(self) -> bool {
        self == Self::Post
    }
}

/// The head of a request in the lane.
#[derive(Debug)]
pub struct RequestHead<'a> {
    pub(crate) verb: Verb,
    /// Path and query.
    pub(crate) url: &'a str,
    path_len: usize,
    pub(crate) known: Known<&'a [u8]>,
    pub(crate) headers: Headers<'a>,
    /// Bytes of the head.
    pub(crate) len: usize,
    pub(crate) body_len: usize,
    /// The client wants no further answer on this connection.
    pub(crate) closes: bool,
    /// The client wants another protocol.
    pub(crate) upgrades: bool,
}

/// All headers of a head, in order.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Headers<'a> {
    /// As they were read.
    Read(&'a [Header<'a>]),
    /// As they were read before, and what they say of the body's length this time.
    Familiar {
        familiar: &'a Familiar,
        content_length: &'a [u8],
    },
}

/// The first values of the headers that are asked for with every request, or where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known<V> {
    pub(crate) origin: Option<V>,
    pub(crate) content_type: Option<V>,
    pub(crate) accept_encoding: Option<V>,
    pub(crate) websocket_version: Option<V>,
}

/// What the bytes of a connection begin with.
#[derive(Debug)]
pub(crate) enum Reading<'a> {
    /// The beginning of a head.
    Partial,
    /// Something that is not for the lane.
    Odd,
    Head(RequestHead<'a>),
}

impl<'a> Headers<'a> {
    fn len(self) -> usize {
        match self {
            Self::Read(headers) => headers.len(),
            Self::Familiar { familiar, .. } => familiar.len(),
        }
    }

    /// Name and value of a header.
    pub(super) fn at(self, index: usize) -> (&'a str, &'a [u8]) {
        match self {
            Self::Read(headers) => (headers[index].name, headers[index].value),
            Self::Familiar {
                familiar,
                content_length,
            } => familiar.at(index, content_length),
        }
    }

    pub(crate) fn iter(self) -> impl DoubleEndedIterator<Item = (&'a str, &'a [u8])> {
        (0..self.len()).map(move |index| self.at(index))
    }
}

impl<V> Known<V> {
    pub(super) const NOTHING: Self = Self {
        origin: None,
        content_type: None,
        accept_encoding: None,
        websocket_version: None,
    };
}

impl<V: Copy> Known<V> {
    pub(super) fn map<W>(&self, f: impl Fn(V) -> W) -> Known<W> {
        Known {
            origin: self.origin.map(&f),
            content_type: self.content_type.map(&f),
            accept_encoding: self.accept_encoding.map(&f),
            websocket_version: self.websocket_version.map(&f),
        }
    }
}

impl<'a> RequestHead<'a> {
    pub(super) fn new(
        verb: Verb,
        url: &'a str,
        headers: Headers<'a>,
        known: Known<&'a [u8]>,
        len: usize,
        body_len: usize,
    ) -> Self {
        let path_len = memchr(b'?', url.as_bytes());
        Self {
            verb,
            url,
            path_len: path_len.unwrap_or(url.len()),
            known,
            headers,
            len,
            body_len,
            closes: false,
            upgrades: false,
        }
    }

    /// The path as requested.
    #[must_use]
    pub fn path(&self) -> &'a str {
        &self.url[..self.path_len]
    }

    /// What stands behind the question mark; empty without one.
    #[must_use]
    pub fn query(&self) -> &'a str {
        self.url.get(self.path_len + 1..).unwrap_or_default()
    }

    /// The values of all headers of this name, in order. Names are compared without regard to case.
    pub fn values<'n>(
        &self,
        name: &'n str,
    ) -> impl DoubleEndedIterator<Item = &'a [u8]> + use<'a, 'n> {
        self.headers
            .iter()
            .filter(move |(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

/// Reads the head that `bytes` begin with.
pub(crate) fn read<'a>(bytes: &'a [u8], slots: &'a mut Slots<'a>) -> Reading<'a> {
    let mut request = httparse::Request::new(&mut []);
    let len = match request.parse_with_uninit_headers(bytes, slots) {
        Ok(Status::Complete(len)) => len,
        Ok(Status::Partial) => return Reading::Partial,
        Err(_) => return Reading::Odd,
    };
    let (Some(method), Some(url), Some(1)) = (request.method, request.path, request.version) else {
        return Reading::Odd;
    };
    let headers: &'a [Header<'a>] = request.headers;
    match judge(&bytes[..len], method, url, headers) {
        Some(head) => Reading::Head(head),
        None => Reading::Odd,
    }
}

fn judge<'a>(
    bytes: &'a [u8],
    method: &str,
    url: &'a str,
    headers: &'a [Header<'a>],
) -> Option<RequestHead<'a>> {
    let verb = match method {
        "GET" => Verb::Get,
        "POST" => Verb::Post,
        "OPTIONS" => Verb::Options,
        _ => return None,
    };
    // The parser passes over empty lines before a request, and over line feeds without a carriage
    // return.
    let first_line = method.len() + " ".len() + url.len() + " HTTP/1.1".len();
    let well_begun = bytes.starts_with(method.as_bytes()) && is_end(bytes, first_line);
    if !well_begun || !is_plain(url) || !bytes.ends_with(b"\r\n\r\n") {
        return None;
    }
    let (all, len) = (Headers::Read(headers), bytes.len());
    let mut head = RequestHead::new(verb, url, all, Known::NOTHING, len, 0);
    let mut lengths = 0;
    for Header { name, value } in headers {
        // No blanks behind the value either, which the parser has cut off.
        let end = value.as_ptr().addr() + value.len() - bytes.as_ptr().addr();
        if !is_end(bytes, end) {
            return None;
        }
        // The lengths tell nearly all other headers apart from these.
        let is = |known: &str| is_name(name, known);
        let known = &mut head.known;
        match name.len() {
            6 if is("expect") => return None,
            6 if is("origin") => known.origin = known.origin.or(Some(value)),
            7 if is("upgrade") => head.upgrades = true,
            10 if is("connection") => head.closes |= names_close(value),
            12 if is("content-type") => known.content_type = known.content_type.or(Some(value)),
            14 if is("content-length") => {
                lengths += 1;
                head.body_len = length(value)?;
            }
            15 if is("accept-encoding") => {
                known.accept_encoding = known.accept_encoding.or(Some(value));
            }
            17 if is("transfer-encoding") => return None,
            21 if is("sec-websocket-version") => {
                known.websocket_version = known.websocket_version.or(Some(value));
            }
            _ => {}
        }
    }
    let has_its_body = verb.may_have_body() || head.body_len == 0;
    (lengths <= 1 && has_its_body).then_some(head)
}

/// Whether a URL is a path, perhaps with a query, of characters that are beyond doubt there.
pub(super) fn is_plain(url: &str) -> bool {
    let odd = |byte: u8| {
        (byte <= b' ')
            | (byte == b'"')
            | (byte == b'#')
            | (byte == b'<')
            | (byte == b'>')
            | (byte == b'`')
            | (byte > b'~')
    };
    // Without branches, so that the compiler turns it into vector instructions.
    let any = url.bytes().fold(0, |any, byte| any | u8::from(odd(byte)));
    any == 0 && url.starts_with('/') && url.len() <= 8192
}

/// Whether a line ends here, with both of its characters.
fn is_end(head: &[u8], at: usize) -> bool {
    head.get(at..at + 2) == Some(b"\r\n")
}

/// Whether a name is `known`, which is as long and has small letters and hyphens only. Of all
/// characters of a name only the capital letters become one of these with this bit.
fn is_name(name: &str, known: &str) -> bool {
    let pairs = name.bytes().zip(known.bytes());
    pairs.fold(0, |apart, (byte, known)| apart | ((byte | 0x20) ^ known)) == 0
}

/// Whether `close` is among the tokens.
fn names_close(value: &[u8]) -> bool {
    let mut tokens = value.split(|byte| *byte == b',');
    tokens.any(|token| token.trim_ascii().eq_ignore_ascii_case(b"close"))
}

/// Digits and nothing else, few enough to be no matter of interpretation.
pub(super) fn length(value: &[u8]) -> Option<usize> {
    let digits = (1..=15).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    if !digits {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

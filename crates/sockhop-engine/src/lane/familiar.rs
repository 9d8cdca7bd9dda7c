//! Heads that come again: a client sends the same headers with every poll, mostly on the same
//! connection, and what was read of them once is true of them again.

use memchr::memchr;

use super::head::{Headers, Known, RequestHead, Verb, is_plain, length};

/// Longest block of headers that is remembered, in bytes.
const MAX_BYTES: usize = 2048;

/// Blocks that are learned of one verb on one connection. Where they keep changing, a proxy mixes
/// the requests of many clients, and remembering is for nothing.
const MAX_LESSONS: u8 = 8;

/// What a connection remembers of its last GET and its last POST.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    get: Slot,
    post: Slot,
}

#[derive(Debug, Default)]
struct Slot {
    familiar: Option<Box<Familiar>>,
    /// Heads that had to be read, up to [`MAX_LESSONS`].
    lessons: u8,
}

/// The headers of an earlier request, and what they mean.
#[derive(Debug)]
pub(crate) struct Familiar {
    /// All that came behind the request line.
    block: Box<str>,
    lines: Box<[Line]>,
    /// Indices of lines.
    known: Known<u8>,
    /// The line with the length of the body: its digits may differ, their number not.
    length: Option<u8>,
}

/// One header, as ranges of the block.
#[derive(Debug)]
struct Line {
    name: Span,
    value: Span,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    begin: u16,
    end: u16,
}

impl Memory {
    /// The head that `bytes` begin with, if all of it but the URL and the length of the body is
    /// familiar.
    pub(crate) fn recall<'a>(&'a self, bytes: &'a [u8]) -> Option<RequestHead<'a>> {
        let (verb, slot, method_len) = match bytes {
            [b'G', b'E', b'T', b' ', ..] => (Verb::Get, &self.get, 4),
            [b'P', b'O', b'S', b'T', b' ', ..] => (Verb::Post, &self.post, 5),
            _ => return None,
        };
        let familiar = slot.familiar.as_deref()?;
        let (line, block) = bytes.split_at(memchr(b'\n', bytes)? + 1);
        let (content_length, body_len) = familiar.compare(block)?;
        if !verb.may_have_body() && body_len > 0 {
            return None;
        }
        let url = line.strip_suffix(b" HTTP/1.1\r\n")?.get(method_len..)?;
        let url = std::str::from_utf8(url).ok().filter(|url| is_plain(url))?;
        let headers = Headers::Familiar {
            familiar,
            content_length,
        };
        let known = familiar.known.map(|index| headers.at(index.into()).1);
        let len = line.len() + familiar.block.len();
        Some(RequestHead::new(verb, url, headers, known, len, body_len))
    }

    /// Remembers the headers of a head that `bytes` begin with. Those of a connection's first request
    /// of a kind are not worth it: most that open a session never come again.
    pub(crate) fn learn(&mut self, head: &RequestHead<'_>, bytes: &[u8]) {
        let slot = match head.verb {
            Verb::Get => &mut self.get,
            Verb::Post => &mut self.post,
            Verb::Options | Verb::Other => return,
        };
        if slot.lessons >= MAX_LESSONS || head.closes || head.upgrades {
            return;
        }
        if slot.lessons > 0 {
            slot.familiar = Familiar::of(head, bytes).map(Box::new);
        }
        slot.lessons += 1;
    }
}

impl Familiar {
    fn of(head: &RequestHead<'_>, bytes: &[u8]) -> Option<Self> {
        let begin = memchr(b'\n', bytes)? + 1;
        let block = bytes.get(begin..head.len)?;
        if block.len() > MAX_BYTES {
            return None;
        }
        let span = |part: &[u8]| {
            let begin = part.as_ptr().addr() - block.as_ptr().addr();
            Span {
                begin: begin as u16,
                end: (begin + part.len()) as u16,
            }
        };
        let lines = head.headers.iter().map(|(name, value)| Line {
            name: span(name.as_bytes()),
            value: span(value),
        });
        let index_of = |name: &str| {
            let mut names = head.headers.iter().map(|(name, _)| name);
            let index = names.position(|other| other.eq_ignore_ascii_case(name))?;
            Some(index as u8)
        };
        Some(Self {
            block: std::str::from_utf8(block).ok()?.into(),
            lines: lines.collect(),
            known: Known {
                origin: index_of("origin"),
                content_type: index_of("content-type"),
                accept_encoding: index_of("accept-encoding"),
                websocket_version: index_of("sec-websocket-version"),
            },
            length: index_of("content-length"),
        })
    }

    /// Whether `bytes` begin with the same headers; what they say of the length of the body, and
    /// that length.
    fn compare<'a>(&self, bytes: &'a [u8]) -> Option<(&'a [u8], usize)> {
        let block = self.block.as_bytes();
        let bytes = bytes.get(..block.len())?;
        let Some(length_line) = self.length else {
            return (bytes == block).then_some((&[][..], 0));
        };
        let digits = self.lines[usize::from(length_line)].value.range();
        let same = bytes[..digits.start] == block[..digits.start]
            && bytes[digits.end..] == block[digits.end..];
        let digits = &bytes[digits];
        same.then_some((digits, length(digits)?))
    }

    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// Name and value of a header. `content_length` stands in for the value remembered.
    pub(super) fn at<'a>(&'a self, index: usize, content_length: &'a [u8]) -> (&'a str, &'a [u8]) {
        let line = &self.lines[index];
        let value = match self.length {
            Some(length) if usize::from(length) == index => content_length,
            Some(_) | None => self.block[line.value.range()].as_bytes(),
        };
        (&self.block[line.name.range()], value)
    }
}

impl Span {
    fn range(self) -> std::ops::Range<usize> {
        self.begin.into()..self.end.into()
    }
}

#[cfg(test)]
mod tests {
    use std::mem::MaybeUninit;

    use super::super::head::{self, MAX_HEADERS, Reading};
    use super::*;

    /// What a head says, with all its headers.
    type Said = (Verb, String, Vec<(String, Vec<u8>)>, usize, usize);

    fn said(head: &RequestHead<'_>) -> Said {
        let headers = head.headers.iter();
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_vec()));
        let url = head.url.to_owned();
        (head.verb, url, headers.collect(), head.len, head.body_len)
    }

    /// Calls `f` with the head that `bytes` begin with.
    fn read<R>(bytes: &str, f: impl FnOnce(&RequestHead<'_>) -> R) -> R {
        let mut slots = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        match head::read(bytes.as_bytes(), &mut slots) {
            Reading::Head(head) => f(&head),
            other => panic!("{other:?}"),
        }
    }

    fn post(url: &str, length: &str, agent: &str) -> String {
        format!(
            "POST {url} HTTP/1.1\r\nHost: a\r\nOrigin: http://a\r\nContent-Length: {length}\r\n\
             User-Agent: {agent}\r\nAccept-Encoding: gzip\r\n\r\nbody"
        )
    }

    /// What knows this head from two requests.
    fn knowing(bytes: &str) -> Memory {
        let mut memory = Memory::default();
        for _ in 0..2 {
            read(bytes, |head| memory.learn(head, bytes.as_bytes()));
        }
        memory
    }

    #[test]
    fn a_familiar_head_says_what_it_would_say_if_it_were_read() {
        let memory = knowing(&post("/?sid=1", "14", "x"));
        for again in [post("/?sid=1", "14", "x"), post("/other?t=2", "27", "x")] {
            let recalled = memory.recall(again.as_bytes()).unwrap();
            let known = recalled.known;
            assert_eq!(known.origin, Some(&b"http://a"[..]));
            read(&again, |head| {
                assert_eq!(said(&recalled), said(head));
                assert_eq!(known, head.known);
            });
        }
    }

    #[test]
    fn what_differs_in_anything_but_url_and_length_is_not_familiar() {
        let memory = knowing(&post("/?sid=1", "14", "x"));
        let whole = post("/?sid=1", "14", "x");
        for other in [
            &post("/?sid=1", "14", "y"),
            &post("/?sid=1", "140", "x"),
            &post("/?sid=1", "1a", "x"),
            &post("/?sid=\u{e4}", "14", "x"),
            &post("/?sid=1 ", "14", "x"),
            &post("?sid=1", "14", "x"),
            &whole.replace("POST", "GET"),
            &whole.replace("1.1\r", "1.0\r"),
            &whole.replacen("\r\n", "\n", 1),
            &whole.replacen("\r\n", "\r\nA: b\r\n", 1),
            &whole[..whole.len() - "\nbody".len()],
        ] {
            assert!(memory.recall(other.as_bytes()).is_none(), "{other}");
        }
    }

    #[test]
    fn a_get_that_has_a_body_this_time_is_not_familiar() {
        let get = |length| format!("GET / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n");
        let memory = knowing(&get(0));
        assert!(memory.recall(get(0).as_bytes()).is_some());
        assert!(memory.recall(get(1).as_bytes()).is_none());
    }

    #[test]
    fn a_first_request_is_not_remembered_nor_one_of_many_kinds() {
        let mut memory = Memory::default();
        let mut learn = |agent: &str| {
            let bytes = post("/", "14", agent);
            read(&bytes, |head| memory.learn(head, bytes.as_bytes()));
            memory.recall(bytes.as_bytes()).is_some()
        };
        assert!(!learn("x"));
        for number in 1..MAX_LESSONS {
            assert!(learn(&number.to_string()));
        }
        assert!(!learn("y"));
    }
}

//! Heads of HTTP requests. Their readers are private to their crate, so its files are read again.

#[allow(
    dead_code,
    unreachable_pub,
    clippy::allow_attributes,
    reason = "a file of another crate, of which this uses a part"
)]
#[path = "../../crates/sockhop-engine/src/lane/head.rs"]
mod head;

#[allow(
    dead_code,
    unreachable_pub,
    clippy::allow_attributes,
    reason = "a file of another crate, of which this uses a part"
)]
#[path = "../../crates/sockhop-engine/src/lane/familiar.rs"]
mod familiar;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;

use familiar::Memory;
use head::{MAX_HEADERS, Reading, RequestHead, Verb};

/// What a request says, whoever has read it.
#[derive(Debug, PartialEq)]
struct Said {
    method: String,
    url: String,
    headers: Vec<(String, Vec<u8>)>,
    body_len: u64,
}

impl Said {
    fn in_lane(head: &RequestHead<'_>) -> Self {
        let method = match head.verb {
            Verb::Get => "GET",
            Verb::Post => "POST",
            Verb::Options => "OPTIONS",
            Verb::Other => unreachable!("is not in the lane"),
        };
        let header = |(name, value): (&str, &[u8])| (name.to_ascii_lowercase(), value.to_vec());
        let mut headers: Vec<_> = head.headers.iter().map(header).collect();
        // A map keeps the order of the values of one name only.
        headers.sort_by(|(a, _), (b, _)| a.cmp(b));
        Self {
            method: method.to_owned(),
            url: head.url.to_owned(),
            headers,
            body_len: head.body_len as u64,
        }
    }

    fn in_hyper(request: &Request<Incoming>) -> Self {
        let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            (name.as_str().to_owned(), value.as_bytes().to_vec())
        };
        let mut headers: Vec<_> = request.headers().iter().map(header).collect();
        headers.sort_by(|(a, _), (b, _)| a.cmp(b));
        Self {
            method: request.method().to_string(),
            url: request.uri().to_string(),
            headers,
            body_len: request.body().size_hint().exact().unwrap_or(u64::MAX),
        }
    }
}

/// A connection on which these bytes came, and nothing else will.
struct Received<'a>(&'a [u8]);

impl Read for Received<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.0.is_empty() {
            return Poll::Pending;
        }
        let (now, later) = self.0.split_at(self.0.len().min(buf.remaining()));
        buf.put_slice(now);
        self.0 = later;
        Poll::Ready(Ok(()))
    }
}

impl Write for Received<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What hyper hands on of the first request among these bytes.
fn hyper_reads(bytes: &[u8]) -> Option<Said> {
    let said = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&said);
    let service = service_fn(move |request: Request<Incoming>| {
        seen.lock()
            .unwrap()
            .get_or_insert_with(|| Said::in_hyper(&request));
        async { Ok::<_, Infallible>(Response::new(String::new())) }
    });
    let mut connection = pin!(http1::Builder::new().serve_connection(Received(bytes), service));
    for _ in 0..4 {
        let _ = connection
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
    }
    said.lock().unwrap().take()
}

/// What the lane takes means the same to hyper, and no part of it is a request already.
pub fn request_head(data: &[u8]) {
    let mut slots = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let Reading::Head(head) = head::read(data, &mut slots) else {
        return;
    };
    assert_eq!(
        Some(Said::in_lane(&head)),
        hyper_reads(&data[..head.len]),
        "the lane and hyper differ"
    );
    for part in [1, head.len / 2, head.len - 1] {
        let mut slots = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let reading = head::read(&data[..part], &mut slots);
        assert!(
            matches!(reading, Reading::Partial),
            "{part} bytes are enough"
        );
    }
    remembered(&head, data);
}

/// A head that is recalled, the same or another, is what it would be if it were read.
fn remembered(head: &RequestHead<'_>, data: &[u8]) {
    let mut memory = Memory::default();
    memory.learn(head, data);
    memory.learn(head, data);
    let mut other = data.to_vec();
    // Places and changes as good as random, but the same for the same input.
    let mut place = data.iter().fold(5381_usize, |hash, byte| {
        hash.wrapping_mul(33).wrapping_add(usize::from(*byte))
    });
    for change in [0, 0x01, 0x02, 0x20, 0x09, 0xff] {
        place = place.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        let at = place % head.len;
        other[at] ^= change;
        if let Some(recalled) = memory.recall(&other) {
            let mut slots = [const { MaybeUninit::uninit() }; MAX_HEADERS];
            let Reading::Head(read) = head::read(&other, &mut slots) else {
                panic!("recalled, but not for the lane");
            };
            assert_eq!(Said::in_lane(&recalled), Said::in_lane(&read));
            assert_eq!((recalled.known, recalled.len), (read.known, read.len));
            assert_eq!(
                (recalled.closes, recalled.upgrades),
                (read.closes, read.upgrades)
            );
        }
        other[at] ^= change;
    }
}

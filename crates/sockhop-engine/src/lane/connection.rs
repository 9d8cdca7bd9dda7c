//! One connection in the lane: what was read of it, and what is written to it.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use engineio_proto::Detached;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::familiar::Memory;
use super::head::{self, MAX_HEADERS, Reading, RequestHead, Verb};
use super::{Found, Lane, Site};
use crate::ServerStream;
use crate::head::Head;
use crate::polling::{LINGER, LINGER_BYTES, Post};
use crate::read_buffer::READ_BUFFER;
use crate::request::websocket_key;
use crate::response::Answer;
use crate::service::{Refusal, Step};
use crate::transports::Upgrading;
use crate::websocket::{Switched, Unanswered};

/// A longer body is not copied behind its head.
const COPIED_BODY_BYTES: usize = 16 * 1024;

/// Memory reserved for a body that has not arrived: never what its head merely declares.
const MAX_RESERVE_BYTES: usize = 64 * 1024;

thread_local! {
    /// Where answers are put together.
    static WRITE_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A connection, and what is known of it.
pub(super) struct Connection<'s, S> {
    /// None: a session has it.
    tcp: Option<TcpStream>,
    peer: SocketAddr,
    site: &'s S,
    max_head_bytes: usize,
    /// What was read and belongs to no request yet: a head that is not complete, or the next
    /// requests of a client that does not wait for answers.
    unread: Vec<u8>,
    /// So much of it is known to have no end of a head.
    searched: usize,
    /// The headers of earlier requests.
    memory: Memory,
}

/// A request in the lane.
pub(super) struct Request<'s> {
    pub(super) lane: &'s Lane,
    pub(super) step: Step,
    /// What is here of its body.
    pub(super) body: Bytes,
    /// What is not.
    pub(super) missing: usize,
    /// The client wants the connection to end.
    pub(super) closes: bool,
}

/// What comes next on a connection.
pub(super) enum Next<'s> {
    Request(Request<'s>),
    /// Nothing for the lane.
    Odd,
    Ended,
}

impl<'s, S: Site> Connection<'s, S> {
    pub(super) fn new(
        tcp: TcpStream,
        peer: SocketAddr,
        site: &'s S,
        max_head_bytes: usize,
    ) -> Self {
        Self {
            tcp: Some(tcp),
            peer,
            site,
            max_head_bytes,
            unread: Vec::new(),
            searched: 0,
            memory: Memory::default(),
        }
    }

    /// Whether no request has begun.
    pub(super) fn is_idle(&self) -> bool {
        self.unread.is_empty()
    }

    /// The connection for hyper, with what it has to read first.
    pub(super) fn into_stream(self) -> Option<ServerStream> {
        let unread = Bytes::from(self.unread);
        Some(ServerStream::with_unread(self.tcp?, unread))
    }

    /// Reads until there is a whole head, and begins to serve its request.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next<'s>> {
        if self.searched < self.unread.len() {
            let unread = std::mem::take(&mut self.unread);
            if let Some(next) = self.begin(&unread) {
                return Poll::Ready(next);
            }
        }
        READ_BUFFER.with_borrow_mut(|buffer| {
            loop {
                let len = ready!(self.poll_read(cx, buffer));
                if len == 0 {
                    return Poll::Ready(Next::Ended);
                }
                let next = if self.unread.is_empty() {
                    self.begin(&buffer[..len])
                } else {
                    self.unread.extend_from_slice(&buffer[..len]);
                    let unread = std::mem::take(&mut self.unread);
                    self.begin(&unread)
                };
                if let Some(next) = next {
                    return Poll::Ready(next);
                }
            }
        })
    }

    /// Bytes read; none when the connection is over, in whatever way.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<usize> {
        let Some(tcp) = &mut self.tcp else {
            return Poll::Ready(0);
        };
        let mut buf = ReadBuf::new(buffer);
        let read = ready!(Pin::new(tcp).poll_read(cx, &mut buf));
        Poll::Ready(read.map_or(0, |()| buf.filled().len()))
    }

    /// What `bytes` are; `None` if they are not all that there is to come. What is not used of them
    /// is kept.
    fn begin(&mut self, bytes: &[u8]) -> Option<Next<'s>> {
        let searched = std::mem::take(&mut self.searched);
        let memory = std::mem::take(&mut self.memory);
        let recalled = memory.recall(bytes).map(|head| self.take(&head, bytes));
        self.memory = memory;
        if recalled.is_some() {
            return recalled;
        }
        let may_be_whole = searched == 0 || ends_head(&bytes[searched.saturating_sub(2)..]);
        let mut slots = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let reading = match may_be_whole {
            true => head::read(bytes, &mut slots),
            false => Reading::Partial,
        };
        match reading {
            Reading::Partial if bytes.len() < self.max_head_bytes => {
                self.keep(bytes);
                self.searched = bytes.len();
                None
            }
            Reading::Partial | Reading::Odd => {
                self.keep(bytes);
                Some(Next::Odd)
            }
            Reading::Head(head) => {
                self.memory.learn(&head, bytes);
                Some(self.take(&head, bytes))
            }
        }
    }

    /// Begins to serve the request whose head `bytes` begin with.
    fn take(&mut self, head: &RequestHead<'_>, bytes: &[u8]) -> Next<'s> {
        if let Some(found) = self.find(head) {
            return self.serve(head, &found, &bytes[head.len..]);
        }
        self.keep(bytes);
        Next::Odd
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
    }

    /// Who serves a request, if the lane is wide enough for it.
    fn find(&self, head: &RequestHead<'_>) -> Option<Found<'s>> {
        if head.len > self.max_head_bytes {
            return None;
        }
        let found = self.site.find(self.peer, head)?;
        let is_websocket =
            || head.verb == Verb::Get && websocket_key(Head::Read(head, found.client)).is_some();
        (!head.upgrades || is_websocket()).then_some(found)
    }

    fn serve(&mut self, head: &RequestHead<'_>, found: &Found<'s>, rest: &[u8]) -> Next<'s> {
        let tcp = &mut self.tcp;
        let mut take_over = |answer: &Answer| {
            let mut held = Vec::with_capacity(256);
            answer.write_head(Instant::now(), false, &mut held);
            Some(Upgrading::Here(Unanswered::new(Switched {
                tcp: tcp.take()?,
                held: held.into(),
                unread: Bytes::copy_from_slice(rest),
            })))
        };
        let step = found
            .lane
            .0
            .begin(Head::Read(head, found.client), &mut take_over);
        if self.tcp.is_none() {
            return Next::Ended;
        }
        let here = rest.len().min(head.body_len);
        let body = match &step {
            Step::Post(_) => Bytes::copy_from_slice(&rest[..here]),
            Step::Answer(_) | Step::Poll(_) => Bytes::new(),
        };
        if here < rest.len() {
            self.keep(&rest[here..]);
        }
        Next::Request(Request {
            lane: found.lane,
            step,
            body,
            missing: head.body_len - here,
            closes: head.closes,
        })
    }

    /// What `future` gives, unless the client goes away before it does.
    pub(super) async fn while_open<F: Future>(&mut self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => self.poll_gone(cx).map(|()| None),
        })
        .await
    }

    /// `Ready` when the client has gone. What it says meanwhile is kept, as far as there is room.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        READ_BUFFER.with_borrow_mut(|buffer| {
            loop {
                let room = self.max_head_bytes.saturating_sub(self.unread.len());
                if room == 0 {
                    return Poll::Pending;
                }
                let room = room.min(buffer.len());
                match ready!(self.poll_read(cx, &mut buffer[..room])) {
                    0 => return Poll::Ready(()),
                    len => self.unread.extend_from_slice(&buffer[..len]),
                }
            }
        })
    }

    /// Hands a POST to its session, of whose body `body` is here.
    pub(super) async fn post(
        &mut self,
        post: &Post,
        body: Bytes,
        missing: &mut usize,
    ) -> Result<Answer, Refusal> {
        if post.is_too_long() {
            let refused = post.whole(Err(Detached::TooLarge)).await;
            self.skip(std::mem::take(missing)).await;
            return refused;
        }
        if *missing == 0 {
            // The session takes it in one turn. Whether the client is there to hear of that shows
            // when it is told.
            return post.whole(Ok(body)).await;
        }
        post.coming(self.collect(body, missing)).await
    }

    /// A whole body, of which `first` is here.
    async fn collect(&mut self, first: Bytes, missing: &mut usize) -> Result<Bytes, Detached> {
        let mut body = BytesMut::with_capacity((first.len() + *missing).min(MAX_RESERVE_BYTES));
        body.extend_from_slice(&first);
        drop(first);
        while *missing > 0 {
            self.read_body(missing, &mut |part| body.extend_from_slice(part))
                .await
                .ok_or(Detached::Closed)?;
        }
        Ok(body.freeze())
    }

    /// Reads some of a body that `missing` bytes are missing of; `None` at the connection's end.
    async fn read_body(&mut self, missing: &mut usize, part: &mut impl FnMut(&[u8])) -> Option<()> {
        let len = poll_fn(|cx| {
            READ_BUFFER.with_borrow_mut(|buffer| {
                let room = buffer.len().min(*missing);
                let len = ready!(self.poll_read(cx, &mut buffer[..room]));
                part(&buffer[..len]);
                Poll::Ready(len)
            })
        })
        .await;
        *missing -= len;
        (len > 0).then_some(())
    }

    /// Reads and drops so much of a body that nobody wants; whether it came to an end in time.
    pub(super) async fn skip(&mut self, mut missing: usize) -> bool {
        if missing == 0 {
            return true;
        }
        let too_much = missing > LINGER_BYTES;
        missing = missing.min(LINGER_BYTES);
        let skipping = async {
            while missing > 0 {
                self.read_body(&mut missing, &mut |_| {}).await?;
            }
            Some(())
        };
        let skipped = tokio::time::timeout(LINGER, skipping).await;
        !too_much && matches!(skipped, Ok(Some(())))
    }

    /// Writes an answer, whose connection may end with it; tells when that was done.
    pub(super) async fn write(&mut self, answer: Answer, last: bool) -> io::Result<Instant> {
        let now = Instant::now();
        let tcp = self.tcp.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let is_copied = answer.body().len() <= COPIED_BODY_BYTES;
        let mut rest = WRITE_BUFFER.with_borrow_mut(|buffer| {
            buffer.clear();
            answer.write_head(now, last, buffer);
            if is_copied {
                buffer.extend_from_slice(answer.body());
            }
            match tcp.try_write(buffer) {
                Ok(written) => Ok(Bytes::copy_from_slice(&buffer[written..])),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    Ok(Bytes::copy_from_slice(buffer))
                }
                Err(error) => Err(error),
            }
        })?;
        if rest.is_empty() && is_copied {
            return Ok(now);
        }
        tcp.write_all_buf(&mut rest).await?;
        if !is_copied {
            tcp.write_all_buf(&mut answer.into_body()).await?;
        }
        Ok(Instant::now())
    }

    /// Says that nothing more is said.
    pub(super) async fn shutdown(&mut self) {
        if let Some(tcp) = &mut self.tcp {
            // The connection is dropped either way.
            let _ = poll_fn(|cx| Pin::new(&mut *tcp).poll_shutdown(cx)).await;
        }
    }
}

/// Whether there is the empty line in it that ends a head, in any spelling.
fn ends_head(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|pair| pair == b"\n\n") || bytes.windows(3).any(|three| three == b"\n\r\n")
}

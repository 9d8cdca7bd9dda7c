//! One WebSocket of a session: frames in, prepared frames out, and the closing handshake.
//!
//! tungstenite parses the frame headers and derives the accept key. The data path is our own:
//! prepared frames go to the socket as they are, and an idle connection owns no buffer.

mod reader;
mod writer;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use engineio_proto::{GaveWay, Message, Packet, ProtocolVersion, RequestError};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

pub(crate) use reader::ReadLimits;
use reader::{FrameReader, Incoming, ReadError};
use writer::FrameWriter;
pub(crate) use writer::Written;

use crate::read_buffer::READ_BUFFER;
use crate::response;
use crate::stream::ServerStream;

/// How long a closed connection may take to say goodbye.
pub(crate) const LINGER: Duration = Duration::from_secs(2);

/// A close frame without a status, which clients see as 1005.
const CLOSE_FRAME: Bytes = Bytes::from_static(&[0x88, 0]);

/// A connection under a WebSocket.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

enum Io {
    /// The usual case, without an indirection.
    Tcp(TcpStream),
    /// TLS, or a connection of another server that mounted this service.
    Other(Box<dyn Duplex>),
}

/// The TCP connection under an upgraded one.
fn downcast(upgraded: Upgraded) -> Result<Switched, Upgraded> {
    // The read buffer of the HTTP library is larger than what is left in it.
    match upgraded.downcast::<TokioIo<ServerStream>>() {
        Ok(parts) => {
            let mut connection = parts.io.into_inner().into_switched();
            connection.unread = [&parts.read_buf[..], &connection.unread].concat().into();
            Ok(connection)
        }
        Err(upgraded) => {
            let parts = upgraded.downcast::<TokioIo<TcpStream>>()?;
            Ok(Switched {
                tcp: parts.io.into_inner(),
                held: Bytes::new(),
                unread: Bytes::copy_from_slice(&parts.read_buf),
            })
        }
    }
}

/// What [`WebSocket::poll_read`] found.
#[derive(Debug)]
pub(crate) enum Received {
    Message(Message),
    /// The peer said goodbye or its end is gone.
    Closed,
    /// The connection failed.
    Failed,
    /// A message over a limit; the peer is told 1009.
    TooLarge,
    /// The peer broke a rule and is told which.
    Violation,
}

/// An established WebSocket.
pub(crate) struct WebSocket {
    io: Io,
    reader: FrameReader,
    writer: FrameWriter,
    /// Bytes that arrived but were not looked at: a turn is limited in messages.
    unread: Bytes,
    /// The peer cannot take binary frames (`b64=1`).
    base64: bool,
    /// Something was written that a buffering connection may hold back.
    unflushed: bool,
}

/// A TCP connection that speaks the WebSocket protocol from here on.
#[derive(Debug)]
pub(crate) struct Switched {
    pub(crate) tcp: TcpStream,
    /// What is to be written to it first: the 101 answer.
    pub(crate) held: Bytes,
    /// What was read from it too early.
    pub(crate) unread: Bytes,
}

/// A connection whose 101 answer is still to be written. Dropped, it is refused: a session that ends
/// with the request in its mailbox owes an answer, as to all other requests.
#[derive(Debug)]
pub(crate) struct Unanswered(Option<Box<Switched>>);

impl Unanswered {
    pub(crate) fn new(connection: Switched) -> Self {
        Self(Some(Box::new(connection)))
    }

    /// The connection, for whoever writes its answer: once.
    pub(crate) fn accept(mut self) -> Option<Switched> {
        self.0.take().map(|connection| *connection)
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            let mut refusal = Vec::with_capacity(256);
            let answer = response::error(RequestError::SessionUnknown, None, true);
            answer.write_head(Instant::now(), true, &mut refusal);
            refusal.extend_from_slice(answer.body());
            // It fits into the empty buffer of a connection, or nobody is there any more.
            let _ = connection.tcp.try_write(&refusal);
        }
    }
}

impl WebSocket {
    pub(crate) fn new(upgraded: Upgraded, version: ProtocolVersion, base64: bool) -> Self {
        match downcast(upgraded) {
            Ok(connection) => Self::over(connection, version, base64),
            Err(upgraded) => {
                let io = Io::Other(Box::new(TokioIo::new(upgraded)));
                Self::with(io, FrameWriter::new(version), Bytes::new(), base64)
            }
        }
    }

    /// A WebSocket over a connection that needs nobody else any more.
    pub(crate) fn over(connection: Switched, version: ProtocolVersion, base64: bool) -> Self {
        let Switched { tcp, held, unread } = connection;
        let mut writer = FrameWriter::new(version);
        if !held.is_empty() {
            writer.push_own(held);
        }
        Self::with(Io::Tcp(tcp), writer, unread, base64)
    }

    fn with(io: Io, writer: FrameWriter, unread: Bytes, base64: bool) -> Self {
        Self {
            io,
            reader: FrameReader::default(),
            writer,
            unread,
            base64,
            unflushed: false,
        }
    }

    /// Whether everything that was sent is with the kernel.
    pub(crate) fn is_flushed(&self) -> bool {
        self.writer.is_empty() && !self.unflushed
    }

    /// Queues a packet; [`Self::poll_flush`] writes it.
    pub(crate) fn send(&mut self, packet: Packet, version: ProtocolVersion) {
        let mut frames = Vec::new();
        match packet {
            Packet::Message {
                encoded,
                first_frame,
            } if !self.base64 => self.writer.push_packet(encoded, first_frame),
            Packet::Message { ref encoded, .. } => {
                packet.write_websocket(version, false, &mut frames);
                self.writer.push_rewritten(encoded, frames.into());
            }
            _ => {
                packet.write_websocket(version, !self.base64, &mut frames);
                self.writer.push_own(frames.into());
            }
        }
    }

    /// Drops packets that give way, oldest first, until `bytes` are free or none is left.
    pub(crate) fn make_room(&mut self, bytes: usize) -> GaveWay {
        self.writer.make_room(bytes)
    }

    /// Writes what is queued; `Ready` when nothing is left.
    pub(crate) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        done: &mut Written,
    ) -> Poll<io::Result<()>> {
        if self.is_flushed() {
            return Poll::Ready(Ok(()));
        }
        match &mut self.io {
            Io::Tcp(io) => self.writer.poll_write(io, cx, done),
            Io::Other(io) => {
                self.unflushed = true;
                ready!(self.writer.poll_write(io, cx, done))?;
                ready!(Pin::new(io).poll_flush(cx))?;
                self.unflushed = false;
                Poll::Ready(Ok(()))
            }
        }
    }

    /// The next message, or the end.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        limits: ReadLimits,
        max_messages: usize,
        out: &mut impl FnMut(Received),
    ) -> Poll<()> {
        let mut budget = max_messages;
        if !self.unread.is_empty() {
            let unread = std::mem::take(&mut self.unread);
            if self.take_chunk(&unread, limits, &mut budget, out) {
                return Poll::Ready(());
            }
        }
        READ_BUFFER.with_borrow_mut(|buffer| {
            while budget > 0 {
                let mut buf = ReadBuf::new(buffer);
                let polled = match &mut self.io {
                    Io::Tcp(io) => Pin::new(io).poll_read(cx, &mut buf),
                    Io::Other(io) => Pin::new(io).poll_read(cx, &mut buf),
                };
                match ready!(polled) {
                    Err(_) => out(Received::Failed),
                    Ok(()) if buf.filled().is_empty() => out(Received::Closed),
                    Ok(()) => {
                        let len = buf.filled().len();
                        if !self.take_chunk(&buffer[..len], limits, &mut budget, out) {
                            continue;
                        }
                    }
                }
                return Poll::Ready(());
            }
            Poll::Ready(())
        })
    }

    /// Hands out the messages of a chunk; true when the budget is spent or the end was reached.
    fn take_chunk(
        &mut self,
        mut chunk: &[u8],
        limits: ReadLimits,
        budget: &mut usize,
        out: &mut impl FnMut(Received),
    ) -> bool {
        loop {
            if *budget == 0 {
                self.unread = Bytes::copy_from_slice(chunk);
                return true;
            }
            match self.reader.read(&mut chunk, limits) {
                Ok(None) => return false,
                Ok(Some(Incoming::Message(message))) => out(Received::Message(message)),
                Ok(Some(Incoming::Pong)) => {}
                Ok(Some(Incoming::Ping(data))) => self.push_pong(&data),
                Ok(Some(Incoming::Close)) => {
                    out(Received::Closed);
                    return true;
                }
                Err(error) => {
                    self.push_close_code(error);
                    out(if error == ReadError::TooLarge {
                        Received::TooLarge
                    } else {
                        Received::Violation
                    });
                    return true;
                }
            }
            *budget -= 1;
        }
    }

    /// Answers a ping unless writes are stuck already: a peer that does not read gets no queue.
    fn push_pong(&mut self, data: &[u8]) {
        if self.writer.is_empty() {
            let mut frame = vec![0x8a, u8::try_from(data.len()).unwrap_or(0)];
            frame.extend_from_slice(data);
            self.writer.push_own(frame.into());
        }
    }

    fn push_close_code(&mut self, error: ReadError) {
        let [high, low] = error.close_code().to_be_bytes();
        self.writer
            .push_own(Bytes::copy_from_slice(&[0x88, 2, high, low]));
    }

    /// Says goodbye: writes what is queued and a close frame, then waits for the peer's end, so
    /// that the kernel does not throw away what the peer has not read yet.
    pub(crate) async fn linger(mut self) {
        self.writer.push_own(CLOSE_FRAME);
        let goodbye = async {
            std::future::poll_fn(|cx| self.poll_flush(cx, &mut Written::default())).await?;
            std::future::poll_fn(|cx| match &mut self.io {
                Io::Tcp(io) => Pin::new(io).poll_shutdown(cx),
                Io::Other(io) => Pin::new(io).poll_shutdown(cx),
            })
            .await?;
            std::future::poll_fn(|cx| self.poll_discard(cx)).await
        };
        // Whether the peer was polite does not matter: the connection is dropped either way.
        let _ = tokio::time::timeout(LINGER, goodbye).await;
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        READ_BUFFER.with_borrow_mut(|buffer| {
            loop {
                let mut buf = ReadBuf::new(buffer);
                ready!(match &mut self.io {
                    Io::Tcp(io) => Pin::new(io).poll_read(cx, &mut buf),
                    Io::Other(io) => Pin::new(io).poll_read(cx, &mut buf),
                })?;
                if buf.filled().is_empty() {
                    return Poll::Ready(Ok(()));
                }
            }
        })
    }
}

impl std::fmt::Debug for WebSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebSocket")
            .field("writer", &self.writer)
            .finish_non_exhaustive()
    }
}

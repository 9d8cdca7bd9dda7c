//! A TCP connection that lets the 101 answer and the first WebSocket frame leave together.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::websocket::Switched;

/// How the answer begins that is kept back.
const SWITCHING: &[u8] = b"HTTP/1.1 101 ";

/// A TCP connection for hyper.
///
/// *Shape:* a 101 answer that hyper writes is kept back. The session that takes the connection
/// over writes it together with its open packet: one system call and one packet of TCP for both.
/// It never waits for long: whoever reads from the connection or writes to it sends it first.
#[derive(Debug)]
pub struct ServerStream {
    tcp: TcpStream,
    held: Bytes,
    /// What was read before hyper was asked.
    unread: Bytes,
}

impl ServerStream {
    /// A connection that was just accepted.
    #[must_use]
    pub fn new(tcp: TcpStream) -> Self {
        Self::with_unread(tcp, Bytes::new())
    }

    /// A connection from which `unread` was read already.
    pub(crate) fn with_unread(tcp: TcpStream, unread: Bytes) -> Self {
        Self {
            tcp,
            held: Bytes::new(),
            unread,
        }
    }

    pub(crate) fn into_switched(self) -> Switched {
        let Self { tcp, held, unread } = self;
        Switched { tcp, held, unread }
    }

    /// `Ready` when nothing is kept back any more.
    fn poll_release(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let written = ready!(Pin::new(&mut self.tcp).poll_write(cx, &self.held))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.held.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for ServerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // The peer says nothing before it has the answer. A connection that takes no more bytes
        // may still have some to read.
        if let Poll::Ready(Err(error)) = self.poll_release(cx) {
            return Poll::Ready(Err(error));
        }
        if !self.unread.is_empty() {
            let len = self.unread.len().min(buf.remaining());
            buf.put_slice(&self.unread.split_to(len));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for ServerStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_release(cx))?;
        if buf.starts_with(SWITCHING) {
            self.held = Bytes::copy_from_slice(buf);
            return Poll::Ready(Ok(buf.len()));
        }
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if bufs.first().is_some_and(|buf| buf.starts_with(SWITCHING)) {
            return self.poll_write(cx, &bufs[0]);
        }
        ready!(self.poll_release(cx))?;
        Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    /// Leaves what is kept back where it is: hyper flushes before it hands the connection over.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_release(cx))?;
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn connection() -> (ServerStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (accepted, client) = tokio::join!(listener.accept(), client);
        (ServerStream::new(accepted.unwrap().0), client.unwrap())
    }

    async fn next(client: &mut TcpStream) -> String {
        let mut buffer = [0; 100];
        let len = client.read(&mut buffer).await.unwrap();
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    }

    #[tokio::test]
    async fn a_switching_answer_is_handed_over() {
        let (mut server, mut client) = connection().await;
        server.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        assert_eq!(next(&mut client).await, "HTTP/1.1 200 OK\r\n\r\n");
        server.write_all(b"HTTP/1.1 101 X\r\n\r\n").await.unwrap();
        server.flush().await.unwrap();
        let Switched { mut tcp, held, .. } = server.into_switched();
        assert_eq!(&held[..], b"HTTP/1.1 101 X\r\n\r\n");
        tcp.write_all(b"more").await.unwrap();
        assert_eq!(
            next(&mut client).await,
            "more",
            "nothing was written before"
        );
    }

    #[tokio::test]
    async fn what_was_read_before_comes_first() {
        let (server, mut client) = connection().await;
        let mut server = ServerStream::with_unread(server.tcp, Bytes::from_static(b"first "));
        client.write_all(b"then").await.unwrap();
        let mut all = [0; 10];
        server.read_exact(&mut all).await.unwrap();
        assert_eq!(&all, b"first then");
    }

    #[tokio::test]
    async fn whoever_writes_sends_the_answer_first() {
        let (mut server, mut client) = connection().await;
        let bufs = [IoSlice::new(b"HTTP/1.1 101 X\r\n\r\n")];
        assert_eq!(server.write_vectored(&bufs).await.unwrap(), 18);
        let more = server.write_vectored(&[IoSlice::new(b"more")]).await;
        assert_eq!(more.unwrap(), 4);
        drop(server);
        let mut all = String::new();
        client.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "HTTP/1.1 101 X\r\n\r\nmore");
    }

    #[tokio::test]
    async fn whoever_reads_sends_the_answer_first() {
        let (mut server, mut client) = connection().await;
        server.write_all(b"HTTP/1.1 101 X\r\n\r\n").await.unwrap();
        let peer = async {
            assert_eq!(next(&mut client).await, "HTTP/1.1 101 X\r\n\r\n");
            client.write_all(b"go").await.unwrap();
        };
        let mut word = [0; 2];
        let (read, ()) = tokio::join!(server.read_exact(&mut word), peer);
        read.unwrap();
        assert_eq!(&word, b"go");
    }

    #[tokio::test]
    async fn a_shutdown_sends_the_answer_first() {
        let (mut server, mut client) = connection().await;
        server.write_all(b"HTTP/1.1 101 X\r\n\r\n").await.unwrap();
        server.shutdown().await.unwrap();
        assert_eq!(next(&mut client).await, "HTTP/1.1 101 X\r\n\r\n");
    }
}

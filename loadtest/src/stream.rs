//! One TCP connection, with or without TLS, read through one buffer that all share.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};

use crate::error::Fault;

/// Bytes that one read takes at most.
const READ_BYTES: usize = 64 * 1024;

/// How long a TCP connect and a TLS handshake may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

thread_local! {
    /// Idle connections own no read buffer: whoever is read uses this one.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// A byte stream to a server.
#[derive(Debug)]
pub struct Stream {
    tcp: TcpStream,
}

/// Where a URL leads.
#[derive(Clone, Debug)]
pub struct Target {
    /// The address.
    pub addr: SocketAddr,
    /// `host:port`, for the `Host` header.
    pub authority: String,
    /// Whether TLS is spoken.
    pub tls: bool,
}

impl Stream {
    /// Connects, from the given source address if there is one.
    ///
    /// # Errors
    /// [`Fault::Connect`] with the system's word.
    pub async fn connect(target: &Target, source: Option<Ipv4Addr>) -> Result<Self, Fault> {
        let connect = Self::connect_now(target, source);
        match tokio::time::timeout(CONNECT_TIMEOUT, connect).await {
            Ok(result) => result.map_err(|error| Fault::Connect(error.kind())),
            Err(_) => Err(Fault::Connect(io::ErrorKind::TimedOut)),
        }
    }

    async fn connect_now(target: &Target, source: Option<Ipv4Addr>) -> io::Result<Self> {
        let socket = match target.addr {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        if let Some(source) = source {
            socket.bind(SocketAddr::new(IpAddr::V4(source), 0))?;
        }
        let tcp = socket.connect(target.addr).await?;
        tcp.set_nodelay(true)?;
        Ok(Self { tcp })
    }

    /// Reads once; `Ready(Ok(0))` is the end.
    pub fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut read = ReadBuf::new(buffer);
        let result = Pin::new(&mut self.tcp).poll_read(context, &mut read);
        result.map_ok(|()| read.filled().len())
    }

    /// Writes what goes at once and removes it from `out`.
    pub fn try_write(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        while !out.is_empty() {
            match self.tcp.try_write(out) {
                Ok(written) => consume(out, written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes until `out` is empty or the socket is full.
    pub fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<io::Result<()>> {
        while !out.is_empty() {
            match Pin::new(&mut self.tcp).poll_write(context, out) {
                Poll::Ready(Ok(written)) => consume(out, written),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once into the end of `rest`; the end of the stream is an error.
    ///
    /// # Errors
    /// [`Fault::Closed`], [`Fault::Broken`].
    pub async fn read_more(&mut self, rest: &mut Vec<u8>) -> Result<(), Fault> {
        let read = std::future::poll_fn(|context| {
            with_buffer(|buffer| {
                let read = self.poll_read(context, buffer);
                if let Poll::Ready(Ok(len)) = read {
                    rest.extend_from_slice(&buffer[..len]);
                }
                read
            })
        });
        match read.await {
            Ok(0) => Err(Fault::Closed),
            Ok(_) => Ok(()),
            Err(error) => Err(Fault::Broken(error.kind())),
        }
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// [`Fault::Broken`].
    pub async fn write_all(&mut self, mut out: Vec<u8>) -> Result<(), Fault> {
        std::future::poll_fn(|context| self.poll_write(context, &mut out))
            .await
            .map_err(|error| Fault::Broken(error.kind()))
    }
}

/// Lends the buffer that all share; what is called may not read itself.
pub fn with_buffer<T>(take: impl FnOnce(&mut [u8]) -> T) -> T {
    BUFFER.with_borrow_mut(|buffer| take(buffer))
}

/// Removes what was written; a buffer that is empty is given back.
fn consume(out: &mut Vec<u8>, written: usize) {
    if written >= out.len() {
        *out = Vec::new();
    } else {
        out.drain(..written);
    }
}

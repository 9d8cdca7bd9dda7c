//! One TCP connection, with or without TLS, read through one buffer that all share.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

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
pub enum Stream {
    /// TCP as it is.
    Plain(TcpStream),
    /// TLS over it; large, and rarely used by many.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Where a URL leads.
#[derive(Clone)]
pub struct Target {
    /// The address.
    pub addr: SocketAddr,
    /// `host:port`, for the `Host` header.
    pub authority: String,
    /// TLS and the name that the certificate has to bear.
    pub tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl fmt::Debug for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Target")
            .field("authority", &self.authority)
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

impl Stream {
    /// Connects, from the given source address if there is one.
    ///
    /// # Errors
    /// [`Fault::Connect`] with the system's word.
    pub async fn connect(target: &Target, source: Option<Ipv4Addr>) -> Result<Self, Fault> {
        let connect = Self::connect_now(target, source);
        match tokio::time::timeout(CONNECT_TIMEOUT, connect).await {
            Ok(result) => result,
            Err(_) => Err(Fault::Connect(io::ErrorKind::TimedOut)),
        }
    }

    async fn connect_now(target: &Target, source: Option<Ipv4Addr>) -> Result<Self, Fault> {
        let tcp = Self::open(target, source).await;
        let tcp = tcp.map_err(|error| Fault::Connect(error.kind()))?;
        let Some((connector, name)) = &target.tls else {
            return Ok(Self::Plain(tcp));
        };
        let tls = connector.connect(name.clone(), tcp).await;
        let tls = tls.map_err(|error| Fault::Tls(error.to_string()))?;
        Ok(Self::Tls(Box::new(tls)))
    }

    async fn open(target: &Target, source: Option<Ipv4Addr>) -> io::Result<TcpStream> {
        let socket = match target.addr {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        if let Some(source) = source {
            socket.bind(SocketAddr::new(IpAddr::V4(source), 0))?;
        }
        let tcp = socket.connect(target.addr).await?;
        tcp.set_nodelay(true)?;
        Ok(tcp)
    }

    /// Reads once; `Ready(Ok(0))` is the end.
    pub fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut read = ReadBuf::new(buffer);
        let result = match self {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(context, &mut read),
            Self::Tls(tls) => Pin::new(tls).poll_read(context, &mut read),
        };
        result.map_ok(|()| read.filled().len())
    }

    /// The connection, if it is still open; nothing is to be read from it.
    #[must_use]
    pub fn if_open(mut self) -> Option<Self> {
        let mut context = Context::from_waker(Waker::noop());
        let read = with_buffer(|buffer| self.poll_read(&mut context, buffer));
        read.is_pending().then_some(self)
    }

    /// Writes what goes at once and removes it from `out`; TLS leaves all to [`Stream::poll_write`].
    pub fn try_write(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let Self::Plain(tcp) = self else {
            return Ok(());
        };
        while !out.is_empty() {
            match tcp.try_write(out) {
                Ok(written) => consume(out, written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes until `out` is empty or the socket is full; with TLS also what was written before.
    pub fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<io::Result<()>> {
        while !out.is_empty() {
            let written = match self {
                Self::Plain(tcp) => Pin::new(tcp).poll_write(context, out),
                Self::Tls(tls) => Pin::new(tls).poll_write(context, out),
            };
            match written {
                Poll::Ready(Ok(written)) => consume(out, written),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(tls) => Pin::new(tls).poll_flush(context),
        }
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

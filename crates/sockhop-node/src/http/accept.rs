//! Accepting connections, with patience when the system runs out of something.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use sockhop::engine::{PeerAddress, Tasks};
use tokio::net::{TcpListener, TcpStream};

use super::Site;

/// Connections that the kernel may hold for us.
const BACKLOG: i32 = 4096;

/// Longest head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// How long accepting rests after the system refused, at first and at most.
const FIRST_REST: Duration = Duration::from_millis(5);
const LONGEST_REST: Duration = Duration::from_secs(1);

/// A bound address.
#[derive(Debug)]
pub(crate) struct Listener(TcpListener);

impl Listener {
    /// Binds `address`. Must be called within a runtime.
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(Self(TcpListener::from_std(socket.into())?))
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Accepts and serves connections for as long as this future is polled. Connections that are
/// still open when the tasks are asked to stop finish their request and end.
pub(crate) async fn serve<S: Site>(
    listener: Listener,
    site: Arc<S>,
    tasks: Tasks,
    header_timeout: Duration,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        // Without `pipeline_flush`: with it, an answer to a request whose body nobody reads is lost.
        .max_buf_size(MAX_HEAD_BYTES);
    let mut rest = FIRST_REST;
    loop {
        match listener.0.accept().await {
            Ok((stream, peer)) => {
                rest = FIRST_REST;
                serve_connection(stream, peer, &http, &site, &tasks);
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                // Out of descriptors or memory: trying again at once would only burn the CPU.
                tracing::warn!(%error, rest_ms = rest.as_millis(), "cannot accept connections");
                tokio::time::sleep(rest).await;
                rest = (rest * 2).min(LONGEST_REST);
            }
        }
    }
}

/// Whether the error says something about the connection, not about us.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

fn serve_connection<S: Site>(
    stream: TcpStream,
    peer: SocketAddr,
    http: &http1::Builder,
    site: &Arc<S>,
    tasks: &Tasks,
) {
    if let Err(error) = stream.set_nodelay(true) {
        // The connection is gone already.
        tracing::debug!(%error, "cannot set up a connection");
        return;
    }
    let site = Arc::clone(site);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(PeerAddress(peer));
        let answer = Arc::clone(&site).respond(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let connection = http
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let stopping = tasks.clone();
    tasks.spawn("connection", async move {
        let mut connection = pin!(connection);
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = stopping.stopped() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, "connection ended");
        }
    });
}

//! Accepting connections, with patience when the system runs out of something.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use sockhop::engine::lane::{self, Found, LaneConfig, RequestHead};
use sockhop::engine::{PeerAddress, ServerStream, Tasks};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::clients::{Clients, Counted};
use super::{Site, proxy_protocol};

/// Connections that the kernel may hold for us.
const BACKLOG: i32 = 4096;

/// Longest head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// How long a client may take nothing of what was written to it. A session ends before that; an
/// answer that nobody reads has no other end.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(120);

/// What the kernel takes for a client beyond what it can send at once: the rest waits in the client's
/// outbox, where it is counted and limited. By default the kernel takes up to 4 MiB for each.
#[cfg(target_os = "linux")]
const UNSENT_BYTES: u32 = 128 * 1024;

/// How long accepting rests after the system refused, at first and at most.
const FIRST_REST: Duration = Duration::from_millis(5);
const LONGEST_REST: Duration = Duration::from_secs(1);

/// Linux hands the option on to accepted connections, which saves a system call for each.
const INHERITS_NODELAY: bool = cfg!(target_os = "linux");

/// A bound address.
#[derive(Debug)]
pub(crate) struct Listener(TcpListener);

impl Listener {
    /// Binds `address`. Must be called within a runtime.
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        Self::bind_with(address, UNREAD_TIMEOUT)
    }

    fn bind_with(address: SocketAddr, unread_timeout: Duration) -> io::Result<Self> {
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        if INHERITS_NODELAY {
            socket.set_tcp_nodelay(true)?;
        }
        // Accepted connections have it from here.
        #[cfg(target_os = "linux")]
        {
            socket.set_tcp_user_timeout(Some(unread_timeout))?;
            socket.set_tcp_notsent_lowat(UNSENT_BYTES)?;
        }
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(Self(TcpListener::from_std(socket.into())?))
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// How a listener serves.
#[derive(Clone, Debug)]
pub(crate) struct Serving {
    pub(crate) tasks: Tasks,
    /// How long the head of a request may take.
    pub(crate) header_timeout: Duration,
    /// How long a connection is kept between two requests.
    pub(crate) idle_timeout: Duration,
    pub(crate) clients: Arc<Clients>,
}

/// Accepts and serves connections until this future is dropped. Connections that are still open
/// when the tasks are asked to stop finish their request and end.
pub(crate) async fn serve<S: Site>(listener: Listener, site: Arc<S>, serving: Serving) {
    let (mut alive, dropped) = oneshot::channel::<Infallible>();
    let tasks = serving.tasks.clone();
    // As a task: the thread that started the runtime is none of its workers, and each connection
    // would have to wake two threads.
    tasks.spawn("listener", async move {
        tokio::select! {
            () = accept(listener, site, serving) => {}
            _ = dropped => {}
        }
    });
    alive.closed().await;
}

async fn accept<S: Site>(listener: Listener, site: Arc<S>, serving: Serving) {
    let mut rest = FIRST_REST;
    loop {
        match listener.0.accept().await {
            Ok((stream, peer)) => {
                rest = FIRST_REST;
                serve_connection(stream, peer, &site, &serving);
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
    mut stream: TcpStream,
    peer: SocketAddr,
    site: &Arc<S>,
    serving: &Serving,
) {
    if !INHERITS_NODELAY && let Err(error) = stream.set_nodelay(true) {
        // The connection is gone already.
        tracing::debug!(%error, "cannot set up a connection");
        return;
    }
    let clients = Arc::clone(&serving.clients);
    if !clients.config.proxy_protocol {
        if let Some(counted) = clients.count(peer.ip()) {
            serve_client(stream, peer, counted, site, serving);
        }
        return;
    }
    if !clients.config.trusted_proxies.is_empty() && !clients.trusts(peer.ip()) {
        clients.refused("untrusted_proxy");
        return;
    }
    let site = Arc::clone(site);
    let later = serving.clone();
    serving.tasks.spawn("proxy-header", async move {
        let header = proxy_protocol::read(&mut stream);
        match tokio::time::timeout(later.header_timeout, header).await {
            Ok(Ok(client)) => {
                let peer = client.unwrap_or(peer);
                if let Some(counted) = clients.count(peer.ip()) {
                    serve_client(stream, peer, counted, &site, &later);
                }
            }
            Ok(Err(_)) | Err(_) => clients.refused("proxy_header"),
        }
    });
}

/// Serves a connection of a client that is known: in the lane for as long as its requests are for
/// the engine and ordinary, and then by hyper.
fn serve_client<S: Site>(
    stream: TcpStream,
    peer: SocketAddr,
    counted: Counted,
    site: &Arc<S>,
    serving: &Serving,
) {
    let (site, serving) = (Arc::clone(site), serving.clone());
    let tasks = serving.tasks.clone();
    tasks.spawn("connection", async move {
        let _counted = counted;
        let stream = match S::HAS_LANE {
            true => {
                let config = LaneConfig {
                    head_timeout: serving.header_timeout,
                    idle_timeout: serving.idle_timeout,
                    max_head_bytes: MAX_HEAD_BYTES,
                };
                let lane = InLane {
                    site: &*site,
                    clients: &serving.clients,
                };
                lane::serve(stream, peer, &lane, config, &serving.tasks).await
            }
            false => Some(ServerStream::new(stream)),
        };
        if let Some(stream) = stream {
            // Connections in the lane should not carry the size of this future.
            Box::pin(serve_by_hyper(stream, peer, site, serving)).await;
        }
    });
}

/// A site as its connections in the lane see it.
struct InLane<'s, S> {
    site: &'s S,
    clients: &'s Clients,
}

impl<S: Site> lane::Site for InLane<'_, S> {
    fn find(&self, peer: SocketAddr, head: &RequestHead<'_>) -> Option<Found<'_>> {
        let lane = self.site.find_lane(head)?;
        let client = self.clients.client(peer, || head.values("x-forwarded-for"));
        Some(Found { lane, client })
    }
}

async fn serve_by_hyper<S: Site>(
    stream: ServerStream,
    peer: SocketAddr,
    site: Arc<S>,
    serving: Serving,
) {
    let clients = serving.clients;
    let service = service_fn(move |mut request: Request<Incoming>| {
        let forwarded = || {
            let lines = request.headers().get_all("x-forwarded-for").iter();
            lines.map(HeaderValue::as_bytes)
        };
        let client = clients.client(peer, forwarded);
        request.extensions_mut().insert(PeerAddress(client));
        let answer = Arc::clone(&site).respond(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        // One clock for both: it runs from the end of one request to the end of the next one's head.
        .header_read_timeout(serving.header_timeout.max(serving.idle_timeout))
        // Without `pipeline_flush`: with it, an answer to a request whose body nobody reads is lost.
        .max_buf_size(MAX_HEAD_BYTES);
    let connection = http
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = serving.tasks.stopped() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended");
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use http::StatusCode;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::*;
    use crate::http::{Answer, status};

    const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_client_that_takes_nothing_is_given_up() {
        let listener = Listener::bind_with(ANY_PORT, Duration::from_millis(500)).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (accepted, client) = tokio::join!(listener.0.accept(), client);
        let _client = client.unwrap();
        let mut server = accepted.unwrap().0;
        let writing = async { while server.write_all(&[0; 65_536]).await.is_ok() {} };
        let patience = Duration::from_secs(30);
        timeout(patience, writing).await.unwrap();
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_kernel_takes_little_for_a_client_that_reads_nothing() {
        let listener = Listener::bind(ANY_PORT).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (accepted, client) = tokio::join!(listener.0.accept(), client);
        let (server, _client) = (accepted.unwrap().0, client.unwrap());
        let mut taken = 0;
        // Until it takes nothing for long enough to have sent what it can.
        let patience = Duration::from_millis(500);
        while timeout(patience, server.writable()).await.is_ok() {
            taken += server.try_write(&[0; 4096]).unwrap_or(0);
        }
        assert!(taken < 1 << 20, "{taken}");
    }

    /// Answers everything, without a lane.
    struct Yes;

    impl Site for Yes {
        async fn respond(self: Arc<Self>, _: Request<Incoming>) -> Answer {
            status(StatusCode::OK)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_kept_between_two_requests_for_longer_than_a_head_may_take() {
        let idle_timeout = Duration::from_secs(90);
        let listener = Listener::bind(ANY_PORT).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let serving = Serving {
            tasks: Tasks::default(),
            header_timeout: Duration::from_secs(1),
            idle_timeout,
            clients: Arc::new(Clients::anybody()),
        };
        let tasks = serving.tasks.clone();
        tasks.spawn("serve", serve(listener, Arc::new(Yes), serving));
        for pause in [Duration::from_secs(80), Duration::ZERO] {
            client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
            let mut answer = [0; 15];
            client.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"HTTP/1.1 200 OK");
            let mut rest = Vec::new();
            while !rest.ends_with(b"\r\n\r\n") {
                rest.push(client.read_u8().await.unwrap());
            }
            // Virtual: nothing is waited for.
            tokio::time::sleep(pause).await;
        }
        let answered = tokio::time::Instant::now();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        let kept = answered.elapsed();
        assert!((idle_timeout..idle_timeout * 2).contains(&kept), "{kept:?}");
    }

    #[tokio::test]
    async fn accepted_connections_do_not_wait_to_fill_packets() {
        let listener = Listener::bind(ANY_PORT).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (accepted, _client) = tokio::join!(listener.0.accept(), client);
        if INHERITS_NODELAY {
            assert!(accepted.unwrap().0.nodelay().unwrap());
        }
    }
}

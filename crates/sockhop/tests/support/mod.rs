//! A server on a free port, and a client that speaks Engine.IO frames and nothing more.
#![allow(
    dead_code,
    unused_imports,
    clippy::allow_attributes,
    reason = "each test file uses its own part"
)]

mod client;
mod http;

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::{Encoder, Registry, TextEncoder};
use sockhop::engine::PeerAddress;
use sockhop::{
    Ack, Connections, DisconnectReason, EngineConfig, EngineService, Namespace, Parser, Server,
    ServerConfig, Socket, SocketId,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

pub(crate) use client::Client;
pub(crate) use http::{Answer, get, post};

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct TestServer {
    pub(crate) server: Server,
    pub(crate) address: SocketAddr,
    registry: Registry,
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        Self::with(ServerConfig::default(), EngineConfig::default()).await
    }

    pub(crate) async fn with(config: ServerConfig, engine: EngineConfig) -> Self {
        let registry = Registry::new();
        let builder = Server::builder().config(config).registry(&registry);
        let server = builder.build().unwrap();
        let address = serve(&server, server.mount(engine, Parser::Json)).await;
        Self {
            server,
            address,
            registry,
        }
    }

    pub(crate) fn root(&self) -> Namespace {
        self.server.of("/")
    }

    /// A client in `/`.
    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.address, "/").await
    }

    /// A client in `/` and its socket; `sockets` are those of [`sockets`].
    pub(crate) async fn pair(&self, sockets: &mut mpsc::Receiver<Socket>) -> (Client, Socket) {
        let client = self.client().await;
        let socket = next(sockets).await;
        assert_eq!(socket.id().as_str(), client.id);
        (client, socket)
    }

    /// The value of a metric line that begins with `name`.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .unwrap();
        let text = String::from_utf8(text).unwrap();
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.rsplit(' ').next())
            .map_or(0.0, |value| value.parse().unwrap())
    }

    pub(crate) fn namespace_names(&self) -> Vec<String> {
        names(&self.server)
    }
}

pub(crate) fn names(server: &Server) -> Vec<String> {
    let namespaces = server.namespaces();
    let mut names: Vec<String> = namespaces.iter().map(|ns| ns.name().to_string()).collect();
    names.sort();
    names
}

/// Accepts connections for the service, as tasks of the server.
pub(crate) async fn serve(server: &Server, service: EngineService<Connections>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tasks = server.tasks().clone();
    let accepting = tasks.clone();
    accepting.spawn("accept", async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = tasks.stopped() => return,
            };
            let (stream, peer) = accepted.unwrap();
            stream.set_nodelay(true).unwrap();
            let service = service.clone();
            let service = service_fn(move |mut request| {
                request.extensions_mut().insert(PeerAddress(peer));
                Service::call(&service, request)
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            let tasks_inside = tasks.clone();
            tasks.spawn("connection", async move {
                tokio::select! {
                    ended = connection => drop(ended),
                    () = tasks_inside.stopped() => {}
                }
            });
        }
    });
    address
}

/// The next item of a channel, which must come.
pub(crate) async fn next<T>(channel: &mut mpsc::Receiver<T>) -> T {
    let item = tokio::time::timeout(PATIENCE, channel.recv()).await;
    item.expect("something to happen in time")
        .expect("an open channel")
}

/// Waits until the condition holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    let held = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(held.is_ok(), "{what}");
}

/// A log that handlers write and a test reads.
pub(crate) fn log() -> (Log, mpsc::Receiver<String>) {
    let (lines, read) = mpsc::channel(1000);
    (Log(lines), read)
}

#[derive(Clone)]
pub(crate) struct Log(mpsc::Sender<String>);

impl Log {
    pub(crate) fn say(&self, line: impl fmt::Display) {
        // A test that has ended does not read any more.
        let _ = self.0.try_send(line.to_string());
    }
}

/// The sockets of a namespace as they connect.
pub(crate) fn sockets(namespace: &Namespace) -> mpsc::Receiver<Socket> {
    let (sender, sockets) = mpsc::channel(1000);
    namespace.on_connect(move |socket: Socket| {
        let _ = sender.try_send(socket);
        async {}
    });
    sockets
}

/// The reasons with which sockets of a namespace leave.
pub(crate) fn reasons(namespace: &Namespace) -> mpsc::Receiver<DisconnectReason> {
    let (sender, reasons) = mpsc::channel(1000);
    namespace.on_disconnect(move |_: Socket, reason| {
        let _ = sender.try_send(reason);
        async {}
    });
    reasons
}

/// What the error handler of a namespace is told.
pub(crate) fn errors(namespace: &Namespace) -> mpsc::Receiver<String> {
    let (log, errors) = log();
    namespace.on_error(move |_, error| log.say(error));
    errors
}

/// Acknowledges `ping`, so that a client knows that all before it was handled.
pub(crate) fn answer_pings(namespace: &Namespace) {
    namespace.on_with_ack("ping", |_: Socket, (): (), ack: Ack| async move {
        ack.send("pong")
    });
}

pub(crate) fn id(text: &str) -> SocketId {
    SocketId::from(text)
}

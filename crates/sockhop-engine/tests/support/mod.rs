//! An echo server on a free port, and the least HTTP client that can poll it.
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test file uses its own part"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engineio_proto::{CloseReason, Encoded, Message, NodeTag};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::Registry;
use sockhop_engine::lane::{self, Found, Lane, LaneConfig, RequestHead};
use sockhop_engine::{
    Context, EngineConfig, EngineParts, EngineService, Handler, Metrics, Opened, ServerStream,
    SessionHandler, Tasks,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// Sends every message back and reports the end of every session.
#[derive(Debug)]
pub(crate) struct EchoServer {
    closed: mpsc::Sender<CloseReason>,
}

#[derive(Debug)]
pub(crate) struct Echo {
    closed: mpsc::Sender<CloseReason>,
}

impl Handler for EchoServer {
    type Session = Echo;

    fn open(&self, _: Opened<()>) -> Echo {
        Echo {
            closed: self.closed.clone(),
        }
    }
}

impl SessionHandler for Echo {
    type Control = ();

    fn start(&mut self, _: &mut Context<'_>) {}

    fn message(&mut self, cx: &mut Context<'_>, message: Message) {
        cx.send(match message {
            Message::Text(text) => Encoded::text(&text),
            Message::Binary(data) => Encoded::binary(data),
        });
    }

    fn control(&mut self, _: &mut Context<'_>, (): ()) {}

    fn upgraded(&mut self, _: &mut Context<'_>) {}

    fn timeout(&mut self, _: &mut Context<'_>) {}

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn close(&mut self, reason: &CloseReason) {
        let _ = self.closed.try_send(reason.clone());
    }
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) service: EngineService<EchoServer>,
    pub(crate) closed: mpsc::Receiver<CloseReason>,
    pub(crate) registry: Registry,
    pub(crate) tasks: Tasks,
}

/// The echo server as the only one on its connections.
struct Alone {
    service: EngineService<EchoServer>,
    lane: Lane,
}

impl lane::Site for Alone {
    fn find(&self, client: SocketAddr, head: &RequestHead<'_>) -> Option<Found<'_>> {
        let lane = &self.lane;
        self.service
            .matches(head.path())
            .then_some(Found { lane, client })
    }
}

pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
pub(crate) const MAX_HEAD_BYTES: usize = 16 * 1024;

impl Server {
    /// A server on hyper.
    pub(crate) async fn start(config: EngineConfig) -> Self {
        Self::start_with(config, false).await
    }

    /// A server that has a lane before hyper.
    pub(crate) async fn start_with_lane(config: EngineConfig) -> Self {
        Self::start_with(config, true).await
    }

    async fn start_with(config: EngineConfig, has_lane: bool) -> Self {
        let registry = Registry::new();
        let parts = EngineParts {
            metrics: Metrics::register(&registry).unwrap(),
            tasks: Tasks::default(),
            node_tag: NodeTag::default(),
        };
        let tasks = parts.tasks.clone();
        let (reporter, closed) = mpsc::channel(1000);
        let service = EngineService::new(config, EchoServer { closed: reporter }, parts);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let site = Arc::new(Alone {
            lane: service.lane(),
            service: service.clone(),
        });
        let all_tasks = tasks.clone();
        tasks.clone().spawn("accept", async move {
            while let Ok((stream, peer)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let (site, tasks) = (Arc::clone(&site), tasks.clone());
                tasks.clone().spawn("connection", async move {
                    let stream = match has_lane {
                        true => {
                            let config = LaneConfig {
                                head_timeout: HEAD_TIMEOUT,
                                idle_timeout: IDLE_TIMEOUT,
                                max_head_bytes: MAX_HEAD_BYTES,
                            };
                            lane::serve(stream, peer, &*site, config, &tasks).await
                        }
                        false => Some(ServerStream::new(stream)),
                    };
                    let Some(stream) = stream else { return };
                    let connection = http1::Builder::new()
                        .timer(TokioTimer::new())
                        .max_buf_size(MAX_HEAD_BYTES)
                        .serve_connection(TokioIo::new(stream), site.service.clone())
                        .with_upgrades();
                    drop(connection.await);
                });
            }
        });
        Self {
            address,
            service,
            closed,
            registry,
            tasks: all_tasks,
        }
    }

    /// The value of a metric line that begins with `name`.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        use prometheus::Encoder;
        let mut text = Vec::new();
        prometheus::TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .unwrap();
        let text = String::from_utf8(text).unwrap();
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.rsplit(' ').next())
            .map_or(0.0, |value| value.parse().unwrap())
    }
}

/// An answer: status, head in lower case, body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name}: ")))
    }

    /// The session id of a handshake.
    pub(crate) fn sid(&self) -> String {
        let (_, rest) = self
            .text()
            .split_once("\"sid\":\"")
            .expect("an open packet");
        rest.split('"').next().unwrap().to_owned()
    }
}

/// A request of its own connection. `headers` are whole lines.
pub(crate) async fn request(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &[&str],
    body: &[u8],
) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(&head(method, target, headers, body.len()))
        .await
        .unwrap();
    stream.write_all(body).await.unwrap();
    let mut bytes = Vec::new();
    // A server that ends the connection early may reset it.
    let _ = stream.read_to_end(&mut bytes).await;
    parse(&bytes)
}

pub(crate) fn head(method: &str, target: &str, headers: &[&str], len: usize) -> Vec<u8> {
    let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    format!(
        "{method} {target} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\
         content-length: {len}\r\n{lines}\r\n"
    )
    .into_bytes()
}

pub(crate) fn parse(bytes: &[u8]) -> Answer {
    let end = bytes
        .windows(4)
        .position(|part| part == b"\r\n\r\n")
        .expect("a response head");
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let head = head.lines().map(|line| {
        let (name, value) = line.split_once(": ").unwrap_or((line, ""));
        format!("{}: {value}\n", name.to_lowercase())
    });
    Answer {
        status,
        head: head.collect(),
        body: bytes[end + 4..].to_vec(),
    }
}

pub(crate) async fn get(address: SocketAddr, target: &str) -> Answer {
    request(address, "GET", target, &[], b"").await
}

pub(crate) async fn post(address: SocketAddr, target: &str, body: &[u8]) -> Answer {
    request(
        address,
        "POST",
        target,
        &["content-type: text/plain;charset=UTF-8"],
        body,
    )
    .await
}

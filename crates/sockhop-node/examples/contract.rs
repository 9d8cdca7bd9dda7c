//! The demo application that shows every feature to clients of any kind, so that a build can be
//! tested from outside.
//!
//! | environment | default | meaning |
//! |---|---|---|
//! | `HOST`, `PORT` | 127.0.0.1, 7400 | listen address |
//! | `PING_INTERVAL`, `PING_TIMEOUT` | 1000, 3000 | heartbeat of `/socket.io/` and `/msgpack/`, ms |
//! | `EIO_PING_INTERVAL`, `EIO_PING_TIMEOUT` | 300, 200 | heartbeat of `/engine.io/`, ms |
//! | `MAX_PAYLOAD` | 1000000 | bytes of one POST body or WebSocket message |
//! | `CONNECT_TIMEOUT` | 2000 | ms a session may live without a namespace |
//! | `UPGRADE_TIMEOUT` | 2000 | ms an unfinished upgrade may live |
//! | `HEADER_TIMEOUT` | 5000 | ms for a request's head |
//! | `ALLOW_ORIGIN` | `http://app.example` | the one CORS origin, with credentials |
//! | `REDIS_URL` | unset | several such processes on one Redis form a cluster |
//! | `NODE_ID` | `n1` | returned by `whoami` |

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sockhop::engine::{Context, Handler, Opened, SessionHandler};
use sockhop::engineio::{CloseReason, Encoded, Message, SessionConfig};
use sockhop::{
    Ack, Args, ConnectError, Cookie, Cors, DialectConfig, DisconnectReason, EmitError,
    EngineConfig, Namespace, NodeDialectConfig, Origins, Parser, Payload, PythonDialectConfig,
    ServerConfig, Socket, Value,
};
use sockhop_node::{
    LogFormat, Mount, Node, NodeConfig, RedisConfig, runtime, shutdown_signal, telemetry,
};

/// How long `ask-me` waits for its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Messages of a `flood` between two breaths.
const FLOOD_BURST: usize = 50;

/// Bytes of a `flood` between two breaths.
const FLOOD_BURST_BYTES: usize = 256 * 1024;

/// How long a breath of a `flood` is.
const FLOOD_PAUSE: Duration = Duration::from_millis(2);

/// Largest message of a `flood`.
const MAX_FLOOD_BYTES: usize = 10_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    runtime(None)?.block_on(run())
}

async fn run() -> Result<(), Box<dyn Error>> {
    let logs = telemetry::init(&var("LOG", "info".to_owned())?, LogFormat::Text);
    let node_id: Arc<str> = var("NODE_ID", "n1".to_owned())?.into();
    let socketio = engine(
        "/socket.io/",
        session("PING_INTERVAL", 1000, "PING_TIMEOUT", 3000)?,
    )?;
    let msgpack = EngineConfig {
        path: "/msgpack/".to_owned(),
        ..socketio.clone()
    };
    let bare = EngineConfig {
        allow_v3: false,
        ..engine(
            "/engine.io/",
            session("EIO_PING_INTERVAL", 300, "EIO_PING_TIMEOUT", 200)?,
        )?
    };
    let config = NodeConfig {
        listen: SocketAddr::new(
            var("HOST", IpAddr::V4(Ipv4Addr::LOCALHOST))?,
            var("PORT", 7400)?,
        ),
        server: ServerConfig {
            connect_timeout: millis("CONNECT_TIMEOUT", 2000)?,
            ..ServerConfig::default()
        },
        engine: socketio,
        header_timeout: millis("HEADER_TIMEOUT", 5000)?,
        idle_timeout: millis("HEADER_TIMEOUT", 5000)?,
        redis: redis()?,
        dialects: DialectConfig {
            node: Some(NodeDialectConfig::default()),
            python: Some(PythonDialectConfig::default()),
        },
        ..NodeConfig::default()
    };
    let mut node = Node::new(config)?;
    logs.register(node.registry())?;
    node.mount(Mount {
        engine: msgpack,
        parser: Parser::Msgpack,
    });
    node.mount_engine(bare, EchoServer);

    let server = node.server();
    for name in ["/", "/custom"] {
        install(&server.of(name), &node_id);
    }
    let private = server.of("/private");
    private.middleware(|socket: Socket| async move { authorize(&socket) });
    install(&private, &node_id);
    server.dynamic_when(is_dynamic, move |namespace| install(namespace, &node_id));
    node.run(shutdown_signal()).await?;
    Ok(())
}

/// Where the cluster meets, if there is one.
fn redis() -> Result<Option<RedisConfig>, Box<dyn Error>> {
    let url: String = var("REDIS_URL", String::new())?;
    if url.is_empty() {
        return Ok(None);
    }
    let url = url.parse().map_err(|error| format!("REDIS_URL: {error}"))?;
    Ok(Some(RedisConfig::new(url)))
}

/// `/dyn-` and digits.
fn is_dynamic(name: &str, _: &Value, _: &sockhop::Handshake) -> bool {
    name.strip_prefix("/dyn-").is_some_and(|digits| {
        !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit())
    })
}

fn authorize(socket: &Socket) -> Result<(), ConnectError> {
    let in_auth = socket.auth().get("token").and_then(Value::as_str) == Some("letmein");
    let in_query = socket.handshake().query_value("token").as_deref() == Some("letmein");
    if in_auth || in_query {
        return Ok(());
    }
    let data = serde_json::json!({ "code": 401, "hint": "token" });
    Err(ConnectError::new("unauthorized").with_data(data))
}

/// The handlers that every namespace has.
fn install(namespace: &Namespace, node_id: &Arc<str>) {
    namespace.on_connect(|socket: Socket| async move { socket.emit("auth", socket.auth()) });
    namespace.on_disconnect(|socket: Socket, reason: DisconnectReason| async move {
        let gone = serde_json::json!({ "id": socket.id().as_str(), "reason": reason.as_str() });
        socket.within("watchers").emit("gone", &gone)
    });
    install_messages(namespace);
    install_rooms(namespace);
    install_lifecycle(namespace, node_id);
}

fn install_messages(namespace: &Namespace) {
    namespace
        .on("message", |socket: Socket, args: Payload| async move {
            socket.emit("message-back", &args)
        })
        .on_with_ack(
            "message-with-ack",
            |_: Socket, args: Payload, ack: Ack| async move { ack.send(&args) },
        )
        .on("ask-me", |socket: Socket, args: Payload| async move {
            let answer: Payload = socket
                .emit_with_ack("question", &args, ANSWER_TIMEOUT)
                .await?;
            socket.emit("answer", &answer)?;
            Ok::<(), Box<dyn Error + Send + Sync>>(())
        })
        .on(
            "chat message",
            |socket: Socket, message: Value| async move {
                socket.namespace().emit("chat message", &message)
            },
        )
        .on_with_ack(
            "broadcast",
            |socket: Socket, args: Payload, ack: Ack| async move {
                sent(socket.broadcast().emit("broadcast", &args))?;
                ack.send("ok")
            },
        )
        .on_with_ack(
            "broadcast-all",
            |socket: Socket, args: Payload, ack: Ack| async move {
                sent(socket.namespace().emit("broadcast", &args))?;
                ack.send("ok")
            },
        );
}

fn install_rooms(namespace: &Namespace) {
    namespace
        .on_with_ack(
            "join",
            |socket: Socket, room: String, ack: Ack| async move {
                socket.join(room).await;
                ack.send("ok")
            },
        )
        .on_with_ack(
            "leave",
            |socket: Socket, room: String, ack: Ack| async move {
                socket.leave(room);
                ack.send("ok")
            },
        )
        .on_with_ack(
            "room-emit",
            |socket: Socket, Args(mut args): Args, ack: Ack| async move {
                let Some(room) = take_string(&mut args) else {
                    return Ok(());
                };
                let target = socket.within(&room);
                sent(target.emit("room-msg", &with_room(room, args)))?;
                ack.send("ok")
            },
        )
        .on_with_ack(
            "room-broadcast",
            |socket: Socket, Args(mut args): Args, ack: Ack| async move {
                let Some(room) = take_string(&mut args) else {
                    return Ok(());
                };
                let target = socket.to(&room);
                sent(target.emit("room-msg", &with_room(room, args)))?;
                ack.send("ok")
            },
        )
        .on_with_ack(
            "room-except",
            |socket: Socket, Args(mut args): Args, ack: Ack| async move {
                let Some(room) = take_string(&mut args) else {
                    return Ok(());
                };
                let Some(other) = take_string(&mut args) else {
                    return Ok(());
                };
                let target = socket.within(&room).except(other);
                sent(target.emit("room-msg", &with_room(room, args)))?;
                ack.send("ok")
            },
        )
        .on_with_ack(
            "members",
            |socket: Socket, room: String, ack: Ack| async move {
                let members = socket.within(&room).fetch_sockets().await;
                let ids: Vec<&str> = members.iter().map(|member| member.id().as_str()).collect();
                ack.send(&ids)
            },
        )
        .on_with_ack(
            "flood",
            |socket: Socket, flood: (String, usize, usize), ack: Ack| async move {
                let (room, count, size) = flood;
                ack.send("ok")?;
                let text = "x".repeat(size.min(MAX_FLOOD_BYTES));
                let target = socket.within(room);
                // A pace that clients which do read can keep up with.
                let burst = (FLOOD_BURST_BYTES / text.len().max(1)).clamp(1, FLOOD_BURST);
                for index in 1..=count {
                    sent(target.emit("flood", &text))?;
                    if index % burst == 0 {
                        tokio::time::sleep(FLOOD_PAUSE).await;
                    }
                }
                Ok::<(), EmitError>(())
            },
        );
}

fn install_lifecycle(namespace: &Namespace, node_id: &Arc<str>) {
    let node_id = Arc::clone(node_id);
    namespace
        .on_with_ack("whoami", move |socket: Socket, (): (), ack: Ack| {
            let node_id = Arc::clone(&node_id);
            async move {
                let query: serde_json::Map<String, serde_json::Value> = socket
                    .handshake()
                    .query()
                    .map(|(name, value)| (name, value.into()))
                    .collect();
                ack.send(&serde_json::json!({
                    "id": socket.id().as_str(),
                    "eio": socket.protocol().number(),
                    "transport": socket.transport().name(),
                    "node": &*node_id,
                    "query": query,
                }))
            }
        })
        .on("disconnect-me", |socket: Socket, close: Value| async move {
            socket.disconnect(close == Value::Bool(true));
        })
        .on("drop-me", |socket: Socket, (): ()| async move {
            socket.close_transport()
        });
}

/// What became of a broadcast. That other nodes may have missed it, because there is no Redis at the
/// moment, is counted and no reason not to go on.
fn sent(result: Result<(), EmitError>) -> Result<(), EmitError> {
    match result {
        Err(EmitError::Bus(_)) => Ok(()),
        other => other,
    }
}

/// The first argument, if it is a string.
fn take_string(args: &mut Vec<Value>) -> Option<String> {
    if args.is_empty() {
        return None;
    }
    match args.remove(0) {
        Value::String(text) => Some(text),
        _ => None,
    }
}

fn with_room(room: String, mut args: Vec<Value>) -> Args {
    args.insert(0, Value::String(room));
    Args(args)
}

fn engine(path: &str, session: SessionConfig) -> Result<EngineConfig, Box<dyn Error>> {
    let origin = var("ALLOW_ORIGIN", "http://app.example".to_owned())?;
    Ok(EngineConfig {
        path: path.to_owned(),
        session,
        cors: Cors {
            origins: Origins::List(vec![origin]),
            credentials: true,
        },
        // Clients behind any balancer are to be let in, also where it renames the host.
        check_origin: false,
        cookie: Some(Cookie::default()),
        ..EngineConfig::default()
    })
}

fn session(
    interval: &str,
    interval_ms: u64,
    timeout: &str,
    timeout_ms: u64,
) -> Result<SessionConfig, Box<dyn Error>> {
    Ok(SessionConfig {
        ping_interval: millis(interval, interval_ms)?,
        ping_timeout: millis(timeout, timeout_ms)?,
        upgrade_timeout: millis("UPGRADE_TIMEOUT", 2000)?,
        max_payload: var("MAX_PAYLOAD", 1_000_000)?,
        ..SessionConfig::default()
    })
}

fn millis(name: &str, default: u64) -> Result<Duration, Box<dyn Error>> {
    Ok(Duration::from_millis(var(name, default)?))
}

fn var<T: FromStr<Err: std::fmt::Display>>(name: &str, default: T) -> Result<T, Box<dyn Error>> {
    match std::env::var(name) {
        Ok(value) => Ok(value.parse().map_err(|error| format!("{name}: {error}"))?),
        Err(_) => Ok(default),
    }
}

/// Bare Engine.IO: every message comes back.
#[derive(Debug)]
struct EchoServer;

#[derive(Debug)]
struct Echo;

impl Handler for EchoServer {
    type Session = Echo;

    fn open(&self, _: Opened<()>) -> Echo {
        Echo
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

    fn close(&mut self, _: &CloseReason) {}
}

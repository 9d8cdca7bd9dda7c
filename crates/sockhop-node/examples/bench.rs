//! A server with the events that every peer's benchmark server has, and the product's defaults.
//!
//! | environment | default | meaning |
//! |---|---|---|
//! | `PORT` | 3000 | listens on 0.0.0.0, path `/socket.io/` |
//! | `REDIS` | unset | `redis://…`: several such processes on one Redis form a cluster |
//! | `WORKERS` | 1 | worker threads; 0 is one for each core |

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::time::Duration;

use sockhop::{Ack, Args, Payload, Socket, Value};
use sockhop_node::{
    DrainConfig, LogFormat, Node, NodeConfig, NodeError, RedisConfig, runtime, shutdown_signal,
    telemetry,
};

const ALL: &str = "all";

/// What the end may take.
const END: Duration = Duration::from_millis(500);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let _logs = telemetry::init("warn", LogFormat::Text);
    let port = number("PORT", 3000)?;
    let workers = number("WORKERS", 1)?;
    runtime(NonZeroUsize::new(workers.into()))?.block_on(run(port, redis()?))?;
    Ok(())
}

/// Where the cluster meets, if there is one.
fn redis() -> Result<Option<RedisConfig>, Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS").unwrap_or_default();
    if url.is_empty() {
        return Ok(None);
    }
    let url = url.parse().map_err(|error| format!("REDIS: {error}"))?;
    Ok(Some(RedisConfig::new(url)))
}

fn number(name: &str, default: u16) -> Result<u16, Box<dyn std::error::Error>> {
    match std::env::var(name) {
        Ok(value) => Ok(value.parse().map_err(|error| format!("{name}: {error}"))?),
        Err(_) => Ok(default),
    }
}

async fn run(port: u16, redis: Option<RedisConfig>) -> Result<(), NodeError> {
    let listen = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let node = Node::new(NodeConfig {
        listen,
        redis,
        // It ends with its connections, but not without a word to the other nodes, which would
        // take it for alive for another while.
        drain: DrainConfig {
            deadline: END,
            ..DrainConfig::default()
        },
        close_timeout: END,
        ..NodeConfig::default()
    })?;
    let namespace = node.server().of("/");
    namespace
        .on_connect(|socket: Socket| async move {
            socket.join(ALL);
            if let Some(room) = socket.handshake().query_value("room") {
                socket.join(room);
            }
        })
        .on_with_ack("echo", |_: Socket, args: Payload, ack: Ack| async move {
            ack.send(&args)
        })
        .on("echo_emit", |socket: Socket, args: Payload| async move {
            socket.emit("echo", &args)
        })
        .on("bcast", |socket: Socket, payload: Value| async move {
            socket.within(ALL).emit("msg", &payload)
        })
        .on("bcast_skip", |socket: Socket, payload: Value| async move {
            socket.to(ALL).emit("msg", &payload)
        })
        .on(
            "room_bcast",
            |socket: Socket, Args(args): Args| async move {
                let [Value::String(room), payload, ..] = args.as_slice() else {
                    return Ok(());
                };
                socket.within(room).emit("msg", payload)
            },
        );
    node.run(shutdown_signal()).await
}

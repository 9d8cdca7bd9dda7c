//! A node with the events that load tests want, in the place of the chat's.
//!
//! It is configured as the node is, by file, environment and command line. `sockhop-loadtest
//! --app contract` knows the events:
//!
//! | event from a client | answer (acknowledgement) | what others get |
//! |---|---|---|
//! | `message-with-ack` … | the same arguments | |
//! | `broadcast` … | `ok` | everybody else: `broadcast` … |
//! | `broadcast-all` … | `ok` | everybody: `broadcast` … |
//! | `join` room, `leave` room | `ok`, once the other nodes know | |
//! | `room-emit` room … | `ok` | the room: `room-msg` room … |
//! | `room-broadcast` room … | `ok` | the others of the room: `room-msg` room … |

use clap::Parser as _;
use sockhop::{Ack, Args, EmitError, Namespace, Socket, Value};
use sockhop_node::{Cli, Node, NodeConfig, NodeError, runtime, shutdown_signal, telemetry};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let environment = std::env::vars_os().map(|(name, value)| {
        let text = |part: std::ffi::OsString| part.to_string_lossy().into_owned();
        (text(name), text(value))
    });
    let config = Cli::parse().config(environment)?;
    let _logs = telemetry::init(&config.log_filter, config.log_format);
    runtime(config.workers)?.block_on(run(config))?;
    Ok(())
}

async fn run(config: NodeConfig) -> Result<(), NodeError> {
    let node = Node::new(config)?;
    let namespace = node.server().of("/");
    install_messages(&namespace);
    install_rooms(&namespace);
    node.run(shutdown_signal()).await
}

fn install_messages(namespace: &Namespace) {
    namespace
        .on_with_ack(
            "message-with-ack",
            |_: Socket, args: Args, ack: Ack| async move { ack.send(&args) },
        )
        .on_with_ack(
            "broadcast",
            |socket: Socket, args: Args, ack: Ack| async move {
                sent(socket.broadcast().emit("broadcast", &args))?;
                ack.send("ok")
            },
        )
        .on_with_ack(
            "broadcast-all",
            |socket: Socket, args: Args, ack: Ack| async move {
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
            |socket: Socket, args: Args, ack: Ack| async move {
                let Some(room) = room_of(&args) else {
                    return Ok(());
                };
                sent(socket.within(room).emit("room-msg", &args))?;
                ack.send("ok")
            },
        )
        .on_with_ack(
            "room-broadcast",
            |socket: Socket, args: Args, ack: Ack| async move {
                let Some(room) = room_of(&args) else {
                    return Ok(());
                };
                sent(socket.to(room).emit("room-msg", &args))?;
                ack.send("ok")
            },
        );
}

/// The room that the first argument names.
fn room_of(Args(args): &Args) -> Option<&str> {
    args.first().and_then(Value::as_str)
}

/// That the clients of other nodes missed something, because there is no Redis at the moment, is
/// counted, and no reason not to go on.
fn sent(result: Result<(), EmitError>) -> Result<(), EmitError> {
    match result {
        Err(EmitError::Bus(_)) => Ok(()),
        other => other,
    }
}

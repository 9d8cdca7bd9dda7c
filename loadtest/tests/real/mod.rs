//! A real sockhop with the events of `--app contract`, on a free port of this process.

use axum::Router;
use sockhop::{Ack, Args, EngineLayer, Namespace, Server, Socket, Value};
use tokio::net::TcpListener;

/// Starts it on a thread of its own; its URL.
pub(crate) fn start() -> String {
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async move {
            let server = Server::builder().build().expect("a server");
            install(&server.of("/"));
            let app = Router::new().layer(EngineLayer::new(server.service()));
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let address = listener.local_addr().expect("it is bound");
            tell.send(format!("http://{address}"))
                .expect("the test waits");
            let _ = axum::serve(listener, app).await;
        });
    });
    told.recv().expect("the server has started")
}

fn install(namespace: &Namespace) {
    namespace
        .on_with_ack(
            "message-with-ack",
            |_: Socket, args: Args, ack: Ack| async move { ack.send(&args) },
        )
        .on("broadcast", |socket: Socket, args: Args| async move {
            socket.broadcast().emit("broadcast", &args)
        })
        .on("broadcast-all", |socket: Socket, args: Args| async move {
            socket.namespace().emit("broadcast", &args)
        })
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
        .on("room-emit", |socket: Socket, args: Args| async move {
            socket.within(room_of(&args)).emit("room-msg", &args)
        })
        .on("room-broadcast", |socket: Socket, args: Args| async move {
            socket.to(room_of(&args)).emit("room-msg", &args)
        });
}

fn room_of(Args(args): &Args) -> &str {
    args.first().and_then(Value::as_str).unwrap_or_default()
}

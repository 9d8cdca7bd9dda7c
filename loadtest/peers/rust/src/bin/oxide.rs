//! The benchmark's events on socketioxide.
//!
//! `PORT`, `WORKERS` and `REDIS` as for every server here. `FRONT=axum` puts it behind
//! `axum::serve` instead of hyper alone; hyper alone is the faster of the two.

use std::env;
use std::error::Error;

use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use socketioxide::SocketIo;
use socketioxide::adapter::Adapter;
use socketioxide::extract::{AckSender, Data, SocketRef};
use socketioxide_redis::{RedisAdapter, RedisAdapterCtr};
use tokio::net::TcpListener;

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let number = |name: &str, default| env::var(name).map_or(Ok(default), |value| value.parse());
    let port = number("PORT", 3000_u16)?;
    let workers = number("WORKERS", 1)?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers.into())
        .enable_all()
        .build()?
        .block_on(run(port))
}

async fn run(port: u16) -> Result<(), Failure> {
    let listener = TcpListener::bind(("0.0.0.0", port)).await?;
    let Ok(redis) = env::var("REDIS") else {
        if env::var("FRONT").is_ok_and(|front| front == "axum") {
            let (layer, io) = SocketIo::new_layer();
            io.ns("/", on_connect);
            return Ok(axum::serve(listener, axum::Router::new().layer(layer)).await?);
        }
        let (service, io) = SocketIo::new_svc();
        io.ns("/", on_connect);
        return serve(listener, service).await;
    };
    let client = redis::Client::open(format!("{redis}?protocol=resp3"))?;
    let adapter = RedisAdapterCtr::new_with_redis(&client).await?;
    let (service, io) = SocketIo::builder()
        .with_adapter::<RedisAdapter<_>>(adapter)
        .build_svc();
    io.ns("/", on_connect).await?;
    serve(listener, service).await
}

async fn serve<S, B>(listener: TcpListener, service: S) -> Result<(), Failure>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<Failure>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Failure>,
{
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let connection = http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service.clone())
            .with_upgrades();
        tokio::spawn(connection);
    }
}

async fn on_connect<A: Adapter>(socket: SocketRef<A>) {
    socket.join("all");
    let query = socket.req_parts().uri.query().unwrap_or_default();
    let room = query.split('&').find_map(|pair| pair.strip_prefix("room="));
    if let Some(room) = room {
        socket.join(room.to_owned());
    }
    socket.on("echo", async |Data::<Value>(data), ack: AckSender<A>| {
        ack.send(&data).ok();
    });
    socket.on(
        "echo_emit",
        async |socket: SocketRef<A>, Data::<Value>(data)| {
            socket.emit("echo", &data).ok();
        },
    );
    socket.on(
        "bcast",
        async |socket: SocketRef<A>, Data::<Value>(data)| {
            socket.within("all").emit("msg", &data).await.ok();
        },
    );
    socket.on(
        "bcast_skip",
        async |socket: SocketRef<A>, Data::<Value>(data)| {
            socket.to("all").emit("msg", &data).await.ok();
        },
    );
    socket.on(
        "room_bcast",
        async |socket: SocketRef<A>, Data::<(String, Value)>((room, data))| {
            socket.within(room).emit("msg", &data).await.ok();
        },
    );
}

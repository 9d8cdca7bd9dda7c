//! A member of a cluster over Redis in which servers of Node.js and Python are members, too:
//! `cargo run -p sockhop --example member -- NAME REDIS_URL [specific]`. It prints
//! `listening PORT`. With `specific` it answers Node.js servers on channels of their own.
//!
//! Clients steer it: the event `op` calls the library. The tests of the dialects run it beside a
//! Node.js and a Python server that know the same event.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use sockhop::{
    Ack, Args, BroadcastOperator, ClusterConfig, DialectConfig, EngineConfig, EngineLayer,
    Namespace, NodeDialectConfig, NodeId, Parser, PythonDialectConfig, Room, Server, ServerAck,
    Socket, SocketId, Value,
};
use sockhop_redis::{Metrics, RedisBus, RedisConfig};
use tokio::net::TcpListener;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let (Some(name), Some(url)) = (args.next(), args.next()) else {
        return Err("usage: member NAME REDIS_URL [specific]".into());
    };
    let node = NodeDialectConfig {
        specific_responses: args.next().as_deref() == Some("specific"),
        ..NodeDialectConfig::default()
    };
    let registry = prometheus::Registry::new();
    let tasks = sockhop::engine::Tasks::default();
    let spawner = move |name, task| tasks.spawn(name, task);
    let bus = Arc::new(RedisBus::start(
        RedisConfig::new(url.parse()?),
        NodeId::new(getrandom::u64()?),
        Metrics::register(&registry)?,
        spawner,
    )?);
    bus.link_up().await;
    let server = Server::builder()
        .registry(&registry)
        .bus(Arc::clone(&bus) as _)
        .channels(bus)
        .cluster(ClusterConfig::default())
        .dialects(DialectConfig {
            node: Some(node),
            python: Some(PythonDialectConfig::default()),
        })
        .build()?;
    for namespace in ["/", "/chat"] {
        install(&server.of(namespace), &name);
    }
    let msgpack = EngineConfig {
        path: "/msgpack/".to_owned(),
        ..EngineConfig::default()
    };
    let metrics = move || async move {
        prometheus::TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap_or_default()
    };
    let app = Router::new()
        .route("/metrics", axum::routing::get(metrics))
        .layer(EngineLayer::new(server.service()))
        .layer(EngineLayer::new(server.mount(msgpack, Parser::Msgpack)));
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    #[expect(clippy::print_stdout, reason = "whoever started this waits for it")]
    {
        println!("listening {}", listener.local_addr()?.port());
    }
    axum::serve(listener, app).await?;
    Ok(())
}

fn install(namespace: &Namespace, name: &str) {
    namespace.on_with_ack(
        "op",
        |socket: Socket, (operation, it): (String, Value), ack: Ack| async move {
            let answer = match operate(&socket, &operation, &it).await {
                Ok(value) => ("value", value),
                Err(error) => ("error", error.to_string().into()),
            };
            ack.send(&object([answer]))
        },
    );
    let (own, here): (Arc<str>, Namespace) = (name.into(), namespace.clone());
    namespace.on_server_event_with_ack("greet", move |args: Args, ack: ServerAck| {
        let (own, here) = (Arc::clone(&own), here.clone());
        async move {
            let told = std::iter::once(Value::from(&*own)).chain(args.0);
            here.all()
                .local()
                .emit("greeted", &told.collect::<Args>())?;
            ack.send(&*own)?;
            Ok::<_, Failure>(())
        }
    });
}

async fn operate(socket: &Socket, operation: &str, it: &Value) -> Result<Value, Failure> {
    let namespace = socket.namespace();
    let target = target(namespace, it);
    match operation {
        "emit" => target.emit(&event(it), &args(it))?,
        "broadcast" => {
            let rooms = names(it, "rooms");
            socket.to(rooms).emit(&event(it), &args(it))?;
        }
        "socketsJoin" => drop(target.sockets_join(names(it, "join")).await),
        "socketsLeave" => drop(target.sockets_leave(names(it, "leave")).await),
        "disconnectSockets" => {
            let close = it.get("close") == Some(&Value::Bool(true));
            drop(target.disconnect_sockets(close));
        }
        "enterRoom" => {
            let id = text(it, "id").as_str().into();
            drop(namespace.enter_room(&id, text(it, "room")).await);
        }
        "leaveRoom" => {
            let id = text(it, "id").as_str().into();
            drop(namespace.leave_room(&id, text(it, "room")).await);
        }
        "closeRoom" => drop(namespace.close_room(text(it, "room")).await),
        "disconnect" => drop(namespace.disconnect(&text(it, "id").as_str().into())),
        "join" => socket.join(names(it, "rooms")).await,
        "serverSideEmit" => namespace.server_side_emit("greet", &args(it))?,
        "setData" => socket.set_data(it.get("data").cloned().unwrap_or_default()),
        _ => return ask(socket, operation, it).await,
    }
    Ok(Value::Null)
}

async fn ask(socket: &Socket, operation: &str, it: &Value) -> Result<Value, Failure> {
    let namespace = socket.namespace();
    let target = target(namespace, it);
    match operation {
        "emitWithAck" => {
            let acks = target.emit_with_ack::<Value>(&event(it), &args(it)).await?;
            let complete = acks.is_complete();
            let responses = acks.into_values().collect();
            Ok(object([
                ("complete", complete.into()),
                ("responses", Value::Array(responses)),
            ]))
        }
        "call" => {
            let id = SocketId::from(text(it, "id").as_str());
            let answer: Args = namespace
                .call(&id, &event(it), &args(it), timeout(it))
                .await?;
            Ok(Value::Array(answer.0))
        }
        "fetchSockets" => {
            let found = target.fetch_sockets().await;
            let told = found.found.into_iter().map(|socket| {
                let rooms = socket.rooms().iter().map(|room| room.as_str().into());
                object([
                    ("id", socket.id().as_str().into()),
                    ("rooms", Value::Array(rooms.collect())),
                    ("data", socket.data()),
                    (
                        "query",
                        socket.handshake().get("query").cloned().unwrap_or_default(),
                    ),
                ])
            });
            Ok(Value::Array(told.collect()))
        }
        "rooms" => {
            let rooms = socket.rooms();
            let rooms = rooms.iter().map(|room| room.as_str().into());
            Ok(Value::Array(rooms.collect()))
        }
        "allRooms" => {
            let rooms = namespace.all_rooms().await.found;
            let rooms = rooms.iter().map(|room| room.as_str().into());
            Ok(Value::Array(rooms.collect()))
        }
        "serverCount" => {
            let count = namespace.server().server_count().await;
            Ok(u64::try_from(count)?.into())
        }
        "serverSideEmitWithAck" => {
            let answers = namespace
                .server_side_emit_with_ack::<Value>("greet", &args(it))
                .await?;
            let complete = answers.missing.is_empty() && answers.missing_foreign == 0;
            let responses = answers.found.into_iter().flatten();
            Ok(object([
                ("complete", complete.into()),
                ("responses", Value::Array(responses.collect())),
            ]))
        }
        _ => Err("no such operation".into()),
    }
}

fn target(namespace: &Namespace, it: &Value) -> BroadcastOperator {
    let target = namespace
        .to(names(it, "rooms"))
        .except(names(it, "except"))
        .timeout(timeout(it));
    match it.get("volatile") {
        Some(Value::Bool(true)) => target.volatile(),
        _ => target,
    }
}

fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    let members = members.into_iter();
    Value::Object(
        members
            .map(|(key, value)| (key.to_owned(), value))
            .collect(),
    )
}

fn text(it: &Value, key: &str) -> String {
    let text = it.get(key).and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}

fn event(it: &Value) -> String {
    text(it, "event")
}

fn list(it: &Value, key: &str) -> Vec<Value> {
    match it.get(key) {
        Some(Value::Array(items)) => items.clone(),
        _ => Vec::new(),
    }
}

fn args(it: &Value) -> Args {
    Args(list(it, "args"))
}

fn names(it: &Value, key: &str) -> Vec<Room> {
    let names = list(it, key).into_iter();
    names
        .filter_map(|name| Some(Room::from(name.as_str()?)))
        .collect()
}

fn timeout(it: &Value) -> Duration {
    match it.get("timeout") {
        Some(Value::Number(ms)) => Duration::from_millis(ms.as_u64().unwrap_or_default()),
        _ => Duration::from_secs(5),
    }
}

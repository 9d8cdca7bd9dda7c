//! Socket.IO inside another server.

mod support;

use std::net::SocketAddr;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::middleware::map_request;
use axum::routing::get;
use sockhop::engine::PeerAddress;
use sockhop::{EngineConfig, EngineLayer, Parser, Server, Socket};
use support::Client;
use tokio::net::TcpListener;

async fn start(server: &Server, app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tasks = server.tasks().clone();
    let stop = tasks.clone();
    tasks.spawn("axum", async move {
        let stopped = async move { stop.stopped().await };
        let app = app.into_make_service_with_connect_info::<SocketAddr>();
        let serving = axum::serve(listener, app).with_graceful_shutdown(stopped);
        drop(serving.await);
    });
    address
}

fn echo() -> Server {
    let server = Server::builder().build().unwrap();
    server
        .of("/")
        .on("echo", |socket: Socket, text: String| async move {
            socket.emit("echo", &text)
        });
    server
}

#[tokio::test]
async fn inside_axum_both_answer_their_own_routes() {
    let server = echo();
    let app = Router::new()
        .route("/", get(async || "the page"))
        .layer(EngineLayer::new(server.service()));
    let address = start(&server, app).await;
    let page = support::get(address, "/").await;
    assert_eq!((page.status, page.body.as_str()), (200, "the page"));
    assert_eq!(support::get(address, "/nothing").await.status, 404);
    // The engine answers its own mistakes.
    let refused = support::get(address, "/socket.io/?EIO=4").await;
    assert_eq!(refused.status, 400);
    assert_eq!(refused.body, r#"{"code":0,"message":"Transport unknown"}"#);
    let handshake = support::get(address, "/socket.io/?EIO=4&transport=polling").await;
    assert!(handshake.body.starts_with("0{"), "{handshake:?}");
    let mut client = Client::connect(address, "/").await;
    client.ask(r#"42["echo","hi"]"#, r#"42["echo","hi"]"#).await;
}

#[tokio::test]
async fn inside_axum_polling_works_from_end_to_end() {
    let server = echo();
    let app = Router::new()
        .route("/", get(async || "the page"))
        .layer(EngineLayer::new(server.service()));
    let address = start(&server, app).await;
    let target = "/socket.io/?EIO=4&transport=polling";
    let sid = support::get(address, target).await.sid();
    let target = format!("{target}&sid={sid}");
    let posted = support::post(address, &target, "40\u{1e}42[\"echo\",\"hi\"]").await;
    assert_eq!((posted.status, posted.body.as_str()), (200, "ok"));
    let answer = support::get(address, &target).await.body;
    assert!(answer.starts_with("40{"), "{answer}");
    assert!(answer.ends_with("\u{1e}42[\"echo\",\"hi\"]"), "{answer}");
}

#[tokio::test]
async fn inside_axum_the_address_of_the_client_is_told_by_a_layer_outside() {
    let server = echo();
    server.of("/").on_connect(|socket: Socket| async move {
        let address = socket
            .handshake()
            .address()
            .map(|address| address.ip().to_string());
        socket.emit("you", &address)
    });
    let tell = async |ConnectInfo(peer): ConnectInfo<SocketAddr>, mut request: Request| {
        request.extensions_mut().insert(PeerAddress(peer));
        request
    };
    let app = Router::new()
        .layer(EngineLayer::new(server.service()))
        .layer(map_request(tell));
    let address = start(&server, app).await;
    let mut client = Client::connect(address, "/").await;
    client.expect(r#"42["you","127.0.0.1"]"#).await;
}

#[tokio::test]
async fn two_layers_of_one_server_serve_two_paths() {
    let server = echo();
    let other = EngineConfig {
        path: "/other/".to_owned(),
        ..EngineConfig::default()
    };
    let app = Router::new()
        .layer(EngineLayer::new(server.service()))
        .layer(EngineLayer::new(server.mount(other, Parser::Json)));
    let address = start(&server, app).await;
    let mut first = Client::connect(address, "/").await;
    let mut second = Client::open_at(address, "/other/?EIO=4&transport=websocket").await;
    second.join("/").await;
    server.emit("all", &()).unwrap();
    first.expect(r#"42["all"]"#).await;
    second.expect(r#"42["all"]"#).await;
}

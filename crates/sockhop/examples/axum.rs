//! Socket.IO inside an axum server: `cargo run -p sockhop --example axum`, then connect a client
//! to http://127.0.0.1:3000.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::middleware::map_request;
use axum::routing::get;
use sockhop::engine::PeerAddress;
use sockhop::{EngineLayer, Server, Socket};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::builder().build()?;
    server
        .of("/")
        .on("chat message", |socket: Socket, text: String| async move {
            socket.namespace().emit("chat message", &text)
        });
    let app = Router::new()
        .route("/", get(async || "the Socket.IO endpoint is /socket.io/"))
        // Requests for /socket.io/ go to the engine, all others to the routes.
        .layer(EngineLayer::new(server.service()))
        .layer(map_request(tell_address));
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 3000))).await?;
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, app).await?;
    Ok(())
}

/// Makes `socket.handshake().address()` known.
async fn tell_address(ConnectInfo(peer): ConnectInfo<SocketAddr>, mut request: Request) -> Request {
    request.extensions_mut().insert(PeerAddress(peer));
    request
}

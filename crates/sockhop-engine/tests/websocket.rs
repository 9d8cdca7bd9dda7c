//! WebSockets over real connections: direct, by upgrade, and their ends.

mod support;

use std::time::Duration;

use engineio_proto::CloseReason;
use futures_util::{FutureExt, SinkExt, StreamExt};
use sockhop_engine::EngineConfig;
use support::{Server, get, post};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn connect(server: &Server, query: &str) -> Client {
    let url = format!(
        "ws://{}/socket.io/?{query}&transport=websocket",
        server.address
    );
    connect_async(url).await.unwrap().0
}

async fn next_text(client: &mut Client) -> String {
    client
        .next()
        .await
        .unwrap()
        .unwrap()
        .into_text()
        .unwrap()
        .to_string()
}

#[tokio::test]
async fn messages_come_back() {
    let server = Server::start(EngineConfig::default()).await;
    let mut client = connect(&server, "EIO=4").await;
    assert!(next_text(&mut client).await.starts_with("0{\"sid\":"));
    client.send("4hello".into()).await.unwrap();
    assert_eq!(next_text(&mut client).await, "4hello");
    client.send(Message::binary(vec![1, 2, 3])).await.unwrap();
    assert_eq!(
        client.next().await.unwrap().unwrap(),
        Message::binary(vec![1, 2, 3])
    );
}

#[tokio::test]
async fn a_large_message_comes_back_whole() {
    let server = Server::start(EngineConfig::default()).await;
    let mut client = connect(&server, "EIO=4").await;
    next_text(&mut client).await;
    let message = format!("4{}", "€".repeat(300_000));
    client.send(message.clone().into()).await.unwrap();
    assert_eq!(next_text(&mut client).await, message);
}

#[tokio::test]
async fn version_3_binary_has_a_type_byte_and_b64_clients_get_text() {
    let server = Server::start(EngineConfig::default()).await;
    let mut client = connect(&server, "EIO=3").await;
    next_text(&mut client).await;
    client.send(Message::binary(vec![4, 1, 2])).await.unwrap();
    assert_eq!(
        client.next().await.unwrap().unwrap(),
        Message::binary(vec![4, 1, 2])
    );
    let mut client = connect(&server, "EIO=3&b64=1").await;
    next_text(&mut client).await;
    client.send("b4AQI=".into()).await.unwrap();
    assert_eq!(next_text(&mut client).await, "b4AQI=");
}

#[tokio::test]
async fn a_session_moves_to_the_websocket_and_loses_nothing() {
    let server = Server::start(EngineConfig::default()).await;
    let opened = get(server.address, "/socket.io/?EIO=4&transport=polling").await;
    let sid = opened.sid();
    let target = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
    let mut client = connect(&server, &format!("EIO=4&sid={sid}")).await;
    client.send("2probe".into()).await.unwrap();
    assert_eq!(next_text(&mut client).await, "3probe");
    post(server.address, &target, b"4on polling").await;
    assert_eq!(get(server.address, &target).await.text(), "4on polling");
    // Until the upgrade packet, a parked poll is released with a noop.
    assert_eq!(get(server.address, &target).await.text(), "6");
    post(server.address, &target, b"4before").await;
    client.send("5".into()).await.unwrap();
    client.send("4after".into()).await.unwrap();
    assert_eq!(next_text(&mut client).await, "4before");
    assert_eq!(next_text(&mut client).await, "4after");
    let polled = get(server.address, &target).await;
    assert_eq!(
        (polled.status, polled.text()),
        (400, r#"{"code":3,"message":"Bad request"}"#)
    );
    let websockets = "sockhop_engine_sessions{protocol=\"4\",transport=\"websocket\"}";
    assert!((server.metric(websockets) - 1.0).abs() < f64::EPSILON);
}

#[tokio::test]
async fn a_bad_probe_ends_the_websocket_only() {
    let server = Server::start(EngineConfig::default()).await;
    let sid = get(server.address, "/socket.io/?EIO=4&transport=polling")
        .await
        .sid();
    let mut client = connect(&server, &format!("EIO=4&sid={sid}")).await;
    client.send("4no probe".into()).await.unwrap();
    assert!(matches!(
        client.next().await,
        Some(Ok(Message::Close(None)))
    ));
    let target = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
    post(server.address, &target, b"4alive").await;
    assert_eq!(get(server.address, &target).await.text(), "4alive");
}

#[tokio::test]
async fn a_second_websocket_is_accepted_and_closed() {
    let server = Server::start(EngineConfig::default()).await;
    let mut first = connect(&server, "EIO=4").await;
    let opened = next_text(&mut first).await;
    let sid = opened.split('"').nth(3).unwrap();
    let mut second = connect(&server, &format!("EIO=4&sid={sid}")).await;
    assert!(matches!(
        second.next().await,
        Some(Ok(Message::Close(None)))
    ));
    first.send("4alive".into()).await.unwrap();
    assert_eq!(next_text(&mut first).await, "4alive");
}

#[tokio::test]
async fn errors_come_instead_of_the_upgrade() {
    let server = Server::start(EngineConfig::default()).await;
    for (query, message) in [
        ("transport=websocket", "Unsupported protocol version"),
        ("EIO=4&transport=nothing", "Transport unknown"),
        (
            "EIO=4&transport=websocket&sid=AAAAAAAAAAAAAAAAAAAA",
            "Session ID unknown",
        ),
        ("EIO=4&transport=polling", "Bad request"),
    ] {
        let url = format!("ws://{}/socket.io/?{query}", server.address);
        let Err(Error::Http(response)) = connect_async(url).await else {
            panic!("{query} was upgraded");
        };
        assert_eq!(response.status(), 400);
        assert_eq!(
            response.body().as_deref(),
            Some(message.as_bytes()),
            "{query}"
        );
    }
}

#[tokio::test]
async fn a_message_over_the_limit_is_answered_1009() {
    let mut config = EngineConfig::default();
    config.session.max_payload = 100;
    let mut server = Server::start(config).await;
    let mut client = connect(&server, "EIO=4").await;
    next_text(&mut client).await;
    client.send("4".repeat(101).into()).await.unwrap();
    let Some(Ok(Message::Close(Some(frame)))) = client.next().await else {
        panic!("no close")
    };
    assert_eq!(u16::from(frame.code), 1009);
    assert!(matches!(
        server.closed.recv().await,
        Some(CloseReason::Violation(_))
    ));
}

#[tokio::test]
async fn ends_are_told_apart() {
    let mut server = Server::start(EngineConfig::default()).await;
    let mut client = connect(&server, "EIO=4").await;
    next_text(&mut client).await;
    client.close(None).await.unwrap();
    assert_eq!(
        server.closed.recv().await,
        Some(CloseReason::TransportClose)
    );

    let mut client = connect(&server, "EIO=4").await;
    next_text(&mut client).await;
    client.send("1".into()).await.unwrap();
    assert_eq!(
        server.closed.recv().await,
        Some(CloseReason::TransportClose)
    );

    let mut config = EngineConfig::default();
    config.session.ping_interval = Duration::from_millis(20);
    config.session.ping_timeout = Duration::from_millis(20);
    let mut server = Server::start(config).await;
    let mut client = connect(&server, "EIO=4").await;
    next_text(&mut client).await;
    assert_eq!(next_text(&mut client).await, "2");
    assert_eq!(server.closed.recv().await, Some(CloseReason::PingTimeout));
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed_as_a_slow_consumer() {
    let config = EngineConfig {
        outbox_bytes: 100_000,
        ..EngineConfig::default()
    };
    let mut server = Server::start(config).await;
    let mut client = connect(&server, "EIO=4").await;
    let message = format!("4{}", "x".repeat(90_000));
    // Never reading the echoes fills the kernel's buffers first, then the outbox.
    let reason = loop {
        tokio::select! {
            reason = server.closed.recv() => break reason,
            sent = client.send(message.clone().into()) => if sent.is_err() { break server.closed.recv().await },
        }
    };
    assert_eq!(reason, Some(CloseReason::SlowConsumer));
}

#[tokio::test]
async fn closing_the_service_ends_every_session_with_a_goodbye() {
    let mut server = Server::start(EngineConfig::default()).await;
    let mut client = connect(&server, "EIO=4").await;
    next_text(&mut client).await;
    server.service.close(&CloseReason::ServerShutdown);
    assert!(matches!(
        client.next().await,
        Some(Ok(Message::Close(None)))
    ));
    assert_eq!(
        server.closed.recv().await,
        Some(CloseReason::ServerShutdown)
    );
    let refused = get(server.address, "/socket.io/?EIO=4&transport=polling").await;
    assert_eq!(refused.status, 503);
}

#[tokio::test]
async fn heartbeats_go_on_under_a_flood_of_messages() {
    let mut config = EngineConfig::default();
    config.session.ping_interval = Duration::from_millis(20);
    config.session.ping_timeout = Duration::from_secs(5);
    let server = Server::start(config).await;
    let (mut sink, mut stream) = connect(&server, "EIO=4").await.split();
    let mut pings = 0;
    while pings < 20 {
        // Many small segments, so that a turn uses up its budget of operations.
        sink.send("4x".into()).await.unwrap();
        if let Some(Some(Ok(message))) = stream.next().now_or_never()
            && message.to_text().unwrap() == "2"
        {
            pings += 1;
            sink.send("3".into()).await.unwrap();
        }
    }
}

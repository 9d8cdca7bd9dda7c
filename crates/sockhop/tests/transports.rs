//! What sockets see of transports: the name, the upgrade, the order, what is dropped.

mod support;

use std::net::SocketAddr;

use sockhop::{ProtocolVersion, Socket, Transport};
use support::{Client, TestServer, answer_pings, errors, get, log, next, post, sockets};

/// A polling session in `/`: the target of its requests.
async fn polling(address: SocketAddr) -> String {
    let target = "/socket.io/?EIO=4&transport=polling";
    let sid = get(address, target).await.sid();
    let target = format!("{target}&sid={sid}");
    assert_eq!(post(address, &target, "40").await.body, "ok");
    assert!(get(address, &target).await.body.starts_with("40{"));
    target
}

#[tokio::test]
async fn a_socket_knows_transport_and_protocol() {
    let test = TestServer::start().await;
    let mut connected = sockets(&test.root());
    let (_client, socket) = test.pair(&mut connected).await;
    assert_eq!(socket.transport(), Transport::WebSocket);
    assert_eq!(socket.protocol(), ProtocolVersion::V4);
    polling(test.address).await;
    let socket = next(&mut connected).await;
    assert_eq!(socket.transport(), Transport::Polling);
    let target = "/socket.io/?EIO=3&transport=websocket";
    let _old = Client::open_at(test.address, target).await;
    let socket = next(&mut connected).await;
    assert_eq!(socket.protocol(), ProtocolVersion::V3);
}

#[tokio::test]
async fn the_upgrade_is_told_to_the_sockets_and_loses_nothing() {
    let test = TestServer::start().await;
    let mut failures = errors(&test.root());
    let (log, mut lines) = log();
    let mut connected = sockets(&test.root());
    let target = polling(test.address).await;
    let socket = next(&mut connected).await;
    // One that panics does not keep the notice from the next.
    socket.on_upgrade(|_| panic!("first"));
    socket.on_upgrade(move |socket| log.say(socket.transport().name()));
    socket.emit("before", &()).unwrap();
    let target = target.replace("polling", "websocket");
    let mut client = Client::upgrade(test.address, &target).await;
    client.ask("2probe", "3probe").await;
    socket.emit("meanwhile", &()).unwrap();
    client.send("5").await;
    assert_eq!(next(&mut lines).await, "websocket");
    assert_eq!(next(&mut failures).await, "the handler panicked: first");
    socket.emit("after", &()).unwrap();
    for event in ["before", "meanwhile", "after"] {
        client.expect(&format!(r#"42["{event}"]"#)).await;
    }
}

#[tokio::test]
async fn messages_do_not_overtake_each_other() {
    let test = TestServer::start().await;
    let mut connected = sockets(&test.root());
    let (mut client, socket) = test.pair(&mut connected).await;
    socket.join("red");
    let root = test.root();
    for number in 0..50 {
        match number % 4 {
            0 => socket.emit("n", &number).unwrap(),
            1 => root.emit("n", &number).unwrap(),
            2 => root.to("red").emit("n", &number).unwrap(),
            _ => socket
                .within("red")
                .compress(false)
                .emit("n", &number)
                .unwrap(),
        }
    }
    for number in 0..50 {
        client.expect(&format!(r#"42["n",{number}]"#)).await;
    }
}

#[tokio::test]
async fn answers_and_emits_of_a_handler_keep_their_order() {
    let test = TestServer::start().await;
    test.root().on_with_ack(
        "x",
        |socket: Socket, (): (), ack: sockhop::Ack| async move {
            socket.emit("one", &())?;
            ack.send("two")?;
            socket.emit("three", &())
        },
    );
    let mut client = test.client().await;
    client.ask(r#"421["x"]"#, r#"42["one"]"#).await;
    client.expect(r#"431["two"]"#).await;
    client.expect(r#"42["three"]"#).await;
}

#[tokio::test]
async fn a_volatile_message_is_dropped_behind_another_and_never_reordered() {
    let test = TestServer::start().await;
    answer_pings(&test.root());
    let mut connected = sockets(&test.root());
    let (mut client, socket) = test.pair(&mut connected).await;
    // The session's task does not run before this one waits, so what is queued stays queued.
    socket.emit("ordinary", &1).unwrap();
    socket.volatile().emit("volatile", &2).unwrap();
    test.root().all().volatile().emit("volatile", &3).unwrap();
    socket.volatile().broadcast().emit("volatile", &4).unwrap();
    socket.emit("ordinary", &5).unwrap();
    client.expect(r#"42["ordinary",1]"#).await;
    client.expect(r#"42["ordinary",5]"#).await;
    client.settle().await;
    assert!((test.metric(r#"sockhop_dropped_total{reason="volatile"}"#) - 1.0).abs() < 0.5);
    assert!((test.metric("sockhop_adapter_volatile_dropped_total") - 1.0).abs() < 0.5);
}

#[tokio::test]
async fn a_volatile_message_to_a_client_that_is_ready_arrives() {
    let test = TestServer::start().await;
    answer_pings(&test.root());
    let mut connected = sockets(&test.root());
    let (mut client, socket) = test.pair(&mut connected).await;
    client.settle().await;
    socket.volatile().emit("volatile", &1).unwrap();
    client.expect(r#"42["volatile",1]"#).await;
    client.settle().await;
    test.root().all().volatile().emit("volatile", &2).unwrap();
    client.expect(r#"42["volatile",2]"#).await;
}

#[tokio::test]
async fn a_volatile_message_to_a_client_between_two_polls_is_dropped() {
    let test = TestServer::start().await;
    let mut connected = sockets(&test.root());
    let target = polling(test.address).await;
    let socket = next(&mut connected).await;
    socket.volatile().emit("volatile", &1).unwrap();
    socket.emit("ordinary", &2).unwrap();
    assert_eq!(get(test.address, &target).await.body, r#"42["ordinary",2]"#);
}

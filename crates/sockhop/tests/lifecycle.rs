//! How sockets begin and end, and the reasons that are told.

mod support;

use std::sync::Arc;
use std::time::Duration;

use sockhop::engineio::SessionConfig;
use sockhop::{DisconnectReason, EmitError, EngineConfig, ServerConfig, Socket};
use support::{Client, TestServer, answer_pings, errors, log, next, reasons, sockets, until};
use tokio::sync::{Semaphore, mpsc};

#[tokio::test]
async fn what_the_connect_handler_emits_follows_the_answer() {
    let test = TestServer::start().await;
    test.root()
        .on_connect(|socket: Socket| async move { socket.emit("one", &1) })
        .on_connect(|socket: Socket| async move { socket.emit("two", &2) });
    let mut client = test.client().await;
    client.expect(r#"42["one",1]"#).await;
    client.expect(r#"42["two",2]"#).await;
}

#[tokio::test]
async fn rooms_are_readable_while_disconnecting_and_gone_when_disconnected() {
    let test = TestServer::start().await;
    let (log, mut lines) = log();
    let before = log.clone();
    test.root()
        .on_connect(|socket: Socket| async move { socket.join("red") })
        .on_disconnecting(move |socket, reason| {
            let rooms = socket.rooms().len();
            before.say(format!("{reason} {rooms} {}", socket.is_connected()));
        })
        .on_disconnect(move |socket: Socket, reason: DisconnectReason| {
            let rooms = socket.rooms().len();
            log.say(format!("{reason} {rooms} {}", socket.is_connected()));
            async {}
        });
    let mut client = test.client().await;
    client.send("41").await;
    let reason = "client namespace disconnect";
    assert_eq!(next(&mut lines).await, format!("{reason} 2 true"));
    assert_eq!(next(&mut lines).await, format!("{reason} 0 false"));
}

#[tokio::test]
async fn a_panic_while_disconnecting_does_not_keep_the_socket() {
    let test = TestServer::start().await;
    let mut failures = errors(&test.root());
    let mut left = reasons(&test.root());
    let (log, mut lines) = log();
    test.root()
        .on_disconnecting(|_, _| panic!("first"))
        .on_disconnecting(move |_, _| log.say("second"))
        .on_disconnect(|socket: Socket, _| async move {
            assert!(socket.is_connected(), "third");
        });
    let mut client = test.client().await;
    client.send("41").await;
    assert_eq!(next(&mut failures).await, "the handler panicked: first");
    assert_eq!(next(&mut lines).await, "second");
    next(&mut left).await;
    assert_eq!(next(&mut failures).await, "the handler panicked: third");
    assert_eq!(test.root().socket_count(), 0);
    client.join("/").await;
}

#[tokio::test]
async fn a_client_that_leaves_a_namespace_may_come_back_with_another_id() {
    let test = TestServer::start().await;
    let mut connected = sockets(&test.root());
    let mut left = reasons(&test.root());
    let (mut client, first) = test.pair(&mut connected).await;
    client.send("41").await;
    let reason = DisconnectReason::ClientNamespaceDisconnect;
    assert_eq!(next(&mut left).await, reason);
    client.join("/").await;
    assert_ne!(client.id, first.id().as_str());
}

#[tokio::test]
async fn a_socket_that_left_does_not_speak_for_the_one_that_came_after() {
    let test = TestServer::start().await;
    answer_pings(&test.root());
    let mut connected = sockets(&test.root());
    let (mut client, old) = test.pair(&mut connected).await;
    client.send("41").await;
    client.join("/").await;
    assert!(matches!(old.emit("old", &()), Err(EmitError::Disconnected)));
    let volatile = old.volatile().emit("old", &());
    assert!(matches!(volatile, Err(EmitError::Disconnected)));
    old.join("red");
    assert!(old.rooms().is_empty());
    test.root().to("red").emit("old", &()).unwrap();
    test.root().to(old.id()).emit("old", &()).unwrap();
    old.disconnect(false);
    client.settle().await;
}

#[tokio::test]
async fn the_server_disconnects_a_socket_and_the_session_lives_on() {
    let test = TestServer::start().await;
    test.server.of("/other");
    let mut connected = sockets(&test.root());
    let mut left = reasons(&test.root());
    let (mut client, socket) = test.pair(&mut connected).await;
    client.join("/other").await;
    socket.emit("last words", &()).unwrap();
    socket.disconnect(false);
    client.expect(r#"42["last words"]"#).await;
    client.expect("41").await;
    let reason = DisconnectReason::ServerNamespaceDisconnect;
    assert_eq!(next(&mut left).await, reason);
    assert_eq!(test.server.of("/other").socket_count(), 1);
    client.join("/").await;
}

#[tokio::test]
async fn the_server_closes_a_session_with_all_its_sockets() {
    let test = TestServer::start().await;
    let mut connected = sockets(&test.root());
    let mut left = [reasons(&test.root()), reasons(&test.server.of("/other"))];
    let (mut client, socket) = test.pair(&mut connected).await;
    client.join("/other").await;
    socket.disconnect(true);
    client.expect("41").await;
    client.expect("41/other,").await;
    client.ended().await;
    for left in &mut left {
        let reason = DisconnectReason::ServerNamespaceDisconnect;
        assert_eq!(next(left).await, reason);
    }
}

#[tokio::test]
async fn closing_the_transport_says_nothing_to_the_namespace() {
    let test = TestServer::start().await;
    let mut connected = sockets(&test.root());
    let mut left = reasons(&test.root());
    let (mut client, socket) = test.pair(&mut connected).await;
    socket.close_transport();
    client.ended().await;
    assert_eq!(next(&mut left).await, DisconnectReason::ForcedClose);
}

#[tokio::test]
async fn a_closed_websocket_is_a_transport_close() {
    let test = TestServer::start().await;
    let mut left = reasons(&test.root());
    test.client().await.close().await;
    assert_eq!(next(&mut left).await, DisconnectReason::TransportClose);
}

#[tokio::test]
async fn a_reset_connection_is_a_transport_error() {
    let test = TestServer::start().await;
    let mut left = reasons(&test.root());
    test.client().await.abort();
    assert_eq!(next(&mut left).await, DisconnectReason::TransportError);
}

#[tokio::test]
async fn a_silent_client_is_a_ping_timeout() {
    let engine = EngineConfig {
        session: SessionConfig {
            ping_interval: Duration::from_millis(20),
            ping_timeout: Duration::from_millis(20),
            ..SessionConfig::default()
        },
        ..EngineConfig::default()
    };
    let test = TestServer::with(ServerConfig::default(), engine).await;
    let mut left = reasons(&test.root());
    // Kept, but nobody answers for it.
    let _client = test.client().await;
    assert_eq!(next(&mut left).await, DisconnectReason::PingTimeout);
}

#[tokio::test]
async fn a_packet_that_nobody_can_read_is_a_parse_error() {
    let test = TestServer::start().await;
    let mut left = reasons(&test.root());
    for packet in ["4?", r#"42["unclosed"#, r#"42["connect"]"#, "4", "x"] {
        let mut client = test.client().await;
        client.send(packet).await;
        client.ended().await;
        assert_eq!(
            next(&mut left).await,
            DisconnectReason::ParseError,
            "{packet}"
        );
    }
}

#[tokio::test]
async fn what_came_before_the_violation_is_served() {
    let test = TestServer::start().await;
    let (log, mut lines) = log();
    test.root().on("hello", move |_: Socket, (): ()| {
        log.say("hello");
        async {}
    });
    let mut client = test.client().await;
    client.send(r#"42["hello"]"#).await;
    client.send("4?").await;
    assert_eq!(next(&mut lines).await, "hello");
    client.ended().await;
}

#[tokio::test]
async fn a_slow_reader_is_closed_and_nobody_else_is_harmed() {
    let engine = EngineConfig {
        outbox_bytes: 1000,
        ..EngineConfig::default()
    };
    let test = TestServer::with(ServerConfig::default(), engine).await;
    let mut connected = sockets(&test.root());
    let mut left = reasons(&test.root());
    let (_slow, socket) = test.pair(&mut connected).await;
    // Its task does not run before this test waits, so everything piles up.
    let text = "x".repeat(400);
    let overflow = (0..10).find_map(|_| socket.emit("flood", &text).err());
    assert!(matches!(overflow, Some(EmitError::Overflow)));
    assert_eq!(next(&mut left).await, DisconnectReason::TransportError);
    let (mut other, _) = test.pair(&mut connected).await;
    test.root().emit("fine", &()).unwrap();
    other.expect(r#"42["fine"]"#).await;
}

#[tokio::test]
async fn a_session_that_joins_no_namespace_is_closed() {
    let config = ServerConfig {
        connect_timeout: Duration::from_millis(20),
        ..ServerConfig::default()
    };
    let test = TestServer::with(config, EngineConfig::default()).await;
    let mut client = Client::open(test.address).await;
    client.ended().await;
}

#[tokio::test]
async fn a_disconnect_handler_that_waits_ends_after_the_session() {
    let test = TestServer::start().await;
    let gate = Arc::new(Semaphore::new(0));
    let (log, mut lines) = log();
    let inside = Arc::clone(&gate);
    test.root().on_disconnect(move |_: Socket, reason| {
        let (gate, log) = (Arc::clone(&inside), log.clone());
        async move {
            gate.acquire().await.unwrap().forget();
            log.say(reason);
        }
    });
    test.client().await.close().await;
    until("the socket has left", || test.root().socket_count() == 0).await;
    gate.add_permits(1);
    assert_eq!(next(&mut lines).await, "transport close");
}

#[tokio::test]
async fn a_socket_that_has_left_is_freed_although_its_callbacks_hold_it() {
    struct Witness(mpsc::Sender<()>);
    impl Drop for Witness {
        fn drop(&mut self) {
            let _ = self.0.try_send(());
        }
    }
    let test = TestServer::start().await;
    let (freed, mut witnessed) = mpsc::channel(1);
    test.root().on_connect(move |socket: Socket| {
        socket.insert(Witness(freed.clone()));
        let (one, two) = (socket.clone(), socket.clone());
        socket.on_upgrade(move |_| drop(one.clone()));
        socket.use_packet(move |_, _| {
            assert!(two.is_connected());
            Ok(())
        });
        async {}
    });
    test.client().await.close().await;
    next(&mut witnessed).await;
}

/// Rooms are joined by other threads while sockets connect and leave.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_racing_with_the_disconnect_leave_nothing_in_the_index() {
    let test = TestServer::start().await;
    test.root().on_connect(|socket: Socket| {
        let tasks = socket.server().tasks().clone();
        tasks.spawn("joins", async move {
            for number in 0..200 {
                socket.join(format!("room {}", number % 7));
                socket.leave("room 3");
                if number % 20 == 0 {
                    tokio::task::yield_now().await;
                }
            }
        });
        async {}
    });
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let address = test.address;
        clients.spawn(async move {
            let mut client = Client::open(address).await;
            for _ in 0..50 {
                client.join("/").await;
                client.send("41").await;
            }
            client.close().await;
        });
    }
    clients.join_all().await;
    until("all sockets left", || test.root().socket_count() == 0).await;
    // The joins that come now are for sockets that the index does not know.
    until("all tasks but those of the server ended", || {
        test.server.tasks().len() <= 1
    })
    .await;
    for number in 0..7 {
        let found = test
            .root()
            .to(format!("room {number}"))
            .fetch_sockets()
            .await;
        assert!(found.is_empty());
    }
}

//! The chain that is asked before a client is let in.

mod support;

use std::sync::Arc;

use sockhop::{ConnectError, EmitError, EngineConfig, ServerConfig, Socket, Value};
use support::{Client, TestServer, answer_pings, errors, log, next, reasons, sockets, until};
use tokio::sync::{Semaphore, mpsc};

/// Tasks of a test server: it accepts, and has a connection and a session for a client.
const WITHOUT_SESSION: usize = 1;
const WITH_ONE_SESSION: usize = 2;

/// A middleware that waits for a permit, and the sockets that it was asked about.
fn gate(test: &TestServer) -> (Arc<Semaphore>, mpsc::Receiver<Socket>) {
    let gate = Arc::new(Semaphore::new(0));
    let inside = Arc::clone(&gate);
    let (asked, waiting) = mpsc::channel(100);
    test.root().middleware(move |socket: Socket| {
        asked.try_send(socket).unwrap();
        let gate = Arc::clone(&inside);
        async move {
            gate.acquire().await.unwrap().forget();
            Ok(())
        }
    });
    (gate, waiting)
}

#[tokio::test]
async fn middlewares_are_asked_in_order_and_before_the_connect_handler() {
    let test = TestServer::start().await;
    let (log, mut lines) = log();
    for name in ["first", "second"] {
        let log = log.clone();
        test.root().middleware(move |socket: Socket| {
            let log = log.clone();
            async move {
                tokio::task::yield_now().await;
                log.say(format!("{name} {}", socket.is_connected()));
                Ok(())
            }
        });
    }
    test.root().on_connect(move |socket: Socket| {
        log.say(format!("connect {}", socket.is_connected()));
        async {}
    });
    let _client = test.client().await;
    for line in ["first false", "second false", "connect true"] {
        assert_eq!(next(&mut lines).await, line);
    }
}

#[tokio::test]
async fn a_refusal_carries_message_and_data_and_ends_the_chain() {
    let test = TestServer::start().await;
    let (log, mut lines) = log();
    let data = Value::Object(vec![("code".to_owned(), Value::from(401_u64))]);
    test.root().middleware(move |_| {
        let refusal = ConnectError::new("unauthorized").with_data(data.clone());
        async { Err(refusal) }
    });
    let later = log.clone();
    test.root().middleware(move |_| {
        later.say("later");
        async { Ok(()) }
    });
    test.root().on_connect(move |_| {
        log.say("connect");
        async {}
    });
    let mut client = Client::open(test.address).await;
    let refusal = r#"44{"message":"unauthorized","data":{"code":401}}"#;
    client.ask("40", refusal).await;
    // The session lives on, and may try again.
    client.ask("40", refusal).await;
    assert!(lines.try_recv().is_err());
    assert!((test.metric(r#"sockhop_connects_total{result="refused"}"#) - 2.0).abs() < 0.5);
}

#[tokio::test]
async fn clients_of_protocol_4_get_the_data_instead_of_the_message() {
    let test = TestServer::start().await;
    test.root().middleware(|_| async {
        Err(ConnectError::new("no").with_data(Value::String("why".to_owned())))
    });
    let target = "/socket.io/?EIO=3&transport=websocket";
    let mut client = Client::open_at(test.address, target).await;
    client.expect(r#"44"why""#).await;
}

#[tokio::test]
async fn a_middleware_sees_auth_and_handshake() {
    let test = TestServer::start().await;
    let (log, mut lines) = log();
    test.root().middleware(move |socket: Socket| {
        let token = socket.auth().get("token").and_then(Value::as_str);
        let query = socket.handshake().query_value("room");
        let host = socket.handshake().header("host").is_some();
        log.say(format!("{token:?} {query:?} {host}"));
        async { Ok(()) }
    });
    let target = "/socket.io/?EIO=4&transport=websocket&room=7";
    let mut client = Client::open_at(test.address, target).await;
    client.send(r#"40{"token":"abc"}"#).await;
    client.text().await;
    assert_eq!(next(&mut lines).await, r#"Some("abc") Some("7") true"#);
}

#[tokio::test]
async fn a_middleware_that_waits_delays_only_its_own_client() {
    let test = TestServer::start().await;
    let (gate, _asked) = gate(&test);
    test.server.of("/open");
    let mut client = Client::open(test.address).await;
    client.send("40").await;
    client.join("/open").await;
    gate.add_permits(1);
    assert!(client.text().await.starts_with("40{"));
}

#[tokio::test]
async fn a_panic_refuses_the_client_and_harms_nobody() {
    let test = TestServer::start().await;
    let mut failures = errors(&test.root());
    test.root().middleware(|socket: Socket| async move {
        if socket.auth().get("late").is_some() {
            tokio::task::yield_now().await;
        }
        if socket.auth().get("panic").is_some() {
            panic!("at once");
        }
        Ok(())
    });
    let mut well = test.client().await;
    let mut client = Client::open(test.address).await;
    for auth in [r#"{"panic":1}"#, r#"{"panic":1,"late":1}"#] {
        client
            .ask(&format!("40{auth}"), r#"44{"message":"server error"}"#)
            .await;
        assert_eq!(next(&mut failures).await, "the handler panicked: at once");
    }
    client.join("/").await;
    test.root().emit("both", &()).unwrap();
    client.expect(r#"42["both"]"#).await;
    well.expect(r#"42["both"]"#).await;
}

#[tokio::test]
async fn a_client_that_leaves_meanwhile_is_not_let_in_later() {
    let test = TestServer::start().await;
    let (gate, mut asked) = gate(&test);
    let mut connected = sockets(&test.root());
    let mut left = reasons(&test.root());
    let mut client = Client::open(test.address).await;
    client.send("40").await;
    client.send("41").await;
    // Asks again, so that two decisions are under way; only the second is for somebody.
    client.send("40").await;
    let first = next(&mut asked).await;
    let second = next(&mut asked).await;
    gate.add_permits(2);
    let answer = client.text().await;
    let socket = next(&mut connected).await;
    assert_eq!(answer, format!("40{{\"sid\":\"{}\"}}", socket.id()));
    assert!(socket == second && socket != first);
    test.root().emit("once", &()).unwrap();
    client.expect(r#"42["once"]"#).await;
    assert!(connected.try_recv().is_err());
    assert!(left.try_recv().is_err());
    assert_eq!(test.root().socket_count(), 1);
}

#[tokio::test]
async fn a_client_whose_connection_ends_meanwhile_leaves_nothing_behind() {
    let test = TestServer::start().await;
    let (gate, mut asked) = gate(&test);
    let mut connected = sockets(&test.root());
    let mut client = Client::open(test.address).await;
    client.send("40").await;
    let socket = next(&mut asked).await;
    assert_eq!(test.server.tasks().len(), WITH_ONE_SESSION + 1);
    client.close().await;
    until("only the middleware is left", || {
        test.server.tasks().len() == WITHOUT_SESSION + 1
    })
    .await;
    gate.add_permits(1);
    until("it has ended", || {
        test.server.tasks().len() == WITHOUT_SESSION
    })
    .await;
    assert!(connected.try_recv().is_err());
    assert!(!socket.is_connected());
    assert_eq!(test.root().socket_count(), 0);
}

#[tokio::test]
async fn rooms_joined_in_a_middleware_are_joined_when_the_client_is_let_in() {
    let test = TestServer::start().await;
    test.root().middleware(|socket: Socket| async move {
        socket.join(["red", "green", "blue"]);
        tokio::task::yield_now().await;
        socket.leave("green");
        assert_eq!(socket.rooms().len(), 3);
        Ok(())
    });
    let mut connected = sockets(&test.root());
    let (mut client, socket) = test.pair(&mut connected).await;
    let mut rooms = socket.rooms();
    rooms.retain(|room| room.as_str() != client.id);
    assert_eq!(rooms, ["red".into(), "blue".into()]);
    test.root().to("green").emit("no", &()).unwrap();
    test.root().to("red").emit("yes", &()).unwrap();
    client.expect(r#"42["yes"]"#).await;
}

#[tokio::test]
async fn rooms_joined_in_a_middleware_count_against_the_limit() {
    let config = ServerConfig {
        max_rooms_per_socket: 2,
        ..ServerConfig::default()
    };
    let test = TestServer::with(config, EngineConfig::default()).await;
    test.root().middleware(|socket: Socket| async move {
        socket.join(["a", "b", "c", "d"]);
        Ok(())
    });
    let mut connected = sockets(&test.root());
    let (_client, socket) = test.pair(&mut connected).await;
    assert_eq!(socket.rooms().len(), 3);
    assert!(test.metric("sockhop_adapter_rooms_refused_total") > 0.5);
}

#[tokio::test]
async fn nothing_is_emitted_to_a_client_that_is_not_in_yet() {
    let test = TestServer::start().await;
    let (log, mut lines) = log();
    test.root().middleware(move |socket: Socket| {
        let sent = socket.emit("early", &());
        log.say(matches!(sent, Err(EmitError::Disconnected)));
        async { Ok(()) }
    });
    answer_pings(&test.root());
    let mut client = test.client().await;
    assert_eq!(next(&mut lines).await, "true");
    client.settle().await;
}

#[tokio::test]
async fn a_middleware_may_disconnect_the_client_and_then_it_is_told() {
    let test = TestServer::start().await;
    let (gate, _asked) = gate(&test);
    test.root().middleware(|socket: Socket| async move {
        socket.disconnect(false);
        // The session gets the order before this decision.
        tokio::task::yield_now().await;
        Ok(())
    });
    let mut connected = sockets(&test.root());
    let mut client = Client::open(test.address).await;
    client.send("40").await;
    gate.add_permits(1);
    client
        .expect(r#"44{"message":"disconnected by the server"}"#)
        .await;
    assert!(connected.try_recv().is_err());
    // It may ask again.
    gate.add_permits(1);
    client
        .ask("40", r#"44{"message":"disconnected by the server"}"#)
        .await;
}

#[tokio::test]
async fn a_middleware_may_close_the_session() {
    let test = TestServer::start().await;
    test.root().middleware(|socket: Socket| async move {
        socket.disconnect(true);
        std::future::pending().await
    });
    let mut client = Client::open(test.address).await;
    client.send("40").await;
    client
        .expect(r#"44{"message":"disconnected by the server"}"#)
        .await;
    client.ended().await;
}

#[tokio::test]
async fn coming_back_again_and_again_does_not_pile_up_middlewares() {
    let config = ServerConfig {
        max_pending_handlers: 3,
        ..ServerConfig::default()
    };
    let test = TestServer::with(config, EngineConfig::default()).await;
    let (gate, _asked) = gate(&test);
    let mut client = Client::open(test.address).await;
    for _ in 0..3 {
        client.send("40").await;
        client.send("41").await;
    }
    client
        .ask("40", r#"44{"message":"too many unfinished handlers"}"#)
        .await;
    gate.add_permits(10);
    until("the three have ended", || gate.available_permits() == 7).await;
    client.join("/").await;
}

//! Namespaces: static, made on demand, freed again, refused.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sockhop::{ConnectError, EngineConfig, ServerConfig, Socket, Value};
use support::{Client, TestServer, log, names, next, sockets, until};

#[tokio::test]
async fn the_root_lets_everybody_in_and_shows_a_public_id() {
    let test = TestServer::start().await;
    let mut connected = sockets(&test.root());
    let (client, socket) = test.pair(&mut connected).await;
    assert_eq!(client.id.len(), 20);
    assert_eq!(socket.namespace().name().as_str(), "/");
    assert!(socket.is_connected());
    assert_eq!(test.root().socket_count(), 1);
}

#[tokio::test]
async fn a_session_is_in_several_namespaces_at_once_with_an_id_each() {
    let test = TestServer::start().await;
    let chat = test.server.of("chat");
    chat.on("where", |socket: Socket, (): ()| async move {
        socket.emit("here", socket.namespace().name().as_str())
    });
    let mut client = test.client().await;
    let root_id = client.id.clone();
    client.join("/chat").await;
    assert_ne!(client.id, root_id);
    client
        .ask(r#"42/chat,["where"]"#, r#"42/chat,["here","/chat"]"#)
        .await;
}

#[tokio::test]
async fn an_unknown_namespace_is_refused_and_the_session_lives_on() {
    let test = TestServer::start().await;
    let mut client = test.client().await;
    client
        .ask("40/nope,", r#"44/nope,{"message":"Invalid namespace"}"#)
        .await;
    test.server.of("/nope");
    client.join("/nope").await;
}

#[tokio::test]
async fn a_pattern_makes_a_namespace_that_is_freed_with_its_last_client() {
    let test = TestServer::start().await;
    test.server
        .dynamic("/room-{id}", |namespace| {
            namespace.on("who", |socket: Socket, (): ()| async move {
                socket
                    .namespace()
                    .emit("name", socket.namespace().name().as_str())
            });
        })
        .unwrap();
    let mut first = Client::connect(test.address, "/room-7").await;
    let mut second = Client::connect(test.address, "/room-7").await;
    assert_eq!(test.namespace_names(), ["/", "/room-7"]);
    first
        .ask(r#"42/room-7,["who"]"#, r#"42/room-7,["name","/room-7"]"#)
        .await;
    second.expect(r#"42/room-7,["name","/room-7"]"#).await;
    first.send("41/room-7,").await;
    until("the first left", || {
        test.server.of("/room-7").socket_count() == 1
    })
    .await;
    assert_eq!(test.namespace_names(), ["/", "/room-7"]);
    second.close().await;
    until("the namespace is freed", || test.namespace_names() == ["/"]).await;
    first.join("/room-7").await;
    assert_eq!(test.namespace_names(), ["/", "/room-7"]);
}

#[tokio::test]
async fn what_does_not_fit_the_pattern_is_refused() {
    let test = TestServer::start().await;
    test.server.dynamic("/room-{id}", |_| {}).unwrap();
    let mut client = Client::open(test.address).await;
    for name in ["/room-", "/room-1/x", "/other"] {
        let refusal = format!("44{name},{{\"message\":\"Invalid namespace\"}}");
        client.ask(&format!("40{name},"), &refusal).await;
    }
    assert!(test.server.dynamic("/{", |_| {}).is_err());
}

#[tokio::test]
async fn a_predicate_sees_name_auth_and_handshake() {
    let test = TestServer::start().await;
    let (log, mut lines) = log();
    test.server.dynamic_when(
        move |name, auth, handshake| {
            let key = auth.get("key").and_then(Value::as_str).unwrap_or("none");
            let version = handshake.query_value("EIO").unwrap_or_default();
            log.say(format!("{name} {key} {version}"));
            key == "open sesame"
        },
        |_| {},
    );
    let mut client = Client::open(test.address).await;
    client
        .ask("40/cave,", r#"44/cave,{"message":"Invalid namespace"}"#)
        .await;
    client.send(r#"40/cave,{"key":"open sesame"}"#).await;
    assert!(client.text().await.starts_with("40/cave,{"));
    assert_eq!(next(&mut lines).await, "/cave none 4");
    assert_eq!(next(&mut lines).await, "/cave open sesame 4");
}

#[tokio::test]
async fn rules_are_asked_in_the_order_of_their_registration() {
    let test = TestServer::start().await;
    for rule in ["first", "second"] {
        test.server.dynamic_when(
            |_, _, _| true,
            move |namespace| {
                namespace
                    .on_connect(move |socket: Socket| async move { socket.emit("rule", rule) });
            },
        );
    }
    let mut client = Client::connect(test.address, "/any").await;
    client.expect(r#"42/any,["rule","first"]"#).await;
}

#[tokio::test]
async fn a_refused_client_frees_the_namespace_made_for_it() {
    let test = TestServer::start().await;
    test.server.dynamic_when(
        |_, _, _| true,
        |namespace| {
            namespace.middleware(|_| async { Err(ConnectError::new("no")) });
        },
    );
    let mut client = Client::open(test.address).await;
    client.ask("40/a,", r#"44/a,{"message":"no"}"#).await;
    assert_eq!(test.namespace_names(), ["/"]);
}

#[tokio::test]
async fn namespaces_on_demand_are_limited_and_a_freed_one_makes_room() {
    let config = ServerConfig {
        max_dynamic_namespaces: 2,
        ..ServerConfig::default()
    };
    let test = TestServer::with(config, EngineConfig::default()).await;
    let setups = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&setups);
    test.server
        .dynamic("/n{id}", move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
        })
        .unwrap();
    let mut client = Client::connect(test.address, "/n1").await;
    client.join("/n2").await;
    client
        .ask("40/n3,", r#"44/n3,{"message":"Invalid namespace"}"#)
        .await;
    assert_eq!(setups.load(Ordering::Relaxed), 2);
    // The limit is on namespaces, not on clients in them.
    Client::connect(test.address, "/n2").await;
    client.send("41/n1,").await;
    client.join("/n3").await;
}

#[tokio::test]
async fn a_rule_that_panics_refuses_its_client_and_harms_nobody() {
    let test = TestServer::start().await;
    test.server.dynamic_when(
        |name, _, _| match name {
            "/bad-rule" => panic!("rule"),
            other => other == "/bad-setup",
        },
        |_| panic!("setup"),
    );
    let mut client = test.client().await;
    for name in ["/bad-rule", "/bad-setup"] {
        let refusal = format!("44{name},{{\"message\":\"Invalid namespace\"}}");
        client.ask(&format!("40{name},"), &refusal).await;
    }
    assert_eq!(test.namespace_names(), ["/"]);
    test.root().emit("still", "here").unwrap();
    client.expect(r#"42["still","here"]"#).await;
    let panics = test.metric(r#"sockhop_handler_errors_total{kind="panicked"}"#);
    assert!((panics - 2.0).abs() < f64::EPSILON);
}

#[tokio::test]
async fn clients_of_protocol_4_are_in_the_root_without_asking() {
    let test = TestServer::start().await;
    let mut connected = sockets(&test.root());
    let target = "/socket.io/?EIO=3&transport=websocket";
    let mut client = Client::open_at(test.address, target).await;
    client.expect("40").await;
    let socket = next(&mut connected).await;
    socket.emit("hi", "there").unwrap();
    client.expect(r#"42["hi","there"]"#).await;
}

#[tokio::test]
async fn clients_of_protocol_4_send_their_auth_as_the_query_of_the_namespace() {
    let test = TestServer::start().await;
    let chat = test.server.of("/chat");
    let mut connected = sockets(&chat);
    let target = "/socket.io/?EIO=3&transport=websocket";
    let mut client = Client::open_at(test.address, target).await;
    client.expect("40").await;
    client.ask("40/chat?token=a%20b&x=1,", "40/chat,").await;
    let socket = next(&mut connected).await;
    assert_eq!(
        socket.auth().get("token").and_then(Value::as_str),
        Some("a b")
    );
    assert!(socket.id().as_str().starts_with("/chat#"));
}

#[tokio::test]
async fn a_client_that_may_join_no_more_namespaces_is_closed() {
    let mut config = ServerConfig::default();
    config.limits.max_namespaces = 2;
    let test = TestServer::with(config, EngineConfig::default()).await;
    test.server.dynamic("/n{id}", |_| {}).unwrap();
    let mut client = Client::connect(test.address, "/n1").await;
    client.join("/n2").await;
    client.send("40/n3,").await;
    client.ended().await;
    until("all is freed", || names(&test.server) == ["/"]).await;
}

#[tokio::test]
async fn handlers_added_later_serve_sockets_that_are_in_already() {
    let test = TestServer::start().await;
    let mut client = test.client().await;
    test.root().on("late", |socket: Socket, (): ()| async move {
        socket.emit("served", &())
    });
    client.ask(r#"42["late"]"#, r#"42["served"]"#).await;
}

/// Namespaces come and go under clients that join and leave them at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn churn_in_one_namespace_loses_no_client_and_leaks_nothing() {
    let test = TestServer::start().await;
    test.server
        .dynamic("/churn-{id}", |namespace| {
            namespace.on("echo", |socket: Socket, (): ()| async move {
                // Through the table, which must know the namespace that this client is in.
                let table = socket.server().namespaces();
                let here = table
                    .iter()
                    .find(|it| it.name() == socket.namespace().name());
                here.unwrap().to(socket.id()).emit("echo", &())
            });
        })
        .unwrap();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let address = test.address;
        clients.spawn(async move {
            let mut client = Client::open(address).await;
            for _ in 0..100 {
                client.join("/churn-1").await;
                client
                    .ask(r#"42/churn-1,["echo"]"#, r#"42/churn-1,["echo"]"#)
                    .await;
                client.send("41/churn-1,").await;
            }
            client.close().await;
        });
    }
    clients.join_all().await;
    until("all is freed", || test.namespace_names() == ["/"]).await;
}

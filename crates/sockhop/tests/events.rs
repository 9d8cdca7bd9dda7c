//! Events from clients: what handlers get, in which order they are asked, what is refused.

mod support;

use sockhop::{Ack, Args, Event, Namespace, Payload, Socket, Value};
use support::{TestServer, answer_pings, errors, log, next, sockets};

#[tokio::test]
async fn one_argument_many_or_none_become_what_the_handler_asks_for() {
    let test = TestServer::start().await;
    test.root()
        .on("text", |socket: Socket, text: String| async move {
            socket.emit("got", &text)
        })
        .on(
            "pair",
            |socket: Socket, (a, b): (u8, Option<u8>)| async move { socket.emit("got", &(a, b)) },
        )
        .on("none", |socket: Socket, (): ()| async move {
            socket.emit("got", &())
        })
        .on("list", |socket: Socket, list: Vec<u8>| async move {
            socket.emit("got", &list)
        });
    let mut client = test.client().await;
    client
        .ask(r#"42["text","hé",1]"#, r#"42["got","hé"]"#)
        .await;
    client.ask(r#"42["pair",1,2]"#, r#"42["got",1,2]"#).await;
    client.ask(r#"42["pair",1]"#, r#"42["got",1,null]"#).await;
    client.ask(r#"42["none",1,2]"#, r#"42["got"]"#).await;
    client
        .ask(r#"42["list",[1,2]]"#, r#"42["got",[1,2]]"#)
        .await;
}

#[tokio::test]
async fn raw_arguments_go_back_as_they_came() {
    let test = TestServer::start().await;
    test.root()
        .on("payload", |socket: Socket, raw: Payload| async move {
            socket.emit("got", &raw)
        })
        .on("args", |socket: Socket, args: Args| async move {
            socket.emit("got", &args)
        })
        .on("value", |socket: Socket, value: Value| async move {
            socket.emit("got", &value)
        });
    let mut client = test.client().await;
    for name in ["payload", "args"] {
        let event = format!(r#"42["{name}",1,{{"z":1,"a":[null]}},"x"]"#);
        client
            .ask(&event, r#"42["got",1,{"z":1,"a":[null]},"x"]"#)
            .await;
    }
    client
        .ask(
            r#"42["value",{"z":1,"a":2},"ignored"]"#,
            r#"42["got",{"z":1,"a":2}]"#,
        )
        .await;
}

#[tokio::test]
async fn binary_inside_arguments_arrives_and_returns() {
    let test = TestServer::start().await;
    test.root()
        .on("blob", |socket: Socket, value: Value| async move {
            socket.emit("got", &value)
        });
    let mut client = test.client().await;
    client
        .send(r#"451-["blob",{"at":{"_placeholder":true,"num":0}}]"#)
        .await;
    client.send_binary(&[1, 2, 3]).await;
    client
        .expect(r#"451-["got",{"at":{"_placeholder":true,"num":0}}]"#)
        .await;
    assert_eq!(client.binary().await, [1, 2, 3]);
}

#[tokio::test]
async fn the_second_arity_gets_the_acknowledgement() {
    let test = TestServer::start().await;
    let (log, mut lines) = log();
    test.root()
        .on_with_ack("sum", move |_: Socket, (a, b): (u8, u8), ack: Ack| {
            log.say(ack.is_wanted());
            async move { ack.send(&(a + b, "done")) }
        });
    answer_pings(&test.root());
    let mut client = test.client().await;
    client.ask(r#"427["sum",1,2]"#, r#"437[3,"done"]"#).await;
    client.send(r#"42["sum",1,2]"#).await;
    client.settle().await;
    assert_eq!(next(&mut lines).await, "true");
    assert_eq!(next(&mut lines).await, "false");
}

#[tokio::test]
async fn a_later_handler_replaces_the_first_and_off_takes_it_away() {
    let test = TestServer::start().await;
    answer_pings(&test.root());
    for number in [1, 2] {
        test.root()
            .on("x", move |socket: Socket, (): ()| async move {
                socket.emit("handler", &number)
            });
    }
    let mut client = test.client().await;
    client.ask(r#"42["x"]"#, r#"42["handler",2]"#).await;
    test.root().off("x");
    client.send(r#"42["x"]"#).await;
    client.settle().await;
    assert!((test.metric(r#"sockhop_dropped_total{reason="no_handler"}"#) - 1.0).abs() < 0.5);
}

#[tokio::test]
async fn a_handler_may_register_handlers_while_it_runs() {
    let test = TestServer::start().await;
    test.root()
        .on("first", |socket: Socket, (): ()| async move {
            let namespace = socket.namespace();
            namespace
                .off("first")
                .on("second", |socket: Socket, (): ()| async move {
                    socket.emit("second", &())
                });
        });
    let mut client = test.client().await;
    client.send(r#"42["first"]"#).await;
    client.ask(r#"42["second"]"#, r#"42["second"]"#).await;
}

#[tokio::test]
async fn a_handler_that_is_replaced_may_do_anything_when_it_is_dropped() {
    struct Last(Namespace);
    impl Drop for Last {
        fn drop(&mut self) {
            self.0.off("y");
        }
    }
    let test = TestServer::start().await;
    let last = Last(test.root());
    test.root().on("x", move |_: Socket, (): ()| {
        let _ = &last.0;
        async {}
    });
    // Would wait for itself if something were locked.
    test.root().off("x");
}

#[tokio::test]
async fn everything_is_shown_to_observers_before_the_handlers() {
    let test = TestServer::start().await;
    let (log, mut lines) = log();
    let observer = log.clone();
    test.root()
        .on_any(move |_, event: &Event| {
            let arguments = event.payload().raw_json().unwrap_or_default();
            observer.say(format!(
                "any {} {arguments} {}",
                event.name(),
                event.wants_ack()
            ));
        })
        .on("known", move |_: Socket, (): ()| {
            log.say("known");
            async {}
        });
    let mut client = test.client().await;
    client.send(r#"42["known",1]"#).await;
    client.send(r#"425["unknown"]"#).await;
    assert_eq!(next(&mut lines).await, "any known 1 false");
    assert_eq!(next(&mut lines).await, "known");
    assert_eq!(next(&mut lines).await, "any unknown  true");
}

#[tokio::test]
async fn events_without_a_handler_go_to_the_unhandled_one() {
    let test = TestServer::start().await;
    test.root()
        .on("known", |socket: Socket, (): ()| async move {
            socket.emit("known", &())
        })
        .on_unhandled(|_: Socket, event: Event, ack: Ack| async move {
            ack.send(&(event.name(), event.payload().args().unwrap()))
        });
    let mut client = test.client().await;
    client.ask(r#"42["known"]"#, r#"42["known"]"#).await;
    client
        .ask(r#"421["other",1,"a"]"#, r#"431["other",[1,"a"]]"#)
        .await;
}

#[tokio::test]
async fn packet_middlewares_of_a_socket_are_asked_in_order_and_may_refuse() {
    let test = TestServer::start().await;
    answer_pings(&test.root());
    let (log, mut lines) = log();
    let mut failures = errors(&test.root());
    let observer = log.clone();
    test.root()
        .on_any(move |_, event| observer.say(event.name()));
    let mut connected = sockets(&test.root());
    let (mut client, socket) = test.pair(&mut connected).await;
    for name in ["first", "second"] {
        let log = log.clone();
        socket.use_packet(move |socket, event| {
            log.say(format!("{name} {}", socket.is_connected()));
            match event.name() {
                "forbidden" => Err(format!("{name} says no")),
                _ => Ok(()),
            }
        });
    }
    client.send(r#"42["forbidden"]"#).await;
    assert_eq!(next(&mut lines).await, "first true");
    assert_eq!(
        next(&mut failures).await,
        "a middleware refused `forbidden`: first says no"
    );
    client.settle().await;
    assert_eq!(next(&mut lines).await, "first true");
    assert_eq!(next(&mut lines).await, "second true");
    assert_eq!(next(&mut lines).await, "ping");
    // Other sockets have none.
    test.client().await.settle().await;
    assert_eq!(next(&mut lines).await, "ping");
}

#[tokio::test]
async fn an_observer_or_packet_middleware_that_panics_ends_nothing() {
    let test = TestServer::start().await;
    answer_pings(&test.root());
    let mut failures = errors(&test.root());
    test.root().on_any(|_, event| {
        assert_ne!(event.name(), "observed");
    });
    test.root()
        .on("observed", |socket: Socket, (): ()| async move {
            socket.emit("handled", &())
        });
    test.root()
        .on("checked", |socket: Socket, (): ()| async move {
            socket.emit("handled", &())
        });
    let mut connected = sockets(&test.root());
    let (mut client, socket) = test.pair(&mut connected).await;
    socket.use_packet(|_, event| {
        assert_ne!(event.name(), "checked");
        Ok(())
    });
    // An observer only watches; a middleware that panics has not agreed.
    client.ask(r#"42["observed"]"#, r#"42["handled"]"#).await;
    client.send(r#"42["checked"]"#).await;
    client.settle().await;
    for _ in 0..2 {
        let failure = next(&mut failures).await;
        assert!(failure.starts_with("the handler panicked"), "{failure}");
    }
    assert!(socket.is_connected());
}

#[tokio::test]
async fn reserved_names_are_not_emitted() {
    let test = TestServer::start().await;
    let mut connected = sockets(&test.root());
    let (_client, socket) = test.pair(&mut connected).await;
    for name in ["connect", "connect_error", "disconnect", "disconnecting"] {
        assert!(socket.emit(name, &()).is_err(), "{name}");
        assert!(test.root().emit(name, &()).is_err(), "{name}");
    }
}

//! How handlers run: order, waiting, failures, the limit on unfinished ones.

mod support;

use std::sync::Arc;

use sockhop::{Ack, EmitError, EngineConfig, ServerConfig, Socket};
use support::{Client, TestServer, answer_pings, errors, log, next, sockets, until};
use tokio::sync::Semaphore;

/// Makes the event `wait` wait for a permit and say so.
fn wait_event(test: &TestServer, log: &support::Log) -> Arc<Semaphore> {
    let gate = Arc::new(Semaphore::new(0));
    let (inside, log) = (Arc::clone(&gate), log.clone());
    test.root().on("wait", move |_: Socket, number: u32| {
        let (gate, log) = (Arc::clone(&inside), log.clone());
        async move {
            log.say(format!("start {number}"));
            gate.acquire().await.unwrap().forget();
            log.say(format!("end {number}"));
        }
    });
    gate
}

#[tokio::test]
async fn handlers_of_a_socket_start_in_order_even_when_some_wait() {
    let test = TestServer::start().await;
    let (log, mut lines) = log();
    let gate = wait_event(&test, &log);
    test.root().on("quick", move |_: Socket, number: u32| {
        log.say(format!("quick {number}"));
        async {}
    });
    let mut client = test.client().await;
    for (event, number) in [("wait", 1), ("quick", 2), ("wait", 3), ("quick", 4)] {
        client.send(&format!(r#"42["{event}",{number}]"#)).await;
    }
    for line in ["start 1", "quick 2", "start 3", "quick 4"] {
        assert_eq!(next(&mut lines).await, line);
    }
    gate.add_permits(2);
    assert_eq!(next(&mut lines).await, "end 1");
    assert_eq!(next(&mut lines).await, "end 3");
}

#[tokio::test]
async fn a_pending_handler_outlives_the_disconnect() {
    let test = TestServer::start().await;
    let (log, mut lines) = log();
    let gate = wait_event(&test, &log);
    let mut client = test.client().await;
    client.send(r#"42["wait",1]"#).await;
    assert_eq!(next(&mut lines).await, "start 1");
    client.close().await;
    until("the socket left", || test.root().socket_count() == 0).await;
    gate.add_permits(1);
    assert_eq!(next(&mut lines).await, "end 1");
}

#[tokio::test]
async fn what_a_late_handler_emits_is_refused_and_reported() {
    let test = TestServer::start().await;
    let mut failures = errors(&test.root());
    let (log, mut lines) = log();
    let gate = Arc::new(Semaphore::new(0));
    let inside = Arc::clone(&gate);
    test.root()
        .on_with_ack("late", move |_: Socket, (): (), ack: Ack| {
            let (gate, log) = (Arc::clone(&inside), log.clone());
            async move {
                log.say("start");
                gate.acquire().await.unwrap().forget();
                ack.send("too late")
            }
        });
    answer_pings(&test.root());
    let mut client = test.client().await;
    client.send(r#"421["late"]"#).await;
    assert_eq!(next(&mut lines).await, "start");
    // Leaves and comes back: the answer is not for the new socket either.
    client.send("41").await;
    client.join("/").await;
    gate.add_permits(1);
    assert_eq!(
        next(&mut failures).await,
        format!("the handler failed: {}", EmitError::Disconnected)
    );
    client.settle().await;
}

#[tokio::test]
async fn an_error_a_panic_and_a_misfit_go_to_the_error_handler() {
    let test = TestServer::start().await;
    let mut failures = errors(&test.root());
    test.root()
        .on("error", |_: Socket, late: bool| async move {
            if late {
                tokio::task::yield_now().await;
            }
            Err::<(), _>("it broke")
        })
        .on("panic", |_: Socket, late: bool| async move {
            if late {
                tokio::task::yield_now().await;
            }
            assert!(std::thread::panicking(), "boom {late}");
        })
        .on("early panic", |_: Socket, (): ()| {
            assert!(std::thread::panicking(), "before the future");
            async {}
        });
    let mut client = test.client().await;
    for late in [false, true] {
        client.send(&format!(r#"42["error",{late}]"#)).await;
        assert_eq!(next(&mut failures).await, "the handler failed: it broke");
        client.send(&format!(r#"42["panic",{late}]"#)).await;
        assert_eq!(
            next(&mut failures).await,
            format!("the handler panicked: boom {late}")
        );
        client.send(r#"42["error",{"not":"a bool"}]"#).await;
        assert_eq!(
            next(&mut failures).await,
            "the payload of `error` does not fit its handler"
        );
    }
    client.send(r#"42["early panic"]"#).await;
    assert_eq!(
        next(&mut failures).await,
        "the handler panicked: before the future"
    );
    for (kind, count) in [("failed", 2.0), ("panicked", 3.0), ("payload", 2.0)] {
        let name = format!("sockhop_handler_errors_total{{kind=\"{kind}\"}}");
        assert!((test.metric(&name) - count).abs() < 0.5, "{kind}");
    }
    assert_eq!(test.root().socket_count(), 1);
}

#[tokio::test]
async fn an_error_handler_that_panics_harms_nobody() {
    let test = TestServer::start().await;
    answer_pings(&test.root());
    test.root()
        .on("x", |_: Socket, (): ()| async { Err::<(), _>("first") })
        .on_error(|_, _| panic!("second"));
    let mut client = test.client().await;
    client.send(r#"42["x"]"#).await;
    client.settle().await;
}

#[tokio::test]
async fn failures_without_an_error_handler_are_only_counted() {
    let test = TestServer::start().await;
    answer_pings(&test.root());
    test.root().on("x", |_: Socket, (): ()| async {
        Err::<(), _>("nobody asks")
    });
    let mut client = test.client().await;
    client.send(r#"42["x"]"#).await;
    client.settle().await;
    let name = r#"sockhop_handler_errors_total{kind="failed"}"#;
    assert!((test.metric(name) - 1.0).abs() < 0.5);
}

async fn with_backlog(limit: usize) -> TestServer {
    let config = ServerConfig {
        max_pending_handlers: limit,
        ..ServerConfig::default()
    };
    TestServer::with(config, EngineConfig::default()).await
}

#[tokio::test]
async fn events_over_the_backlog_are_dropped_before_their_handler_starts() {
    let test = with_backlog(2).await;
    let mut failures = errors(&test.root());
    let (log, mut lines) = log();
    let gate = wait_event(&test, &log);
    let mut client = test.client().await;
    for number in 1..=3 {
        client.send(&format!(r#"42["wait",{number}]"#)).await;
    }
    assert_eq!(
        next(&mut failures).await,
        "too many unfinished handlers for `wait`"
    );
    assert_eq!(next(&mut lines).await, "start 1");
    assert_eq!(next(&mut lines).await, "start 2");
    gate.add_permits(1);
    assert_eq!(next(&mut lines).await, "end 1");
    // There is room again once the task has ended.
    until("the task ended", || test.server.tasks().len() == 3).await;
    client.send(r#"42["wait",4]"#).await;
    assert_eq!(next(&mut lines).await, "start 4");
}

#[tokio::test]
async fn the_backlog_is_one_for_a_client_however_often_it_comes_back() {
    let test = with_backlog(2).await;
    let (log, mut lines) = log();
    let gate = wait_event(&test, &log);
    let mut client = test.client().await;
    client.send(r#"42["wait",1]"#).await;
    client.send("41").await;
    client.join("/").await;
    client.send(r#"42["wait",2]"#).await;
    client.send("41").await;
    client
        .ask("40", r#"44{"message":"too many unfinished handlers"}"#)
        .await;
    // Others have a backlog of their own.
    let mut other = test.client().await;
    other.send(r#"42["wait",3]"#).await;
    for line in ["start 1", "start 2", "start 3"] {
        assert_eq!(next(&mut lines).await, line);
    }
    gate.add_permits(3);
    for line in ["end 1", "end 2", "end 3"] {
        assert_eq!(next(&mut lines).await, line);
    }
}

#[tokio::test]
async fn a_disconnect_handler_runs_to_its_end_even_over_the_backlog() {
    let test = with_backlog(1).await;
    let (log, mut lines) = log();
    let gate = wait_event(&test, &log);
    let inside = Arc::clone(&gate);
    test.root().on_disconnect(move |_: Socket, reason| {
        let (gate, log) = (Arc::clone(&inside), log.clone());
        async move {
            gate.acquire().await.unwrap().forget();
            log.say(reason);
        }
    });
    let mut client = test.client().await;
    client.send(r#"42["wait",1]"#).await;
    assert_eq!(next(&mut lines).await, "start 1");
    client.close().await;
    until("the socket left", || test.root().socket_count() == 0).await;
    gate.add_permits(2);
    assert_eq!(next(&mut lines).await, "end 1");
    assert_eq!(next(&mut lines).await, "transport close");
}

#[tokio::test]
async fn a_handler_that_waits_does_not_hold_up_the_heartbeat_or_other_events() {
    let test = TestServer::start().await;
    let (log, mut lines) = log();
    let _gate = wait_event(&test, &log);
    answer_pings(&test.root());
    let mut connected = sockets(&test.root());
    let (mut client, socket) = test.pair(&mut connected).await;
    client.send(r#"42["wait",1]"#).await;
    client.settle().await;
    assert_eq!(next(&mut lines).await, "start 1");
    socket.emit("hello", &()).unwrap();
    client.expect(r#"42["hello"]"#).await;
    let mut other = Client::connect(test.address, "/").await;
    other.settle().await;
}

//! Nodes on a Redis server that goes away, hangs, or throws them out.

use std::time::{Duration, Instant};

use bytes::Bytes;
use sockhop_adapter::{Bus, BusError};
use testkit::RedisServer;

use crate::support::{Node, Proxy, config, until, within};

/// From the fault to the moment at which the link is down. The defaults give 1.6 s at most where
/// there is a processor to run on; tests run where there may be none for a while.
const NOTICED_WITHIN: Duration = Duration::from_secs(4);

/// From the end of the fault to the moment at which the link is up; with the same reserve.
const BACK_WITHIN: Duration = Duration::from_secs(8);

/// Two nodes, the second subscribed to a thousand topics.
async fn emitter_and_receiver(server: &RedisServer) -> (Node, Node) {
    let emitter = Node::start(config(&server.url())).await;
    let receiver = Node::start(config(&server.url())).await;
    for number in 0..1_000 {
        receiver.subscribe(&format!("topic {number}"));
    }
    receiver.synced().await;
    (emitter, receiver)
}

/// All topics are heard, once each and in order.
async fn expect_everything_heard(emitter: &Node, receiver: &Node) {
    for number in 0..1_000 {
        emitter.publish(&format!("topic {number}"), &format!("heard {number}"));
    }
    // Frames from before the fault may come first.
    let mut next = receiver.next_text().await;
    while !next.starts_with("heard") {
        next = receiver.next_text().await;
    }
    for number in 0..1_000 {
        assert_eq!(next, format!("heard {number}"));
        if number < 999 {
            next = receiver.next_text().await;
        }
    }
}

#[tokio::test]
async fn a_restart_of_redis_is_noticed_at_once_and_survived() {
    let mut server = RedisServer::start();
    let (emitter, receiver) = emitter_and_receiver(&server).await;
    server.stop();
    let stopped = Instant::now();
    receiver.link_down().await;
    emitter.link_down().await;
    assert!(stopped.elapsed() < NOTICED_WITHIN);
    // Frames find the way closed once there is no hope of delivering them in time.
    let refused = || {
        let result = Bus::publish(&*emitter.bus, "topic 0", Bytes::from_static(b"lost"));
        result == Err(BusError::LinkDown)
    };
    until("frames are refused", refused).await;
    // Nobody waits for what cannot happen now.
    receiver.subscribe("topic of the outage");
    receiver.synced().await;
    server.start_again();
    let back = Instant::now();
    receiver.link_up().await;
    emitter.link_up().await;
    assert!(back.elapsed() < BACK_WITHIN);
    expect_everything_heard(&emitter, &receiver).await;
    emitter.publish("topic of the outage", "new");
    assert_eq!(receiver.next_text().await, "new");
    assert_ne!(emitter.metric("sockhop_bus_dropped_total", "link_down"), 0);
}

#[tokio::test]
async fn every_connection_can_be_killed_again_and_again() {
    let server = RedisServer::start();
    let (emitter, receiver) = emitter_and_receiver(&server).await;
    for _ in 0..3 {
        let before = receiver.metric("sockhop_bus_connects_total", "ok");
        for kind in ["normal", "pubsub"] {
            server.run(&["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"]);
        }
        until("it has new connections", || {
            receiver.metric("sockhop_bus_connects_total", "ok") >= before + 2
        })
        .await;
        receiver.link_up().await;
        emitter.link_up().await;
        expect_everything_heard(&emitter, &receiver).await;
    }
}

#[tokio::test]
async fn frames_queued_while_the_publishing_connection_is_made_anew_are_not_lost() {
    let server = RedisServer::start();
    let (emitter, receiver) = emitter_and_receiver(&server).await;
    let before = emitter.metric("sockhop_bus_disconnects_total", "publish");
    let name = format!("sockhop-{}-publish", emitter.id());
    let list = server.ask(&["CLIENT", "LIST"]);
    let line = list.text().lines().find(|line| line.contains(&name));
    let id = line.and_then(|line| line.split(' ').next()?.strip_prefix("id="));
    server.run(&["CLIENT", "KILL", "ID", id.expect("the connection is there")]);
    until("the loss is noticed", || {
        emitter.metric("sockhop_bus_disconnects_total", "publish") > before
    })
    .await;
    expect_everything_heard(&emitter, &receiver).await;
}

#[tokio::test]
async fn a_paused_server_is_noticed_and_survived() {
    let server = RedisServer::start();
    let (emitter, receiver) = emitter_and_receiver(&server).await;
    let paused = Instant::now();
    server.run(&["CLIENT", "PAUSE", "4000", "ALL"]);
    receiver.link_down().await;
    assert!(paused.elapsed() < NOTICED_WITHIN);
    receiver.link_up().await;
    emitter.link_up().await;
    expect_everything_heard(&emitter, &receiver).await;
}

#[tokio::test]
async fn a_frozen_server_is_noticed_although_its_connections_stay_open() {
    let server = RedisServer::start();
    let (emitter, receiver) = emitter_and_receiver(&server).await;
    let frozen = Instant::now();
    server.freeze();
    receiver.link_down().await;
    emitter.link_down().await;
    assert!(frozen.elapsed() < NOTICED_WITHIN);
    server.thaw();
    let thawed = Instant::now();
    receiver.link_up().await;
    emitter.link_up().await;
    assert!(thawed.elapsed() < BACK_WITHIN);
    expect_everything_heard(&emitter, &receiver).await;
}

#[tokio::test]
async fn connections_that_fall_silent_without_an_end_are_made_anew() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port()).await;
    let receiver = Node::start(config(&format!("redis://127.0.0.1:{}", proxy.port))).await;
    let emitter = Node::start(config(&server.url())).await;
    for number in 0..1_000 {
        receiver.subscribe(&format!("topic {number}"));
    }
    receiver.synced().await;
    let silenced = Instant::now();
    proxy.silence();
    receiver.link_down().await;
    assert!(silenced.elapsed() < NOTICED_WITHIN);
    receiver.link_up().await;
    assert!(emitter.bus.link().is_up());
    expect_everything_heard(&emitter, &receiver).await;
}

#[tokio::test]
async fn being_thrown_out_for_a_full_output_buffer_is_noticed_and_survived() {
    let server = RedisServer::start();
    let (emitter, receiver) = emitter_and_receiver(&server).await;
    let limit = "pubsub 100000 0 0";
    server.run(&["CONFIG", "SET", "client-output-buffer-limit", limit]);
    let before = receiver.metric("sockhop_bus_connects_total", "subscribe");
    let frame = Bytes::from(vec![0; 2_000_000]);
    Bus::publish(&*emitter.bus, "topic 0", frame).unwrap();
    until("it was thrown out and came back", || {
        receiver.metric("sockhop_bus_connects_total", "subscribe") > before
    })
    .await;
    receiver.link_up().await;
    expect_everything_heard(&emitter, &receiver).await;
}

#[tokio::test]
async fn subscriptions_changed_during_an_outage_are_right_after_it() {
    let mut server = RedisServer::start();
    let (emitter, receiver) = emitter_and_receiver(&server).await;
    server.stop();
    receiver.link_down().await;
    for number in 0..999 {
        receiver.unsubscribe(&format!("topic {number}"));
    }
    receiver.subscribe("late");
    server.start_again();
    receiver.link_up().await;
    emitter.link_up().await;
    for topic in ["topic 0", "topic 999", "topic 1", "late"] {
        emitter.publish(topic, topic);
    }
    assert_eq!(receiver.next_text().await, "topic 999");
    assert_eq!(receiver.next_text().await, "late");
}

#[tokio::test]
async fn a_node_starts_without_redis_and_finds_it_later() {
    let mut server = RedisServer::start();
    server.stop();
    let node = Node::start_down(config(&server.url()));
    assert!(!node.bus.link().is_up());
    node.subscribe("room");
    until("it has tried", || {
        node.metric("sockhop_bus_connects_total", "failed") > 0
    })
    .await;
    server.start_again();
    node.link_up().await;
    node.publish("room", "hello");
    assert_eq!(node.next_text().await, "hello");
}

#[tokio::test]
async fn a_full_queue_refuses_and_counts_while_the_canary_still_passes() {
    let server = RedisServer::start();
    let mut small = config(&server.url());
    small.publish_queue_bytes = 10_000;
    let node = Node::start(small).await;
    node.subscribe("room");
    node.synced().await;
    let frame = Bytes::from(vec![0; 4_000]);
    let results: Vec<_> = (0..10)
        .map(|_| Bus::publish(&*node.bus, "room", frame.clone()))
        .collect();
    assert_eq!(results[..2], [Ok(()), Ok(())]);
    assert_eq!(results[2..], [Err(BusError::QueueFull); 8]);
    assert_eq!(node.metric("sockhop_bus_dropped_total", "queue_full"), 8);
    for _ in 0..2 {
        assert_eq!(node.next().await, frame);
    }
    assert!(node.bus.link().is_up());
}

#[tokio::test]
async fn what_nobody_takes_is_dropped_and_counted_and_the_link_stays_up() {
    let server = RedisServer::start();
    let mut small = config(&server.url());
    small.incoming_queue_bytes = 10_000;
    let receiver = Node::start(small).await;
    let emitter = Node::start(config(&server.url())).await;
    receiver.subscribe("room");
    receiver.synced().await;
    for number in 0..1_000 {
        emitter.publish("room", &format!("{number:0100}"));
    }
    until("all have arrived", || {
        receiver.metric("sockhop_bus_received_total", "") >= 1_000
    })
    .await;
    let dropped = receiver.metric("sockhop_bus_dropped_total", "incoming_full");
    assert_eq!(dropped, 1_000 - 10_000 / 164);
    assert_eq!(receiver.next_text().await, format!("{:0100}", 0));
    assert!(receiver.bus.link().is_up());
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_does_not_count_as_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut impatient = config(&format!("redis://127.0.0.1:{port}"));
    impatient.connect_timeout = Duration::from_millis(100);
    let node = Node::start_down(impatient);
    until("it has given up twice", || {
        node.metric("sockhop_bus_connects_total", "failed") >= 4
    })
    .await;
    assert!(!node.bus.link().is_up());
    within("no wait without a link", Bus::synced(&*node.bus)).await;
}

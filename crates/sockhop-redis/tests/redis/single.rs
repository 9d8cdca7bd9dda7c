//! Nodes on one real Redis server that does nothing unusual.

use crate::support::{Node, config, until, within};
use bytes::Bytes;
use sockhop_adapter::{Bus, BusError, Channels};
use testkit::RedisServer;

#[tokio::test]
async fn a_topic_reaches_its_subscribers_in_order() {
    let server = RedisServer::start();
    let [a, b, c] = [
        Node::start(config(&server.url())).await,
        Node::start(config(&server.url())).await,
        Node::start(config(&server.url())).await,
    ];
    b.subscribe("room");
    b.synced().await;
    for number in 0..10_000 {
        a.publish("room", &number.to_string());
    }
    Bus::publish_to_node(&*a.bus, b.id(), Bytes::from_static(b"direct")).unwrap();
    Bus::publish_to_node(&*a.bus, c.id(), Bytes::from_static(b"only c")).unwrap();
    for number in 0..10_000 {
        assert_eq!(b.next_text().await, number.to_string());
    }
    assert_eq!(b.next_text().await, "direct");
    assert_eq!(c.next_text().await, "only c");
    let batches = a.metric("sockhop_bus_batches_total", "");
    assert!(batches < 1_000, "10,000 messages left in {batches} batches");
}

#[tokio::test]
async fn a_node_hears_itself_and_payloads_are_any_bytes() {
    let server = RedisServer::start();
    let node = Node::start(config(&server.url())).await;
    node.subscribe("room");
    node.synced().await;
    let sizes = [0, 1, 4096, 4097, 70_000, 1_000_000];
    for size in sizes {
        let payload: Vec<u8> = (0..size).map(|at| (at % 256) as u8).collect();
        Bus::publish(&*node.bus, "room", Bytes::from(payload)).unwrap();
    }
    for size in sizes {
        let payload = node.next().await;
        assert_eq!(payload.len(), size);
        assert!(
            payload
                .iter()
                .enumerate()
                .all(|(at, &byte)| byte == (at % 256) as u8)
        );
    }
}

#[tokio::test]
async fn many_subscriptions_travel_in_few_commands() {
    let server = RedisServer::start();
    let node = Node::start(config(&server.url())).await;
    let before = node.metric("sockhop_bus_subscription_commands_total", "");
    for number in 0..1_000 {
        node.subscribe(&number.to_string());
    }
    node.synced().await;
    let commands = node.metric("sockhop_bus_subscription_commands_total", "") - before;
    assert!(
        commands <= 10,
        "1,000 subscriptions took {commands} commands"
    );
    let channels = server.ask(&["PUBSUB", "CHANNELS", "sockhop:t:*"]);
    assert_eq!(channels.list().len(), 1_000);
    for number in 0..1_000 {
        node.unsubscribe(&number.to_string());
    }
    until("all are gone", || {
        server
            .ask(&["PUBSUB", "CHANNELS", "sockhop:t:*"])
            .list()
            .is_empty()
    })
    .await;
}

#[tokio::test]
async fn topics_that_stay_miss_nothing_while_thousands_come_and_go() {
    let server = RedisServer::start();
    let emitter = Node::start(config(&server.url())).await;
    let node = Node::start(config(&server.url())).await;
    node.subscribe("stays");
    node.synced().await;
    for round in 0..10 {
        for number in 0..1_000 {
            node.subscribe(&format!("room {number}"));
            emitter.publish("stays", &format!("{round} {number}"));
        }
        node.synced().await;
        for number in 0..1_000 {
            node.unsubscribe(&format!("room {number}"));
        }
    }
    for round in 0..10 {
        for number in 0..1_000 {
            assert_eq!(node.next_text().await, format!("{round} {number}"));
        }
    }
}

#[tokio::test]
async fn a_frame_above_the_limit_is_refused_and_counted() {
    let server = RedisServer::start();
    let mut config = config(&server.url());
    config.max_frame_bytes = 1_000;
    let node = Node::start(config).await;
    let refused = Bus::publish(&*node.bus, "room", Bytes::from(vec![0; 1_001]));
    let error = BusError::FrameTooLarge {
        bytes: 1_001,
        limit: 1_000,
    };
    assert_eq!(refused, Err(error));
    assert_eq!(
        node.metric("sockhop_bus_dropped_total", "frame_too_large"),
        1
    );
}

#[tokio::test]
async fn prefixes_keep_clusters_apart() {
    let server = RedisServer::start();
    let mut other = config(&server.url());
    other.prefix = "other".to_owned();
    let [ours, theirs] = [
        Node::start(config(&server.url())).await,
        Node::start(other).await,
    ];
    for node in [&ours, &theirs] {
        node.subscribe("room");
        node.synced().await;
    }
    theirs.publish("room", "theirs");
    ours.publish("room", "ours");
    assert_eq!(ours.next_text().await, "ours");
    assert_eq!(theirs.next_text().await, "theirs");
}

#[tokio::test]
async fn plain_channels_are_heard_by_name_and_by_pattern() {
    let server = RedisServer::start();
    let node = Node::start(config(&server.url())).await;
    let channels: &dyn Channels = &*node.bus;
    channels.subscribe("socketio");
    channels.subscribe_pattern("socket.io#/#*");
    within("in force", channels.synced()).await;
    assert_eq!(
        within("an answer", channels.count_subscribers("socketio")).await,
        Some(1)
    );
    assert_eq!(
        within("an answer", channels.count_subscribers("nobody")).await,
        Some(0)
    );
    server.run(&["PUBLISH", "socketio", "by name"]);
    assert_eq!(
        node.next_messages().await,
        [("socketio".to_owned(), Bytes::from("by name"))]
    );
    channels
        .publish("socket.io#/#room#", Bytes::from("by pattern"))
        .unwrap();
    assert_eq!(
        node.next_messages().await,
        [("socket.io#/#room#".to_owned(), Bytes::from("by pattern"))]
    );
    channels.unsubscribe("socketio");
    channels.unsubscribe_pattern("socket.io#/#*");
    until("nobody listens", || {
        let names = server.ask(&["PUBSUB", "NUMSUB", "socketio"]);
        names.list()[1].int() == 0 && server.ask(&["PUBSUB", "NUMPAT"]).int() == 0
    })
    .await;
}

#[tokio::test]
async fn closing_lets_go_what_is_queued() {
    let server = RedisServer::start();
    let [a, b] = [
        Node::start(config(&server.url())).await,
        Node::start(config(&server.url())).await,
    ];
    b.subscribe("room");
    b.synced().await;
    for number in 0..1_000 {
        a.publish("room", &number.to_string());
    }
    a.publish("room", "goodbye");
    within("closed", a.bus.close()).await;
    for number in 0..1_000 {
        assert_eq!(b.next_text().await, number.to_string());
    }
    assert_eq!(b.next_text().await, "goodbye");
    let late = Bus::publish(&*a.bus, "room", Bytes::from_static(b"late"));
    assert_eq!(late, Err(BusError::LinkDown));
    until("its connections are gone", || {
        let name = format!("sockhop-{}", a.id());
        !server.ask(&["CLIENT", "LIST"]).text().contains(&name)
    })
    .await;
}

//! Nodes on several Redis servers: behind a sentinel, and on a Redis Cluster.

use std::time::Duration;

use bytes::Bytes;
use sockhop_adapter::{Bus, Channels};
use testkit::{RedisCluster, RedisReply, RedisSentinel};
use tokio::time::timeout;

use crate::support::{Node, config, until, within};

const TOPICS: usize = 100;

/// Two nodes, the second subscribed to many topics.
async fn emitter_and_receiver(url: &str) -> (Node, Node) {
    let emitter = Node::start(config(url)).await;
    let receiver = Node::start(config(url)).await;
    for number in 0..TOPICS {
        receiver.subscribe(&format!("topic {number}"));
    }
    receiver.synced().await;
    (emitter, receiver)
}

/// Every topic is heard once, and the messages of each in their order.
async fn expect_everything_heard(emitter: &Node, receiver: &Node, round: &str) {
    for message in 0..3 {
        for number in 0..TOPICS {
            emitter.publish(
                &format!("topic {number}"),
                &format!("{round} {number} {message}"),
            );
        }
    }
    let mut heard = vec![0; TOPICS];
    for _ in 0..3 * TOPICS {
        let mut frame = receiver.next_text().await;
        // Frames of an earlier round may come first.
        while !frame.starts_with(round) {
            frame = receiver.next_text().await;
        }
        let numbers: Vec<usize> = frame
            .split(' ')
            .skip(1)
            .map(|number| number.parse().unwrap())
            .collect();
        assert_eq!(heard[numbers[0]], numbers[1], "order within a topic");
        heard[numbers[0]] += 1;
    }
    assert_eq!(heard, vec![3; TOPICS]);
}

async fn expect_heard_again(emitter: &Node, receiver: &Node) {
    within("both are up", async {
        emitter.link_up().await;
        receiver.link_up().await;
    })
    .await;
    expect_everything_heard(emitter, receiver, "after").await;
}

#[tokio::test]
async fn a_failover_of_the_sentinels_is_followed() {
    let mut servers = RedisSentinel::start();
    let (emitter, receiver) = emitter_and_receiver(&servers.url()).await;
    expect_everything_heard(&emitter, &receiver, "before").await;
    servers.master.stop();
    receiver.link_down().await;
    emitter.link_down().await;
    expect_heard_again(&emitter, &receiver).await;
    let role = servers.replica.ask(&["ROLE"]);
    assert_eq!(role.list()[0].text(), "master");
}

#[tokio::test]
async fn a_master_that_is_replaced_while_it_runs_is_left() {
    let servers = RedisSentinel::start();
    let (emitter, receiver) = emitter_and_receiver(&servers.url()).await;
    // At first the sentinel knows too little of the replica.
    until("the sentinel begins", || {
        let answer = servers.sentinel.ask(&["SENTINEL", "FAILOVER", "mymaster"]);
        answer == RedisReply::Text("OK".to_owned())
    })
    .await;
    // Until the old master steps down it serves those who have not left it yet.
    until("all connections are at the new master", || {
        let clients = servers.replica.ask(&["CLIENT", "LIST"]);
        let is_there = |node: &Node, role: &str| {
            let name = format!("name=sockhop-{}-{role} ", node.id());
            clients.text().contains(&name)
        };
        [&emitter, &receiver]
            .iter()
            .all(|node| is_there(node, "publish") && is_there(node, "subscribe"))
    })
    .await;
    expect_heard_again(&emitter, &receiver).await;
}

#[tokio::test]
async fn topics_are_spread_over_the_shards_of_a_cluster() {
    let cluster = RedisCluster::start(3, false);
    let (emitter, receiver) = emitter_and_receiver(&cluster.url()).await;
    expect_everything_heard(&emitter, &receiver, "all").await;
    let to = receiver.id();
    Bus::publish_to_node(&*emitter.bus, to, Bytes::from_static(b"direct")).unwrap();
    assert_eq!(receiver.next_text().await, "direct");
    let mut channels = 0;
    for server in cluster.servers() {
        let here = server.ask(&["PUBSUB", "SHARDCHANNELS", "sockhop:t:*"]);
        assert!(!here.list().is_empty());
        channels += here.list().len();
    }
    assert_eq!(channels, TOPICS);
}

#[tokio::test]
async fn a_hash_tag_in_the_prefix_keeps_everything_on_one_shard_and_in_order() {
    let cluster = RedisCluster::start(3, false);
    let mut tagged = config(&cluster.url());
    tagged.prefix = "{sockhop}".to_owned();
    let emitter = Node::start(tagged.clone()).await;
    let receiver = Node::start(tagged).await;
    for number in 0..TOPICS {
        receiver.subscribe(&format!("topic {number}"));
    }
    receiver.synced().await;
    for number in 0..10 * TOPICS {
        emitter.publish(&format!("topic {}", number % TOPICS), &number.to_string());
    }
    for number in 0..10 * TOPICS {
        assert_eq!(receiver.next_text().await, number.to_string());
    }
}

#[tokio::test]
async fn plain_channels_and_nodes_without_shards_work_on_a_cluster() {
    let cluster = RedisCluster::start(3, false);
    let mut plain = config(&cluster.url());
    plain.cluster_sharded = false;
    let nodes = [
        Node::start(plain.clone()).await,
        Node::start(plain.clone()).await,
        Node::start(config(&cluster.url())).await,
    ];
    for node in &nodes {
        Channels::subscribe(&*node.bus, "socketio");
        Channels::subscribe_pattern(&*node.bus, "socket.io#*");
        within("in force", Channels::synced(&*node.bus)).await;
    }
    let asked = Channels::count_subscribers(&*nodes[2].bus, "socketio");
    assert_eq!(within("an answer", asked).await, Some(3));
    let hello = Bytes::from_static(b"hello");
    Channels::publish(&*nodes[1].bus, "socketio", hello.clone()).unwrap();
    Channels::publish(&*nodes[1].bus, "socket.io#/#", hello.clone()).unwrap();
    for node in &nodes {
        let mut heard = node.next_messages().await;
        while heard.len() < 2 {
            heard.extend(node.next_messages().await);
        }
        let expected = ["socketio", "socket.io#/#"].map(|name| (name.to_owned(), hello.clone()));
        assert_eq!(heard, expected);
    }
    nodes[0].subscribe("room");
    nodes[0].synced().await;
    nodes[1].publish("room", "unsharded");
    assert_eq!(nodes[0].next_text().await, "unsharded");
}

#[tokio::test]
async fn subscriptions_follow_slots_that_move() {
    let cluster = RedisCluster::start(2, false);
    let (emitter, receiver) = emitter_and_receiver(&cluster.url()).await;
    let slots: Vec<u16> = (0..TOPICS)
        .map(|number| {
            let channel = format!("sockhop:t:topic {number}");
            let slot = cluster.servers()[0].ask(&["CLUSTER", "KEYSLOT", &channel]);
            u16::try_from(slot.int()).unwrap()
        })
        .filter(|slot| *slot < 8192)
        .collect();
    for slot in &slots[..5] {
        cluster.move_slot(*slot, 0, 1);
    }
    until(
        "the moved topics are subscribed at their new server",
        || {
            let here = cluster.servers()[0].ask(&["PUBSUB", "SHARDCHANNELS", "sockhop:t:*"]);
            let there = cluster.servers()[1].ask(&["PUBSUB", "SHARDCHANNELS", "sockhop:t:*"]);
            here.list().len() + there.list().len() == TOPICS
        },
    )
    .await;
    // The emitter learns of it by a refusal, or when it asks next; until then messages are lost.
    within("a whole round is heard", async {
        for round in 0.. {
            let name = format!("round-{round}");
            let heard = expect_everything_heard(&emitter, &receiver, &name);
            if timeout(Duration::from_secs(1), heard).await.is_ok() {
                break;
            }
        }
    })
    .await;
    assert_ne!(receiver.metric("sockhop_bus_moved_total", ""), 0);
}

#[tokio::test]
async fn a_lost_master_of_a_cluster_is_replaced_by_its_replica() {
    let mut cluster = RedisCluster::start(3, true);
    let (emitter, receiver) = emitter_and_receiver(&cluster.url()).await;
    expect_everything_heard(&emitter, &receiver, "before").await;
    cluster.servers_mut()[0].stop();
    receiver.link_down().await;
    emitter.link_down().await;
    expect_heard_again(&emitter, &receiver).await;
}

//! Servers on one bus.

mod support;

use std::net::SocketAddr;
use std::sync::Arc;

use sockhop::{
    EngineConfig, MemoryBusLimits, MemoryHub, Namespace, NodeId, Parser, Server, Socket,
};
use support::{Client, answer_pings, next, serve, sockets, until};

struct Node {
    server: Server,
    address: SocketAddr,
}

impl Node {
    async fn start(hub: &MemoryHub, number: u64, parser: Parser) -> Self {
        let bus = hub.attach(NodeId::new(number << 40)).unwrap();
        let server = Server::builder().bus(Arc::new(bus)).build().unwrap();
        answer_pings(&server.of("/"));
        let address = serve(&server, server.mount(EngineConfig::default(), parser)).await;
        Self { server, address }
    }

    fn root(&self) -> Namespace {
        self.server.of("/")
    }

    async fn client(&self) -> (Client, Socket) {
        let mut connected = sockets(&self.root());
        let client = Client::connect(self.address, "/").await;
        (client, next(&mut connected).await)
    }
}

async fn two() -> (Node, Node) {
    let hub = MemoryHub::default();
    (
        Node::start(&hub, 1, Parser::Json).await,
        Node::start(&hub, 2, Parser::Json).await,
    )
}

#[tokio::test]
async fn a_broadcast_of_one_node_reaches_the_clients_of_both_once() {
    let (a, b) = two().await;
    let (mut at_a, _) = a.client().await;
    let (mut at_b, _) = b.client().await;
    a.root().emit("from a", &1).unwrap();
    at_a.expect(r#"42["from a",1]"#).await;
    at_b.expect(r#"42["from a",1]"#).await;
    b.root().emit("from b", &2).unwrap();
    at_a.expect(r#"42["from b",2]"#).await;
    at_b.expect(r#"42["from b",2]"#).await;
    at_a.settle().await;
    at_b.settle().await;
}

#[tokio::test]
async fn rooms_and_exceptions_hold_on_every_node() {
    let (a, b) = two().await;
    let (mut a1, one) = a.client().await;
    let (mut b1, two) = b.client().await;
    let (mut b2, three) = b.client().await;
    for socket in [&one, &two, &three] {
        socket.join("red");
    }
    three.join("muted");
    one.to("red").except("muted").emit("x", &()).unwrap();
    b1.expect(r#"42["x"]"#).await;
    a.root().to("red").emit("end", &()).unwrap();
    for client in [&mut a1, &mut b1, &mut b2] {
        client.expect(r#"42["end"]"#).await;
    }
    // One client of the other node, by its id.
    a.root().to(three.id()).emit("you", &()).unwrap();
    b2.expect(r#"42["you"]"#).await;
    b1.settle().await;
}

#[tokio::test]
async fn local_stays_on_its_node() {
    let (a, b) = two().await;
    let (mut at_a, _) = a.client().await;
    let (mut at_b, _) = b.client().await;
    a.root().all().local().emit("local", &()).unwrap();
    a.root().emit("all", &()).unwrap();
    at_a.expect(r#"42["local"]"#).await;
    at_a.expect(r#"42["all"]"#).await;
    at_b.expect(r#"42["all"]"#).await;
}

#[tokio::test]
async fn a_node_with_another_parser_gets_it_in_its_own_words() {
    let hub = MemoryHub::default();
    let a = Node::start(&hub, 1, Parser::Json).await;
    let b = Node::start(&hub, 2, Parser::Msgpack).await;
    let mut client = Client::open(b.address).await;
    let connect = serde_json::json!({ "type": 0, "nsp": "/" });
    client
        .send_binary(&rmp_serde::to_vec(&connect).unwrap())
        .await;
    client.binary().await;
    a.root().emit("hello", &("x", 1)).unwrap();
    let packet: serde_json::Value = rmp_serde::from_slice(&client.binary().await).unwrap();
    assert_eq!(packet["data"], serde_json::json!(["hello", "x", 1]));
}

#[tokio::test]
async fn a_node_without_clients_takes_what_comes_and_does_not_fill_the_bus() {
    let hub = MemoryHub::new(MemoryBusLimits {
        max_queue_bytes: 10_000,
        ..MemoryBusLimits::default()
    });
    let a = Node::start(&hub, 1, Parser::Json).await;
    let _idle = Node::start(&hub, 2, Parser::Json).await;
    let text = "x".repeat(1000);
    for _ in 0..100 {
        a.root().emit("much", &text).unwrap();
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_closed_server_is_no_burden_to_the_others() {
    let hub = MemoryHub::new(MemoryBusLimits {
        max_queue_bytes: 10_000,
        ..MemoryBusLimits::default()
    });
    let a = Node::start(&hub, 1, Parser::Json).await;
    let b = Node::start(&hub, 2, Parser::Json).await;
    let (client, _) = b.client().await;
    drop(client);
    b.server.close().await;
    let text = "x".repeat(1000);
    for _ in 0..100 {
        a.root().emit("much", &text).unwrap();
        // The node takes its own frames from the bus, too.
        tokio::task::yield_now().await;
    }
    // It detaches with the last handle on it, and its number is free again.
    drop(b);
    until("it detached", || hub.attach(NodeId::new(2 << 40)).is_some()).await;
}

//! What one node asks of the whole cluster.

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sockhop::{
    AckError, ClusterConfig, EngineConfig, MemoryHub, Namespace, NodeId, Parser, Payload, Server,
    ServerAck, Socket, SocketId, Value,
};
use support::{Client, answer_pings, next, serve, sockets, until};
use tokio::sync::mpsc;

struct Node {
    server: Server,
    address: SocketAddr,
    number: u64,
}

impl Node {
    async fn start(hub: &MemoryHub, number: u64) -> Self {
        let bus = hub.attach(NodeId::new(number << 40)).unwrap();
        let config = ClusterConfig {
            request_timeout: Duration::from_secs(60),
            ..ClusterConfig::default()
        };
        let builder = Server::builder().bus(Arc::new(bus)).cluster(config);
        let server = builder.build().unwrap();
        answer_pings(&server.of("/"));
        let service = server.mount(EngineConfig::default(), Parser::Json);
        let address = serve(&server, service).await;
        Self {
            server,
            address,
            number,
        }
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

/// Three nodes that know each other.
async fn three() -> (MemoryHub, [Node; 3]) {
    let hub = MemoryHub::default();
    let nodes = [
        Node::start(&hub, 1).await,
        Node::start(&hub, 2).await,
        Node::start(&hub, 3).await,
    ];
    until("they met", || {
        nodes.iter().all(|node| node.server.members().len() == 3)
    })
    .await;
    (hub, nodes)
}

fn ids(sockets: &[&Socket]) -> Vec<SocketId> {
    let mut ids: Vec<SocketId> = sockets.iter().map(|socket| socket.id().clone()).collect();
    ids.sort();
    ids
}

async fn members(namespace: &Namespace, room: &str) -> Vec<SocketId> {
    let found = namespace.to(room).fetch_sockets().await;
    assert!(found.is_complete(), "{:?}", found.missing);
    let mut ids: Vec<SocketId> = found.iter().map(|socket| socket.id().clone()).collect();
    ids.sort();
    ids
}

/// Answers the next event of a client that asks for an acknowledgement.
async fn answer(client: &mut Client, with: &str) {
    let question = client.text().await;
    let id = question.strip_prefix("42").expect("an event");
    let id = id.split('[').next().expect("an ack id").to_owned();
    client.send(&format!("43{id}[{with}]")).await;
}

#[tokio::test]
async fn sockets_are_found_with_all_there_is_to_know_on_every_node() {
    let (_hub, [a, b, c]) = three().await;
    let (_at_a, one) = a.client().await;
    let (_at_b, two) = b.client().await;
    let (_at_c, three) = c.client().await;
    one.join("red");
    two.join(["red", "blue"]);
    two.set_data(Value::from("mine"));
    assert_eq!(members(&a.root(), "red").await, ids(&[&one, &two]));
    assert_eq!(members(&c.root(), "red").await, ids(&[&one, &two]));
    let everybody = a.root().fetch_sockets().await;
    assert_eq!(everybody.len(), 3);
    let found = a.root().to("blue").fetch_sockets().await;
    assert_eq!((found[0].id(), found[0].rooms()), (two.id(), &*two.rooms()));
    assert_eq!(found[0].data(), Value::from("mine"));
    let address = found[0].handshake().get("address").cloned();
    assert_eq!(address, Some(Value::from("127.0.0.1")));
    assert_eq!(*a.root().rooms(three.id()).await, three.rooms());
    assert_eq!(a.server.server_count().await, 3);
}

#[tokio::test]
async fn sockets_join_and_leave_rooms_on_every_node() {
    let (_hub, [a, b, c]) = three().await;
    let (_at_a, one) = a.client().await;
    let (mut at_b, two) = b.client().await;
    let (_at_c, three) = c.client().await;
    three.join("muted");
    let joined = a.root().except("muted").sockets_join(["red", "blue"]).await;
    assert_eq!((joined.found, joined.is_complete()), (2, true));
    // It was awaited, so emits reach the room there.
    c.root().to("red").emit("now", &()).unwrap();
    at_b.expect(r#"42["now"]"#).await;
    assert_eq!(members(&c.root(), "blue").await, ids(&[&one, &two]));
    assert_eq!(*a.root().to("red").sockets_leave("blue").await, 2);
    assert!(members(&c.root(), "blue").await.is_empty());
    assert_eq!(*c.root().close_room("red").await, 2);
    assert!(members(&a.root(), "red").await.is_empty());
}

#[tokio::test]
async fn one_socket_is_moved_and_disconnected_by_its_id_from_any_node() {
    let (_hub, [a, b, c]) = three().await;
    let (mut at_b, two) = b.client().await;
    assert_eq!(*a.root().enter_room(two.id(), ["red", "blue"]).await, 1);
    assert_eq!(members(&c.root(), "red").await, ids(&[&two]));
    assert_eq!(*c.root().leave_room(two.id(), "blue").await, 1);
    assert_eq!(two.rooms().len(), 2);
    assert_eq!(
        *a.root().enter_room(&SocketId::from("nobody"), "red").await,
        0
    );
    assert_eq!(*c.root().disconnect(two.id()).await, 1);
    at_b.expect("41").await;
    until("it has left", || b.root().socket_count() == 0).await;
}

#[tokio::test]
async fn many_sockets_are_disconnected_on_every_node() {
    let (_hub, [a, b, _c]) = three().await;
    let (mut at_a, one) = a.client().await;
    let (mut at_b, two) = b.client().await;
    one.join("red");
    two.join("red");
    b.root().to("red").disconnect_sockets(true);
    for client in [&mut at_a, &mut at_b] {
        client.expect("41").await;
        client.ended().await;
    }
}

#[tokio::test]
async fn the_rooms_of_every_node_are_told_once() {
    let (_hub, [a, b, c]) = three().await;
    let (_at_a, one) = a.client().await;
    let (_at_b, two) = b.client().await;
    one.join(["red", "green"]);
    two.join(["red", "blue"]);
    let rooms = c.root().all_rooms().await;
    let mut names: Vec<&str> = rooms.iter().map(|room| room.as_str()).collect();
    names.retain(|name| name.len() < 10);
    assert_eq!(names, ["blue", "green", "red"]);
    assert_eq!(rooms.len(), 5);
}

#[tokio::test]
async fn acks_come_from_every_node_with_all_their_arguments() {
    let (_hub, [a, b, c]) = three().await;
    let (mut at_a, one) = a.client().await;
    let (mut at_b, two) = b.client().await;
    let (mut at_c, three) = c.client().await;
    for socket in [&one, &two, &three] {
        socket.join("red");
    }
    let root = a.root();
    let red = root.to("red");
    let asking = red.emit_with_ack::<(String, u8)>("question", &());
    let answering = async {
        answer(&mut at_a, r#""from a",1"#).await;
        answer(&mut at_b, r#""from b",2"#).await;
        answer(&mut at_c, r#""from c",3"#).await;
    };
    let (acks, ()) = tokio::join!(asking, answering);
    let acks = acks.unwrap();
    assert!(acks.is_complete(), "{acks:?}");
    assert_eq!(acks.expected, 3);
    let mut values: Vec<(String, u8)> = acks.into_values().collect();
    values.sort();
    let expected = [("from a", 1), ("from b", 2), ("from c", 3)];
    assert_eq!(
        values,
        expected.map(|(text, number)| (text.to_owned(), number))
    );
}

#[tokio::test]
async fn who_does_not_answer_is_missing_and_the_others_are_not() {
    let (_hub, [a, b, _c]) = three().await;
    let (mut at_a, _one) = a.client().await;
    let (_silent, _two) = b.client().await;
    let root = a.root();
    let all = root.all().timeout(Duration::from_secs(3));
    let asking = all.emit_with_ack::<u8>("question", &());
    let (acks, ()) = tokio::join!(asking, answer(&mut at_a, "7"));
    let acks = acks.unwrap();
    assert_eq!((acks.expected, acks.responses.len()), (2, 1));
    assert!(acks.missing.is_empty() && !acks.is_complete());
}

#[tokio::test]
async fn one_socket_is_called_on_whichever_node_it_lives() {
    let (_hub, [a, b, _c]) = three().await;
    let (mut at_b, two) = b.client().await;
    let (mut other, _) = b.client().await;
    let root = a.root();
    let long = Duration::from_secs(60);
    let asking = root.call::<Payload>(two.id(), "question", &("what", 1), long);
    let (answered, ()) = tokio::join!(asking, answer(&mut at_b, "7"));
    assert!(answered.is_ok(), "{answered:?}");
    let found = root.to(two.id()).fetch_sockets().await;
    let asking = found[0].emit_with_ack::<u8>("question", &(), long);
    let (answered, ()) = tokio::join!(asking, answer(&mut at_b, "8"));
    assert_eq!(answered.unwrap(), 8);
    let short = Duration::from_secs(2);
    let missed = root.call::<u8>(two.id(), "question", &(), short).await;
    assert!(matches!(missed, Err(AckError::Timeout)), "{missed:?}");
    let unknown = SocketId::from("nobody");
    let missed = root.call::<u8>(&unknown, "question", &(), long).await;
    assert!(matches!(missed, Err(AckError::Disconnected)), "{missed:?}");
    other.settle().await;
}

#[tokio::test]
async fn servers_send_each_other_events_and_answer_them() {
    let (_hub, nodes) = three().await;
    let (tell, mut told) = mpsc::channel(10);
    for node in &nodes {
        let (number, tell) = (node.number, tell.clone());
        node.root().on_server_event("hello", move |text: String| {
            let tell = tell.clone();
            async move { tell.send((number, text)).await }
        });
        if number < 3 {
            let handler = move |factor: u64, ack: ServerAck| async move {
                ack.send(&(number * factor)).unwrap();
            };
            node.root().on_server_event_with_ack("multiply", handler);
        }
    }
    let [a, _, _] = &nodes;
    a.root().server_side_emit("hello", "servers").unwrap();
    let mut heard = [next(&mut told).await, next(&mut told).await];
    heard.sort();
    assert_eq!(heard.map(|(number, _)| number), [2, 3], "not its own");
    let root = a.root();
    let answers = root
        .server_side_emit_with_ack::<u64>("multiply", &100)
        .await;
    let answers = answers.unwrap();
    assert!(answers.is_complete(), "who has no handler says so");
    let values: Vec<u64> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!(values, [200]);
}

#[tokio::test]
async fn a_node_that_cannot_be_heard_is_named_and_the_rest_is_there() {
    let (hub, [a, b, c]) = three().await;
    let (_at_b, two) = b.client().await;
    let (_at_c, _three) = c.client().await;
    let node = c.server.members()[0].node;
    hub.take_down(node, Instant::now());
    let root = a.root();
    let quick = root.all().timeout(Duration::from_secs(2));
    let found = quick.fetch_sockets().await;
    assert_eq!(found.missing, [node]);
    assert_eq!((found.len(), found[0].id()), (1, two.id()));
    assert_eq!(quick.sockets_join("red").await.missing, [node]);
    // Once it is known to be gone nobody waits for it.
    hub.bring_up(node);
    c.server.close().await;
    until("it is gone", || a.server.members().len() == 2).await;
    assert!(root.fetch_sockets().await.is_complete());
}

#[tokio::test]
async fn a_node_that_goes_meanwhile_is_missing_at_once() {
    let (_hub, [a, _b, c]) = three().await;
    c.root()
        .on_server_event_with_ack("wait", |(): (), ack: ServerAck| async move {
            std::future::pending::<()>().await;
            drop(ack);
        });
    let node = c.server.members()[0].node;
    let root = a.root();
    let start = Instant::now();
    let asking = root.server_side_emit_with_ack::<u8>("wait", &());
    let closing = async {
        until("it is asked", || c.server.cluster_status().serving == 1).await;
        // Its handler never ends, so neither does this.
        let closed = tokio::time::timeout(Duration::from_millis(50), c.server.close()).await;
        assert!(closed.is_err());
    };
    let (answers, ()) = tokio::join!(asking, closing);
    assert_eq!(answers.unwrap().missing, [node]);
    assert!(
        start.elapsed() < Duration::from_secs(50),
        "not at the deadline"
    );
}

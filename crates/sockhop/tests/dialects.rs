//! Servers of other makes in the cluster, played by the test: what they hear and what they cause.

mod support;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus::{Registry, TextEncoder};
use serde_json::{Value, json};
use sockhop::{
    BusError, Channels, DialectConfig, EngineConfig, MemoryHub, NodeDialectConfig, NodeId, Parser,
    PythonDialectConfig, Server, Socket,
};
use sockhop_adapter::bus::{ChannelMessage, MemoryChannels};
use support::{Client, PATIENCE, answer_pings, next, serve, sockets, until};

struct Node {
    server: Server,
    address: SocketAddr,
    registry: Registry,
}

impl Node {
    async fn start(hub: &MemoryHub, number: u64) -> Self {
        let registry = Registry::new();
        let server = Server::builder()
            .registry(&registry)
            .bus(Arc::new(hub.attach(NodeId::new(number << 40)).unwrap()))
            .channels(Arc::new(hub.channels()))
            .dialects(DialectConfig {
                node: Some(NodeDialectConfig::default()),
                python: Some(PythonDialectConfig::default()),
            })
            .build()
            .unwrap();
        answer_pings(&server.of("/"));
        let engine = server.mount(EngineConfig::default(), Parser::Json);
        let address = serve(&server, engine).await;
        Self {
            server,
            address,
            registry,
        }
    }

    async fn client(&self) -> Client {
        Client::connect(self.address, "/").await
    }

    fn metric(&self, line: &str) -> u64 {
        let text = TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap();
        let found = text.lines().find_map(|it| it.strip_prefix(line));
        found.unwrap_or("0").trim().parse().unwrap()
    }
}

/// A server of another make, as far as the channels tell.
struct Foreign {
    channels: MemoryChannels,
    /// What has come and was not looked at.
    heard: RefCell<VecDeque<ChannelMessage>>,
}

impl Foreign {
    /// One that hears nothing.
    fn deaf(hub: &MemoryHub) -> Self {
        Self {
            channels: hub.channels(),
            heard: RefCell::default(),
        }
    }

    /// One that listens to everything of one dialect.
    fn listening(hub: &MemoryHub, pattern: &str) -> Self {
        let foreign = Self::deaf(hub);
        foreign.channels.subscribe_pattern(pattern);
        foreign
    }

    async fn heard(&self) -> ChannelMessage {
        loop {
            if let Some(message) = self.heard.borrow_mut().pop_front() {
                return message;
            }
            let heard = poll_fn(|cx| self.channels.poll_incoming(cx));
            let heard = tokio::time::timeout(PATIENCE, heard).await;
            self.heard
                .borrow_mut()
                .extend(heard.expect("something to be said"));
        }
    }

    async fn heard_json(&self) -> Value {
        serde_json::from_slice(&self.heard().await.payload).unwrap()
    }

    fn say(&self, channel: &str, payload: impl Into<Vec<u8>>) -> Result<(), BusError> {
        self.channels.publish(channel, payload.into().into())
    }

    fn request(&self, request: &Value) {
        let said = self.say("socket.io-request#/#", request.to_string());
        said.unwrap();
    }
}

/// `["other", {type: 2, data: ["news", 7], nsp: "/"}, {rooms: []}]`.
const NEWS: &[u8] = b"\x93\xa5other\x83\xa4type\x02\xa4data\x92\xa4news\x07\xa3nsp\xa1/\
    \x81\xa5rooms\x90";

#[tokio::test]
async fn what_another_server_emits_reaches_every_client_once_and_goes_no_further() {
    let hub = MemoryHub::default();
    let (a, b) = (Node::start(&hub, 1).await, Node::start(&hub, 2).await);
    let (mut at_a, mut at_b) = (a.client().await, b.client().await);
    let python = Foreign::listening(&hub, "socketio");
    Foreign::deaf(&hub).say("socket.io#/#", NEWS).unwrap();
    for client in [&mut at_a, &mut at_b] {
        client.expect(r#"42["news",7]"#).await;
        client.settle().await;
    }
    let news = json!({"method": "emit", "event": "news", "data": [8], "namespace": "/"});
    python.say("socketio", news.to_string()).unwrap();
    for client in [&mut at_a, &mut at_b] {
        client.expect(r#"42["news",8]"#).await;
        client.settle().await;
    }
    // It hears what it said itself, and nothing that was made of the other emit.
    assert_eq!(python.heard_json().await, news);
    let line = "sockhop_dialect_messages_total{dialect=\"node\",direction=\"in\"}";
    assert_eq!((a.metric(line), b.metric(line)), (1, 1));
}

#[tokio::test]
async fn an_emit_is_published_once_for_each_dialect_and_ignored_by_the_other_nodes() {
    let hub = MemoryHub::default();
    let (a, b) = (Node::start(&hub, 1).await, Node::start(&hub, 2).await);
    let mut at_b = b.client().await;
    let (node, python) = (
        Foreign::listening(&hub, "socket.io#*"),
        Foreign::listening(&hub, "socketio"),
    );
    a.server.to("red").emit("unheard", &1).unwrap();
    a.server.emit("news", &(1, "two")).unwrap();
    assert_eq!(node.heard().await.channel.as_str(), "socket.io#/#red#");
    assert_eq!(python.heard_json().await["room"], "red");
    let published = node.heard().await;
    assert_eq!(published.channel.as_str(), "socket.io#/#");
    assert!(published.payload.starts_with(b"\x93\xb8sockhop:"));
    assert_eq!(python.heard_json().await["data"], json!([1, "two"]));
    at_b.expect(r#"42["news",1,"two"]"#).await;
    at_b.settle().await;
    for dialect in ["node", "python"] {
        let own = format!("sockhop_dialect_ignored_total{{dialect=\"{dialect}\",reason=\"own\"}}");
        until("the copies to be ignored", || b.metric(&own) == 2).await;
    }
}

#[tokio::test]
async fn a_message_to_a_socket_of_the_cluster_is_not_published_in_a_dialect() {
    let hub = MemoryHub::default();
    let (a, b) = (Node::start(&hub, 1).await, Node::start(&hub, 2).await);
    let mut at_b = b.client().await;
    until("the nodes to know each other", || {
        a.server.members().len() == 2
    })
    .await;
    let node = Foreign::listening(&hub, "socket.io#*");
    a.server.to(at_b.id.as_str()).emit("yours", &1).unwrap();
    a.server.to("red").emit("red", &1).unwrap();
    at_b.expect(r#"42["yours",1]"#).await;
    assert_eq!(node.heard().await.channel.as_str(), "socket.io#/#red#");
}

#[tokio::test]
async fn requests_are_answered_by_every_node() {
    let hub = MemoryHub::default();
    let (a, b) = (Node::start(&hub, 1).await, Node::start(&hub, 2).await);
    let mut connected = sockets(&a.server.of("/"));
    let client = a.client().await;
    next(&mut connected).await.join("red");
    drop(b.client().await);
    let other = Foreign::listening(&hub, "socket.io-response#/#");
    other.request(&json!({
        "uid": "u", "requestId": "1", "type": 5, "opts": {"rooms": ["red"], "except": []},
    }));
    let mut found = Vec::new();
    for _ in 0..2 {
        let answer = other.heard_json().await;
        assert_eq!(answer["requestId"], "1");
        found.extend(answer["sockets"].as_array().unwrap().clone());
    }
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["rooms"], json!([client.id, "red"]));
    assert_eq!(
        found[0]["handshake"]["url"],
        "/socket.io/?EIO=4&transport=websocket"
    );
    other.request(&json!({"uid": "u", "requestId": "2", "type": 6, "data": ["unknown"]}));
    for _ in 0..2 {
        let answer = other.heard_json().await;
        assert_eq!(answer, json!({"type": 6, "requestId": "2", "data": null}));
    }
}

#[tokio::test]
async fn an_ack_is_told_at_once_and_not_with_the_last_one() {
    let hub = MemoryHub::default();
    let node = Node::start(&hub, 1).await;
    let (mut quick, mut slow) = (node.client().await, node.client().await);
    let other = Foreign::listening(&hub, "socket.io-response#/#");
    let request = b"\x84\xa4type\x07\xa9requestId\xa1r\xa6packet\x83\xa4type\x02\xa4data\x91\
        \xa1q\xa3nsp\xa1/\xa4opts\x81\xa5rooms\x90";
    other.say("socket.io-request#/#", *request).unwrap();
    let count = other.heard_json().await;
    assert_eq!(
        count,
        json!({"type": 8, "requestId": "r", "clientCount": 2})
    );
    slow.expect(r#"420["q"]"#).await;
    quick.ask(r#"42999["ping"]"#, r#"420["q"]"#).await;
    quick.ask(r#"430["yes",2]"#, r#"43999["pong"]"#).await;
    let ack = other.heard().await.payload;
    assert_eq!(
        ack,
        &b"\x83\xa4type\x09\xa9requestId\xa1r\xa6packet\xa3yes"[..]
    );
}

#[tokio::test]
async fn a_callback_of_python_is_called_with_all_arguments() {
    let hub = MemoryHub::default();
    let node = Node::start(&hub, 1).await;
    let mut client = node.client().await;
    let python = Foreign::listening(&hub, "socketio");
    let emit = json!({
        "method": "emit", "event": "q", "data": [1], "namespace": "/", "room": client.id,
        "callback": [client.id, "/", 4], "host_id": "h",
    });
    python.say("socketio", emit.to_string()).unwrap();
    client.expect(r#"420["q",1]"#).await;
    assert_eq!(python.heard_json().await, emit);
    client.send(r#"430["yes",{"a":2}]"#).await;
    let expected = json!({
        "method": "callback", "host_id": "h", "sid": client.id, "namespace": "/", "id": 4,
        "args": ["yes", {"a": 2}],
    });
    assert_eq!(python.heard_json().await, expected);
}

#[tokio::test]
async fn servers_of_other_makes_that_do_not_answer_are_missing() {
    let hub = MemoryHub::default();
    let node = Node::start(&hub, 1).await;
    let client = node.client().await;
    let silent = hub.channels();
    silent.subscribe("socket.io-request#/#");
    assert_eq!(node.server.server_count().await, 2);
    let all = node
        .server
        .of("/")
        .all()
        .timeout(Duration::from_millis(100));
    let found = all.fetch_sockets().await;
    assert_eq!(found.missing_foreign, 1);
    assert!(found.missing.is_empty());
    let ids: Vec<&str> = found.found.iter().map(|it| it.id().as_str()).collect();
    assert_eq!(ids, [client.id]);
}

#[tokio::test]
async fn a_namespace_that_is_gone_is_no_member_any_more() {
    let hub = MemoryHub::default();
    let node = Node::start(&hub, 1).await;
    node.server.dynamic("/on-{demand}", |_| {}).unwrap();
    let count = || hub.channels().count_subscribers("socket.io-request#/on-1#");
    assert_eq!(count().await, Some(0));
    let client = Client::connect(node.address, "/on-1").await;
    assert_eq!(count().await, Some(1));
    client.close().await;
    let gone = async {
        while count().await != Some(0) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
}

#[tokio::test]
async fn a_server_that_stops_is_no_member_while_its_handlers_end() {
    let hub = MemoryHub::default();
    let node = Node::start(&hub, 1).await;
    let release = Arc::new(tokio::sync::Notify::new());
    let waiting = Arc::clone(&release);
    node.server.of("/").on("wait", move |_: Socket, (): ()| {
        let waiting = Arc::clone(&waiting);
        async move { waiting.notified().await }
    });
    let mut client = node.client().await;
    client.send(r#"42["wait"]"#).await;
    client.settle().await;
    let count = || hub.channels().count_subscribers("socket.io-request#/#");
    let watching = async {
        client.ended().await;
        while count().await != Some(0) {
            tokio::task::yield_now().await;
        }
        release.notify_one();
    };
    let closed = async { tokio::join!(node.server.close(), watching) };
    tokio::time::timeout(PATIENCE, closed).await.unwrap();
}

#[tokio::test]
async fn rubbish_on_the_channels_is_counted_and_harms_nobody() {
    let hub = MemoryHub::default();
    let node = Node::start(&hub, 1).await;
    let mut client = node.client().await;
    let other = Foreign::deaf(&hub);
    for channel in [
        "socketio",
        "socket.io#/#",
        "socket.io-request#/#",
        "socket.io-response#/#",
    ] {
        for rubbish in [
            &b""[..],
            b"{",
            b"\x80\x04",
            b"\xdd\xff\xff\xff\xff",
            &[b'['; 100_000],
        ] {
            other.say(channel, rubbish).unwrap();
        }
    }
    other.say("socket.io#/#", NEWS).unwrap();
    client.expect(r#"42["news",7]"#).await;
    client.settle().await;
    let ignored = |dialect: &str, reason: &str| {
        let labels = format!("{{dialect=\"{dialect}\",reason=\"{reason}\"}}");
        node.metric(&format!("sockhop_dialect_ignored_total{labels}"))
    };
    assert_eq!(
        (ignored("python", "pickle"), ignored("python", "malformed")),
        (1, 4)
    );
    assert_eq!(
        (ignored("node", "malformed"), ignored("node", "not_asked")),
        (10, 5)
    );
}

//! Clients that do not read, in namespaces that do something else about it each.

mod support;

use sockhop::{DisconnectReason, EngineConfig, ServerConfig, SlowConsumers, Value};
use support::{Client, TestServer, answer_pings, get, next, post, reasons, sockets, until};

/// What one client's outbox may hold.
const OUTBOX_BYTES: usize = 512 * 1024;

/// The attachment of an event. The kernel keeps a hundred or two of them for whoever does not read.
const ATTACHMENT_BYTES: usize = 32 * 1024;

/// Events that no kernel can keep.
const TOO_MANY: usize = 3_000;

const SLOW: &str = "/feed/slow";

async fn server(policy: SlowConsumers) -> TestServer {
    let engine = EngineConfig {
        outbox_bytes: OUTBOX_BYTES,
        ..EngineConfig::default()
    };
    let config = ServerConfig {
        slow_consumers_of: vec![("/feed/*".to_owned(), policy)],
        ..ServerConfig::default()
    };
    let test = TestServer::with(config, engine).await;
    answer_pings(&test.server.of(SLOW));
    test
}

/// Events of the namespace, each of which a client that reads gets before the next is sent.
struct Flood<'a> {
    test: &'a TestServer,
    reader: Client,
    emitted: usize,
}

impl<'a> Flood<'a> {
    async fn new(test: &'a TestServer) -> Self {
        Self {
            test,
            reader: Client::connect(test.address, SLOW).await,
            emitted: 0,
        }
    }

    /// Sends one event, with an attachment.
    async fn emit(&mut self, volatile: bool) {
        let byte = u8::try_from(self.emitted % 251).unwrap();
        let attachment = Value::Binary(vec![byte; ATTACHMENT_BYTES].into());
        let mut all = self.test.server.of(SLOW).all();
        if volatile {
            all = all.volatile();
        }
        all.emit("news", &(self.emitted, attachment)).unwrap();
        let got = read(&mut self.reader).await;
        assert_eq!(got, Some(self.emitted), "nobody else is harmed");
        self.emitted += 1;
    }

    async fn until(&mut self, volatile: bool, enough: impl Fn(&TestServer) -> bool) {
        while !enough(self.test) {
            assert!(self.emitted < TOO_MANY, "nothing has happened for long");
            self.emit(volatile).await;
        }
    }
}

/// Reads one event, which must be whole. None: it is the answer to a ping.
async fn read(client: &mut Client) -> Option<usize> {
    let head = client.text().await;
    if head.starts_with("43/feed/slow,7") {
        return None;
    }
    let rest = head
        .strip_prefix(r#"451-/feed/slow,["news","#)
        .expect(&head);
    let number: usize = rest.split(',').next().unwrap().parse().unwrap();
    let frame = client.binary().await;
    // EIO 3 puts the packet type in front.
    let attachment = &frame[frame.len() - ATTACHMENT_BYTES..];
    let whole = |&byte: &u8| usize::from(byte) == number % 251;
    assert!(attachment.iter().all(whole), "the attachment of {number}");
    Some(number)
}

fn dropped(test: &TestServer, reason: &str) -> usize {
    let name = format!("sockhop_engine_dropped_total{{reason=\"{reason}\"}}");
    test.metric(&name) as usize
}

async fn the_oldest_give_way(target: &str) {
    let test = server(SlowConsumers::DropOldest).await;
    let mut left = reasons(&test.server.of(SLOW));
    let mut slow = Client::open_at(test.address, target).await;
    if target.contains("EIO=3") {
        slow.expect("40").await;
        slow.ask("40/feed/slow,", "40/feed/slow,").await;
    } else {
        slow.join(SLOW).await;
    }
    let mut flood = Flood::new(&test).await;
    flood
        .until(false, |test| dropped(test, "drop_oldest") > 0)
        .await;
    // Its answer waits in the queue that overflows, and must arrive however much comes later.
    slow.send(r#"42/feed/slow,7["ping"]"#).await;
    until("the ping was handled", || {
        test.metric("sockhop_events_received_total") >= 1.0
    })
    .await;
    flood
        .until(false, |test| dropped(test, "drop_oldest") > 30)
        .await;

    let (mut got, mut answers) = (Vec::new(), 0);
    while got.last() != Some(&(flood.emitted - 1)) {
        match read(&mut slow).await {
            Some(number) => got.push(number),
            None => answers += 1,
        }
    }
    assert!(got.is_sorted_by(|a, b| a < b), "order is kept: {got:?}");
    assert_eq!(got[0], 0, "what the kernel has is not dropped");
    let newest = got.len() - OUTBOX_BYTES * 3 / 4 / ATTACHMENT_BYTES;
    let expected = flood.emitted - (got.len() - newest);
    assert_eq!(got[newest], expected, "the newest are kept: {got:?}");
    assert_eq!(answers, 1, "an answer never gives way");
    assert_eq!(got.len() + dropped(&test, "drop_oldest"), flood.emitted);
    assert!(left.try_recv().is_err(), "the session stays");
    assert_eq!(dropped(&test, "drop_volatile"), 0);
}

#[tokio::test]
async fn the_oldest_events_give_way_to_newer_ones_and_the_session_stays() {
    the_oldest_give_way("/socket.io/?EIO=4&transport=websocket").await;
}

#[tokio::test]
async fn the_oldest_events_give_way_for_clients_of_the_2_x_line_too() {
    the_oldest_give_way("/socket.io/?EIO=3&transport=websocket").await;
}

#[tokio::test]
async fn volatile_events_wait_a_little_and_give_way_before_the_session_is_closed() {
    let test = server(SlowConsumers::DropVolatile).await;
    let mut left = reasons(&test.server.of(SLOW));
    let _slow = Client::connect(test.address, SLOW).await;
    let mut flood = Flood::new(&test).await;
    let refused = |test: &TestServer| test.metric("sockhop_adapter_volatile_dropped_total");
    flood.until(true, |test| refused(test) > 30.0).await;
    assert!(left.try_recv().is_err(), "the session stays");
    assert_eq!(dropped(&test, "drop_volatile"), 0);

    let before = flood.emitted;
    flood
        .until(false, |test| dropped(test, "drop_volatile") > 0)
        .await;
    let firm = flood.emitted - before;
    assert!(
        firm > OUTBOX_BYTES / 2 / ATTACHMENT_BYTES,
        "{firm} fitted in"
    );
    let closed = "sockhop_engine_sessions_closed_total{reason=\"slow_consumer\"}";
    assert_eq!(test.metric(closed), 0.0, "there was room instead");
    flood.until(false, |test| test.metric(closed) > 0.0).await;
    assert_eq!(next(&mut left).await, DisconnectReason::TransportError);
    flood.emit(false).await;
}

#[tokio::test]
async fn without_a_policy_the_session_is_closed() {
    let test = server(SlowConsumers::Close).await;
    let mut left = reasons(&test.server.of(SLOW));
    let _slow = Client::connect(test.address, SLOW).await;
    let mut flood = Flood::new(&test).await;
    let closed = "sockhop_engine_sessions_closed_total{reason=\"slow_consumer\"}";
    flood.until(false, |test| test.metric(closed) > 0.0).await;
    assert_eq!(next(&mut left).await, DisconnectReason::TransportError);
    flood.emit(false).await;
    assert_eq!(dropped(&test, "drop_oldest"), 0);
    assert_eq!(dropped(&test, "drop_volatile"), 0);
}

#[tokio::test]
async fn what_is_emitted_while_the_session_has_no_turn_gives_way_too() {
    const EVENTS: usize = 10_000;
    let test = server(SlowConsumers::DropOldest).await;
    let mut connected = sockets(&test.server.of(SLOW));
    let handshake = "/socket.io/?EIO=4&transport=polling";
    let sid = get(test.address, handshake).await.sid();
    let target = format!("{handshake}&sid={sid}");
    post(test.address, &target, "40/feed/slow,").await;
    assert!(get(test.address, &target).await.body.starts_with("40/feed"));
    let socket = next(&mut connected).await;
    let padding = "x".repeat(1024);
    for number in 0..EVENTS {
        socket.emit("news", &(number, &padding)).unwrap();
    }
    let mut got: Vec<usize> = Vec::new();
    while got.last() != Some(&(EVENTS - 1)) {
        let answer = get(test.address, &target).await;
        for packet in answer.body.split('\x1e') {
            let rest = packet.strip_prefix(r#"42/feed/slow,["news","#);
            let number = rest.expect(packet).split(',').next().unwrap();
            got.push(number.parse().unwrap());
        }
    }
    let first = EVENTS - got.len();
    assert_eq!(got, (first..EVENTS).collect::<Vec<_>>(), "the newest");
    assert!(got.len() > OUTBOX_BYTES / 3 / 1024, "only {}", got.len());
    assert_eq!(got.len() + dropped(&test, "drop_oldest"), EVENTS);
}

#[tokio::test]
async fn a_policy_is_that_of_its_namespace_alone() {
    let test = server(SlowConsumers::DropOldest).await;
    let mut left = reasons(&test.root());
    let mut connected = sockets(&test.root());
    let (mut slow, socket) = test.pair(&mut connected).await;
    slow.join(SLOW).await;
    // What does not give way may have the room of what does, and no more.
    let padding = "x".repeat(1024);
    for _ in 0..300 {
        test.server.of(SLOW).emit("news", &padding).unwrap();
    }
    let refused = (0..5_000).find_map(|_| socket.emit("firm", &padding).err());
    assert!(refused.is_some(), "it is limited");
    assert_eq!(next(&mut left).await, DisconnectReason::TransportError);
}

#[tokio::test]
async fn a_namespace_may_be_given_a_policy_at_any_time() {
    let test = server(SlowConsumers::Close).await;
    let feed = test.server.of(SLOW);
    feed.slow_consumers(SlowConsumers::DropOldest);
    let mut connected = sockets(&feed);
    let mut slow = Client::connect(test.address, SLOW).await;
    let socket = next(&mut connected).await;
    let padding = "x".repeat(1024);
    for _ in 0..3_000 {
        socket.emit("news", &padding).unwrap();
    }
    socket.emit("last", &()).unwrap();
    while slow.text().await != r#"42/feed/slow,["last"]"# {}
    assert!(dropped(&test, "drop_oldest") > 1_000);
}

//! Rooms, and whom a broadcast reaches.

mod support;

use sockhop::{BroadcastOperator, EngineConfig, ServerConfig, Socket};
use support::{Client, TestServer, answer_pings, sockets};

/// Four clients; `rooms` are what each of them is in.
struct Party {
    test: TestServer,
    clients: Vec<Client>,
    sockets: Vec<Socket>,
}

impl Party {
    async fn start(rooms: [&[&str]; 4]) -> Self {
        let test = TestServer::start().await;
        let mut connected = sockets(&test.root());
        let (mut clients, mut all) = (Vec::new(), Vec::new());
        for rooms in rooms {
            let (client, socket) = test.pair(&mut connected).await;
            socket.join(rooms.to_vec());
            clients.push(client);
            all.push(socket);
        }
        Self {
            test,
            clients,
            sockets: all,
        }
    }

    /// Emits to the target, and asserts that exactly these clients get it, each once.
    async fn expect(&mut self, target: &BroadcastOperator, reached: &[usize]) {
        target.emit("hit", &1).unwrap();
        self.expect_hits(reached).await;
    }

    async fn expect_hits(&mut self, reached: &[usize]) {
        self.test.root().emit("end", &()).unwrap();
        for (number, client) in self.clients.iter_mut().enumerate() {
            if reached.contains(&number) {
                client.expect(r#"42["hit",1]"#).await;
            }
            client.expect(r#"42["end"]"#).await;
        }
    }
}

#[tokio::test]
async fn members_of_a_room_get_what_is_sent_to_it() {
    let mut party = Party::start([&["red"], &["red", "blue"], &["blue"], &[]]).await;
    let root = party.test.root();
    party.expect(&root.to("red"), &[0, 1]).await;
    party.expect(&root.to("blue"), &[1, 2]).await;
    party.expect(&root.to("nobody here"), &[]).await;
    party.expect(&root.all(), &[0, 1, 2, 3]).await;
    party.expect(&party.test.server.to("red"), &[0, 1]).await;
}

#[tokio::test]
async fn a_socket_in_two_targeted_rooms_gets_one_copy() {
    let mut party = Party::start([&["red"], &["red", "blue"], &["blue"], &[]]).await;
    let root = party.test.root();
    party.expect(&root.to(["red", "blue"]), &[0, 1, 2]).await;
    party
        .expect(&root.to("red").to("blue").to("red"), &[0, 1, 2])
        .await;
    let own = party.sockets[1].id().clone();
    party.expect(&root.to("red").to(&own), &[0, 1]).await;
}

#[tokio::test]
async fn exceptions_are_rooms_or_single_sockets() {
    let mut party = Party::start([&["red"], &["red", "blue"], &["blue"], &[]]).await;
    let root = party.test.root();
    party.expect(&root.to("red").except("blue"), &[0]).await;
    party.expect(&root.except("red"), &[2, 3]).await;
    party.expect(&root.except(["red", "blue"]), &[3]).await;
    let skipped = [party.sockets[0].id(), party.sockets[3].id()];
    party.expect(&root.except(skipped), &[1, 2]).await;
    party.expect(&root.to("red").except("red"), &[]).await;
}

#[tokio::test]
async fn what_a_socket_sends_to_others_does_not_come_back() {
    let mut party = Party::start([&["red"], &["red", "blue"], &["blue"], &[]]).await;
    let socket = party.sockets[0].clone();
    party.expect(&socket.broadcast(), &[1, 2, 3]).await;
    party.expect(&socket.to("red"), &[1]).await;
    party.expect(&socket.to("red").to("blue"), &[1, 2]).await;
    party.expect(&socket.except("red"), &[2, 3]).await;
    party.expect(&socket.local(), &[1, 2, 3]).await;
    party.expect(&socket.compress(false).to("red"), &[1]).await;
    party
        .expect(&socket.compress(false).broadcast(), &[1, 2, 3])
        .await;
    // `within` is the one that includes the socket.
    party.expect(&socket.within("red"), &[0, 1]).await;
    party.expect(&socket.within("blue"), &[1, 2]).await;
}

#[tokio::test]
async fn the_room_of_its_own_id_reaches_a_socket_and_whoever_joined_it() {
    let mut party = Party::start([&[], &[], &[], &[]]).await;
    let root = party.test.root();
    let id = party.sockets[0].id().clone();
    party.expect(&root.to(&id), &[0]).await;
    party.sockets[1].join(&id);
    party.expect(&root.to(&id), &[0, 1]).await;
    party.expect(&root.except(&id), &[2, 3]).await;
    // Nobody leaves the room that is its own.
    party.sockets[0].leave(&id);
    party.sockets[1].leave(&id);
    party.expect(&root.to(&id), &[0]).await;
}

#[tokio::test]
async fn rooms_are_joined_and_left_one_or_many_at_a_time() {
    let mut party = Party::start([&[], &[], &[], &[]]).await;
    let root = party.test.root();
    let socket = party.sockets[0].clone();
    socket.join(["a", "b"]);
    socket.join(vec!["c".to_owned(), "a".to_owned()]);
    socket.join(String::from("d"));
    let rooms = socket.rooms();
    assert_eq!(rooms[0].as_str(), socket.id().as_str());
    let names: Vec<&str> = rooms[1..].iter().map(|room| room.as_str()).collect();
    assert_eq!(names, ["a", "b", "c", "d"]);
    socket.leave(["a", "d"]);
    socket.leave("never joined");
    party.expect(&root.to(["a", "d"]), &[]).await;
    party.expect(&root.to("b"), &[0]).await;
}

#[tokio::test]
async fn a_message_to_a_socket_itself_stays_with_it() {
    let mut party = Party::start([&["red"], &["red"], &[], &[]]).await;
    party.sockets[0].emit("hit", &1).unwrap();
    party.expect_hits(&[0]).await;
    party.sockets[0].compress(false).emit("hit", &1).unwrap();
    party.expect_hits(&[0]).await;
}

#[tokio::test]
async fn send_is_the_event_message() {
    let mut party = Party::start([&[], &[], &[], &[]]).await;
    party.sockets[0].send(&("a", 1)).unwrap();
    party.clients[0].expect(r#"42["message","a",1]"#).await;
    party.sockets[0].broadcast().send("b").unwrap();
    party.test.root().send("c").unwrap();
    party.test.server.emit("message", "d").unwrap();
    for text in ["b", "c", "d"] {
        party.clients[1]
            .expect(&format!(r#"42["message","{text}"]"#))
            .await;
    }
}

#[tokio::test]
async fn rooms_of_two_namespaces_have_nothing_in_common() {
    let test = TestServer::start().await;
    answer_pings(&test.root());
    let other = test.server.of("/other");
    let mut connected = sockets(&test.root());
    let mut elsewhere = sockets(&other);
    let (mut client, here) = test.pair(&mut connected).await;
    client.join("/other").await;
    let there = support::next(&mut elsewhere).await;
    there.join("red");
    assert_eq!(here.rooms().len(), 1);
    test.root().to("red").emit("here", &()).unwrap();
    other.to("red").emit("there", &()).unwrap();
    client.expect(r#"42/other,["there"]"#).await;
    client.settle().await;
}

#[tokio::test]
async fn a_socket_leaves_all_rooms_with_its_namespace() {
    let mut party = Party::start([&["red"], &["red"], &[], &[]]).await;
    let root = party.test.root();
    party.clients[0].send("41").await;
    support::until("it left", || root.socket_count() == 3).await;
    assert!(party.sockets[0].rooms().is_empty());
    party.sockets[0].join("red");
    party.clients.remove(0);
    party.expect(&root.to("red"), &[0]).await;
}

#[tokio::test]
async fn rooms_over_the_limit_and_overlong_names_are_not_joined() {
    let config = ServerConfig {
        max_rooms_per_socket: 2,
        max_room_name_bytes: 5,
        ..ServerConfig::default()
    };
    let test = TestServer::with(config, EngineConfig::default()).await;
    let mut connected = sockets(&test.root());
    let (_client, socket) = test.pair(&mut connected).await;
    socket.join(["12345", "123456", "b", "c"]);
    assert_eq!(socket.rooms()[1..], ["12345".into(), "b".into()]);
    socket.leave("b");
    socket.join("c");
    assert_eq!(socket.rooms()[1..], ["12345".into(), "c".into()]);
    assert!((test.metric("sockhop_adapter_rooms_refused_total") - 1.0).abs() < 0.5);
    assert!((test.metric("sockhop_adapter_names_refused_total") - 1.0).abs() < 0.5);
}

#[tokio::test]
async fn a_flood_of_joins_over_the_limit_is_counted_and_leaves_no_rooms() {
    const LIMIT: usize = 10;
    const JOINS: usize = 5_000;
    let config = ServerConfig {
        max_rooms_per_socket: LIMIT,
        ..ServerConfig::default()
    };
    let test = TestServer::with(config, EngineConfig::default()).await;
    let root = test.root();
    root.on("join", |socket: Socket, room: String| async move {
        socket.join(room).await;
    });
    let mut connected = sockets(&root);
    let (mut client, socket) = test.pair(&mut connected).await;
    for number in 0..JOINS {
        client
            .send(&format!("42[\"join\",\"room {number}\"]"))
            .await;
    }
    let refused = || test.metric("sockhop_adapter_rooms_refused_total");
    support::until("all are refused", || {
        refused() > (JOINS - LIMIT) as f64 - 0.5
    })
    .await;
    assert!(refused() < (JOINS - LIMIT) as f64 + 0.5);
    // Its own room is none of them.
    assert_eq!(socket.rooms().len(), LIMIT + 1);
    assert_eq!(root.all_rooms().await.found.len(), LIMIT + 1);
    root.to(format!("room {LIMIT}")).emit("no", &()).unwrap();
    root.to(format!("room {}", LIMIT - 1))
        .emit("yes", &())
        .unwrap();
    client.expect(r#"42["yes"]"#).await;
}

#[tokio::test]
async fn a_payload_that_cannot_be_written_reaches_nobody() {
    let mut party = Party::start([&[], &[], &[], &[]]).await;
    let unwritable = std::collections::BTreeMap::from([((1, 2), "keys are no strings")]);
    assert!(party.test.root().emit("bad", &unwritable).is_err());
    assert!(party.sockets[0].emit("bad", &unwritable).is_err());
    party.expect_hits(&[]).await;
}

//! Operations on sockets by their ids, and on many at once.

mod support;

use std::time::Duration;

use sockhop::{Namespace, RemoteSocket, Room, Socket, SocketId, Value};
use support::{Client, TestServer, answer_pings, id, reasons, sockets, until};

async fn three() -> (TestServer, Vec<Client>, Vec<Socket>) {
    let test = TestServer::start().await;
    answer_pings(&test.root());
    let mut connected = sockets(&test.root());
    let (mut clients, mut all) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let (client, socket) = test.pair(&mut connected).await;
        clients.push(client);
        all.push(socket);
    }
    (test, clients, all)
}

async fn members(namespace: &Namespace, room: &str) -> Vec<SocketId> {
    let found = namespace.to(room).fetch_sockets().await;
    let mut ids: Vec<SocketId> = found.iter().map(|socket| socket.id().clone()).collect();
    ids.sort();
    ids
}

fn ids(sockets: &[&Socket]) -> Vec<SocketId> {
    let mut ids: Vec<SocketId> = sockets.iter().map(|socket| socket.id().clone()).collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn rooms_are_entered_and_left_by_id() {
    let (test, _clients, sockets) = three().await;
    let root = test.root();
    root.enter_room(sockets[0].id(), ["red", "blue"]);
    root.enter_room(sockets[1].id(), "red");
    root.enter_room(&id("nobody"), "red");
    assert_eq!(
        members(&root, "red").await,
        ids(&[&sockets[0], &sockets[1]])
    );
    root.leave_room(sockets[0].id(), "red");
    root.leave_room(&id("nobody"), "red");
    assert_eq!(members(&root, "red").await, ids(&[&sockets[1]]));
    assert_eq!(members(&root, "blue").await, ids(&[&sockets[0]]));
}

#[tokio::test]
async fn the_rooms_of_a_socket_are_found_by_id() {
    let (test, _clients, sockets) = three().await;
    sockets[0].join("red");
    sockets[1].join(sockets[0].id());
    let rooms = test.root().rooms(sockets[0].id()).await;
    assert_eq!(*rooms, [Room::from(sockets[0].id()), Room::from("red")]);
    assert!(test.root().rooms(&id("nobody")).await.is_empty());
}

#[tokio::test]
async fn who_joined_the_room_of_an_id_is_not_meant_by_the_id() {
    let (test, _clients, sockets) = three().await;
    let root = test.root();
    sockets[1].join(sockets[0].id());
    root.enter_room(sockets[0].id(), "red");
    assert_eq!(members(&root, "red").await, ids(&[&sockets[0]]));
    sockets[1].join("red");
    root.leave_room(sockets[0].id(), "red");
    assert_eq!(members(&root, "red").await, ids(&[&sockets[1]]));
}

/// As from socket.io, a disconnect by id is one of the room with that name. The adapter offers no
/// way to reach the session of one socket only.
#[tokio::test]
async fn a_disconnect_by_id_takes_those_who_joined_the_room_of_that_name_with_it() {
    let (test, mut clients, sockets) = three().await;
    sockets[1].join(sockets[0].id());
    test.root().disconnect(sockets[0].id());
    clients[0].expect("41").await;
    clients[1].expect("41").await;
    clients[2].settle().await;
}

#[tokio::test]
async fn closing_a_room_takes_everybody_out_of_it() {
    let (test, mut clients, sockets) = three().await;
    for socket in &sockets {
        socket.join(["red", "blue"]);
    }
    test.root().close_room("red");
    assert!(members(&test.root(), "red").await.is_empty());
    assert_eq!(members(&test.root(), "blue").await.len(), 3);
    for client in &mut clients {
        client.settle().await;
    }
}

#[tokio::test]
async fn a_socket_is_disconnected_by_id() {
    let (test, mut clients, sockets) = three().await;
    let mut left = reasons(&test.root());
    test.root().disconnect(&id("nobody"));
    test.root().disconnect(sockets[1].id());
    clients[1].expect("41").await;
    let reason = support::next(&mut left).await;
    assert_eq!(reason.as_str(), "server namespace disconnect");
    assert_eq!(test.root().socket_count(), 2);
    clients[1].join("/").await;
}

#[tokio::test]
async fn fetched_sockets_tell_rooms_handshake_and_data() {
    let (test, mut clients, sockets) = three().await;
    sockets[0].join("red");
    sockets[0].set_data(Value::String("mine".to_owned()));
    let found = test.root().to("red").fetch_sockets().await;
    let [found] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!(found.id(), sockets[0].id());
    assert_eq!(found.rooms(), sockets[0].rooms());
    assert_eq!(found.data(), Value::String("mine".to_owned()));
    let handshake = found.handshake();
    assert_eq!(
        handshake.get("address").and_then(Value::as_str),
        Some("127.0.0.1")
    );
    for member in [
        "headers", "time", "address", "xdomain", "secure", "issued", "url", "query", "auth",
    ] {
        assert!(handshake.get(member).is_some(), "{member}");
    }
    found.emit("hello", &1).unwrap();
    clients[0].expect(r#"42["hello",1]"#).await;
    found.join(["blue", "green"]);
    found.leave("blue");
    assert_eq!(members(&test.root(), "green").await, ids(&[&sockets[0]]));
    assert!(members(&test.root(), "blue").await.is_empty());
    let answering = async {
        let question = clients[0].text().await;
        let id = question
            .strip_prefix("42")
            .unwrap()
            .split('[')
            .next()
            .unwrap();
        clients[0].send(&format!("43{id}[7]")).await;
    };
    let asking = found.emit_with_ack::<u8>("question", &(), Duration::from_secs(60));
    let (answered, ()) = tokio::join!(asking, answering);
    assert_eq!(answered.unwrap(), 7);
    found.disconnect(true);
    clients[0].expect("41").await;
    clients[0].ended().await;
}

#[tokio::test]
async fn everybody_is_fetched_without_a_room() {
    let (test, _clients, sockets) = three().await;
    let found: Vec<RemoteSocket> = test.root().fetch_sockets().await.found;
    assert_eq!(found.len(), 3);
    let others = sockets[0].broadcast().fetch_sockets().await;
    assert_eq!(others.len(), 2);
    let data = others.iter().all(|socket| socket.data() == Value::Null);
    assert!(data);
}

#[tokio::test]
async fn many_sockets_join_and_leave_at_once() {
    let (test, _clients, sockets) = three().await;
    let root = test.root();
    sockets[0].join("muted");
    root.except("muted").sockets_join(["red", "blue"]);
    let others = ids(&[&sockets[1], &sockets[2]]);
    assert_eq!(members(&root, "red").await, others);
    assert_eq!(members(&root, "blue").await, others);
    root.to(sockets[1].id()).sockets_leave(["red"]);
    assert_eq!(members(&root, "red").await, ids(&[&sockets[2]]));
}

#[tokio::test]
async fn many_sockets_are_disconnected_at_once() {
    let (test, mut clients, sockets) = three().await;
    sockets[0].join("red");
    sockets[1].join("red");
    test.root().to("red").disconnect_sockets(false);
    clients[0].expect("41").await;
    clients[1].expect("41").await;
    clients[0].join("/").await;
    test.root().all().disconnect_sockets(true);
    for number in [0, 2] {
        clients[number].expect("41").await;
        clients[number].ended().await;
    }
    until("all have left", || test.root().socket_count() == 0).await;
}

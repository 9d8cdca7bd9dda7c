//! Two parsers on one server.

mod support;

use serde_json::{Value, json};
use sockhop::{Ack, EngineConfig, Parser, Socket};
use support::{Client, TestServer, next, serve, sockets};

/// A client that speaks msgpack.
struct Packed(Client);

impl Packed {
    async fn send(&mut self, packet: &Value) {
        let data = rmp_serde::to_vec(packet).unwrap();
        self.0.send_binary(&data).await;
    }

    async fn packet(&mut self) -> Value {
        rmp_serde::from_slice(&self.0.binary().await).unwrap()
    }
}

/// One client of each parser, both in `/`.
async fn both() -> (TestServer, Client, Packed) {
    let test = TestServer::start().await;
    let engine = EngineConfig {
        path: "/msgpack/".to_owned(),
        ..EngineConfig::default()
    };
    let mount = test.server.mount(engine, Parser::Msgpack);
    let address = serve(&test.server, mount).await;
    let plain = test.client().await;
    let target = "/msgpack/?EIO=4&transport=websocket";
    let mut packed = Packed(Client::open_at(address, target).await);
    packed.send(&json!({ "type": 0, "nsp": "/" })).await;
    let answer = packed.packet().await;
    assert_eq!(answer["type"], 0);
    (test, plain, packed)
}

#[tokio::test]
async fn both_get_the_same_broadcast_once() {
    let (test, mut plain, mut packed) = both().await;
    assert_eq!(test.root().socket_count(), 2);
    let expected = json!(["news", { "a": [1, null, "é"] }, 2]);
    for _ in 0..2 {
        test.root()
            .emit("news", &(json!({ "a": [1, null, "é"] }), 2))
            .unwrap();
        plain.expect(r#"42["news",{"a":[1,null,"é"]},2]"#).await;
        let packet = packed.packet().await;
        assert_eq!((&packet["type"], &packet["data"]), (&json!(2), &expected));
    }
}

#[tokio::test]
async fn rooms_span_the_mounts() {
    let (test, mut plain, mut packed) = both().await;
    for socket in test.root().fetch_sockets().await {
        socket.join("red");
    }
    test.root().to("red").emit("x", &()).unwrap();
    plain.expect(r#"42["x"]"#).await;
    assert_eq!(packed.packet().await["data"], json!(["x"]));
}

#[tokio::test]
async fn raw_arguments_of_one_parser_reach_clients_of_the_other() {
    let (test, mut plain, mut packed) = both().await;
    test.root()
        .on(
            "relay",
            |socket: Socket, args: sockhop::Payload| async move {
                socket.broadcast().emit("relayed", &args)
            },
        )
        .on_with_ack(
            "echo",
            |_: Socket, args: sockhop::Payload, ack: Ack| async move { ack.send(&args) },
        );
    plain.send(r#"42["relay",{"a":1},"b"]"#).await;
    let packet = packed.packet().await;
    assert_eq!(packet["data"], json!(["relayed", { "a": 1 }, "b"]));
    let relay = json!({ "type": 2, "nsp": "/", "data": ["relay", [true], "c"] });
    packed.send(&relay).await;
    plain.expect(r#"42["relayed",[true],"c"]"#).await;
    let echo = json!({ "type": 2, "nsp": "/", "id": 5, "data": ["echo", 1, 2] });
    packed.send(&echo).await;
    let packet = packed.packet().await;
    assert_eq!((&packet["type"], &packet["id"]), (&json!(3), &json!(5)));
    assert_eq!(packet["data"], json!([1, 2]));
}

#[tokio::test]
async fn a_broadcast_with_acknowledgements_asks_both() {
    let (test, mut plain, mut packed) = both().await;
    let all = test.root().all().timeout(support::PATIENCE);
    let asking = all.emit_with_ack::<u8>("question", &());
    let answering = async {
        let question = plain.text().await;
        let id = question
            .strip_prefix("42")
            .unwrap()
            .split('[')
            .next()
            .unwrap();
        plain.send(&format!("43{id}[1]")).await;
        let id = packed.packet().await["id"].clone();
        packed
            .send(&json!({ "type": 3, "nsp": "/", "id": id, "data": [2] }))
            .await;
    };
    let (answers, ()) = tokio::join!(asking, answering);
    let mut values: Vec<u8> = answers.unwrap().into_values().collect();
    values.sort_unstable();
    assert_eq!(values, [1, 2]);
}

#[tokio::test]
async fn a_single_socket_is_spoken_to_with_its_own_parser() {
    let (test, _plain, mut packed) = both().await;
    let mut connected = sockets(&test.server.of("/other"));
    packed.send(&json!({ "type": 0, "nsp": "/other" })).await;
    assert_eq!(packed.packet().await["nsp"], "/other");
    next(&mut connected).await.emit("you", &1).unwrap();
    let packet = packed.packet().await;
    assert_eq!(packet["data"], json!(["you", 1]));
    assert_eq!(packet["nsp"], "/other");
}

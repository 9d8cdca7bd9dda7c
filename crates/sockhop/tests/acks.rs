//! Acknowledgements: of clients to us, of us to clients, of many to a broadcast.

mod support;

use std::time::Duration;

use sockhop::{Ack, AckError, EmitError, EngineConfig, Event, ServerConfig, Socket, SocketId};
use support::{Client, TestServer, answer_pings, sockets, until};
use tokio::task::JoinSet;

/// Long enough never to pass.
const LONG: Duration = Duration::from_secs(60);

/// Short enough to wait for it.
const SHORT: Duration = Duration::from_millis(20);

/// The id in an event `42<id>["question"…]`, whose acknowledgement then begins with `43<id>`.
fn asked(frame: &str) -> &str {
    let rest = frame.strip_prefix("42").expect(frame);
    let (id, event) = rest.split_once('[').expect(frame);
    assert!(event.starts_with("\"question\""), "{frame}");
    id
}

async fn answer(client: &mut Client, with: &str) {
    let question = client.text().await;
    client.send(&format!("43{}{with}", asked(&question))).await;
}

#[tokio::test]
async fn a_client_answers_with_one_value_or_many() {
    let test = TestServer::start().await;
    let mut connected = sockets(&test.root());
    let (mut client, socket) = test.pair(&mut connected).await;
    let one = socket.emit_with_ack::<String>("question", "?", LONG);
    let (one, ()) = tokio::join!(one, answer(&mut client, r#"["yes","ignored"]"#));
    assert_eq!(one.unwrap(), "yes");
    let two = socket.emit_with_ack::<(u8, u8)>("question", &(), LONG);
    let (two, ()) = tokio::join!(two, answer(&mut client, "[1,2]"));
    assert_eq!(two.unwrap(), (1, 2));
}

#[tokio::test]
async fn an_answer_that_does_not_fit_is_an_error() {
    let test = TestServer::start().await;
    let mut connected = sockets(&test.root());
    let (mut client, socket) = test.pair(&mut connected).await;
    let asking = socket.emit_with_ack::<u8>("question", &(), LONG);
    let (answered, ()) = tokio::join!(asking, answer(&mut client, r#"["text"]"#));
    assert!(matches!(answered, Err(AckError::Decode(_))));
}

#[tokio::test]
async fn no_answer_in_time_is_a_timeout_and_a_late_one_is_ignored() {
    let test = TestServer::start().await;
    answer_pings(&test.root());
    let mut connected = sockets(&test.root());
    let (mut client, socket) = test.pair(&mut connected).await;
    let answered = socket.emit_with_ack::<u8>("question", &(), SHORT).await;
    assert!(matches!(answered, Err(AckError::Timeout)), "{answered:?}");
    answer(&mut client, "[1]").await;
    client.settle().await;
}

#[tokio::test]
async fn a_client_that_leaves_while_asked_is_disconnected() {
    let test = TestServer::start().await;
    let mut connected = sockets(&test.root());
    for goodbye in ["41", "1", "4?"] {
        let (mut client, socket) = test.pair(&mut connected).await;
        let asking = socket.emit_with_ack::<u8>("question", &(), LONG);
        let leaving = async {
            client.text().await;
            client.send(goodbye).await;
        };
        let (answered, ()) = tokio::join!(asking, leaving);
        assert!(matches!(answered, Err(AckError::Disconnected)), "{goodbye}");
        let answered = socket.emit_with_ack::<u8>("question", &(), LONG).await;
        assert!(
            matches!(answered, Err(AckError::Emit(EmitError::Disconnected))),
            "{goodbye}"
        );
    }
}

#[tokio::test]
async fn a_disconnect_by_the_server_ends_the_wait() {
    let test = TestServer::start().await;
    let mut connected = sockets(&test.root());
    let (_client, socket) = test.pair(&mut connected).await;
    let asking = socket.emit_with_ack::<u8>("question", &(), LONG);
    let (answered, ()) = tokio::join!(asking, async { socket.disconnect(false) });
    assert!(matches!(answered, Err(AckError::Disconnected)));
}

#[tokio::test]
async fn an_answer_counts_once_and_for_its_own_question() {
    let test = TestServer::start().await;
    answer_pings(&test.root());
    let mut connected = sockets(&test.root());
    let (mut client, socket) = test.pair(&mut connected).await;
    let questions = async {
        tokio::join!(
            socket.emit_with_ack::<u8>("question", &1, LONG),
            socket.emit_with_ack::<u8>("question", &2, LONG),
        )
    };
    let answers = async {
        let first = client.text().await;
        let second = client.text().await;
        client.send("4377777[9]").await;
        for (question, answer) in [(&second, 2), (&second, 9), (&first, 1)] {
            client
                .send(&format!("43{}[{answer}]", asked(question)))
                .await;
        }
        client.settle().await;
    };
    let ((first, second), ()) = tokio::join!(questions, answers);
    assert_eq!((first.unwrap(), second.unwrap()), (1, 2));
}

#[tokio::test]
async fn only_the_socket_itself_is_asked_even_if_others_joined_the_room_of_its_id() {
    let test = TestServer::start().await;
    answer_pings(&test.root());
    let mut connected = sockets(&test.root());
    let (mut client, socket) = test.pair(&mut connected).await;
    let (mut other, intruder) = test.pair(&mut connected).await;
    intruder.join(socket.id());
    let asking = socket.emit_with_ack::<u8>("question", &(), LONG);
    let (answered, ()) = tokio::join!(asking, answer(&mut client, "[1]"));
    assert_eq!(answered.unwrap(), 1);
    other.settle().await;
}

#[tokio::test]
async fn a_client_that_owes_too_many_answers_is_not_asked() {
    let mut config = ServerConfig::default();
    config.limits.max_pending_acks = 1;
    let test = TestServer::with(config, EngineConfig::default()).await;
    let mut connected = sockets(&test.root());
    let (mut client, socket) = test.pair(&mut connected).await;
    let questions = async {
        tokio::join!(
            socket.emit_with_ack::<u8>("question", &1, LONG),
            socket.emit_with_ack::<u8>("question", &2, LONG),
        )
    };
    let ((first, second), ()) = tokio::join!(questions, answer(&mut client, "[1]"));
    assert_eq!(first.unwrap(), 1);
    assert!(matches!(second, Err(AckError::TooMany)), "{second:?}");
    let name = r#"sockhop_dropped_total{reason="too_many_acks"}"#;
    assert!((test.metric(name) - 1.0).abs() < 0.5);
}

#[tokio::test]
async fn a_client_may_be_asked_by_its_id() {
    let test = TestServer::start().await;
    let mut connected = sockets(&test.root());
    let (mut client, socket) = test.pair(&mut connected).await;
    let root = test.root();
    let calling = root.call::<u8>(socket.id(), "question", "?", LONG);
    let (answered, ()) = tokio::join!(calling, answer(&mut client, "[7]"));
    assert_eq!(answered.unwrap(), 7);
    let answered = root.call::<u8>(socket.id(), "question", "?", SHORT).await;
    assert!(matches!(answered, Err(AckError::Timeout)));
    let nobody = SocketId::from("nobody");
    let answered = root.call::<u8>(&nobody, "question", "?", LONG).await;
    assert!(matches!(answered, Err(AckError::Disconnected)));
}

#[tokio::test]
async fn a_broadcast_collects_the_answers_of_all() {
    let test = TestServer::start().await;
    let mut connected = sockets(&test.root());
    let mut clients = JoinSet::new();
    for number in 0..3 {
        let (mut client, _) = test.pair(&mut connected).await;
        clients.spawn(async move {
            answer(&mut client, &format!("[{number}]")).await;
            client
        });
    }
    let all = test.root().all().timeout(LONG);
    let answers = all.emit_with_ack::<u8>("question", "?").await.unwrap();
    assert!(answers.is_complete());
    assert_eq!(answers.expected, 3);
    let mut values: Vec<u8> = answers.into_values().collect();
    values.sort_unstable();
    assert_eq!(values, [0, 1, 2]);
}

#[tokio::test]
async fn a_broadcast_tells_who_answered_in_time_and_with_what() {
    let test = TestServer::start().await;
    let mut connected = sockets(&test.root());
    let (_silent, _) = test.pair(&mut connected).await;
    let (mut leaving, _) = test.pair(&mut connected).await;
    let (mut odd, odd_socket) = test.pair(&mut connected).await;
    let (mut good, good_socket) = test.pair(&mut connected).await;
    let all = test.root().all().timeout(Duration::from_secs(1));
    let asking = all.emit_with_ack::<u8>("question", "?");
    let answering = async {
        leaving.text().await;
        leaving.send("41").await;
        answer(&mut good, "[1]").await;
        answer(&mut odd, r#"["text"]"#).await;
    };
    let (answers, ()) = tokio::join!(asking, answering);
    let answers = answers.unwrap();
    assert!(!answers.is_complete());
    assert_eq!((answers.expected, answers.responses.len()), (4, 2));
    for (id, response) in &answers.responses {
        if id == good_socket.id() {
            assert_eq!(*response.as_ref().unwrap(), 1);
        } else {
            assert_eq!(id, odd_socket.id());
            assert!(matches!(response, Err(AckError::Decode(_))));
        }
    }
}

#[tokio::test]
async fn a_broadcast_to_nobody_is_complete_at_once() {
    let test = TestServer::start().await;
    let nobody = test.root().to("empty").timeout(LONG);
    let answers = nobody.emit_with_ack::<u8>("question", "?").await.unwrap();
    assert!(answers.is_complete());
    assert_eq!(answers.expected, 0);
}

#[tokio::test]
async fn the_server_answers_from_any_task_and_only_if_asked() {
    let test = TestServer::start().await;
    test.root()
        .on_unhandled(|socket: Socket, event: Event, ack: Ack| async move {
            assert_eq!(event.wants_ack(), ack.is_wanted());
            let tasks = socket.server().tasks().clone();
            tasks.spawn("answer", async move { ack.send(&("late", 1)).unwrap() });
        });
    answer_pings(&test.root());
    let mut client = test.client().await;
    client.send(r#"42["not asked"]"#).await;
    client.settle().await;
    client.ask(r#"4212["asked"]"#, r#"4312["late",1]"#).await;
}

#[tokio::test]
async fn an_acknowledgement_with_binary_goes_both_ways() {
    let test = TestServer::start().await;
    test.root().on_with_ack(
        "blob",
        |_: Socket, data: sockhop::Value, ack: Ack| async move { ack.send(&data) },
    );
    let mut connected = sockets(&test.root());
    let (mut client, socket) = test.pair(&mut connected).await;
    client
        .send(r#"451-1["blob",{"_placeholder":true,"num":0}]"#)
        .await;
    client.send_binary(&[1, 2]).await;
    client
        .expect(r#"461-1[{"_placeholder":true,"num":0}]"#)
        .await;
    assert_eq!(client.binary().await, [1, 2]);
    let asking = socket.emit_with_ack::<sockhop::Value>("question", &(), LONG);
    let answering = async {
        let question = client.text().await;
        let id = asked(&question);
        let ack = format!(r#"461-{id}[{{"_placeholder":true,"num":0}}]"#);
        client.send(&ack).await;
        client.send_binary(&[3]).await;
    };
    let (answered, ()) = tokio::join!(asking, answering);
    assert_eq!(answered.unwrap(), sockhop::Value::Binary(vec![3].into()));
}

#[tokio::test]
async fn giving_up_a_question_leaves_the_socket_well() {
    let test = TestServer::start().await;
    answer_pings(&test.root());
    let mut connected = sockets(&test.root());
    let (mut client, socket) = test.pair(&mut connected).await;
    let asking = socket.emit_with_ack::<u8>("question", &(), LONG);
    let given_up = tokio::time::timeout(SHORT, asking).await;
    assert!(given_up.is_err());
    answer(&mut client, "[1]").await;
    client.settle().await;
    drop(client);
    until("it left", || test.root().socket_count() == 0).await;
    assert!(connected.try_recv().is_err());
}

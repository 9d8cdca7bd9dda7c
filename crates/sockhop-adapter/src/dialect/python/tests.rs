use std::task::{Context, Poll, Waker};

use socketio_proto::{Args, Parser, encode_event};

use super::*;
use crate::bus::{ChannelMessage, MemoryChannels, MemoryHub};
use crate::dialect::Ignored;
use crate::dialect::testing::{counted, json, options};

struct Pair {
    dialect: PythonDialect,
    /// What another server on the same channel hears.
    other: MemoryChannels,
}

fn pair(config: PythonDialectConfig) -> Pair {
    let hub = MemoryHub::default();
    let other = hub.channels();
    other.subscribe(&config.channel);
    let dialect = PythonDialect::new(config, NodeId::new(1), Arc::new(hub.channels()));
    Pair { dialect, other }
}

fn speaking() -> Pair {
    pair(PythonDialectConfig::default())
}

impl Pair {
    fn heard(&self) -> Vec<Value> {
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(messages) = self.other.poll_incoming(&mut cx) else {
            return Vec::new();
        };
        let read = |message: ChannelMessage| serde_json::from_slice(&message.payload).unwrap();
        messages.into_iter().map(read).collect()
    }

    fn receive(&self, payload: impl AsRef<[u8]>) -> Option<PythonRequest> {
        self.dialect.receive(&ChannelMessage {
            channel: "socketio".into(),
            payload: Bytes::copy_from_slice(payload.as_ref()),
        })
    }

    fn receive_event(&self, payload: &str) -> (ForeignEvent, Option<Callback>) {
        match self.receive(payload) {
            Some(PythonRequest::Emit { event, callback }) => (*event, callback),
            other => panic!("{payload}: {other:?}"),
        }
    }

    fn ignored(&self, payload: &[u8]) -> Ignored {
        counted(self.dialect.stats(), || {
            let request = self.receive(payload);
            assert!(request.is_none(), "{request:?}");
        })
    }
}

fn packet(namespace: &str, args: &Args) -> Encoded {
    encode_event(Parser::Json, namespace, None, "news", args).unwrap()
}

fn args(payload: &Payload) -> Vec<Value> {
    payload.args().unwrap().0
}

const ID: &str = "abcdefghij0123456-_Z";

#[test]
fn an_emit_is_written_as_a_list_of_arguments() {
    let pair = speaking();
    let packet = packet("/chat", &Args(vec!["a]\"[".into(), Value::Null]));
    let sent = pair.dialect.broadcast("/chat", &options(&[], &[]), &packet);
    assert_eq!(sent, Ok(()));
    let expected = r#"{"method":"emit","host_id":"sockhop:0000000000000001","event":"news",
        "data":["a]\"[",null],"binary":false,"namespace":"/chat","room":null,"skip_sid":null,
        "callback":null}"#;
    assert_eq!(pair.heard(), [json(expected)]);
    assert_eq!(pair.dialect.stats().published.get(), 1);
}

#[test]
fn rooms_and_skipped_sockets_are_one_or_a_list() {
    let pair = speaking();
    let packet = packet("/", &Args::default());
    for (options, room, skip) in [
        (options(&["red"], &[ID]), r#""red""#, format!("{ID:?}")),
        (
            options(&["red", "blue"], &[]),
            r#"["red","blue"]"#,
            "null".to_owned(),
        ),
    ] {
        pair.dialect.broadcast("/", &options, &packet).unwrap();
        let heard = pair.heard();
        assert_eq!(heard[0].get("room"), Some(&json(room)));
        assert_eq!(heard[0].get("skip_sid"), Some(&json(&skip)));
        assert_eq!(heard[0].get("data"), Some(&json("[]")));
    }
}

#[test]
fn binary_data_follows_the_arguments_in_base64() {
    let pair = speaking();
    let data = Value::Binary(Bytes::from_static(b"\x00\xff"));
    let packet = packet("/", &Args(vec![1_u64.into(), data]));
    pair.dialect
        .broadcast("/", &options(&[], &[]), &packet)
        .unwrap();
    let heard = pair.heard();
    assert_eq!(heard[0].get("binary"), Some(&Value::Bool(true)));
    let expected = json(r#"[[1,{"_placeholder":true,"num":0}],"AP8="]"#);
    assert_eq!(heard[0].get("data"), Some(&expected));
}

#[test]
fn older_servers_get_single_values() {
    let pair = pair(PythonDialectConfig {
        single_values: true,
        ..PythonDialectConfig::default()
    });
    for (args, expected) in [
        (Args(vec!["x".into()]), r#""x""#),
        (Args::default(), "null"),
        (Args(vec![1_u64.into(), 2_u64.into()]), "[1,2]"),
    ] {
        let packet = packet("/", &args);
        pair.dialect
            .broadcast("/", &options(&[], &[]), &packet)
            .unwrap();
        assert_eq!(pair.heard()[0].get("data"), Some(&json(expected)));
    }
}

#[test]
fn what_python_has_no_words_for_is_counted_and_not_sent() {
    let pair = speaking();
    let packet = packet("/", &Args::default());
    let red = [Room::from("red")];
    pair.dialect
        .broadcast("/", &options(&[], &["muted"]), &packet)
        .unwrap();
    pair.dialect
        .sockets_join("/", &options(&["blue"], &[]), &red)
        .unwrap();
    pair.dialect
        .disconnect_sockets("/", &options(&[], &[]))
        .unwrap();
    assert!(pair.heard().is_empty());
    assert_eq!(pair.dialect.stats().unsupported.get(), 3);
}

#[test]
fn sockets_are_moved_and_disconnected_by_their_ids() {
    let pair = speaking();
    let one = options(&[ID], &[]);
    let rooms = ["red", "blue"].map(Room::from);
    pair.dialect.sockets_join("/", &one, &rooms).unwrap();
    pair.dialect.sockets_leave("/", &one, &rooms[..1]).unwrap();
    pair.dialect.disconnect_sockets("/", &one).unwrap();
    pair.dialect
        .sockets_leave("/", &options(&["red"], &[]), &rooms[..1])
        .unwrap();
    let head =
        |method: &str| format!(r#""method":"{method}","host_id":"sockhop:0000000000000001""#);
    let expected = [
        format!(
            r#"{{{},"sid":"{ID}","room":"red","namespace":"/"}}"#,
            head("enter_room")
        ),
        format!(
            r#"{{{},"sid":"{ID}","room":"blue","namespace":"/"}}"#,
            head("enter_room")
        ),
        format!(
            r#"{{{},"sid":"{ID}","room":"red","namespace":"/"}}"#,
            head("leave_room")
        ),
        format!(r#"{{{},"sid":"{ID}","namespace":"/"}}"#, head("disconnect")),
        format!(r#"{{{},"room":"red","namespace":"/"}}"#, head("close_room")),
    ];
    assert_eq!(pair.heard(), expected.map(|text| json(&text)));
}

#[test]
fn an_emit_of_another_server_is_read() {
    let pair = speaking();
    let (event, callback) = pair.receive_event(
        r#"{"method": "emit", "event": "my event", "data": ["a", {"b": 1}], "binary": false,
            "namespace": "/chat", "room": ["red", 7], "skip_sid": "x", "callback": null,
            "host_id": "0123"}"#,
    );
    assert_eq!((&*event.namespace, &*event.name), ("/chat", "my event"));
    assert_eq!(args(&event.payload), ["a".into(), json(r#"{"b":1}"#)]);
    assert_eq!(event.options.rooms.to_vec(), ["red", "7"].map(Room::from));
    assert_eq!(event.options.except.to_vec(), [Room::from("x")]);
    assert!(event.options.local && callback.is_none());
}

#[test]
fn arguments_are_read_in_every_form_that_was_ever_written() {
    let pair = speaking();
    for (data, expected) in [
        (r#""x""#, r#"["x"]"#),
        (r#"["x"]"#, r#"["x"]"#),
        (r#"[["x"]]"#, r#"[["x"]]"#),
        ("[null]", "[]"),
        ("null", "[]"),
        ("[]", "[]"),
        ("[null, 1]", "[null,1]"),
        (r#"{"a":[1]}"#, r#"[{"a":[1]}]"#),
    ] {
        let text = format!(r#"{{"method":"emit","event":"e","data":{data},"namespace":"/"}}"#);
        let (event, _) = pair.receive_event(&text);
        assert_eq!(Value::Array(args(&event.payload)), json(expected), "{data}");
    }
    let without = r#"{"method":"emit","event":"e","namespace":"/"}"#;
    assert!(args(&pair.receive_event(without).0.payload).is_empty());
}

#[test]
fn binary_data_of_another_server_is_read() {
    let pair = speaking();
    let (event, _) = pair.receive_event(
        r#"{"method":"emit","event":"e","binary":true,"namespace":"/",
            "data":[[{"_placeholder":true,"num":1},{"_placeholder":true,"num":0}],"AP8=","AQ"]}"#,
    );
    let binary = |data: &'static [u8]| Value::Binary(Bytes::from_static(data));
    assert_eq!(args(&event.payload), [binary(b"\x01"), binary(b"\x00\xff")]);
}

#[test]
fn an_ack_goes_back_to_the_host_that_wants_it() {
    let pair = speaking();
    let (_, callback) = pair.receive_event(
        r#"{"method":"emit","event":"e","data":[1],"namespace":"/","room":"sid",
            "callback":["sid","/",3],"host_id":"0123"}"#,
    );
    let ack = Payload::from_args(Args(vec!["ok".into(), 2_u64.into()]));
    pair.dialect.answer(&callback.unwrap(), &ack);
    let expected = r#"{"method":"callback","host_id":"0123","sid":"sid","namespace":"/","id":3,
        "args":["ok",2]}"#;
    assert_eq!(pair.heard(), [json(expected)]);
}

#[test]
fn a_call_waits_for_the_callback_of_another_server() {
    let pair = speaking();
    let question = pair
        .dialect
        .call("/", &ID.into(), &packet("/", &Args::default()))
        .unwrap()
        .unwrap();
    let heard = pair.heard();
    let callback = heard[0].get("callback").unwrap();
    assert_eq!(callback, &json(&format!(r#"["{ID}","/",0]"#)));
    let for_other =
        r#"{"method":"callback","host_id":"0123","sid":"x","namespace":"/","id":0,"args":[]}"#;
    assert_eq!(pair.ignored(for_other.as_bytes()), Ignored::NotAsked);
    let answer = for_other
        .replace("0123", "sockhop:0000000000000001")
        .replace("[]", "[7]");
    assert!(pair.receive(&answer).is_none());
    let mut cx = Context::from_waker(Waker::noop());
    let Poll::Ready(Some(Answer::Ack(ack))) = question.poll_next(&mut cx) else {
        panic!("no ack");
    };
    assert_eq!(ack.0, [7_u64.into()]);
    assert!(matches!(question.poll_next(&mut cx), Poll::Ready(None)));
}

#[test]
fn requests_about_single_sockets_are_read() {
    let pair = speaking();
    let text = |method: &str| {
        format!(r#"{{"method":"{method}","sid":"x","room":"red","namespace":"/a","host_id":"h"}}"#)
    };
    for method in ["disconnect", "enter_room", "leave_room", "close_room"] {
        let request = pair.receive(text(method)).unwrap();
        assert_eq!(request.namespace(), "/a");
        let fits = match &request {
            PythonRequest::Disconnect { id, .. } => method == "disconnect" && id.as_str() == "x",
            PythonRequest::EnterRoom { id, room, .. } => {
                method == "enter_room" && (id.as_str(), room.as_str()) == ("x", "red")
            }
            PythonRequest::LeaveRoom { id, room, .. } => {
                method == "leave_room" && (id.as_str(), room.as_str()) == ("x", "red")
            }
            PythonRequest::CloseRoom { room, .. } => {
                method == "close_room" && room.as_str() == "red"
            }
            PythonRequest::Emit { .. } => false,
        };
        assert!(fits, "{method}: {request:?}");
    }
}

#[test]
fn every_message_that_is_not_acted_on_is_counted_under_its_reason() {
    let pair = speaking();
    let own = r#"{"method":"disconnect","host_id":"sockhop:2","sid":"x","namespace":"/"}"#;
    for (payload, reason) in [
        (&b""[..], Ignored::Malformed),
        (b"\x80\x04\x95\x00", Ignored::Pickle),
        (b"[]", Ignored::Malformed),
        (b"{", Ignored::Malformed),
        (
            b"{\"method\":\"emit\",\"host_id\":\"sockhop:2\",\"event\":",
            Ignored::Own,
        ),
        (own.as_bytes(), Ignored::Own),
        (br#"{"method":"dance","namespace":"/"}"#, Ignored::Unknown),
        (
            br#"{"method":"emit","event":"e","data":[1]}"#,
            Ignored::Malformed,
        ),
        (
            br#"{"method":"emit","event":"connect","namespace":"/"}"#,
            Ignored::Malformed,
        ),
        (
            br#"{"method":"emit","event":1,"namespace":"/"}"#,
            Ignored::Malformed,
        ),
        (
            br#"{"method":"emit","event":"e","namespace":"/","binary":true,"data":1}"#,
            Ignored::Malformed,
        ),
        (
            br#"{"method":"emit","event":"e","namespace":"/","binary":true,"data":[[],"="]}"#,
            Ignored::Malformed,
        ),
        (
            br#"{"method":"disconnect","namespace":"/"}"#,
            Ignored::Malformed,
        ),
        (
            br#"{"method":"callback","host_id":"h","id":1,"args":[]}"#,
            Ignored::NotAsked,
        ),
    ] {
        let text = String::from_utf8_lossy(payload);
        assert_eq!(pair.ignored(payload), reason, "{text}");
    }
}

#[test]
fn a_message_over_the_limit_is_not_looked_at() {
    let mut config = PythonDialectConfig::default();
    config.limits.max_message_bytes = 100;
    config.limits.max_items = 2;
    let pair = pair(config);
    assert_eq!(pair.ignored(&[b'{'; 101]), Ignored::TooLarge);
    let rooms = br#"{"method":"emit","event":"e","namespace":"/","room":["a","b","c"]}"#;
    assert_eq!(pair.ignored(rooms), Ignored::TooLarge);
}

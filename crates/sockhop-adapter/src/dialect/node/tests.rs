use std::task::{Context, Poll, Waker};

use socketio_proto::{Parser, encode_event};

use super::*;
use crate::bus::{ChannelMessage, MemoryChannels, MemoryHub};
use crate::dialect::Ignored;
use crate::dialect::answers::{Answer, Missing};
use crate::dialect::testing::{counted, json, options};

struct Pair {
    dialect: NodeDialect,
    /// What another server hears of everything.
    other: MemoryChannels,
}

fn speaking() -> Pair {
    let hub = MemoryHub::default();
    let other = hub.channels();
    other.subscribe_pattern("*");
    let config = NodeDialectConfig::default();
    let dialect = NodeDialect::new(config, NodeId::new(1), Arc::new(hub.channels()));
    Pair { dialect, other }
}

impl Pair {
    fn heard(&self) -> Vec<(String, Bytes)> {
        let mut cx = Context::from_waker(Waker::noop());
        match self.other.poll_incoming(&mut cx) {
            Poll::Ready(messages) => messages
                .into_iter()
                .map(|message| (message.channel.to_string(), message.payload))
                .collect(),
            Poll::Pending => Vec::new(),
        }
    }

    /// The channel and the JSON of the only message.
    fn heard_json(&self) -> (String, Value) {
        let [(channel, payload)] = self.heard().try_into().unwrap();
        (channel, serde_json::from_slice(&payload).unwrap())
    }

    fn receive(&self, channel: &str, payload: &[u8]) -> Option<NodeRequest> {
        self.dialect.receive(&ChannelMessage {
            channel: channel.into(),
            payload: Bytes::copy_from_slice(payload),
        })
    }

    fn request(&self, payload: &str) -> NodeRequest {
        let request = self.receive("socket.io-request#/#", payload.as_bytes());
        request.unwrap_or_else(|| panic!("{payload}"))
    }

    fn ignored(&self, channel: &str, payload: &[u8]) -> Ignored {
        counted(self.dialect.stats(), || {
            let request = self.receive(channel, payload);
            assert!(request.is_none(), "{request:?}");
        })
    }
}

fn msgpack(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    msgpack::write_value(&mut out, &json(text));
    out
}

fn event(request: NodeRequest) -> ForeignEvent {
    match request {
        NodeRequest::Broadcast(event) => event,
        other => panic!("{other:?}"),
    }
}

fn next(question: &Question) -> Option<Answer> {
    match question.poll_next(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("no answer"),
    }
}

const UID: &str = "sockhop:0000000000000001";

#[test]
fn a_broadcast_is_written_as_the_adapter_writes_it() {
    let pair = speaking();
    let packet = encode_event(Parser::Msgpack, "/chat", None, "hi", &200_u64).unwrap();
    let mut options = options(&["red"], &["x"]);
    options.volatile = true;
    pair.dialect.broadcast("/chat", &options, &packet).unwrap();
    let [(channel, payload)] = pair.heard().try_into().unwrap();
    assert_eq!(channel, "socket.io#/chat#red#");
    let mut expected = vec![0x93, 0xb8];
    expected.extend_from_slice(UID.as_bytes());
    expected.extend_from_slice(b"\x83\xa4type\x02\xa3nsp\xa5/chat\xa4data\x92\xa2hi\xcc\xc8");
    expected.extend_from_slice(b"\x83\xa5rooms\x91\xa3red\xa6except\x91\xa1x");
    expected.extend_from_slice(b"\xa5flags\x81\xa8volatile\xc3");
    assert_eq!(payload, expected);
}

#[test]
fn only_a_single_room_has_a_channel_of_its_own() {
    let pair = speaking();
    let packet = encode_event(Parser::Msgpack, "/", None, "hi", &()).unwrap();
    for rooms in [&[][..], &["a", "b"]] {
        pair.dialect
            .broadcast("/", &options(rooms, &[]), &packet)
            .unwrap();
        assert_eq!(pair.heard()[0].0, "socket.io#/#");
    }
}

#[test]
fn a_broadcast_of_the_adapter_is_read() {
    let pair = speaking();
    let payload = b"\x93\xa6CBF0wF\x83\xa4type\x02\xa4data\x93\xa2ev\x01\xc4\x01\xff\
        \xa3nsp\xa1/\x83\xa5rooms\x91\xa3red\xa6except\x91\xa1x\xa5flags\x81\xa8compress\xc2";
    let event = event(pair.receive("socket.io#/#red#", payload).unwrap());
    assert_eq!((&*event.namespace, &*event.name), ("/", "ev"));
    let args = event.payload.args().unwrap().0;
    let binary = Value::Binary(Bytes::from_static(b"\xff"));
    assert_eq!(args, [1_u64.into(), binary]);
    let BroadcastOptions {
        rooms,
        except,
        local,
        compress,
        volatile,
        ..
    } = event.options;
    assert_eq!((rooms[0].as_str(), except[0].as_str()), ("red", "x"));
    assert!(local && !compress && !volatile);
}

#[test]
fn broadcasts_of_older_emitters_are_read() {
    let pair = speaking();
    // No exceptions, no namespace, a type of its own for binary data, `undefined` and a date as
    // notepack 2 writes them.
    let payload = b"\x93\xa7emitter\x82\xa4type\x05\xa4data\x93\xa2ev\xd4\x00\x00\
        \xd7\x00\x00\x00\x00\x00\x00\x00\x03\xe8\x81\xa5rooms\x90";
    let event = event(pair.receive("socket.io#/#", payload).unwrap());
    let args = event.payload.args().unwrap().0;
    assert_eq!(args, [Value::Null, "1970-01-01T00:00:01.000Z".into()]);
}

#[test]
fn requests_of_the_adapter_are_read() {
    let pair = speaking();
    let opts = r#""opts":{"rooms":["red"],"except":["x"]}"#;
    let head = r#""uid":"abcdef","requestId":"123456""#;
    let request = pair.request(&format!(r#"{{{head},"type":2,{opts},"rooms":["a","b"]}}"#));
    assert!(matches!(&request, NodeRequest::Join { options, rooms, .. }
        if options.rooms[0].as_str() == "red" && options.except[0].as_str() == "x"
            && rooms.len() == 2 && options.local));
    let request = pair.request(&format!(r#"{{"type":3,{opts},"rooms":["a"]}}"#));
    assert!(matches!(&request, NodeRequest::Leave { rooms, asker: None, .. } if rooms.len() == 1));
    let request = pair.request(&format!(r#"{{"type":4,{opts},"close":true}}"#));
    assert!(matches!(&request, NodeRequest::Disconnect { scope, .. }
        if *scope == DisconnectScope::Session));
    let request = pair.request(&format!(r#"{{{head},"type":0,"rooms":["red"]}}"#));
    assert!(matches!(&request, NodeRequest::SocketIds { options, .. }
        if options.rooms[0].as_str() == "red"));
    assert!(matches!(
        pair.request(&format!(r#"{{{head},"type":1}}"#)),
        NodeRequest::AllRooms { .. }
    ));
    assert!(matches!(
        pair.request(&format!(r#"{{{head},"type":5,{opts}}}"#)),
        NodeRequest::Sockets { .. }
    ));
    let request = pair.request(r#"{"uid":"emitter","type":6,"data":["ev",1]}"#);
    assert!(
        matches!(&request, NodeRequest::ServerSideEmit { event, args, asker: None, .. }
        if event == "ev" && args.0 == [1_u64.into()])
    );
    assert_eq!(request.namespace(), "/");
}

#[test]
fn a_broadcast_with_acks_is_read() {
    let pair = speaking();
    let payload = msgpack(
        r#"{"uid":"abcdef","requestId":"123456","type":7,"packet":{"type":2,"data":["ev","x"],
            "nsp":"/"},"opts":{"rooms":[],"except":[],"flags":{"timeout":1500}}}"#,
    );
    let request = pair.receive("socket.io-request#/#", &payload).unwrap();
    let NodeRequest::BroadcastWithAck {
        event,
        timeout,
        asker,
    } = request
    else {
        panic!("{request:?}");
    };
    assert_eq!(timeout, Some(Duration::from_millis(1500)));
    assert_eq!(event.payload.decode::<String>().unwrap(), "x");
    pair.dialect.answer_client_count(&asker, 2);
    let expected = json(r#"{"type":8,"requestId":"123456","clientCount":2}"#);
    assert_eq!(
        pair.heard_json(),
        ("socket.io-response#/#".to_owned(), expected)
    );
    pair.dialect.answer_ack(&asker, Some("ok".into()));
    let expected = msgpack(r#"{"type":9,"requestId":"123456","packet":"ok"}"#);
    assert_eq!(pair.heard()[0].1, expected);
}

#[test]
fn requests_about_single_sockets_of_older_adapters_are_read() {
    let pair = speaking();
    let request = pair.request(r#"{"requestId":"1","type":2,"sid":"s","room":"red"}"#);
    let NodeRequest::Join {
        options,
        rooms,
        asker: Some(asker),
        ..
    } = request
    else {
        panic!("{request:?}");
    };
    assert_eq!((options.rooms[0].as_str(), rooms[0].as_str()), ("s", "red"));
    pair.dialect.answer_done(&asker);
    assert_eq!(pair.heard_json().1, json(r#"{"requestId":"1"}"#));
}

#[test]
fn answers_go_to_the_channel_of_whoever_asked_if_so_configured() {
    let config = NodeDialectConfig {
        specific_responses: true,
        ..NodeDialectConfig::default()
    };
    let mut pair = speaking();
    let hub = MemoryHub::default();
    pair.other = hub.channels();
    pair.other.subscribe_pattern("*");
    pair.dialect = NodeDialect::new(config, NodeId::new(1), Arc::new(hub.channels()));
    let request = pair.request(r#"{"uid":"abcdef","requestId":"1","type":6,"data":["ev"]}"#);
    let NodeRequest::ServerSideEmit {
        asker: Some(asker), ..
    } = request
    else {
        panic!("{request:?}");
    };
    pair.dialect.answer_socket_ids(&asker, &["s".into()]);
    let expected = json(r#"{"requestId":"1","sockets":["s"]}"#);
    assert_eq!(
        pair.heard_json(),
        ("socket.io-response#/#abcdef#".to_owned(), expected)
    );
    let buffer = Value::Binary(Bytes::from_static(b"\x01"));
    pair.dialect.answer_emitted(&asker, buffer);
    let expected = json(r#"{"type":6,"requestId":"1","data":{"type":"Buffer","data":[1]}}"#);
    assert_eq!(
        pair.heard_json(),
        ("socket.io-response#/#".to_owned(), expected)
    );
}

#[test]
fn sockets_are_fetched_and_told() {
    let pair = speaking();
    let question = pair
        .dialect
        .fetch_sockets("/", &options(&["red"], &[]))
        .unwrap()
        .unwrap();
    question.expect(1);
    let (channel, body) = pair.heard_json();
    assert_eq!(channel, "socket.io-request#/#");
    let opts = r#"{"rooms":["red"],"except":[],"flags":{}}"#;
    let expected = format!(r#"{{"uid":"{UID}","requestId":"{UID}-0","type":5,"opts":{opts}}}"#);
    assert_eq!(body, json(&expected));
    let told = r#"{"id":"s","handshake":{"url":"/"},"rooms":["s","red"],"data":{"a":1}}"#;
    let answer = format!(r#"{{"requestId":"{UID}-0","sockets":[{told}]}}"#);
    assert!(
        pair.receive("socket.io-response#/#", answer.as_bytes())
            .is_none()
    );
    let Some(Answer::Sockets(sockets)) = next(&question) else {
        panic!("no sockets");
    };
    assert!(next(&question).is_none());
    let asker = Asker {
        channel: "c".into(),
        common_channel: "c".into(),
        request: "r".into(),
    };
    pair.dialect.answer_sockets(&asker, &sockets);
    let expected = format!(r#"{{"requestId":"r","sockets":[{told}]}}"#);
    assert_eq!(pair.heard_json().1, json(&expected));
}

#[test]
fn a_broadcast_with_acks_asks_the_other_servers() {
    let pair = speaking();
    let packet = encode_event(Parser::Msgpack, "/", None, "hi", &()).unwrap();
    let timeout = Duration::from_secs(2);
    let question = pair
        .dialect
        .broadcast_with_ack("/", &options(&[], &[]), &packet, timeout)
        .unwrap()
        .unwrap();
    question.expect(2);
    let [(_, body)] = pair.heard().try_into().unwrap();
    let body = msgpack::read_value(&body).unwrap();
    let expected = r#"{"rooms":[],"except":[],"flags":{"timeout":2000}}"#;
    assert_eq!(body.get("opts"), Some(&json(expected)));
    let expected = json(r#"{"type":2,"nsp":"/","data":["hi"]}"#);
    assert_eq!(body.get("packet"), Some(&expected));
    let say = |payload: &[u8]| pair.receive("socket.io-response#/#", payload);
    let id = format!(r#""requestId":"{UID}-0""#);
    say(format!(r#"{{"type":8,{id},"clientCount":0}}"#).as_bytes());
    say(format!(r#"{{"type":8,{id},"clientCount":1}}"#).as_bytes());
    let missing = Missing {
        servers: 0,
        clients: 1,
    };
    assert_eq!(question.missing(), missing);
    say(&msgpack(&format!(r#"{{"type":9,{id},"packet":"yes"}}"#)));
    assert!(matches!(next(&question), Some(Answer::Ack(ack)) if ack.0 == ["yes".into()]));
    assert!(next(&question).is_none());
}

#[test]
fn handlers_of_other_servers_answer_an_emit_between_servers() {
    let pair = speaking();
    let args = Args(vec![1_u64.into()]);
    let question = pair
        .dialect
        .server_side_emit_with_ack("/", "ev", &args)
        .unwrap()
        .unwrap();
    question.expect(1);
    assert_eq!(pair.heard_json().1.get("data"), Some(&json(r#"["ev",1]"#)));
    let answer = format!(r#"{{"type":6,"requestId":"{UID}-0","data":[2]}}"#);
    pair.receive("socket.io-response#/#", answer.as_bytes());
    assert!(matches!(next(&question), Some(Answer::Emitted(value)) if value == json("[2]")));
}

#[test]
fn a_namespace_that_could_be_taken_for_another_takes_no_part() {
    let pair = speaking();
    assert!(pair.dialect.all_rooms("/a#b").unwrap().is_none());
    let args = Args::default();
    pair.dialect.server_side_emit("/a#b", "ev", &args).unwrap();
    assert!(pair.heard().is_empty());
    assert_eq!(pair.dialect.stats().unsupported.get(), 1);
}

#[test]
fn a_member_subscribes_once_to_requests_and_is_told_apart_from_its_kind() {
    let hub = MemoryHub::default();
    let node_server = hub.channels();
    node_server.subscribe("socket.io-request#/chat#");
    let members = [1, 2].map(|number| {
        let channels = Arc::new(hub.channels());
        NodeDialect::new(NodeDialectConfig::default(), NodeId::new(number), channels)
    });
    for member in &members {
        member.enter("/chat");
    }
    let count = |member: &NodeDialect| {
        let mut count = member.count_others("/chat");
        match count.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(count) => count,
            Poll::Pending => panic!("memory knows at once"),
        }
    };
    assert_eq!(count(&members[0]), Some(1));
    members[1].exit("/chat");
    assert_eq!(count(&members[0]), Some(1));
    node_server.unsubscribe("socket.io-request#/chat#");
    assert_eq!(count(&members[0]), Some(0));
}

#[test]
fn every_message_that_is_not_acted_on_is_counted_under_its_reason() {
    let pair = speaking();
    let requests = "socket.io-request#/#";
    let broadcasts = "socket.io#/#";
    let own = format!(r#"{{"uid":"{UID}","type":3,"opts":{{}}}}"#);
    let other_namespace =
        b"\x93\xa1u\x83\xa4type\x02\xa4data\x91\xa2ev\xa3nsp\xa2/x\x81\xa5rooms\x90";
    let ack = b"\x93\xa1u\x84\xa4type\x03\xa2id\x01\xa4data\x90\xa3nsp\xa1/\x81\xa5rooms\x90";
    for (channel, payload, reason) in [
        (broadcasts, &b""[..], Ignored::Malformed),
        (
            broadcasts,
            b"\x93\xb8sockhop:0000000000000002\xc1",
            Ignored::Own,
        ),
        (broadcasts, b"\x92\xa1u\x80", Ignored::Malformed),
        (broadcasts, b"\x93\xa1u\x80\x80", Ignored::Malformed),
        (broadcasts, other_namespace, Ignored::UnknownNamespace),
        (broadcasts, ack, Ignored::Malformed),
        (requests, b"", Ignored::Malformed),
        (requests, b"{", Ignored::Malformed),
        (requests, b"\xc1", Ignored::Malformed),
        (requests, own.as_bytes(), Ignored::Own),
        (requests, br#"{"type":99}"#, Ignored::Unknown),
        (requests, br#"{"type":-1}"#, Ignored::Malformed),
        (requests, br#"{"type":5,"opts":{}}"#, Ignored::Malformed),
        (requests, br#"{"type":2,"rooms":["a"]}"#, Ignored::Malformed),
        (
            requests,
            br#"{"type":2,"opts":{"rooms":[{}]},"rooms":["a"]}"#,
            Ignored::Malformed,
        ),
        (requests, br#"{"type":6,"data":[]}"#, Ignored::Malformed),
        (
            requests,
            br#"{"type":7,"requestId":"1","packet":1,"opts":{}}"#,
            Ignored::Malformed,
        ),
        ("socket.io-response#/#", b"{}", Ignored::NotAsked),
        ("elsewhere", b"{}", Ignored::Unknown),
    ] {
        let text = String::from_utf8_lossy(payload);
        assert_eq!(pair.ignored(channel, payload), reason, "{channel} {text}");
    }
    let _question = pair.dialect.all_rooms("/").unwrap();
    for (payload, reason) in [
        (&b"{}"[..], Ignored::Malformed),
        (br#"{"requestId":"x","rooms":[]}"#, Ignored::NotAsked),
        (
            br#"{"requestId":"sockhop:0000000000000001-7","rooms":[]}"#,
            Ignored::NotAsked,
        ),
        (
            br#"{"requestId":"sockhop:0000000000000001-0","type":1}"#,
            Ignored::Unknown,
        ),
        (
            br#"{"requestId":"sockhop:0000000000000001-0"}"#,
            Ignored::Malformed,
        ),
    ] {
        let text = String::from_utf8_lossy(payload);
        assert_eq!(
            pair.ignored("socket.io-response#/#", payload),
            reason,
            "{text}"
        );
    }
}

#[test]
fn a_message_over_the_limit_is_not_looked_at() {
    let mut config = NodeDialectConfig::default();
    config.limits.max_message_bytes = 100;
    config.limits.max_items = 2;
    let mut pair = speaking();
    pair.dialect = NodeDialect::new(config, NodeId::new(1), pair.dialect.channels);
    let requests = "socket.io-request#/#";
    assert_eq!(pair.ignored(requests, &[b'{'; 101]), Ignored::TooLarge);
    let rooms = br#"{"type":0,"requestId":"1","rooms":["a","b","c"]}"#;
    assert_eq!(pair.ignored(requests, rooms), Ignored::TooLarge);
}

//! Whatever comes over the channels of a dialect: it is acted on or counted, and nothing panics.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use socketio_proto::{Args, Parser, Value, encode_event, msgpack};
use sockhop_adapter::bus::{ChannelMessage, MemoryHub};
use sockhop_adapter::dialect::node::{NodeDialect, NodeDialectConfig, NodeRequest};
use sockhop_adapter::dialect::python::{PythonDialect, PythonDialectConfig, PythonRequest};
use sockhop_adapter::dialect::{DialectStats, Ignored};
use sockhop_adapter::{BroadcastOptions, Channels, NodeId};

const CHANNELS: [&str; 6] = [
    "socket.io#/#",
    "socket.io#/#red#",
    "socket.io-request#/#",
    "socket.io-response#/#",
    "socket.io-response#/#sockhop:0000000000000001#",
    "socket.io",
];

/// Messages of the real servers, to be damaged.
const SAMPLES: [&[u8]; 8] = [
    b"\x93\xa6CBF0wF\x83\xa4type\x02\xa4data\x93\xa2ev\x01\xc4\x01\xff\xa3nsp\xa1/\
      \x83\xa5rooms\x91\xa3red\xa6except\x91\xa1x\xa5flags\x81\xa8compress\xc2",
    b"\x93\xa7emitter\x82\xa4type\x05\xa4data\x93\xa2ev\xd4\x00\x00\xd7\x00\x00\x00\x00\x00\x00\
      \x00\x03\xe8\x81\xa5rooms\x90",
    br#"{"uid":"a","requestId":"b","type":2,"opts":{"rooms":["x"],"except":[]},"rooms":["y"]}"#,
    br#"{"uid":"a","requestId":"b","type":6,"data":["ev",{"c":[1.5,null]}]}"#,
    br#"{"requestId":"sockhop:0000000000000001-0","sockets":[{"id":"s","rooms":["s"]}]}"#,
    br#"{"method":"emit","event":"e","data":[1,"x"],"binary":false,"namespace":"/","room":["a"]}"#,
    br#"{"method":"emit","event":"e","data":[[{"_placeholder":true,"num":0}],"AA=="],
         "binary":true,"namespace":"/"}"#,
    br#"{"method":"enter_room","sid":"x","room":"y","namespace":"/","host_id":"h"}"#,
];

fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (
        prop::sample::select(&SAMPLES),
        changes,
        any::<prop::sample::Index>(),
    )
        .prop_map(|(sample, changes, end)| {
            let mut bytes = sample.to_vec();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.truncate(end.index(bytes.len() * 2));
            bytes
        })
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![damaged(), prop::collection::vec(any::<u8>(), 0..200)]
}

fn ignored(stats: &DialectStats) -> u64 {
    let counts = Ignored::ALL.map(|reason| stats.ignored(reason).get());
    counts.iter().sum()
}

fn message(channel: &str, payload: &[u8]) -> ChannelMessage {
    ChannelMessage {
        channel: channel.into(),
        payload: Bytes::copy_from_slice(payload),
    }
}

fn node(number: u64, channels: Arc<dyn Channels>) -> NodeDialect {
    NodeDialect::new(NodeDialectConfig::default(), NodeId::new(number), channels)
}

fn python(number: u64, channels: Arc<dyn Channels>) -> PythonDialect {
    PythonDialect::new(
        PythonDialectConfig::default(),
        NodeId::new(number),
        channels,
    )
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
        prop::collection::vec(any::<u8>(), 0..8).prop_map(|data| Value::Binary(data.into())),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map("[a-z]{1,4}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// What `dialect` published, taken as if another kind of server had.
fn disguise(payload: &Bytes) -> Vec<u8> {
    let at = payload.windows(8).position(|part| part == b"sockhop:");
    let mut bytes = payload.to_vec();
    bytes[at.expect("every message names its node")] = b'x';
    bytes
}

proptest! {
    #[test]
    fn the_node_dialect_acts_on_every_message_or_counts_it(
        channel in prop::sample::select(&CHANNELS),
        payload in payload(),
        asks: bool,
    ) {
        let dialect = node(1, Arc::new(MemoryHub::default().channels()));
        let question = asks.then(|| dialect.all_rooms("/").unwrap().unwrap());
        question.iter().for_each(|question| question.expect(1));
        let missing = || question.as_ref().map(|question| (question.missing(), question.asked()));
        let before = missing();
        let request = dialect.receive(&message(channel, &payload));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let has_answer = question.as_ref().is_some_and(|question| question.poll_next(&mut cx).is_ready());
        let answered = has_answer || before != missing();
        let counted = ignored(dialect.stats());
        prop_assert_eq!(u64::from(request.is_some() || answered) + counted, 1);
        prop_assert_eq!(dialect.stats().received.get(), 1);
    }

    #[test]
    fn the_python_dialect_acts_on_every_message_or_counts_it(payload in payload()) {
        let dialect = python(1, Arc::new(MemoryHub::default().channels()));
        let request = dialect.receive(&message("socketio", &payload));
        prop_assert_eq!(u64::from(request.is_some()) + ignored(dialect.stats()), 1);
    }

    #[test]
    fn an_event_arrives_in_either_dialect_as_it_was_sent(
        name in "[a-z]{1,8}",
        args in prop::collection::vec(value(), 0..4),
        namespace in prop::sample::select(&["/", "/chat", "/a[b"]),
    ) {
        prop_assume!(!socketio_proto::is_reserved_event(&name));
        let hub = MemoryHub::default();
        let heard = hub.channels();
        heard.subscribe_pattern("*");
        let options = BroadcastOptions::default();
        let payload = Args(args);

        let sender = node(1, Arc::new(hub.channels()));
        let packet = encode_event(Parser::Msgpack, namespace, None, &name, &payload).unwrap();
        sender.broadcast(namespace, &options, &packet).unwrap();
        let [published] = heard_one(&heard);
        let bytes = disguise(&published.payload);
        let receiver = node(2, Arc::new(hub.channels()));
        let Some(NodeRequest::Broadcast(event)) = receiver.receive(&message(&published.channel, &bytes))
        else {
            return Err(TestCaseError::fail("not read"));
        };
        prop_assert_eq!(&event.payload.args().unwrap(), &payload);

        let sender = python(1, Arc::new(hub.channels()));
        let packet = encode_event(Parser::Json, namespace, None, &name, &payload).unwrap();
        sender.broadcast(namespace, &options, &packet).unwrap();
        let [published] = heard_one(&heard);
        let bytes = disguise(&published.payload);
        let receiver = python(2, Arc::new(hub.channels()));
        let Some(PythonRequest::Emit { event, .. }) = receiver.receive(&message("socketio", &bytes))
        else {
            return Err(TestCaseError::fail("not read"));
        };
        // Python takes a single null for no argument at all.
        let expected = if payload.0 == [Value::Null] { Args::default() } else { payload };
        prop_assert_eq!(event.payload.args().unwrap(), expected);
        prop_assert_eq!(&*event.name, name.as_str());
        prop_assert_eq!(&*event.namespace, namespace);
    }

    #[test]
    fn values_survive_messagepack(value in value()) {
        let mut out = Vec::new();
        msgpack::write_value(&mut out, &value);
        prop_assert_eq!(msgpack::read_value(&out.into()).unwrap(), value);
    }
}

fn heard_one(heard: &impl Channels) -> [ChannelMessage; 1] {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match heard.poll_incoming(&mut cx) {
        std::task::Poll::Ready(messages) => messages.try_into().expect("one message"),
        std::task::Poll::Pending => panic!("nothing was published"),
    }
}

//! What holds for every byte string that a server may send, however it arrives in pieces.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use sockhop_redis::resp::{
    Kind, Limits, Push, Step, Value, parse_push, parse_value, put_bulk, put_header,
};

/// A message or a confirmation, as a server would send it, and what it must be read as.
#[derive(Clone, Debug)]
enum Sent {
    Message(Vec<u8>, Vec<u8>),
    PatternMessage(Vec<u8>, Vec<u8>),
    Changed(Kind, bool, Vec<u8>, i64),
    Error(String),
}

fn encode(sent: &Sent, out: &mut BytesMut) {
    match sent {
        Sent::Message(channel, payload) => bulks(out, &[b"message", channel, payload]),
        Sent::PatternMessage(channel, payload) => {
            bulks(out, &[b"pmessage", b"*", channel, payload]);
        }
        Sent::Changed(kind, subscribed, channel, count) => {
            let verb: &[u8] = match (kind, subscribed) {
                (Kind::Channel, true) => b"subscribe",
                (Kind::Channel, false) => b"unsubscribe",
                (Kind::Pattern, true) => b"psubscribe",
                (Kind::Pattern, false) => b"punsubscribe",
                (Kind::Shard, true) => b"ssubscribe",
                (Kind::Shard, false) => b"sunsubscribe",
            };
            put_header(out, b'*', 3);
            put_bulk(out, verb);
            put_bulk(out, channel);
            out.extend_from_slice(format!(":{count}\r\n").as_bytes());
        }
        Sent::Error(line) => out.extend_from_slice(format!("-{line}\r\n").as_bytes()),
    }
}

fn bulks(out: &mut BytesMut, parts: &[&[u8]]) {
    put_header(out, b'*', parts.len());
    for part in parts {
        put_bulk(out, part);
    }
}

fn decode(push: Push, bytes: &[u8]) -> Sent {
    match push {
        Push::Message { channel, payload } => {
            Sent::Message(bytes[channel].to_vec(), bytes[payload].to_vec())
        }
        Push::PatternMessage { channel, payload } => {
            Sent::PatternMessage(bytes[channel].to_vec(), bytes[payload].to_vec())
        }
        Push::Changed {
            kind,
            subscribed,
            channel,
        } => Sent::Changed(kind, subscribed, bytes[channel].to_vec(), 0),
        Push::Error(line) => Sent::Error(String::from_utf8(bytes[line].to_vec()).unwrap()),
        Push::Other => panic!("nothing of that kind was sent"),
    }
}

fn sent() -> impl Strategy<Value = Sent> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..300);
    let kind = prop_oneof![Just(Kind::Channel), Just(Kind::Pattern), Just(Kind::Shard)];
    prop_oneof![
        4 => (bytes(), bytes()).prop_map(|(a, b)| Sent::Message(a, b)),
        1 => (bytes(), bytes()).prop_map(|(a, b)| Sent::PatternMessage(a, b)),
        1 => (kind, any::<bool>(), bytes(), 0..i64::MAX)
            .prop_map(|(kind, subscribed, channel, count)| {
                Sent::Changed(kind, subscribed, channel, count)
            }),
        1 => "[A-Z]{1,9} [a-z ]{0,40}".prop_map(Sent::Error),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        "[A-Za-z ]{0,20}".prop_map(Value::Status),
        "[A-Za-z ]{0,20}".prop_map(Value::Error),
        (i64::MIN + 1..=i64::MAX).prop_map(Value::Int),
        prop::collection::vec(any::<u8>(), 0..100).prop_map(|b| Value::Bulk(Bytes::from(b))),
        Just(Value::Nil),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        prop::collection::vec(inner, 0..6).prop_map(Value::Array)
    })
}

fn encode_value(value: &Value, out: &mut BytesMut) {
    match value {
        Value::Status(text) => out.extend_from_slice(format!("+{text}\r\n").as_bytes()),
        Value::Error(text) => out.extend_from_slice(format!("-{text}\r\n").as_bytes()),
        Value::Int(number) => out.extend_from_slice(format!(":{number}\r\n").as_bytes()),
        Value::Bulk(bytes) => put_bulk(out, bytes),
        Value::Nil => out.extend_from_slice(b"$-1\r\n"),
        Value::Array(values) => {
            put_header(out, b'*', values.len());
            for value in values {
                encode_value(value, out);
            }
        }
    }
}

/// A protocol that is nearly right finds more than one that is all noise.
fn nearly_right() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        Just(b"*3\r\n".to_vec()),
        Just(b"*4\r\n".to_vec()),
        Just(b"*-1\r\n".to_vec()),
        Just(b"$7\r\nmessage\r\n".to_vec()),
        Just(b"$8\r\npmessage\r\n".to_vec()),
        Just(b"$9\r\nsubscribe\r\n".to_vec()),
        Just(b"$-1\r\n".to_vec()),
        Just(b"$0\r\n\r\n".to_vec()),
        Just(b":1\r\n".to_vec()),
        any::<i64>().prop_map(|number| format!("${number}\r\n").into_bytes()),
        any::<i64>().prop_map(|number| format!("*{number}\r\n").into_bytes()),
        Just(b"\r".to_vec()),
        Just(b"\n".to_vec()),
        prop::collection::vec(any::<u8>(), 0..20),
    ];
    prop::collection::vec(part, 0..20).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn pushes_are_read_as_sent_wherever_the_reads_are_cut(
        all in prop::collection::vec(sent(), 1..20),
        cuts in prop::collection::vec(1_usize..200, 1..100),
    ) {
        let mut wire = BytesMut::new();
        for sent in &all {
            encode(sent, &mut wire);
        }
        let mut read = Vec::new();
        let (mut have, mut at) = (0, 0);
        let mut cuts = cuts.iter().cycle();
        while have < wire.len() {
            have = wire.len().min(have + cuts.next().unwrap());
            loop {
                match parse_push(&wire[..have], at, &Limits::default()).unwrap() {
                    Step::Done(push, end) => {
                        read.push(decode(push, &wire));
                        prop_assert!(end > at && end <= have);
                        at = end;
                    }
                    Step::NeedMore(needed) => {
                        // Never more than there will be, or a reader would wait for ever.
                        prop_assert!(needed > have && (needed <= wire.len() || at == wire.len()));
                        break;
                    }
                }
            }
        }
        let sent: Vec<_> = all
            .into_iter()
            .map(|sent| match sent {
                Sent::Changed(kind, subscribed, channel, _) => {
                    Sent::Changed(kind, subscribed, channel, 0)
                }
                sent => sent,
            })
            .collect();
        prop_assert_eq!(format!("{read:?}"), format!("{sent:?}"));
    }

    #[test]
    fn values_are_read_as_sent_and_not_before_they_are_whole(value in value()) {
        let mut wire = BytesMut::new();
        encode_value(&value, &mut wire);
        for have in 0..wire.len() {
            match parse_value(&wire[..have], 0, &Limits::default()).unwrap() {
                Step::NeedMore(needed) => prop_assert!(needed > have && needed <= wire.len()),
                Step::Done(..) => prop_assert!(false, "whole after {} of {}", have, wire.len()),
            }
        }
        let step = parse_value(&wire, 0, &Limits::default()).unwrap();
        prop_assert_eq!(step, Step::Done(value, wire.len()));
    }

    #[test]
    fn no_bytes_cause_a_panic_and_everything_stays_within_the_buffer(
        bytes in prop_oneof![nearly_right(), prop::collection::vec(any::<u8>(), 0..200)],
        at in 0_usize..300,
    ) {
        let limits = Limits { max_reply_bytes: 1_000, ..Limits::default() };
        if let Ok(Step::Done(push, end)) = parse_push(&bytes, at, &limits) {
            prop_assert!(end <= bytes.len());
            let ranges = match push {
                Push::Message { channel, payload } | Push::PatternMessage { channel, payload } => {
                    vec![channel, payload]
                }
                Push::Changed { channel, .. } => vec![channel],
                Push::Error(line) => vec![line],
                Push::Other => vec![],
            };
            prop_assert!(ranges.iter().all(|range| range.start <= range.end && range.end <= end));
        }
        if let Ok(Step::NeedMore(needed)) = parse_push(&bytes, at, &limits) {
            prop_assert!(needed > bytes.len().min(at));
        }
        let _ = parse_value(&bytes, at, &limits);
    }
}

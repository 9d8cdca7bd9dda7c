//! The decoders of bodies against a second, naive implementation.

#[path = "common/naive.rs"]
mod naive;

use bytes::Bytes;
use engineio_proto::payload;
use engineio_proto::{BodyKind, IncomingPacket, Message, ProtocolVersion};
use naive::Naive;
use proptest::prelude::*;

/// Bytes, most of which mean something to one of the decoders.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(b"0123456789:b4\x1e\x00\x01\x04\xffAQ=".to_vec())
            .prop_map(|byte| vec![byte]),
        1 => any::<char>().prop_map(|char| char.to_string().into_bytes()),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// How many packets there are before the first fault, what the messages among them say, and
/// whether there was a fault.
fn outline(version: ProtocolVersion, kind: BodyKind, body: &[u8]) -> (usize, Vec<Vec<u8>>, bool) {
    let items: Vec<_> =
        payload::decode(version, kind, Bytes::copy_from_slice(body), usize::MAX).collect();
    let packets: Vec<_> = items.iter().flatten().collect();
    let messages = packets.iter().filter_map(|packet| match packet {
        IncomingPacket::Message(Message::Text(text)) => Some(text.as_bytes().to_vec()),
        IncomingPacket::Message(Message::Binary(data)) => Some(data.to_vec()),
        _ => None,
    });
    let faulty = items.iter().any(Result::is_err);
    (packets.len(), messages.collect(), faulty)
}

fn naive_outline((packets, faulty): naive::Decoded) -> (usize, Vec<Vec<u8>>, bool) {
    let messages = packets.iter().filter_map(|packet| match packet {
        Naive::Text('4', text) => Some(text.clone().into_bytes()),
        Naive::Binary(data) => Some(data.clone()),
        Naive::Text(..) => None,
    });
    (packets.len(), messages.collect(), faulty)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn both_implementations_read_the_same(body in body()) {
        let (v3, v4) = (ProtocolVersion::V3, ProtocolVersion::V4);
        prop_assert_eq!(
            outline(v4, BodyKind::Text, &body),
            naive_outline(naive::decode_v4(&body))
        );
        prop_assert_eq!(
            outline(v3, BodyKind::Text, &body),
            naive_outline(naive::decode_v3_text(&body))
        );
        prop_assert_eq!(
            outline(v3, BodyKind::Binary, &body),
            naive_outline(naive::decode_v3_binary(&body))
        );
    }
}

use engineio_proto::{Encoded, Message, MessageWriter};
use proptest::prelude::*;
use socketio_proto::Parser;

use super::broadcast::{FLAG_MSGPACK, encoded_len};
use super::codec::MAX_ITEMS;
use super::*;
use crate::bus::BusError;
use crate::cluster::member::ForwardToken;
use crate::cluster::membership::Announcement;
use crate::cluster::message::Remote;
use crate::options::BroadcastOptions;
use crate::recipient::Room;

fn options() -> BroadcastOptions {
    BroadcastOptions {
        rooms: ["red", "blue"].map(Room::from).into_iter().collect(),
        except: [Room::from("grün")].into_iter().collect(),
        volatile: true,
        compress: false,
        ..BroadcastOptions::default()
    }
}

fn packet() -> Encoded {
    let mut writer = MessageWriter::with_capacity(0);
    writer.buffer().extend_from_slice(b"52-/chat,[\"e\"]");
    writer.finish(vec![Bytes::from_static(b"first"), Bytes::new()])
}

fn broadcast(options: &BroadcastOptions) -> Broadcast<'_> {
    Broadcast {
        node: NodeId::new(7),
        sequence: 5,
        namespace: "/chat",
        options,
        parser: Parser::Json,
        acks: None,
    }
}

fn frame() -> Bytes {
    encode_broadcast(&broadcast(&options()), &packet()).unwrap()
}

fn decode(frame: &Bytes) -> Result<BusMessage, WireError> {
    BusMessage::decode(frame)
}

#[test]
fn a_broadcast_comes_out_as_it_went_in() {
    let message = decode(&frame()).unwrap();
    assert_eq!((message.node, message.sequence), (NodeId::new(7), 5));
    assert_eq!(message.namespace(), "/chat");
    assert_eq!(message.options.rooms, options().rooms);
    assert_eq!(message.options.except, options().except);
    assert!(message.options.volatile && !message.options.compress);
    assert_eq!(
        message.packet,
        Remote {
            parser: Parser::Json,
            head: Message::Text("52-/chat,[\"e\"]".into()),
            attachments: vec![Bytes::from_static(b"first"), Bytes::new()],
        }
    );
    let again = message.packet.to_encoded();
    let data = |packet: &Encoded| -> Vec<Vec<u8>> {
        packet.frames().map(|frame| frame.data().to_vec()).collect()
    };
    assert_eq!(data(&again), data(&packet()));
}

#[test]
fn the_bytes_of_version_2_stay_as_they_are() {
    let options = BroadcastOptions {
        rooms: [Room::from("r")].into_iter().collect(),
        ..BroadcastOptions::default()
    };
    let packet = Encoded::binary(&b"\x80"[..]);
    let broadcast = Broadcast {
        node: NodeId::new(1),
        sequence: 3,
        namespace: "/",
        options: &options,
        parser: Parser::Msgpack,
        acks: None,
    };
    let frame = encode_broadcast(&broadcast, &packet).unwrap();
    assert_eq!(
        frame,
        &b"\x02\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x03\x04\0\0\0\x01/\0\0\0\x01\0\0\0\x01r\0\0\0\0\0\0\0\x01\x80\0\0\0\0"[..]
    );
    assert_eq!(frame.len(), encoded_len(&broadcast, &packet));
}

#[test]
fn every_cut_frame_is_refused() {
    let frame = frame();
    for len in 0..frame.len() {
        assert_eq!(
            decode(&frame.slice(..len)).unwrap_err(),
            WireError::Truncated,
            "the first {len} bytes"
        );
    }
}

#[test]
fn what_this_version_does_not_know_is_refused() {
    let change = |position: usize, byte| {
        let mut bytes = frame().to_vec();
        bytes[position] = byte;
        decode(&bytes.into()).unwrap_err()
    };
    assert_eq!(change(0, 1), WireError::UnknownVersion(1));
    assert_eq!(change(1, 9), WireError::UnknownKind(9));
    assert_eq!(change(18, 0x81), WireError::UnknownFlags(0x80));
    assert_eq!(change(23, 0xff), WireError::InvalidText);
    assert_eq!(change(18, FLAG_MSGPACK), WireError::UnexpectedAttachments);
    let longer = [&frame()[..], b"x"].concat();
    assert_eq!(
        decode(&longer.into()).unwrap_err(),
        WireError::TrailingBytes(1)
    );
}

#[test]
fn lists_are_limited_on_both_sides() {
    let mut bytes = frame().slice(..28).to_vec();
    bytes.extend_from_slice(&[0xff; 4]);
    let refusal = WireError::ListTooLong(u32::MAX as usize);
    assert_eq!(decode(&bytes.into()).unwrap_err(), refusal);

    let options = BroadcastOptions {
        rooms: std::iter::repeat_n(Room::from(""), MAX_ITEMS + 1).collect(),
        ..BroadcastOptions::default()
    };
    assert_eq!(
        encode_broadcast(&broadcast(&options), &packet()),
        Err(BusError::ListTooLong {
            items: MAX_ITEMS + 1,
            limit: MAX_ITEMS,
        })
    );
}

proptest! {
    #[test]
    fn no_bytes_cause_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes.into());
    }

    #[test]
    fn no_damaged_frame_causes_a_panic(position in 0..80_usize, byte in any::<u8>()) {
        let mut bytes = frame().to_vec();
        if let Some(place) = bytes.get_mut(position) {
            *place = byte;
        }
        if let Ok(message) = decode(&bytes.into()) {
            let _ = message.packet.to_encoded();
            let _ = message.packet.transcode(Parser::Msgpack);
        }
    }
}

fn member() -> Member {
    Member {
        node: NodeId::new(9),
        started_ms: 1_700_000_000_000,
        version: "0.1.0".to_owned(),
        dialects: vec!["node".to_owned(), "python".to_owned()],
        address: Some("[::1]:7000".parse().unwrap()),
        token: ForwardToken::new([3; 32]),
    }
}

#[test]
fn an_announcement_comes_out_as_it_went_in() {
    for (announcement, hello) in [(Announcement::Hello, true), (Announcement::Alive, false)] {
        for address in [member().address, None] {
            let member = Member {
                address,
                ..member()
            };
            let frame = encode_announcement(&member, announcement).unwrap();
            match super::decode(&frame).unwrap() {
                (node, Frame::Announcement(read, wants)) => {
                    assert_eq!((node, &read, wants), (member.node, &member, hello));
                }
                other => panic!("{other:?}"),
            }
        }
    }
    let frame = encode_announcement(&member(), Announcement::Goodbye).unwrap();
    let (node, content) = super::decode(&frame).unwrap();
    assert_eq!(node, NodeId::new(9));
    assert!(matches!(content, Frame::Goodbye));
    assert_eq!(decode(&frame).unwrap_err(), WireError::NotABroadcast);
}

#[test]
fn every_cut_announcement_is_refused() {
    let frame = encode_announcement(&member(), Announcement::Hello).unwrap();
    for len in 0..frame.len() {
        assert!(super::decode(&frame.slice(..len)).is_err(), "{len} bytes");
    }
}

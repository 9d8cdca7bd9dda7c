use std::sync::Arc;

use proptest::prelude::*;
use socketio_proto::{Args, Payload, Value};

use super::super::decode;
use super::*;
use crate::foreign::SocketSnapshot;
use crate::recipient::RemoteSocketInfo;

const NODE: NodeId = NodeId::new(7);

fn options() -> BroadcastOptions {
    BroadcastOptions {
        rooms: ["red", "blue"].map(Room::from).into_iter().collect(),
        except: [Room::from("grün")].into_iter().collect(),
        local: true,
        ..BroadcastOptions::default()
    }
}

fn values() -> Vec<Value> {
    vec![
        Value::Binary(Bytes::from_static(b"picture")),
        Value::Null,
        Value::Array(vec!["ü".into(), 7_u64.into(), true.into()]),
        Value::Object(vec![("key".to_owned(), Value::Binary(Bytes::new()))]),
    ]
}

fn payload() -> Payload {
    Payload::from_args(Args(values()))
}

fn requests() -> Vec<Request> {
    let rooms = vec![Room::from("x"), Room::from("")];
    vec![
        Request::Sockets {
            namespace: "/chat".into(),
            options: options(),
        },
        Request::Join {
            namespace: "/".into(),
            whom: Whom::Sockets(options()),
            rooms: rooms.clone(),
        },
        Request::Leave {
            namespace: "/".into(),
            whom: Whom::Socket("id".into()),
            rooms,
        },
        Request::Disconnect {
            namespace: "/".into(),
            options: options(),
            scope: DisconnectScope::Session,
        },
        Request::Rooms {
            namespace: "/chat".into(),
        },
        Request::Event {
            namespace: "/".into(),
            event: "hello".into(),
            payload: Packet::of(&payload()).unwrap(),
            wants_answer: true,
        },
    ]
}

fn answers() -> Vec<Answer> {
    let socket = RemoteSocketInfo {
        id: "id".into(),
        rooms: vec!["id".into(), "red".into()],
        info: Arc::new(SocketSnapshot {
            id: "id".into(),
            handshake: Value::Object(vec![("url".to_owned(), "/".into())]),
            data: Value::Array(values()),
        }),
    };
    vec![
        Answer::Nothing,
        Answer::Count(u64::MAX),
        Answer::Sockets(vec![socket.clone(), socket]),
        Answer::Rooms(vec![Room::from("red"), Room::from("")]),
        Answer::Acks {
            expected: 3,
            answers: vec![("a".into(), payload()), ("b".into(), Payload::default())],
        },
        Answer::Event(payload()),
    ]
}

/// What can be compared of a question, however its packets are held.
fn shown(request: &Request) -> String {
    match request {
        Request::Event {
            namespace,
            event,
            payload,
            wants_answer,
        } => {
            let args = payload.payload().unwrap().args().unwrap();
            format!("{namespace:?} {event:?} {args:?} {wants_answer}")
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn a_question_comes_out_as_it_went_in() {
    for request in requests() {
        let frame = encode_request(NODE, 5, &request).unwrap();
        match decode(&frame).unwrap() {
            (
                NODE,
                Frame::Request {
                    number,
                    request: read,
                },
            ) => {
                assert_eq!((number, shown(&read)), (5, shown(&request)));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_answer_comes_out_as_it_went_in() {
    for answer in answers() {
        for last in [true, false] {
            let frame = encode_answer(NODE, 6, 5, last, &answer).unwrap();
            let (_, content) = decode(&frame).unwrap();
            let Frame::Answer {
                number,
                request,
                last: was_last,
                answer: read,
            } = content
            else {
                panic!("{content:?}");
            };
            assert_eq!((number, request, was_last), (6, 5, last));
            assert_eq!(format!("{read:?}"), format!("{answer:?}"));
        }
    }
}

#[test]
fn every_cut_question_or_answer_is_refused() {
    let questions = requests().into_iter();
    let questions = questions.map(|request| encode_request(NODE, 5, &request).unwrap());
    let answers = answers().into_iter();
    let answers = answers.map(|answer| encode_answer(NODE, 6, 5, true, &answer).unwrap());
    for frame in questions.chain(answers) {
        for len in 0..frame.len() {
            assert!(decode(&frame.slice(..len)).is_err(), "{len} of {frame:?}");
        }
        let longer = [&frame[..], b"x"].concat();
        let refusal = decode(&longer.into()).unwrap_err();
        assert_eq!(refusal, WireError::TrailingBytes(1));
    }
}

proptest! {
    #[test]
    fn no_bytes_of_any_kind_cause_a_panic(
        kind in 0..8_u8,
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let frame = [&[2, kind][..], &bytes].concat();
        let _ = decode(&frame.into());
    }

    #[test]
    fn no_damaged_question_or_answer_causes_a_panic(
        which in 0..12_usize,
        position in 0..300_usize,
        byte in any::<u8>(),
    ) {
        let frame = match which {
            0..6 => encode_request(NODE, 5, &requests()[which]),
            _ => encode_answer(NODE, 6, 5, true, &answers()[which - 6]),
        };
        let mut bytes = frame.unwrap().to_vec();
        if let Some(place) = bytes.get_mut(position) {
            *place = byte;
        }
        if let Ok((_, Frame::Request { request, .. })) = decode(&bytes.into())
            && let Request::Event { payload, .. } = request
        {
            let _ = payload.payload();
        }
    }

    #[test]
    fn any_broadcast_comes_out_as_it_went_in(
        sequence in any::<u64>(),
        names in proptest::collection::vec(".{0,20}", 0..6),
        volatile in any::<bool>(),
        compress in any::<bool>(),
        text in "[a-zäß\"\\[\\]{}0-9]{0,300}",
    ) {
        let options = BroadcastOptions {
            rooms: names.iter().map(|name| Room::from(name.as_str())).collect(),
            except: names.iter().rev().map(|name| Room::from(name.as_str())).collect(),
            volatile,
            compress,
            ..BroadcastOptions::default()
        };
        let broadcast = super::super::Broadcast {
            node: NODE,
            sequence,
            namespace: "/chat",
            options: &options,
            parser: Parser::Json,
            acks: None,
        };
        let packet = engineio_proto::Encoded::text(&text);
        let frame = super::super::encode_broadcast(&broadcast, &packet).unwrap();
        let Ok((NODE, Frame::Broadcast(read))) = decode(&frame) else {
            panic!("{frame:?}");
        };
        prop_assert_eq!(read.sequence, sequence);
        prop_assert_eq!(&read.options.rooms, &options.rooms);
        prop_assert_eq!(&read.options.except, &options.except);
        prop_assert_eq!((read.options.volatile, read.options.compress), (volatile, compress));
        let again = read.packet.to_encoded();
        prop_assert_eq!(again.frame(0).unwrap().data(), packet.frame(0).unwrap().data());
    }
}

use std::sync::Arc;
use std::thread;

use engineio_proto::Encoded;
use socketio_proto::Value;

use super::*;
use crate::options::BroadcastOptions;
use crate::recipient::Directive;

#[derive(Debug)]
struct Info(SocketId);

impl SocketInfo for Info {
    fn id(&self) -> &SocketId {
        &self.0
    }

    fn handshake(&self) -> Value {
        Value::Null
    }

    fn data(&self) -> Value {
        Value::Null
    }
}

fn rooms(limits: RoomLimits) -> Rooms<Directive> {
    Rooms::new(limits, Arc::default())
}

fn connect(rooms: &Rooms<Directive>, id: &str) -> SocketKey {
    let key = SocketKey::next();
    rooms.connect(Recipient {
        key,
        parser: Parser::Json,
        outbox: Outbox::new(1000),
        info: Arc::new(Info(id.into())),
    });
    key
}

fn is_empty<T>(shards: &Shards<T>, len: impl Fn(&T) -> usize) -> bool {
    let mut total = 0;
    shards.each(|part| total += len(part));
    total == 0
}

#[test]
fn limits_refuse_and_count() {
    let rooms = rooms(RoomLimits {
        max_rooms_per_socket: 2,
        max_name_bytes: 4,
    });
    let key = connect(&rooms, "socket-0");
    assert_eq!(rooms.join(key, &"a".into()), Ok(true));
    assert_eq!(rooms.join(key, &"b".into()), Ok(true));
    assert_eq!(rooms.join(key, &"b".into()), Ok(false));
    let too_many = RoomsError::TooManyRooms { limit: 2 };
    assert_eq!(rooms.join(key, &"c".into()), Err(too_many));
    let too_long = RoomsError::NameTooLong { limit: 4 };
    assert_eq!(rooms.join(key, &"abcde".into()), Err(too_long));
    assert_eq!(rooms.stats.rooms_refused.get(), 1);
    assert_eq!(rooms.stats.names_refused.get(), 1);
    assert!(rooms.leave(key, "a"));
    assert_eq!(rooms.join(key, &"c".into()), Ok(true));
}

#[test]
fn the_own_room_is_there_without_joining_and_cannot_be_left() {
    let rooms = rooms(RoomLimits::default());
    let key = connect(&rooms, "own");
    assert_eq!(rooms.join(key, &"own".into()), Ok(false));
    assert!(!rooms.leave(key, "own"));
    assert_eq!(rooms.sockets_in("own"), [SocketId::from("own")]);
    assert_eq!(rooms.close_room("own"), 0);
    assert_eq!(rooms.all_rooms(), [Room::from("own")]);
}

#[test]
fn members_share_the_name_of_their_room() {
    let rooms = rooms(RoomLimits::default());
    let [a, b] = ["a", "b"].map(|id| connect(&rooms, id));
    rooms.join(a, &"room".into()).unwrap();
    rooms.join(b, &"room".into()).unwrap();
    let name = |key| rooms.rooms_of(key).unwrap()[1].as_str().as_ptr();
    assert_eq!(name(a), name(b));
}

#[test]
fn nothing_is_left_of_sockets_that_have_gone() {
    let rooms = rooms(RoomLimits::default());
    let keys: Vec<SocketKey> = (0..1000)
        .map(|number| connect(&rooms, &format!("socket-{number}")))
        .collect();
    for &key in &keys {
        rooms.join(key, &"all".into()).unwrap();
        rooms
            .join(key, &format!("own-{}", key.number()).into())
            .unwrap();
    }
    assert_eq!(rooms.len(), 1000);
    for key in keys {
        assert_eq!(rooms.disconnect(key).len(), 2);
        assert_eq!(
            rooms.join(key, &"all".into()),
            Err(RoomsError::UnknownSocket)
        );
    }
    assert_eq!(rooms.len(), 0);
    assert!(is_empty(&rooms.rooms, HashMap::len));
    assert!(is_empty(&rooms.ids, HashMap::len));
    assert!(is_empty(&rooms.sockets, KeyMap::len));
    rooms.sockets.each(|part| assert!(part.capacity() <= 64));
    rooms.ids.each(|part| assert!(part.capacity() <= 64));
}

#[test]
fn a_socket_that_comes_back_with_its_id_is_not_forgotten_with_the_old_one() {
    let rooms = rooms(RoomLimits::default());
    let old = connect(&rooms, "same");
    let new = connect(&rooms, "same");
    rooms.disconnect(old);
    assert_eq!(rooms.lookup("same"), Some(new));
    assert_eq!(rooms.len(), 1);
}

#[test]
fn threads_that_join_leave_disconnect_and_broadcast_leave_nothing_behind() {
    let rooms = rooms(RoomLimits::default());
    let packet = Encoded::text("2[\"event\"]");
    thread::scope(|scope| {
        for worker in 0..3 {
            let rooms = &rooms;
            scope.spawn(move || {
                for round in 0..200 {
                    let key = connect(rooms, &format!("{worker}-{round}"));
                    for room in ["red", "blue", "green"] {
                        rooms.join(key, &room.into()).unwrap();
                    }
                    rooms.leave(key, "red");
                    rooms.disconnect(key);
                }
            });
        }
        scope.spawn(|| {
            let options = BroadcastOptions {
                rooms: ["red", "blue"].map(Room::from).into_iter().collect(),
                except: [Room::from("green")].into_iter().collect(),
                ..BroadcastOptions::default()
            };
            for _ in 0..500 {
                let excluded = rooms.excluded(&options);
                rooms.walk(&options, &excluded, |_, member| {
                    let item = Outgoing::Packet(packet.clone());
                    let _ = member.outbox.push_volatile(item, packet.budget_bytes());
                });
                rooms.close_room("green");
                let _ = rooms.all_rooms();
            }
        });
    });
    assert!(rooms.is_empty());
    assert!(is_empty(&rooms.rooms, HashMap::len));
    assert!(is_empty(&rooms.ids, HashMap::len));
    assert!(is_empty(&rooms.sockets, KeyMap::len));
}

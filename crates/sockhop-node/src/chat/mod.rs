//! The chat of the tutorials: names and messages, rooms, who joined and who left.
//!
//! | event from a client | answer (acknowledgement) | what others get |
//! |---|---|---|
//! | `join room` `{name, room}` | `{ok, id, name, room, people, rooms}` or `{ok, error}` | `joined`, `left`, `rooms` |
//! | `chat message` `{text}` | `{ok, at}` or `{ok, error}` | `chat message` `{id, name, text, room, at}` to the room |
//! | `chat message` `"text"` | `{ok}` | `chat message` `"text"` to everybody, as in the first tutorial |
//!
//! A client that never joins a room gets what is said in the lobby as bare strings.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::Serialize;
use sockhop::{Ack, EmitError, Socket, SocketId, Value};

use crate::{Node, Page};

/// The room that everybody starts in.
const LOBBY: &str = "lobby";

/// Members have joined no chat room: clients of the first tutorial.
const PLAIN: &str = "plain";

/// Characters of a name, of a room's name, and of a message.
const MAX_NAME: usize = 32;
const MAX_TEXT: usize = 2_000;

/// Rooms with somebody in them.
const MAX_ROOMS: usize = 200;

/// Puts the chat's handlers into the namespace `/` and its page at `/`.
pub fn install(node: &mut Node) {
    node.page(Page {
        path: "/",
        content_type: "text/html; charset=utf-8",
        content: Bytes::from_static(include_bytes!("index.html")),
    });
    let chat = Arc::new(Chat::default());
    let namespace = node.server().of("/");
    namespace.on_connect(|socket: Socket| async move { socket.join(PLAIN) });
    let rooms = Arc::clone(&chat);
    namespace.on_with_ack("join room", move |socket: Socket, wish: Value, ack: Ack| {
        let chat = Arc::clone(&rooms);
        async move { ack.send(&answer(chat.join(&socket, &wish)?)) }
    });
    let messages = Arc::clone(&chat);
    namespace.on_with_ack(
        "chat message",
        move |socket: Socket, message: Value, ack: Ack| {
            let chat = Arc::clone(&messages);
            async move { ack.send(&answer(chat.say(&socket, &message)?)) }
        },
    );
    namespace.on_disconnect(move |socket: Socket, _| {
        let chat = Arc::clone(&chat);
        async move { chat.disconnected(&socket) }
    });
}

/// Who is where, by socket.
#[derive(Default)]
struct Chat {
    people: Mutex<People>,
}

#[derive(Default)]
struct People(HashMap<SocketId, Person>);

#[derive(Clone, PartialEq)]
struct Person {
    name: String,
    room: String,
}

#[derive(Serialize)]
struct Listed {
    id: String,
    name: String,
}

#[derive(Serialize)]
struct RoomCount {
    name: String,
    people: usize,
}

/// `joined` and `left`.
#[derive(Serialize)]
struct Movement<'a> {
    id: &'a str,
    name: &'a str,
    room: &'a str,
    at: u64,
}

#[derive(Serialize)]
struct Message<'a> {
    id: &'a str,
    name: &'a str,
    text: &'a str,
    room: &'a str,
    at: u64,
}

#[derive(Serialize)]
struct Joined {
    id: String,
    name: String,
    room: String,
    people: Vec<Listed>,
    rooms: Vec<RoomCount>,
}

#[derive(Serialize)]
struct Said {
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<u64>,
}

/// What an acknowledgement says: the answer with `ok: true`, or the error with `ok: false`.
#[derive(Serialize)]
struct Answer<T> {
    ok: bool,
    #[serde(flatten)]
    answer: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
}

fn answer<T>(result: Result<T, &'static str>) -> Answer<T> {
    match result {
        Ok(answer) => Answer {
            ok: true,
            answer: Some(answer),
            error: None,
        },
        Err(error) => Answer {
            ok: false,
            answer: None,
            error: Some(error),
        },
    }
}

impl Chat {
    /// Moves the socket to the room and under the name that it asks for.
    fn join(
        &self,
        socket: &Socket,
        wish: &Value,
    ) -> Result<Result<Joined, &'static str>, EmitError> {
        let Some(name) = clean(wish.get("name"), MAX_NAME) else {
            return Ok(Err("a name has 1 to 32 characters"));
        };
        let Some(room) = clean(wish.get("room"), MAX_NAME) else {
            return Ok(Err("a room name has 1 to 32 characters"));
        };
        let id = socket.id();
        let person = Person {
            name: name.clone(),
            room: room.clone(),
        };
        // Held over the announcements, so that everybody hears of moves in one order.
        let mut people = self.people();
        if room != LOBBY && !people.is_in_use(&room) && people.rooms().len() >= MAX_ROOMS {
            return Ok(Err("too many rooms"));
        }
        let before = people.0.insert(id.clone(), person.clone());
        if before.as_ref() != Some(&person) {
            if let Some(before) = before {
                socket.leave(room_of(&before.room));
                announce(socket, "left", &before)?;
            }
            socket.leave(PLAIN);
            announce(socket, "joined", &person)?;
            socket.join(room_of(&room));
            socket
                .namespace()
                .except(PLAIN)
                .emit("rooms", &people.rooms())?;
        }
        let (inside, rooms) = (people.inside(&room), people.rooms());
        Ok(Ok(Joined {
            id: id.to_string(),
            name,
            room,
            people: inside,
            rooms,
        }))
    }

    fn say(
        &self,
        socket: &Socket,
        message: &Value,
    ) -> Result<Result<Said, &'static str>, EmitError> {
        const LENGTH: &str = "a message has 1 to 2000 characters";
        let namespace = socket.namespace();
        if matches!(message, Value::String(_)) {
            let Some(text) = clean(Some(message), MAX_TEXT) else {
                return Ok(Err(LENGTH));
            };
            namespace.emit("chat message", &text)?;
            return Ok(Ok(Said { at: None }));
        }
        let Some(Person { name, room }) = self.people().0.get(socket.id()).cloned() else {
            return Ok(Err("join a room first"));
        };
        let Some(text) = clean(message.get("text"), MAX_TEXT) else {
            return Ok(Err(LENGTH));
        };
        let at = now_ms();
        let said = Message {
            id: socket.id().as_str(),
            name: &name,
            text: &text,
            room: &room,
            at,
        };
        namespace.to(room_of(&room)).emit("chat message", &said)?;
        if room == LOBBY {
            namespace
                .to(PLAIN)
                .emit("chat message", &format!("{name}: {text}"))?;
        }
        Ok(Ok(Said { at: Some(at) }))
    }

    fn disconnected(&self, socket: &Socket) -> Result<(), EmitError> {
        let mut people = self.people();
        if let Some(person) = people.0.remove(socket.id()) {
            announce(socket, "left", &person)?;
            socket
                .namespace()
                .except(PLAIN)
                .emit("rooms", &people.rooms())?;
        }
        Ok(())
    }

    fn people(&self) -> MutexGuard<'_, People> {
        self.people.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl People {
    fn inside(&self, room: &str) -> Vec<Listed> {
        let inside = self.0.iter().filter(|(_, person)| person.room == room);
        inside
            .map(|(id, person)| Listed {
                id: id.to_string(),
                name: person.name.clone(),
            })
            .collect()
    }

    fn is_in_use(&self, room: &str) -> bool {
        self.0.values().any(|person| person.room == room)
    }

    /// All rooms with somebody in them, and the lobby, which comes first.
    fn rooms(&self) -> Vec<RoomCount> {
        let mut counts = BTreeMap::new();
        for person in self.0.values() {
            *counts.entry(person.room.clone()).or_insert(0) += 1;
        }
        let lobby = RoomCount {
            name: LOBBY.to_owned(),
            people: counts.remove(LOBBY).unwrap_or(0),
        };
        let others = counts
            .into_iter()
            .map(|(name, people)| RoomCount { name, people });
        std::iter::once(lobby).chain(others).collect()
    }
}

/// Tells the others in the person's room.
fn announce(socket: &Socket, event: &str, person: &Person) -> Result<(), EmitError> {
    let Person { name, room } = person;
    let movement = Movement {
        id: socket.id().as_str(),
        name,
        room,
        at: now_ms(),
    };
    socket.to(room_of(room)).emit(event, &movement)
}

fn room_of(room: &str) -> String {
    format!("chat:{room}")
}

/// The text without control characters and outer space, if it has 1 to `max` characters.
fn clean(value: Option<&Value>, max: usize) -> Option<String> {
    let Some(Value::String(text)) = value else {
        return None;
    };
    let keeps = |c: &char| !c.is_control() || (*c == '\n' && max == MAX_TEXT);
    let text: String = text.chars().filter(keeps).collect();
    let text = text.trim();
    (1..=max)
        .contains(&text.chars().count())
        .then(|| text.to_owned())
}

fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

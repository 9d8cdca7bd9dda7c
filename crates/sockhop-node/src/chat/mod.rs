//! The chat of the tutorials: names and messages, rooms, who joined and who left.
//!
//! | event from a client | answer (acknowledgement) | what others get |
//! |---|---|---|
//! | `join room` `{name, room}` | `{ok, id, name, room, people, rooms}` or `{ok, error}` | `joined`, `left`, `rooms` |
//! | `chat message` `{text}` | `{ok, at}` or `{ok, error}` | `chat message` `{id, name, text, room, at}` to the room |
//! | `chat message` `"text"` | `{ok}` | `chat message` `"text"` to everybody, as in the first tutorial |
//!
//! A client that never joins a room gets what is said in the lobby as bare strings.

mod people;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::Serialize;
use sockhop::{Ack, EmitError, Member, Namespace, Server, Socket, Value};

use crate::{Node, Page};
use people::{Change, Listed, Moves, People, Person, RoomCount, Whereabouts};

/// The room that everybody starts in.
const LOBBY: &str = "lobby";

/// Members have joined no chat room: clients of the first tutorial.
const PLAIN: &str = "plain";

/// Characters of a name, of a room's name, and of a message.
const MAX_NAME: usize = 32;
const MAX_TEXT: usize = 2_000;

/// Rooms with somebody in them.
const MAX_ROOMS: usize = 200;

/// What nodes tell each other about their people.
const MOVES: &str = "chat moves";

/// People in one message between nodes.
const PEOPLE_AT_ONCE: usize = 1_000;

/// How often a node looks whether others came or went.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Puts the chat's handlers into the namespace `/` and its page at `/`. Must be called within a
/// runtime.
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
    let leaving = Arc::clone(&chat);
    namespace.on_disconnect(move |socket: Socket, _| {
        let chat = Arc::clone(&leaving);
        async move { chat.disconnected(&socket) }
    });
    let moving = Arc::clone(&chat);
    let told = namespace.clone();
    namespace.on_server_event(MOVES, move |moves: Moves| {
        let (chat, namespace) = (Arc::clone(&moving), told.clone());
        async move {
            let mut people = chat.people();
            for change in people.moved(moves) {
                tell_change(&namespace, &change)?;
            }
            tell_rooms(&namespace, &people)
        }
    });
    let server = node.server().clone();
    let stopping = server.tasks().clone();
    node.server().tasks().spawn("chat", async move {
        tokio::select! {
            () = watch_nodes(&chat, &server) => {}
            () = stopping.stopped() => {}
        }
    });
}

/// Tells who is here when a node comes, and when the link to the others is back; takes out the
/// people of nodes that are gone.
async fn watch_nodes(chat: &Chat, server: &Server) {
    let own = server.engine_parts().node_tag.get();
    let mut known = BTreeSet::from([own]);
    let mut was_up = true;
    let namespace = server.of("/");
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let mut tags: BTreeSet<u32> = server.members().iter().map(Member::tag).collect();
        tags.insert(own);
        let mut people = chat.people();
        let is_up = server.cluster_status().link.is_up();
        if tags.difference(&known).next().is_some() || (is_up && !was_up) {
            tell_everybody(&namespace, own, &people);
        }
        was_up = is_up;
        if known.difference(&tags).next().is_some() {
            for lost in people.take_lost(|tag| tags.contains(&tag)) {
                let _ = tell_change(&namespace, &Change::lost(lost));
            }
            let _ = tell_rooms(&namespace, &people);
        }
        drop(people);
        known = tags;
    }
}

/// Tells the other nodes all people of this one, whose tag is `own`.
fn tell_everybody(namespace: &Namespace, own: u32, people: &People) {
    let everybody = people.whereabouts();
    let mut all_of = Some(own);
    let mut parts = everybody.chunks(PEOPLE_AT_ONCE);
    // The first part takes the place of what was known, and is sent even if there is nobody.
    loop {
        let part = parts.next().unwrap_or_default();
        if part.is_empty() && all_of.is_none() {
            return;
        }
        let moves = Moves {
            all_of: all_of.take(),
            people: part.to_vec(),
        };
        let _ = namespace.server_side_emit(MOVES, &moves);
    }
}

/// Who is where.
#[derive(Default)]
struct Chat {
    people: Mutex<People>,
}

/// `joined` and `left`.
#[derive(Serialize)]
struct Movement<'a> {
    id: &'a str,
    name: &'a str,
    room: &'a str,
    at: u64,
}

impl<'a> Movement<'a> {
    fn of(id: &'a str, person: &'a Person) -> Self {
        let Person { name, room } = person;
        Self {
            id,
            name,
            room,
            at: now_ms(),
        }
    }
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
        let before = people.here.insert(id.clone(), person.clone());
        if before.as_ref() != Some(&person) {
            if let Some(before) = before {
                socket.leave(room_of(&before.room));
                announce(socket, "left", &before)?;
            }
            socket.leave(PLAIN);
            announce(socket, "joined", &person)?;
            socket.join(room_of(&room));
            tell_others(socket, Some(person));
            tell_rooms(socket.namespace(), &people)?;
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
            sent(namespace.emit("chat message", &text))?;
            return Ok(Ok(Said { at: None }));
        }
        let Some(Person { name, room }) = self.people().here.get(socket.id()).cloned() else {
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
        sent(namespace.to(room_of(&room)).emit("chat message", &said))?;
        if room == LOBBY {
            let line = format!("{name}: {text}");
            sent(namespace.to(PLAIN).emit("chat message", &line))?;
        }
        Ok(Ok(Said { at: Some(at) }))
    }

    fn disconnected(&self, socket: &Socket) -> Result<(), EmitError> {
        let mut people = self.people();
        if let Some(person) = people.here.remove(socket.id()) {
            announce(socket, "left", &person)?;
            tell_others(socket, None);
            tell_rooms(socket.namespace(), &people)?;
        }
        Ok(())
    }

    fn people(&self) -> MutexGuard<'_, People> {
        self.people.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the others of this node in the person's room.
fn announce(socket: &Socket, event: &str, person: &Person) -> Result<(), EmitError> {
    let movement = Movement::of(socket.id().as_str(), person);
    let others = socket.to(room_of(&person.room)).local();
    others.emit(event, &movement)
}

/// Tells the other nodes where the socket's person is now. What they miss while there is no Redis
/// they are told when this node is there again for them.
fn tell_others(socket: &Socket, person: Option<Person>) {
    let id = socket.id().to_string();
    let moves = Moves {
        all_of: None,
        people: vec![Whereabouts { id, person }],
    };
    let _ = socket.namespace().server_side_emit(MOVES, &moves);
}

/// Tells the clients of this node that somebody of another node has moved. Every node does so for
/// its own clients when it knows, so that none is told of a move that its list already has.
fn tell_change(namespace: &Namespace, change: &Change) -> Result<(), EmitError> {
    for (event, person) in [("left", &change.left), ("joined", &change.joined)] {
        if let Some(person) = person {
            let movement = Movement::of(&change.id, person);
            let inside = namespace.to(room_of(&person.room)).local();
            inside.emit(event, &movement)?;
        }
    }
    Ok(())
}

/// Tells the clients of this node how many are where; the other nodes tell theirs.
fn tell_rooms(namespace: &Namespace, people: &People) -> Result<(), EmitError> {
    let rooms = people.rooms();
    namespace.except(PLAIN).local().emit("rooms", &rooms)
}

/// That the clients of other nodes missed something, because there is no Redis at the moment, is
/// counted, and no reason not to go on.
fn sent(result: Result<(), EmitError>) -> Result<(), EmitError> {
    match result {
        Err(EmitError::Bus(_)) => Ok(()),
        other => other,
    }
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

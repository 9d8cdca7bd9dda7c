//! The events of the server under test, as templates.

use std::collections::BTreeMap;

use serde_json::Value;

/// What a load test may want from a server; each is an array of arguments or absent.
///
/// `$payload` stands for the message, `$room` for the name of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    templates: BTreeMap<&'static str, Template>,
}

/// One event of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// JSON with the two placeholders.
    text: String,
}

/// The keys, and what each is for.
pub const KEYS: [(&str, &str); 7] = [
    ("echo", "answered by an ack with the same arguments"),
    ("broadcast", "reaches everybody, the sender included"),
    ("broadcast_skip", "reaches everybody but the sender"),
    (
        "room",
        "reaches a room, the sender included if it is a member",
    ),
    ("room_skip", "reaches a room without the sender"),
    (
        "join",
        "joins a room, acknowledged; or `?name=$room` in the handshake query",
    ),
    ("leave", "leaves a room, acknowledged"),
];

const BENCH: [(&str, &str); 5] = [
    ("echo", r#"["echo","$payload"]"#),
    ("broadcast", r#"["bcast","$payload"]"#),
    ("broadcast_skip", r#"["bcast_skip","$payload"]"#),
    ("room", r#"["room_bcast","$room","$payload"]"#),
    ("join", "?room=$room"),
];

const CONTRACT: [(&str, &str); 7] = [
    ("echo", r#"["message-with-ack","$payload"]"#),
    ("broadcast", r#"["broadcast-all","$payload"]"#),
    ("broadcast_skip", r#"["broadcast","$payload"]"#),
    ("room", r#"["room-emit","$room","$payload"]"#),
    ("room_skip", r#"["room-broadcast","$room","$payload"]"#),
    ("join", r#"["join","$room"]"#),
    ("leave", r#"["leave","$room"]"#),
];

/// The chat of the node; whoever joins a room leaves that before.
const NODE: [(&str, &str); 3] = [
    ("broadcast", r#"["chat message","$payload"]"#),
    ("room", r#"["chat message",{"text":"$payload"}]"#),
    (
        "join",
        r#"["join room",{"name":"load test","room":"$room"}]"#,
    ),
];

impl App {
    /// The events of one of the known servers.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let list: &[(&'static str, &str)] = match name {
            "bench" => &BENCH,
            "contract" => &CONTRACT,
            "node" => &NODE,
            "none" => &[],
            _ => return None,
        };
        let templates = list
            .iter()
            .map(|(key, text)| {
                (
                    *key,
                    Template {
                        text: (*text).to_owned(),
                    },
                )
            })
            .collect();
        Some(Self { templates })
    }

    /// Replaces one event; an empty text takes it away.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn set(&mut self, key: &str, text: &str) -> Result<(), String> {
        let known = KEYS.iter().find(|(known, _)| *known == key);
        let Some((key, _)) = known else {
            return Err(format!("no event key `{key}`; there are {}", key_list()));
        };
        if text.is_empty() {
            self.templates.remove(key);
            return Ok(());
        }
        let is_query = *key == "join" && text.starts_with('?');
        let is_name = !text.starts_with(['[', '?']);
        let text = match *key {
            _ if !is_name => text.to_owned(),
            "join" | "leave" => format!(r#"[{},"$room"]"#, Value::from(text)),
            "room" | "room_skip" => format!(r#"[{},"$room","$payload"]"#, Value::from(text)),
            _ => format!(r#"[{},"$payload"]"#, Value::from(text)),
        };
        if !is_query && serde_json::from_str::<Vec<Value>>(&text).is_err() {
            return Err(format!("event `{key}`: `{text}` is no JSON array"));
        }
        self.templates.insert(key, Template { text });
        Ok(())
    }

    /// The template of an event, if the server has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Template> {
        self.templates.get(key)
    }

    /// The handshake query that joins a room, if that is how it is done.
    #[must_use]
    pub fn join_query(&self, room: &str) -> Option<String> {
        let text = self.get("join")?.text.strip_prefix('?')?;
        Some(text.replace("$room", room))
    }

    /// Whether rooms are joined by an event.
    #[must_use]
    pub fn joins_by_event(&self) -> bool {
        self.get("join")
            .is_some_and(|join| !join.text.starts_with('?'))
    }
}

fn key_list() -> String {
    KEYS.map(|(key, _)| key).join(", ")
}

impl Template {
    /// The arguments with the placeholders filled; neither needs escaping.
    #[must_use]
    pub fn fill(&self, room: &str, payload: &str) -> String {
        self.text
            .replace("$room", room)
            .replace("$payload", payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_gets_the_usual_arguments() {
        let mut app = App::named("none").unwrap();
        app.set("room", "say").unwrap();
        let filled = app.get("room").unwrap().fill("r1", "hello");
        assert_eq!(filled, r#"["say","r1","hello"]"#);
    }

    #[test]
    fn an_unknown_key_and_a_broken_template_are_refused() {
        let mut app = App::named("bench").unwrap();
        assert!(
            app.set("shout", "x")
                .unwrap_err()
                .contains("broadcast_skip")
        );
        assert!(app.set("echo", "[").is_err());
    }

    #[test]
    fn rooms_are_joined_by_query_or_by_event() {
        let bench = App::named("bench").unwrap();
        assert_eq!(bench.join_query("r7").as_deref(), Some("room=r7"));
        assert!(!bench.joins_by_event());
        assert!(App::named("contract").unwrap().joins_by_event());
    }
}

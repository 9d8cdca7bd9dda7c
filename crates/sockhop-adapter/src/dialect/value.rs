//! Reading what others wrote, liberally, and writing JSON for them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use socketio_proto::{Value, msgpack};

use super::Ignored;
use crate::recipient::Room;

/// The members of an object.
pub(super) struct Fields(Value);

impl Fields {
    /// JSON if it begins like an object of JSON, else MessagePack, where that byte is a number.
    pub(super) fn read(data: &Bytes) -> Result<Self, Ignored> {
        let value = match data.first() {
            Some(b'{') => serde_json::from_slice(data).map_err(|_| Ignored::Malformed)?,
            Some(_) => msgpack::read_value(data).map_err(|_| Ignored::Malformed)?,
            None => return Err(Ignored::Malformed),
        };
        match value {
            Value::Object(_) => Ok(Self(value)),
            _ => Err(Ignored::Malformed),
        }
    }

    /// A member that is there and not null.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        some(self.0.get(key))
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    pub(super) fn number(&self, key: &str) -> Option<u64> {
        number(self.get(key)?)
    }
}

/// Null is as good as absent.
pub(super) fn some(value: Option<&Value>) -> Option<&Value> {
    value.filter(|value| **value != Value::Null)
}

pub(super) fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        _ => None,
    }
}

/// A text, or a number as its text: rooms of JavaScript and Python can be numbers.
pub(super) fn name(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A list of names, empty where there is none; a single name is a list of one.
pub(super) fn names(value: Option<&Value>, max: usize) -> Result<Vec<Room>, Ignored> {
    match some(value) {
        None => Ok(Vec::new()),
        Some(Value::Array(items)) if items.len() > max => Err(Ignored::TooLarge),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| name(item).map(Room::from).ok_or(Ignored::Malformed))
            .collect(),
        Some(one) => Ok(vec![name(one).map(Room::from).ok_or(Ignored::Malformed)?]),
    }
}

/// The elements of a list.
pub(super) fn list(value: Option<&Value>, max: usize) -> Result<&[Value], Ignored> {
    match some(value) {
        Some(Value::Array(items)) if items.len() > max => Err(Ignored::TooLarge),
        Some(Value::Array(items)) => Ok(items),
        _ => Err(Ignored::Malformed),
    }
}

/// An object with these members, in this order.
pub(super) fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    let members = members.into_iter();
    Value::Object(
        members
            .map(|(key, value)| (key.to_owned(), value))
            .collect(),
    )
}

pub(super) fn texts<'a>(rooms: impl IntoIterator<Item = &'a Room>) -> Value {
    let texts = rooms.into_iter().map(|room| room.as_str().into());
    Value::Array(texts.collect())
}

/// How binary data stands in JSON, which has no words for it.
#[derive(Clone, Copy)]
pub(super) enum BinaryAs {
    /// `{"type":"Buffer","data":[…]}`, as `JSON.stringify` of Node.js has it.
    Buffer,
    /// A text in base64.
    Base64,
}

/// Writes a value as JSON.
pub(super) fn to_json(value: Value, binary: BinaryAs) -> Bytes {
    let value = without_binary(value, binary);
    // Keys are texts and numbers are finite: it can always be written.
    serde_json::to_vec(&value).unwrap_or_default().into()
}

fn without_binary(value: Value, binary: BinaryAs) -> Value {
    match value {
        Value::Binary(data) => match binary {
            BinaryAs::Buffer => {
                let numbers = data.iter().map(|byte| Value::from(u64::from(*byte)));
                object([
                    ("type", "Buffer".into()),
                    ("data", Value::Array(numbers.collect())),
                ])
            }
            BinaryAs::Base64 => STANDARD.encode(&data).into(),
        },
        Value::Array(items) => {
            let items = items.into_iter().map(|item| without_binary(item, binary));
            Value::Array(items.collect())
        }
        Value::Object(members) => {
            let members = members.into_iter();
            let plain = members.map(|(key, value)| (key, without_binary(value, binary)));
            Value::Object(plain.collect())
        }
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => other,
    }
}

//! Arguments of any shape, with binary data in them.

mod de;
mod seed;

use bytes::Bytes;
use serde::ser::{Serialize, SerializeMap, SerializeTuple, Serializer};
use serde_json::Number;

pub(crate) use seed::{PlaceholderCheck, ValueSeed};

/// What one argument can be: JSON and binary data.
///
/// As a payload it is one argument. Binary data travels as an attachment (JSON) or inline
/// (MessagePack).
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    /// `null`, and `undefined` where MessagePack peers write it.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer of 64 bits or a finite floating-point number.
    Number(Number),
    /// Text. A date of a MessagePack peer is an ISO 8601 text, as JSON peers write it.
    String(String),
    /// A list.
    Array(Vec<Self>),
    /// An object.
    ///
    /// *Shape:* keys in the order in which they arrived; of equal keys the last one counts.
    Object(Vec<(String, Self)>),
    /// Binary data, sharing the memory it arrived in.
    Binary(Bytes),
}

impl Value {
    /// The text, if this is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            Self::Null
            | Self::Bool(_)
            | Self::Number(_)
            | Self::Array(_)
            | Self::Object(_)
            | Self::Binary(_) => None,
        }
    }

    /// The member `key`, if this is an object that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members
                .iter()
                .rev()
                .find(|(name, _)| name == key)
                .map(|(_, value)| value),
            Self::Null
            | Self::Bool(_)
            | Self::Number(_)
            | Self::String(_)
            | Self::Array(_)
            | Self::Binary(_) => None,
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            // Not `serialize_unit`, which would mean "no argument" at the top of a payload.
            Self::Null => serializer.serialize_none(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(number) => number.serialize(serializer),
            Self::String(text) => serializer.serialize_str(text),
            Self::Array(items) => items.serialize(serializer),
            Self::Object(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (key, value) in members {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
            Self::Binary(data) => serializer.serialize_bytes(data),
        }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number.into())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number.into())
    }
}

/// Infinities and NaN become `null`, as in JSON.
impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Number::from_f64(number).map_or(Self::Null, Self::Number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<Bytes> for Value {
    fn from(data: Bytes) -> Self {
        Self::Binary(data)
    }
}

impl From<Vec<Self>> for Value {
    fn from(items: Vec<Self>) -> Self {
        Self::Array(items)
    }
}

impl From<serde_json::Value> for Value {
    fn from(json: serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(value) => Self::Bool(value),
            serde_json::Value::Number(number) => Self::Number(number),
            serde_json::Value::String(text) => Self::String(text),
            serde_json::Value::Array(items) => {
                Self::Array(items.into_iter().map(Self::from).collect())
            }
            serde_json::Value::Object(members) => Self::Object(
                members
                    .into_iter()
                    .map(|(key, value)| (key, value.into()))
                    .collect(),
            ),
        }
    }
}

/// All arguments of an event or ack, whatever their number.
///
/// *Shape:* as a payload to send, each element is one argument; as a type to decode into, it takes
/// every argument there is. (A `Vec` is one argument, an array.)
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Args(pub Vec<Value>);

/// The name under which [`Args`] asks a deserializer for a tuple of unknown length.
pub(crate) const ARGS_TOKEN: &str = "$socketio_proto::Args";

impl Serialize for Args {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_all(&self.0, serializer)
    }
}

/// Each value as an argument of its own.
pub(crate) fn serialize_all<S: Serializer>(
    values: &[Value],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut tuple = serializer.serialize_tuple(values.len())?;
    for value in values {
        tuple.serialize_element(value)?;
    }
    tuple.end()
}

impl From<Vec<Value>> for Args {
    fn from(values: Vec<Value>) -> Self {
        Self(values)
    }
}

impl FromIterator<Value> for Args {
    fn from_iter<I: IntoIterator<Item = Value>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

//! The arguments of an event or ack, as they arrived.

mod arguments;
mod pass_on;
mod shape;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use engineio_proto::Text;
use serde::de::value::SeqDeserializer;
use serde::de::{Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, SeqAccess, Visitor};

use crate::error::DecodeError;
use crate::msgpack::{self, Extensions};
use crate::value::{Args, Value, ValueSeed};
use arguments::{JsonArguments, read_arguments};
pub(crate) use pass_on::{PAYLOAD_TOKEN, payload_from};
use shape::shape_of;

/// The arguments of an event or ack, or the auth data of a CONNECT, as they arrived.
///
/// *Shape:* the JSON or MessagePack is checked but not parsed; cloning shares the memory. As a
/// payload to send it is all of its arguments, and peers of the same parser get the very bytes that
/// arrived: what has no counterpart here (half a surrogate pair, a MessagePack extension) survives.
#[derive(Clone, Default)]
pub struct Payload(Repr);

#[derive(Clone, Default)]
enum Repr {
    /// No argument.
    #[default]
    Empty,
    /// A JSON array from `start` to the end of `text`; the arguments begin at `arguments`, behind
    /// the name of the event if there is one.
    Json {
        text: Text,
        start: usize,
        arguments: usize,
        attachments: Option<Arc<[Bytes]>>,
    },
    /// One JSON value, from `start` to the end of `text`.
    JsonOne { text: Text, start: usize },
    /// `count` values of MessagePack. Extensions are rewritten only for those who decode them.
    Msgpack {
        data: Bytes,
        count: u32,
        extensions: Extensions,
    },
    /// Made here, not by a peer.
    Values(Arc<[Value]>),
}

impl Payload {
    /// The payload with these arguments.
    #[must_use]
    pub fn from_args(args: Args) -> Self {
        match args.0.is_empty() {
            true => Self::default(),
            false => Self(Repr::Values(args.0.into())),
        }
    }

    /// A JSON array that was checked: it starts at `start` and ends the text.
    pub(crate) fn json(text: Text, start: usize, arguments: usize) -> Self {
        Self(Repr::Json {
            text,
            start,
            arguments,
            attachments: None,
        })
    }

    /// The same payload with the attachments that its placeholders point to.
    pub(crate) fn with_attachments(self, list: Vec<Bytes>) -> Self {
        match self.0 {
            Repr::Json {
                text,
                start,
                arguments,
                attachments: _,
            } => Self(Repr::Json {
                text,
                start,
                arguments,
                attachments: Some(list.into()),
            }),
            other @ (Repr::Empty
            | Repr::JsonOne { .. }
            | Repr::Msgpack { .. }
            | Repr::Values(_)) => Self(other),
        }
    }

    /// One JSON value that was checked: it starts at `start` and ends the text.
    pub(crate) fn json_one(text: Text, start: usize) -> Self {
        Self(Repr::JsonOne { text, start })
    }

    /// `count` values of MessagePack that were checked.
    pub(crate) fn msgpack(data: Bytes, count: u32, extensions: Extensions) -> Self {
        match count {
            0 => Self::default(),
            _ => Self(Repr::Msgpack {
                data,
                count,
                extensions,
            }),
        }
    }

    /// The arguments as `T`.
    ///
    /// A tuple (or tuple struct, or array) takes one argument for each element, a missing one
    /// being `null` and surplus ones ignored. `()` takes none and ignores all. Anything else takes
    /// the first argument, or `null` when there is none. [`Args`] takes them all.
    ///
    /// Binary data goes into types that ask serde for bytes: `bytes::Bytes` with its `serde`
    /// feature, `serde_bytes::ByteBuf`, [`Value`]; a plain `Vec<u8>` is a list of numbers.
    ///
    /// # Errors
    /// The arguments do not fit the type, or are nested deeper than 128 levels.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        let shape = shape_of::<T>();
        match &self.0 {
            Repr::Empty => read_arguments(shape, no_arguments()),
            Repr::Json {
                attachments: Some(_),
                ..
            } => {
                let args = self.args()?;
                read_arguments(shape, SeqDeserializer::new(args.0.iter()))
            }
            Repr::Json { .. } => {
                let mut json = serde_json::Deserializer::from_str(self.json_array());
                Ok(json.deserialize_seq(JsonArguments::new(shape, self.skipped()))?)
            }
            Repr::JsonOne { text, start } => {
                let mut json = serde_json::Deserializer::from_str(tail(text, *start));
                read_arguments(shape, arguments::JsonOne::new(&mut json)).map_err(Into::into)
            }
            Repr::Msgpack {
                data,
                count,
                extensions,
            } => {
                let data = plain(data, *extensions);
                let mut reader = msgpack::reader(&data);
                let arguments = msgpack::Arguments::new(&mut reader, *count);
                Ok(read_arguments(shape, arguments)?)
            }
            Repr::Values(values) => read_arguments(shape, SeqDeserializer::new(values.iter())),
        }
    }

    /// All arguments as values; binary data shares the memory it arrived in, or with MessagePack
    /// extensions beside it a copy.
    ///
    /// # Errors
    /// The arguments are nested deeper than 128 levels, or a text in them is not valid Unicode.
    pub fn args(&self) -> Result<Args, DecodeError> {
        match &self.0 {
            Repr::Empty => Ok(Args::default()),
            Repr::Json { attachments, .. } => {
                let seed = ValueSeed {
                    attachments: attachments.as_deref().unwrap_or_default(),
                    source: None,
                };
                let mut json = serde_json::Deserializer::from_str(self.json_array());
                let collector = Collector {
                    seed,
                    skip: self.skipped(),
                };
                Ok(json.deserialize_seq(collector)?)
            }
            Repr::JsonOne { text, start } => {
                let mut json = serde_json::Deserializer::from_str(tail(text, *start));
                Ok(Args(vec![ValueSeed::default().deserialize(&mut json)?]))
            }
            Repr::Msgpack {
                data,
                count,
                extensions,
            } => {
                let data = plain(data, *extensions);
                let seed = ValueSeed {
                    attachments: &[],
                    source: Some(&data),
                };
                let mut reader = msgpack::reader(&data);
                let arguments = msgpack::Arguments::new(&mut reader, *count);
                Ok(Collector { seed, skip: false }.visit_seq(arguments)?)
            }
            Repr::Values(values) => Ok(Args(values.to_vec())),
        }
    }

    /// The arguments as JSON text: the values with commas between, without the brackets around.
    ///
    /// *Shape:* `None` for payloads that are not JSON text or that have attachments, which the
    /// text alone would lose.
    #[must_use]
    pub fn raw_json(&self) -> Option<&str> {
        match &self.0 {
            Repr::Json {
                text,
                arguments,
                attachments: None,
                ..
            } => Some(without_bracket(tail(text, *arguments))),
            Repr::JsonOne { text, start } => Some(tail(text, *start).trim_ascii()),
            Repr::Json { .. } | Repr::Empty | Repr::Msgpack { .. } | Repr::Values(_) => None,
        }
    }

    /// Whether there is no argument at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match &self.0 {
            Repr::Empty => true,
            Repr::Json {
                text, arguments, ..
            } => tail(text, *arguments).trim_ascii_start().starts_with(']'),
            Repr::JsonOne { .. } | Repr::Msgpack { .. } | Repr::Values(_) => false,
        }
    }

    /// Size of what arrived, attachments included; 0 for a payload made from values.
    ///
    /// *Units:* bytes, without the name of the event.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        match &self.0 {
            Repr::Empty | Repr::Values(_) => 0,
            Repr::Json {
                text,
                arguments,
                attachments,
                ..
            } => attachments
                .iter()
                .flat_map(|list| list.iter())
                .map(Bytes::len)
                .fold(tail(text, *arguments).len(), usize::saturating_add),
            Repr::JsonOne { text, start } => tail(text, *start).len(),
            Repr::Msgpack { data, .. } => data.len(),
        }
    }

    fn json_array(&self) -> &str {
        match &self.0 {
            Repr::Json { text, start, .. } => tail(text, *start),
            Repr::Empty | Repr::JsonOne { .. } | Repr::Msgpack { .. } | Repr::Values(_) => "[]",
        }
    }

    /// Whether the array begins with something that is no argument: the name of the event.
    fn skipped(&self) -> bool {
        match &self.0 {
            Repr::Json {
                start, arguments, ..
            } => *arguments > start.saturating_add(1),
            Repr::Empty | Repr::JsonOne { .. } | Repr::Msgpack { .. } | Repr::Values(_) => false,
        }
    }
}

fn tail(text: &Text, start: usize) -> &str {
    text.get(start..).unwrap_or_default()
}

/// The elements of a JSON array whose opening bracket is not there.
fn without_bracket(list: &str) -> &str {
    let list = list.trim_ascii();
    list.strip_suffix(']').unwrap_or(list).trim_ascii()
}

/// Values with the types of JSON and binary data only.
fn plain(data: &Bytes, extensions: Extensions) -> Bytes {
    match extensions {
        Extensions::Absent => data.clone(),
        Extensions::Present => msgpack::without_extensions(data).into(),
    }
}

fn no_arguments<'de>() -> SeqDeserializer<std::slice::Iter<'de, Value>, DecodeError> {
    SeqDeserializer::new([].iter())
}

/// Collects all arguments of a sequence.
struct Collector<'a> {
    seed: ValueSeed<'a>,
    skip: bool,
}

impl<'de> Visitor<'de> for Collector<'_> {
    type Value = Args;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("arguments")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Args, A::Error> {
        if self.skip {
            seq.next_element::<serde::de::IgnoredAny>()?;
        }
        let mut values = Vec::new();
        while let Some(value) = seq.next_element_seed(self.seed)? {
            values.push(value);
        }
        Ok(Args(values))
    }
}

/// All arguments, as with [`Args`].
impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Args::deserialize(deserializer).map(Self::from_args)
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.0, self.raw_json()) {
            (Repr::Empty, _) => f.write_str("Payload()"),
            (_, Some(json)) => write!(f, "Payload({json})"),
            (_, None) => match self.args() {
                Ok(args) => f.debug_tuple("Payload").field(&args.0).finish(),
                Err(_) => write!(f, "Payload({} bytes)", self.len_bytes()),
            },
        }
    }
}

#[cfg(test)]
mod tests;

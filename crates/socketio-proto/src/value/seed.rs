//! Building values out of a parser, and looking at placeholders without building any.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::Value;

/// Builds a [`Value`] whose binary data shares memory with what it was parsed from.
#[derive(Clone, Copy, Default)]
pub(crate) struct ValueSeed<'a> {
    /// What placeholders point to; without attachments they are ordinary objects.
    pub(crate) attachments: &'a [Bytes],
    /// The bytes that the deserializer borrows from, if they are known.
    pub(crate) source: Option<&'a Bytes>,
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Value, D::Error> {
        self.deserialize(inner)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_borrowed_bytes<E>(self, data: &'de [u8]) -> Result<Value, E> {
        Ok(Value::Binary(match self.source {
            Some(source) => source.slice_ref(data),
            None => Bytes::copy_from_slice(data),
        }))
    }

    fn visit_bytes<E>(self, data: &[u8]) -> Result<Value, E> {
        Ok(Value::Binary(Bytes::copy_from_slice(data)))
    }

    fn visit_byte_buf<E>(self, data: Vec<u8>) -> Result<Value, E> {
        Ok(Value::Binary(data.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Vec::new();
        while let Some(key) = map.next_key_seed(KeySeed)? {
            members.push((key.into_owned(), map.next_value_seed(self)?));
        }
        let object = Value::Object(members);
        if self.attachments.is_empty() || object.get(PLACEHOLDER) != Some(&Value::Bool(true)) {
            return Ok(object);
        }
        attachment_index(object.get(NUM))
            .and_then(|index| self.attachments.get(index))
            .map(|data| Value::Binary(data.clone()))
            .ok_or_else(|| Error::custom("placeholder without its attachment"))
    }
}

const PLACEHOLDER: &str = "_placeholder";
const NUM: &str = "num";

fn attachment_index(num: Option<&Value>) -> Option<usize> {
    match num? {
        Value::Number(number) => usize::try_from(number.as_u64()?).ok(),
        Value::Null
        | Value::Bool(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_)
        | Value::Binary(_) => None,
    }
}

/// The key of an object. Python peers of the MessagePack parser may send integers.
struct KeySeed;

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Cow<'de, str>;
    fn deserialize<D: Deserializer<'de>>(self, key: D) -> Result<Self::Value, D::Error> {
        key.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for KeySeed {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(key.to_owned()))
    }

    fn visit_string<E>(self, key: String) -> Result<Self::Value, E> {
        Ok(Cow::Owned(key))
    }

    fn visit_u64<E>(self, key: u64) -> Result<Self::Value, E> {
        Ok(Cow::Owned(key.to_string()))
    }

    fn visit_i64<E>(self, key: i64) -> Result<Self::Value, E> {
        Ok(Cow::Owned(key.to_string()))
    }

    fn visit_bool<E>(self, key: bool) -> Result<Self::Value, E> {
        Ok(Cow::Owned(key.to_string()))
    }
}

/// Walks a value without building it and fails when a placeholder does not point to one of
/// `attachments` announced attachments.
#[derive(Clone, Copy)]
pub(crate) struct PlaceholderCheck<'a> {
    pub(crate) attachments: usize,
    /// The number that the next placeholder has if they are numbered in their order; `None` once
    /// one was not.
    pub(crate) next: &'a Cell<Option<usize>>,
}

/// What the check needs to know of a value: enough to read `_placeholder` and `num`.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Seen {
    True,
    Index(usize),
    Other,
}

impl<'de> DeserializeSeed<'de> for PlaceholderCheck<'_> {
    type Value = Seen;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Seen, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for PlaceholderCheck<'_> {
    type Value = Seen;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Seen, E> {
        Ok(Seen::Other)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Seen, E> {
        Ok(if value { Seen::True } else { Seen::Other })
    }

    fn visit_i64<E>(self, _: i64) -> Result<Seen, E> {
        Ok(Seen::Other)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Seen, E> {
        Ok(usize::try_from(number).map_or(Seen::Other, Seen::Index))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Seen, E> {
        Ok(Seen::Other)
    }

    fn visit_str<E>(self, _: &str) -> Result<Seen, E> {
        Ok(Seen::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Seen, A::Error> {
        while seq.next_element_seed(self)?.is_some() {}
        Ok(Seen::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Seen, A::Error> {
        let (mut placeholder, mut num) = (Seen::Other, Seen::Other);
        while let Some(key) = map.next_key_seed(KeySeed)? {
            let seen = map.next_value_seed(self)?;
            match &*key {
                PLACEHOLDER => placeholder = seen,
                NUM => num = seen,
                _ => {}
            }
        }
        match (placeholder, num) {
            (Seen::True, Seen::Index(index)) if index < self.attachments => {
                let in_order = self.next.get().filter(|next| *next == index);
                self.next.set(in_order.and_then(|next| next.checked_add(1)));
                Ok(Seen::Other)
            }
            (Seen::True, _) => Err(Error::custom("placeholder without its attachment")),
            (Seen::Index(_) | Seen::Other, _) => Ok(Seen::Other),
        }
    }
}

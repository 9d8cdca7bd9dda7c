//! Reading a type out of a sequence of arguments, the same way for every parser.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::UnitDeserializer;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::shape::Shape;

/// Reads `T` from the arguments in `seq` and skips what it leaves.
pub(super) fn read_arguments<'de, T, A>(shape: Shape, mut seq: A) -> Result<T, A::Error>
where
    T: Deserialize<'de>,
    A: SeqAccess<'de>,
{
    let value = match shape {
        Shape::Unit => T::deserialize(null::<A::Error>())?,
        Shape::One => match seq.next_element()? {
            Some(value) => value,
            None => T::deserialize(null::<A::Error>())?,
        },
        Shape::Tuple => T::deserialize(Arguments {
            seq: &mut seq,
            pad: true,
        })?,
        Shape::All => T::deserialize(Arguments {
            seq: &mut seq,
            pad: false,
        })?,
    };
    while seq.next_element::<IgnoredAny>()?.is_some() {}
    Ok(value)
}

fn null<E>() -> UnitDeserializer<E> {
    UnitDeserializer::new()
}

/// The arguments as a deserializer that gives a tuple whatever it is asked for.
struct Arguments<'a, A> {
    seq: &'a mut A,
    /// Whether missing arguments are null, rather than the end.
    pad: bool,
}

impl<'de, A: SeqAccess<'de>> Deserializer<'de> for Arguments<'_, A> {
    type Error = A::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, A::Error> {
        visitor.visit_seq(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        option unit unit_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Arguments<'_, A> {
    type Error = A::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, A::Error> {
        let mut seed = Unused(Some(seed));
        match self.seq.next_element_seed(&mut seed)? {
            Some(value) => Ok(Some(value)),
            None => match seed.0 {
                Some(seed) if self.pad => seed.deserialize(null::<A::Error>()).map(Some),
                Some(_) | None => Ok(None),
            },
        }
    }
}

/// A seed that is still there when the sequence turns out to have ended.
struct Unused<T>(Option<T>);

impl<'de, T: DeserializeSeed<'de>> DeserializeSeed<'de> for &mut Unused<T> {
    type Value = T::Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T::Value, D::Error> {
        match self.0.take() {
            Some(seed) => seed.deserialize(deserializer),
            None => Err(serde::de::Error::custom("an element was read twice")),
        }
    }
}

/// Reads `T` from a JSON array.
pub(super) struct JsonArguments<T> {
    shape: Shape,
    /// Whether the first element is no argument.
    skip: bool,
    target: PhantomData<T>,
}

impl<T> JsonArguments<T> {
    pub(super) const fn new(shape: Shape, skip: bool) -> Self {
        Self {
            shape,
            skip,
            target: PhantomData,
        }
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for JsonArguments<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("arguments")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<T, A::Error> {
        if self.skip {
            seq.next_element::<IgnoredAny>()?;
        }
        read_arguments(self.shape, seq)
    }
}

/// One JSON value as a sequence of one argument.
pub(super) struct JsonOne<'a, 'de> {
    json: Option<&'a mut serde_json::Deserializer<serde_json::de::StrRead<'de>>>,
}

impl<'a, 'de> JsonOne<'a, 'de> {
    pub(super) fn new(
        json: &'a mut serde_json::Deserializer<serde_json::de::StrRead<'de>>,
    ) -> Self {
        Self { json: Some(json) }
    }
}

impl<'de> SeqAccess<'de> for JsonOne<'_, 'de> {
    type Error = serde_json::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, serde_json::Error> {
        self.json
            .take()
            .map(|json| seed.deserialize(json))
            .transpose()
    }
}

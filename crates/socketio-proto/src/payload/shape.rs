//! Finding out, without any input, what a type asks of its deserializer first.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::forward_to_deserialize_any;

use crate::value::ARGS_TOKEN;

/// How many arguments a type takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// None: `()` and unit structs.
    Unit,
    /// The first one.
    One,
    /// One for each element, missing ones being null.
    Tuple,
    /// As many as there are.
    All,
}

pub(crate) fn shape_of<'de, T: Deserialize<'de>>() -> Shape {
    match T::deserialize(Probe) {
        // A type that asks for nothing may still read something when it gets input.
        Ok(_) => Shape::One,
        Err(Answer(shape)) => shape,
    }
}

/// Answers the first request with an error that says what was requested.
struct Probe;

#[derive(Debug)]
struct Answer(Shape);

impl<'de> Deserializer<'de> for Probe {
    type Error = Answer;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Answer> {
        Err(Answer(Shape::One))
    }

    fn deserialize_unit<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Answer> {
        Err(Answer(Shape::Unit))
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _: V,
    ) -> Result<V::Value, Answer> {
        Err(Answer(Shape::Unit))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Answer> {
        Err(Answer(Shape::Unit))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _len: usize, _: V) -> Result<V::Value, Answer> {
        Err(Answer(Shape::Tuple))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _len: usize,
        _: V,
    ) -> Result<V::Value, Answer> {
        Err(Answer(if name == ARGS_TOKEN {
            Shape::All
        } else {
            Shape::Tuple
        }))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Answer> {
        // No type in Rust has a `$` in its name: this is a private agreement between a type and
        // its deserializer, as `RawValue` has one with serde_json.
        if name.starts_with('$') {
            return Err(Answer(Shape::One));
        }
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        option seq map struct enum identifier
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the type takes {:?}", self.0)
    }
}

impl std::error::Error for Answer {}

impl de::Error for Answer {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self(Shape::One)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde::Deserialize;
    use serde_json::value::RawValue;

    use super::*;
    use crate::value::{Args, Value};

    #[derive(Deserialize)]
    struct Named {
        _a: u8,
    }
    #[derive(Deserialize)]
    struct Wrapper<T>(T);
    #[expect(dead_code, reason = "only its shape matters")]
    #[derive(Deserialize)]
    struct Pair(u8, u8);
    #[derive(Deserialize)]
    struct Nothing;
    #[expect(dead_code, reason = "only its shape matters")]
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        A(u8),
        B(String),
    }

    #[test]
    fn every_kind_of_type_has_its_shape() {
        assert_eq!(shape_of::<()>(), Shape::Unit);
        assert_eq!(shape_of::<Nothing>(), Shape::Unit);
        assert_eq!(shape_of::<String>(), Shape::One);
        assert_eq!(shape_of::<Vec<u8>>(), Shape::One);
        assert_eq!(shape_of::<Option<(u8, u8)>>(), Shape::One);
        assert_eq!(shape_of::<HashMap<String, u8>>(), Shape::One);
        assert_eq!(shape_of::<Named>(), Shape::One);
        assert_eq!(shape_of::<Either>(), Shape::One);
        assert_eq!(shape_of::<Value>(), Shape::One);
        assert_eq!(shape_of::<Box<RawValue>>(), Shape::One);
        assert_eq!(shape_of::<Wrapper<String>>(), Shape::One);
        assert_eq!(shape_of::<Wrapper<(u8, u8)>>(), Shape::Tuple);
        assert_eq!(shape_of::<(u8,)>(), Shape::Tuple);
        assert_eq!(shape_of::<[u8; 3]>(), Shape::Tuple);
        assert_eq!(shape_of::<Pair>(), Shape::Tuple);
        assert_eq!(shape_of::<Args>(), Shape::All);
    }
}

//! One payload, none, one or several arguments.

use std::fmt;

use serde::ser::{Impossible, Serialize, SerializeTuple, SerializeTupleStruct, Serializer};

use super::{Passed, Sink};
use crate::error::{EncodeError, SpreadError};
use crate::payload::{PAYLOAD_TOKEN, payload_from};

/// Writes `payload` to `sink` as the arguments that it stands for.
pub(super) fn write_arguments<S: Sink, T: Serialize + ?Sized>(
    sink: &mut S,
    payload: &T,
) -> Result<(), EncodeError> {
    match payload.serialize(Spread { sink: &mut *sink }) {
        Ok(()) => Ok(()),
        Err(SpreadError::Failed(error)) => Err(error),
        Err(SpreadError::One) => {
            sink.begin(1)?;
            sink.argument(payload)
        }
    }
}

/// Writes the elements of a tuple, nothing for a unit, and a payload as it arrived; declines everything else, before
/// anything was written, so that it is written as one argument by the serializer of the parser.
struct Spread<'a, S> {
    sink: &'a mut S,
}

/// The elements of a tuple on their way to a sink.
struct Elements<'a, S> {
    sink: &'a mut S,
    announced: usize,
    written: usize,
}

type Result<T, E = SpreadError> = std::result::Result<T, E>;

impl<'a, S: Sink> Serializer for Spread<'a, S> {
    type Ok = ();
    type Error = SpreadError;
    type SerializeSeq = Impossible<(), SpreadError>;
    type SerializeTuple = Elements<'a, S>;
    type SerializeTupleStruct = Elements<'a, S>;
    type SerializeTupleVariant = Impossible<(), SpreadError>;
    type SerializeMap = Impossible<(), SpreadError>;
    type SerializeStruct = Impossible<(), SpreadError>;
    type SerializeStructVariant = Impossible<(), SpreadError>;

    fn serialize_unit(self) -> Result<()> {
        Ok(self.sink.begin(0)?)
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<()> {
        self.serialize_unit()
    }

    fn serialize_tuple(self, len: usize) -> Result<Elements<'a, S>> {
        self.sink.begin(len)?;
        Ok(Elements {
            sink: self.sink,
            announced: len,
            written: 0,
        })
    }

    fn serialize_tuple_struct(self, _name: &'static str, len: usize) -> Result<Elements<'a, S>> {
        self.serialize_tuple(len)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<()> {
        if name == PAYLOAD_TOKEN {
            let hand_over = || value.serialize(Spread { sink: self.sink });
            if let Some(payload) = payload_from(hand_over)
                && self.sink.pass_on(&payload)? == Passed::Yes
            {
                return Ok(());
            }
        }
        value.serialize(self)
    }

    fn serialize_bool(self, _: bool) -> Result<()> {
        Err(SpreadError::One)
    }

    fn serialize_i8(self, _: i8) -> Result<()> {
        Err(SpreadError::One)
    }

    fn serialize_i16(self, _: i16) -> Result<()> {
        Err(SpreadError::One)
    }

    fn serialize_i32(self, _: i32) -> Result<()> {
        Err(SpreadError::One)
    }

    fn serialize_i64(self, _: i64) -> Result<()> {
        Err(SpreadError::One)
    }

    fn serialize_i128(self, _: i128) -> Result<()> {
        Err(SpreadError::One)
    }

    fn serialize_u8(self, _: u8) -> Result<()> {
        Err(SpreadError::One)
    }

    fn serialize_u16(self, _: u16) -> Result<()> {
        Err(SpreadError::One)
    }

    fn serialize_u32(self, _: u32) -> Result<()> {
        Err(SpreadError::One)
    }

    fn serialize_u64(self, _: u64) -> Result<()> {
        Err(SpreadError::One)
    }

    fn serialize_u128(self, _: u128) -> Result<()> {
        Err(SpreadError::One)
    }

    fn serialize_f32(self, _: f32) -> Result<()> {
        Err(SpreadError::One)
    }

    fn serialize_f64(self, _: f64) -> Result<()> {
        Err(SpreadError::One)
    }

    fn serialize_char(self, _: char) -> Result<()> {
        Err(SpreadError::One)
    }

    fn serialize_str(self, _: &str) -> Result<()> {
        Err(SpreadError::One)
    }

    // Impossible<(), SpreadError> before the text is formatted, which the default would do first.
    fn collect_str<T: fmt::Display + ?Sized>(self, _: &T) -> Result<()> {
        Err(SpreadError::One)
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<()> {
        Err(SpreadError::One)
    }

    fn serialize_none(self) -> Result<()> {
        Err(SpreadError::One)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<()> {
        Err(SpreadError::One)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<()> {
        Err(SpreadError::One)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<()> {
        Err(SpreadError::One)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Impossible<(), SpreadError>> {
        Err(SpreadError::One)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Impossible<(), SpreadError>> {
        Err(SpreadError::One)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Impossible<(), SpreadError>> {
        Err(SpreadError::One)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Impossible<(), SpreadError>> {
        Err(SpreadError::One)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Impossible<(), SpreadError>> {
        Err(SpreadError::One)
    }
}

impl<S: Sink> SerializeTuple for Elements<'_, S> {
    type Ok = ();
    type Error = SpreadError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        self.written = self.written.saturating_add(1);
        Ok(self.sink.argument(value)?)
    }

    fn end(self) -> Result<()> {
        if self.written == self.announced {
            return Ok(());
        }
        Err(SpreadError::Failed(EncodeError::ArgumentCount {
            announced: self.announced,
            written: self.written,
        }))
    }
}

impl<S: Sink> SerializeTupleStruct for Elements<'_, S> {
    type Ok = ();
    type Error = SpreadError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        SerializeTuple::serialize_element(self, value)
    }

    fn end(self) -> Result<()> {
        SerializeTuple::end(self)
    }
}

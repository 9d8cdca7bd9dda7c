//! `socket.io-msgpack-parser`: one map `{type, data, nsp[, id]}` as one binary message. Values outside
//! of packets are public.
//!
//! *Source:* socket.io-msgpack-parser 3.x over notepack.io 2.x; version 2.x of it for protocol 4.

mod date;
mod decode;
mod encode;
mod pass_on;
mod plain;
mod rewrite;
mod token;

pub(crate) use decode::{decode, decode_text};
pub(crate) use encode::{MsgpackSink, connect, connect_error, disconnect};
pub(crate) use pass_on::any_peer_reads;
pub use plain::{elements, read_value, write_value};
pub(crate) use rewrite::without_extensions;
pub(crate) use token::Extensions;

use rmp_serde::config::{DefaultConfig, HumanReadableConfig};
use rmp_serde::decode::ReadRefReader;
use serde::de::{DeserializeSeed, SeqAccess};

/// As deep as serde_json goes.
const MAX_DEPTH: usize = 128;

/// Reads MessagePack that was checked, as readable as JSON: types that have a text form use it.
pub(crate) type Reader<'de> =
    rmp_serde::Deserializer<ReadRefReader<'de, [u8]>, HumanReadableConfig<DefaultConfig>>;

pub(crate) fn reader(data: &[u8]) -> Reader<'_> {
    let mut reader = rmp_serde::Deserializer::from_read_ref(data).with_human_readable();
    reader.set_max_depth(MAX_DEPTH);
    reader
}

/// Values that follow each other, as the elements of a sequence.
pub(crate) struct Arguments<'a, 'de> {
    reader: &'a mut Reader<'de>,
    remaining: u32,
}

impl<'a, 'de> Arguments<'a, 'de> {
    pub(crate) fn new(reader: &'a mut Reader<'de>, count: u32) -> Self {
        Self {
            reader,
            remaining: count,
        }
    }
}

impl<'de> SeqAccess<'de> for Arguments<'_, 'de> {
    type Error = rmp_serde::decode::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Self::Error> {
        let Some(remaining) = self.remaining.checked_sub(1) else {
            return Ok(None);
        };
        self.remaining = remaining;
        seed.deserialize(&mut *self.reader).map(Some)
    }
}

#[cfg(test)]
mod tests;

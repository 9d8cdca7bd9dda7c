//! MessagePack that is no packet: what servers tell each other.

use bytes::Bytes;
use serde::de::DeserializeSeed;

use super::encode::write_value as serialize_value;
use super::reader;
use super::rewrite::without_extensions;
use super::token::{Extensions, Token, Tokens};
use crate::error::DecodeError;
use crate::value::{Value, ValueSeed};

/// Reads one value that fills `data`. Dates become ISO 8601 texts and `undefined` null, as JSON
/// peers would have sent them.
///
/// *Shape:* binary data shares the memory of `data`, or where there are extensions of a copy. The
/// tree takes up to some 32 times the memory of `data`.
///
/// # Errors
/// It is no MessagePack, or nested deeper than 128 levels.
pub fn read_value(data: &Bytes) -> Result<Value, DecodeError> {
    let mut tokens = Tokens::new(data, 0);
    let extensions = tokens
        .skip_value()
        .filter(|_| tokens.is_at_end())
        .ok_or_else(|| DecodeError::Value("no MessagePack".into()))?;
    let plain: Bytes = match extensions {
        Extensions::Absent => data.clone(),
        Extensions::Present => without_extensions(data).into(),
    };
    let seed = ValueSeed {
        attachments: &[],
        source: Some(&plain),
    };
    Ok(seed.deserialize(&mut reader(&plain))?)
}

/// The elements of the array that fills `data`, each in the bytes it is written in; `None` where
/// it is no array of at most `max` elements.
#[must_use]
pub fn elements(data: &Bytes, max: usize) -> Option<Vec<Bytes>> {
    let mut tokens = Tokens::new(data, 0);
    let Token::Array(len) = tokens.next()? else {
        return None;
    };
    let len = usize::try_from(len).ok().filter(|len| *len <= max)?;
    let mut elements = Vec::new();
    for _ in 0..len {
        let start = tokens.at();
        tokens.skip_value()?;
        elements.push(data.slice_ref(data.get(start..tokens.at())?));
    }
    tokens.is_at_end().then_some(elements)
}

/// Appends a value as notepack writes it: numbers in as few bytes as they need, texts, binary data.
pub fn write_value(out: &mut Vec<u8>, value: &Value) {
    let start = out.len();
    // A value can always be written: its lengths are known and its keys are texts.
    if serialize_value(out, value).is_err() {
        out.truncate(start);
        out.push(0xc0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(members: &[(&str, Value)]) -> Value {
        let members = members.iter().cloned();
        Value::Object(
            members
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
        )
    }

    #[test]
    fn what_was_written_is_read() {
        let value = object(&[
            ("a", Value::Null),
            ("b", 7_u64.into()),
            ("c", (-40_000_i64).into()),
            ("d", 1.5.into()),
            ("e", Bytes::from_static(b"\x00\x01").into()),
            ("f", vec!["x".into(), true.into()].into()),
        ]);
        let mut out = Vec::new();
        write_value(&mut out, &value);
        assert_eq!(read_value(&out.into()).unwrap(), value);
    }

    #[test]
    fn numbers_take_as_few_bytes_as_they_need() {
        for (number, bytes) in [
            (7_i64, &[0x07][..]),
            (-1, &[0xff]),
            (200, &[0xcc, 200]),
            (-200, &[0xd1, 0xff, 0x38]),
            (1 << 40, &[0xcf, 0, 0, 1, 0, 0, 0, 0, 0]),
        ] {
            let mut out = Vec::new();
            write_value(&mut out, &number.into());
            assert_eq!(out, bytes, "{number}");
        }
    }

    #[test]
    fn extensions_of_notepack_are_read_as_json_peers_would_write_them() {
        let data = Bytes::from_static(b"\x92\xd4\x00\x00\xd7\x00\x00\x00\x00\x00\x00\x00\x03\xe8");
        let expected = vec![Value::Null, "1970-01-01T00:00:01.000Z".into()];
        assert_eq!(read_value(&data).unwrap(), expected.into());
    }

    #[test]
    fn elements_are_slices() {
        let data = Bytes::from_static(b"\x93\xa1x\x91\x01\x80");
        assert_eq!(
            elements(&data, 3).unwrap(),
            [&b"\xa1x"[..], b"\x91\x01", b"\x80"]
        );
        assert_eq!(elements(&data, 2), None);
        for bad in [
            &b"\x93\xa1x\x91\x01"[..],
            b"\x91\x01\x01",
            b"\x80",
            b"",
            b"\xdd\xff\xff\xff\xff",
        ] {
            assert_eq!(elements(&Bytes::copy_from_slice(bad), 3), None, "{bad:?}");
        }
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for bad in [&b""[..], b"\xc1", b"\x92\x01", b"\x01\x01", b"\xa5abc"] {
            assert!(read_value(&Bytes::copy_from_slice(bad)).is_err(), "{bad:?}");
        }
        let mut deep = vec![0x91; 500];
        deep.push(0xc0);
        assert!(read_value(&deep.into()).is_err());
    }
}

//! Extensions of notepack as the types that JSON peers would send.
//!
//! | Extension | Meaning | Becomes |
//! |---|---|---|
//! | 1 byte of type 0 | `undefined` | nil |
//! | 8 bytes of type 0 | `Date`, milliseconds as one big-endian integer | ISO 8601 text |
//! | type −1 | timestamp of the MessagePack specification | ISO 8601 text |
//! | any other | `ArrayBuffer` (type 0) and what nobody knows | binary |
//!
//! A date is text because `JSON.stringify` makes it one: a type of the server that reads a date
//! from a JSON peer reads the same from a MessagePack peer. A payload that is passed on to MessagePack
//! peers keeps its extensions.

use super::date::iso8601;
use super::token::{Token, Tokens};

/// Copies the values in `bytes`, which were checked, without their extensions.
///
/// *Shape:* at most five times as long: the shortest timestamp grows from 6 bytes to 26.
pub(crate) fn without_extensions(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut tokens = Tokens::new(bytes, 0);
    loop {
        let start = tokens.at();
        match tokens.next() {
            Some(Token::Ext(kind, range)) => {
                let header_len = range.start.saturating_sub(start);
                let content = bytes.get(range).unwrap_or_default();
                write_plain(&mut out, kind, content, header_len);
            }
            Some(
                Token::Nil
                | Token::Bool
                | Token::Unsigned(_)
                | Token::Negative(_)
                | Token::Float(_)
                | Token::Str(_)
                | Token::Bin
                | Token::Array(_)
                | Token::Map(_),
            ) => out.extend_from_slice(bytes.get(start..tokens.at()).unwrap_or_default()),
            None => return out,
        }
    }
}

/// Marker and type: the header of an extension of fixed length. An `ArrayBuffer` has a longer one,
/// whatever its length.
const FIXED_HEADER_LEN: usize = 2;

fn write_plain(out: &mut Vec<u8>, kind: i8, content: &[u8], header_len: usize) {
    let fixed = header_len == FIXED_HEADER_LEN;
    match (kind, content.len()) {
        (0, 1) if fixed => out.push(NIL),
        (0, 8) if fixed => write_date(out, date(content)),
        (-1, 4 | 8 | 12) => write_date(out, timestamp(content)),
        _ => write_bin(out, content),
    }
}

const NIL: u8 = 0xc0;

/// An impossible date is null, as `JSON.stringify` has it.
fn write_date(out: &mut Vec<u8>, ms: Option<i64>) {
    match ms.and_then(iso8601) {
        // At most 27 characters: a short text, whose marker holds the length.
        Some(text) => {
            let len = u8::try_from(text.len()).unwrap_or(0) & 0x1f;
            out.push(0xa0 | len);
            out.extend_from_slice(text.as_bytes());
        }
        None => out.push(NIL),
    }
}

fn write_bin(out: &mut Vec<u8>, content: &[u8]) {
    // The content came behind a length of at most 32 bits.
    let len = u32::try_from(content.len()).unwrap_or(u32::MAX);
    let [b0, b1, b2, b3] = len.to_be_bytes();
    match len {
        0..=0xff => out.extend([0xc4, b3]),
        0x100..=0xffff => out.extend([0xc5, b2, b3]),
        _ => out.extend([0xc6, b0, b1, b2, b3]),
    }
    out.extend_from_slice(content);
}

/// Milliseconds of a `Date`: notepack writes the two halves of one integer.
fn date(content: &[u8]) -> Option<i64> {
    content.try_into().ok().map(i64::from_be_bytes)
}

/// Milliseconds of a timestamp: seconds in 4 bytes; nanoseconds in 30 bits and seconds in 34;
/// nanoseconds in 4 bytes and seconds in 8.
fn timestamp(content: &[u8]) -> Option<i64> {
    let (seconds, nanoseconds) = match *content {
        [a, b, c, d] => (u32::from_be_bytes([a, b, c, d]).into(), 0),
        [a, b, c, d, e, f, g, h] => {
            let packed = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
            let seconds = i64::try_from(packed & 0x3_ffff_ffff).ok()?;
            (seconds, i64::try_from(packed >> 34).ok()?)
        }
        [a, b, c, d, e, f, g, h, i, j, k, l] => (
            i64::from_be_bytes([e, f, g, h, i, j, k, l]),
            u32::from_be_bytes([a, b, c, d]).into(),
        ),
        _ => return None,
    };
    seconds
        .checked_mul(1000)?
        .checked_add(nanoseconds.checked_div(1_000_000)?)
}

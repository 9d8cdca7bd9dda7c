//! MessagePack as a flat row of tokens. There is no nesting to follow, hence no stack to overflow.

use std::ops::Range;

use rmp::Marker;

/// One marker and, for scalars, its content. The items of arrays and maps are tokens of their own.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Nil,
    Bool,
    Unsigned(u64),
    /// Below zero.
    Negative(i64),
    Float(f64),
    /// Text, at these bytes.
    Str(Range<usize>),
    /// Binary data, at these bytes.
    Bin,
    Array(u32),
    Map(u32),
    /// An extension, with its content at these bytes.
    Ext(i8, Range<usize>),
}

impl Token {
    /// How many tokens belong to this one.
    fn children(&self) -> u64 {
        match self {
            Self::Array(len) => u64::from(*len),
            Self::Map(len) => u64::from(*len).saturating_mul(2),
            Self::Nil
            | Self::Bool
            | Self::Unsigned(_)
            | Self::Negative(_)
            | Self::Float(_)
            | Self::Str(_)
            | Self::Bin
            | Self::Ext(..) => 0,
        }
    }
}

/// Whether values have types beyond those of JSON and binary data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extensions {
    Absent,
    Present,
}

/// Reads tokens from the front. `None` where the bytes are no MessagePack or end too early.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tokens<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// Where the next token begins.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// Skips one value with everything inside, and tells whether extensions were among it.
    ///
    /// Every token takes a byte at least, so that a count that lies ends with the bytes.
    pub(super) fn skip_value(&mut self) -> Option<Extensions> {
        let mut missing: u64 = 1;
        let mut extensions = Extensions::Absent;
        while let Some(rest) = missing.checked_sub(1) {
            let token = self.next()?;
            if matches!(token, Token::Ext(..)) {
                extensions = Extensions::Present;
            }
            missing = rest.checked_add(token.children())?;
        }
        Some(extensions)
    }

    pub(super) fn next(&mut self) -> Option<Token> {
        let token = match Marker::from_u8(self.byte()?) {
            Marker::Null => Token::Nil,
            Marker::True | Marker::False => Token::Bool,
            Marker::FixPos(number) => Token::Unsigned(number.into()),
            Marker::FixNeg(number) => Token::Negative(number.into()),
            Marker::U8 => Token::Unsigned(self.unsigned(1)?),
            Marker::U16 => Token::Unsigned(self.unsigned(2)?),
            Marker::U32 => Token::Unsigned(self.unsigned(4)?),
            Marker::U64 => Token::Unsigned(self.unsigned(8)?),
            Marker::I8 => signed(i8::from_be_bytes(self.array()?).into()),
            Marker::I16 => signed(i16::from_be_bytes(self.array()?).into()),
            Marker::I32 => signed(i32::from_be_bytes(self.array()?).into()),
            Marker::I64 => signed(i64::from_be_bytes(self.array()?)),
            Marker::F32 => Token::Float(f32::from_be_bytes(self.array()?).into()),
            Marker::F64 => Token::Float(f64::from_be_bytes(self.array()?)),
            Marker::FixStr(len) => Token::Str(self.take(len.into())?),
            Marker::Str8 => Token::Str(self.sized(1)?),
            Marker::Str16 => Token::Str(self.sized(2)?),
            Marker::Str32 => Token::Str(self.sized(4)?),
            Marker::Bin8 => self.sized(1).map(|_| Token::Bin)?,
            Marker::Bin16 => self.sized(2).map(|_| Token::Bin)?,
            Marker::Bin32 => self.sized(4).map(|_| Token::Bin)?,
            Marker::FixArray(len) => Token::Array(len.into()),
            Marker::Array16 => Token::Array(self.count(2)?),
            Marker::Array32 => Token::Array(self.count(4)?),
            Marker::FixMap(len) => Token::Map(len.into()),
            Marker::Map16 => Token::Map(self.count(2)?),
            Marker::Map32 => Token::Map(self.count(4)?),
            Marker::FixExt1 => self.extension(1)?,
            Marker::FixExt2 => self.extension(2)?,
            Marker::FixExt4 => self.extension(4)?,
            Marker::FixExt8 => self.extension(8)?,
            Marker::FixExt16 => self.extension(16)?,
            Marker::Ext8 => self.sized_extension(1)?,
            Marker::Ext16 => self.sized_extension(2)?,
            Marker::Ext32 => self.sized_extension(4)?,
            Marker::Reserved => return None,
        };
        Some(token)
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]: [u8; 1]| byte)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let range = self.take(N)?;
        self.bytes.get(range)?.try_into().ok()
    }

    /// The next `len` bytes.
    fn take(&mut self, len: usize) -> Option<Range<usize>> {
        let end = self.at.checked_add(len)?;
        if end > self.bytes.len() {
            return None;
        }
        let range = self.at..end;
        self.at = end;
        Some(range)
    }

    /// An unsigned number of `width` bytes.
    fn unsigned(&mut self, width: usize) -> Option<u64> {
        let range = self.take(width)?;
        let bytes = self.bytes.get(range)?;
        Some(bytes.iter().fold(0, |number: u64, &byte| {
            number.wrapping_shl(8) | u64::from(byte)
        }))
    }

    fn count(&mut self, width: usize) -> Option<u32> {
        self.unsigned(width)?.try_into().ok()
    }

    /// Content behind a length of `width` bytes.
    fn sized(&mut self, width: usize) -> Option<Range<usize>> {
        let len = usize::try_from(self.unsigned(width)?).ok()?;
        self.take(len)
    }

    fn extension(&mut self, len: usize) -> Option<Token> {
        let kind = i8::from_be_bytes(self.array()?);
        Some(Token::Ext(kind, self.take(len)?))
    }

    fn sized_extension(&mut self, width: usize) -> Option<Token> {
        let len = usize::try_from(self.unsigned(width)?).ok()?;
        self.extension(len)
    }
}

fn signed(number: i64) -> Token {
    match u64::try_from(number) {
        Ok(number) => Token::Unsigned(number),
        Err(_) => Token::Negative(number),
    }
}

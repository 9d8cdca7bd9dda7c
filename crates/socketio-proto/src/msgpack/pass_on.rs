//! Whether MessagePack of one peer can be handed to the others as it is.

use smallvec::SmallVec;

use super::MAX_DEPTH;
use super::token::{Token, Tokens};

/// An array or map of which items are missing.
struct Level {
    missing: u64,
    is_map: bool,
}

impl Level {
    /// Counts the next item and tells whether it is a key.
    fn next_is_key(&mut self) -> bool {
        let is_key = self.is_map && self.missing.is_multiple_of(2);
        self.missing = self.missing.saturating_sub(1);
        is_key
    }
}

/// Whether no parser gives up on these values, which were checked: texts are UTF-8 (notepack
/// in a browser throws otherwise), keys are texts (Python takes no others), and nothing is nested
/// deeper than it may be here.
pub(crate) fn any_peer_reads(bytes: &[u8]) -> bool {
    let mut tokens = Tokens::new(bytes, 0);
    let mut levels: SmallVec<[Level; 8]> = SmallVec::new();
    while let Some(token) = tokens.next() {
        let is_key = levels.last_mut().is_some_and(Level::next_is_key);
        let level = match token {
            Token::Str(range) => {
                let text = bytes.get(range).unwrap_or_default();
                if std::str::from_utf8(text).is_err() {
                    return false;
                }
                None
            }
            _ if is_key => return false,
            Token::Array(len) => Some(Level {
                missing: len.into(),
                is_map: false,
            }),
            Token::Map(len) => Some(Level {
                missing: u64::from(len).saturating_mul(2),
                is_map: true,
            }),
            Token::Nil
            | Token::Bool
            | Token::Unsigned(_)
            | Token::Negative(_)
            | Token::Float(_)
            | Token::Bin
            | Token::Ext(..) => None,
        };
        levels.extend(level);
        if levels.len() >= MAX_DEPTH {
            return false;
        }
        while levels.last().is_some_and(|level| level.missing == 0) {
            levels.pop();
        }
    }
    true
}

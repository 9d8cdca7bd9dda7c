//! Decisions out of bytes.

use std::sync::OnceLock;
use std::time::Instant;

/// Reads decisions and pieces off the front of an input.
#[derive(Debug)]
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// The next byte; 0 when there is none.
    pub fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// A piece whose length the next byte says, or the rest when that is 255.
    pub fn piece(&mut self) -> &'a [u8] {
        let len = match self.byte() {
            255 => self.0.len(),
            len => usize::from(len).min(self.0.len()),
        };
        let (piece, rest) = self.0.split_at(len);
        self.0 = rest;
        piece
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The moment that all virtual time counts from.
#[allow(
    clippy::disallowed_methods,
    clippy::allow_attributes,
    reason = "an Instant can only be had from the clock; and this file is built with two sets of lints"
)]
pub fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

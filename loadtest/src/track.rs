//! Which numbers of one stream one connection has seen.

use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;

use crate::ledger::Arrival;

/// Hashes the small integers that this tool hands out itself; nobody can choose them badly.
pub type IdHash = BuildHasherDefault<IdHasher>;

/// See [`IdHash`].
#[derive(Clone, Copy, Debug, Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, id: u32) {
        self.write_u64(u64::from(id));
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = (self.0.rotate_left(5) ^ id).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// The numbers seen: all from `from` to `next`, without the holes.
#[derive(Debug, Default)]
pub struct Track {
    from: u32,
    next: u32,
    /// Ascending and apart.
    holes: Vec<Range<u32>>,
}

impl Track {
    /// Enters one number.
    pub fn arrived(&mut self, number: u32) -> Arrival {
        if self.from == self.next {
            (self.from, self.next) = (number, number + 1);
            return Arrival::InOrder;
        }
        if number >= self.next {
            if number > self.next {
                self.holes.push(self.next..number);
            }
            self.next = number + 1;
            return Arrival::InOrder;
        }
        if number < self.from {
            if number + 1 < self.from {
                self.holes.insert(0, number + 1..self.from);
            }
            self.from = number;
            return Arrival::Late;
        }
        let Some(at) = self.hole_of(number) else {
            return Arrival::Duplicate;
        };
        let hole = self.holes[at].clone();
        let parts = [hole.start..number, number + 1..hole.end];
        let parts = parts.into_iter().filter(|part| !part.is_empty());
        self.holes.splice(at..=at, parts);
        Arrival::Late
    }

    fn hole_of(&self, number: u32) -> Option<usize> {
        let at = self.holes.partition_point(|hole| hole.end <= number);
        self.holes
            .get(at)
            .filter(|hole| hole.contains(&number))
            .map(|_| at)
    }

    /// Whether this number was seen.
    #[must_use]
    pub fn has(&self, number: usize) -> bool {
        let Ok(number) = u32::try_from(number) else {
            return false;
        };
        (self.from..self.next).contains(&number) && self.hole_of(number).is_none()
    }

    /// Whether all of these were seen; may say no although they were.
    #[must_use]
    pub fn has_all(&self, numbers: &Range<usize>) -> bool {
        let within = self.from as usize <= numbers.start && numbers.end <= self.next as usize;
        numbers.is_empty() || within && self.holes.is_empty()
    }

    /// Whether any number after this one was seen.
    #[must_use]
    pub fn has_later(&self, number: usize) -> bool {
        self.from < self.next && number + 1 < self.next as usize
    }
}

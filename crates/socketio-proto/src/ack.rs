//! Acks that the server waits for: which, whose, and until when.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Instant;

/// The number that ties an ack to its event.
///
/// *Shape:* decimal digits in JSON packets, an integer in MessagePack; unique per namespace and
/// direction while the ack is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AckId(u64);

impl AckId {
    /// The id with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for AckId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// One ack of one membership: a namespace left and joined again starts a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    membership: u32,
    id: AckId,
}

/// The acks awaited from one peer, each with what the server wants back with it.
///
/// *Shape:* no heap memory while empty.
#[derive(Debug)]
pub(crate) struct AckTable<A> {
    waiting: BTreeMap<Key, Waiting<A>>,
    /// The deadlines of `waiting`, earliest first.
    deadlines: BTreeSet<(Instant, Key)>,
}

#[derive(Debug)]
struct Waiting<A> {
    sink: A,
    deadline: Option<Instant>,
}

impl<A> AckTable<A> {
    pub(crate) const fn new() -> Self {
        Self {
            waiting: BTreeMap::new(),
            deadlines: BTreeSet::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Awaits `id`; gives the sink back when that id is awaited already.
    pub(crate) fn insert(
        &mut self,
        membership: u32,
        id: AckId,
        deadline: Option<Instant>,
        sink: A,
    ) -> Result<(), A> {
        let key = Key { membership, id };
        if self.waiting.contains_key(&key) {
            return Err(sink);
        }
        self.waiting.insert(key, Waiting { sink, deadline });
        self.deadlines
            .extend(deadline.map(|deadline| (deadline, key)));
        Ok(())
    }

    /// The sink of an ack that arrived; `None` when nobody awaits it (any more).
    pub(crate) fn take(&mut self, membership: u32, id: AckId) -> Option<A> {
        self.remove(Key { membership, id })
    }

    /// The sink of one ack of a membership that ended.
    pub(crate) fn take_any(&mut self, membership: u32) -> Option<A> {
        let first = Key {
            membership,
            id: AckId(0),
        };
        let last = Key {
            membership,
            id: AckId(u64::MAX),
        };
        let (&key, _) = self.waiting.range(first..=last).next()?;
        self.remove(key)
    }

    /// The sink of one ack whose deadline is not after `now`.
    pub(crate) fn take_expired(&mut self, now: Instant) -> Option<A> {
        let &(deadline, key) = self.deadlines.first()?;
        if deadline > now {
            return None;
        }
        self.remove(key)
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|&(deadline, _)| deadline)
    }

    /// Empties the table, smallest ids first.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = A> + use<A> {
        self.deadlines.clear();
        std::mem::take(&mut self.waiting)
            .into_values()
            .map(|waiting| waiting.sink)
    }

    fn remove(&mut self, key: Key) -> Option<A> {
        let waiting = self.waiting.remove(&key)?;
        if let Some(deadline) = waiting.deadline {
            self.deadlines.remove(&(deadline, key));
        }
        Some(waiting.sink)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn now() -> Instant {
        crate::client::tests::start()
    }

    #[test]
    fn an_ack_is_taken_once() {
        let mut table = AckTable::new();
        table.insert(0, AckId(1), None, "a").unwrap();
        assert_eq!(table.take(0, AckId(1)), Some("a"));
        assert_eq!(table.take(0, AckId(1)), None);
    }

    #[test]
    fn the_same_id_is_not_awaited_twice() {
        let mut table = AckTable::new();
        table.insert(0, AckId(1), None, "a").unwrap();
        assert_eq!(table.insert(0, AckId(1), None, "b"), Err("b"));
        assert_eq!(table.insert(1, AckId(1), None, "c"), Ok(()));
    }

    #[test]
    fn acks_expire_in_the_order_of_their_deadlines() {
        let mut table = AckTable::new();
        let at = |seconds| now() + Duration::from_secs(seconds);
        table.insert(0, AckId(1), Some(at(2)), "late").unwrap();
        table.insert(0, AckId(2), Some(at(1)), "early").unwrap();
        table.insert(0, AckId(3), None, "never").unwrap();
        assert_eq!(table.next_deadline(), Some(at(1)));
        assert_eq!(table.take_expired(at(0)), None);
        assert_eq!(table.take_expired(at(2)), Some("early"));
        assert_eq!(table.take_expired(at(2)), Some("late"));
        assert_eq!(table.next_deadline(), None);
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn an_ended_membership_gives_up_its_own_acks_only() {
        let mut table = AckTable::new();
        table.insert(7, AckId(1), None, "mine").unwrap();
        table.insert(8, AckId(1), None, "other").unwrap();
        assert_eq!(table.take_any(7), Some("mine"));
        assert_eq!(table.take_any(7), None);
        assert_eq!(table.drain().collect::<Vec<_>>(), ["other"]);
    }
}

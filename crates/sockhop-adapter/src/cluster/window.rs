//! Which broadcasts of the other nodes were seen already.

use std::collections::HashMap;

use crate::bus::NodeId;

/// Numbers that one window remembers: how far copies of one broadcast may be apart.
const SPAN: u64 = 65_536;
const WORDS: usize = (SPAN / 64) as usize;

/// Nodes that are remembered; when there are more, those that are not members are forgotten.
const MAX_NODES: usize = 2_048;

/// Says of each broadcast whether it is new.
///
/// *Shape:* 8 KiB for each node that published to this one.
#[derive(Debug, Default)]
pub(crate) struct Windows(HashMap<NodeId, Window>);

/// The numbers that one node has used lately.
#[derive(Debug)]
struct Window {
    /// One more than the highest number seen.
    end: u64,
    /// Bit `number % SPAN` for each of the `SPAN` numbers below `end`.
    seen: Box<[u64; WORDS]>,
}

impl Windows {
    /// Whether this number of this node was not seen before. One that is older than the window
    /// counts as seen: better lost than twice.
    pub(crate) fn is_new(
        &mut self,
        node: NodeId,
        number: u64,
        is_member: impl Fn(NodeId) -> bool,
    ) -> bool {
        if self.0.len() >= MAX_NODES && !self.0.contains_key(&node) {
            self.0.retain(|&node, _| is_member(node));
        }
        self.0.entry(node).or_default().insert(number)
    }
}

impl Default for Window {
    fn default() -> Self {
        Self {
            end: 0,
            seen: Box::new([0; WORDS]),
        }
    }
}

impl Window {
    fn insert(&mut self, number: u64) -> bool {
        if number >= self.end {
            let skipped = number - self.end;
            if skipped >= SPAN {
                self.seen.fill(0);
            } else {
                for gone in self.end..number {
                    self.set(gone, false);
                }
            }
            self.end = number.saturating_add(1);
            self.set(number, true);
            return true;
        }
        if self.end - number > SPAN || self.get(number) {
            return false;
        }
        self.set(number, true);
        true
    }

    fn get(&self, number: u64) -> bool {
        let (word, bit) = place(number);
        self.seen[word] & bit != 0
    }

    fn set(&mut self, number: u64, seen: bool) {
        let (word, bit) = place(number);
        match seen {
            true => self.seen[word] |= bit,
            false => self.seen[word] &= !bit,
        }
    }
}

fn place(number: u64) -> (usize, u64) {
    let place = number % SPAN;
    ((place / 64) as usize, 1 << (place % 64))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn is_new(windows: &mut Windows, node: u64, number: u64) -> bool {
        windows.is_new(NodeId::new(node), number, |_| true)
    }

    #[test]
    fn each_number_of_each_node_is_new_once() {
        let mut windows = Windows::default();
        for number in [0, 1, 5, 3, SPAN + 3] {
            assert!(is_new(&mut windows, 1, number), "{number}");
            assert!(!is_new(&mut windows, 1, number), "{number}");
        }
        assert!(is_new(&mut windows, 2, 5));
    }

    #[test]
    fn what_is_older_than_the_window_counts_as_seen() {
        let mut windows = Windows::default();
        assert!(is_new(&mut windows, 1, 3 * SPAN));
        assert!(!is_new(&mut windows, 1, 2 * SPAN));
        assert!(is_new(&mut windows, 1, 2 * SPAN + 1));
        assert!(is_new(&mut windows, 1, u64::MAX - 1));
    }

    #[test]
    fn strangers_are_forgotten_when_there_are_too_many() {
        let mut windows = Windows::default();
        for node in 0..2 * MAX_NODES as u64 {
            assert!(windows.is_new(NodeId::new(node), 0, |node| node.number() == 0));
        }
        assert!(windows.0.len() <= MAX_NODES);
        assert!(!is_new(&mut windows, 0, 0));
    }

    proptest! {
        #[test]
        fn within_the_window_it_does_what_a_set_does(
            numbers in proptest::collection::vec(0..SPAN, 1..200),
        ) {
            let mut windows = Windows::default();
            let mut model = HashSet::new();
            for number in numbers {
                prop_assert_eq!(is_new(&mut windows, 1, number), model.insert(number));
            }
        }
    }
}

//! A queue that needs no heap while it holds at most one item.

use std::collections::VecDeque;

/// First in, first out.
///
/// Nearly always an item is taken before the next one comes; ten thousand idle sessions should not
/// keep ten thousand ring buffers for the other times.
#[derive(Debug)]
pub(super) struct Fifo<T> {
    first: Option<T>,
    /// Empty whenever `first` is.
    rest: VecDeque<T>,
}

/// Memory that an empty queue may keep for the next burst.
const KEPT_BYTES: usize = 128;

impl<T> Default for Fifo<T> {
    fn default() -> Self {
        Self {
            first: None,
            rest: VecDeque::new(),
        }
    }
}

impl<T> Fifo<T> {
    pub(super) fn push(&mut self, item: T) {
        if self.first.is_none() {
            self.first = Some(item);
        } else {
            self.rest.push_back(item);
        }
    }

    pub(super) fn push_first(&mut self, item: T) {
        if let Some(second) = self.first.replace(item) {
            self.rest.push_front(second);
        }
    }

    /// The queue must not be empty.
    pub(super) fn push_second(&mut self, item: T) {
        self.rest.push_front(item);
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        let item = self.first.take()?;
        self.first = self.rest.pop_front();
        let kept_bytes = self.rest.capacity().saturating_mul(size_of::<T>());
        if self.rest.is_empty() && kept_bytes > KEPT_BYTES {
            self.rest = VecDeque::new();
        }
        Some(item)
    }

    /// Keeps the items of which `keep` says so; asks in order.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        let first_stays = self.first.as_ref().is_none_or(&mut keep);
        self.rest.retain(keep);
        if !first_stays {
            self.first = self.rest.pop_front();
        }
    }

    pub(super) fn front(&self) -> Option<&T> {
        self.first.as_ref()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.first.iter().chain(&self.rest)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_leave_in_the_order_in_which_they_came() {
        let mut fifo = Fifo::default();
        fifo.push(1);
        fifo.push(2);
        assert_eq!(fifo.pop(), Some(1));
        fifo.push(3);
        assert_eq!(fifo.front(), Some(&2));
        assert_eq!(fifo.iter().copied().collect::<Vec<_>>(), [2, 3]);
        assert_eq!(
            [fifo.pop(), fifo.pop(), fifo.pop()],
            [Some(2), Some(3), None]
        );
        assert!(fifo.is_empty());
    }

    #[test]
    fn what_is_kept_stays_in_order() {
        let mut fifo = Fifo::default();
        (1..=6).for_each(|item| fifo.push(item));
        fifo.retain(|item| item % 2 == 0);
        assert_eq!(fifo.iter().copied().collect::<Vec<_>>(), [2, 4, 6]);
        fifo.retain(|_| false);
        assert!(fifo.is_empty());
    }

    #[test]
    fn a_burst_leaves_no_large_buffer_behind() {
        let mut fifo = Fifo::default();
        for item in 0..1000_u64 {
            fifo.push(item);
        }
        while fifo.pop().is_some() {}
        assert_eq!(fifo.rest.capacity(), 0);
        fifo.push(1);
        assert_eq!(fifo.rest.capacity(), 0);
    }
}

//! What has arrived and waits for the one task that takes it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// What a waiting item costs besides its bytes.
pub(super) const ENTRY_OVERHEAD_BYTES: usize = 64;

/// A queue of what a bus received, bounded in bytes, with one reader: the task that drives the node.
#[derive(Debug)]
pub struct Inbox<T> {
    queue: Mutex<Queue<T>>,
    limit: usize,
    size: fn(&T) -> usize,
}

#[derive(Debug)]
struct Queue<T> {
    items: Vec<T>,
    bytes: usize,
    waker: Option<Waker>,
}

impl<T> Inbox<T> {
    /// An empty queue of at most `limit` bytes; each item counts as its `size` and a little more.
    pub fn new(limit: usize, size: fn(&T) -> usize) -> Self {
        Self {
            queue: Mutex::new(Queue {
                items: Vec::new(),
                bytes: 0,
                waker: None,
            }),
            limit,
            size,
        }
    }

    /// Whether the item found room.
    pub fn push(&self, item: T) -> bool {
        self.extend(std::iter::once(item)) == 0
    }

    /// Takes all items in and says how many found no room. One lock and one wake for all of them.
    pub fn extend(&self, items: impl IntoIterator<Item = T>) -> usize {
        let mut refused = 0;
        let mut queue = self.lock();
        let before = queue.items.len();
        for item in items {
            let cost = (self.size)(&item) + ENTRY_OVERHEAD_BYTES;
            if queue.bytes + cost <= self.limit {
                queue.bytes += cost;
                queue.items.push(item);
            } else {
                refused += 1;
            }
        }
        if queue.items.len() == before {
            return refused;
        }
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
        refused
    }

    /// Takes everything, or registers the reader to be woken.
    pub fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Vec<T>> {
        let mut queue = self.lock();
        if !queue.items.is_empty() {
            queue.bytes = 0;
            return Poll::Ready(std::mem::take(&mut queue.items));
        }
        let registered = |waker: &Waker| waker.will_wake(cx.waker());
        if !queue.waker.as_ref().is_some_and(registered) {
            let replaced = queue.waker.replace(cx.waker().clone());
            // Dropping a waker may drop a whole task: not while this is locked.
            drop(queue);
            drop(replaced);
        }
        Poll::Pending
    }

    /// Bytes that wait, with the overhead of each item.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(inbox: &Inbox<Vec<u8>>) -> Vec<Vec<u8>> {
        match inbox.poll_take(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(items) => items,
            Poll::Pending => Vec::new(),
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_and_the_rest_keeps_its_order() {
        let inbox = Inbox::new(2 * (10 + ENTRY_OVERHEAD_BYTES), Vec::len);
        let items = [vec![1; 10], vec![2; 11], vec![3; 10], vec![4; 10]];
        assert_eq!(inbox.extend(items), 2);
        assert_eq!(take(&inbox), [vec![1; 10], vec![3; 10]]);
        assert_eq!(inbox.bytes(), 0);
        assert!(inbox.push(vec![5; 11]));
    }
}

//! What has arrived and waits for the one task that takes it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// What a queued item costs besides its bytes.
pub(super) const ENTRY_OVERHEAD_BYTES: usize = 64;

/// A queue bounded in bytes, with one reader.
#[derive(Debug)]
pub(super) struct Inbox<T>(Mutex<Queue<T>>);

#[derive(Debug)]
struct Queue<T> {
    items: Vec<T>,
    bytes: usize,
    waker: Option<Waker>,
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        Self(Mutex::new(Queue {
            items: Vec::new(),
            bytes: 0,
            waker: None,
        }))
    }
}

impl<T> Inbox<T> {
    /// Adds an item of this many bytes. False: the queue is full.
    pub(super) fn push(&self, item: T, bytes: usize, max_bytes: usize) -> bool {
        let cost = bytes + ENTRY_OVERHEAD_BYTES;
        let waker = {
            let mut queue = self.lock();
            if queue.bytes + cost > max_bytes {
                return false;
            }
            queue.bytes += cost;
            queue.items.push(item);
            queue.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Takes everything, or registers the reader to be woken.
    pub(super) fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Vec<T>> {
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

    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

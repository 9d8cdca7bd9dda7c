//! One budget for what waits for all clients together, whoever is slow.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engineio_proto::CloseReason;

use crate::mailbox::{Mail, Mailbox};

/// Sessions that hold less are not looked at, and changes below it are not told: those who keep up
/// never touch what all share.
const GRAIN_BYTES: usize = 4 * 1024;

/// A budget in bytes over the outboxes of all sessions; clones share it, over several mounts.
///
/// *Shape:* when it is exceeded the newest sessions among those that something waits for are closed
/// until it is not: who came last before a flood is likely to be part of it, and loses least. Bytes of
/// a broadcast count for each session that has not taken them, though they are in memory once.
#[derive(Clone)]
pub struct MemoryBudget(Arc<Inner>);

struct Inner {
    limit_bytes: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    held_bytes: usize,
    /// By the order in which their sessions were opened.
    holders: BTreeMap<u64, Holder>,
}

struct Holder {
    bytes: usize,
    mailbox: Mailbox,
}

/// One session's part in a budget, given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: MemoryBudget,
    number: u64,
    told_bytes: usize,
}

impl MemoryBudget {
    /// A budget of which nothing is used.
    #[must_use]
    pub fn new(limit_bytes: usize) -> Self {
        Self(Arc::new(Inner {
            limit_bytes,
            state: Mutex::default(),
        }))
    }

    /// Bytes that wait for sessions that do not keep up.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.state().held_bytes
    }

    /// The share of a new session.
    pub(crate) fn share(&self) -> Share {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        drop(state);
        Share {
            budget: self.clone(),
            number,
            told_bytes: 0,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remove(&mut self, number: u64) {
        if let Some(holder) = self.holders.remove(&number) {
            self.held_bytes -= holder.bytes;
        }
    }
}

impl Share {
    /// Says what waits for the session now.
    pub(crate) fn tell(&mut self, bytes: usize, mailbox: &Mailbox) {
        let bytes = if bytes < GRAIN_BYTES { 0 } else { bytes };
        if bytes == self.told_bytes || (bytes > 0 && bytes.abs_diff(self.told_bytes) < GRAIN_BYTES)
        {
            return;
        }
        self.told_bytes = bytes;
        let mut shed = Vec::new();
        let mut state = self.budget.state();
        state.remove(self.number);
        if bytes > 0 {
            let mailbox = mailbox.clone();
            state.held_bytes += bytes;
            state.holders.insert(self.number, Holder { bytes, mailbox });
        }
        while state.held_bytes > self.budget.0.limit_bytes
            && let Some((_, newest)) = state.holders.pop_last()
        {
            state.held_bytes -= newest.bytes;
            shed.push(newest.mailbox);
        }
        // Waking a task under a lock would be a lock order of its own.
        drop(state);
        for mailbox in shed {
            mailbox.send(Mail::Close(CloseReason::MemoryBudget));
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.told_bytes > 0 {
            self.budget.state().remove(self.number);
        }
    }
}

impl fmt::Debug for MemoryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBudget")
            .field("limit_bytes", &self.0.limit_bytes)
            .field("held_bytes", &self.held_bytes())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use sockhop_outbox::Taken;

    use super::*;

    const KIB: usize = 1024;

    fn was_closed(mailbox: &Mailbox) -> bool {
        let taken = mailbox.poll_take(&mut Context::from_waker(Waker::noop()));
        matches!(taken, Poll::Ready(Taken::Items(_)))
    }

    #[test]
    fn the_newest_that_something_waits_for_go_first() {
        let budget = MemoryBudget::new(100 * KIB);
        let mut sessions: Vec<_> = (0..4).map(|_| (budget.share(), Mailbox::new())).collect();
        let mut tell = |index: usize, bytes| {
            let (share, mailbox) = &mut sessions[index];
            share.tell(bytes, mailbox);
        };
        // The last one keeps up.
        tell(3, 1_000);
        tell(1, 40 * KIB);
        tell(2, 40 * KIB);
        assert_eq!(budget.held_bytes(), 80 * KIB);
        tell(0, 40 * KIB);
        assert_eq!(budget.held_bytes(), 80 * KIB);
        let closed: Vec<_> = sessions
            .iter()
            .map(|(_, mailbox)| was_closed(mailbox))
            .collect();
        assert_eq!(closed, [false, false, true, false]);
        drop(sessions);
        assert_eq!(budget.held_bytes(), 0);
    }

    #[test]
    fn one_session_that_is_over_the_budget_alone_is_closed() {
        let budget = MemoryBudget::new(10 * KIB);
        let (mut share, mailbox) = (budget.share(), Mailbox::new());
        share.tell(11 * KIB, &mailbox);
        assert!(was_closed(&mailbox));
        assert_eq!(budget.held_bytes(), 0);
        // Its last words are not counted twice.
        share.tell(12 * KIB, &mailbox);
        drop(share);
        assert_eq!(budget.held_bytes(), 0);
    }
}

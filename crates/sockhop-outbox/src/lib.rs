//! A byte-budgeted queue between any thread and one session.
//!
//! Anybody who knows an [`Outbox`] may push into it, without ever waiting; the one task that owns
//! the session takes everything out at once. What was pushed stays charged to the session's budget
//! until the owner [refunds](Outbox::refund) it, which it does when the bytes have left the
//! process. A peer that reads too slowly therefore overflows its own budget and harms nobody else.
//!
//! - One lock, one waker, both inside; the waker is called after the lock was released.
//! - Items come out in the order in which they went in.
//! - An empty outbox holds no queue memory: one item has room inside, more move to the heap, and
//!   the owner takes that memory away together with the items.
//! - Items that [give way](Outbox::push_yielding) never overflow the budget. Who makes room for
//!   them is the owner, who knows what waits where; until its turn comes the outbox takes as much
//!   again, and then lets the oldest of them go itself.
//!
//! # Contract of the owner
//! Call [`Outbox::poll_take`] until it is `Pending`: only then is the next push sure to ring. An
//! owner that stops earlier (to be fair to other tasks) wakes itself. [`Outbox::take`] looks without
//! going to sleep.

use std::fmt;
use std::sync::PoisonError;
use std::task::{Context, Poll, Waker};

use smallvec::SmallVec;

#[cfg(loom)]
use loom::sync::{Arc, Mutex, MutexGuard};
#[cfg(not(loom))]
use std::sync::{Arc, Mutex, MutexGuard};

/// Control items that may wait in one outbox, unless [`Outbox::with_max_controls`] says otherwise.
pub const DEFAULT_MAX_CONTROLS: u32 = 4096;

/// Room made when a second item arrives: a burst up to this size costs one allocation.
const BURST_SLOTS: usize = 16;

/// The queue of one session: a shared handle, as cheap to clone as an `Arc`.
///
/// *Shape:* any number of pushing threads, one owner. Locks nest inside every other lock of the
/// project: no code of anybody else runs while an outbox is locked.
pub struct Outbox<T>(Arc<Shared<T>>);

struct Shared<T> {
    budget_bytes: usize,
    max_controls: u32,
    state: Mutex<State<T>>,
}

/// ```text
///          push over budget            close
///   Open ───────────────────▶ Overflowed ────▶ Closed
///     └──────────────────── close ──────────────▲
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    Overflowed,
    Closed,
}

struct State<T> {
    queue: SmallVec<[T; 1]>,
    /// Bytes pushed and not refunded yet, whether still in the queue or already with the owner.
    charged_bytes: usize,
    /// Whom to wake. It stays while the owner is awake, so that going to sleep again is cheap.
    waker: Option<Waker>,
    /// Whether the owner sleeps, that is whether it found the queue empty and has not looked since.
    asleep: bool,
    queued_controls: u32,
    phase: Phase,
    writable: bool,
    /// Whether an item that gives way was ever pushed: from then on the owner is asked to make
    /// room before anything overflows.
    lenient: bool,
    /// Whether something is over the budget that does not give way.
    must_fit: bool,
    /// Items that gave way in here since the owner last looked.
    displaced: u32,
}

/// What became of a pushed item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a refused item is to be counted"]
pub enum Push {
    /// It will reach the owner, unless it gives way.
    Queued,
    /// It was volatile and the transport was not ready: dropped, and the session goes on.
    Dropped,
    /// It would have exceeded the budget, or an earlier item did: dropped, and the owner was rung
    /// to close the session.
    Overflow,
    /// The session has ended: dropped.
    Closed,
}

/// What the owner finds in its outbox.
#[derive(Debug)]
pub enum Taken<T> {
    /// Everything that was queued: at least one item, or [`Items::demand`] asks for room.
    Items(Items<T>),
    /// A push exceeded the budget. Nothing is queued any more; the owner is expected to
    /// [close](Outbox::close). What was queued before comes back from there.
    Overflowed,
    /// Somebody closed the outbox.
    Closed,
}

/// Items taken out of an outbox, oldest first.
pub struct Items<T> {
    queue: SmallVec<[T; 1]>,
    demand: Demand,
    displaced: u32,
}

/// What an outbox over its budget asks of its owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Demand {
    /// Nothing: it is within its budget.
    #[default]
    None,
    /// To let go what gives way until the budget is kept, as far as that is possible.
    MakeRoom,
    /// The same, and to end the session where it is not.
    MakeRoomOrEnd,
}

impl<T> Outbox<T> {
    /// An empty outbox that takes `budget_bytes` before it overflows.
    #[must_use]
    pub fn new(budget_bytes: usize) -> Self {
        Self::with_max_controls(budget_bytes, DEFAULT_MAX_CONTROLS)
    }

    /// An empty outbox in which at most `max_controls` control items may wait at any time.
    #[must_use]
    pub fn with_max_controls(budget_bytes: usize, max_controls: u32) -> Self {
        Self(Arc::new(Shared {
            budget_bytes,
            max_controls,
            state: Mutex::new(State {
                queue: SmallVec::new(),
                charged_bytes: 0,
                waker: None,
                asleep: false,
                queued_controls: 0,
                phase: Phase::Open,
                writable: false,
                lenient: false,
                must_fit: false,
                displaced: 0,
            }),
        }))
    }

    /// Queues `item` and charges `bytes` for it.
    ///
    /// One item larger than the whole budget passes if nothing at all is charged at the moment.
    pub fn push(&self, item: T, bytes: usize) -> Push {
        let budget_bytes = self.0.budget_bytes;
        self.enqueue(item, |state| state.charge(bytes, budget_bytes))
    }

    /// Queues `item` only if it would leave at once: the owner declared itself writable and
    /// nothing waits before it. Never overflows.
    pub fn push_volatile(&self, item: T, bytes: usize) -> Push {
        let budget_bytes = self.0.budget_bytes;
        self.enqueue(item, |state| {
            if !state.writable || !state.queue.is_empty() || !state.fits(bytes, budget_bytes) {
                return Push::Dropped;
            }
            state.charge(bytes, budget_bytes)
        })
    }

    /// Queues `item` if it would leave at once, as [`Self::push_volatile`], and also while less than
    /// a quarter of the budget is charged. It has to be one that gives way. Never overflows.
    pub fn push_patient(&self, item: T, bytes: usize) -> Push {
        let budget_bytes = self.0.budget_bytes;
        self.enqueue(item, |state| {
            let leaves_now = state.writable && state.queue.is_empty();
            let fits = match leaves_now {
                true => state.fits(bytes, budget_bytes),
                false => state.charged_bytes.saturating_add(bytes) <= budget_bytes / 4,
            };
            if !fits {
                return Push::Dropped;
            }
            state.lenient = true;
            state.charge(bytes, budget_bytes)
        })
    }

    /// Queues `item`, which gives way: over the budget the owner is asked to let go of the oldest
    /// such items until it fits. Never overflows.
    ///
    /// *Shape:* `gives_way` says of an item in the queue what it is charged with if it may be let go;
    /// it is only asked when twice the budget is charged, because the owner had no turn for so
    /// long. Then all but the newest items of half the budget go at once, so that this costs
    /// little for each push, and the owner hears their [number](Items::displaced).
    pub fn push_yielding(
        &self,
        item: T,
        bytes: usize,
        gives_way: impl Fn(&T) -> Option<usize>,
    ) -> Push {
        let budget_bytes = self.0.budget_bytes;
        let most_bytes = budget_bytes.saturating_mul(2);
        let mut gone = Vec::new();
        let push = self.enqueue(item, |state| {
            state.lenient = true;
            if !state.fits(bytes, budget_bytes) {
                if state.charged_bytes.saturating_add(bytes) > most_bytes {
                    gone = state.displace(budget_bytes / 2, gives_way);
                }
                if state.charged_bytes.saturating_add(bytes) > most_bytes {
                    state.displaced = state.displaced.saturating_add(1);
                    return Push::Dropped;
                }
            }
            state.charged_bytes = state.charged_bytes.saturating_add(bytes);
            Push::Queued
        });
        // Not while it is locked.
        drop(gone);
        match push {
            // Counted by the owner, like all that give way.
            Push::Dropped => Push::Queued,
            Push::Queued | Push::Overflow | Push::Closed => push,
        }
    }

    /// Queues `item` free of charge: a request to the owner instead of bytes for the peer. Their
    /// number is limited, and exceeding it is an overflow.
    pub fn push_control(&self, item: T) -> Push {
        let max_controls = self.0.max_controls;
        self.enqueue(item, |state| {
            if state.queued_controls >= max_controls {
                state.phase = Phase::Overflowed;
                return Push::Overflow;
            }
            state.queued_controls += 1;
            Push::Queued
        })
    }

    /// Charges `bytes` that the owner sends past the queue, so that [`Self::refund`] may be called
    /// alike for everything that leaves. Queues nothing.
    pub fn charge(&self, bytes: usize) -> Push {
        let mut state = self.lock();
        match state.phase {
            Phase::Open => state.charge(bytes, self.0.budget_bytes),
            Phase::Overflowed => Push::Overflow,
            Phase::Closed => Push::Closed,
        }
    }

    /// Ends the outbox: later pushes answer [`Push::Closed`]. Returns what was still queued.
    pub fn close(&self) -> Items<T> {
        let (items, asleep, waker) = {
            let mut state = self.lock();
            state.phase = Phase::Closed;
            let asleep = std::mem::take(&mut state.asleep);
            (self.take_items(&mut state), asleep, state.waker.take())
        };
        if let Some(waker) = waker.filter(|_| asleep) {
            waker.wake();
        }
        items
    }

    /// For the owner: takes out everything at once, or registers to be woken by the next push.
    ///
    /// *Shape:* call it again until it is `Pending`. [`Taken::Overflowed`] and [`Taken::Closed`]
    /// are final states and answer every further call.
    pub fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Taken<T>> {
        let mut state = self.lock();
        match state.phase {
            Phase::Open => {}
            Phase::Overflowed => return Poll::Ready(Taken::Overflowed),
            Phase::Closed => return Poll::Ready(Taken::Closed),
        }
        if state.has_news() {
            return Poll::Ready(Taken::Items(self.take_items(&mut state)));
        }
        state.asleep = true;
        let registered = |waker: &Waker| waker.will_wake(cx.waker());
        if !state.waker.as_ref().is_some_and(registered) {
            let replaced = state.waker.replace(cx.waker().clone());
            // Dropping a waker may drop a whole task: not while this is locked.
            drop(state);
            drop(replaced);
        }
        Poll::Pending
    }

    /// For the owner: takes out everything at once without going to sleep. What is pushed from now
    /// on does not ring, so that an owner who pushes into its own outbox does not wake itself.
    ///
    /// *Shape:* `None` when there is nothing. [`Self::poll_take`] must follow before the owner
    /// waits for anything.
    #[must_use]
    pub fn take(&self) -> Option<Taken<T>> {
        let mut state = self.lock();
        state.asleep = false;
        match state.phase {
            Phase::Open if !state.has_news() => None,
            Phase::Open => Some(Taken::Items(self.take_items(&mut state))),
            Phase::Overflowed => Some(Taken::Overflowed),
            Phase::Closed => Some(Taken::Closed),
        }
    }

    /// For the owner: `bytes` charged earlier have left the process or were thrown away.
    pub fn refund(&self, bytes: usize) {
        let mut state = self.lock();
        state.charged_bytes = state.charged_bytes.saturating_sub(bytes);
    }

    /// For the owner: whether a message taken out now would leave at once. False at the beginning.
    pub fn set_writable(&self, writable: bool) {
        self.lock().writable = writable;
    }

    /// Whether the session has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.lock().phase == Phase::Closed
    }

    /// Bytes charged and not refunded yet, those that the owner holds included.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.lock().charged_bytes
    }

    /// Bytes charged over the budget.
    #[must_use]
    pub fn excess_bytes(&self) -> usize {
        let charged_bytes = self.lock().charged_bytes;
        charged_bytes.saturating_sub(self.0.budget_bytes)
    }

    fn take_items(&self, state: &mut State<T>) -> Items<T> {
        let over = state.lenient && state.charged_bytes > self.0.budget_bytes;
        let must_fit = std::mem::take(&mut state.must_fit);
        state.queued_controls = 0;
        Items {
            queue: std::mem::take(&mut state.queue),
            demand: match (over, must_fit) {
                (false, _) => Demand::None,
                (true, false) => Demand::MakeRoom,
                (true, true) => Demand::MakeRoomOrEnd,
            },
            displaced: std::mem::take(&mut state.displaced),
        }
    }

    /// Queues `item` if `admit` agrees, and rings a sleeping owner if there is news for it.
    fn enqueue(&self, item: T, admit: impl FnOnce(&mut State<T>) -> Push) -> Push {
        let (push, waker) = {
            let mut state = self.lock();
            match state.phase {
                Phase::Open => {}
                Phase::Overflowed => return Push::Overflow,
                Phase::Closed => return Push::Closed,
            }
            let push = admit(&mut state);
            match push {
                Push::Queued => {
                    state.append(item);
                    (push, state.ring())
                }
                Push::Overflow => (push, state.ring()),
                Push::Dropped if state.displaced > 0 => (push, state.ring()),
                Push::Dropped | Push::Closed => (push, None),
            }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        push
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing in here can stop half way, so the state is whole even after a panic.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn fits(&self, bytes: usize, budget_bytes: usize) -> bool {
        let total = self.charged_bytes.saturating_add(bytes);
        self.charged_bytes == 0 || total <= budget_bytes
    }

    fn charge(&mut self, bytes: usize, budget_bytes: usize) -> Push {
        if !self.fits(bytes, budget_bytes) {
            return self.charge_over(bytes, budget_bytes);
        }
        self.charged_bytes += bytes;
        Push::Queued
    }

    /// Charges what does not fit if the owner may be able to make room for it.
    #[cold]
    fn charge_over(&mut self, bytes: usize, budget_bytes: usize) -> Push {
        let total = self.charged_bytes.saturating_add(bytes);
        if !self.lenient || total > budget_bytes.saturating_mul(3) {
            self.phase = Phase::Overflowed;
            return Push::Overflow;
        }
        self.must_fit = true;
        self.charged_bytes = total;
        Push::Queued
    }

    /// Takes out what gives way, oldest first, until no more than `keep_bytes` of it are left.
    #[cold]
    fn displace(&mut self, keep_bytes: usize, gives_way: impl Fn(&T) -> Option<usize>) -> Vec<T> {
        let mut excess = self.queue.iter().filter_map(&gives_way).sum::<usize>();
        excess = excess.saturating_sub(keep_bytes);
        let mut gone = Vec::new();
        for item in std::mem::take(&mut self.queue) {
            match gives_way(&item).filter(|_| excess > 0) {
                Some(bytes) => {
                    excess = excess.saturating_sub(bytes);
                    self.charged_bytes = self.charged_bytes.saturating_sub(bytes);
                    gone.push(item);
                }
                None => self.queue.push(item),
            }
        }
        let count = u32::try_from(gone.len()).unwrap_or(u32::MAX);
        self.displaced = self.displaced.saturating_add(count);
        gone
    }

    /// Whether there is something that the owner has not seen.
    fn has_news(&self) -> bool {
        !self.queue.is_empty() || self.must_fit || self.displaced > 0
    }

    fn append(&mut self, item: T) {
        if self.queue.len() == self.queue.inline_size() {
            self.queue.reserve(BURST_SLOTS - 1);
        }
        self.queue.push(item);
    }

    /// The waker of a sleeping owner, who is awake from now on.
    fn ring(&mut self) -> Option<Waker> {
        if std::mem::take(&mut self.asleep) {
            self.waker.take()
        } else {
            None
        }
    }
}

impl<T> Clone for Outbox<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Outbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Outbox")
            .field("queued", &state.queue.len())
            .field("charged_bytes", &state.charged_bytes)
            .field("budget_bytes", &self.0.budget_bytes)
            .field("closed", &(state.phase == Phase::Closed))
            .finish_non_exhaustive()
    }
}

impl<T> Items<T> {
    /// How many items these are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether there is nothing in here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// What the outbox asked of its owner when these were taken out.
    #[must_use]
    pub fn demand(&self) -> Demand {
        self.demand
    }

    /// How many items gave way before the owner saw them. All that the owner still holds and that
    /// gives way is older than those.
    #[must_use]
    pub fn displaced(&self) -> u32 {
        self.displaced
    }
}

impl<T> IntoIterator for Items<T> {
    type Item = T;
    type IntoIter = IntoItems<T>;

    fn into_iter(self) -> IntoItems<T> {
        IntoItems(self.queue.into_iter())
    }
}

impl<T> fmt::Debug for Items<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Items({})", self.len())
    }
}

/// Iterator over [`Items`], oldest first.
pub struct IntoItems<T>(smallvec::IntoIter<[T; 1]>);

impl<T> Iterator for IntoItems<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<T> ExactSizeIterator for IntoItems<T> {}

impl<T> fmt::Debug for IntoItems<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IntoItems({})", self.len())
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

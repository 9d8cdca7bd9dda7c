//! Answers to a broadcast that asks for acks.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use socketio_proto::Payload;

use crate::recipient::SocketId;

/// Collects the acks of one broadcast.
///
/// *Shape:* one [`AckSlot`] for each recipient. The result is there when every slot was answered
/// or dropped, or when [`Self::finish`] was called. It holds no timer: deadlines are kept by the
/// sessions, which drop their slots, and by whoever calls `finish`.
///
/// ```text
///   Open ── all slots handed out ──▶ Sealed ── no slot left ──▶ Finished
///     └──────────────── finish ────────┴──────── finish ──────────▲
/// ```
pub struct AckCollector {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    phase: Phase,
    answers: VecDeque<(SocketId, Payload)>,
    /// Whether somebody waits for each answer, rather than for all of them.
    one_by_one: bool,
    expected: usize,
    /// Slots neither answered nor dropped.
    outstanding: usize,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    /// Slots are being handed out.
    #[default]
    Open,
    Sealed,
    Finished,
}

/// What came of a broadcast that asked for acks.
#[derive(Clone, Debug, Default)]
pub struct AckResponses {
    /// The answers, in the order in which they came.
    pub answers: Vec<(SocketId, Payload)>,
    /// How many sockets were asked.
    pub expected: usize,
}

impl AckResponses {
    /// How many sockets were asked and did not answer.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.expected.saturating_sub(self.answers.len())
    }
}

/// The place for the ack of one socket. Dropped without an answer, it is reported as missed.
#[derive(Debug)]
pub struct AckSlot {
    socket: SocketId,
    /// Empty once the answer was given.
    collector: Option<Arc<AckCollector>>,
}

impl AckCollector {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
        })
    }

    /// A place for the ack of `socket`.
    pub(crate) fn slot(self: &Arc<Self>, socket: SocketId) -> AckSlot {
        let mut state = self.lock();
        state.expected += 1;
        state.outstanding += 1;
        AckSlot {
            socket,
            collector: Some(Arc::clone(self)),
        }
    }

    /// No more slots will follow.
    pub(crate) fn seal(&self) {
        self.update(|state| {
            if state.phase == Phase::Open {
                state.phase = Phase::Sealed;
            }
        });
    }

    /// Ends the wait: what has come so far is the result, later acks are ignored.
    pub fn finish(&self) {
        self.update(|state| state.phase = Phase::Finished);
    }

    /// The answers, once they are complete or [`Self::finish`] was called.
    ///
    /// *Shape:* they are given out once; a further call finds none.
    pub fn poll_responses(&self, cx: &mut Context<'_>) -> Poll<AckResponses> {
        let mut state = self.lock();
        if !state.is_complete() {
            let replaced = state.waker.replace(cx.waker().clone());
            // Dropping a waker may drop a whole task: not while this is locked.
            drop(state);
            drop(replaced);
            return Poll::Pending;
        }
        state.phase = Phase::Finished;
        Poll::Ready(AckResponses {
            answers: std::mem::take(&mut state.answers).into(),
            expected: state.expected,
        })
    }

    /// The next answer, as soon as it is there; `None` once none will come any more.
    pub fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<(SocketId, Payload)>> {
        let mut state = self.lock();
        if let Some(answer) = state.answers.pop_front() {
            return Poll::Ready(Some(answer));
        }
        if state.is_complete() {
            return Poll::Ready(None);
        }
        state.one_by_one = true;
        let replaced = state.waker.replace(cx.waker().clone());
        drop(state);
        drop(replaced);
        Poll::Pending
    }

    /// Waits for [`Self::poll_next`].
    pub async fn next(&self) -> Option<(SocketId, Payload)> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// How many sockets were asked so far.
    #[must_use]
    pub fn expected(&self) -> usize {
        self.lock().expected
    }

    /// Waits for [`Self::poll_responses`].
    pub fn responses(self: Arc<Self>) -> impl Future<Output = AckResponses> + Send + Unpin {
        poll_fn(move |cx| self.poll_responses(cx))
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        let waker = {
            let mut state = self.lock();
            change(&mut state);
            state
                .is_worth_waking()
                .then(|| state.waker.take())
                .flatten()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No change stops half way, so the state is whole even after a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_worth_waking(&self) -> bool {
        self.is_complete() || (self.one_by_one && !self.answers.is_empty())
    }

    fn is_complete(&self) -> bool {
        match self.phase {
            Phase::Open => false,
            Phase::Sealed => self.outstanding == 0,
            Phase::Finished => true,
        }
    }
}

impl AckSlot {
    /// The socket that is asked.
    #[must_use]
    pub fn socket(&self) -> &SocketId {
        &self.socket
    }

    /// The ack has come.
    pub fn answer(mut self, payload: Payload) {
        let Some(collector) = self.collector.take() else {
            return;
        };
        let socket = self.socket.clone();
        collector.update(|state| {
            state.outstanding -= 1;
            if state.phase != Phase::Finished {
                state.answers.push_back((socket, payload));
            }
        });
    }
}

impl Drop for AckSlot {
    fn drop(&mut self) {
        if let Some(collector) = self.collector.take() {
            collector.update(|state| state.outstanding -= 1);
        }
    }
}

impl fmt::Debug for AckCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("AckCollector")
            .field("expected", &state.expected)
            .field("outstanding", &state.outstanding)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use socketio_proto::{Args, Value};

    use super::*;

    #[derive(Default)]
    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn poll(collector: &AckCollector) -> Option<AckResponses> {
        match collector.poll_responses(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(responses) => Some(responses),
            Poll::Pending => None,
        }
    }

    fn payload(text: &str) -> Payload {
        Payload::from_args(Args(vec![Value::String(text.into())]))
    }

    #[test]
    fn the_last_answer_completes_the_result() {
        let collector = AckCollector::new();
        let slots = ["a", "b"].map(|id| collector.slot(id.into()));
        collector.seal();
        let [a, b] = slots;
        b.answer(payload("from b"));
        assert!(poll(&collector).is_none());
        a.answer(payload("from a"));
        let responses = poll(&collector).unwrap();
        assert_eq!((responses.expected, responses.missing()), (2, 0));
        let order: Vec<&str> = responses
            .answers
            .iter()
            .map(|(id, _)| id.as_str())
            .collect();
        assert_eq!(order, ["b", "a"]);
        assert_eq!(responses.answers[0].1.decode::<String>().unwrap(), "from b");
    }

    #[test]
    fn nothing_is_complete_while_slots_are_handed_out() {
        let collector = AckCollector::new();
        collector.slot("a".into()).answer(payload("early"));
        assert!(poll(&collector).is_none());
        collector.seal();
        assert_eq!(poll(&collector).unwrap().answers.len(), 1);
    }

    #[test]
    fn a_dropped_slot_counts_as_missed_and_wakes_the_waiting_task() {
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(Arc::clone(&bell));
        let collector = AckCollector::new();
        let slot = collector.slot("a".into());
        collector.seal();
        let mut responses = collector.responses();
        let mut cx = Context::from_waker(&waker);
        assert!(Future::poll(std::pin::pin!(&mut responses), &mut cx).is_pending());
        drop(slot);
        assert_eq!(bell.0.load(Ordering::Relaxed), 1);
        let Poll::Ready(responses) = Future::poll(std::pin::pin!(&mut responses), &mut cx) else {
            panic!("not complete");
        };
        assert_eq!((responses.expected, responses.missing()), (1, 1));
    }

    #[test]
    fn answers_can_be_taken_one_by_one() {
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(Arc::clone(&bell));
        let mut cx = Context::from_waker(&waker);
        let collector = AckCollector::new();
        let [a, b] = ["a", "b"].map(|id| collector.slot(id.into()));
        collector.seal();
        assert_eq!(collector.expected(), 2);
        assert!(collector.poll_next(&mut cx).is_pending());
        a.answer(payload("from a"));
        assert_eq!(bell.0.load(Ordering::Relaxed), 1);
        assert!(
            matches!(collector.poll_next(&mut cx), Poll::Ready(Some((id, _))) if id.as_str() == "a")
        );
        assert!(collector.poll_next(&mut cx).is_pending());
        drop(b);
        assert_eq!(bell.0.load(Ordering::Relaxed), 2);
        assert!(matches!(collector.poll_next(&mut cx), Poll::Ready(None)));
    }

    #[test]
    fn finishing_returns_what_has_come_so_far() {
        let collector = AckCollector::new();
        let [a, b] = ["a", "b"].map(|id| collector.slot(id.into()));
        collector.seal();
        a.answer(payload("in time"));
        collector.finish();
        let responses = poll(&collector).unwrap();
        assert_eq!((responses.answers.len(), responses.missing()), (1, 1));
        b.answer(payload("late"));
        assert!(poll(&collector).unwrap().answers.is_empty());
    }

    #[test]
    fn a_broadcast_to_nobody_is_complete_at_once() {
        let collector = AckCollector::new();
        collector.seal();
        assert_eq!(poll(&collector).unwrap().expected, 0);
    }
}

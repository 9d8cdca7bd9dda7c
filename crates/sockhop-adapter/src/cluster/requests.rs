//! Queries of this node that other nodes have to answer.

use std::collections::{BTreeSet, HashMap};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::answer::Answer;
use crate::bus::NodeId;

/// When a node counts as heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Enough {
    /// With its first answer: what is still missing are sockets, not nodes.
    First,
    /// With its last.
    Last,
}

/// What has come of a query.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// In the order in which they came.
    pub(crate) answers: Vec<Answer>,
    /// The nodes that were not heard in time.
    pub(crate) missing: Vec<NodeId>,
}

/// The queries that wait for answers.
///
/// *Inputs:* `begin`, `handle_answer`, `handle_gone`, `handle_timeout`, `forget`. *Outputs:* `poll`,
/// `poll_timeout`, and `take_woken` after every input.
///
/// A query is answered when every node has given its last answer, is gone, or its time is up.
#[derive(Debug)]
pub(crate) struct Requests {
    pending: HashMap<u64, Pending>,
    /// The deadlines of `pending`, earliest first.
    deadlines: BTreeSet<(Instant, u64)>,
    limit: usize,
    woken: Vec<Waker>,
}

#[derive(Debug)]
struct Pending {
    deadline: Instant,
    enough: Enough,
    /// Nodes that have not given their last answer, and whether they have given any.
    waiting: Vec<(NodeId, bool)>,
    answers: Answers,
    waker: Option<Waker>,
}

impl Requests {
    /// No queries yet, and never more than `limit`.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            pending: HashMap::new(),
            deadlines: BTreeSet::new(),
            limit,
            woken: Vec::new(),
        }
    }

    /// Waits for these nodes to answer the query of this number. False: there are too many.
    pub(crate) fn begin(
        &mut self,
        request: u64,
        nodes: &[NodeId],
        deadline: Instant,
        enough: Enough,
    ) -> bool {
        if self.pending.len() >= self.limit {
            return false;
        }
        self.deadlines.insert((deadline, request));
        let pending = Pending {
            deadline,
            enough,
            waiting: nodes.iter().map(|&node| (node, false)).collect(),
            answers: Answers::default(),
            waker: None,
        };
        self.pending.insert(request, pending);
        true
    }

    /// A node answers. False: nobody waits for that any more.
    pub(crate) fn handle_answer(
        &mut self,
        node: NodeId,
        request: u64,
        last: bool,
        answer: Answer,
    ) -> bool {
        let Some(pending) = self.pending.get_mut(&request) else {
            return false;
        };
        let waiting = pending.waiting.iter().position(|&(it, _)| it == node);
        let Some(index) = waiting else {
            return false;
        };
        pending.answers.answers.push(answer);
        match last {
            true => drop(pending.waiting.remove(index)),
            false => pending.waiting[index].1 = true,
        }
        pending.wake_if_complete(&mut self.woken);
        true
    }

    /// A node cannot be reached with this query.
    pub(crate) fn miss(&mut self, request: u64, node: NodeId) {
        if let Some(pending) = self.pending.get_mut(&request) {
            pending.lose(node, &mut self.woken);
        }
    }

    /// A node is gone: it will not answer any more.
    pub(crate) fn handle_gone(&mut self, node: NodeId) {
        for pending in self.pending.values_mut() {
            pending.lose(node, &mut self.woken);
        }
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(deadline, request)) = self.deadlines.first()
            && deadline <= now
        {
            self.deadlines.pop_first();
            if let Some(pending) = self.pending.get_mut(&request) {
                for (node, heard) in std::mem::take(&mut pending.waiting) {
                    pending.note(node, heard);
                }
                pending.wake_if_complete(&mut self.woken);
            }
        }
    }

    /// What has come of a query, once it is answered. Given out once.
    pub(crate) fn poll(&mut self, request: u64, cx: &mut Context<'_>) -> Poll<Answers> {
        let Some(pending) = self.pending.get_mut(&request) else {
            return Poll::Ready(Answers::default());
        };
        if !pending.waiting.is_empty() {
            let replaced = pending.waker.replace(cx.waker().clone());
            // Woken or dropped where nothing is locked: dropping a waker may drop a whole task.
            self.woken
                .extend(replaced.filter(|old| !old.will_wake(cx.waker())));
            return Poll::Pending;
        }
        let answers = std::mem::take(&mut pending.answers);
        self.forget(request);
        Poll::Ready(answers)
    }

    /// Nobody wants to know any more.
    pub(crate) fn forget(&mut self, request: u64) {
        if let Some(pending) = self.pending.remove(&request) {
            self.deadlines.remove(&(pending.deadline, request));
            self.woken.extend(pending.waker);
        }
    }

    /// How many queries wait.
    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|&(deadline, _)| deadline)
    }

    /// Who is to be woken, once nothing is locked.
    pub(crate) fn take_woken(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.woken)
    }
}

impl Pending {
    fn lose(&mut self, node: NodeId, woken: &mut Vec<Waker>) {
        if let Some(index) = self.waiting.iter().position(|&(it, _)| it == node) {
            let (_, heard) = self.waiting.remove(index);
            self.note(node, heard);
            self.wake_if_complete(woken);
        }
    }

    /// A node will not give its last answer any more.
    fn note(&mut self, node: NodeId, heard: bool) {
        if !heard || self.enough == Enough::Last {
            self.answers.missing.push(node);
        }
    }

    fn wake_if_complete(&mut self, woken: &mut Vec<Waker>) {
        if self.waiting.is_empty() {
            woken.extend(self.waker.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use testkit::Clock;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn nodes(numbers: &[u64]) -> Vec<NodeId> {
        numbers.iter().copied().map(NodeId::new).collect()
    }

    fn poll(requests: &mut Requests, request: u64) -> Option<Answers> {
        match requests.poll(request, &mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answers) => Some(answers),
            Poll::Pending => None,
        }
    }

    fn answer(requests: &mut Requests, node: u64, last: bool) -> bool {
        requests.handle_answer(NodeId::new(node), 7, last, Answer::Count(1))
    }

    fn asked(clock: &Clock, enough: Enough) -> Requests {
        let mut requests = Requests::new(1);
        let deadline = clock.after(5 * SECOND);
        assert!(requests.begin(7, &nodes(&[1, 2, 3]), deadline, enough));
        assert!(poll(&mut requests, 7).is_none());
        requests
    }

    #[test]
    fn it_is_answered_when_every_node_has_given_its_last_answer() {
        let clock = Clock::new();
        let mut requests = asked(&clock, Enough::Last);
        assert!(answer(&mut requests, 1, true) && answer(&mut requests, 2, true));
        assert!(answer(&mut requests, 3, false));
        assert!(poll(&mut requests, 7).is_none());
        assert!(answer(&mut requests, 3, true));
        let answers = poll(&mut requests, 7).unwrap();
        assert_eq!((answers.answers.len(), answers.missing.len()), (4, 0));
        assert_eq!(requests.poll_timeout(), None);
        assert!(!answer(&mut requests, 3, true), "nobody waits");
    }

    #[test]
    fn what_came_in_time_comes_with_the_nodes_that_are_missing() {
        let mut clock = Clock::new();
        let mut requests = asked(&clock, Enough::Last);
        answer(&mut requests, 1, true);
        answer(&mut requests, 2, false);
        assert_eq!(requests.poll_timeout(), Some(clock.after(5 * SECOND)));
        clock.advance(5 * SECOND);
        requests.handle_timeout(clock.now());
        let answers = poll(&mut requests, 7).unwrap();
        assert_eq!(answers.missing, nodes(&[2, 3]));
        assert_eq!(answers.answers.len(), 2);
    }

    #[test]
    fn where_the_first_answer_is_enough_only_silent_nodes_are_missing() {
        let mut clock = Clock::new();
        let mut requests = asked(&clock, Enough::First);
        answer(&mut requests, 1, false);
        answer(&mut requests, 2, true);
        clock.advance(5 * SECOND);
        requests.handle_timeout(clock.now());
        assert_eq!(poll(&mut requests, 7).unwrap().missing, nodes(&[3]));
    }

    #[test]
    fn a_node_that_is_gone_is_not_waited_for() {
        let clock = Clock::new();
        let mut requests = asked(&clock, Enough::Last);
        answer(&mut requests, 1, true);
        answer(&mut requests, 2, true);
        requests.handle_gone(NodeId::new(9));
        requests.handle_gone(NodeId::new(3));
        assert_eq!(poll(&mut requests, 7).unwrap().missing, nodes(&[3]));
    }

    #[test]
    fn the_table_is_limited_and_what_is_forgotten_makes_room() {
        let clock = Clock::new();
        let mut requests = asked(&clock, Enough::Last);
        let mut begin = |number| requests.begin(number, &[], clock.now(), Enough::Last);
        assert!(!begin(8));
        requests.forget(7);
        assert!(requests.begin(8, &nodes(&[1]), clock.now(), Enough::Last));
        assert_eq!(requests.len(), 1);
    }
}

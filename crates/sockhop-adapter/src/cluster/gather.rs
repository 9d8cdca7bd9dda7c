//! Answers of several sources, as one.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use smallvec::SmallVec;

use super::answer::Answer;
use super::core::Cluster;
use super::requests::Answers;
use crate::ack::AckResponses;
use crate::bus::{NodeId, Wait};
use crate::foreign::ForeignAnswer;

/// What came in time of all that the cluster was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gathered<T> {
    /// What came.
    pub found: T,
    /// The nodes that did not answer in time, or are gone.
    pub missing: Vec<NodeId>,
    /// How many servers of other makes did not answer in time.
    pub missing_foreign: usize,
}

impl<T> Gathered<T> {
    /// Whether everybody answered.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.missing_foreign == 0
    }

    /// The same about something made of what came.
    pub fn map<R>(self, f: impl FnOnce(T) -> R) -> Gathered<R> {
        Gathered {
            found: f(self.found),
            missing: self.missing,
            missing_foreign: self.missing_foreign,
        }
    }
}

/// What came, without who is missing.
impl<T> std::ops::Deref for Gathered<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.found
    }
}

impl<T> IntoIterator for Gathered<Vec<T>> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.found.into_iter()
    }
}

/// What can be put together from several answers.
pub trait Merge: Default + Send + Unpin + 'static {
    /// Adds what another one found.
    fn merge(&mut self, other: Self);
}

impl<T: Send + Unpin + 'static> Merge for Vec<T> {
    fn merge(&mut self, other: Self) {
        self.extend(other);
    }
}

impl Merge for usize {
    fn merge(&mut self, other: Self) {
        *self += other;
    }
}

impl Merge for AckResponses {
    fn merge(&mut self, other: Self) {
        self.answers.extend(other.answers);
        self.expected += other.expected;
    }
}

/// Answers under way. What was asked for has been sent already, whether this is awaited or not.
///
/// *Shape:* ends when everybody has answered or [`Cluster::handle_timeout`] was called at the
/// [deadline](Self::deadline).
#[must_use = "the answers come here"]
pub struct Gathering<T> {
    total: Gathered<T>,
    parts: SmallVec<[Wait<Gathered<T>>; 2]>,
    deadline: Option<Instant>,
}

impl<T: Merge> Gathering<T> {
    /// What was found here, and nothing more to come.
    pub(crate) fn here(found: T) -> Self {
        Self {
            total: Gathered {
                found,
                missing: Vec::new(),
                missing_foreign: 0,
            },
            parts: SmallVec::new(),
            deadline: None,
        }
    }

    /// Waits for other nodes, too. `read` adds one answer to what was found.
    pub(crate) fn and_nodes(mut self, call: Call, read: fn(&mut T, Answer)) -> Self {
        self.deadline = Some(call.deadline);
        self.parts.push(Box::pin(async move {
            let Answers { answers, missing } = call.await;
            let mut found = T::default();
            answers
                .into_iter()
                .for_each(|answer| read(&mut found, answer));
            Gathered {
                found,
                missing,
                missing_foreign: 0,
            }
        }));
        self
    }

    /// Waits for servers of other makes, too.
    pub(crate) fn and_foreign(self, answer: Option<Wait<ForeignAnswer<T>>>) -> Self {
        match answer {
            None => self,
            Some(answer) => self.and(async move {
                let ForeignAnswer { found, missing } = answer.await;
                Gathered {
                    found,
                    missing: Vec::new(),
                    missing_foreign: missing,
                }
            }),
        }
    }

    /// Waits for something else, too.
    pub(crate) fn and(mut self, part: impl Future<Output = Gathered<T>> + Send + 'static) -> Self {
        self.parts.push(Box::pin(part));
        self
    }

    /// When it has to end. `None`: nobody else was asked.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
}

impl<T: Merge> Future for Gathering<T> {
    type Output = Gathered<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Gathered<T>> {
        let Self { total, parts, .. } = &mut *self;
        parts.retain(|part| match part.as_mut().poll(cx) {
            Poll::Pending => true,
            Poll::Ready(more) => {
                total.found.merge(more.found);
                total.missing.extend(more.missing);
                total.missing_foreign += more.missing_foreign;
                false
            }
        });
        match parts.is_empty() {
            false => Poll::Pending,
            true => Poll::Ready(std::mem::take(total)),
        }
    }
}

impl<T> fmt::Debug for Gathering<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gathering")
            .field("waiting_for", &self.parts.len())
            .finish_non_exhaustive()
    }
}

/// A query of this node under way. Dropping it forgets the query.
#[derive(Debug)]
pub(crate) struct Call {
    cluster: Arc<Cluster>,
    deadline: Instant,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The query of this number waits.
    Waiting(u64),
    /// Nobody has to be waited for.
    Done(Answers),
}

impl Call {
    pub(crate) fn waiting(cluster: Arc<Cluster>, deadline: Instant, request: u64) -> Self {
        Self {
            cluster,
            deadline,
            state: State::Waiting(request),
        }
    }

    /// A query that reached none of these nodes.
    pub(crate) fn failed(cluster: Arc<Cluster>, deadline: Instant, missing: Vec<NodeId>) -> Self {
        let answers = Answers {
            answers: Vec::new(),
            missing,
        };
        Self {
            cluster,
            deadline,
            state: State::Done(answers),
        }
    }
}

impl Future for Call {
    type Output = Answers;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answers> {
        match &mut self.state {
            State::Done(answers) => Poll::Ready(std::mem::take(answers)),
            State::Waiting(request) => {
                let request = *request;
                let polled = self
                    .cluster
                    .with_requests(|requests| requests.poll(request, cx));
                if let Poll::Ready(answers) = &polled {
                    let missing = answers.missing.len();
                    self.cluster.stats().missing_answers.add(missing);
                    self.state = State::Done(Answers::default());
                }
                polled
            }
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let State::Waiting(request) = self.state {
            self.cluster
                .with_requests(|requests| requests.forget(request));
        }
    }
}

//! Questions to other servers, and what came back.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use socketio_proto::{Args, Value};

use super::DialectLimits;
use crate::recipient::{RemoteSocketInfo, Room};

/// What one server, or one client of it, answered.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The sockets of one server.
    Sockets(Vec<RemoteSocketInfo>),
    /// The rooms of one server.
    Rooms(Vec<Room>),
    /// What the handler of one server returned to a server-side emit.
    Emitted(Value),
    /// How many clients of one server were asked for an ack. It is not given out, only counted.
    Asked(u64),
    /// The ack of one client. Servers of Node.js tell only its first argument.
    Ack(Args),
}

/// The questions of this node that wait for answers.
#[derive(Debug)]
pub(super) struct Questions {
    max_questions: usize,
    max_answers: usize,
    state: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    open: HashMap<u64, Arc<Answers>>,
}

/// A question that was asked. Dropping it ends the wait; later answers are ignored.
///
/// *Shape:* no timer; whoever waits bounds the wait and then asks what is [missing](Self::missing).
#[derive(Debug)]
pub struct Question {
    number: u64,
    answers: Arc<Answers>,
    questions: Arc<Questions>,
}

/// Who has not answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// Servers.
    pub servers: usize,
    /// Clients whose server said that they were asked.
    pub clients: u64,
}

struct Answers {
    state: Mutex<Collected>,
}

#[derive(Default)]
struct Collected {
    queue: VecDeque<Answer>,
    /// Servers that will answer, once that is known.
    servers: Option<usize>,
    answered: usize,
    asked: u64,
    acks: u64,
    waker: Option<Waker>,
}

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Yes,
    /// Nobody asked.
    NotAsked,
    /// Too many are waiting already.
    Full,
}

impl Questions {
    pub(super) fn new(limits: &DialectLimits) -> Arc<Self> {
        Arc::new(Self {
            max_questions: limits.max_questions,
            max_answers: limits.max_answers,
            state: Mutex::default(),
        })
    }

    /// A question. `None`: too many are open.
    pub(super) fn open(self: &Arc<Self>) -> Option<Question> {
        let answers = Arc::new(Answers {
            state: Mutex::default(),
        });
        let mut state = self.lock();
        if state.open.len() >= self.max_questions {
            return None;
        }
        let number = state.next;
        state.next += 1;
        state.open.insert(number, Arc::clone(&answers));
        Some(Question {
            number,
            answers,
            questions: Arc::clone(self),
        })
    }

    /// Whether nobody waits for anything.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().open.is_empty()
    }

    pub(super) fn answer(&self, number: u64, answer: Answer) -> Taken {
        let answers = self.lock().open.get(&number).cloned();
        answers.map_or(Taken::NotAsked, |answers| {
            answers.take(answer, self.max_answers)
        })
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answers {
    fn take(&self, answer: Answer, max: usize) -> Taken {
        self.change(|state| state.take(answer, max))
    }

    fn change<R>(&self, change: impl FnOnce(&mut Collected) -> R) -> R {
        let (result, waker) = {
            let mut state = self.lock();
            (change(&mut state), state.waker.take())
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, Collected> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collected {
    fn take(&mut self, answer: Answer, max: usize) -> Taken {
        match &answer {
            Answer::Asked(clients) => {
                self.answered += 1;
                self.asked = self.asked.saturating_add(*clients);
                return Taken::Yes;
            }
            Answer::Ack(_) => self.acks = self.acks.saturating_add(1),
            Answer::Sockets(_) | Answer::Rooms(_) | Answer::Emitted(_) => {
                self.answered += 1;
            }
        }
        if self.queue.len() >= max {
            return Taken::Full;
        }
        self.queue.push_back(answer);
        Taken::Yes
    }

    /// As long as nobody knows how many servers there are, one is missing.
    fn missing(&self) -> Missing {
        let servers = self.servers;
        Missing {
            servers: servers.map_or(1, |servers| servers.saturating_sub(self.answered)),
            clients: self.asked.saturating_sub(self.acks),
        }
    }
}

impl Question {
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Tells how many servers will answer. Without this there is no end to the question.
    pub fn expect(&self, servers: usize) {
        self.answers.change(|state| state.servers = Some(servers));
    }

    /// The next answer; `None` when there is nobody left to wait for.
    pub fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Answer>> {
        let mut state = self.answers.lock();
        if let Some(answer) = state.queue.pop_front() {
            return Poll::Ready(Some(answer));
        }
        if state.missing() == Missing::default() {
            return Poll::Ready(None);
        }
        let replaced = state.waker.replace(cx.waker().clone());
        // Dropping a waker may drop a whole task: not while this is locked.
        drop(state);
        drop(replaced);
        Poll::Pending
    }

    /// Waits for [`Self::poll_next`].
    pub async fn next(&self) -> Option<Answer> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Who has not answered so far.
    #[must_use]
    pub fn missing(&self) -> Missing {
        self.answers.lock().missing()
    }

    /// How many clients were asked for an ack, as far as their servers have said.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.answers.lock().asked
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.questions.lock().open.remove(&self.number);
    }
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Answers")
            .field("waiting", &state.queue.len())
            .field("missing", &state.missing())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(question: &Question) -> Poll<Option<Answer>> {
        question.poll_next(&mut Context::from_waker(Waker::noop()))
    }

    fn questions() -> Arc<Questions> {
        Questions::new(&DialectLimits {
            max_questions: 2,
            max_answers: 2,
            ..DialectLimits::default()
        })
    }

    #[test]
    fn a_question_ends_when_every_server_has_answered() {
        let questions = questions();
        let question = questions.open().unwrap();
        let number = question.number();
        assert!(poll(&question).is_pending());
        assert_eq!(question.missing().servers, 1);
        questions.answer(number, Answer::Rooms(vec!["a".into()]));
        assert!(matches!(
            poll(&question),
            Poll::Ready(Some(Answer::Rooms(_)))
        ));
        assert!(poll(&question).is_pending());
        question.expect(2);
        assert!(poll(&question).is_pending());
        assert_eq!(question.missing().servers, 1);
        questions.answer(number, Answer::Rooms(Vec::new()));
        assert!(poll(&question).is_ready());
        assert!(matches!(poll(&question), Poll::Ready(None)));
    }

    #[test]
    fn acks_are_waited_for_as_the_servers_count_them() {
        let questions = questions();
        let question = questions.open().unwrap();
        question.expect(1);
        questions.answer(question.number(), Answer::Asked(2));
        assert!(poll(&question).is_pending());
        questions.answer(question.number(), Answer::Ack(Args::default()));
        assert!(poll(&question).is_ready());
        assert!(poll(&question).is_pending());
        let missing = Missing {
            servers: 0,
            clients: 1,
        };
        assert_eq!((question.missing(), question.asked()), (missing, 2));
    }

    #[test]
    fn what_nobody_asked_is_ignored() {
        let questions = questions();
        let question = questions.open().unwrap();
        let number = question.number();
        assert_eq!(
            questions.answer(number + 1, Answer::Asked(1)),
            Taken::NotAsked
        );
        drop(question);
        assert_eq!(questions.answer(number, Answer::Asked(1)), Taken::NotAsked);
        assert!(questions.is_empty());
    }

    #[test]
    fn questions_and_answers_are_bounded() {
        let questions = questions();
        let question = questions.open().unwrap();
        let _other = questions.open().unwrap();
        assert!(questions.open().is_none());
        for expected in [Taken::Yes, Taken::Yes, Taken::Full] {
            let answer = Answer::Rooms(Vec::new());
            assert_eq!(questions.answer(question.number(), answer), expected);
        }
    }
}

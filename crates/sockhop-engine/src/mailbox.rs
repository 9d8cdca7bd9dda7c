//! How requests reach the task of their session.

use std::task::{Context, Poll};

use bytes::Bytes;
use engineio_proto::{Body, BodyKind, CloseReason, Detached, Refusal, RequestError};
use sockhop_outbox::{Outbox, Push, Taken};
use tokio::sync::oneshot;

use crate::transports::Upgrading;

/// Requests that may wait for a session's task. More than that is abuse: a client has one GET,
/// one POST and one WebSocket under way.
const MAX_WAITING: usize = 64;

/// A request on its way to its session.
#[derive(Debug)]
pub(crate) enum Mail {
    /// A GET that waits for packets.
    Poll { reply: oneshot::Sender<PollReply> },
    /// The head of a POST arrived; `done` is answered after its body.
    PostStart { done: oneshot::Sender<PostReply> },
    /// The body of the POST under way, or why there is none.
    PostBody {
        kind: BodyKind,
        body: Result<Bytes, Detached>,
    },
    /// A POST whose head and body came together.
    Post {
        kind: BodyKind,
        body: Result<Bytes, Detached>,
        done: oneshot::Sender<PostReply>,
    },
    /// A WebSocket that wants to take over; its 101 answer is on the way.
    WebSocket { upgrade: Upgrading },
    /// The server ends the session.
    Close(CloseReason),
}

/// The answer to a GET.
#[derive(Debug)]
pub(crate) enum PollReply {
    Body(Body),
    Refused(Refused),
}

/// The answer to a POST.
pub(crate) type PostReply = Result<(), Refused>;

/// How a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// 400 with the JSON body of this error.
    Error(RequestError),
    /// 400 with an empty body.
    Empty,
}

/// The way to a session's task.
#[derive(Clone, Debug)]
pub(crate) struct Mailbox(Outbox<Mail>);

impl Mailbox {
    pub(crate) fn new() -> Self {
        Self(Outbox::new(MAX_WAITING))
    }

    /// Whether the mail is on its way; a session that is gone or overwhelmed takes none.
    pub(crate) fn send(&self, mail: Mail) -> bool {
        matches!(self.0.push(mail, 1), Push::Queued)
    }

    /// All mail that waits, for the session's task.
    pub(crate) fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Taken<Mail>> {
        let taken = self.0.poll_take(cx);
        if let Poll::Ready(Taken::Items(mail)) = &taken {
            self.0.refund(mail.len());
        }
        taken
    }

    pub(crate) fn close(&self) {
        // The requests in it are answered by their replies being dropped.
        drop(self.0.close());
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::BadRequest(error) => Self::Error(error),
            Refusal::Empty => Self::Empty,
        }
    }
}

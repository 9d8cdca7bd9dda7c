//! How requests reach the task of their session.

use std::task::{Context, Poll};

use bytes::Bytes;
use engineio_proto::{Body, BodyKind, CloseReason, Detached, Refusal, RequestError};
use sockhop_outbox::{Outbox, Push, Taken};
use tokio::sync::oneshot;

use crate::Metrics;
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

    /// Takes no more mail. The requests in it are refused by being dropped.
    pub(crate) fn close(&self, metrics: &Metrics) {
        for mail in self.0.close() {
            if let Mail::WebSocket { .. } = mail {
                metrics.upgrade_refused();
            }
        }
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

#[cfg(test)]
mod tests {
    use prometheus::{Registry, TextEncoder};
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::websocket::{Switched, Unanswered};

    /// A WebSocket that waits for its 101 answer, and its client.
    async fn websocket() -> (Mail, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
        let connection = Switched {
            tcp: server.unwrap().0,
            held: Bytes::from_static(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
            unread: Bytes::new(),
        };
        let upgrade = Upgrading::Here(Unanswered::new(connection));
        (Mail::WebSocket { upgrade }, client.unwrap())
    }

    async fn assert_refused(mut client: TcpStream) {
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
            "{answer}"
        );
        assert!(answer.ends_with("\r\n\r\nSession ID unknown"), "{answer}");
    }

    #[tokio::test]
    async fn a_websocket_that_waits_for_a_session_that_ends_is_refused_and_counted() {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        let mailbox = Mailbox::new();
        let (mail, client) = websocket().await;
        assert!(mailbox.send(mail));
        mailbox.close(&metrics);
        assert_refused(client).await;
        let text = TextEncoder::new().encode_to_string(&registry.gather());
        let text = text.unwrap();
        assert!(text.contains("result=\"refused\"} 1\n"), "{text}");
    }

    #[tokio::test]
    async fn a_websocket_for_a_session_that_takes_no_mail_is_refused() {
        let metrics = Metrics::register(&Registry::new()).unwrap();
        let mailbox = Mailbox::new();
        mailbox.close(&metrics);
        let (mail, client) = websocket().await;
        assert!(!mailbox.send(mail));
        assert_refused(client).await;
    }
}

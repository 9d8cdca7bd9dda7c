//! POSTs of a polling session: the body is collected here and judged by the session.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use engineio_proto::{BodyKind, Detached, RequestError, payload};
use http_body_util::BodyExt;
use tokio::sync::oneshot;

use crate::head::Head;
use crate::mailbox::{Mail, PostReply};
use crate::registry::Entry;
use crate::response::{self, Answer, Headers};
use crate::service::Refusal;

/// What is read and dropped of a body that is too large, and for how long: a sender that writes
/// before it reads would otherwise find its connection reset instead of the answer, and so would a
/// balancer between the two.
pub(crate) const LINGER_BYTES: usize = 16 << 20;
pub(crate) const LINGER: Duration = Duration::from_secs(1);

/// A POST whose head was read.
#[derive(Debug)]
pub(crate) struct Post {
    entry: Entry,
    kind: BodyKind,
    max_bytes: usize,
    /// The head says that the body is over the limit.
    too_long: bool,
    /// Who asks first whether to send has sent nothing yet.
    asks_first: bool,
    pub(crate) cors: Headers,
}

impl Post {
    pub(crate) fn new(head: Head<'_>, entry: Entry, cors: Headers, max_bytes: usize) -> Self {
        Self {
            entry,
            kind: body_kind(head),
            max_bytes,
            too_long: head.body_len().is_some_and(|len| len > max_bytes as u64),
            asks_first: head.asks_first(),
            cors,
        }
    }

    pub(crate) fn is_too_long(&self) -> bool {
        self.too_long
    }

    /// Hands over a POST of which all is here.
    pub(crate) async fn whole(&self, body: Result<Bytes, Detached>) -> Result<Answer, Refusal> {
        let (done, answer) = oneshot::channel();
        let kind = self.kind;
        let too_large = matches!(body, Err(Detached::TooLarge));
        let body = self.unwrap_form(body);
        self.send(Mail::Post { kind, body, done })?;
        if too_large {
            return Err(Refusal::TooLarge);
        }
        finish(answer.await)
    }

    /// Hands over the head at once, so that the session notices a second POST and can end a stalled
    /// one, then the body.
    pub(crate) async fn coming(
        &self,
        body: impl Future<Output = Result<Bytes, Detached>>,
    ) -> Result<Answer, Refusal> {
        let (done, mut answer) = oneshot::channel();
        self.send(Mail::PostStart { done })?;
        let body = tokio::select! {
            body = body => body,
            answer = &mut answer => return finish(answer),
        };
        let too_large = matches!(body, Err(Detached::TooLarge));
        let (kind, body) = (self.kind, self.unwrap_form(body));
        self.send(Mail::PostBody { kind, body })?;
        if too_large {
            return Err(Refusal::TooLarge);
        }
        finish(answer.await)
    }

    fn send(&self, mail: Mail) -> Result<(), Refusal> {
        match self.entry.mailbox.send(mail) {
            true => Ok(()),
            false => Err(RequestError::SessionUnknown.into()),
        }
    }

    fn unwrap_form(&self, body: Result<Bytes, Detached>) -> Result<Bytes, Detached> {
        match self.entry.look.jsonp {
            Some(_) => body.map(|body| form_payload(&body)),
            None => body,
        }
    }
}

/// Answers a POST to a session, of which `body` was not read yet.
pub(crate) async fn post<B>(post: &Post, body: B) -> Result<Answer, Refusal>
where
    B: http_body::Body + Send,
    B::Data: Buf + Send,
{
    let mut body = pin!(body);
    let answer = {
        let mut collecting = pin!(collect(body.as_mut(), post.max_bytes));
        let at_hand = match post.too_long {
            true => Some(Err(Detached::TooLarge)),
            false => at_hand(collecting.as_mut()).await,
        };
        match at_hand {
            Some(body) => post.whole(body).await,
            None => post.coming(collecting).await,
        }
    };
    if matches!(answer, Err(Refusal::TooLarge)) && !post.asks_first {
        // Whether it ended in time makes no difference to the answer.
        let _ = tokio::time::timeout(LINGER, discard(body)).await;
    }
    answer
}

/// What `collecting` gives if it gives it at once: hyper hands a body out that it has read along
/// with the head when it is asked for the second time.
async fn at_hand<F: Future>(mut collecting: Pin<&mut F>) -> Option<F::Output> {
    let mut asked = false;
    poll_fn(|cx| match collecting.as_mut().poll(cx) {
        Poll::Ready(body) => Poll::Ready(Some(body)),
        Poll::Pending if asked => Poll::Ready(None),
        Poll::Pending => {
            asked = true;
            // In case that there is nothing to hand out, which wakes nobody.
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}

fn finish(answer: Result<PostReply, oneshot::error::RecvError>) -> Result<Answer, Refusal> {
    // Without an answer the session ended meanwhile.
    answer.map_err(|_| Refusal::Empty)??;
    Ok(response::post_done())
}

fn body_kind(head: Head<'_>) -> BodyKind {
    let octets = head
        .content_type()
        .is_some_and(|value| value.starts_with(b"application/octet-stream"));
    if octets {
        BodyKind::Binary
    } else {
        BodyKind::Text
    }
}

/// Reads what is left of a body and keeps nothing of it.
async fn discard<B: http_body::Body>(mut body: Pin<&mut B>) {
    let mut discarded = 0;
    while discarded < LINGER_BYTES {
        let Some(Ok(frame)) = body.frame().await else {
            return;
        };
        discarded += frame.data_ref().map_or(0, Buf::remaining);
    }
}

/// The whole body, unless it grows over the limit or its sender goes away.
async fn collect<B>(mut body: Pin<&mut B>, max_bytes: usize) -> Result<Bytes, Detached>
where
    B: http_body::Body,
{
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(mut data) = frame.map_err(|_| Detached::Closed)?.into_data() else {
            continue;
        };
        if first.len() + whole.len() + data.remaining() > max_bytes {
            return Err(Detached::TooLarge);
        }
        let data = data.copy_to_bytes(data.remaining());
        if first.is_empty() && whole.is_empty() {
            // Nearly always the only part, which is then not copied.
            first = data;
        } else {
            whole.extend_from_slice(&std::mem::take(&mut first));
            whole.extend_from_slice(&data);
        }
    }
    Ok(if whole.is_empty() {
        first
    } else {
        whole.freeze()
    })
}

/// The payload in the form of a JSONP POST.
fn form_payload(body: &[u8]) -> Bytes {
    form_urlencoded::parse(body)
        .find_map(|(name, value)| (name == "d").then(|| payload::unwrap_jsonp(&value)))
        .unwrap_or_default()
        .into()
}

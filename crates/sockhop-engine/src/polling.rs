//! POSTs of a polling session: the body is collected here and judged by the session.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use engineio_proto::{BodyKind, Detached, RequestError, payload};
use http::Response;
use http::header::{self, HeaderMap};
use http::request::Parts as Head;
use http_body_util::BodyExt;
use tokio::sync::oneshot;

use crate::mailbox::{Mail, PostReply};
use crate::registry::Entry;
use crate::response::{self, Body};
use crate::service::Refusal;

/// What is read and dropped of a body that is too large, and for how long: a sender that writes
/// before it reads would otherwise find its connection reset instead of the answer, and so would a
/// balancer between the two.
const LINGER_BYTES: usize = 16 << 20;
const LINGER: Duration = Duration::from_secs(1);

/// Answers a POST to a session.
pub(crate) async fn post<B>(
    head: &Head,
    body: B,
    entry: &Entry,
    max_bytes: usize,
) -> Result<Response<Body>, Refusal>
where
    B: http_body::Body + Send,
    B::Data: Buf + Send,
{
    let mut body = pin!(body);
    let answer = hand_over(head, body.as_mut(), entry, max_bytes).await;
    // Who asks first whether to send has sent nothing yet.
    let asks_first = head.headers.contains_key(header::EXPECT);
    if matches!(answer, Err(Refusal::TooLarge)) && !asks_first {
        // Whether it ended in time makes no difference to the answer.
        let _ = tokio::time::timeout(LINGER, discard(body)).await;
    }
    answer
}

/// Hands a POST to its session: as a whole if all of it is here; else the head at once, so that the
/// session notices a second POST and can end a stalled one, then the body.
async fn hand_over<B>(
    head: &Head,
    body: Pin<&mut B>,
    entry: &Entry,
    max_bytes: usize,
) -> Result<Response<Body>, Refusal>
where
    B: http_body::Body + Send,
    B::Data: Buf + Send,
{
    let (done, mut answer) = oneshot::channel();
    let kind = body_kind(&head.headers);
    let too_long = declared_len(&head.headers).is_some_and(|len| len > max_bytes as u64);
    let mut collecting = pin!(collect(body, max_bytes));
    let at_hand = match too_long {
        true => Some(Err(Detached::TooLarge)),
        false => at_hand(collecting.as_mut()).await,
    };
    let unwrap_form = |body: Bytes| match entry.jsonp {
        Some(_) => form_payload(&body),
        None => body,
    };
    let (mail, too_large) = match at_hand {
        Some(body) => {
            let too_large = matches!(body, Err(Detached::TooLarge));
            let body = body.map(unwrap_form);
            (Mail::Post { kind, body, done }, too_large)
        }
        None => {
            if !entry.mailbox.send(Mail::PostStart { done }) {
                return Err(RequestError::SessionUnknown.into());
            }
            let body = tokio::select! {
                body = collecting => body,
                answer = &mut answer => return finish(answer),
            };
            let too_large = matches!(body, Err(Detached::TooLarge));
            let body = body.map(unwrap_form);
            (Mail::PostBody { kind, body }, too_large)
        }
    };
    if !entry.mailbox.send(mail) {
        return Err(RequestError::SessionUnknown.into());
    }
    if too_large {
        return Err(Refusal::TooLarge);
    }
    finish(answer.await)
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

fn finish(answer: Result<PostReply, oneshot::error::RecvError>) -> Result<Response<Body>, Refusal> {
    // Without an answer the session ended meanwhile.
    answer.map_err(|_| Refusal::Empty)??;
    Ok(response::post_done())
}

fn body_kind(headers: &HeaderMap) -> BodyKind {
    let octets = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/octet-stream"));
    if octets {
        BodyKind::Binary
    } else {
        BodyKind::Text
    }
}

fn declared_len(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
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

//! What waits to be sent on a publishing connection, as bytes ready for the wire.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};
use sockhop_adapter::BusError;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::resp::{self, Kind, Value};

/// Up to this size a payload is copied behind its command: a segment of its own costs more.
const COPIED_PAYLOAD_BYTES: usize = 4096;

/// What a waiting command costs besides its payload.
const COMMAND_OVERHEAD_BYTES: usize = 64;

/// The queue in front of one publishing connection, bounded in bytes.
#[derive(Debug)]
pub(crate) struct Outgoing {
    queue: Mutex<Queue>,
    limit: usize,
    wake: Notify,
}

#[derive(Debug)]
struct Queue {
    /// Closed parts, then the part that is still appended to.
    segments: VecDeque<Bytes>,
    tail: BytesMut,
    replies: VecDeque<Reply>,
    /// Also what was taken and is still being written.
    bytes: usize,
    accepting: Accepting,
}

#[derive(Clone, Copy, Debug)]
enum Accepting {
    /// A connection is there.
    Yes,
    /// It was lost, and the next one may come soon enough.
    Until(Instant),
    No,
}

/// A reply that the server owes.
#[derive(Debug)]
pub(crate) enum Reply {
    /// To this many published messages in a row.
    Published(u32),
    /// To a question of somebody who waits.
    Answer(oneshot::Sender<Value>),
}

/// Everything that was queued at one time.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) segments: VecDeque<Bytes>,
    pub(crate) replies: VecDeque<Reply>,
    /// To be given back with [`Outgoing::written`].
    pub(crate) bytes: usize,
}

impl Outgoing {
    /// Refuses everything until the first connection is there.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            queue: Mutex::new(Queue {
                segments: VecDeque::new(),
                tail: BytesMut::new(),
                replies: VecDeque::new(),
                bytes: 0,
                accepting: Accepting::No,
            }),
            limit,
            wake: Notify::new(),
        }
    }

    /// Queues one message. The channel's name comes in parts, so that nobody has to join them.
    pub(crate) fn publish(
        &self,
        kind: Kind,
        channel: &[&str],
        payload: &Bytes,
    ) -> Result<(), BusError> {
        let name_bytes: usize = channel.iter().map(|part| part.len()).sum();
        let cost = payload.len() + name_bytes + COMMAND_OVERHEAD_BYTES;
        let mut queue = self.lock();
        queue.check_accepting()?;
        if queue.bytes + cost > self.limit {
            return Err(BusError::QueueFull);
        }
        let was_empty = queue.is_empty();
        queue.bytes += cost;
        queue.put_publish(kind, channel, name_bytes, payload);
        drop(queue);
        if was_empty {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Queues one message to ourselves. It is small and has to pass when the queue is full too;
    /// there is at most one in each interval. Says whether there is a connection.
    pub(crate) fn publish_canary(&self, kind: Kind, channel: &str, payload: &Bytes) -> bool {
        let mut queue = self.lock();
        if !matches!(queue.accepting, Accepting::Yes) {
            return false;
        }
        queue.put_publish(kind, &[channel], channel.len(), payload);
        drop(queue);
        self.wake.notify_one();
        true
    }

    /// Queues a question. `None`: there is no connection.
    pub(crate) fn ask(&self, words: &[&[u8]]) -> Option<oneshot::Receiver<Value>> {
        let (sender, receiver) = oneshot::channel();
        let mut queue = self.lock();
        let cost = words.iter().map(|word| word.len()).sum::<usize>();
        if queue.check_accepting().is_err() || queue.bytes + cost > self.limit {
            return None;
        }
        resp::put_command(&mut queue.tail, words);
        queue.replies.push_back(Reply::Answer(sender));
        drop(queue);
        self.wake.notify_one();
        Some(receiver)
    }

    /// Waits until something is queued. May return early.
    pub(crate) async fn filled(&self) {
        self.wake.notified().await;
    }

    /// Wakes whoever waits in [`Self::filled`].
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Takes everything out.
    pub(crate) fn take(&self) -> Batch {
        let mut queue = self.lock();
        queue.close_tail();
        Batch {
            segments: std::mem::take(&mut queue.segments),
            replies: std::mem::take(&mut queue.replies),
            bytes: queue.bytes,
        }
    }

    /// Gives back the room of a batch that is out of our hands.
    pub(crate) fn written(&self, bytes: usize) {
        let mut queue = self.lock();
        queue.bytes = queue.bytes.saturating_sub(bytes);
    }

    /// A connection is there.
    pub(crate) fn connected(&self) {
        self.lock().accepting = Accepting::Yes;
    }

    /// The connection is lost; what is queued waits for the next one until then.
    pub(crate) fn disconnected(&self, until: Instant) {
        let mut queue = self.lock();
        if matches!(queue.accepting, Accepting::Yes) {
            queue.accepting = Accepting::Until(until);
        }
    }

    /// Gives up what is still queued, if its time is over. Says how many messages that were.
    pub(crate) fn expire(&self, now: Instant) -> usize {
        let mut queue = self.lock();
        match queue.accepting {
            Accepting::Until(until) if until <= now => {}
            Accepting::No => {}
            Accepting::Yes | Accepting::Until(_) => return 0,
        }
        queue.give_up()
    }

    /// Gives up what is still queued, for good. Says how many messages that were.
    pub(crate) fn abandon(&self) -> usize {
        self.lock().give_up()
    }

    /// Bytes that wait, with the overhead of each message.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many messages these replies are about.
pub(crate) fn published(replies: &VecDeque<Reply>) -> usize {
    let counts = replies.iter().map(|reply| match reply {
        Reply::Published(count) => *count as usize,
        Reply::Answer(_) => 0,
    });
    counts.sum()
}

const fn verb(kind: Kind) -> &'static [u8] {
    match kind {
        Kind::Shard => b"SPUBLISH",
        Kind::Channel | Kind::Pattern => b"PUBLISH",
    }
}

impl Queue {
    fn check_accepting(&self) -> Result<(), BusError> {
        match self.accepting {
            Accepting::Yes => Ok(()),
            Accepting::Until(until) if Instant::now() < until => Ok(()),
            Accepting::Until(_) | Accepting::No => Err(BusError::LinkDown),
        }
    }

    fn give_up(&mut self) -> usize {
        self.accepting = Accepting::No;
        self.segments.clear();
        self.tail = BytesMut::new();
        self.bytes = 0;
        published(&std::mem::take(&mut self.replies))
    }

    fn is_empty(&self) -> bool {
        self.segments.is_empty() && self.tail.is_empty()
    }

    fn put_publish(&mut self, kind: Kind, channel: &[&str], name_bytes: usize, payload: &Bytes) {
        resp::put_header(&mut self.tail, b'*', 3);
        resp::put_bulk(&mut self.tail, verb(kind));
        resp::put_header(&mut self.tail, b'$', name_bytes);
        self.tail.reserve(name_bytes + 2);
        for part in channel {
            self.tail.put_slice(part.as_bytes());
        }
        self.tail.put_slice(b"\r\n");
        if payload.len() <= COPIED_PAYLOAD_BYTES {
            resp::put_bulk(&mut self.tail, payload);
        } else {
            resp::put_header(&mut self.tail, b'$', payload.len());
            self.close_tail();
            self.segments.push_back(payload.clone());
            self.tail.put_slice(b"\r\n");
        }
        match self.replies.back_mut() {
            Some(Reply::Published(count)) if *count < u32::MAX => *count += 1,
            _ => self.replies.push_back(Reply::Published(1)),
        }
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            let part = self.tail.split().freeze();
            self.segments.push_back(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn outgoing(limit: usize) -> Outgoing {
        let outgoing = Outgoing::new(limit);
        outgoing.connected();
        outgoing
    }

    fn publish(outgoing: &Outgoing, payload: &Bytes) -> Result<(), BusError> {
        outgoing.publish(Kind::Channel, &["a:", "b"], payload)
    }

    fn wire(batch: &Batch) -> Vec<u8> {
        batch.segments.iter().flatten().copied().collect()
    }

    #[test]
    fn small_messages_share_one_segment_and_one_reply() {
        let outgoing = outgoing(10_000);
        for _ in 0..3 {
            publish(&outgoing, &Bytes::from_static(b"x")).unwrap();
        }
        let batch = outgoing.take();
        assert_eq!(batch.segments.len(), 1);
        let one = b"*3\r\n$7\r\nPUBLISH\r\n$3\r\na:b\r\n$1\r\nx\r\n";
        assert_eq!(wire(&batch), one.repeat(3));
        assert!(matches!(
            batch.replies.iter().collect::<Vec<_>>()[..],
            [Reply::Published(3)]
        ));
        assert!(outgoing.is_empty());
    }

    #[test]
    fn a_large_payload_is_not_copied() {
        let outgoing = outgoing(100_000);
        let payload = Bytes::from(vec![7; COPIED_PAYLOAD_BYTES + 1]);
        publish(&outgoing, &payload).unwrap();
        let batch = outgoing.take();
        assert!(
            batch
                .segments
                .iter()
                .any(|part| part.as_ptr() == payload.as_ptr())
        );
        assert!(wire(&batch).ends_with(b"\x07\r\n"));
    }

    #[test]
    fn room_comes_back_only_when_a_batch_is_written() {
        let outgoing = outgoing(COMMAND_OVERHEAD_BYTES + 13);
        let payload = Bytes::from_static(b"0123456789");
        publish(&outgoing, &payload).unwrap();
        assert_eq!(publish(&outgoing, &payload), Err(BusError::QueueFull));
        let batch = outgoing.take();
        assert_eq!(publish(&outgoing, &payload), Err(BusError::QueueFull));
        outgoing.written(batch.bytes);
        assert_eq!(publish(&outgoing, &payload), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_queued_outlives_a_short_outage_and_not_a_long_one() {
        let outgoing = outgoing(10_000);
        let payload = Bytes::from_static(b"x");
        let until = Instant::now() + Duration::from_secs(1);
        outgoing.disconnected(until);
        publish(&outgoing, &payload).unwrap();
        assert_eq!(outgoing.expire(Instant::now()), 0);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(publish(&outgoing, &payload), Err(BusError::LinkDown));
        assert_eq!(outgoing.expire(Instant::now()), 1);
        assert_eq!(outgoing.bytes(), 0);
    }

    #[test]
    fn nothing_is_taken_before_the_first_connection() {
        let outgoing = Outgoing::new(10_000);
        assert_eq!(
            publish(&outgoing, &Bytes::from_static(b"x")),
            Err(BusError::LinkDown)
        );
        assert!(outgoing.ask(&[b"PING"]).is_none());
    }
}

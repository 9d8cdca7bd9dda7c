//! The publishing connection: everything that is queued leaves in one write, and the replies are
//! only counted off.

use std::collections::VecDeque;

use tokio::sync::watch;
use tokio::time::{Instant, interval};

use crate::connect::Stream;
use crate::error::Fault;
use crate::link::{Link, restarted};
use crate::metrics::Dropped;
use crate::outgoing::{Reply, published};
use crate::pipe::{Receiver, split};
use crate::resp::{self, Limits, Step, Value};

/// Commands of one batch that were not answered yet.
#[derive(Debug)]
struct Unanswered {
    replies: VecDeque<Reply>,
    /// When the server was last seen to make progress, or began to owe something.
    progress: Instant,
}

impl Link {
    /// Publishes until the connection is lost, the link is to start anew or to end.
    pub(crate) async fn publish_on(
        &self,
        stream: Box<dyn Stream>,
        restarts: &mut watch::Receiver<u64>,
    ) -> Fault {
        let mut unanswered = Unanswered {
            replies: VecDeque::new(),
            progress: Instant::now(),
        };
        self.outgoing.connected();
        let result = self.drive(stream, &mut unanswered, restarts).await;
        let config = &self.shared.config;
        self.outgoing
            .disconnected(Instant::now() + config.publish_grace);
        // They may have arrived. To send them again could deliver them twice.
        let lost = published(&unanswered.replies);
        self.shared.metrics.dropped(Dropped::ConnectionLost, lost);
        match result {
            Ok(()) => Fault::Stopped,
            Err(fault) => fault,
        }
    }

    async fn drive(
        &self,
        stream: Box<dyn Stream>,
        unanswered: &mut Unanswered,
        restarts: &mut watch::Receiver<u64>,
    ) -> Result<(), Fault> {
        let (mut receiver, mut sender) = split(stream);
        let limit = self.shared.config.command_timeout;
        let mut checks = interval(limit / 8);
        let mut batch_bytes = 0;
        loop {
            if sender.is_idle() {
                self.outgoing.written(std::mem::take(&mut batch_bytes));
                if !self.outgoing.is_empty() {
                    let batch = self.outgoing.take();
                    batch_bytes = batch.bytes;
                    unanswered.owe(batch.replies);
                    sender.push(batch.segments);
                    self.shared.metrics.writes.inc();
                } else if self.shared.is_closing() && unanswered.replies.is_empty() {
                    return Ok(());
                }
            }
            let idle = sender.is_idle();
            let done = tokio::select! {
                filled = receiver.fill() => match filled {
                    Ok(()) => self.read_replies(&mut receiver, unanswered),
                    Err(fault) => Err(fault),
                },
                written = sender.write(), if !idle => {
                    // What fits into the kernel's buffer leaves also when nobody reads at the other
                    // end. What does not fit leaves only when somebody does.
                    if !sender.is_idle() {
                        unanswered.progress = Instant::now();
                    }
                    written
                }
                () = self.outgoing.filled(), if idle => Ok(()),
                now = checks.tick() => {
                    if unanswered.is_late(now, limit) { Err(Fault::Timeout) } else { Ok(()) }
                }
                () = restarted(restarts) => Err(Fault::Moved),
                () = self.closed.cancelled() => Err(Fault::Stopped),
            };
            if let Err(fault) = done {
                self.outgoing.written(batch_bytes);
                return Err(fault);
            }
        }
    }

    fn read_replies(
        &self,
        receiver: &mut Receiver,
        unanswered: &mut Unanswered,
    ) -> Result<(), Fault> {
        let limits = Limits::default();
        let mut at = 0;
        let needed = loop {
            match resp::parse_value(receiver.unread(), at, &limits)? {
                Step::Done(value, end) => {
                    at = end;
                    self.answered(value, unanswered)?;
                }
                Step::NeedMore(needed) => break needed - at,
            }
        };
        receiver.consume(at, needed);
        unanswered.progress = Instant::now();
        Ok(())
    }

    fn answered(&self, value: Value, unanswered: &mut Unanswered) -> Result<(), Fault> {
        match unanswered.replies.front_mut() {
            // A server says so before it closes the connection.
            None => match value {
                Value::Error(line) => Err(Fault::Refused(line)),
                _ => Err(Fault::Protocol(resp::RespError::Unexpected)),
            },
            Some(Reply::Published(count)) => {
                *count -= 1;
                if *count == 0 {
                    unanswered.replies.pop_front();
                }
                if let Value::Error(line) = value {
                    self.shared.metrics.dropped(Dropped::Refused, 1);
                    // In a Redis Cluster the most likely reason.
                    self.shared.something_moved();
                    self.shared.tell_failure(|| {
                        tracing::warn!(server = %self.target, reason = %line, "a message was refused");
                    });
                }
                Ok(())
            }
            Some(Reply::Answer(_)) => {
                if let Some(Reply::Answer(asker)) = unanswered.replies.pop_front() {
                    // Who asked may have given up.
                    let _ = asker.send(value);
                }
                Ok(())
            }
        }
    }

    /// Frames whose time is over are not published any more.
    pub(crate) fn give_up_what_waited_too_long(&self) {
        let expired = self.outgoing.expire(Instant::now());
        self.shared.metrics.dropped(Dropped::LinkDown, expired);
    }
}

impl Unanswered {
    fn owe(&mut self, mut replies: VecDeque<Reply>) {
        if self.replies.is_empty() {
            self.progress = Instant::now();
        }
        self.replies.append(&mut replies);
    }

    fn is_late(&self, now: Instant, limit: std::time::Duration) -> bool {
        !self.replies.is_empty() && now.saturating_duration_since(self.progress) > limit
    }
}

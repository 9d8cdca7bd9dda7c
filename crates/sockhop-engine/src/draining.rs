//! Closing the sessions of a mount a few at a time, so that their clients do not all come back
//! to the other nodes in one instant.

use engineio_proto::CloseReason;

use crate::mailbox::{Mail, Mailbox};

/// The sessions that were open when the draining of a mount began, in no order.
#[derive(Debug)]
pub struct OpenSessions(Vec<Mailbox>);

impl OpenSessions {
    pub(crate) fn new(mailboxes: Vec<Mailbox>) -> Self {
        Self(mailboxes)
    }

    /// Sessions that [`Self::close`] has not closed yet. Some may have ended by themselves.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether all have been closed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Closes so many of them. Their tasks end a little later.
    pub fn close(&mut self, count: usize, reason: &CloseReason) {
        let kept = self.0.len().saturating_sub(count);
        for mailbox in self.0.drain(kept..) {
            mailbox.send(Mail::Close(reason.clone()));
        }
    }
}

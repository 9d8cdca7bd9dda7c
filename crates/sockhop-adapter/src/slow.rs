//! What a namespace does about clients that read more slowly than it sends.

use std::sync::atomic::{AtomicU8, Ordering};

use engineio_proto::{Encoded, GivesWay, Outgoing};
use sockhop_outbox::{Outbox, Push};

/// What happens when more waits for a client than its outbox may hold.
///
/// *Shape:* the limit is the session's, with all its namespaces. Answers to a client, packets that
/// want an ack, and those of connecting and disconnecting are never dropped, and no packet is
/// without its attachments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlowConsumers {
    /// The session is closed. Volatile packets are dropped unless they would leave at once.
    #[default]
    Close,
    /// The oldest events and broadcasts that wait are dropped until a sixteenth of the limit is
    /// free, and the session goes on. It is closed when that does not suffice.
    DropOldest,
    /// Volatile packets may wait until a quarter of the limit is in use, then new ones are dropped;
    /// those that wait give way to packets that are not volatile. When that does not suffice, the
    /// session is closed.
    DropVolatile,
}

impl SlowConsumers {
    /// Whether an event of such a namespace may be dropped while it waits.
    #[must_use]
    pub fn gives_way(self, volatile: bool) -> GivesWay {
        match (self, volatile) {
            (Self::DropOldest, false) => GivesWay::ToNewer,
            (Self::DropVolatile, true) => GivesWay::Volatile,
            (Self::Close | Self::DropOldest, true) | (Self::Close | Self::DropVolatile, false) => {
                GivesWay::Never
            }
        }
    }

    /// Marks a packet as one that may be dropped, where it may.
    #[must_use]
    pub fn mark(self, packet: Encoded, volatile: bool) -> Encoded {
        match self.gives_way(volatile) {
            GivesWay::Never => packet,
            gives_way => packet.giving_way(gives_way),
        }
    }
}

/// The policy of one namespace, which may change at any time.
#[derive(Debug, Default)]
pub(crate) struct Policy(AtomicU8);

impl Policy {
    pub(crate) fn get(&self) -> SlowConsumers {
        match self.0.load(Ordering::Relaxed) {
            1 => SlowConsumers::DropOldest,
            2 => SlowConsumers::DropVolatile,
            _ => SlowConsumers::Close,
        }
    }

    pub(crate) fn set(&self, policy: SlowConsumers) {
        self.0.store(policy as u8, Ordering::Relaxed);
    }
}

/// Queues an event for a client as its [mark](Encoded::gives_way) says.
pub fn push_event<C>(outbox: &Outbox<Outgoing<C>>, packet: Encoded, volatile: bool) -> Push {
    let (bytes, gives_way) = (packet.budget_bytes(), packet.gives_way());
    let item = Outgoing::Packet(packet);
    match (volatile, gives_way) {
        (false, GivesWay::ToNewer) => outbox.push_yielding(item, bytes, |queued| match queued {
            Outgoing::Packet(packet) if packet.gives_way() == GivesWay::ToNewer => {
                Some(packet.budget_bytes())
            }
            Outgoing::Packet(_) | Outgoing::Control(_) => None,
        }),
        (false, GivesWay::Never | GivesWay::Volatile) => outbox.push(item, bytes),
        (true, GivesWay::Volatile) => outbox.push_patient(item, bytes),
        (true, GivesWay::Never | GivesWay::ToNewer) => outbox.push_volatile(item, bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_remembered() {
        let policy = Policy::default();
        assert_eq!(policy.get(), SlowConsumers::Close);
        for each in [
            SlowConsumers::DropOldest,
            SlowConsumers::DropVolatile,
            SlowConsumers::Close,
        ] {
            policy.set(each);
            assert_eq!(policy.get(), each);
        }
    }
}

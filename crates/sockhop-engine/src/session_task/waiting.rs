//! What waits for a peer that reads too slowly, and what of it gives way.

use std::task::{Context as TaskContext, Poll};
use std::time::Instant;

use engineio_proto::{CloseReason, GaveWay, Outgoing};
use sockhop_outbox::{Demand, Taken};

use super::Driver;
use crate::handler::{ControlOf, Handler, SessionHandler};

impl<H: Handler> Driver<H> {
    /// Takes out what is in the outbox now; whether there was anything.
    pub(super) fn take_outbox(&mut self, now: Instant) -> bool {
        let taken = self.parts.outbox.take();
        taken.is_some_and(|taken| self.open_outbox(taken, now))
    }

    /// Registers with the outbox before the task sleeps; true when something was in it after all.
    pub(super) fn listen_to_outbox(&mut self, cx: &mut TaskContext<'_>, now: Instant) -> bool {
        match self.parts.outbox.poll_take(cx) {
            Poll::Ready(taken) => self.open_outbox(taken, now),
            Poll::Pending => false,
        }
    }

    fn open_outbox(&mut self, taken: Taken<Outgoing<ControlOf<H>>>, now: Instant) -> bool {
        let items = match taken {
            Taken::Items(items) => items,
            Taken::Overflowed if !self.closed => {
                self.parts.session.close(now, CloseReason::SlowConsumer);
                return true;
            }
            Taken::Overflowed | Taken::Closed => return false,
        };
        if items.displaced() > 0 {
            // What is held here is older than what has given way already.
            let mut gone = self.let_go(usize::MAX);
            gone.to_newer += u64::from(items.displaced());
            self.count_gone(gone);
        }
        if items.demand() != Demand::None && self.demand != Demand::MakeRoomOrEnd {
            self.demand = items.demand();
        }
        for item in items {
            match item {
                Outgoing::Packet(packet) => {
                    self.traffic.messages_out += 1;
                    self.parts.session.send(packet);
                }
                Outgoing::Control(control) if !self.closed => {
                    self.call(now, |handler, cx| handler.control(cx, control));
                }
                Outgoing::Control(_) => {}
            }
        }
        true
    }

    pub(super) fn close_outbox(&self) {
        let items = self.parts.outbox.close();
        self.count_gone(GaveWay {
            to_newer: items.displaced().into(),
            ..GaveWay::default()
        });
        let packets = items
            .into_iter()
            .filter(|item| matches!(item, Outgoing::Packet(_)));
        let lost = packets.count();
        if lost > 0 {
            let metrics = &self.parts.shared.metrics;
            metrics.dropped("session_closed", lost as u64);
        }
    }

    /// Does what the outbox demanded; whether another round must follow.
    ///
    /// Frees a sixteenth more than it must, so that what does not give way is not looked through
    /// again for every packet that comes.
    pub(super) fn make_room(&mut self, now: Instant) -> bool {
        if self.demand == Demand::None {
            return false;
        }
        let demand = std::mem::take(&mut self.demand);
        let excess = self.parts.outbox.excess_bytes();
        if excess == 0 || self.closed {
            return false;
        }
        let spare = self.parts.shared.config.outbox_bytes / 16;
        let gone = self.let_go(excess.saturating_add(spare));
        self.count_gone(gone);
        let ends = demand == Demand::MakeRoomOrEnd && gone.bytes < excess;
        if ends {
            self.parts.session.close(now, CloseReason::SlowConsumer);
        }
        ends
    }

    /// Drops what gives way, oldest first, until `bytes` are free or nothing is left of it.
    fn let_go(&mut self, bytes: usize) -> GaveWay {
        let mut gone = self.transports.make_room(bytes);
        let left = bytes.saturating_sub(gone.bytes);
        gone += self.parts.session.make_room(left);
        if gone.bytes > 0 {
            self.parts.outbox.refund(gone.bytes);
        }
        gone
    }

    fn count_gone(&self, gone: GaveWay) {
        let metrics = &self.parts.shared.metrics;
        for (reason, count) in [
            ("drop_oldest", gone.to_newer),
            ("drop_volatile", gone.volatile),
        ] {
            if count > 0 {
                metrics.dropped(reason, count);
            }
        }
    }
}

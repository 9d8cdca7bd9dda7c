//! What waits to be sent to the peer.

use super::fifo::Fifo;
use crate::payload::{Part, Parts};
use crate::{Encoded, GaveWay, GivesWay, Packet, Text};

/// What may wait in pongs before a peer counts as flooding: 128 of them without data.
const MAX_PONG_BYTES: u32 = 65_536;

/// What a pong counts for besides its data, in bytes.
const PONG_OVERHEAD_BYTES: u32 = 512;

/// One entry of the [`Queue`]; the size of two pointers.
#[derive(Debug)]
pub(super) enum Queued {
    Open,
    /// Becomes a packet for a poll, and the close frame of a WebSocket.
    Close,
    Ping,
    Pong(Option<Box<Text>>),
    Noop,
    /// A noop, and the end of the session with it.
    Farewell,
    Message(Encoded),
}

/// The peer makes us queue more pongs than it takes.
#[derive(Debug)]
pub(super) struct Flooded;

/// Everything that waits to be sent, in order.
#[derive(Debug, Default)]
pub(super) struct Queue {
    items: Fifo<Queued>,
    /// Frames of the first item, a message, that already left in a polling body.
    frames_sent: u32,
    /// Sum of [`pong_cost`] of all pongs in the queue.
    pong_bytes: u32,
}

/// What one body took out of the queue.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Budget of the messages whose last frame left.
    pub(super) refund_bytes: usize,
    /// Whether the close packet left.
    pub(super) close: bool,
}

impl Queue {
    pub(super) fn push(&mut self, item: Queued) {
        self.items.push(item);
    }

    /// Queues an item to leave before everything else but the rest of a message that has left in
    /// part.
    pub(super) fn push_first(&mut self, item: Queued) {
        if self.frames_sent == 0 {
            self.items.push_first(item);
        } else {
            self.items.push_second(item);
        }
    }

    /// Queues the answer to a ping with `data`.
    pub(super) fn push_pong(&mut self, data: &str) -> Result<(), Flooded> {
        if self.pong_bytes >= MAX_PONG_BYTES {
            return Err(Flooded);
        }
        // Copied, because a slice would keep the whole body alive that the ping came in.
        let data = (!data.is_empty()).then(|| Box::new(Text::from(data)));
        self.pong_bytes = self.pong_bytes.saturating_add(pong_cost(data.as_deref()));
        self.items.push(Queued::Pong(data));
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Takes the next item for a WebSocket. [`Packet::Close`] stands for its close frame.
    pub(super) fn pop(&mut self, open: impl FnOnce() -> Text) -> Option<Packet> {
        let packet = match self.items.pop()? {
            Queued::Open => Packet::Open(open()),
            Queued::Close => Packet::Close,
            Queued::Ping => Packet::Ping(Text::default()),
            Queued::Pong(data) => {
                self.forget_pong(data.as_deref());
                Packet::Pong(data.map_or_else(Text::default, |data| *data))
            }
            Queued::Noop | Queued::Farewell => Packet::Noop,
            Queued::Message(encoded) => Packet::Message {
                encoded,
                first_frame: std::mem::take(&mut self.frames_sent) as usize,
            },
        };
        Some(packet)
    }

    /// Whether the open packet waits. It is always the first.
    pub(super) fn starts_with_open(&self) -> bool {
        matches!(self.items.front(), Some(Queued::Open))
    }

    /// Whether the peer's goodbye was heard and nothing else waits.
    pub(super) fn starts_with_farewell(&self) -> bool {
        matches!(self.items.front(), Some(Queued::Farewell))
    }

    /// Adds what waits to `parts`, as far as there is room. `open` is what an open packet says.
    ///
    /// A close packet never shares a body with messages: clients act on it at once, but on the
    /// messages only in their next tick, which would then never come. engine.io flushes first too.
    pub(super) fn fill<'a>(&'a self, open: &'a str, parts: &mut Parts<'a>) {
        let mut frames_sent = self.frames_sent as usize;
        let mut has_messages = false;
        for item in self.items.iter() {
            let (digit, data) = match item {
                Queued::Open => ('0', open),
                Queued::Close if has_messages => return,
                Queued::Close => ('1', ""),
                Queued::Ping => ('2', ""),
                Queued::Pong(data) => ('3', data.as_deref().map_or("", Text::as_str)),
                Queued::Noop | Queued::Farewell => ('6', ""),
                Queued::Message(encoded) => {
                    has_messages = true;
                    let compress = encoded.compress();
                    let mut frames = encoded.frames().skip(std::mem::take(&mut frames_sent));
                    if !frames.all(|frame| parts.push(Part::Message { frame, compress })) {
                        return;
                    }
                    continue;
                }
            };
            if !parts.push(Part::Control { digit, data }) {
                return;
            }
        }
    }

    /// Removes the first `packets` packets, which [`Self::fill`] found room for.
    pub(super) fn advance(&mut self, packets: usize) -> Taken {
        let mut left = packets;
        let mut taken = Taken::default();
        while let Some(item) = self.items.front() {
            let frames = match item {
                Queued::Message(encoded) => {
                    let frames_sent = self.frames_sent as usize;
                    encoded.frame_count().saturating_sub(frames_sent)
                }
                Queued::Open
                | Queued::Close
                | Queued::Ping
                | Queued::Pong(_)
                | Queued::Noop
                | Queued::Farewell => 1,
            };
            let Some(after) = left.checked_sub(frames) else {
                let left = u32::try_from(left).unwrap_or(u32::MAX);
                self.frames_sent = self.frames_sent.saturating_add(left);
                break;
            };
            left = after;
            self.frames_sent = 0;
            match self.items.pop() {
                Some(Queued::Message(encoded)) => {
                    taken.refund_bytes = taken.refund_bytes.saturating_add(encoded.budget_bytes());
                }
                Some(Queued::Pong(data)) => self.forget_pong(data.as_deref()),
                Some(Queued::Close | Queued::Farewell) => taken.close = true,
                Some(Queued::Open | Queued::Ping | Queued::Noop) | None => {}
            }
        }
        taken
    }

    /// Drops messages that give way, oldest first, until `bytes` are free or none is left. One that
    /// has left in part stays whole.
    pub(super) fn make_room(&mut self, bytes: usize) -> GaveWay {
        let mut gone = GaveWay::default();
        let mut has_left_in_part = self.frames_sent > 0;
        self.items.retain(|item| {
            let Queued::Message(encoded) = item else {
                return true;
            };
            let stays = std::mem::take(&mut has_left_in_part)
                || gone.bytes >= bytes
                || encoded.gives_way() == GivesWay::Never;
            if !stays {
                gone.add(encoded.gives_way(), encoded.budget_bytes());
            }
            stays
        });
        gone
    }

    /// Drops everything; returns how many messages that loses.
    pub(super) fn clear(&mut self) -> u64 {
        let messages = self.items.iter();
        let lost = messages.filter(|item| matches!(item, Queued::Message(_)));
        let lost = u64::try_from(lost.count()).unwrap_or(u64::MAX);
        *self = Self::default();
        lost
    }

    fn forget_pong(&mut self, data: Option<&Text>) {
        self.pong_bytes = self.pong_bytes.saturating_sub(pong_cost(data));
    }
}

fn pong_cost(data: Option<&Text>) -> u32 {
    let len = data.map_or(0, |data| data.len());
    u32::try_from(len)
        .unwrap_or(u32::MAX)
        .saturating_add(PONG_OVERHEAD_BYTES)
}

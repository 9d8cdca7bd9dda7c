//! Who was owed which message, and what became of it.
//!
//! Every message belongs to a *stream* (one publisher connection to one channel, a channel being
//! a room or everybody) and has a number in it. A connection's *stays* say when it was a member
//! of a channel. The rules, also in `docs/load-testing.md`:
//!
//! - A message is **owed** to a connection whose join was confirmed before the message was sent,
//!   which had not asked to leave, and was still connected.
//! - Owed and never arrived is **lost**, with these exceptions, all for messages behind which
//!   nothing of the same stream arrived in the same stay: sent within the grace time before a leave or a close
//!   that this tool asked for it is **in doubt**; before a connection (the publisher's or the
//!   receiver's) that broke unasked it is **cut**.
//! - What was sent between an unasked break and the confirmed return is **missed**.
//! - The same message twice at one connection is a **duplicate**; one behind a later one of its
//!   stream is **reordered**; one that reaches the sender it was to skip is a **skip leak**; one
//!   that reaches a connection which had left before it was sent, or never joined, is a **stray**.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::track::{IdHash, Track};

/// Everybody in the namespace, as a channel.
pub const EVERYBODY: u32 = 0;

/// What became of the messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Messages sent.
    pub published: u64,
    /// Messages times the connections that they were owed to.
    pub owed: u64,
    /// Owed and arrived.
    pub delivered: u64,
    /// Arrived without being owed: in flight at a join or a leave.
    pub extra: u64,
    /// Owed, never arrived, and nothing excuses it.
    pub lost: u64,
    /// Owed, not arrived, and a connection broke unasked at that time.
    pub cut: u64,
    /// Sent while the receiver was away after an unasked break.
    pub missed: u64,
    /// Not arrived around a leave or a close that this tool asked for.
    pub in_doubt: u64,
    /// Arrived again.
    pub duplicates: u64,
    /// Arrived after a later message of its stream.
    pub reordered: u64,
    /// Arrived at the sender that it was to skip.
    pub skip_leaks: u64,
    /// Arrived at a connection that was no member when it was sent.
    pub strays: u64,
}

/// What an arrival was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The first of its kind, in order.
    InOrder,
    /// The first of its kind, behind a later one.
    Late,
    /// Seen before.
    Duplicate,
    /// At the sender that it was to skip.
    SkipLeak,
    /// At a connection that was no member.
    Stray,
    /// Never sent by this run.
    Unknown,
}

#[derive(Debug)]
struct Stream {
    publisher: u32,
    channel: u32,
    /// When each message was sent, µs, shifted left by one; the lowest bit: skips its sender.
    sent: Vec<u64>,
    /// The publisher's end: when, and whether this tool asked for it.
    ended: Option<(u64, bool)>,
}

impl Stream {
    fn first_since(&self, at_us: u64) -> usize {
        self.sent.partition_point(|sent| sent >> 1 < at_us)
    }
}

/// One membership of one connection.
#[derive(Clone, Copy, Debug)]
struct Stay {
    channel: u32,
    confirmed_us: Option<u64>,
    leaving_us: Option<u64>,
    left_us: Option<u64>,
}

#[derive(Debug, Default)]
struct Receiver {
    stays: Vec<Stay>,
    tracks: HashMap<u32, Track, IdHash>,
}

/// How a receiver's time ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The run is over and everything had time to arrive.
    Drained,
    /// This tool closed the connection.
    Asked,
    /// The connection broke.
    Broken,
}

/// The books of one run.
#[derive(Debug)]
pub struct Ledger {
    grace_us: u64,
    settle_us: u64,
    streams: Vec<Stream>,
    of_channel: HashMap<u32, Vec<u32>, IdHash>,
    by_publisher: HashMap<u32, Vec<u32>, IdHash>,
    receivers: HashMap<u32, Receiver, IdHash>,
    next_peer: u32,
    tally: Tally,
    first_arrivals: u64,
    lost_by_second: Vec<u64>,
    cut_by_second: Vec<u64>,
    missed_by_second: Vec<u64>,
}

impl Ledger {
    /// Empty books.
    ///
    /// *Units:* `grace_us` is how long a message may be in flight around a leave or a break,
    /// `settle_us` how long a confirmed join may take to be in force everywhere.
    #[must_use]
    pub fn new(grace_us: u64, settle_us: u64) -> Self {
        Self {
            grace_us,
            settle_us,
            streams: Vec::new(),
            of_channel: HashMap::default(),
            by_publisher: HashMap::default(),
            receivers: HashMap::default(),
            next_peer: 0,
            tally: Tally::default(),
            first_arrivals: 0,
            lost_by_second: Vec::new(),
            cut_by_second: Vec::new(),
            missed_by_second: Vec::new(),
        }
    }

    /// A new connection; a user who reconnects is a new one.
    pub fn open(&mut self) -> u32 {
        let peer = self.next_peer;
        self.next_peer += 1;
        self.receivers.insert(peer, Receiver::default());
        peer
    }

    /// The connection asked to join; messages may arrive from now on.
    pub fn join_requested(&mut self, peer: u32, channel: u32) {
        if let Some(receiver) = self.receivers.get_mut(&peer) {
            receiver.stays.push(Stay {
                channel,
                confirmed_us: None,
                leaving_us: None,
                left_us: None,
            });
        }
    }

    /// The server confirmed the join; messages are owed from now on.
    pub fn join_confirmed(&mut self, peer: u32, channel: u32, now_us: u64) {
        let settle_us = self.settle_us;
        if let Some(stay) = self.last_stay(peer, channel) {
            stay.confirmed_us.get_or_insert(now_us + settle_us);
        }
    }

    /// The connection asked to leave; nothing is owed from now on.
    pub fn leave_requested(&mut self, peer: u32, channel: u32, now_us: u64) {
        if let Some(stay) = self.last_stay(peer, channel) {
            stay.leaving_us.get_or_insert(now_us);
        }
    }

    /// The server confirmed the leave; nothing sent from now on may arrive.
    pub fn leave_confirmed(&mut self, peer: u32, channel: u32, now_us: u64) {
        if let Some(stay) = self.last_stay(peer, channel) {
            stay.left_us.get_or_insert(now_us);
        }
    }

    fn last_stay(&mut self, peer: u32, channel: u32) -> Option<&mut Stay> {
        let receiver = self.receivers.get_mut(&peer)?;
        let mut stays = receiver.stays.iter_mut().rev();
        stays.find(|stay| stay.channel == channel)
    }

    /// Enters a message; its stream and its number in it.
    pub fn publish(&mut self, peer: u32, channel: u32, skip: bool, now_us: u64) -> (u32, u32) {
        let own = self.by_publisher.entry(peer).or_default();
        let known = own
            .iter()
            .find(|id| self.streams[**id as usize].channel == channel);
        let id = known.copied().unwrap_or_else(|| {
            let id = u32::try_from(self.streams.len()).expect("fewer streams than ids");
            self.streams.push(Stream {
                publisher: peer,
                channel,
                sent: Vec::new(),
                ended: None,
            });
            self.of_channel.entry(channel).or_default().push(id);
            own.push(id);
            id
        });
        let sent = &mut self.streams[id as usize].sent;
        sent.push(now_us << 1 | u64::from(skip));
        self.tally.published += 1;
        let number = u32::try_from(sent.len() - 1).expect("fewer messages than numbers");
        (id, number)
    }

    /// Enters an arrival.
    pub fn arrived(&mut self, peer: u32, stream_id: u32, number: u32) -> Arrival {
        let arrival = self.judge(peer, stream_id, number);
        match arrival {
            Arrival::InOrder => self.first_arrivals += 1,
            Arrival::Late => {
                self.first_arrivals += 1;
                self.tally.reordered += 1;
            }
            Arrival::Duplicate => self.tally.duplicates += 1,
            Arrival::SkipLeak => self.tally.skip_leaks += 1,
            Arrival::Stray | Arrival::Unknown => self.tally.strays += 1,
        }
        arrival
    }

    fn judge(&mut self, peer: u32, stream_id: u32, number: u32) -> Arrival {
        let Some(stream) = self.streams.get(stream_id as usize) else {
            return Arrival::Unknown;
        };
        let Some(sent) = stream.sent.get(number as usize) else {
            return Arrival::Unknown;
        };
        if sent & 1 == 1 && stream.publisher == peer {
            return Arrival::SkipLeak;
        }
        let Some(receiver) = self.receivers.get_mut(&peer) else {
            return Arrival::Unknown;
        };
        let stays = receiver.stays.iter().rev();
        let last = stays.clone().find(|stay| stay.channel == stream.channel);
        let is_member = match last {
            None => false,
            Some(stay) => stay.left_us.is_none_or(|left_us| sent >> 1 <= left_us),
        };
        if !is_member {
            return Arrival::Stray;
        }
        receiver
            .tracks
            .entry(stream_id)
            .or_default()
            .arrived(number)
    }

    /// Messages that have arrived for the first time so far.
    #[must_use]
    pub fn first_arrivals(&self) -> u64 {
        self.first_arrivals
    }

    /// Closes the books of one connection, as publisher and as receiver.
    pub fn close(&mut self, peer: u32, now_us: u64, end: End) {
        for id in self.by_publisher.remove(&peer).unwrap_or_default() {
            if end != End::Drained {
                self.streams[id as usize].ended = Some((now_us, end == End::Asked));
            }
        }
        if let Some(receiver) = self.receivers.remove(&peer) {
            self.settle(peer, &receiver, now_us, end);
        }
    }

    /// Closes the books of all connections: the run is over and drained.
    pub fn finish(&mut self, now_us: u64) {
        let peers: Vec<u32> = self.receivers.keys().copied().collect();
        for peer in peers {
            self.close(peer, now_us, End::Drained);
        }
        self.tally.extra = self.first_arrivals.saturating_sub(self.tally.delivered);
    }

    /// Counts what a user missed in a channel between a break and the return.
    pub fn missed(&mut self, channel: u32, from_us: u64, to_us: u64) {
        let to_us = to_us + self.settle_us;
        for id in self.of_channel.get(&channel).into_iter().flatten() {
            let stream = &self.streams[*id as usize];
            let range = stream.first_since(from_us)..stream.first_since(to_us);
            for sent in &stream.sent[range] {
                self.tally.missed += 1;
                add_to_second(&mut self.missed_by_second, sent >> 1);
            }
        }
    }

    fn settle(&mut self, peer: u32, receiver: &Receiver, now_us: u64, end: End) {
        let nothing = Track::default();
        let mut sum = Tally::default();
        let (mut lost_at, mut cut_at) = (Vec::new(), Vec::new());
        for stay in &receiver.stays {
            let Some(confirmed_us) = stay.confirmed_us else {
                continue;
            };
            let until_us = stay.leaving_us.unwrap_or(now_us);
            for id in self.of_channel.get(&stay.channel).into_iter().flatten() {
                let stream = &self.streams[*id as usize];
                if stream
                    .sent
                    .last()
                    .is_none_or(|last| last >> 1 < confirmed_us)
                {
                    continue;
                }
                let track = receiver.tracks.get(id).unwrap_or(&nothing);
                let range = stream.first_since(confirmed_us)..stream.first_since(until_us);
                if stream.publisher != peer && track.has_all(&range) {
                    sum.owed += range.len() as u64;
                    sum.delivered += range.len() as u64;
                    continue;
                }
                for number in range {
                    let sent = stream.sent[number];
                    if sent & 1 == 1 && stream.publisher == peer {
                        continue;
                    }
                    sum.owed += 1;
                    if track.has(number) {
                        sum.delivered += 1;
                        continue;
                    }
                    // What arrived in a later stay says nothing of the end of this one.
                    let is_tail = match stay.left_us {
                        Some(left_us) => {
                            let mut behind = number + 1..stream.first_since(left_us);
                            !behind.any(|later| track.has(later))
                        }
                        None => !track.has_later(number),
                    };
                    match self.excuse(sent >> 1, is_tail, stay, stream, now_us, end) {
                        None => lost_at.push(sent >> 1),
                        Some(End::Broken) => cut_at.push(sent >> 1),
                        Some(_) => sum.in_doubt += 1,
                    }
                }
            }
        }
        self.add(&sum, &lost_at, &cut_at);
    }

    fn add(&mut self, sum: &Tally, lost_at: &[u64], cut_at: &[u64]) {
        self.tally.owed += sum.owed;
        self.tally.delivered += sum.delivered;
        self.tally.in_doubt += sum.in_doubt;
        self.tally.lost += lost_at.len() as u64;
        self.tally.cut += cut_at.len() as u64;
        for at_us in lost_at {
            add_to_second(&mut self.lost_by_second, *at_us);
        }
        for at_us in cut_at {
            add_to_second(&mut self.cut_by_second, *at_us);
        }
    }

    /// Why a message that did not arrive may not have.
    fn excuse(
        &self,
        sent_us: u64,
        is_tail: bool,
        stay: &Stay,
        stream: &Stream,
        now_us: u64,
        end: End,
    ) -> Option<End> {
        if !is_tail {
            return None;
        }
        let near = |at_us: u64| sent_us + self.grace_us >= at_us;
        if stay.leaving_us.is_some_and(near) {
            return Some(End::Asked);
        }
        if end != End::Drained && stay.leaving_us.is_none() && near(now_us) {
            return Some(end);
        }
        match stream.ended {
            Some((at_us, true)) if near(at_us) => Some(End::Asked),
            Some((at_us, false)) if near(at_us) => Some(End::Broken),
            _ => None,
        }
    }

    /// The sums; final after [`Ledger::finish`].
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Lost messages by the second in which they were sent.
    #[must_use]
    pub fn lost_by_second(&self) -> &[u64] {
        &self.lost_by_second
    }

    /// Cut messages by the second in which they were sent.
    #[must_use]
    pub fn cut_by_second(&self) -> &[u64] {
        &self.cut_by_second
    }

    /// Missed messages by the second in which they were sent.
    #[must_use]
    pub fn missed_by_second(&self) -> &[u64] {
        &self.missed_by_second
    }
}

fn add_to_second(seconds: &mut Vec<u64>, at_us: u64) {
    let second = usize::try_from(at_us / 1_000_000).expect("a run is short");
    if seconds.len() <= second {
        seconds.resize(second + 1, 0);
    }
    seconds[second] += 1;
}

#[cfg(test)]
mod tests;

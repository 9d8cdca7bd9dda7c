//! What is subscribed, what should be, and the commands between the two. Sans-IO.
//!
//! The wish is the truth: how often every channel is subscribed here. The connection follows it,
//! in few commands with many channels, and a new connection begins with all of them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::BytesMut;

use crate::resp::{self, Kind};

/// Channels of one round of commands.
const CHANNELS_PER_ROUND: usize = 512;

/// Commands go out only while fewer confirmations than this are missing, so that the
/// confirmations of a hundred thousand channels do not pile up in the server, which would cut us
/// off for that.
const MAX_UNCONFIRMED: usize = 4 * CHANNELS_PER_ROUND;

/// The subscriptions of one link.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    channels: HashMap<Kind, HashMap<Arc<str>, State>>,
    wanted: usize,
    connected: bool,
    /// Channels whose wish may differ from what was sent, each at most once.
    dirty: VecDeque<(u64, Kind, Arc<str>)>,
    /// Sent and not yet confirmed, in the order in which the server will confirm.
    unconfirmed: VecDeque<Expected>,
    /// Counts the wishes.
    generation: u64,
    /// Every wish up to this one has been sent.
    sent: u64,
    /// Every wish up to this one is in force.
    confirmed: u64,
}

#[derive(Debug, Default)]
struct State {
    count: usize,
    /// What the last command for it on this connection made of it.
    subscribed: bool,
    /// Whether it is in the list of changes.
    queued: bool,
}

#[derive(Debug)]
struct Expected {
    kind: Kind,
    subscribed: bool,
    name: Arc<str>,
    /// With it this generation is in force, if it is the last of its round.
    completes: Option<u64>,
}

/// What a confirmation meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Confirmed {
    /// One that was waited for.
    Expected,
    /// The server ended a subscription on its own, as when a slot moves to another server.
    Unasked,
}

impl Subscriptions {
    /// Counts one subscription. Says whether the connection has something to do.
    pub(crate) fn subscribe(&mut self, kind: Kind, name: &str) -> bool {
        let channels = self.channels.entry(kind).or_default();
        match channels.get_mut(name) {
            Some(state) => {
                state.count += 1;
                if state.count > 1 {
                    return false;
                }
            }
            None => {
                let state = State {
                    count: 1,
                    ..State::default()
                };
                channels.insert(Arc::from(name), state);
            }
        }
        self.wanted += 1;
        self.changed(kind, name)
    }

    /// Takes one subscription back. Says whether the connection has something to do.
    pub(crate) fn unsubscribe(&mut self, kind: Kind, name: &str) -> bool {
        let Some(channels) = self.channels.get_mut(&kind) else {
            return false;
        };
        let Some(state) = channels.get_mut(name).filter(|state| state.count > 0) else {
            return false;
        };
        state.count -= 1;
        if state.count > 0 {
            return false;
        }
        self.wanted -= 1;
        if !self.connected {
            channels.remove(name);
            return false;
        }
        self.changed(kind, name)
    }

    fn changed(&mut self, kind: Kind, name: &str) -> bool {
        self.generation += 1;
        // Without a connection there is nothing to change: the next one begins with everything.
        if !self.connected {
            return false;
        }
        let Some(channels) = self.channels.get_mut(&kind) else {
            return false;
        };
        let Some(name) = channels.get_key_value(name).map(|(name, _)| name.clone()) else {
            return false;
        };
        if let Some(state) = channels.get_mut(&name)
            && !state.queued
        {
            state.queued = true;
            self.dirty.push_back((self.generation, kind, name));
        }
        true
    }

    /// A new connection: nothing is subscribed on it yet, everything is to be. Returns the
    /// generation that is in force once everything is.
    pub(crate) fn connected(&mut self) -> u64 {
        self.disconnected();
        self.connected = true;
        self.generation += 1;
        for (kind, channels) in &mut self.channels {
            for (name, state) in channels {
                state.queued = true;
                // Only the last of them completes the generation.
                let entry = (self.confirmed, *kind, Arc::clone(name));
                self.dirty.push_back(entry);
            }
        }
        if self.dirty.is_empty() {
            (self.sent, self.confirmed) = (self.generation, self.generation);
        }
        self.generation
    }

    /// The connection is lost, and all subscriptions with it.
    pub(crate) fn disconnected(&mut self) {
        self.connected = false;
        self.dirty.clear();
        self.unconfirmed.clear();
        for channels in self.channels.values_mut() {
            channels.retain(|_, state| {
                (state.subscribed, state.queued) = (false, false);
                state.count > 0
            });
        }
    }

    /// Appends the next commands, if there are any and the server keeps up. Says how many.
    pub(crate) fn put_commands(&mut self, out: &mut BytesMut) -> usize {
        if self.dirty.is_empty() || self.unconfirmed.len() >= MAX_UNCONFIRMED {
            return 0;
        }
        let mut round: HashMap<(Kind, bool), Vec<Arc<str>>> = HashMap::new();
        let mut taken = 0;
        while taken < CHANNELS_PER_ROUND
            && let Some((generation, kind, name)) = self.dirty.pop_front()
        {
            self.sent = generation;
            let channels = self.channels.entry(kind).or_default();
            let Some(state) = channels.get_mut(&name) else {
                continue;
            };
            state.queued = false;
            let wanted = state.count > 0;
            if wanted != state.subscribed {
                state.subscribed = wanted;
                round.entry((kind, wanted)).or_default().push(name.clone());
                taken += 1;
            }
            if !wanted {
                channels.remove(&name);
            }
        }
        if self.dirty.is_empty() {
            // Wishes for channels that were queued already have no entry of their own.
            self.sent = self.generation;
        }
        let mut commands = 0;
        for ((kind, subscribed), names) in round {
            // Channels of different slots may not share a command.
            let per_command = if kind == Kind::Shard { 1 } else { names.len() };
            for names in names.chunks(per_command) {
                commands += 1;
                put_change(out, kind, subscribed, names);
            }
            let expected = names.into_iter().map(|name| Expected {
                kind,
                subscribed,
                name,
                completes: None,
            });
            self.unconfirmed.extend(expected);
        }
        match self.unconfirmed.back_mut() {
            Some(last) => last.completes = Some(self.sent),
            None => self.confirmed = self.sent,
        }
        commands
    }

    /// The server confirmed a change.
    pub(crate) fn confirm(&mut self, kind: Kind, subscribed: bool, name: &[u8]) -> Confirmed {
        let expected = self.unconfirmed.front().is_some_and(|expected| {
            (expected.kind, expected.subscribed) == (kind, subscribed)
                && expected.name.as_bytes() == name
        });
        if !expected {
            return Confirmed::Unasked;
        }
        if let Some(Expected {
            completes: Some(generation),
            ..
        }) = self.unconfirmed.pop_front()
        {
            self.confirmed = generation;
        }
        Confirmed::Expected
    }

    /// Takes out everything for which `leaves` says so, with its counts.
    pub(crate) fn take(
        &mut self,
        mut leaves: impl FnMut(Kind, &str) -> bool,
    ) -> Vec<(Kind, Arc<str>, usize)> {
        let mut taken = Vec::new();
        for (kind, channels) in &self.channels {
            for (name, state) in channels {
                if state.count > 0 && leaves(*kind, name) {
                    taken.push((*kind, Arc::clone(name), state.count));
                }
            }
        }
        for (kind, name, count) in &taken {
            for _ in 0..*count {
                self.unsubscribe(*kind, name);
            }
        }
        taken
    }

    /// The server ended a subscription, or refuses it, because another one has its slot now.
    pub(crate) fn lost(&mut self, kind: Kind, name: &[u8]) {
        let state = std::str::from_utf8(name)
            .ok()
            .and_then(|name| self.channels.get_mut(&kind)?.get_mut(name));
        if let Some(state) = state {
            state.subscribed = false;
        }
    }

    /// The server refused the command that it owed an answer next, if that was about one channel
    /// of a shard. Says whether it was.
    pub(crate) fn refused(&mut self) -> bool {
        let is_shard = |expected: &Expected| expected.kind == Kind::Shard;
        if !self.unconfirmed.front().is_some_and(is_shard) {
            return false;
        }
        if let Some(expected) = self.unconfirmed.pop_front() {
            if expected.subscribed {
                self.lost(expected.kind, expected.name.as_bytes());
            }
            if let Some(generation) = expected.completes {
                self.confirmed = generation;
            }
        }
        true
    }

    /// Whether something is wanted that is neither in force nor on its way.
    pub(crate) fn misses_any(&self) -> bool {
        let missing = |state: &State| state.count > 0 && !state.subscribed && !state.queued;
        let shards = self.channels.get(&Kind::Shard);
        shards.is_some_and(|channels| channels.values().any(missing))
    }

    /// Tries again what the server ended or refused. Says whether there is any.
    pub(crate) fn retry_lost(&mut self) -> bool {
        if !self.connected || !self.misses_any() {
            return false;
        }
        self.generation += 1;
        for (kind, channels) in &mut self.channels {
            for (name, state) in channels {
                if state.count > 0 && !state.subscribed && !state.queued {
                    state.queued = true;
                    let entry = (self.generation, *kind, Arc::clone(name));
                    self.dirty.push_back(entry);
                }
            }
        }
        true
    }

    /// The wish that was made last.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// The wish up to which everything is in force on this connection.
    pub(crate) fn confirmed(&self) -> u64 {
        self.confirmed
    }

    /// How many channels and patterns are wanted.
    pub(crate) fn wanted(&self) -> usize {
        self.wanted
    }
}

fn put_change(out: &mut BytesMut, kind: Kind, subscribed: bool, names: &[Arc<str>]) {
    let verb: &[u8] = match (kind, subscribed) {
        (Kind::Channel, true) => b"SUBSCRIBE",
        (Kind::Channel, false) => b"UNSUBSCRIBE",
        (Kind::Pattern, true) => b"PSUBSCRIBE",
        (Kind::Pattern, false) => b"PUNSUBSCRIBE",
        (Kind::Shard, true) => b"SSUBSCRIBE",
        (Kind::Shard, false) => b"SUNSUBSCRIBE",
    };
    resp::put_header(out, b'*', names.len() + 1);
    resp::put_bulk(out, verb);
    for name in names {
        resp::put_bulk(out, name.as_bytes());
    }
}

#[cfg(test)]
#[path = "subscriptions_tests.rs"]
mod tests;

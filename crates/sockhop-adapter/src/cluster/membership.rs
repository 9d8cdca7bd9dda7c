//! Who is a member of the cluster: heartbeats in, joins and departures out.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::member::Member;
use crate::bus::{Link, NodeId};

/// Nodes that said goodbye and are remembered, so that what they said before and arrives after
/// does not bring them back.
const MAX_DEPARTED: usize = 64;

/// What a node says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Announcement {
    /// It is there, and wants to know who else is.
    Hello,
    /// It is there.
    Alive,
    /// It goes.
    Goodbye,
}

/// An announcement, and to whom it is made. `None`: to all.
pub(crate) type Transmit = (Option<NodeId>, Announcement);

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberEvent {
    /// A node is there.
    Joined(Member),
    /// A node is there no more: it said goodbye, or nothing for too long.
    Left(NodeId),
}

/// The members of a cluster as one of them knows them.
///
/// *Inputs:* `handle_announcement`, `handle_goodbye`, `handle_link`, `handle_timeout`, `close`.
/// *Outputs:* `poll_transmit`, `poll_event`, `poll_timeout`.
///
/// A member is gone when nothing was heard of it for the timeout. While the node's own link is down
/// it hears nobody and nobody is gone for that; when the link is up again everybody gets the whole
/// timeout anew.
///
/// ```text
///   Joining ──somebody answered, or one heartbeat has passed with the link up──▶ Settled
///      └────────────────────── close ──▶ Left ◀── close ─────────────────────────┘
/// ```
#[derive(Debug)]
pub(crate) struct Membership {
    me: Member,
    heartbeat: Duration,
    timeout: Duration,
    max_members: usize,
    phase: Phase,
    link: Link,
    next_beat: Instant,
    others: BTreeMap<NodeId, Other>,
    departed: VecDeque<NodeId>,
    transmits: VecDeque<Transmit>,
    events: VecDeque<MemberEvent>,
    /// Nodes that were not let in because there are too many.
    refused: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Until then the others may not have been heard.
    Joining(Instant),
    Settled,
    Left,
}

#[derive(Debug)]
struct Other {
    member: Member,
    expires: Instant,
}

/// The times and limits of a [`Membership`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct MembershipConfig {
    pub(crate) heartbeat: Duration,
    pub(crate) timeout: Duration,
    pub(crate) max_members: usize,
}

impl Membership {
    /// A node that has not said hello yet: the first [`Self::handle_timeout`] does.
    pub(crate) fn new(me: Member, config: MembershipConfig, now: Instant) -> Self {
        Self {
            me,
            heartbeat: config.heartbeat,
            timeout: config.timeout,
            max_members: config.max_members,
            phase: Phase::Joining(now + config.heartbeat),
            link: Link::Down { since: now },
            next_beat: now,
            others: BTreeMap::new(),
            departed: VecDeque::new(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            refused: 0,
        }
    }

    /// This node.
    pub(crate) fn me(&self) -> &Member {
        &self.me
    }

    /// The other members.
    pub(crate) fn others(&self) -> impl ExactSizeIterator<Item = &Member> {
        self.others.values().map(|other| &other.member)
    }

    /// Whether this is another member.
    pub(crate) fn is_member(&self, node: NodeId) -> bool {
        self.others.contains_key(&node)
    }

    /// Whether there may be others: somebody is known, or nobody had the time to answer.
    pub(crate) fn may_have_others(&self) -> bool {
        !self.others.is_empty() || matches!(self.phase, Phase::Joining(_))
    }

    /// Whether the others had the time to answer the first hello.
    pub(crate) fn is_settled(&self) -> bool {
        self.phase == Phase::Settled
    }

    /// Takes how many nodes were not let in since the last call.
    pub(crate) fn take_refused(&mut self) -> usize {
        std::mem::take(&mut self.refused)
    }

    /// A node said that it is there, or with `hello` asked who else is.
    pub(crate) fn handle_announcement(&mut self, now: Instant, member: Member, hello: bool) {
        let node = member.node;
        if self.phase == Phase::Left || node == self.me.node || self.departed.contains(&node) {
            return;
        }
        let expires = now + self.timeout;
        let full = self.others.len() >= self.max_members;
        match self.others.get_mut(&node) {
            Some(other) if other.member.started_ms == member.started_ms => {
                other.member = member;
                other.expires = expires;
            }
            Some(_) => {
                // Whoever has the id of another run is not that node.
                self.events.push_back(MemberEvent::Left(node));
                self.add(member, expires);
            }
            None if full => {
                self.refused += 1;
                return;
            }
            None => self.add(member, expires),
        }
        if hello {
            self.transmits.push_back((Some(node), Announcement::Alive));
        } else if matches!(self.phase, Phase::Joining(_)) {
            self.phase = Phase::Settled;
        }
    }

    fn add(&mut self, member: Member, expires: Instant) {
        self.events.push_back(MemberEvent::Joined(member.clone()));
        self.others.insert(member.node, Other { member, expires });
    }

    /// A node said that it goes. It will not come back under this id.
    pub(crate) fn handle_goodbye(&mut self, node: NodeId) {
        if self.departed.contains(&node) || node == self.me.node {
            return;
        }
        if self.departed.len() == MAX_DEPARTED {
            self.departed.pop_front();
        }
        self.departed.push_back(node);
        if self.others.remove(&node).is_some() {
            self.events.push_back(MemberEvent::Left(node));
        }
    }

    /// The bus says how its link is.
    pub(crate) fn handle_link(&mut self, now: Instant, link: Link) {
        let was_up = self.link.is_up();
        self.link = link;
        if self.phase == Phase::Left || !link.is_up() || was_up {
            return;
        }
        // Nobody could be heard.
        for other in self.others.values_mut() {
            other.expires = now + self.timeout;
        }
        if matches!(self.phase, Phase::Joining(_)) {
            self.phase = Phase::Joining(now + self.heartbeat);
        }
        // The others may have given this node up meanwhile, or not know it yet.
        self.transmits.push_back((None, Announcement::Hello));
        self.next_beat = now + self.heartbeat;
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.phase == Phase::Left || !self.link.is_up() {
            return;
        }
        if let Phase::Joining(until) = self.phase
            && until <= now
        {
            self.phase = Phase::Settled;
        }
        if self.next_beat <= now {
            self.transmits.push_back((None, Announcement::Alive));
            self.next_beat = now + self.heartbeat;
        }
        let events = &mut self.events;
        self.others.retain(|&node, other| {
            let there = other.expires > now;
            if !there {
                events.push_back(MemberEvent::Left(node));
            }
            there
        });
    }

    /// This node goes, and says so if it can be heard.
    pub(crate) fn close(&mut self, link: Link) {
        if self.phase == Phase::Left {
            return;
        }
        self.phase = Phase::Left;
        self.transmits.clear();
        if link.is_up() {
            self.transmits.push_back((None, Announcement::Goodbye));
        }
    }

    /// What this node has to say, and to whom.
    pub(crate) fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// What has changed.
    pub(crate) fn poll_event(&mut self) -> Option<MemberEvent> {
        self.events.pop_front()
    }

    /// When [`Self::handle_timeout`] wants to be called. `None`: not before the link is up.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if self.phase == Phase::Left || !self.link.is_up() {
            return None;
        }
        let joining = match self.phase {
            Phase::Joining(until) => Some(until),
            Phase::Settled | Phase::Left => None,
        };
        let expiries = self.others.values().map(|other| other.expires);
        expiries.chain(joining).chain([self.next_beat]).min()
    }
}

#[cfg(test)]
mod tests;

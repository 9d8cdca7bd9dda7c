//! Which link carries which channel.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use sockhop_adapter::BusError;

use crate::link::{Canary, Link};
use crate::resp::Kind;
use crate::shared::Shared;
use crate::slots::{SLOTS, SlotRange, hash_tag, slot};
use crate::subscriptions::Subscriptions;
use crate::target::Target;
use crate::url::Address;

/// In the table of slots: nobody has it.
const NOBODY: usize = usize::MAX;

/// The links of a bus: one, or one for each server of a Redis Cluster.
#[derive(Debug)]
pub(crate) struct Routes(RwLock<Table>);

#[derive(Debug)]
struct Table {
    links: Vec<Arc<Link>>,
    /// For each slot the position of its link; empty where there are no slots.
    slots: Vec<usize>,
    /// The position of the link for what is not sharded.
    home: usize,
    /// What nobody can carry at the moment.
    waiting: Subscriptions,
}

impl Table {
    fn position(&self, kind: Kind, channel: &str) -> Option<usize> {
        let position = match kind {
            Kind::Shard => *self.slots.get(usize::from(slot(channel.as_bytes())))?,
            Kind::Channel | Kind::Pattern => self.home,
        };
        (position < self.links.len()).then_some(position)
    }

    fn link(&self, kind: Kind, channel: &str) -> Option<&Arc<Link>> {
        self.position(kind, channel)
            .and_then(|position| self.links.get(position))
    }
}

impl Routes {
    /// One link carries everything.
    pub(crate) fn single(link: Arc<Link>) -> Self {
        Self::new(vec![link])
    }

    /// Nobody carries anything until the servers are known.
    pub(crate) fn unknown() -> Self {
        Self::new(Vec::new())
    }

    fn new(links: Vec<Arc<Link>>) -> Self {
        Self(RwLock::new(Table {
            links,
            slots: Vec::new(),
            home: 0,
            waiting: Subscriptions::default(),
        }))
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn subscribe(&self, kind: Kind, channel: &str) {
        if let Some(link) = self.read().link(kind, channel) {
            return link.subscribe(kind, channel);
        }
        // Between the two locks a link may have come.
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match table.link(kind, channel) {
            Some(link) => link.subscribe(kind, channel),
            None => {
                table.waiting.subscribe(kind, channel);
            }
        }
    }

    pub(crate) fn unsubscribe(&self, kind: Kind, channel: &str) {
        if let Some(link) = self.read().link(kind, channel) {
            return link.unsubscribe(kind, channel);
        }
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match table.link(kind, channel) {
            Some(link) => link.unsubscribe(kind, channel),
            None => {
                table.waiting.unsubscribe(kind, channel);
            }
        }
    }

    /// Calls `publish` with the link that carries a channel; only a sharded channel needs its name.
    pub(crate) fn publish(
        &self,
        kind: Kind,
        channel: impl FnOnce() -> String,
        publish: impl FnOnce(&Link) -> Result<(), BusError>,
    ) -> Result<(), BusError> {
        let table = self.read();
        let link = match kind {
            Kind::Shard => table.link(kind, &channel()),
            Kind::Channel | Kind::Pattern => table.links.get(table.home),
        };
        publish(link.ok_or(BusError::LinkDown)?)
    }

    /// All links.
    pub(crate) fn links(&self) -> Vec<Arc<Link>> {
        self.read().links.clone()
    }

    /// Follows the servers of a Redis Cluster: makes links to new ones, closes those to servers that
    /// are gone, and takes every subscription to where its slot is now.
    pub(crate) fn follow(&self, shared: &Arc<Shared>, ranges: &[SlotRange]) {
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let home = table.links.get(table.home).cloned();
        let old = std::mem::take(&mut table.links);
        let plan = Plan::new(shared, ranges);
        table.links = plan.links(shared, &old);
        table.slots = plan.slots;
        let stays = |link: &Arc<Link>| table.links.iter().any(|other| Arc::ptr_eq(link, other));
        let position = home.and_then(|home| {
            let same = |link: &Arc<Link>| Arc::ptr_eq(link, &home);
            table.links.iter().position(same)
        });
        // Spread over the servers by the number of the node.
        let spread = || usize::try_from(shared.node.number() % 1_000_003).unwrap_or_default();
        let gone: Vec<_> = old.iter().filter(|link| !stays(link)).cloned().collect();
        table.home = position.unwrap_or_else(|| spread() % table.links.len().max(1));
        let mut moved = Vec::new();
        for (position, link) in table.links.iter().enumerate() {
            let leaves = |kind, channel: &str| table.position(kind, channel) != Some(position);
            moved.extend(link.take_subscriptions(leaves));
        }
        for link in &gone {
            moved.extend(link.take_subscriptions(|_, _| true));
        }
        moved.extend(table.waiting.take(|_, _| true));
        for (kind, channel, count) in moved {
            for _ in 0..count {
                match table.position(kind, &channel) {
                    Some(position) => table.links[position].subscribe(kind, &channel),
                    None => {
                        table.waiting.subscribe(kind, &channel);
                    }
                }
            }
        }
        for link in &table.links {
            link.retry_lost();
        }
        for link in gone {
            link.closed.cancel();
        }
    }
}

/// The servers that are needed, and the slots of each.
struct Plan {
    servers: Vec<Address>,
    slots: Vec<usize>,
    sharded: bool,
}

impl Plan {
    fn new(shared: &Shared, ranges: &[SlotRange]) -> Self {
        let prefix = shared.config.prefix.as_bytes();
        // With a hash tag in the prefix all our channels are in one slot, and nowhere else could
        // a link talk to itself.
        let only = hash_tag(prefix).map(|_| slot(prefix));
        let mut slots = vec![NOBODY; usize::from(SLOTS)];
        let mut servers: Vec<Address> = Vec::new();
        for range in ranges {
            let Some(range_slots) = slots.get_mut(range.first.into()..=range.last.into()) else {
                continue;
            };
            if only.is_some_and(|only| !(range.first..=range.last).contains(&only)) {
                continue;
            }
            let known = servers.iter().position(|server| *server == range.server);
            let position = known.unwrap_or_else(|| {
                servers.push(range.server.clone());
                servers.len() - 1
            });
            range_slots.fill(position);
        }
        let sharded = shared.config.cluster_sharded;
        if !sharded {
            // Every server passes on to all others, so one is enough.
            servers.sort();
            let number = usize::try_from(shared.node.number() % 1_000_003).unwrap_or_default();
            let chosen = number % servers.len().max(1);
            servers = servers.into_iter().skip(chosen).take(1).collect();
            slots.clear();
        }
        Self {
            servers,
            slots,
            sharded,
        }
    }

    /// A link for each server: the one it has, or a new one, which is started.
    fn links(&self, shared: &Arc<Shared>, old: &[Arc<Link>]) -> Vec<Arc<Link>> {
        let links = self.servers.iter().enumerate().map(|(position, server)| {
            let keeps = |link: &&Arc<Link>| {
                link.target.is_at(server) && self.can_talk(&link.canary, position)
            };
            if let Some(link) = old.iter().find(keeps) {
                return Arc::clone(link);
            }
            let canary = self.canary(shared, position);
            let link = Link::new(shared, Target::Fixed(server.clone()), canary);
            link.start();
            link
        });
        links.collect()
    }

    /// Whether this server has the slot of that canary.
    fn can_talk(&self, canary: &Canary, position: usize) -> bool {
        match canary.kind {
            Kind::Shard => {
                let slot = usize::from(slot(canary.channel.as_bytes()));
                self.slots.get(slot) == Some(&position)
            }
            Kind::Channel | Kind::Pattern => true,
        }
    }

    /// A canary whose slot this server has.
    fn canary(&self, shared: &Shared, position: usize) -> Canary {
        let name = shared.canary_channel();
        if !self.sharded {
            let kind = Kind::Channel;
            return Canary {
                kind,
                channel: name,
            };
        }
        let numbered = (0..1_000_000).map(|number| Canary {
            kind: Kind::Shard,
            channel: format!("{name}:{number}"),
        });
        let mut fitting = numbered.filter(|canary| self.can_talk(canary, position));
        // A server with one slot of 16,384 is found in a million names.
        fitting.next().unwrap_or(Canary {
            kind: Kind::Shard,
            channel: name,
        })
    }
}

//! Whom a broadcast reaches on this node.

use std::collections::HashSet;
use std::hash::BuildHasherDefault;
use std::ops::ControlFlow;

use smallvec::SmallVec;

use super::members::KeyHasher;
use super::shards::Shards;
use super::{Member, Rooms};
use crate::options::BroadcastOptions;
use crate::packets::PerParser;
use crate::recipient::{Room, SocketKey};

/// The sockets of this node that a broadcast leaves out, as they were when it began.
pub(crate) struct Excluded(SmallVec<[SocketKey; 4]>);

impl Excluded {
    fn contains(&self, key: SocketKey) -> bool {
        !self.0.is_empty() && self.0.binary_search(&key).is_ok()
    }
}

impl<C> Rooms<C> {
    /// Resolves the exceptions of a broadcast.
    pub(crate) fn excluded(&self, options: &BroadcastOptions) -> Excluded {
        let mut keys: SmallVec<[SocketKey; 4]> = options.except_socket.into_iter().collect();
        for room in &options.except {
            let _ = self.walk_room(room, &Excluded(SmallVec::new()), |key, _| {
                keys.push(key);
                ControlFlow::Continue(())
            });
        }
        keys.sort_unstable();
        Excluded(keys)
    }

    /// Calls `visit` once for each socket that the broadcast is for, with one shard locked.
    pub(crate) fn walk(
        &self,
        options: &BroadcastOptions,
        excluded: &Excluded,
        mut visit: impl FnMut(SocketKey, &Member<C>),
    ) {
        let mut visit = |key, member: &Member<C>| {
            visit(key, member);
            ControlFlow::Continue(())
        };
        let _ = match options.rooms.as_slice() {
            [] => self.walk_all(excluded, visit),
            [room] => self.walk_room(room, excluded, visit),
            rooms => {
                let expected = rooms.iter().map(|room| self.room_len(room)).sum();
                let mut seen: HashSet<SocketKey, BuildHasherDefault<KeyHasher>> =
                    HashSet::with_capacity_and_hasher(expected, BuildHasherDefault::default());
                rooms.iter().try_for_each(|room| {
                    self.walk_room(room, excluded, |key, member| match seen.insert(key) {
                        true => visit(key, member),
                        false => ControlFlow::Continue(()),
                    })
                })
            }
        };
    }

    /// The sockets that a broadcast with these options is for.
    pub(crate) fn keys(&self, options: &BroadcastOptions) -> Vec<SocketKey> {
        let excluded = self.excluded(options);
        let mut keys = Vec::new();
        self.walk(options, &excluded, |key, _| keys.push(key));
        keys
    }

    /// The parsers of the sockets that the broadcast is for. Stops as soon as it knows.
    pub(crate) fn parsers_needed(
        &self,
        options: &BroadcastOptions,
        excluded: &Excluded,
    ) -> PerParser<bool> {
        let mut in_use = PerParser::default();
        for parser in self.parsers_in_use() {
            *in_use.get_mut(parser) = true;
        }
        let mut needed = PerParser::default();
        if in_use == needed {
            return needed;
        }
        let mut visit = |_, member: &Member<C>| {
            *needed.get_mut(member.parser) = true;
            match needed == in_use {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        // Whoever sits in two rooms is seen twice, which does no harm here.
        let _ = match options.rooms.as_slice() {
            [] => self.walk_all(excluded, visit),
            rooms => rooms
                .iter()
                .try_for_each(|room| self.walk_room(room, excluded, &mut visit)),
        };
        needed
    }

    fn walk_all(
        &self,
        excluded: &Excluded,
        mut visit: impl FnMut(SocketKey, &Member<C>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        (0..Shards::<()>::count()).try_for_each(|number| {
            self.sockets
                .read(number)
                .iter()
                .filter(|&(&key, _)| !excluded.contains(key))
                .try_for_each(|(&key, entry)| visit(key, &entry.member))
        })
    }

    /// Visits the members of a room and the socket of this id. No socket is a member of the room
    /// named by its own id, so nobody is visited twice.
    fn walk_room(
        &self,
        room: &Room,
        excluded: &Excluded,
        mut visit: impl FnMut(SocketKey, &Member<C>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let name = room.as_str();
        if let Some(members) = self.rooms.read(self.hash(name)).get(name) {
            members.try_for_each(|key, member| match excluded.contains(key) {
                true => ControlFlow::Continue(()),
                false => visit(key, member),
            })?;
        }
        let Some(key) = self.lookup(name).filter(|&key| !excluded.contains(key)) else {
            return ControlFlow::Continue(());
        };
        match self.sockets.read(key.number()).get(&key) {
            Some(entry) => visit(key, &entry.member),
            None => ControlFlow::Continue(()),
        }
    }

    fn room_len(&self, room: &Room) -> usize {
        let name = room.as_str();
        let rooms = self.rooms.read(self.hash(name));
        rooms.get(name).map_or(1, super::Members::len)
    }
}

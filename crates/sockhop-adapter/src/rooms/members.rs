//! The members of one room.

use std::hash::{BuildHasherDefault, Hasher};
use std::ops::ControlFlow;

use indexmap::IndexMap;

use super::Member;
use super::shards::shrink_keys;
use crate::recipient::SocketKey;

/// Dense to walk, quick to remove from.
pub(super) type KeyMap<V> = IndexMap<SocketKey, V, BuildHasherDefault<KeyHasher>>;

/// Hashes a [`SocketKey`]. Keys are counted up by this process, so nobody can make them collide.
#[derive(Debug, Default)]
pub(super) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // The golden ratio spreads neighbours over the high bits, which the map looks at, too.
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0.rotate_left(32)
    }
}

/// Who is in a room; never nobody.
///
/// Rooms of one (a user, a game not yet joined) are so common that they have a form without a map.
pub(super) enum Members<C> {
    One(SocketKey, Member<C>),
    Many(Box<KeyMap<Member<C>>>),
}

impl<C> Members<C> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::One(..) => 1,
            Self::Many(members) => members.len(),
        }
    }

    pub(super) fn insert(&mut self, key: SocketKey, member: Member<C>) {
        match self {
            Self::One(one, _) if *one == key => {}
            Self::One(one, first) => {
                let members = [(*one, first.clone()), (key, member)].into_iter().collect();
                *self = Self::Many(Box::new(members));
            }
            Self::Many(members) => {
                members.insert(key, member);
            }
        }
    }

    /// Takes a member out. True: it was the last one, and the room has to go.
    pub(super) fn remove(&mut self, key: SocketKey) -> bool {
        match self {
            Self::One(one, _) => *one == key,
            Self::Many(members) => {
                members.swap_remove(&key);
                shrink_keys(members);
                if members.len() == 1
                    && let Some((one, member)) = members.pop()
                {
                    *self = Self::One(one, member);
                }
                false
            }
        }
    }

    pub(super) fn try_for_each(
        &self,
        mut visit: impl FnMut(SocketKey, &Member<C>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        match self {
            Self::One(key, member) => visit(*key, member),
            Self::Many(members) => members
                .iter()
                .try_for_each(|(key, member)| visit(*key, member)),
        }
    }

    pub(super) fn keys_into(&self, keys: &mut Vec<SocketKey>) {
        match self {
            Self::One(key, _) => keys.push(*key),
            Self::Many(members) => keys.extend(members.keys()),
        }
    }
}

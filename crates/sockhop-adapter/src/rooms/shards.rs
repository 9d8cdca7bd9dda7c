//! Locked parts of a map, so that changes in one part do not wait for walks of another.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::members::KeyMap;

/// Parts per map: enough that a few cores rarely meet, few enough for namespaces of two sockets.
const SHARDS: usize = 8;

/// Below this capacity a map keeps its memory.
const SMALL: usize = 64;

/// A map in parts, each behind its own lock.
#[derive(Debug, Default)]
pub(super) struct Shards<T>([RwLock<T>; SHARDS]);

impl<T> Shards<T> {
    /// The part that `hash` falls into, for reading.
    pub(super) fn read(&self, hash: u64) -> RwLockReadGuard<'_, T> {
        // A panic in here leaves at worst one entry out: no reason to lose all others.
        self.shard(hash)
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The part that `hash` falls into, for writing.
    pub(super) fn write(&self, hash: u64) -> RwLockWriteGuard<'_, T> {
        self.shard(hash)
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the part that `hash` falls into.
    pub(super) fn update<R>(&self, hash: u64, change: impl FnOnce(&mut T) -> R) -> R {
        change(&mut self.write(hash))
    }

    /// Reads all parts, one after the other.
    pub(super) fn each(&self, mut read: impl FnMut(&T)) {
        for number in 0..SHARDS as u64 {
            read(&self.read(number));
        }
    }

    /// How many parts there are: `hash` may be any number below.
    pub(super) fn count() -> u64 {
        SHARDS as u64
    }

    fn shard(&self, hash: u64) -> &RwLock<T> {
        &self.0[(hash % SHARDS as u64) as usize]
    }
}

/// Gives memory back after most keys have gone.
pub(super) fn shrink_keys<V>(map: &mut KeyMap<V>) {
    if map.capacity() > SMALL && map.len() < map.capacity() / 4 {
        map.shrink_to(map.len() * 2);
    }
}

/// Gives memory back after most names have gone.
pub(super) fn shrink_names<K: Eq + Hash, V>(map: &mut HashMap<K, V>) {
    if map.capacity() > SMALL && map.len() < map.capacity() / 4 {
        map.shrink_to(map.len() * 2);
    }
}

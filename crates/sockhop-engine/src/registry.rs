//! The sessions of one mount, by their secret ids.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use engineio_proto::{ProtocolVersion, SessionId};

use crate::mailbox::Mailbox;
use crate::response::Look;

/// Locks that the table is spread over.
const SHARDS: usize = 16;

/// What a request must know of its session before it is handed over.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) version: ProtocolVersion,
    pub(crate) look: Look,
    pub(crate) mailbox: Mailbox,
}

type Shard = HashMap<SessionId, Entry, BuildHasherDefault<IdHasher>>;

/// Takes the last eight bytes of an id as its hash: they are random. A client chooses the ids that
/// it asks for, but not those in the table, so it cannot make them collide.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(last) = bytes.last_chunk() {
            self.0 ^= u64::from_ne_bytes(*last);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Sessions by id, with a limit on their number.
#[derive(Debug)]
pub(crate) struct Registry {
    shards: [Mutex<Shard>; SHARDS],
    len: AtomicUsize,
    max: usize,
}

impl Registry {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            len: AtomicUsize::new(0),
            max,
        }
    }

    /// Takes the session in, unless the table is full.
    pub(crate) fn insert(&self, id: SessionId, entry: Entry) -> bool {
        if self.len.fetch_add(1, Ordering::Relaxed) >= self.max {
            self.len.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        self.shard(&id).insert(id, entry);
        true
    }

    pub(crate) fn get(&self, id: &SessionId) -> Option<Entry> {
        self.shard(id).get(id).cloned()
    }

    pub(crate) fn remove(&self, id: &SessionId) {
        if self.shard(id).remove(id).is_some() {
            self.len.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// The mailboxes of all sessions, one shard after the other.
    pub(crate) fn mailboxes(&self) -> Vec<Mailbox> {
        let mut all = Vec::with_capacity(self.len());
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(shard.values().map(|entry| entry.mailbox.clone()));
        }
        all
    }

    fn shard(&self, id: &SessionId) -> MutexGuard<'_, Shard> {
        // Other bits than those that a table looks at.
        let hash = BuildHasherDefault::<IdHasher>::default().hash_one(id);
        let index = (hash >> 32) % SHARDS as u64;
        self.shards[index as usize]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

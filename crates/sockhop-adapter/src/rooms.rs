//! The index of one namespace: its sockets, its rooms, and who is in which.

mod members;
mod shards;
mod walk;

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use engineio_proto::Outgoing;
use smallvec::SmallVec;
use socketio_proto::Parser;
use sockhop_outbox::Outbox;

use crate::cluster::Interest;
use crate::packets::{PARSERS, PerParser};
use crate::recipient::{Recipient, RemoteSocketInfo, Room, SocketId, SocketInfo, SocketKey};
use crate::stats::Stats;
use members::{KeyMap, Members};
use shards::{Shards, shrink_keys, shrink_names};
pub(crate) use walk::Excluded;

/// What sockets may do to the index.
#[derive(Clone, Copy, Debug)]
pub struct RoomLimits {
    /// Rooms one socket may be in besides its own. Default: 1000. More is
    /// [`RoomsError::TooManyRooms`].
    pub max_rooms_per_socket: usize,
    /// Bytes in the name of a room. Default: 1024. More is [`RoomsError::NameTooLong`].
    pub max_name_bytes: usize,
}

impl Default for RoomLimits {
    fn default() -> Self {
        Self {
            max_rooms_per_socket: 1000,
            max_name_bytes: 1024,
        }
    }
}

/// Why a socket is not in the room that it was to join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoomsError {
    /// The socket has disconnected.
    #[error("no such socket")]
    UnknownSocket,
    /// It is in [`RoomLimits::max_rooms_per_socket`] rooms already.
    #[error("the socket is in {limit} rooms already")]
    TooManyRooms {
        /// The limit.
        limit: usize,
    },
    /// The name of the room is longer than [`RoomLimits::max_name_bytes`].
    #[error("the name of the room is longer than {limit} bytes")]
    NameTooLong {
        /// The limit.
        limit: usize,
    },
}

/// Who is in which room of one namespace.
///
/// A room is there while somebody is in it. The room named by a socket's id is there as long as
/// the socket, with no entry of its own; others may join it like any room.
///
/// *Shape:* sockets are sharded by key, ids and rooms by name. Membership changes under the lock
/// of the socket's shard with the room's shard locked inside it; walks lock one shard at a time.
/// A socket that changes rooms while a broadcast walks gets it once or not at all.
pub struct Rooms<C> {
    sockets: Shards<KeyMap<Entry<C>>>,
    ids: Shards<HashMap<SocketId, SocketKey>>,
    rooms: Shards<HashMap<Room, Members<C>>>,
    /// Picks the shard of a name. Randomly keyed, because peers may choose names.
    hasher: RandomState,
    in_use: PerParser<AtomicUsize>,
    limits: RoomLimits,
    stats: Arc<Stats>,
    /// Told which rooms have members here, under the lock of their shard, so that it hears of them
    /// in the order in which that was so.
    interest: Option<Interest>,
}

/// What a walk needs to know about a member.
pub(crate) struct Member<C> {
    pub(crate) outbox: Outbox<Outgoing<C>>,
    pub(crate) parser: Parser,
}

struct Entry<C> {
    member: Member<C>,
    info: Arc<dyn SocketInfo>,
    /// The rooms joined, without the one named by its id.
    rooms: SmallVec<[Room; 1]>,
}

/// What a walk needs to ask a single socket.
pub(crate) struct Address<C> {
    pub(crate) id: SocketId,
    pub(crate) outbox: Outbox<Outgoing<C>>,
    pub(crate) parser: Parser,
}

impl<C> Rooms<C> {
    /// An empty index that counts refusals in `stats`.
    #[must_use]
    pub fn new(limits: RoomLimits, stats: Arc<Stats>) -> Self {
        Self {
            sockets: Shards::default(),
            ids: Shards::default(),
            rooms: Shards::default(),
            hasher: RandomState::new(),
            in_use: PerParser::default(),
            limits,
            stats,
            interest: None,
        }
    }

    /// The same index, whose rooms are made known to other nodes.
    pub(crate) fn with_interest(mut self, interest: Interest) -> Self {
        self.interest = Some(interest);
        self
    }

    pub(crate) fn interest(&self) -> Option<&Interest> {
        self.interest.as_ref()
    }

    /// Takes in a socket, which is in no room but its own.
    pub fn connect(&self, recipient: Recipient<C>) {
        let Recipient {
            key,
            parser,
            outbox,
            info,
        } = recipient;
        let id = info.id().clone();
        let entry = Entry {
            member: Member { outbox, parser },
            info,
            rooms: SmallVec::new(),
        };
        if self
            .sockets
            .write(key.number())
            .insert(key, entry)
            .is_none()
        {
            self.in_use.get(parser).fetch_add(1, Ordering::Relaxed);
        }
        self.ids.write(self.hash(id.as_str())).insert(id, key);
    }

    /// Forgets a socket. Returns the rooms it was in, without its own; none if it is not known.
    pub fn disconnect(&self, key: SocketKey) -> Vec<Room> {
        let Some(entry) = self.sockets.update(key.number(), |sockets| {
            let entry = sockets.swap_remove(&key);
            shrink_keys(sockets);
            entry
        }) else {
            return Vec::new();
        };
        // From here on nobody can add it to a room any more.
        let parser = entry.member.parser;
        self.in_use.get(parser).fetch_sub(1, Ordering::Relaxed);
        let id = entry.info.id().as_str();
        self.ids.update(self.hash(id), |ids| {
            if ids.get(id) == Some(&key) {
                ids.remove(id);
                shrink_names(ids);
            }
        });
        for room in &entry.rooms {
            self.remove_member(room.as_str(), key);
        }
        entry.rooms.into_vec()
    }

    /// Puts a socket into a room. False: it was there already.
    ///
    /// # Errors
    /// The socket is not known, or a limit is reached; nothing has changed.
    pub fn join(&self, key: SocketKey, room: &Room) -> Result<bool, RoomsError> {
        let limit = self.limits.max_name_bytes;
        if room.as_str().len() > limit {
            self.stats.names_refused.add(1);
            return Err(RoomsError::NameTooLong { limit });
        }
        self.sockets.update(key.number(), |sockets| {
            let entry = sockets.get_mut(&key).ok_or(RoomsError::UnknownSocket)?;
            if entry.info.id().as_str() == room.as_str() || entry.rooms.contains(room) {
                return Ok(false);
            }
            let limit = self.limits.max_rooms_per_socket;
            if entry.rooms.len() >= limit {
                self.stats.rooms_refused.add(1);
                return Err(RoomsError::TooManyRooms { limit });
            }
            let shared_name = self.add_member(room, key, entry.member.clone());
            entry.rooms.push(shared_name);
            Ok(true)
        })
    }

    /// Takes a socket out of a room. False: it was not there. No socket leaves its own room.
    pub fn leave(&self, key: SocketKey, room: &str) -> bool {
        self.sockets.update(key.number(), |sockets| {
            let Some(entry) = sockets.get_mut(&key) else {
                return false;
            };
            let Some(position) = entry.rooms.iter().position(|name| name.as_str() == room) else {
                return false;
            };
            entry.rooms.remove(position);
            self.remove_member(room, key);
            true
        })
    }

    /// Takes everybody out of a room. Returns how many left.
    ///
    /// A socket that joins meanwhile may stay.
    pub fn close_room(&self, room: &str) -> usize {
        let mut keys = Vec::new();
        if let Some(members) = self.rooms.read(self.hash(room)).get(room) {
            members.keys_into(&mut keys);
        }
        keys.retain(|&key| self.leave(key, room));
        keys.len()
    }

    /// The rooms of a socket, the one named by its id first; `None` if it is not known.
    #[must_use]
    pub fn rooms_of(&self, key: SocketKey) -> Option<Vec<Room>> {
        let sockets = self.sockets.read(key.number());
        sockets.get(&key).map(Entry::all_rooms)
    }

    /// The sockets in a room, that of this id included.
    #[must_use]
    pub fn sockets_in(&self, room: &str) -> Vec<SocketId> {
        let mut keys = Vec::new();
        if let Some(members) = self.rooms.read(self.hash(room)).get(room) {
            members.keys_into(&mut keys);
        }
        keys.extend(self.lookup(room));
        keys.into_iter()
            .filter_map(|key| Some(self.address(key)?.id))
            .collect()
    }

    /// All rooms, in no order; those named by the ids of sockets included.
    #[must_use]
    pub fn all_rooms(&self) -> Vec<Room> {
        let mut names = Vec::new();
        self.ids
            .each(|ids| names.extend(ids.keys().map(Room::from)));
        self.rooms.each(|rooms| {
            // Others may have joined the room of a socket: it was listed with the ids.
            names.extend(rooms.keys().cloned());
        });
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The key of the socket with this id.
    #[must_use]
    pub fn lookup(&self, id: &str) -> Option<SocketKey> {
        self.ids.read(self.hash(id)).get(id).copied()
    }

    /// What is known about a socket.
    #[must_use]
    pub fn socket(&self, key: SocketKey) -> Option<RemoteSocketInfo> {
        let sockets = self.sockets.read(key.number());
        sockets.get(&key).map(|entry| RemoteSocketInfo {
            id: entry.info.id().clone(),
            rooms: entry.all_rooms(),
            info: Arc::clone(&entry.info),
        })
    }

    /// How many sockets there are.
    #[must_use]
    pub fn len(&self) -> usize {
        PARSERS
            .into_iter()
            .map(|parser| self.in_use.get(parser).load(Ordering::Relaxed))
            .sum()
    }

    /// Whether there is no socket.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The parsers of the sockets there are.
    pub fn parsers_in_use(&self) -> impl Iterator<Item = Parser> {
        PARSERS
            .into_iter()
            .filter(|&parser| self.in_use.get(parser).load(Ordering::Relaxed) > 0)
    }

    pub(crate) fn address(&self, key: SocketKey) -> Option<Address<C>> {
        let sockets = self.sockets.read(key.number());
        sockets.get(&key).map(|entry| Address {
            id: entry.info.id().clone(),
            outbox: entry.member.outbox.clone(),
            parser: entry.member.parser,
        })
    }

    /// Adds to the room's own list. Returns the name as the room has it, for all members to share.
    fn add_member(&self, room: &Room, key: SocketKey, member: Member<C>) -> Room {
        self.rooms.update(self.hash(room.as_str()), |rooms| {
            if let Some(members) = rooms.get_mut(room) {
                members.insert(key, member);
                rooms
                    .get_key_value(room)
                    .map_or_else(|| room.clone(), |(name, _)| name.clone())
            } else {
                rooms.insert(room.clone(), Members::One(key, member));
                if let Some(interest) = &self.interest {
                    interest.begin(room.as_str());
                }
                room.clone()
            }
        })
    }

    fn remove_member(&self, room: &str, key: SocketKey) {
        self.rooms.update(self.hash(room), |rooms| {
            if rooms
                .get_mut(room)
                .is_some_and(|members| members.remove(key))
            {
                rooms.remove(room);
                shrink_names(rooms);
                if let Some(interest) = &self.interest {
                    interest.end(room);
                }
            }
        });
    }

    fn hash(&self, name: &str) -> u64 {
        self.hasher.hash_one(name)
    }
}

impl<C> Entry<C> {
    fn all_rooms(&self) -> Vec<Room> {
        let own = Room::from(self.info.id());
        std::iter::once(own)
            .chain(self.rooms.iter().cloned())
            .collect()
    }
}

impl<C> Clone for Member<C> {
    fn clone(&self) -> Self {
        Self {
            outbox: self.outbox.clone(),
            parser: self.parser,
        }
    }
}

/// Nobody is in any room any more.
impl<C> Drop for Rooms<C> {
    fn drop(&mut self) {
        if let Some(interest) = &self.interest {
            self.rooms
                .each(|rooms| rooms.keys().for_each(|room| interest.end(room.as_str())));
        }
    }
}

impl<C> fmt::Debug for Rooms<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rooms")
            .field("sockets", &self.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

//! What is counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The number now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, count: usize) {
        // Most counts of most broadcasts are 0: no need to touch the shared cache line.
        if count > 0 {
            self.0.fetch_add(count as u64, Ordering::Relaxed);
        }
    }
}

/// Counters of the adapters that share them, usually all namespaces of a server.
#[derive(Debug, Default)]
pub struct Stats {
    /// Broadcasts begun on this node.
    pub broadcasts: Counter,
    /// Packets queued for sockets of this node.
    pub deliveries: Counter,
    /// Volatile packets dropped because a transport was not ready.
    pub volatile_dropped: Counter,
    /// Packets refused because the outbox of their session is over its budget.
    pub overflows: Counter,
    /// Packets for sessions that had just ended.
    pub late: Counter,
    /// Joins refused by [`RoomLimits::max_rooms_per_socket`](crate::RoomLimits).
    pub rooms_refused: Counter,
    /// Joins refused by [`RoomLimits::max_name_bytes`](crate::RoomLimits).
    pub names_refused: Counter,
    /// Broadcasts handed to the bus.
    pub published: Counter,
    /// Broadcasts that the bus refused: other nodes may have missed them.
    pub publish_failures: Counter,
    /// Bytes of the frames handed to the bus for broadcasts, each copy counted.
    pub published_bytes: Counter,
    /// Messages that came over the bus from other nodes.
    pub received: Counter,
    /// Bytes of all frames that came over the bus.
    pub received_bytes: Counter,
    /// Messages received without a socket here that wants them.
    pub discarded: Counter,
    /// Messages of other nodes passed on because their room only looked like the id of a socket of
    /// this node, or the socket has gone.
    pub strays: Counter,
    /// Further copies of messages, dropped.
    pub duplicates: Counter,
    /// Messages of this node that came back to it.
    pub own: Counter,
    /// Messages received that nobody can read.
    pub bad_frames: Counter,
    /// Queries sent to other nodes.
    pub requests: Counter,
    /// Queries that were not sent because of
    /// [`ClusterConfig::max_requests`](crate::ClusterConfig).
    pub requests_refused: Counter,
    /// Queries of other nodes that came here, acks included.
    pub requests_served: Counter,
    /// Those of them that were ignored because of [`ClusterConfig::max_served`](crate::ClusterConfig).
    pub requests_ignored: Counter,
    /// Nodes whose answers to queries were missing.
    pub missing_answers: Counter,
    /// Answers that came when nobody waited any more.
    pub late_answers: Counter,
    /// Nodes that were not let in because of [`ClusterConfig::max_members`](crate::ClusterConfig).
    pub members_refused: Counter,
    /// Packets received that were written anew for another parser.
    pub transcoded: Counter,
}

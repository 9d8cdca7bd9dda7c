//! Whom a broadcast is for.

use smallvec::SmallVec;

use crate::recipient::{Room, SocketKey};

/// Whom a broadcast is for, and how.
///
/// *Shape:* up to four rooms of either list need no heap memory.
#[derive(Clone, Debug)]
pub struct BroadcastOptions {
    /// Sockets in any of these rooms; with no room, all sockets of the namespace.
    pub rooms: SmallVec<[Room; 4]>,
    /// Sockets in any of these rooms are left out. The id of a socket is a room, too.
    pub except: SmallVec<[Room; 4]>,
    /// One socket of this node to leave out: the sender.
    pub except_socket: Option<SocketKey>,
    /// Drop the packet for sockets whose transport is not ready, instead of queueing it.
    pub volatile: bool,
    /// Sockets of this node only.
    pub local: bool,
    /// Whether polling bodies with this packet may be compressed. Default: true.
    pub compress: bool,
}

impl Default for BroadcastOptions {
    fn default() -> Self {
        Self {
            rooms: SmallVec::new(),
            except: SmallVec::new(),
            except_socket: None,
            volatile: false,
            local: false,
            compress: true,
        }
    }
}

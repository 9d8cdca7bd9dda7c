//! What is asked of many sockets of this node at once.

use engineio_proto::Outgoing;
use sockhop_outbox::Push;

use super::Adapter;
use crate::options::BroadcastOptions;
use crate::recipient::{Directive, DisconnectScope, RemoteSocketInfo, Room};

impl<C> Adapter<C> {
    /// Puts the sockets that `options` name into all of `rooms`. Refused joins are counted.
    /// Returns how many sockets there were.
    pub fn sockets_join(&self, options: &BroadcastOptions, rooms: &[Room]) -> usize {
        let sockets = self.rooms.keys(options);
        for &socket in &sockets {
            for room in rooms {
                // A limit refuses this join only, and a socket that has gone needs none.
                let _ = self.rooms.join(socket, room);
            }
        }
        sockets.len()
    }

    /// Takes the sockets that `options` name out of all of `rooms`. Returns how many sockets there
    /// were.
    pub fn sockets_leave(&self, options: &BroadcastOptions, rooms: &[Room]) -> usize {
        let sockets = self.rooms.keys(options);
        for &socket in &sockets {
            for room in rooms {
                self.rooms.leave(socket, room.as_str());
            }
        }
        sockets.len()
    }

    /// Asks the sessions of the sockets that `options` name to disconnect them. Returns how many
    /// were asked.
    pub fn disconnect_sockets(&self, options: &BroadcastOptions, scope: DisconnectScope) -> usize
    where
        C: From<Directive>,
    {
        let mut asked = 0;
        for socket in self.rooms.keys(options) {
            let Some(address) = self.rooms.address(socket) else {
                continue;
            };
            let directive = Directive::Disconnect { socket, scope };
            let item = Outgoing::Control(directive.into());
            match address.outbox.push_control(item) {
                Push::Queued => asked += 1,
                // The session ends anyway, in a moment or a moment ago.
                Push::Overflow => self.stats().overflows.add(1),
                Push::Closed | Push::Dropped => self.stats().late.add(1),
            }
        }
        asked
    }

    /// The sockets that `options` name.
    #[must_use]
    pub fn fetch_sockets(&self, options: &BroadcastOptions) -> Vec<RemoteSocketInfo> {
        let sockets = self.rooms.keys(options);
        sockets
            .into_iter()
            .filter_map(|socket| self.rooms.socket(socket))
            .collect()
    }
}

//! What users attach to a socket.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::Arc;

use socketio_proto::Value;
use sockhop_adapter::Room;

use crate::handler::PacketMiddleware;
use crate::socket::Socket;

/// Told when the session has moved to a WebSocket.
pub(crate) type UpgradeHandler = Arc<dyn Fn(&Socket) + Send + Sync>;

/// What few sockets have.
#[derive(Default)]
pub(crate) struct Extras {
    pub(crate) data: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
    pub(crate) public_data: Value,
    pub(crate) packet_middlewares: Vec<PacketMiddleware>,
    pub(crate) upgrade_handlers: Vec<UpgradeHandler>,
    /// Rooms to join once the socket is let in: the index does not know it before.
    pub(crate) waiting_rooms: Vec<Room>,
}

/// Callbacks that a socket that has left does not need. They may hold the socket itself, which
/// would never be freed if it kept them.
pub(crate) type Callbacks = (Vec<PacketMiddleware>, Vec<UpgradeHandler>);

impl Extras {
    pub(crate) fn take_callbacks(&mut self) -> Callbacks {
        (
            std::mem::take(&mut self.packet_middlewares),
            std::mem::take(&mut self.upgrade_handlers),
        )
    }
}

//! A socket as a query found it, on whichever node it lives.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use socketio_proto::Value;
use sockhop_adapter::{RemoteSocketInfo, Room, SocketId};

use crate::cluster::Changed;
use crate::error::{AckError, EmitError};
use crate::namespace::Namespace;
use crate::operator::IntoRooms;

/// What [`crate::BroadcastOperator::fetch_sockets`] found: a snapshot, and the ways to reach it.
#[derive(Clone, Debug)]
pub struct RemoteSocket {
    namespace: Namespace,
    found: RemoteSocketInfo,
}

impl RemoteSocket {
    pub(crate) fn new(namespace: Namespace, found: RemoteSocketInfo) -> Self {
        Self { namespace, found }
    }

    /// The public id.
    #[must_use]
    pub fn id(&self) -> &SocketId {
        &self.found.id
    }

    /// The rooms that it was in, the one of its own id included.
    #[must_use]
    pub fn rooms(&self) -> &[Room] {
        &self.found.rooms
    }

    /// The first request of its session: an object with `headers`, `time`, `address`, `xdomain`,
    /// `secure`, `issued`, `url`, `query` and `auth`.
    #[must_use]
    pub fn handshake(&self) -> Value {
        self.found.info.handshake()
    }

    /// What [`crate::Socket::set_data`] attached to it.
    #[must_use]
    pub fn data(&self) -> Value {
        self.found.info.data()
    }

    /// Sends an event to it.
    ///
    /// # Errors
    /// As [`crate::BroadcastOperator::emit`].
    pub fn emit<T: Serialize + ?Sized>(&self, event: &str, payload: &T) -> Result<(), EmitError> {
        self.namespace
            .to_socket(&self.found.id)
            .emit(event, payload)
    }

    /// Sends an event to it and waits for the acknowledgement.
    ///
    /// # Errors
    /// As [`crate::Namespace::call`].
    pub async fn emit_with_ack<R: DeserializeOwned>(
        &self,
        event: &str,
        payload: &(impl Serialize + ?Sized),
        timeout: Duration,
    ) -> Result<R, AckError> {
        self.namespace
            .call(&self.found.id, event, payload, timeout)
            .await
    }

    /// Makes it join rooms.
    pub fn join(&self, rooms: impl IntoRooms) -> Changed {
        self.namespace.enter_room(&self.found.id, rooms)
    }

    /// Makes it leave rooms.
    pub fn leave(&self, rooms: impl IntoRooms) -> Changed {
        self.namespace.leave_room(&self.found.id, rooms)
    }

    /// Disconnects it, or with `close` its whole session.
    pub fn disconnect(&self, close: bool) -> Changed {
        self.namespace
            .to_socket(&self.found.id)
            .disconnect_sockets(close)
    }
}

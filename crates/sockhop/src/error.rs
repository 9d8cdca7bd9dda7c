//! What can go wrong for the user of the library, and why sockets end.

use std::fmt;

use engineio_proto::CloseReason;
use socketio_proto::{DecodeError, EncodeError};
use sockhop_adapter::BroadcastError;

/// Why an emit did not reach everybody it was meant for.
#[derive(Debug, thiserror::Error)]
pub enum EmitError {
    /// The payload could not be written; nothing was sent.
    #[error("the payload could not be encoded")]
    Encode(#[from] EncodeError),
    /// The socket has left its namespace, or was not let in yet; nothing was sent.
    #[error("the socket is disconnected")]
    Disconnected,
    /// The socket reads too slowly and is being disconnected; nothing was sent.
    #[error("the outbox of the socket is full")]
    Overflow,
    /// Sockets of this node got it, other nodes may have missed it.
    #[error("other nodes may have missed the message")]
    Bus(#[source] sockhop_adapter::BusError),
}

impl From<BroadcastError> for EmitError {
    fn from(error: BroadcastError) -> Self {
        match error {
            BroadcastError::Encode(error) => Self::Encode(error),
            BroadcastError::Bus { source, .. } => Self::Bus(source),
        }
    }
}

/// Why no acknowledgement came.
#[derive(Debug, thiserror::Error)]
pub enum AckError {
    /// The event could not be sent.
    #[error("the event could not be sent")]
    Emit(#[from] EmitError),
    /// The client did not answer in time.
    #[error("no acknowledgement in time")]
    Timeout,
    /// The socket left before it answered.
    #[error("the socket is disconnected")]
    Disconnected,
    /// The node of the socket did not answer.
    #[error("the node of the socket did not answer")]
    Unreachable,
    /// The client owes as many acknowledgements as allowed. The event was not sent.
    #[error("the client owes too many acknowledgements")]
    TooMany,
    /// The answer does not fit the type asked for.
    #[error("the acknowledgement does not fit")]
    Decode(#[from] DecodeError),
}

/// Why a socket left its namespace.
///
/// *Source:* `DisconnectReason` of socket.io, whose strings [`fmt::Display`] renders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DisconnectReason {
    /// The connection failed, a WebSocket message was too large, or the client read too slowly.
    TransportError,
    /// The client closed the connection.
    TransportClose,
    /// The server closed the session without leaving its namespaces first.
    ForcedClose,
    /// The client missed its heartbeat.
    PingTimeout,
    /// The client sent something that the protocol does not allow.
    ParseError,
    /// The server is closing.
    ServerShuttingDown,
    /// The session was closed above Engine.IO. Known for completeness: this server tells
    /// [`Self::ForcedClose`] or [`Self::ServerNamespaceDisconnect`] instead.
    ForcedServerClose,
    /// The client left the namespace.
    ClientNamespaceDisconnect,
    /// The server disconnected the socket.
    ServerNamespaceDisconnect,
}

impl DisconnectReason {
    /// The string that socket.io documents.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TransportError => "transport error",
            Self::TransportClose => "transport close",
            Self::ForcedClose => "forced close",
            Self::PingTimeout => "ping timeout",
            Self::ParseError => "parse error",
            Self::ServerShuttingDown => "server shutting down",
            Self::ForcedServerClose => "forced server close",
            Self::ClientNamespaceDisconnect => "client namespace disconnect",
            Self::ServerNamespaceDisconnect => "server namespace disconnect",
        }
    }
}

impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<&CloseReason> for DisconnectReason {
    fn from(reason: &CloseReason) -> Self {
        match reason {
            CloseReason::TransportClose => Self::TransportClose,
            CloseReason::PingTimeout => Self::PingTimeout,
            CloseReason::ForcedClose | CloseReason::ConnectTimeout => Self::ForcedClose,
            CloseReason::ServerShutdown => Self::ServerShuttingDown,
            CloseReason::InvalidMessage => Self::ParseError,
            CloseReason::Violation(violation) if violation.is_parse_error() => Self::ParseError,
            CloseReason::Violation(_)
            | CloseReason::TransportError
            | CloseReason::RateLimited
            | CloseReason::MemoryBudget
            | CloseReason::SlowConsumer => Self::TransportError,
        }
    }
}

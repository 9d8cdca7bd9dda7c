//! Engine.IO v3 and v4: codec and session state machine, without I/O.
//!
//! Nothing here opens a socket, reads a clock or draws a random number: time and entropy arrive
//! as arguments, bytes leave through return values.
//!
//! - [`message`]: what Engine.IO carries for Socket.IO, encoded once for every transport.
//! - [`sid`]: the secret identifier of a session.
//! - [`handshake`]: what the first packet of a session says.
//! - [`packet`]: one Engine.IO packet, in both directions.
//! - [`payload`]: several packets in one HTTP body, and JSONP.
//! - [`session`]: the server's end of one session, over long-polling and WebSocket.
//! - [`error`]: refusals, broken rules, and the reasons why sessions end.
#![cfg_attr(
    not(test),
    warn(
        clippy::wildcard_enum_match_arm,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation
    )
)]

pub mod error;
pub mod handshake;
pub mod message;
pub mod packet;
pub mod payload;
pub mod session;
pub mod sid;
mod timer;

pub use error::{CloseReason, PeerViolation, Refusal, RequestError, WsRefused};
pub use message::{Encoded, Frame, GaveWay, GivesWay, Message, MessageWriter, Outgoing, Text};
pub use packet::{IncomingPacket, Packet};
pub use payload::{Body, BodyKind, PollingPeer};
pub use session::{Detached, Event, Session, SessionConfig, Stats, Transmit, TransportId};
pub use sid::{NodeTag, SessionId, SidText};

/// The revision of the Engine.IO protocol that a session was opened with (query parameter `EIO`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProtocolVersion {
    /// `EIO=3`: socket.io-client 1.x and 2.x. The client sends the pings.
    V3,
    /// `EIO=4`: socket.io-client 3.x and newer. The server sends the pings.
    V4,
}

/// How packets travel between the two ends of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// HTTP long-polling, query parameter `transport=polling`.
    Polling,
    /// A WebSocket, query parameter `transport=websocket`.
    WebSocket,
}

impl Transport {
    /// The name in the query string, in metrics and in `transport()` of the libraries.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Polling => "polling",
            Self::WebSocket => "websocket",
        }
    }
}

impl ProtocolVersion {
    /// The number in the query string: 3 or 4.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::V3 => 3,
            Self::V4 => 4,
        }
    }
}

//! Socket.IO protocol 4 and 5: codec and per-connection state machine, without I/O.
//!
//! Nothing here opens a socket, reads a clock or draws a random number: time arrives as an
//! argument, messages come in as [`engineio_proto::Message`] and leave as
//! [`engineio_proto::Encoded`].
//!
//! - [`client`]: everything one peer multiplexes over its session, seen from the server.
//! - [`encode`]: packets for a peer, serialised once for all recipients.
//! - [`decode`] and [`packet`]: packets of a peer, checked and kept raw.
//! - [`reassembly`]: binary packets waiting for their attachments.
//! - [`payload`]: the arguments of an event or ack, decoded by whoever wants them.
//! - [`value`]: arguments of any shape, binary included.
//! - [`msgpack`]: values in MessagePack, outside of packets.
//! - [`name`], [`ack`], [`error`]: the small types that the others share.

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

pub mod ack;
pub mod client;
pub mod decode;
pub mod encode;
pub mod error;
pub mod msgpack;
pub mod name;
pub mod packet;
pub mod payload;
pub mod reassembly;
pub mod value;

pub use ack::AckId;
pub use client::{Client, ClientConfig, ClientEvent, ClientStats, Limits};
pub use encode::{
    encode_ack, encode_connect, encode_connect_error, encode_disconnect, encode_event,
};
pub use error::{ConnectError, DecodeError, EncodeError, PeerViolation};
pub use name::{NamespaceName, is_reserved_event};
pub use payload::Payload;
pub use value::{Args, Value};

/// How packets are written: a property of the mount path, the same for every peer there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Parser {
    /// The default: one text message and its attachments as binary messages.
    Json,
    /// `socket.io-msgpack-parser`: one binary message with everything inside.
    Msgpack,
}

/// The revision of the Socket.IO protocol, which follows from the revision of Engine.IO.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SocketioVersion {
    /// Protocol 4 over `EIO=3`: clients 1.x and 2.x, which join `/` without asking.
    V4,
    /// Protocol 5 over `EIO=4`: clients 3.x and newer, which ask for every namespace.
    V5,
}

impl From<engineio_proto::ProtocolVersion> for SocketioVersion {
    fn from(version: engineio_proto::ProtocolVersion) -> Self {
        match version {
            engineio_proto::ProtocolVersion::V3 => Self::V4,
            engineio_proto::ProtocolVersion::V4 => Self::V5,
        }
    }
}

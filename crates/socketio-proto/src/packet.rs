//! Packets of a peer, checked.

use engineio_proto::Text;

use crate::ack::AckId;
use crate::payload::Payload;

/// One packet of a peer. Its payload is checked but still as it arrived.
#[derive(Clone, Debug)]
pub struct Packet {
    /// The namespace it is for; `None` means `/`.
    pub namespace: Option<Text>,
    /// The query in the namespace, without `?`, as protocol 4 peers send it in a CONNECT.
    pub query: Option<Text>,
    /// What it says.
    pub content: Content,
}

/// What a packet says.
#[derive(Clone, Debug)]
pub enum Content {
    /// The peer asks to join.
    Connect {
        /// One object, or nothing. Always nothing from a peer of protocol 4.
        auth: Payload,
    },
    /// The peer leaves.
    Disconnect,
    /// An event, with or without binary data.
    Event {
        /// The name; a number appears as its text.
        name: Text,
        /// The arguments, without the name.
        payload: Payload,
        /// Set when the peer wants an ack.
        ack: Option<AckId>,
    },
    /// The answer to an event of ours.
    Ack {
        /// The id that the event had.
        id: AckId,
        /// The arguments.
        payload: Payload,
    },
    /// CONNECT_ERROR; only a server sends it.
    ConnectError,
}

impl Packet {
    /// The namespace it is for.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or("/")
    }
}

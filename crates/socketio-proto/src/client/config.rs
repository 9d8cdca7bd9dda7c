//! What a [`super::Client`] allows its peer.

use std::time::Duration;

use crate::Parser;

/// Settings of a mount path, shared by all its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    /// How packets are written. Default: JSON.
    pub parser: Parser,
    /// Time to join a first namespace, from the opening of the session on. Default: 45 s.
    pub connect_timeout: Duration,
    /// Bounds of everything that can grow.
    pub limits: Limits,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            parser: Parser::Json,
            connect_timeout: Duration::from_secs(45),
            limits: Limits::default(),
        }
    }
}

/// Bounds of what one peer can make grow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Attachments of one packet. Default: 10. More is a violation.
    pub max_attachments: usize,
    /// Bytes of one packet, attachments included. Default: 11 million, which is ten attachments
    /// and their head at the default limit of a message. More is a violation.
    pub max_packet_bytes: usize,
    /// Time between two messages of a packet with attachments. Default: 60 s.
    pub attachment_timeout: Duration,
    /// Namespaces at a time. Default: 100. More is a violation.
    pub max_namespaces: usize,
    /// Bytes of the name of a namespace or of an event. Default: 1024. More is a violation.
    pub max_name_bytes: usize,
    /// Acks that the server may await at a time. Default: 1000. More is an error to the sender.
    pub max_pending_acks: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_attachments: 10,
            max_packet_bytes: 11_000_000,
            attachment_timeout: Duration::from_secs(60),
            max_namespaces: 100,
            max_name_bytes: 1024,
            max_pending_acks: 1000,
        }
    }
}

//! What can go wrong: the peer breaks a rule, or a payload does not fit its type.

use std::fmt;

use serde::{de, ser};

use crate::value::Value;

/// A rule of the protocol that the peer broke. The session has to be closed.
///
/// *Source:* the decoder of socket.io-parser and `Client.ondecoded` of socket.io; where those are
/// silent, the protocol document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerViolation {
    /// The packet type is not one of the protocol, or no type is there.
    #[error("unknown packet type")]
    UnknownPacketType,
    /// A binary packet does not say in digits how many attachments follow.
    #[error("illegal number of attachments")]
    IllegalAttachmentCount,
    /// More attachments announced than [`crate::Limits::max_attachments`].
    #[error("too many attachments")]
    TooManyAttachments,
    /// A placeholder does not point to one of the announced attachments.
    #[error("placeholder without its attachment")]
    IllegalPlaceholder,
    /// The packet and its attachments are larger than [`crate::Limits::max_packet_bytes`].
    #[error("packet too large")]
    PacketTooLarge,
    /// The name of a namespace does not begin with `/`.
    #[error("illegal namespace name")]
    IllegalNamespace,
    /// A name is longer than [`crate::Limits::max_name_bytes`].
    #[error("name too long")]
    NameTooLong,
    /// The ack id is missing in an ack, or no integer of 64 bits.
    #[error("illegal ack id")]
    IllegalAckId,
    /// The payload is not valid JSON.
    #[error("invalid JSON")]
    InvalidJson,
    /// The message is not one valid MessagePack map with the keys of a packet.
    #[error("invalid MessagePack")]
    InvalidMsgpack,
    /// The payload of a CONNECT is not an object.
    #[error("CONNECT payload is not an object")]
    ConnectPayload,
    /// A DISCONNECT has a payload.
    #[error("DISCONNECT with a payload")]
    DisconnectPayload,
    /// The payload of an event is missing or not an array.
    #[error("EVENT payload is not an array")]
    EventPayload,
    /// The payload of an ack is missing or not an array.
    #[error("ACK payload is not an array")]
    AckPayload,
    /// The first element of an event is neither a string nor a number.
    #[error("event name is neither a string nor a number")]
    IllegalEventName,
    /// The event has a name of the protocol's own vocabulary.
    #[error("event name is reserved")]
    ReservedEvent,
    /// A text message came while attachments were expected, or the parser knows no text.
    #[error("unexpected text message")]
    UnexpectedText,
    /// A binary message came while no attachment was expected.
    #[error("unexpected binary message")]
    UnexpectedBinary,
    /// A packet came before the first CONNECT.
    #[error("packet before CONNECT")]
    NotConnected,
    /// A packet came for a namespace that the peer has not joined.
    #[error("packet for a namespace that was not joined")]
    NotJoined,
    /// CONNECT to a namespace that the peer has joined already.
    #[error("CONNECT to a joined namespace")]
    AlreadyJoined,
    /// More namespaces at a time than [`crate::Limits::max_namespaces`].
    #[error("too many namespaces")]
    TooManyNamespaces,
    /// CONNECT_ERROR, which only a server sends.
    #[error("CONNECT_ERROR from a client")]
    ConnectErrorFromClient,
}

/// Why a peer may not join a namespace, in the words that it will read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ConnectError {
    /// The `message` of the `connect_error` at the peer.
    pub message: String,
    /// The `data` beside it. Peers of protocol 4 get the data instead of the message.
    pub data: Option<Value>,
}

impl ConnectError {
    /// A refusal without data.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            data: None,
        }
    }

    /// The same refusal with data.
    #[must_use]
    pub fn with_data(self, data: impl Into<Value>) -> Self {
        Self {
            data: Some(data.into()),
            ..self
        }
    }

    /// The refusal of a namespace that does not exist.
    #[must_use]
    pub fn invalid_namespace() -> Self {
        Self::new("Invalid namespace")
    }
}

/// A payload that cannot be sent. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The event has a name of the protocol's own vocabulary (see [`crate::is_reserved_event`]).
    #[error("event name `{0}` is reserved")]
    Reserved(Box<str>),
    /// The payload cannot be written as JSON.
    #[error("payload cannot be written as JSON")]
    Json(#[from] serde_json::Error),
    /// The payload cannot be written as MessagePack.
    #[error("payload cannot be written as MessagePack")]
    Msgpack(#[from] rmp_serde::encode::Error),
    /// The payload announced another number of elements than it then wrote.
    #[error("payload wrote {written} arguments after announcing {announced}")]
    ArgumentCount {
        /// What its `Serialize` announced.
        announced: usize,
        /// What it wrote.
        written: usize,
    },
}

/// A payload that does not fit the type asked for. The session is not affected.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The JSON does not fit the type.
    #[error("payload does not fit")]
    Json(#[from] serde_json::Error),
    /// The MessagePack does not fit the type.
    #[error("payload does not fit")]
    Msgpack(#[from] rmp_serde::decode::Error),
    /// A payload with attachments, or made from values, does not fit the type.
    #[error("payload does not fit: {0}")]
    Value(Box<str>),
}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Value(message.to_string().into_boxed_str())
    }
}

/// Why [`crate::encode`] does not spread a payload over several arguments.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpreadError {
    /// It is one argument: not a tuple, not `()`.
    #[error("payload is one argument")]
    One,
    /// It is a tuple, and an element failed.
    #[error(transparent)]
    Failed(#[from] EncodeError),
}

impl ser::Error for SpreadError {
    // A payload that fails before it wrote anything is tried again as one argument, which
    // brings its error to light in the words of the parser.
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::One
    }
}

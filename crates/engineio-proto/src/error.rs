//! Refusals, broken rules, and the reasons why sessions end.

use thiserror::Error;

/// Why a request is refused with a numbered error.
///
/// *Shape:* the numbers are on the wire: `{"code":<code>,"message":"<message>"}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[error("{}", self.message())]
pub enum RequestError {
    /// The `transport` parameter is missing, unknown or disabled.
    TransportUnknown = 0,
    /// No session has this `sid`.
    SessionUnknown = 1,
    /// A handshake by another method than GET.
    BadHandshakeMethod = 2,
    /// The request does not fit the session's transport, or is malformed.
    BadRequest = 3,
    /// The application does not admit this request.
    Forbidden = 4,
    /// The `EIO` parameter is missing, unknown or disabled.
    UnsupportedProtocol = 5,
}

impl RequestError {
    /// The number on the wire.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::TransportUnknown => 0,
            Self::SessionUnknown => 1,
            Self::BadHandshakeMethod => 2,
            Self::BadRequest => 3,
            Self::Forbidden => 4,
            Self::UnsupportedProtocol => 5,
        }
    }

    /// The text on the wire.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::TransportUnknown => "Transport unknown",
            Self::SessionUnknown => "Session ID unknown",
            Self::BadHandshakeMethod => "Bad handshake method",
            Self::BadRequest => "Bad request",
            Self::Forbidden => "Forbidden",
            Self::UnsupportedProtocol => "Unsupported protocol version",
        }
    }
}

/// How a polling request that a session refuses is answered. Whether the session ends as well is
/// told by [`Event::Closed`](crate::Event::Closed).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Status 400 with the JSON body of this error.
    #[error(transparent)]
    BadRequest(#[from] RequestError),
    /// Status 400 with an empty body.
    #[error("the request breaks the rules of long-polling")]
    Empty,
}

/// The session does not take this WebSocket: accept it, then close it without a status code.
///
/// *Source:* what engine.io does with a second WebSocket during or after an upgrade; the session
/// is unharmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the session does not take another websocket")]
pub struct WsRefused;

/// A rule of the protocol that the peer broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum PeerViolation {
    /// A packet without even a type.
    #[error("empty packet")]
    EmptyPacket,
    /// A packet type other than `0` to `6`, or other than message for binary data.
    #[error("unknown packet type")]
    PacketType,
    /// Binary data that is not base64.
    #[error("invalid base64")]
    Base64,
    /// A text that is not UTF-8.
    #[error("text is not UTF-8")]
    NotUtf8,
    /// A body without any packet where one is required.
    #[error("empty payload")]
    EmptyPayload,
    /// A version 3 length that is missing, malformed, or does not fit the rest of the body.
    #[error("invalid length in payload")]
    PayloadLength,
    /// A version 3 binary body whose packet is neither text nor binary.
    #[error("unknown packet kind in binary payload")]
    PayloadKind,
    /// More packets in one body than the configuration allows.
    #[error("too many packets in one payload")]
    TooManyPackets,
    /// More pings than the peer took pongs.
    #[error("too many unanswered pings")]
    TooManyPings,
    /// A ping from a version 4 client or a pong from a version 3 client.
    #[error("invalid heartbeat direction")]
    HeartbeatDirection,
    /// A version 4 body of type `application/octet-stream`.
    #[error("invalid content type of payload")]
    BinaryBody,
    /// A GET while another one was pending.
    #[error("overlapping polls")]
    OverlappingPoll,
    /// A POST while another one was unfinished.
    #[error("overlapping posts")]
    OverlappingPost,
    /// A WebSocket message above the payload limit.
    #[error("message above the payload limit")]
    TooLarge,
    /// Bytes that are not WebSocket frames as the standard wants them.
    #[error("invalid websocket frame")]
    WebSocketFrame,
}

impl PeerViolation {
    /// Whether the bytes of a packet or payload were at fault, rather than when or how they came.
    #[must_use]
    pub fn is_parse_error(self) -> bool {
        match self {
            Self::EmptyPacket
            | Self::PacketType
            | Self::Base64
            | Self::NotUtf8
            | Self::EmptyPayload
            | Self::PayloadLength
            | Self::PayloadKind
            | Self::TooManyPackets => true,
            Self::TooManyPings
            | Self::HeartbeatDirection
            | Self::BinaryBody
            | Self::OverlappingPoll
            | Self::OverlappingPost
            | Self::TooLarge
            | Self::WebSocketFrame => false,
        }
    }
}

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer closed the session.
    TransportClose,
    /// The transport failed, or a pending poll or post was cut off.
    TransportError,
    /// The peer's heartbeat did not come in time.
    PingTimeout,
    /// The peer broke a rule of Engine.IO.
    Violation(PeerViolation),
    /// The peer broke a rule of the layer above Engine.IO.
    InvalidMessage,
    /// The application closed the session.
    ForcedClose,
    /// The peer took its messages too slowly and its outbox overflowed.
    SlowConsumer,
    /// The server is going away.
    ServerShutdown,
    /// The peer joined no namespace in time.
    ConnectTimeout,
    /// The peer sent more than its rate allows.
    RateLimited,
    /// All sessions together held too much, and this one was among the newest.
    MemoryBudget,
}

impl CloseReason {
    /// The reason in the words of engine.io.
    ///
    /// *Source:* engine.io knows five; a rule broken above it surfaces there as "forced close".
    #[must_use]
    pub fn engine_reason(&self) -> &'static str {
        match self {
            Self::TransportClose => "transport close",
            Self::TransportError => "transport error",
            Self::PingTimeout => "ping timeout",
            Self::Violation(violation) if violation.is_parse_error() => "parse error",
            Self::Violation(_) | Self::SlowConsumer | Self::RateLimited | Self::MemoryBudget => {
                "transport error"
            }
            Self::InvalidMessage
            | Self::ForcedClose
            | Self::ServerShutdown
            | Self::ConnectTimeout => "forced close",
        }
    }

    /// A name for metrics and logs, from a small fixed set.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::TransportClose => "transport_close",
            Self::TransportError => "transport_error",
            Self::PingTimeout => "ping_timeout",
            Self::Violation(violation) if violation.is_parse_error() => "parse_error",
            Self::Violation(_) => "peer_violation",
            Self::InvalidMessage => "invalid_message",
            Self::ForcedClose => "forced_close",
            Self::SlowConsumer => "slow_consumer",
            Self::ServerShutdown => "server_shutdown",
            Self::ConnectTimeout => "connect_timeout",
            Self::RateLimited => "rate_limited",
            Self::MemoryBudget => "memory_budget",
        }
    }

    /// Whether what is queued should still reach the peer before the session ends.
    pub(crate) fn drains(&self) -> bool {
        match self {
            Self::ForcedClose | Self::ServerShutdown | Self::ConnectTimeout => true,
            Self::TransportClose
            | Self::TransportError
            | Self::PingTimeout
            | Self::Violation(_)
            | Self::InvalidMessage
            | Self::RateLimited
            | Self::MemoryBudget
            | Self::SlowConsumer => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_errors_have_the_numbers_and_texts_of_engine_io() {
        for (error, code, message) in [
            (RequestError::TransportUnknown, 0, "Transport unknown"),
            (RequestError::SessionUnknown, 1, "Session ID unknown"),
            (RequestError::BadHandshakeMethod, 2, "Bad handshake method"),
            (RequestError::BadRequest, 3, "Bad request"),
            (RequestError::Forbidden, 4, "Forbidden"),
            (
                RequestError::UnsupportedProtocol,
                5,
                "Unsupported protocol version",
            ),
        ] {
            assert_eq!((error.code(), error.message()), (code, message));
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn every_reason_speaks_the_words_of_engine_io() {
        let violation = CloseReason::Violation(PeerViolation::HeartbeatDirection);
        assert_eq!(violation.engine_reason(), "transport error");
        let malformed = CloseReason::Violation(PeerViolation::EmptyPayload);
        assert_eq!(malformed.engine_reason(), "parse error");
        assert_eq!(CloseReason::InvalidMessage.engine_reason(), "forced close");
    }
}

//! What goes into a session and what comes out of it.

use std::num::NonZeroU32;
use std::time::Duration;

#[cfg(doc)]
use crate::Encoded;
use crate::{Body, CloseReason, Message, Packet};

/// What a session is configured with; one value is shared by many sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// Version 4: from a pong (or the beginning) to the next ping. Default 25 s.
    pub ping_interval: Duration,
    /// Version 4: from a ping to its pong. Version 3: how much later than the interval the peer's
    /// ping may come. Default 20 s.
    pub ping_timeout: Duration,
    /// How long a WebSocket may take from its arrival to the end of the upgrade. Default 10 s.
    pub upgrade_timeout: Duration,
    /// How long the last packets wait for a poll to take them after a close. Default 30 s.
    pub close_timeout: Duration,
    /// Bytes in one message from the peer, announced to it, and in one polling body to it; a
    /// single larger packet still goes, alone. Default 1,000,000.
    pub max_payload: usize,
    /// Packets in one polling body to the peer. Default 16, the most that python-engineio takes.
    pub max_packets_per_body: usize,
    /// Packets in one POST from the peer. Default 1,000.
    pub max_packets_per_post: usize,
    /// Whether a polling session may move to a WebSocket. Default yes.
    pub allow_upgrades: bool,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            upgrade_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(30),
            max_payload: 1_000_000,
            max_packets_per_body: 16,
            max_packets_per_post: 1_000,
            allow_upgrades: true,
        }
    }
}

/// Names one GET, POST or WebSocket of a session.
///
/// *Shape:* a generation number, counted up from 1; it comes again only after 2³² transports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TransportId(NonZeroU32);

impl TransportId {
    pub(super) const FIRST: Self = Self(NonZeroU32::MIN);

    pub(super) fn next(self) -> Self {
        self.0.checked_add(1).map_or(Self::FIRST, Self)
    }
}

/// What the driver is to do.
#[derive(Debug)]
pub enum Transmit {
    /// Answer the pending GET `id` with this body.
    ///
    /// *Shape:* for a JSONP peer the driver wraps it with
    /// [`wrap_jsonp`](crate::payload::wrap_jsonp).
    PollBody {
        /// The GET.
        id: TransportId,
        /// What to answer.
        body: Body,
        /// The [`budget_bytes`](Encoded::budget_bytes) of all messages of which this body holds
        /// the last packet.
        refund_bytes: usize,
    },
    /// Write this packet to WebSocket `id`.
    WebSocket {
        /// The WebSocket: the session's, or the candidate of an upgrade.
        id: TransportId,
        /// The packet. A message's budget is for the driver to refund once it is written.
        packet: Packet,
    },
    /// Close WebSocket `id`, after what was transmitted before, by a close frame without status.
    CloseWebSocket {
        /// The WebSocket.
        id: TransportId,
    },
}

/// What the layer above should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message from the peer.
    Message(Message),
    /// The session has moved from polling to a WebSocket.
    Upgraded,
    /// The session is over; comes once, as the last event. What was queued may still be on its
    /// way: the session is to be kept until [`Session::is_closed`](super::Session::is_closed).
    Closed(CloseReason),
}

/// How a transport came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detached {
    /// The peer closed the WebSocket, or the connection of a GET or POST went away before its end.
    Closed,
    /// Reading or writing failed.
    Failed,
    /// A WebSocket message or POST body is larger than the limit. A POST is answered with status
    /// 413 and the session lives on; a WebSocket is closed by the driver, with status 1009.
    TooLarge,
    /// The peer broke the rules of the WebSocket protocol.
    Violation,
}

/// What a session has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Packets from the peer.
    pub packets_in: u64,
    /// Packets to the peer, each attachment counted as one.
    pub packets_out: u64,
    /// Bytes of POST bodies and WebSocket messages from the peer.
    pub bytes_in: u64,
    /// Bytes of polling bodies and WebSocket messages to the peer, without headers.
    pub bytes_out: u64,
    /// Messages that were sent and not handed to a transport as a whole before the session ended,
    /// or sent after it had ended. Final once [`Session::is_closed`](super::Session::is_closed).
    pub messages_lost: u64,
}

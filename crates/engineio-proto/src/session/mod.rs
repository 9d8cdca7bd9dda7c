//! The server's end of one session, over long-polling and WebSocket.
//!
//! See [`Session`] for its inputs and outputs and the order in which to use them.

mod fifo;
mod heartbeat;
mod polling;
mod queue;
#[cfg(test)]
pub(crate) mod tests;
mod types;
mod upgrade;

use std::sync::Arc;
use std::time::{Duration, Instant};

use self::fifo::Fifo;
use self::polling::{LastWord, PollSlot};
use self::queue::{Queue, Queued};
pub use self::types::{Detached, Event, SessionConfig, Stats, Transmit, TransportId};
use self::upgrade::Upgrade;
use crate::timer::{Timer, TimerTable};
use crate::{
    CloseReason, Encoded, GaveWay, IncomingPacket, Message, Packet, PeerViolation, PollingPeer,
    ProtocolVersion, SessionId, Text, Transport, handshake,
};

/// The server's end of one session: a state machine without I/O.
///
/// *Inputs:* [`handle_poll`](Self::handle_poll), [`handle_post_start`](Self::handle_post_start),
/// [`handle_post`](Self::handle_post), [`handle_ws_open`](Self::handle_ws_open),
/// [`handle_ws_message`](Self::handle_ws_message), [`handle_detached`](Self::handle_detached),
/// [`handle_timeout`](Self::handle_timeout). All take `now`, so that a driver need not know which
/// of them start a timer. *Commands:* [`send`](Self::send), [`close`](Self::close).
///
/// *Outputs,* to be polled after every input in this order, each until it returns `None`:
/// [`poll_transmit`](Self::poll_transmit), [`poll_event`](Self::poll_event),
/// [`poll_timeout`](Self::poll_timeout).
///
/// Every transport has a [`TransportId`]; news of one that the session has given up is ignored.
/// A session on a WebSocket answers everything at once, so a driver whose socket is not writable
/// may simply stop polling for transmits.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use engineio_proto::{
///     NodeTag, PollingPeer, ProtocolVersion, Session, SessionConfig, SessionId, Transmit, Transport,
/// };
///
/// # #[expect(clippy::disallowed_methods, reason = "an example is a driver")]
/// let now = std::time::Instant::now();
/// let id = SessionId::new(NodeTag::default(), [7; 12]);
/// let mut session = Session::new(
///     now,
///     Arc::new(SessionConfig::default()),
///     id,
///     ProtocolVersion::V4,
///     Transport::Polling,
///     PollingPeer::default(),
/// );
/// let poll = session.handle_poll(now).unwrap();
/// match session.poll_transmit(now) {
///     Some(Transmit::PollBody { id, body, .. }) => {
///         assert_eq!(id, poll);
///         assert!(body.bytes.starts_with(b"0{\"sid\":\"AAAABwcHBwcHBwcHBwcH\","));
///     }
///     other => panic!("{other:?}"),
/// }
/// ```
#[derive(Debug)]
pub struct Session {
    config: Arc<SessionConfig>,
    queue: Queue,
    events: Fifo<Event>,
    timers: TimerTable,
    stats: Stats,
    upgrade: Upgrade,
    /// No poll has arrived since the candidate's first probe.
    releases_next_poll: bool,
    poll: PollSlot,
    /// The POST whose body is on its way.
    post: Option<TransportId>,
    /// A WebSocket to be closed by the next transmit.
    discarded: Option<TransportId>,
    last_transport: TransportId,
    peer: PollingPeer,
    id: SessionId,
    version: ProtocolVersion,
    phase: Phase,
}

/// The life of a session.
///
/// ```text
///            drain                    finish
///   Open ─────────────▶ Closing ─────────────────▶ Closed
///     │                (last packets wait             ▲
///     │                 for a poll)                   │
///     └───────────────────────────────────────────────┘
///       finish: peer gone, rule broken, heartbeat late
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Messages go both ways.
    Open,
    /// The layer above was told that the session is over; what is queued still leaves.
    Closing,
    /// Nothing leaves any more but the goodbye to the transports.
    Closed,
}

impl Phase {
    /// Begins an orderly end; `false` when the end has begun already.
    #[must_use]
    fn drain(&mut self) -> bool {
        let was_open = *self == Self::Open;
        if was_open {
            *self = Self::Closing;
        }
        was_open
    }

    /// Ends; says what phase it was before.
    fn finish(&mut self) -> Self {
        std::mem::replace(self, Self::Closed)
    }
}

/// How long after the peer's goodbye a GET may arrive that was sent before it.
const OVERTAKEN: Duration = Duration::from_millis(50);

impl Session {
    /// A session that begins on `transport`, with its open packet queued.
    ///
    /// *Shape:* on polling the first GET is then passed to [`handle_poll`](Self::handle_poll); a
    /// WebSocket is attached already, as [`current_transport`](Self::current_transport).
    #[must_use]
    pub fn new(
        now: Instant,
        config: Arc<SessionConfig>,
        id: SessionId,
        version: ProtocolVersion,
        transport: Transport,
        peer: PollingPeer,
    ) -> Self {
        let first = TransportId::FIRST;
        let mut session = Self {
            config,
            queue: Queue::default(),
            events: Fifo::default(),
            timers: TimerTable::new(now),
            stats: Stats::default(),
            upgrade: match transport {
                Transport::Polling => Upgrade::None,
                Transport::WebSocket => Upgrade::Current(first),
            },
            releases_next_poll: false,
            poll: PollSlot::Empty,
            post: None,
            discarded: None,
            last_transport: first,
            peer,
            id,
            version,
            phase: Phase::Open,
        };
        session.queue.push(Queued::Open);
        session.restart_heartbeat(now);
        session
    }

    /// The content of one WebSocket message arrived, its packet type included.
    pub fn handle_ws_message(&mut self, now: Instant, id: TransportId, content: Message) {
        match self.upgrade {
            Upgrade::Current(current) if current == id => {}
            Upgrade::Candidate { id: candidate, .. } if candidate == id => {
                self.handle_candidate_message(content);
                return;
            }
            Upgrade::None | Upgrade::Candidate { .. } | Upgrade::Current(_) => return,
        }
        let content_len = content.len() as u64;
        self.stats.bytes_in = self.stats.bytes_in.saturating_add(content_len);
        match IncomingPacket::decode(self.version, content) {
            Ok(packet) => self.handle_packet(now, packet),
            Err(violation) => self.violation(violation),
        }
    }

    /// Transport `id` is gone, or the driver is about to end it. Late news of a transport that the
    /// session has given up is ignored.
    pub fn handle_detached(&mut self, _now: Instant, id: TransportId, why: Detached) {
        if self.poll.id() == Some(id) {
            self.poll.vacate();
            self.polling_request_lost();
        } else if self.post == Some(id) {
            self.post = None;
            match why {
                Detached::TooLarge => {}
                Detached::Closed | Detached::Failed | Detached::Violation => {
                    self.polling_request_lost();
                }
            }
        }
        match self.upgrade {
            Upgrade::Candidate { id: candidate, .. } if candidate == id => {
                self.abandon_candidate();
            }
            Upgrade::Current(current) if current == id => self.abort(match why {
                Detached::Closed => CloseReason::TransportClose,
                Detached::Failed => CloseReason::TransportError,
                Detached::TooLarge => CloseReason::Violation(PeerViolation::TooLarge),
                Detached::Violation => CloseReason::Violation(PeerViolation::WebSocketFrame),
            }),
            Upgrade::None | Upgrade::Candidate { .. } | Upgrade::Current(_) => {}
        }
        if self.discarded == Some(id) {
            self.discarded = None;
        }
    }

    /// Time has passed; every deadline up to `now` takes effect.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((timer, late)) = self.timers.take_expired(now) {
            match timer {
                Timer::Ping => self.ping_is_due(now, late),
                Timer::Pong => self.abort(CloseReason::PingTimeout),
                Timer::Noop => self.noop_is_due(),
                Timer::UpgradeDeadline => self.discard_candidate(),
                Timer::CloseDeadline => self.finish(),
            }
        }
    }

    /// Sends a message and its attachments. After the end of the session it is lost, and counted.
    pub fn send(&mut self, packet: Encoded) {
        match self.phase {
            Phase::Open => self.queue.push(Queued::Message(packet)),
            Phase::Closing | Phase::Closed => {
                self.stats.messages_lost = self.stats.messages_lost.saturating_add(1);
            }
        }
    }

    /// Drops messages that [give way](Encoded::gives_way), oldest first, until `bytes` are free
    /// or none is left. What has left in part leaves whole.
    pub fn make_room(&mut self, bytes: usize) -> GaveWay {
        self.queue.make_room(bytes)
    }

    /// Ends the session.
    ///
    /// *Shape:* where `reason` is a decision of this side and not a fault, what is queued still
    /// leaves before the goodbye: on a WebSocket at once, on polling with the pending GET or within
    /// [`SessionConfig::close_timeout`] with the next one. Otherwise it is lost.
    pub fn close(&mut self, now: Instant, reason: CloseReason) {
        if !reason.drains() {
            self.abort(reason);
            return;
        }
        if !self.phase.drain() {
            return;
        }
        self.stop_heartbeat();
        self.timers.stop(Timer::Noop);
        self.timers
            .start(Timer::CloseDeadline, now, self.config.close_timeout);
        let nobody_listens = self.transport() == Transport::Polling && self.poll.id().is_none();
        if nobody_listens && self.queue.is_empty() {
            // As from engine.io: a later poll is released, and told of the close beside.
            self.queue.push(Queued::Noop);
        }
        self.queue.push(Queued::Close);
        self.events.push(Event::Closed(reason));
    }

    /// The next thing to write or to close.
    pub fn poll_transmit(&mut self, _now: Instant) -> Option<Transmit> {
        if let Some(id) = self.discarded.take() {
            return Some(Transmit::CloseWebSocket { id });
        }
        if let Upgrade::Current(id) = self.upgrade {
            // A poll that was pending at the switch; never more than this one.
            if self.poll.id().is_some() {
                return self.transmit_poll();
            }
            return self.transmit_websocket(id);
        }
        if let Some(id) = self.upgrade.take_probe() {
            let packet = Packet::Pong(Text::from("probe"));
            return Some(Transmit::WebSocket { id, packet });
        }
        self.transmit_poll()
    }

    /// The next thing that the layer above should know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), unless something else comes first.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// The session's id.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The protocol version of the peer, the same for the whole session.
    #[must_use]
    pub fn version(&self) -> ProtocolVersion {
        self.version
    }

    /// What the peer can take, as its first request said.
    #[must_use]
    pub fn peer(&self) -> PollingPeer {
        self.peer
    }

    /// What messages travel on now, or did last.
    #[must_use]
    pub fn transport(&self) -> Transport {
        match self.upgrade {
            Upgrade::None | Upgrade::Candidate { .. } => Transport::Polling,
            Upgrade::Current(_) => Transport::WebSocket,
        }
    }

    /// The session's WebSocket; on polling the newest transport, whatever it is.
    #[must_use]
    pub fn current_transport(&self) -> TransportId {
        match self.upgrade {
            Upgrade::None | Upgrade::Candidate { .. } => self.last_transport,
            Upgrade::Current(id) => id,
        }
    }

    /// Whether a message sent now would leave at once, with nothing waiting before it.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        let connected = match (self.upgrade, self.poll) {
            (Upgrade::Current(_), _) | (_, PollSlot::Parked(_)) => true,
            (
                Upgrade::None | Upgrade::Candidate { .. },
                PollSlot::Empty | PollSlot::Released(..),
            ) => false,
        };
        self.phase == Phase::Open && connected && self.queue.is_empty()
    }

    /// Whether the peer said goodbye in a POST that may have overtaken a GET. The answer to that
    /// POST is to wait until the session [is closed](Self::is_closed): a GET that the peer sends
    /// after the answer then finds no session, and one that it sent before is released.
    #[must_use]
    pub fn awaits_overtaken_poll(&self) -> bool {
        self.phase == Phase::Closing && self.queue.starts_with_farewell()
    }

    /// Whether nothing is left to do, so that the session may be dropped.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
            && self.discarded.is_none()
            && self.poll.id().is_none()
            && self.events.is_empty()
    }

    /// What the session has done so far.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    fn handle_packet(&mut self, now: Instant, packet: IncomingPacket) {
        self.stats.packets_in = self.stats.packets_in.saturating_add(1);
        if packet == IncomingPacket::Close {
            self.peer_closed(now);
            return;
        }
        // While the last packets leave, the layer above does not listen any more.
        if self.phase != Phase::Open {
            return;
        }
        match packet {
            IncomingPacket::Message(message) => self.events.push(Event::Message(message)),
            IncomingPacket::Ping(data) => self.handle_ping(now, &data),
            IncomingPacket::Pong(_) => self.handle_pong(now),
            // Mean nothing here, and engine.io does not mind them.
            IncomingPacket::Open
            | IncomingPacket::Close
            | IncomingPacket::Upgrade
            | IncomingPacket::Noop => {}
        }
    }

    fn transmit_websocket(&mut self, id: TransportId) -> Option<Transmit> {
        let (config, sid) = (&self.config, self.id);
        let open = || handshake::json(config, sid, Transport::WebSocket);
        let packet = self.queue.pop(open)?;
        if matches!(packet, Packet::Close) {
            self.finish();
            // Finishing discards the WebSocket.
            let id = self.discarded.take()?;
            return Some(Transmit::CloseWebSocket { id });
        }
        let bytes = match packet.control() {
            Some((_, data)) => data.len().saturating_add(1),
            None => packet.frames().map(|frame| frame.data().len()).sum(),
        };
        let packets = packet.frames().count().max(1);
        self.count_out(packets, bytes);
        Some(Transmit::WebSocket { id, packet })
    }

    fn count_out(&mut self, packets: usize, bytes: usize) {
        let stats = &mut self.stats;
        stats.packets_out = stats.packets_out.saturating_add(packets as u64);
        stats.bytes_out = stats.bytes_out.saturating_add(bytes as u64);
    }

    fn issue_transport_id(&mut self) -> TransportId {
        self.last_transport = self.last_transport.next();
        self.last_transport
    }

    /// The peer said goodbye: it does not need to hear one in a pending poll.
    ///
    /// The POST that says so may overtake the GET beside it, which is then released the same way.
    fn peer_closed(&mut self, now: Instant) {
        let overtaken = self.transport() == Transport::Polling && self.poll.id().is_none();
        if overtaken && self.phase.drain() {
            self.events.push(Event::Closed(CloseReason::TransportClose));
            let lost = self.queue.clear();
            self.stats.messages_lost = self.stats.messages_lost.saturating_add(lost);
            self.queue.push(Queued::Farewell);
            self.timers.stop_all();
            self.timers.start(Timer::CloseDeadline, now, OVERTAKEN);
            return;
        }
        self.poll.release(LastWord::Noop);
        self.abort(CloseReason::TransportClose);
    }

    fn violation(&mut self, violation: PeerViolation) {
        self.abort(CloseReason::Violation(violation));
    }

    /// A GET or POST was cut off, which is fatal unless the session has moved on.
    fn polling_request_lost(&mut self) {
        if self.transport() == Transport::Polling {
            self.abort(CloseReason::TransportError);
        }
    }

    /// Ends the session at once; what is queued is lost.
    fn abort(&mut self, reason: CloseReason) {
        if self.phase == Phase::Open {
            self.events.push(Event::Closed(reason));
        }
        self.finish();
    }

    /// Leaves nothing but the goodbye to the transports.
    fn finish(&mut self) {
        if self.phase.finish() == Phase::Closed {
            return;
        }
        let lost = self.queue.clear();
        self.stats.messages_lost = self.stats.messages_lost.saturating_add(lost);
        self.poll.release(LastWord::Close);
        self.post = None;
        self.discard_candidate();
        if let Upgrade::Current(id) = self.upgrade {
            self.discarded = Some(id);
        }
        self.timers.stop_all();
    }
}

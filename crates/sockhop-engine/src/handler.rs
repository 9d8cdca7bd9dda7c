//! What the layer above a session implements.

use std::sync::Arc;
use std::time::Instant;

use engineio_proto::{
    CloseReason, Encoded, Message, Outgoing, ProtocolVersion, Session, SessionId, Transport,
};
use sockhop_outbox::Outbox;

use crate::Handshake;

/// Makes the per-session half of the layer above: the engine's only upward call.
pub trait Handler: Send + Sync + 'static {
    /// What serves one session.
    type Session: SessionHandler;

    /// A session was opened. Nothing was sent yet but the Engine.IO handshake.
    fn open(&self, opened: Opened<ControlOf<Self>>) -> Self::Session;
}

/// The control item of a [`Handler`]'s sessions.
pub type ControlOf<H> = <<H as Handler>::Session as SessionHandler>::Control;

/// Serves one session. All calls come from the session's own task, one at a time; none may block.
pub trait SessionHandler: Send + 'static {
    /// What other threads may put into the session's outbox besides packets.
    type Control: Send + 'static;

    /// Called once, before anything else.
    fn start(&mut self, cx: &mut Context<'_>);

    /// A message arrived.
    fn message(&mut self, cx: &mut Context<'_>, message: Message);

    /// A control item came out of the outbox, after all packets that were pushed before it.
    fn control(&mut self, cx: &mut Context<'_>, control: Self::Control);

    /// The session moved from polling to WebSocket.
    fn upgraded(&mut self, cx: &mut Context<'_>);

    /// The instant that [`Self::poll_timeout`] asked for has passed.
    fn timeout(&mut self, cx: &mut Context<'_>);

    /// When to call [`Self::timeout`]; asked again after every other call.
    fn poll_timeout(&self) -> Option<Instant>;

    /// The session ended. The last call.
    fn close(&mut self, reason: &CloseReason);
}

/// What a session is opened with.
#[derive(Debug)]
pub struct Opened<C> {
    /// The present.
    pub now: Instant,
    /// The secret Engine.IO id.
    pub id: SessionId,
    /// The protocol version, fixed for the life of the session.
    pub version: ProtocolVersion,
    /// The first request.
    pub handshake: Arc<Handshake>,
    /// The way into the session from any thread.
    pub outbox: Outbox<Outgoing<C>>,
}

/// The session, as its handler sees it during a call.
#[derive(Debug)]
pub struct Context<'a> {
    pub(crate) now: Instant,
    pub(crate) session: &'a mut Session,
    /// Budget of what was sent past the outbox.
    pub(crate) sent_bytes: usize,
    pub(crate) over_rate: bool,
}

impl Context<'_> {
    /// The present.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Whether the message of this call is over the rates of its session, which are configured to
    /// drop: what it asks for should not be done. Always false in other calls.
    #[must_use]
    pub fn is_over_rate(&self) -> bool {
        self.over_rate
    }

    /// Sends ahead of what still waits in the outbox, behind what already left it.
    pub fn send(&mut self, packet: Encoded) {
        self.sent_bytes += packet.budget_bytes();
        self.session.send(packet);
    }

    /// Sends a packet that came out of the outbox inside a control item, and was charged there.
    pub fn forward(&mut self, packet: Encoded) {
        self.session.send(packet);
    }

    /// Closes the session; [`SessionHandler::close`] follows.
    pub fn close(&mut self, reason: CloseReason) {
        self.session.close(self.now, reason);
    }

    /// The transport that messages travel on now.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.session.transport()
    }
}

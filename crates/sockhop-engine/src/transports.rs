//! The WebSockets of one session: the current one, or a candidate beside polling, or both for the
//! moment of a switch.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use engineio_proto::{Detached, GaveWay, Message, Packet, ProtocolVersion, TransportId};
use hyper::upgrade::OnUpgrade;
use smallvec::SmallVec;

use crate::Tasks;
use crate::websocket::{self, ReadLimits, Received, Unanswered, WebSocket, Written};

/// Messages read from a WebSocket in one round.
const MAX_MESSAGES_PER_ROUND: usize = 32;

/// WebSockets by their transport ids.
#[derive(Debug)]
pub(crate) struct Transports {
    attached: SmallVec<[Attached; 1]>,
    version: ProtocolVersion,
    /// The peer cannot take binary frames (`b64=1`).
    base64: bool,
    /// One was taken in and not read from yet.
    has_new: bool,
}

/// A connection on its way to become a WebSocket.
#[derive(Debug)]
pub(crate) enum Upgrading {
    /// hyper lets it go when its 101 answer is out.
    Hyper(OnUpgrade),
    /// It is here, its 101 answer is still to be written.
    Here(Unanswered),
}

#[derive(Debug)]
struct Attached {
    id: TransportId,
    state: State,
}

/// ```text
///   Upgrading ──101 is out──▶ Open ──ended──▶ Gone
/// ```
#[derive(Debug)]
enum State {
    /// The 101 answer is on its way.
    Upgrading(OnUpgrade),
    Open(WebSocket),
    /// Handed over to a goodbye.
    Gone,
}

/// News of a WebSocket, for the session.
#[derive(Debug)]
pub(crate) enum News {
    Message(Message),
    Ended(Detached),
}

impl Transports {
    pub(crate) fn new(version: ProtocolVersion, base64: bool) -> Self {
        Self {
            attached: SmallVec::new(),
            version,
            base64,
            has_new: false,
        }
    }

    /// Takes a WebSocket in whose 101 answer is on its way.
    pub(crate) fn attach(&mut self, id: TransportId, upgrade: Upgrading) {
        let state = match upgrade {
            Upgrading::Hyper(upgrade) => State::Upgrading(upgrade),
            Upgrading::Here(connection) => connection.accept().map_or(State::Gone, |connection| {
                State::Open(WebSocket::over(connection, self.version, self.base64))
            }),
        };
        self.attached.push(Attached { id, state });
        self.has_new = true;
    }

    /// Whether a WebSocket was taken in that nobody has asked yet for what it has.
    pub(crate) fn has_new(&self) -> bool {
        self.has_new
    }

    /// Whether a WebSocket cannot be written to yet.
    pub(crate) fn is_upgrading(&self) -> bool {
        self.attached
            .iter()
            .any(|attached| matches!(attached.state, State::Upgrading(_)))
    }

    /// Whether all that was sent is with the kernel.
    pub(crate) fn is_flushed(&self) -> bool {
        self.attached.iter().all(|attached| match &attached.state {
            State::Open(websocket) => websocket.is_flushed(),
            State::Upgrading(_) | State::Gone => false,
        })
    }

    /// Reads from all WebSockets; whether there was anything.
    pub(crate) fn read(
        &mut self,
        cx: &mut Context<'_>,
        limits: ReadLimits,
        tasks: &Tasks,
        mut news: impl FnMut(TransportId, News),
    ) -> bool {
        let (version, base64) = (self.version, self.base64);
        let mut progress = false;
        self.has_new = false;
        self.attached.retain(|Attached { id, state }| {
            if let State::Upgrading(upgrade) = state {
                match Pin::new(upgrade).poll(cx) {
                    Poll::Pending => return true,
                    Poll::Ready(Ok(upgraded)) => {
                        *state = State::Open(WebSocket::new(upgraded, version, base64));
                        progress = true;
                    }
                    Poll::Ready(Err(_)) => {
                        news(*id, News::Ended(Detached::Failed));
                        progress = true;
                        return false;
                    }
                }
            }
            let State::Open(websocket) = state else {
                return true;
            };
            let mut ended = None;
            let read = websocket.poll_read(cx, limits, MAX_MESSAGES_PER_ROUND, &mut |received| {
                match received {
                    Received::Message(message) => news(*id, News::Message(message)),
                    Received::Closed => ended = Some(Detached::Closed),
                    Received::Failed => ended = Some(Detached::Failed),
                    Received::TooLarge => ended = Some(Detached::TooLarge),
                    Received::Violation => ended = Some(Detached::Violation),
                }
            });
            progress |= read.is_ready();
            let Some(why) = ended else { return true };
            news(*id, News::Ended(why));
            if let (false, State::Open(websocket)) = (
                why == Detached::Failed,
                std::mem::replace(state, State::Gone),
            ) {
                tasks.spawn("websocket-linger", websocket.linger());
            }
            false
        });
        progress
    }

    /// Queues a packet for a WebSocket; false when there is none of this id.
    pub(crate) fn send(&mut self, id: TransportId, packet: Packet) -> bool {
        for attached in &mut self.attached {
            if let (true, State::Open(websocket)) = (attached.id == id, &mut attached.state) {
                websocket.send(packet, self.version);
                return true;
            }
        }
        false
    }

    /// Drops packets that give way, oldest first, until `bytes` are free or none is left.
    pub(crate) fn make_room(&mut self, bytes: usize) -> GaveWay {
        let mut gone = GaveWay::default();
        for attached in &mut self.attached {
            if let State::Open(websocket) = &mut attached.state {
                gone += websocket.make_room(bytes.saturating_sub(gone.bytes));
            }
        }
        gone
    }

    /// Writes what is queued. A WebSocket that failed is dropped and returned.
    pub(crate) fn flush(&mut self, cx: &mut Context<'_>) -> (Written, Option<TransportId>) {
        let mut written = Written::default();
        let mut failed = None;
        for attached in &mut self.attached {
            if let State::Open(websocket) = &mut attached.state
                && let Poll::Ready(Err(_)) = websocket.poll_flush(cx, &mut written)
            {
                failed = Some(attached.id);
            }
        }
        if failed.is_some() {
            self.attached.retain(|attached| Some(attached.id) != failed);
        }
        (written, failed)
    }

    /// Lets a WebSocket go with a goodbye.
    pub(crate) fn close(&mut self, id: TransportId, tasks: &Tasks) {
        let Some(index) = self.attached.iter().position(|attached| attached.id == id) else {
            return;
        };
        match self.attached.remove(index).state {
            State::Open(websocket) => tasks.spawn("websocket-linger", websocket.linger()),
            State::Upgrading(upgrade) => self.refuse(Upgrading::Hyper(upgrade), tasks),
            State::Gone => {}
        }
    }

    /// Lets a WebSocket go that the session did not want.
    pub(crate) fn refuse(&self, upgrade: Upgrading, tasks: &Tasks) {
        tasks.spawn("websocket-refuse", accept_and_close(upgrade, self.version));
    }
}

/// Accepts a WebSocket that the session does not want and closes it without a status.
async fn accept_and_close(upgrade: Upgrading, version: ProtocolVersion) {
    match upgrade {
        Upgrading::Hyper(upgrade) => {
            if let Ok(Ok(upgraded)) = tokio::time::timeout(websocket::LINGER, upgrade).await {
                WebSocket::new(upgraded, version, false).linger().await;
            }
        }
        Upgrading::Here(connection) => {
            if let Some(connection) = connection.accept() {
                WebSocket::over(connection, version, false).linger().await;
            }
        }
    }
}

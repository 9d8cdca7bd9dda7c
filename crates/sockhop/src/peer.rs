//! What the sockets of one session have in common.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use engineio_proto::{ProtocolVersion, Transport};
use socketio_proto::Parser;
use sockhop_engine::Handshake;

/// The client at the other end of a session.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) handshake: Arc<Handshake>,
    pub(crate) version: ProtocolVersion,
    pub(crate) parser: Parser,
    websocket: AtomicBool,
    /// Handlers and middlewares that wait for something. Counted for the whole session: a client
    /// that leaves and comes back finds them all the same.
    unfinished: AtomicUsize,
}

/// One unfinished handler; counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Unfinished(Arc<Peer>);

impl Peer {
    pub(crate) fn new(handshake: Arc<Handshake>, version: ProtocolVersion, parser: Parser) -> Self {
        Self {
            handshake,
            version,
            parser,
            websocket: AtomicBool::new(false),
            unfinished: AtomicUsize::new(0),
        }
    }

    pub(crate) fn transport(&self) -> Transport {
        if self.websocket.load(Ordering::Relaxed) {
            Transport::WebSocket
        } else {
            Transport::Polling
        }
    }

    pub(crate) fn set_transport(&self, transport: Transport) {
        let websocket = transport == Transport::WebSocket;
        self.websocket.store(websocket, Ordering::Relaxed);
    }

    /// Handlers and middlewares that have not ended. Only the session's own task adds to them, so
    /// that it may look first and begin one then.
    pub(crate) fn unfinished(&self) -> usize {
        self.unfinished.load(Ordering::Relaxed)
    }

    /// Counts one more.
    pub(crate) fn begin(self: &Arc<Self>) -> Unfinished {
        self.unfinished.fetch_add(1, Ordering::Relaxed);
        Unfinished(Arc::clone(self))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.0.unfinished.fetch_sub(1, Ordering::Relaxed);
    }
}

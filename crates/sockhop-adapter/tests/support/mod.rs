//! Sockets without sessions: an outbox that nobody owns but the test.

use std::sync::Arc;

use engineio_proto::Outgoing;
use socketio_proto::{NamespaceName, Parser, Value};
use sockhop_adapter::{
    Adapter, Bus, Directive, Recipient, RoomLimits, SocketId, SocketInfo, SocketKey, Stats,
};
use sockhop_outbox::Outbox;

#[derive(Debug)]
struct Info(SocketId);

impl SocketInfo for Info {
    fn id(&self) -> &SocketId {
        &self.0
    }

    fn handshake(&self) -> Value {
        Value::Null
    }

    fn data(&self) -> Value {
        Value::Null
    }
}

/// A connected socket.
pub(crate) struct Peer {
    pub(crate) key: SocketKey,
    pub(crate) outbox: Outbox<Outgoing<Directive>>,
}

/// An adapter of the namespace `/chat`.
pub(crate) fn adapter(bus: Arc<dyn Bus>, limits: RoomLimits) -> Adapter<Directive> {
    let namespace = NamespaceName::parse("/chat").expect("it begins with a slash");
    Adapter::new(namespace, limits, bus, Arc::new(Stats::default()))
}

/// Connects the socket `id`.
pub(crate) fn connect(adapter: &Adapter<Directive>, id: &str, parser: Parser) -> Peer {
    let peer = Peer {
        key: SocketKey::next(),
        outbox: Outbox::new(1 << 20),
    };
    adapter.rooms().connect(Recipient {
        key: peer.key,
        parser,
        outbox: peer.outbox.clone(),
        info: Arc::new(Info(id.into())),
    });
    peer
}

//! Sockets without sessions: an outbox that nobody owns but the test.

use std::sync::Arc;
use std::time::Instant;

use engineio_proto::Outgoing;
use socketio_proto::{NamespaceName, Parser, Value};
use sockhop_adapter::{
    Adapter, Bus, Cluster, ClusterConfig, Directive, ForwardToken, Identity, Recipient, RoomLimits,
    SocketId, SocketInfo, SocketKey, Stats,
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

/// An adapter of the namespace `/chat`, in the cluster of a node that has not said hello.
pub(crate) fn adapter(bus: Arc<dyn Bus>, limits: RoomLimits) -> Adapter<Directive> {
    let identity = Identity {
        started_ms: 1,
        version: "0".to_owned(),
        token: ForwardToken::new([0; 32]),
    };
    let stats = Arc::new(Stats::default());
    let namespace = NamespaceName::parse("/chat").expect("it begins with a slash");
    let cluster = Cluster::new(
        bus,
        ClusterConfig::default(),
        identity,
        stats,
        Instant::now(),
    );
    Adapter::new(namespace, limits, cluster)
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

//! What other nodes and other servers say over the bus.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use engineio_proto::Text;
use sockhop_adapter::bus::MemoryBusLimits;
use sockhop_adapter::dialect::node::NodeDialect;
use sockhop_adapter::dialect::python::PythonDialect;
use sockhop_adapter::{BusMessage, ChannelMessage, Channels, MemoryHub, NodeId};

use super::input::Input;

/// A frame of the native wire.
pub fn cluster_wire(data: &[u8]) {
    if let Ok(message) = BusMessage::decode(&Bytes::copy_from_slice(data)) {
        assert!(message.namespace().len() <= data.len());
    }
}

fn channels() -> Arc<dyn Channels> {
    static HUB: OnceLock<MemoryHub> = OnceLock::new();
    let hub = HUB.get_or_init(|| MemoryHub::new(MemoryBusLimits::default()));
    Arc::new(hub.channels())
}

fn message(channel: &str, payload: &[u8]) -> ChannelMessage {
    ChannelMessage {
        channel: Text::from(channel),
        payload: Bytes::copy_from_slice(payload),
    }
}

/// A message of a Node.js server, on each kind of channel.
pub fn dialect_node(data: &[u8]) {
    let mut input = Input(data);
    let channel = match input.byte() % 5 {
        0 => "socket.io#/#",
        1 => "socket.io#/#room#",
        2 => "socket.io-request#/#",
        3 => "socket.io-response#/#",
        _ => "socket.io-request#/other#",
    };
    let dialect = NodeDialect::new(Default::default(), NodeId::new(1), channels());
    dialect.enter("/");
    let _ = dialect.is_mine(&String::from_utf8_lossy(input.0));
    let _ = dialect.fetch_sockets("/", &Default::default());
    let _ = dialect.receive(&message(channel, input.0));
}

/// A message of a Python server.
pub fn dialect_python(data: &[u8]) {
    let dialect = PythonDialect::new(Default::default(), NodeId::new(1), channels());
    let _ = dialect.receive(&message("socketio", data));
}

//! What sockhop nodes write on the bus.

mod message;
mod wire;

pub use message::BusMessage;
pub(crate) use message::TranscodeError;
pub use wire::WireError;
pub(crate) use wire::encode_broadcast;

//! What sockhop nodes are to each other: members, senders and receivers.

mod core;
mod interest;
mod member;
mod membership;
mod message;
mod window;
mod wire;

pub use core::{Cluster, ClusterStatus, Host, Identity};
pub(crate) use interest::{Destination, Destinations, Interest};
pub use member::{ClusterConfig, ForwardToken, Member};
pub use membership::MemberEvent;
pub use message::BusMessage;
pub(crate) use message::TranscodeError;
pub use wire::WireError;
pub(crate) use wire::{Broadcast, encode_broadcast};

//! What sockhop nodes are to each other: members, senders and receivers.

mod answer;
mod ask;
mod core;
mod gather;
mod interest;
mod member;
mod membership;
mod message;
mod requests;
mod serve;
mod window;
mod wire;

pub(crate) use answer::{Answer, Packet, Request, Whom};
pub(crate) use ask::Asked;
pub use core::{Cluster, ClusterStatus, Host, Identity};
pub use gather::{Gathered, Gathering, Merge};
pub(crate) use interest::{Destination, Destinations, Interest};
pub use member::{ClusterConfig, ForwardToken, Member};
pub use membership::MemberEvent;
pub use message::BusMessage;
pub(crate) use message::{TranscodeError, Wanted};
pub(crate) use requests::Enough;
pub use serve::{Reply, ServerEvent};
pub use wire::WireError;
pub(crate) use wire::{Broadcast, encode_broadcast};

//! Who is in which room, and how one broadcast reaches them here and elsewhere.
//!
//! No runtime, no sockets, no timers: every call returns at once. What a broadcast has for a socket
//! is pushed into the [outbox](sockhop_outbox::Outbox) of its session, whose task does the rest.
//!
//! - [`adapter`]: the rooms of one namespace joined to the bus; the walk of a broadcast.
//! - [`options`]: whom a broadcast is for.
//! - [`recipient`]: sockets as the adapter sees them, and what it asks of their sessions.
//! - [`rooms`]: the index of one namespace.
//! - [`ack`]: answers to a broadcast that asks for acks.
//! - [`bus`]: how bytes get from node to node; the bus inside one process.
//! - [`cluster`]: who is a member, and what is written on the bus.
//! - [`dialect`]: other Socket.IO servers on the same Redis.
//! - [`foreign`]: the seam for servers of other makes in the same cluster.
//! - [`slow`]: clients that read more slowly than their namespace sends.
//! - [`stats`]: what is counted.
//!
//! # Locks
//! Shards of sockets → shards of rooms → an outbox, or what a [`Bus`] locks to note a subscription. Never two shards of a kind at once, never a
//! shard of rooms before one of sockets, and no code of a user while any of them is locked: the
//! payload is serialised before the walk begins.

pub mod ack;
pub mod adapter;
pub mod bus;
pub mod cluster;
pub mod dialect;
pub mod foreign;
pub mod options;
mod packets;
pub mod recipient;
pub mod rooms;
pub mod slow;
pub mod stats;

pub use ack::{AckCollector, AckResponses, AckSlot};
pub use adapter::{AcksUnderWay, Adapter, BroadcastError, Delivery, WriteEvent};
pub use bus::{
    Bus, BusError, ChannelMessage, Channels, Link, LonelyBus, MemoryBus, MemoryHub, NodeId, Wait,
};
pub use cluster::{
    BusMessage, Cluster, ClusterConfig, ClusterStatus, ForwardToken, Gathered, Gathering, Host,
    Identity, Member, MemberEvent, Merge, Reply, ServerEvent, WireError,
};
pub use foreign::{Foreign, ForeignAcks, ForeignAnswer, SocketSnapshot, Target, WritePacket};
pub use options::BroadcastOptions;
pub use recipient::{
    Directive, DisconnectScope, ExpectAck, Recipient, RemoteSocketInfo, Room, SocketId, SocketInfo,
    SocketKey,
};
pub use rooms::{RoomLimits, Rooms, RoomsError};
pub use slow::SlowConsumers;
pub use stats::{Counter, Stats};

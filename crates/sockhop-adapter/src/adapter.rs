//! The rooms of one namespace joined to the bus; the walk of a broadcast.

mod elsewhere;
mod everywhere;
mod here;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use engineio_proto::{Encoded, Outgoing};
use socketio_proto::{AckId, EncodeError, NamespaceName, Parser};
use sockhop_outbox::Push;

use crate::ack::AckCollector;
use crate::bus::BusError;
use crate::cluster::{BusMessage, Cluster, Interest, TranscodeError};
use crate::options::BroadcastOptions;
use crate::packets::{PARSERS, PerParser};
use crate::recipient::{Directive, ExpectAck};
use crate::rooms::{Excluded, RoomLimits, Rooms};
use crate::slow::{Policy, SlowConsumers, push_event};
use crate::stats::Stats;

/// What became of a broadcast on this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Sockets for which the packet was queued.
    pub recipients: usize,
    /// Sockets whose transport was not ready for a volatile packet.
    pub volatile_dropped: usize,
    /// Sockets whose session is over its budget and about to be closed.
    pub overflows: usize,
    /// Sockets whose session had just ended.
    pub late: usize,
}

pub use everywhere::{AcksUnderWay, WriteEvent};

/// Why a broadcast did not reach everybody.
#[derive(Debug, thiserror::Error)]
pub enum BroadcastError {
    /// The payload cannot be written. Nothing was sent.
    #[error("cannot encode the packet")]
    Encode(#[from] EncodeError),
    /// Other nodes may have missed it. The sockets of this node were served.
    #[error("other nodes may have missed the broadcast")]
    Bus {
        /// What the bus said.
        source: BusError,
        /// What became of it here.
        delivery: Delivery,
    },
}

/// One namespace: who is in which room here, and how one broadcast reaches them here and on other
/// nodes.
///
/// `C` is what a session's task takes besides packets.
pub struct Adapter<C> {
    namespace: NamespaceName,
    rooms: Rooms<C>,
    cluster: Arc<Cluster>,
    next_ack_id: AtomicU64,
    slow_consumers: Policy,
}

impl<C> Adapter<C> {
    /// An adapter without sockets, subscribed to its namespace until it is dropped.
    #[must_use]
    pub fn new(namespace: NamespaceName, limits: RoomLimits, cluster: Arc<Cluster>) -> Self {
        let interest = Interest::new(Arc::clone(&cluster), namespace.as_str());
        if let Some(foreign) = cluster.foreign() {
            foreign.enter(namespace.as_str());
        }
        Self {
            namespace,
            rooms: Rooms::new(limits, Arc::clone(cluster.stats())).with_interest(interest),
            cluster,
            next_ack_id: AtomicU64::new(0),
            slow_consumers: Policy::default(),
        }
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &NamespaceName {
        &self.namespace
    }

    /// This node's part in the cluster.
    #[must_use]
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// Who is in which room on this node.
    #[must_use]
    pub fn rooms(&self) -> &Rooms<C> {
        &self.rooms
    }

    /// What happens to clients that read too slowly.
    #[must_use]
    pub fn slow_consumers(&self) -> SlowConsumers {
        self.slow_consumers.get()
    }

    /// Sets what happens to clients that read too slowly, for packets that are sent from now on.
    pub fn set_slow_consumers(&self, policy: SlowConsumers) {
        self.slow_consumers.set(policy);
    }

    /// What was counted.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        self.cluster.stats()
    }

    /// The id of the next packet that wants an ack, counted up for the whole namespace so that
    /// one packet can serve many sockets.
    #[must_use]
    pub fn next_ack_id(&self) -> AckId {
        AckId::new(self.next_ack_id.fetch_add(1, Ordering::Relaxed))
    }

    /// Sends a packet to the sockets that `options` name, here and on other nodes.
    ///
    /// *Shape:* never waits. `encode` returns the packet written for the parser it is given. It is
    /// called while nothing is locked, once for each parser of the sockets here; if there are none,
    /// once for the other nodes; if there is none of those either, not at all. Sockets that join
    /// while this runs may miss the packet. No socket gets it twice.
    ///
    /// # Errors
    /// See [`BroadcastError`].
    pub fn broadcast(
        &self,
        options: &BroadcastOptions,
        encode: &mut dyn FnMut(Parser) -> Result<Encoded, EncodeError>,
    ) -> Result<Delivery, BroadcastError> {
        self.stats().broadcasts.add(1);
        let excluded = self.rooms.excluded(options);
        let needed = self.rooms.parsers_needed(options, &excluded);
        let mut encode = |parser| encode(parser).map(|packet| self.finish_event(packet, options));
        let mut packets = encode_all(needed, &mut encode)?;
        let published = match options.local {
            true => Ok(()),
            false => self.send_elsewhere(options, &mut packets, &mut encode)?,
        };
        let delivery = self.deliver(options, &excluded, &packets);
        match published {
            Ok(()) => Ok(delivery),
            Err(source) => Err(BroadcastError::Bus { source, delivery }),
        }
    }

    /// Sends a packet that has `id` inside to the sockets of this node that `options` name, and
    /// collects their acks. An ack counts as missed at `deadline`, or when its socket leaves.
    ///
    /// *Shape:* volatile is not honoured; one small allocation for each socket.
    ///
    /// # Errors
    /// The payload cannot be written; nothing was sent.
    pub fn broadcast_with_ack(
        &self,
        options: &BroadcastOptions,
        id: AckId,
        deadline: Option<Instant>,
        encode: &mut dyn FnMut(Parser) -> Result<Encoded, EncodeError>,
    ) -> Result<Arc<AckCollector>, EncodeError>
    where
        C: From<Directive>,
    {
        self.stats().broadcasts.add(1);
        let needed = self.needed(options);
        let mut encode = |parser| encode(parser).map(|packet| finish(packet, options));
        let packets = encode_all(needed, &mut encode)?;
        Ok(self.ask_here(options, id, deadline, &packets))
    }

    /// The parsers of the sockets here that `options` name.
    fn needed(&self, options: &BroadcastOptions) -> PerParser<bool> {
        let excluded = self.rooms.excluded(options);
        self.rooms.parsers_needed(options, &excluded)
    }

    /// Sends packets that have `id` inside to the sockets here, and collects their acks.
    fn ask_here(
        &self,
        options: &BroadcastOptions,
        id: AckId,
        deadline: Option<Instant>,
        packets: &PerParser<Option<Encoded>>,
    ) -> Arc<AckCollector>
    where
        C: From<Directive>,
    {
        let acks = AckCollector::new();
        let mut delivery = Delivery::default();
        for socket in self.rooms.keys(options) {
            let Some(address) = self.rooms.address(socket) else {
                continue;
            };
            let Some(packet) = packets.get(address.parser) else {
                continue;
            };
            let slot = acks.slot(address.id);
            let directive = Directive::ExpectAck(Box::new(ExpectAck {
                socket,
                packet: packet.clone(),
                id,
                deadline,
                slot,
            }));
            let item = Outgoing::Control(directive.into());
            delivery.count(address.outbox.push(item, packet.budget_bytes()));
        }
        acks.seal();
        self.count(delivery);
        acks
    }

    /// Serves the sockets of this node with a broadcast of another one that wants acks, under an
    /// ack id of this node. `None`: the packet cannot be read.
    pub(crate) fn receive_with_acks(
        &self,
        message: &BusMessage,
        deadline: Option<Instant>,
    ) -> Option<Arc<AckCollector>>
    where
        C: From<Directive>,
    {
        self.stats().received.add(1);
        let id = self.next_ack_id();
        let BusMessage {
            options, packet, ..
        } = message;
        let mut write = |parser| {
            if parser != packet.parser {
                self.stats().transcoded.add(1);
            }
            let packet = packet.with_ack_id(message.namespace(), parser, id)?;
            Ok::<_, TranscodeError>(finish(packet, options))
        };
        match encode_all(self.needed(options), &mut write) {
            Ok(packets) => Some(self.ask_here(options, id, deadline, &packets)),
            Err(_) => {
                self.stats().bad_frames.add(1);
                None
            }
        }
    }

    /// Serves the sockets of this node with a broadcast of another one. Whoever calls this has
    /// dropped what this node sent itself, and copies.
    ///
    /// *Shape:* the bytes are used as they came. Only sockets with another parser than those of
    /// the sender cost a decoding, and that once.
    pub fn receive(&self, message: &BusMessage) -> Delivery {
        self.stats().received.add(1);
        let excluded = self.rooms.excluded(&message.options);
        let needed = self.rooms.parsers_needed(&message.options, &excluded);
        if needed == PerParser::default() {
            self.stats().discarded.add(1);
            return Delivery::default();
        }
        let packets = encode_all(needed, &mut |parser| {
            let packet = if parser == message.packet.parser {
                message.packet.to_encoded()
            } else {
                self.stats().transcoded.add(1);
                message.packet.transcode(parser)?
            };
            Ok::<_, TranscodeError>(self.finish_event(packet, &message.options))
        });
        let Ok(packets) = packets else {
            self.stats().bad_frames.add(1);
            return Delivery::default();
        };
        self.deliver(&message.options, &excluded, &packets)
    }

    /// Pushes the packets to everybody they are for.
    fn deliver(
        &self,
        options: &BroadcastOptions,
        excluded: &Excluded,
        packets: &PerParser<Option<Encoded>>,
    ) -> Delivery {
        let mut delivery = Delivery::default();
        self.rooms.walk(options, excluded, |_, member| {
            // No packet: the first socket with this parser has joined after the encoding, so it
            // counts as having joined after the broadcast.
            if let Some(packet) = packets.get(member.parser) {
                let packet = packet.clone();
                delivery.count(push_event(&member.outbox, packet, options.volatile));
            }
        });
        self.count(delivery);
        delivery
    }

    /// As [`finish`], and marked as the namespace wants it for clients that read too slowly.
    fn finish_event(&self, packet: Encoded, options: &BroadcastOptions) -> Encoded {
        let packet = finish(packet, options);
        self.slow_consumers().mark(packet, options.volatile)
    }

    fn count(&self, delivery: Delivery) {
        self.stats().deliveries.add(delivery.recipients);
        self.stats().volatile_dropped.add(delivery.volatile_dropped);
        self.stats().overflows.add(delivery.overflows);
        self.stats().late.add(delivery.late);
    }
}

impl Delivery {
    fn count(&mut self, push: Push) {
        match push {
            Push::Queued => self.recipients += 1,
            Push::Dropped => self.volatile_dropped += 1,
            Push::Overflow => self.overflows += 1,
            Push::Closed => self.late += 1,
        }
    }
}

fn encode_all<E>(
    needed: PerParser<bool>,
    encode: &mut dyn FnMut(Parser) -> Result<Encoded, E>,
) -> Result<PerParser<Option<Encoded>>, E> {
    let mut packets = PerParser::default();
    for parser in PARSERS {
        if *needed.get(parser) {
            *packets.get_mut(parser) = Some(encode(parser)?);
        }
    }
    Ok(packets)
}

fn finish(packet: Encoded, options: &BroadcastOptions) -> Encoded {
    match options.compress {
        true => packet,
        false => packet.without_compression(),
    }
}

impl<C> Drop for Adapter<C> {
    fn drop(&mut self) {
        if let Some(foreign) = self.cluster.foreign() {
            foreign.exit(self.namespace.as_str());
        }
    }
}

impl<C> fmt::Debug for Adapter<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adapter")
            .field("namespace", &self.namespace)
            .field("rooms", &self.rooms)
            .finish_non_exhaustive()
    }
}

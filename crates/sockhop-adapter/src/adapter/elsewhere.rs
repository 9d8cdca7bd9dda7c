//! What leaves this node: to the other nodes over the bus, and to servers of other makes.

use engineio_proto::Encoded;
use socketio_proto::{EncodeError, Parser};

use super::Adapter;
use crate::bus::BusError;
use crate::cluster::{Broadcast, BusMessage, Destination, Destinations, encode_broadcast};
use crate::foreign::Target;
use crate::options::BroadcastOptions;
use crate::packets::PerParser;

impl<C> Adapter<C> {
    /// Sends a packet to the sockets that `options` name on other nodes. Nothing is written if
    /// there is nobody who could want it. The outer error: it cannot be written.
    pub(super) fn send_elsewhere(
        &self,
        options: &BroadcastOptions,
        packets: &mut PerParser<Option<Encoded>>,
        encode: &mut dyn FnMut(Parser) -> Result<Encoded, EncodeError>,
    ) -> Result<Result<(), BusError>, EncodeError> {
        let mut published = Ok(());
        let interest = self.rooms.interest();
        if let Some(interest) = interest.filter(|_| self.cluster.may_have_others()) {
            let destinations = interest.destinations(&options.rooms, |id| self.is_here(id));
            if !destinations.is_empty() {
                if packets.any().is_none() {
                    *packets.get_mut(Parser::Json) = Some(encode(Parser::Json)?);
                }
                published = self.publish(options, &destinations, packets);
            }
        }
        if let Some(foreign) = self.cluster.foreign() {
            let mut write = |parser| match packets.get(parser) {
                Some(packet) => Ok(packet.clone()),
                None => {
                    let packet = encode(parser)?;
                    *packets.get_mut(parser) = Some(packet.clone());
                    Ok(packet)
                }
            };
            let told = foreign.broadcast(&self.target(options), &mut write);
            published = published.and(told);
        }
        Ok(published)
    }

    /// Whether this is the id of a socket of this node.
    pub(super) fn is_here(&self, id: &str) -> bool {
        self.rooms.lookup(id).is_some()
    }

    /// Publishes a frame of another node to the rooms that only look like ids of sockets of this
    /// one: by their form the other node took it for their owner. Copies are known by their number,
    /// so nobody gets it twice.
    pub(crate) fn pass_on_strays(&self, message: &BusMessage, frame: &bytes::Bytes) {
        let Some(interest) = self.rooms.interest() else {
            return;
        };
        for room in &message.options.rooms {
            let name = room.as_str();
            if interest.looks_like_ours(name) && !self.is_here(name) {
                self.stats().strays.add(1);
                let topic = interest.topic(name);
                if self.cluster.bus().publish(&topic, frame.clone()).is_err() {
                    self.stats().publish_failures.add(1);
                }
            }
        }
    }

    /// Whom an operation is for, as servers of other makes are told.
    pub(super) fn target<'a>(&'a self, options: &'a BroadcastOptions) -> Target<'a> {
        let sender = options.except_socket;
        Target {
            namespace: self.namespace.as_str(),
            options,
            sender: sender.and_then(|key| Some(self.rooms.address(key)?.id)),
        }
    }

    fn publish(
        &self,
        options: &BroadcastOptions,
        destinations: &Destinations<'_>,
        packets: &PerParser<Option<Encoded>>,
    ) -> Result<(), BusError> {
        let Some((parser, packet)) = packets.any() else {
            return Ok(());
        };
        let broadcast = Broadcast {
            node: self.cluster.node(),
            sequence: self.cluster.next_sequence(),
            namespace: self.namespace.as_str(),
            options,
            parser,
            acks: None,
        };
        let published = encode_broadcast(&broadcast, packet).and_then(|frame| {
            // One destination that cannot be reached is no reason for the others to miss it.
            let mut result = Ok(());
            for &destination in destinations {
                result = self.send_to(destination, frame.clone()).and(result);
            }
            result
        });
        match published {
            Ok(()) => self.stats().published.add(1),
            Err(_) => self.stats().publish_failures.add(1),
        }
        published
    }

    fn send_to(&self, destination: Destination<'_>, frame: bytes::Bytes) -> Result<(), BusError> {
        let bus = self.cluster.bus();
        self.stats().published_bytes.add(frame.len());
        match (destination, self.rooms.interest()) {
            (Destination::Room(room), Some(interest)) => {
                bus.publish(&interest.topic(room.as_str()), frame)
            }
            (Destination::Node(node), _) => match bus.publish_to_node(node, frame) {
                // It has gone just now, and its sockets with it.
                Err(BusError::UnknownNode(_)) => Ok(()),
                result => result,
            },
            (Destination::Namespace | Destination::Room(_), _) => {
                bus.publish(self.namespace.as_str(), frame)
            }
        }
    }
}

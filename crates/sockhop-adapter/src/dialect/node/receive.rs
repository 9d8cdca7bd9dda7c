//! What comes over the channels.

use bytes::Bytes;
use engineio_proto::{Message, Text};
use socketio_proto::{Parser, msgpack};

use super::channels::Channel;
use super::{NodeDialect, NodeRequest, request, response};
use crate::bus::ChannelMessage;
use crate::dialect::answers::Taken;
use crate::dialect::{ForeignEvent, Ignored, OWN_PREFIX, event_of, read_packet};

impl NodeDialect {
    /// Whether a channel is one of this dialect.
    #[must_use]
    pub fn is_mine(&self, channel: &str) -> bool {
        self.names.parse(channel).is_some()
    }

    /// Takes a message of one of its channels. What comes back is for whoever has the namespaces.
    pub fn receive(&self, message: &ChannelMessage) -> Option<NodeRequest> {
        self.stats.received.add(1);
        match self.read(&message.channel, &message.payload) {
            Ok(request) => request,
            Err(reason) => {
                self.stats.ignore(reason);
                None
            }
        }
    }

    fn read(&self, channel: &str, payload: &Bytes) -> Result<Option<NodeRequest>, Ignored> {
        if payload.len() > self.limits.max_message_bytes {
            return Err(Ignored::TooLarge);
        }
        match self.names.parse(channel).ok_or(Ignored::Unknown)? {
            Channel::Broadcast(namespace) => self.read_broadcast(namespace, payload).map(Some),
            Channel::Request(namespace) => {
                let names = self.names.of(namespace).ok_or(Ignored::UnknownNamespace)?;
                let specific = self.specific_responses;
                request::read(names, namespace, payload, &self.limits, specific).map(Some)
            }
            // Every server hears the answers to all.
            Channel::Response(_) if self.questions.is_empty() => Err(Ignored::NotAsked),
            Channel::Response(_) => {
                let (number, answer) = response::read(&self.uid, payload, &self.limits)?;
                match self.questions.answer(number, answer) {
                    Taken::Yes => Ok(None),
                    Taken::NotAsked => Err(Ignored::NotAsked),
                    Taken::Full => Err(Ignored::Overload),
                }
            }
        }
    }

    /// `[uid, packet, options]` in MessagePack.
    fn read_broadcast(&self, namespace: &str, payload: &Bytes) -> Result<NodeRequest, Ignored> {
        if is_own(payload) {
            return Err(Ignored::Own);
        }
        let parts = msgpack::elements(payload, 3).ok_or(Ignored::Malformed)?;
        let [_, packet, options] = parts.try_into().map_err(|_| Ignored::Malformed)?;
        let options = msgpack::read_value(&options).map_err(|_| Ignored::Malformed)?;
        let options = request::read_options(Some(&options), &self.limits)?;
        let packet = read_packet(Parser::Msgpack, Message::Binary(packet), Vec::new())?;
        // As the adapter has it: the packet says for which namespace it is.
        if packet.namespace() != namespace {
            return Err(Ignored::UnknownNamespace);
        }
        let (name, payload) = event_of(packet)?;
        Ok(NodeRequest::Broadcast(ForeignEvent {
            namespace: Text::from(namespace),
            options,
            name,
            payload,
        }))
    }
}

/// Whether a sockhop node published a broadcast: seen without reading the rest of it, because all
/// broadcasts of the other nodes come by here.
fn is_own(payload: &[u8]) -> bool {
    let ([0x93, 0xa0..=0xbf, uid @ ..] | [0x93, 0xd9, _, uid @ ..]) = payload else {
        return false;
    };
    uid.starts_with(OWN_PREFIX.as_bytes())
}

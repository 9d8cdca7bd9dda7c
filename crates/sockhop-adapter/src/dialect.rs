//! Other Socket.IO servers on the same Redis, spoken to in their own words.
//!
//! With a dialect on, this node is a member of the cluster of those servers: it hears what they
//! publish and they hear what it publishes. Between themselves sockhop nodes speak their own wire;
//! the copies that they publish in a dialect carry [`OWN_PREFIX`], by which all of them know not to
//! listen.
//!
//! What comes from elsewhere is delivered to the sockets of this node and never published again:
//! every sockhop node hears it by itself.
//!
//! - [`node`]: servers of Node.js with `@socket.io/redis-adapter` 8.x, and `@socket.io/redis-emitter`.
//! - [`python`]: servers of python-socketio with `RedisManager` or `AsyncRedisManager`, Flask-SocketIO.
//! - [`answers`]: questions to those servers, and what came back.

pub mod answers;
pub mod node;
pub mod python;
#[cfg(test)]
mod testing;
mod value;

use std::time::Instant;

use bytes::Bytes;
use engineio_proto::{Message, Text};
use socketio_proto::decode::decode;
use socketio_proto::packet::{Content, Packet};
use socketio_proto::reassembly::{Progress, Reassembly};
use socketio_proto::{Limits, Parser, Payload, SocketioVersion, encode_event};

use crate::adapter::{Adapter, Delivery};
use crate::bus::BusError;
use crate::options::BroadcastOptions;
use crate::stats::Counter;

/// How the sender begins in every message that a sockhop node publishes in a dialect.
pub const OWN_PREFIX: &str = "sockhop:";

/// What one message of another server may hold.
#[derive(Clone, Copy, Debug)]
pub struct DialectLimits {
    /// Bytes of one message. Default: 16 MiB. More is [`Ignored::TooLarge`].
    pub max_message_bytes: usize,
    /// Rooms, exceptions, sockets or arguments in one list. Default: 65,536. More is
    /// [`Ignored::TooLarge`].
    pub max_items: usize,
    /// Questions of this node that wait for answers. Default: 10,000. More are not asked.
    pub max_questions: usize,
    /// Answers to one question that nobody has looked at. Default: 65,536. More are
    /// [`Ignored::Overload`].
    pub max_answers: usize,
}

impl Default for DialectLimits {
    fn default() -> Self {
        Self {
            max_message_bytes: 16 << 20,
            max_items: 65_536,
            max_questions: 10_000,
            max_answers: 65_536,
        }
    }
}

/// Why a message of another server was not acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// A sockhop node published it: the others have it over their own wire.
    Own,
    /// It is larger than [`DialectLimits`] allow, or one of its lists is.
    TooLarge,
    /// It is a pickle, which is never read: whoever writes one could run code here.
    Pickle,
    /// It is not of the form that its channel is for.
    Malformed,
    /// It asks for something that this dialect does not have.
    Unknown,
    /// No namespace of that name is here.
    UnknownNamespace,
    /// It answers a question that was not asked here, or not any more.
    NotAsked,
    /// There was more than this node takes at once.
    Overload,
}

impl Ignored {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Own,
        Self::TooLarge,
        Self::Pickle,
        Self::Malformed,
        Self::Unknown,
        Self::UnknownNamespace,
        Self::NotAsked,
        Self::Overload,
    ];

    /// Its name in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::TooLarge => "too_large",
            Self::Pickle => "pickle",
            Self::Malformed => "malformed",
            Self::Unknown => "unknown",
            Self::UnknownNamespace => "unknown_namespace",
            Self::NotAsked => "not_asked",
            Self::Overload => "overload",
        }
    }
}

/// What one dialect has moved.
#[derive(Debug, Default)]
pub struct DialectStats {
    /// Messages that came over the channels of the dialect.
    pub received: Counter,
    /// Messages published in the dialect.
    pub published: Counter,
    /// Messages that could not be published: the other servers miss them.
    pub publish_failures: Counter,
    /// Messages that were not published because the dialect has no words for them.
    pub unsupported: Counter,
    ignored: [Counter; Ignored::ALL.len()],
}

impl DialectStats {
    /// Messages received that were not acted on, for this reason.
    #[must_use]
    pub fn ignored(&self, reason: Ignored) -> &Counter {
        // The order of the variants is that of `ALL`.
        &self.ignored[reason as usize]
    }

    /// Counts one more, for whoever finds out after reading.
    pub fn ignore(&self, reason: Ignored) {
        self.ignored(reason).add(1);
    }

    /// Counts one more message for which the dialect has no words.
    pub fn count_unsupported(&self) {
        self.unsupported.add(1);
    }

    fn count_published(&self, published: Result<(), BusError>) -> Result<(), BusError> {
        match published {
            Ok(()) => self.published.add(1),
            Err(_) => self.publish_failures.add(1),
        }
        published
    }
}

/// An event that another server emits to the sockets of this node.
#[derive(Clone, Debug)]
pub struct ForeignEvent {
    /// The namespace it is for.
    pub namespace: Text,
    /// Whom it is for. Always local: the other nodes heard it, too.
    pub options: BroadcastOptions,
    /// Its name.
    pub name: Text,
    /// Its arguments, as they arrived.
    pub payload: Payload,
}

impl ForeignEvent {
    /// Serves the sockets of this node.
    ///
    /// *Shape:* nothing is written that no socket here needs, and once for each parser in use; the
    /// arguments are decoded only for another parser than that of the sender.
    pub fn deliver<C>(&self, adapter: &Adapter<C>) -> Delivery {
        let namespace = adapter.namespace();
        let encode = &mut |parser| encode_event(parser, namespace, None, &self.name, &self.payload);
        // What can be read can be written, and nothing is published that could fail.
        adapter.broadcast(&self.options, encode).unwrap_or_default()
    }
}

/// Reads an event out of a packet as sockets would get it.
fn read_packet(parser: Parser, head: Message, attachments: Vec<Bytes>) -> Result<Packet, Ignored> {
    // The limits of peers do not bind servers; the size of the message is checked already.
    let limits = Limits {
        max_attachments: usize::MAX,
        max_packet_bytes: usize::MAX,
        max_name_bytes: usize::MAX,
        ..Limits::default()
    };
    let head_bytes = head.len();
    // As of protocol 4: `socket.io-redis` 5 writes binary events with a type of their own.
    let read = decode(parser, SocketioVersion::V4, &limits, head);
    let head = read.map_err(|_| Ignored::Malformed)?;
    if head.attachments != attachments.len() {
        return Err(Ignored::Malformed);
    }
    if attachments.is_empty() {
        return Ok(head.packet);
    }
    // All attachments are here already, so the deadline has no meaning.
    let now = Instant::now();
    let mut reassembly = Reassembly::new(now, &limits, head, head_bytes);
    for data in attachments {
        match reassembly.add(now, &limits, data) {
            Ok(Progress::Waiting(more)) => reassembly = more,
            Ok(Progress::Complete(packet)) => return Ok(packet),
            Err(_) => break,
        }
    }
    Err(Ignored::Malformed)
}

/// Name and arguments of an event.
fn event_of(packet: Packet) -> Result<(Text, Payload), Ignored> {
    match packet.content {
        Content::Event { name, payload, .. } => Ok((name, payload)),
        Content::Connect { .. }
        | Content::Disconnect
        | Content::Ack { .. }
        | Content::ConnectError => Err(Ignored::Malformed),
    }
}

/// Whether a room may be that of one socket: the ids of all servers in use are 20 characters of
/// base64url, or 32 of hexadecimal.
#[must_use]
pub fn may_be_id(room: &str) -> bool {
    match room.len() {
        20 => room
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'),
        32 => room.bytes().all(|byte| byte.is_ascii_hexdigit()),
        // A socket of protocol 4 in a namespace: `/chat#<id>`.
        _ => room.split_once('#').is_some_and(|(namespace, id)| {
            namespace.starts_with('/') && !id.contains('#') && may_be_id(id)
        }),
    }
}

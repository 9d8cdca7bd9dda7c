//! What nodes ask each other besides broadcasts, and what they answer.

use std::sync::Arc;

use engineio_proto::{Encoded, Text};
use socketio_proto::{AckId, Args, EncodeError, Parser, Payload, Value, encode_ack};

use super::message::Remote;
use crate::foreign::SocketSnapshot;
use crate::options::BroadcastOptions;
use crate::recipient::{DisconnectScope, RemoteSocketInfo, Room, SocketId};

/// Whose rooms change.
#[derive(Clone, Debug)]
pub(crate) enum Whom {
    /// Those of the sockets that these options name.
    Sockets(BroadcastOptions),
    /// Those of the socket with this id, and of nobody who joined the room of that name.
    Socket(SocketId),
}

/// What a node asks the others.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    /// Tell the sockets of the target.
    Sockets {
        namespace: Text,
        options: BroadcastOptions,
    },
    /// Put the sockets of the target into rooms.
    Join {
        namespace: Text,
        whom: Whom,
        rooms: Vec<Room>,
    },
    /// Take the sockets of the target out of rooms.
    Leave {
        namespace: Text,
        whom: Whom,
        rooms: Vec<Room>,
    },
    /// Disconnect the sockets of the target.
    Disconnect {
        namespace: Text,
        options: BroadcastOptions,
        scope: DisconnectScope,
    },
    /// Tell all rooms.
    Rooms { namespace: Text },
    /// Something for the node's own handlers.
    Event {
        namespace: Text,
        event: Text,
        payload: Packet,
        wants_answer: bool,
    },
}

/// What a node answers.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// Nobody there had anything to say.
    Nothing,
    /// So many sockets were concerned.
    Count(u64),
    /// Some sockets.
    Sockets(Vec<RemoteSocketInfo>),
    /// Some rooms.
    Rooms(Vec<Room>),
    /// Some acks, and how many sockets were asked.
    Acks {
        expected: u64,
        answers: Vec<(SocketId, Payload)>,
    },
    /// The answer of a handler.
    Event(Payload),
}

/// Arguments on their way: written like an ack, in JSON with attachments.
#[derive(Clone, Debug)]
pub(crate) enum Packet {
    /// To be sent.
    Out(Encoded),
    /// As it came.
    In(Remote),
}

impl Packet {
    /// Writes these arguments.
    pub(crate) fn of<T: serde::Serialize + ?Sized>(payload: &T) -> Result<Self, EncodeError> {
        encode_ack(Parser::Json, "/", AckId::new(0), payload).map(Self::Out)
    }

    /// The arguments. `None`: nobody could read them.
    pub(crate) fn payload(&self) -> Option<Payload> {
        match self {
            Self::Out(packet) => Remote::of_json(packet)?.ack_payload().ok(),
            Self::In(remote) => remote.ack_payload().ok(),
        }
    }
}

/// Anything as a [`Payload`], as it would have come from a peer.
///
/// # Errors
/// It cannot be written.
pub(crate) fn payload_of<T: serde::Serialize + ?Sized>(
    payload: &T,
) -> Result<Payload, EncodeError> {
    Ok(Packet::of(payload)?.payload().unwrap_or_default())
}

/// A socket as it is told to other nodes: id, rooms, handshake, data.
pub(crate) fn describe_socket(socket: &RemoteSocketInfo) -> Result<Packet, EncodeError> {
    let rooms = socket.rooms.iter().map(|room| room.as_str().into());
    Packet::of(&Args(vec![
        socket.id.as_str().into(),
        Value::Array(rooms.collect()),
        socket.info.handshake(),
        socket.info.data(),
    ]))
}

/// Reads what [`describe_socket`] wrote.
pub(crate) fn read_socket(packet: &Packet) -> Option<RemoteSocketInfo> {
    let Args(values) = packet.payload()?.args().ok()?;
    let [id, rooms, handshake, data] = <[Value; 4]>::try_from(values).ok()?;
    let Value::Array(rooms) = rooms else {
        return None;
    };
    let id = SocketId::from(id.as_str()?);
    Some(RemoteSocketInfo {
        rooms: rooms
            .iter()
            .map(|room| room.as_str().map(Room::from))
            .collect::<Option<_>>()?,
        info: Arc::new(SocketSnapshot {
            id: id.clone(),
            handshake,
            data,
        }),
        id,
    })
}

//! Packets for a peer in MessagePack, written straight into one buffer.

use engineio_proto::Encoded;
use rmp::encode::{self, ByteBuf};
use serde::Serialize;

use crate::SocketioVersion;
use crate::ack::AckId;
use crate::encode::{Passed, Refusal, Sink};
use crate::error::{ConnectError, EncodeError};
use crate::payload::Payload;

/// Room for the payload of a usual event, so that its buffer is allocated once.
const PAYLOAD_CAPACITY_BYTES: usize = 192;

/// Writes an event or ack. The payload is the last key, so that it goes straight into the buffer.
pub(crate) struct MsgpackSink<'a> {
    buffer: Vec<u8>,
    /// Where the array of the payload begins.
    data_at: usize,
    event: Option<&'a str>,
}

impl<'a> MsgpackSink<'a> {
    pub(crate) fn event(namespace: &str, ack: Option<AckId>, event: &'a str) -> Self {
        Self::new(EVENT, namespace, ack, Some(event))
    }

    pub(crate) fn ack(namespace: &str, id: AckId) -> Self {
        Self::new(ACK, namespace, Some(id), None)
    }

    fn new(packet_type: u8, namespace: &str, id: Option<AckId>, event: Option<&'a str>) -> Self {
        let capacity = PAYLOAD_CAPACITY_BYTES
            .saturating_add(namespace.len())
            .saturating_add(event.map_or(0, str::len));
        let mut buffer = ByteBuf::from_vec(Vec::with_capacity(capacity));
        // A map of three or four keys.
        write_head(
            &mut buffer,
            packet_type,
            namespace,
            if id.is_some() { 4 } else { 3 },
        );
        if let Some(id) = id {
            write_str(&mut buffer, "id");
            let Ok(_) = encode::write_uint(&mut buffer, id.number());
        }
        write_str(&mut buffer, "data");
        let buffer = buffer.into_vec();
        Self {
            data_at: buffer.len(),
            buffer,
            event,
        }
    }

    pub(crate) fn finish(self) -> Encoded {
        Encoded::binary(self.buffer)
    }
}

impl Sink for MsgpackSink<'_> {
    fn begin(&mut self, count: usize) -> Result<(), EncodeError> {
        self.buffer.truncate(self.data_at);
        let len = count.saturating_add(usize::from(self.event.is_some()));
        // A tuple of four billion elements would have ended in memory first.
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        let mut buffer = ByteBuf::from_vec(std::mem::take(&mut self.buffer));
        let Ok(_) = encode::write_array_len(&mut buffer, len);
        if let Some(event) = self.event {
            write_str(&mut buffer, event);
        }
        self.buffer = buffer.into_vec();
        Ok(())
    }

    fn argument<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        Ok(write_value(&mut self.buffer, value)?)
    }

    fn pass_on(&mut self, payload: &Payload) -> Result<Passed, EncodeError> {
        let Some((values, count)) = payload.msgpack_as_it_arrived() else {
            return Ok(Passed::No);
        };
        // A count that does not fit is no less than one that the message could not hold.
        self.begin(usize::try_from(count).unwrap_or(usize::MAX))?;
        self.buffer.extend_from_slice(values);
        Ok(Passed::Yes)
    }
}

const CONNECT: u8 = 0;
const DISCONNECT: u8 = 1;
const EVENT: u8 = 2;
const ACK: u8 = 3;
const CONNECT_ERROR: u8 = 4;

#[derive(Serialize)]
struct Consent<'a> {
    sid: &'a str,
}

pub(crate) fn connect(version: SocketioVersion, namespace: &str, sid: &str) -> Encoded {
    match version {
        SocketioVersion::V4 => packet::<()>(CONNECT, namespace, None),
        SocketioVersion::V5 => packet(CONNECT, namespace, Some(&Consent { sid })),
    }
}

pub(crate) fn connect_error(
    version: SocketioVersion,
    namespace: &str,
    error: &ConnectError,
) -> Encoded {
    match version {
        // The parser of clients 2.x fails on anything but a string here.
        SocketioVersion::V4 => packet(CONNECT_ERROR, namespace, Some(&error.message)),
        SocketioVersion::V5 => packet(CONNECT_ERROR, namespace, Some(&Refusal::from(error))),
    }
}

pub(crate) fn disconnect(namespace: &str) -> Encoded {
    packet::<()>(DISCONNECT, namespace, None)
}

/// A packet other than event and ack. Without payload the key is absent: the official parser
/// refuses a DISCONNECT that has one, be it nil.
fn packet<T: Serialize + ?Sized>(packet_type: u8, namespace: &str, data: Option<&T>) -> Encoded {
    let mut buffer = ByteBuf::new();
    write_head(
        &mut buffer,
        packet_type,
        namespace,
        if data.is_some() { 3 } else { 2 },
    );
    let Some(data) = data else {
        return Encoded::binary(buffer.into_vec());
    };
    write_str(&mut buffer, "data");
    let mut buffer = buffer.into_vec();
    let start = buffer.len();
    // Text and values with text keys can always be written.
    if write_value(&mut buffer, data).is_err() {
        buffer.truncate(start);
        buffer.push(0xc0);
    }
    Encoded::binary(buffer)
}

/// The length of the map and its first two keys.
fn write_head(buffer: &mut ByteBuf, packet_type: u8, namespace: &str, keys: u32) {
    let Ok(_) = encode::write_map_len(buffer, keys);
    write_str(buffer, "type");
    let Ok(_) = encode::write_uint(buffer, packet_type.into());
    write_str(buffer, "nsp");
    write_str(buffer, namespace);
}

fn write_str(buffer: &mut ByteBuf, text: &str) {
    let Ok(()) = encode::write_str(buffer, text);
}

/// Structs as maps; types that have a text form use it, as they do in JSON.
pub(super) fn write_value<T: Serialize + ?Sized>(
    buffer: &mut Vec<u8>,
    value: &T,
) -> Result<(), rmp_serde::encode::Error> {
    let mut serializer = rmp_serde::Serializer::new(buffer)
        .with_struct_map()
        .with_human_readable();
    value.serialize(&mut serializer)
}

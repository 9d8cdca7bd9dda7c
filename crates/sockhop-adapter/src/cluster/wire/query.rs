//! What nodes ask each other, and what they answer.

use bytes::Bytes;
use engineio_proto::Message;
use smallvec::SmallVec;
use socketio_proto::Parser;

use super::codec::{LEN, Reader, WireError, Writer, packet_len};
use super::{Frame, KIND_ANSWER, KIND_REQUEST};
use crate::bus::{BusError, NodeId};
use crate::cluster::answer::{Answer, Packet, Request, Whom, describe_socket, read_socket};
use crate::cluster::message::Remote;
use crate::options::BroadcastOptions;
use crate::recipient::{DisconnectScope, Room, SocketId};

/// Room for a question of usual length.
const CAPACITY: usize = 256;

/// Writes a question.
///
/// # Errors
/// A list or a part of it is too long.
pub(crate) fn encode_request(
    node: NodeId,
    number: u64,
    request: &Request,
) -> Result<Bytes, BusError> {
    let mut out = Writer::new(KIND_REQUEST, node, CAPACITY);
    out.number(number);
    match request {
        Request::Sockets { namespace, options } => {
            out.operation(1, namespace)?;
            out.options(options)?;
        }
        Request::Join {
            namespace,
            whom,
            rooms,
        } => {
            out.operation(2, namespace)?;
            out.whom(whom)?;
            out.rooms(rooms)?;
        }
        Request::Leave {
            namespace,
            whom,
            rooms,
        } => {
            out.operation(3, namespace)?;
            out.whom(whom)?;
            out.rooms(rooms)?;
        }
        Request::Disconnect {
            namespace,
            options,
            scope,
        } => {
            out.operation(4, namespace)?;
            out.options(options)?;
            out.byte(u8::from(*scope == DisconnectScope::Session));
        }
        Request::Rooms { namespace } => out.operation(5, namespace)?,
        Request::Event {
            namespace,
            event,
            payload,
            wants_answer,
        } => {
            out.operation(6, namespace)?;
            out.blob(event.as_bytes())?;
            out.byte(u8::from(*wants_answer));
            out.payload(payload)?;
        }
    }
    Ok(out.finish())
}

pub(super) fn read_request(reader: &mut Reader) -> Result<Frame, WireError> {
    let number = reader.number()?;
    let operation = reader.byte()?;
    let namespace = reader.text()?;
    let request = match operation {
        1 => Request::Sockets {
            namespace,
            options: reader.options()?,
        },
        2 => Request::Join {
            namespace,
            whom: reader.whom()?,
            rooms: reader.rooms()?.into_vec(),
        },
        3 => Request::Leave {
            namespace,
            whom: reader.whom()?,
            rooms: reader.rooms()?.into_vec(),
        },
        4 => Request::Disconnect {
            namespace,
            options: reader.options()?,
            scope: match reader.flag()? {
                true => DisconnectScope::Session,
                false => DisconnectScope::Namespace,
            },
        },
        5 => Request::Rooms { namespace },
        6 => Request::Event {
            namespace,
            event: reader.text()?,
            wants_answer: reader.flag()?,
            payload: reader.payload()?,
        },
        unknown => return Err(WireError::UnknownKind(unknown)),
    };
    Ok(Frame::Request { number, request })
}

/// Writes an answer.
///
/// # Errors
/// A list or a part of it is too long.
pub(crate) fn encode_answer(
    node: NodeId,
    number: u64,
    request: u64,
    last: bool,
    answer: &Answer,
) -> Result<Bytes, BusError> {
    let mut out = Writer::new(KIND_ANSWER, node, CAPACITY);
    out.number(number);
    out.number(request);
    out.byte(u8::from(last));
    match answer {
        Answer::Nothing => out.byte(1),
        Answer::Count(count) => {
            out.byte(2);
            out.number(*count);
        }
        Answer::Sockets(sockets) => {
            out.byte(3);
            // What cannot be written is nested too deeply to be read again, either.
            let packets: Vec<Packet> = sockets
                .iter()
                .filter_map(|socket| describe_socket(socket).ok())
                .collect();
            out.count(packets.len())?;
            packets.iter().try_for_each(|packet| out.payload(packet))?;
        }
        Answer::Rooms(rooms) => {
            out.byte(4);
            out.rooms(rooms)?;
        }
        Answer::Acks { expected, answers } => {
            out.byte(5);
            out.number(*expected);
            let packets: Vec<(&SocketId, Packet)> = answers
                .iter()
                .filter_map(|(id, payload)| Some((id, Packet::of(payload).ok()?)))
                .collect();
            out.count(packets.len())?;
            for (id, packet) in &packets {
                out.blob(id.as_str().as_bytes())?;
                out.payload(packet)?;
            }
        }
        Answer::Event(payload) => match Packet::of(payload) {
            Ok(packet) => {
                out.byte(6);
                out.payload(&packet)?;
            }
            Err(_) => out.byte(1),
        },
    }
    Ok(out.finish())
}

pub(super) fn read_answer(reader: &mut Reader) -> Result<Frame, WireError> {
    let number = reader.number()?;
    let request = reader.number()?;
    let last = reader.flag()?;
    let answer = match reader.byte()? {
        1 => Answer::Nothing,
        2 => Answer::Count(reader.number()?),
        3 => Answer::Sockets(reader.list(|reader| {
            let packet = reader.payload()?;
            read_socket(&packet).ok_or(WireError::InvalidPacket)
        })?),
        4 => Answer::Rooms(reader.rooms()?.into_vec()),
        5 => Answer::Acks {
            expected: reader.number()?,
            answers: reader.list(|reader| {
                let id = SocketId::from(&*reader.text()?);
                let payload = reader.payload()?.payload();
                Ok((id, payload.ok_or(WireError::InvalidPacket)?))
            })?,
        },
        6 => {
            let payload = reader.payload()?.payload();
            Answer::Event(payload.ok_or(WireError::InvalidPacket)?)
        }
        unknown => return Err(WireError::UnknownKind(unknown)),
    };
    Ok(Frame::Answer {
        number,
        request,
        last,
        answer,
    })
}

impl Writer {
    fn operation(&mut self, operation: u8, namespace: &str) -> Result<(), BusError> {
        self.byte(operation);
        self.blob(namespace.as_bytes())
    }

    fn options(&mut self, options: &BroadcastOptions) -> Result<(), BusError> {
        self.rooms(&options.rooms)?;
        self.rooms(&options.except)
    }

    fn whom(&mut self, whom: &Whom) -> Result<(), BusError> {
        match whom {
            Whom::Sockets(options) => {
                self.byte(0);
                self.options(options)
            }
            Whom::Socket(id) => {
                self.byte(1);
                self.blob(id.as_str().as_bytes())
            }
        }
    }

    fn payload(&mut self, packet: &Packet) -> Result<(), BusError> {
        match packet {
            Packet::Out(packet) => {
                self.reserve(packet_len(packet));
                self.packet(packet)
            }
            Packet::In(Remote {
                head, attachments, ..
            }) => {
                match head {
                    Message::Text(text) => self.blob(text.as_bytes())?,
                    Message::Binary(data) => self.blob(data)?,
                }
                self.count(attachments.len())?;
                attachments.iter().try_for_each(|data| self.blob(data))
            }
        }
    }

    fn reserve(&mut self, bytes: usize) {
        self.buffer().reserve(bytes + LEN);
    }
}

impl Reader {
    /// One of two.
    fn flag(&mut self) -> Result<bool, WireError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(WireError::UnknownFlags(other)),
        }
    }

    fn options(&mut self) -> Result<BroadcastOptions, WireError> {
        let rooms: SmallVec<[Room; 4]> = self.rooms()?;
        Ok(BroadcastOptions {
            rooms,
            except: self.rooms()?,
            local: true,
            ..BroadcastOptions::default()
        })
    }

    fn whom(&mut self) -> Result<Whom, WireError> {
        Ok(match self.flag()? {
            false => Whom::Sockets(self.options()?),
            true => Whom::Socket(SocketId::from(&*self.text()?)),
        })
    }

    fn payload(&mut self) -> Result<Packet, WireError> {
        Ok(Packet::In(Remote {
            parser: Parser::Json,
            head: Message::Text(self.text()?),
            attachments: self.list(Self::blob)?,
        }))
    }
}

#[cfg(test)]
mod tests;

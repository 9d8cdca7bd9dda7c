//! Packets for a peer, serialised once for all recipients.

mod json;
mod spread;

use engineio_proto::Encoded;
use serde::Serialize;

use crate::ack::AckId;
use crate::error::{ConnectError, EncodeError};
use crate::name::is_reserved_event;
use crate::payload::Payload;
use crate::{Parser, SocketioVersion, msgpack};
pub(crate) use json::Refusal;
use spread::write_arguments;

/// Takes the arguments of one packet, in order.
pub(crate) trait Sink {
    /// Starts the list of arguments, forgetting arguments that were written before.
    fn begin(&mut self, count: usize) -> Result<(), EncodeError>;

    /// Writes the next argument.
    fn argument<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError>;

    /// Writes all arguments of a payload in the very bytes that it arrived in, if it came through
    /// the same parser and every peer can read it.
    fn pass_on(&mut self, payload: &Payload) -> Result<Passed, EncodeError>;
}

/// What became of a payload that should go out as it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passed {
    /// All its arguments were written.
    Yes,
    /// Nothing was written: it has to be decoded and serialised.
    No,
}

/// An event with its payload.
///
/// A tuple (or tuple struct, or array) is one argument for each element, `()` none,
/// [`crate::Args`] and [`crate::Payload`] all they hold, and anything else one argument; a `Vec`
/// is one argument, an array. What serde calls bytes is binary: `bytes::Bytes`, `serde_bytes`,
/// [`crate::Value::Binary`].
///
/// A [`crate::Payload`] that came through the same parser goes out in the bytes that it arrived
/// in, attachments shared; otherwise it is decoded and written like any other.
///
/// *Shape:* JSON: one text and, for each binary in depth-first order, an attachment. MessagePack:
/// one binary message.
///
/// # Errors
/// The name is reserved, or the payload cannot be written.
pub fn encode_event<T: Serialize + ?Sized>(
    parser: Parser,
    namespace: &str,
    ack: Option<AckId>,
    event: &str,
    payload: &T,
) -> Result<Encoded, EncodeError> {
    if is_reserved_event(event) {
        return Err(EncodeError::Reserved(event.into()));
    }
    match parser {
        Parser::Json => {
            let mut sink = json::JsonSink::event(namespace, ack, event)?;
            write_arguments(&mut sink, payload)?;
            Ok(sink.finish())
        }
        Parser::Msgpack => {
            let mut sink = msgpack::MsgpackSink::event(namespace, ack, event);
            write_arguments(&mut sink, payload)?;
            Ok(sink.finish())
        }
    }
}

/// The answer to an event of the peer that asked for an ack; the payload as in [`encode_event`].
///
/// # Errors
/// The payload cannot be written.
pub fn encode_ack<T: Serialize + ?Sized>(
    parser: Parser,
    namespace: &str,
    id: AckId,
    payload: &T,
) -> Result<Encoded, EncodeError> {
    match parser {
        Parser::Json => {
            let mut sink = json::JsonSink::ack(namespace, id);
            write_arguments(&mut sink, payload)?;
            Ok(sink.finish())
        }
        Parser::Msgpack => {
            let mut sink = msgpack::MsgpackSink::ack(namespace, id);
            write_arguments(&mut sink, payload)?;
            Ok(sink.finish())
        }
    }
}

/// The consent to a CONNECT.
///
/// *Shape:* protocol 5 `0/nsp,{"sid":"…"}`; protocol 4 `0/nsp,` without payload, because its
/// clients reject an object there and know their id already.
#[must_use]
pub fn encode_connect(
    parser: Parser,
    version: SocketioVersion,
    namespace: &str,
    sid: &str,
) -> Encoded {
    match parser {
        Parser::Json => json::connect(version, namespace, sid),
        Parser::Msgpack => msgpack::connect(version, namespace, sid),
    }
}

/// The refusal of a CONNECT.
///
/// *Shape:* protocol 5 `4/nsp,{"message":"…"[,"data":…]}`; protocol 4 the data alone, or the
/// message as a string where there is none or the parser takes only strings (MessagePack).
#[must_use]
pub fn encode_connect_error(
    parser: Parser,
    version: SocketioVersion,
    namespace: &str,
    error: &ConnectError,
) -> Encoded {
    match parser {
        Parser::Json => json::connect_error(version, namespace, error),
        Parser::Msgpack => msgpack::connect_error(version, namespace, error),
    }
}

/// The end of a membership, by decision of the server.
#[must_use]
pub fn encode_disconnect(parser: Parser, namespace: &str) -> Encoded {
    match parser {
        Parser::Json => json::disconnect(namespace),
        Parser::Msgpack => msgpack::disconnect(namespace),
    }
}

#[cfg(test)]
mod tests;

//! What comes over the channel.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use engineio_proto::{Message, Text};
use serde::Deserialize;
use serde_json::value::RawValue;
use socketio_proto::{Args, Parser, Value};

use super::{Callback, PythonDialect, PythonRequest};
use crate::bus::ChannelMessage;
use crate::dialect::answers::{Answer, Taken};
use crate::dialect::value::{list, name, names, number};
use crate::dialect::{DialectLimits, ForeignEvent, Ignored, OWN_PREFIX, event_of, read_packet};
use crate::options::BroadcastOptions;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// How emits of sockhop nodes begin: all nodes hear those of all others, and read no further.
const OWN_HEAD: &[u8] = b"{\"method\":\"emit\",\"host_id\":\"sockhop:";

/// A message with all its members, of which each method has some.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(default)]
    method: Value,
    #[serde(default)]
    host_id: Value,
    #[serde(default)]
    namespace: Value,
    #[serde(default)]
    event: Value,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(default)]
    binary: Value,
    #[serde(default)]
    room: Value,
    #[serde(default)]
    skip_sid: Value,
    #[serde(default)]
    callback: Value,
    #[serde(default)]
    sid: Value,
    #[serde(default)]
    id: Value,
    #[serde(default)]
    args: Value,
}

impl PythonDialect {
    /// Whether a channel is that of this dialect.
    #[must_use]
    pub fn is_mine(&self, channel: &str) -> bool {
        channel == &*self.channel
    }

    /// Takes a message of the channel. What comes back is for whoever has the namespaces.
    pub fn receive(&self, message: &ChannelMessage) -> Option<PythonRequest> {
        self.stats.received.add(1);
        match self.read(&message.payload) {
            Ok(request) => request,
            Err(reason) => {
                self.stats.ignore(reason);
                None
            }
        }
    }

    fn read(&self, payload: &Bytes) -> Result<Option<PythonRequest>, Ignored> {
        if payload.starts_with(OWN_HEAD) {
            return Err(Ignored::Own);
        }
        match payload.first() {
            _ if payload.len() > self.limits.max_message_bytes => return Err(Ignored::TooLarge),
            Some(b'{') => {}
            // `PROTO`, with which every pickle since protocol 2 begins.
            Some(0x80) => return Err(Ignored::Pickle),
            Some(_) | None => return Err(Ignored::Malformed),
        }
        let fields: Fields<'_> = serde_json::from_slice(payload).map_err(|_| Ignored::Malformed)?;
        let method = fields.method.as_str().ok_or(Ignored::Malformed)?;
        let host = fields.host_id.as_str();
        if method == "callback" {
            return self.take_callback(&fields).map(|()| None);
        }
        if host.is_some_and(|host| host.starts_with(OWN_PREFIX)) {
            return Err(Ignored::Own);
        }
        fields.request(method, &self.limits).map(Some)
    }

    /// The ack of a client of another server.
    fn take_callback(&self, fields: &Fields<'_>) -> Result<(), Ignored> {
        if fields.host_id.as_str() != Some(&*self.host) {
            return Err(Ignored::NotAsked);
        }
        let question = number(&fields.id).ok_or(Ignored::Malformed)?;
        let args = list(Some(&fields.args), self.limits.max_items)?;
        let answer = Answer::Ack(Args(args.to_vec()));
        match self.questions.answer(question, answer) {
            Taken::Yes => Ok(()),
            Taken::NotAsked => Err(Ignored::NotAsked),
            Taken::Full => Err(Ignored::Overload),
        }
    }
}

impl Fields<'_> {
    fn request(&self, method: &str, limits: &DialectLimits) -> Result<PythonRequest, Ignored> {
        // Python servers drop what does not say for which namespace it is.
        let namespace = Text::from(self.namespace.as_str().ok_or(Ignored::Malformed)?);
        let id = || name(&self.sid).ok_or(Ignored::Malformed).map(Into::into);
        let room = || name(&self.room).ok_or(Ignored::Malformed).map(Into::into);
        match method {
            "emit" => Ok(PythonRequest::Emit {
                event: self.event(namespace, limits)?.into(),
                callback: self.callback(),
            }),
            "disconnect" => Ok(PythonRequest::Disconnect {
                namespace,
                id: id()?,
            }),
            "enter_room" => Ok(PythonRequest::EnterRoom {
                namespace,
                id: id()?,
                room: room()?,
            }),
            "leave_room" => Ok(PythonRequest::LeaveRoom {
                namespace,
                id: id()?,
                room: room()?,
            }),
            "close_room" => Ok(PythonRequest::CloseRoom {
                namespace,
                room: room()?,
            }),
            _ => Err(Ignored::Unknown),
        }
    }

    fn event(&self, namespace: Text, limits: &DialectLimits) -> Result<ForeignEvent, Ignored> {
        let options = BroadcastOptions {
            rooms: names(Some(&self.room), limits.max_items)?.into(),
            except: names(Some(&self.skip_sid), limits.max_items)?.into(),
            // The other nodes heard it, too.
            local: true,
            ..BroadcastOptions::default()
        };
        let event = self.event.as_str().ok_or(Ignored::Malformed)?;
        let data = self.data.map_or("null", RawValue::get);
        let (arguments, attachments) = match self.binary {
            Value::Bool(true) => split_binary(data, limits)?,
            _ => (data, Vec::new()),
        };
        let packet = packet(event, arguments, attachments.len())?;
        let packet = read_packet(Parser::Json, Message::Text(packet.into()), attachments)?;
        let (name, payload) = event_of(packet)?;
        Ok(ForeignEvent {
            namespace,
            options,
            name,
            payload,
        })
    }

    /// Without a host there is nobody to tell.
    fn callback(&self) -> Option<Callback> {
        let host = self.host_id.as_str()?.to_owned();
        let Value::Array(parts) = &self.callback else {
            return None;
        };
        let [room, namespace, id] = parts.as_slice() else {
            return None;
        };
        Some(Callback {
            host,
            room: room.clone(),
            namespace: namespace.clone(),
            id: id.clone(),
        })
    }
}

/// `[arguments with placeholders, "<base64>", …]`.
fn split_binary<'a>(
    data: &'a str,
    limits: &DialectLimits,
) -> Result<(&'a str, Vec<Bytes>), Ignored> {
    let parts: Vec<&'a RawValue> = serde_json::from_str(data).map_err(|_| Ignored::Malformed)?;
    if parts.len() > limits.max_items {
        return Err(Ignored::TooLarge);
    }
    let (arguments, attachments) = parts.split_first().ok_or(Ignored::Malformed)?;
    let decode = |part: &&RawValue| {
        let text: String = serde_json::from_str(part.get()).ok()?;
        BASE64.decode(text).ok().map(Bytes::from)
    };
    let attachments: Option<_> = attachments.iter().map(decode).collect();
    Ok((arguments.get(), attachments.ok_or(Ignored::Malformed)?))
}

/// The event as sockets would get it, in the namespace `/`.
///
/// A list is the arguments, anything else one argument, and null none, alone in a list or not: so
/// Python servers have it.
fn packet(event: &str, arguments: &str, attachments: usize) -> Result<String, Ignored> {
    let event = serde_json::to_string(event).map_err(|_| Ignored::Malformed)?;
    let arguments = arguments.trim_ascii();
    let inside = match arguments.strip_prefix('[') {
        Some(list) => list.strip_suffix(']').unwrap_or(list).trim_ascii(),
        None => arguments,
    };
    let head = match attachments {
        0 => "2".to_owned(),
        some => format!("5{some}-"),
    };
    Ok(match inside {
        "" | "null" => format!("{head}[{event}]"),
        _ => format!("{head}[{event},{inside}]"),
    })
}

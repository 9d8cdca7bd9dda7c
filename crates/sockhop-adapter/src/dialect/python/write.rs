//! Writing an `emit` around arguments that are JSON already.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use engineio_proto::Encoded;
use serde::Serialize;
use serde_json::value::RawValue;
use socketio_proto::Value;

use crate::dialect::value::texts;
use crate::options::BroadcastOptions;
use crate::recipient::Room;

/// One `emit`.
pub(super) struct Emit<'a> {
    pub(super) host: &'a str,
    pub(super) namespace: &'a str,
    pub(super) options: &'a BroadcastOptions,
    /// The event for the JSON parser.
    pub(super) packet: &'a Encoded,
    pub(super) callback: Option<&'a Value>,
    pub(super) single_value: bool,
}

/// Method and host come first, so that the other sockhop nodes need not read the rest.
#[derive(Serialize)]
struct Message<'a> {
    method: &'static str,
    host_id: &'a str,
    event: &'a RawValue,
    data: Data<'a>,
    binary: bool,
    namespace: &'a str,
    room: Value,
    skip_sid: Value,
    callback: Option<&'a Value>,
}

/// The arguments as they stand in the packet; with attachments, a list of them and the attachments.
#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    Null,
    One(&'a RawValue),
    Arguments(&'a [&'a RawValue]),
    Binary(Vec<Part<'a>>),
}

#[derive(Serialize)]
#[serde(untagged)]
enum Part<'a> {
    One(&'a RawValue),
    Arguments(&'a [&'a RawValue]),
    Attachment(String),
}

impl Emit<'_> {
    /// `None`: the packet is no event in JSON.
    pub(super) fn to_json(&self) -> Option<Bytes> {
        let mut frames = self.packet.frames();
        let head = std::str::from_utf8(frames.next()?.data()).ok()?;
        let array = arguments_at(head, self.namespace)?;
        let parts: Vec<&RawValue> = serde_json::from_str(array).ok()?;
        let (event, arguments) = parts.split_first()?;
        let attachments: Vec<_> = frames
            .map(|frame| Part::Attachment(STANDARD.encode(frame.data())))
            .collect();
        let data = match (attachments.is_empty(), self.single_value, arguments) {
            (true, true, []) => Data::Null,
            (true, true, [one]) => Data::One(one),
            (true, _, _) => Data::Arguments(arguments),
            (false, single, _) => {
                let first = match arguments {
                    [one] if single => Part::One(one),
                    _ => Part::Arguments(arguments),
                };
                Data::Binary(std::iter::once(first).chain(attachments).collect())
            }
        };
        let message = Message {
            method: "emit",
            host_id: self.host,
            event,
            binary: matches!(data, Data::Binary(_)),
            data,
            namespace: self.namespace,
            room: one_or_all(&self.options.rooms),
            skip_sid: one_or_all(&self.options.except),
            callback: self.callback,
        };
        serde_json::to_vec(&message).ok().map(Bytes::from)
    }
}

/// Where the array of an event begins: behind the types, the number of attachments, the namespace
/// and an ack id, of which only the namespace can have a bracket in it.
fn arguments_at<'a>(head: &'a str, namespace: &str) -> Option<&'a str> {
    let search = match namespace {
        "/" => head,
        _ => head.split_once(namespace)?.1,
    };
    search.find('[').and_then(|at| search.get(at..))
}

fn one_or_all(rooms: &[Room]) -> Value {
    match rooms {
        [] => Value::Null,
        [one] => one.as_str().into(),
        all => texts(all),
    }
}

//! What servers ask of each other: objects in JSON, or MessagePack where binary data may be inside.

use std::time::Duration;

use bytes::Bytes;
use engineio_proto::{Message, Text};
use socketio_proto::{Args, Parser, Value, msgpack};

use super::channels::NamespaceNames;
use super::{Asker, NodeRequest};
use crate::dialect::value::{Fields, list, name, names as names_of, number, object, some, texts};
use crate::dialect::{DialectLimits, ForeignEvent, Ignored, OWN_PREFIX, event_of, read_packet};
use crate::options::BroadcastOptions;
use crate::recipient::{DisconnectScope, Room};

pub(super) const SOCKETS: u64 = 0;
pub(super) const ALL_ROOMS: u64 = 1;
pub(super) const JOIN: u64 = 2;
pub(super) const LEAVE: u64 = 3;
pub(super) const DISCONNECT: u64 = 4;
pub(super) const FETCH: u64 = 5;
pub(super) const SERVER_SIDE_EMIT: u64 = 6;
pub(super) const BROADCAST: u64 = 7;

/// Whom something is for, as servers write it.
pub(super) fn options(options: &BroadcastOptions, timeout: Option<Duration>) -> Value {
    let mut flags = Vec::new();
    if options.volatile {
        flags.push(("volatile".to_owned(), true.into()));
    }
    if !options.compress {
        flags.push(("compress".to_owned(), false.into()));
    }
    if let Some(timeout) = timeout {
        let ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        flags.push(("timeout".to_owned(), ms.into()));
    }
    object([
        ("rooms", texts(&options.rooms)),
        ("except", texts(&options.except)),
        ("flags", Value::Object(flags)),
    ])
}

/// Reads what [`options`] wrote. Emitters of socket.io 2 leave out the exceptions.
pub(super) fn read_options(
    value: Option<&Value>,
    limits: &DialectLimits,
) -> Result<BroadcastOptions, Ignored> {
    let Some(value @ Value::Object(_)) = some(value) else {
        return Err(Ignored::Malformed);
    };
    let flags = some(value.get("flags"));
    let flag = |key: &str| flags.and_then(|flags| flags.get(key));
    Ok(BroadcastOptions {
        rooms: names_of(value.get("rooms"), limits.max_items)?.into(),
        except: names_of(value.get("except"), limits.max_items)?.into(),
        except_socket: None,
        volatile: flag("volatile") == Some(&Value::Bool(true)),
        // The other nodes heard it, too.
        local: true,
        compress: flag("compress") != Some(&Value::Bool(false)),
    })
}

/// Name and arguments of an event between servers, as one member of a request.
pub(super) fn event_data(event: &str, args: &Args) -> (&'static str, Value) {
    let data = std::iter::once(event.into()).chain(args.0.iter().cloned());
    ("data", Value::Array(data.collect()))
}

/// Reads a request that came for the namespace of `names`.
pub(super) fn read(
    names: NamespaceNames<'_>,
    namespace: &str,
    payload: &Bytes,
    limits: &DialectLimits,
    specific_responses: bool,
) -> Result<NodeRequest, Ignored> {
    let fields = Fields::read(payload)?;
    let uid = fields.text("uid");
    if uid.is_some_and(|uid| uid.starts_with(OWN_PREFIX)) {
        return Err(Ignored::Own);
    }
    let asker = fields.get("requestId").and_then(name).map(|id| {
        let common = names.response();
        let channel = match uid {
            Some(uid) if specific_responses => names.response_to(uid),
            Some(_) | None => common.clone(),
        };
        Asker {
            channel: channel.into(),
            common_channel: common.into(),
            request: id.into(),
        }
    });
    let namespace = Text::from(namespace);
    let about = About {
        fields: &fields,
        limits,
    };
    let needed = asker.clone().ok_or(Ignored::Malformed);
    match fields.number("type").ok_or(Ignored::Malformed)? {
        SOCKETS => Ok(NodeRequest::SocketIds {
            namespace,
            options: rooms_only(names_of(fields.get("rooms"), limits.max_items)?),
            asker: needed?,
        }),
        ALL_ROOMS => Ok(NodeRequest::AllRooms {
            namespace,
            asker: needed?,
        }),
        JOIN => about.rooms().map(|(options, rooms)| NodeRequest::Join {
            namespace,
            options,
            rooms,
            asker,
        }),
        LEAVE => about.rooms().map(|(options, rooms)| NodeRequest::Leave {
            namespace,
            options,
            rooms,
            asker,
        }),
        DISCONNECT => Ok(NodeRequest::Disconnect {
            namespace,
            options: about.sockets()?,
            scope: match fields.get("close") {
                Some(Value::Bool(true)) => DisconnectScope::Session,
                Some(_) | None => DisconnectScope::Namespace,
            },
            asker,
        }),
        FETCH => Ok(NodeRequest::Sockets {
            namespace,
            options: about.sockets()?,
            asker: needed?,
        }),
        SERVER_SIDE_EMIT => server_side_emit(namespace, &about, asker),
        BROADCAST => broadcast_with_ack(namespace, &about, needed?),
        _ => Err(Ignored::Unknown),
    }
}

/// A request under the limits.
struct About<'a> {
    fields: &'a Fields,
    limits: &'a DialectLimits,
}

impl About<'_> {
    /// The sockets that are meant: by options, or one by its id as older adapters have it.
    fn sockets(&self) -> Result<BroadcastOptions, Ignored> {
        match self.fields.text("sid") {
            Some(id) => Ok(rooms_only(vec![id.into()])),
            None => read_options(self.fields.get("opts"), self.limits),
        }
    }

    /// The sockets that are meant and the rooms that they join or leave.
    fn rooms(&self) -> Result<(BroadcastOptions, Vec<Room>), Ignored> {
        let rooms = match self.fields.get("room") {
            Some(room) => names_of(Some(room), self.limits.max_items)?,
            None => names_of(self.fields.get("rooms"), self.limits.max_items)?,
        };
        Ok((self.sockets()?, rooms))
    }
}

fn rooms_only(rooms: Vec<Room>) -> BroadcastOptions {
    BroadcastOptions {
        rooms: rooms.into(),
        local: true,
        ..BroadcastOptions::default()
    }
}

fn server_side_emit(
    namespace: Text,
    about: &About<'_>,
    asker: Option<Asker>,
) -> Result<NodeRequest, Ignored> {
    let data = list(about.fields.get("data"), about.limits.max_items)?;
    let (event, args) = data.split_first().ok_or(Ignored::Malformed)?;
    Ok(NodeRequest::ServerSideEmit {
        namespace,
        event: name(event).ok_or(Ignored::Malformed)?,
        args: Args(args.to_vec()),
        asker,
    })
}

fn broadcast_with_ack(
    namespace: Text,
    about: &About<'_>,
    asker: Asker,
) -> Result<NodeRequest, Ignored> {
    let packet = about.fields.get("packet").ok_or(Ignored::Malformed)?;
    let opts = about.fields.get("opts");
    let options = read_options(opts, about.limits)?;
    let timeout = opts
        .and_then(|opts| opts.get("flags")?.get("timeout"))
        .and_then(number)
        .map(Duration::from_millis);
    let mut data = Vec::new();
    msgpack::write_value(&mut data, packet);
    let message = Message::Binary(data.into());
    let (name, payload) = event_of(read_packet(Parser::Msgpack, message, Vec::new())?)?;
    Ok(NodeRequest::BroadcastWithAck {
        event: ForeignEvent {
            namespace,
            options,
            name,
            payload,
        },
        timeout,
        asker,
    })
}

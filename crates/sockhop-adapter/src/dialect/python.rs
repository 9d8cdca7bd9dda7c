//! The dialect of Python: `RedisManager` and `AsyncRedisManager` of python-socketio 5.14 and newer,
//! write-only ones included, and Flask-SocketIO.
//!
//! One channel for all namespaces; a message is an object in JSON with a `method`. Older servers
//! publish pickles, which are never read. (They understand what is published here.)

mod receive;
mod write;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use engineio_proto::{Encoded, Text};
use socketio_proto::{Payload, Value};

use super::answers::{Answer, Question, Questions};
use super::value::{BinaryAs, object, to_json};
use super::{DialectLimits, DialectStats, ForeignEvent, OWN_PREFIX, may_be_id};
use crate::bus::{BusError, Channels, NodeId};
use crate::options::BroadcastOptions;
use crate::recipient::{Room, SocketId};

/// How the dialect of Python is spoken.
#[derive(Clone, Debug)]
pub struct PythonDialectConfig {
    /// The channel. Default: `socketio`, as in python-socketio; Flask-SocketIO uses
    /// `flask-socketio` unless told otherwise.
    pub channel: String,
    /// Whether the arguments of an event are published as one value instead of a list of
    /// arguments, as python-socketio before 5.15.1 has it. Default: no. Events with several
    /// arguments then arrive there as one list. Either form is read.
    pub single_values: bool,
    /// What one message may hold.
    pub limits: DialectLimits,
}

impl Default for PythonDialectConfig {
    fn default() -> Self {
        Self {
            channel: "socketio".to_owned(),
            single_values: false,
            limits: DialectLimits::default(),
        }
    }
}

/// This node as a member of a cluster of Python servers.
pub struct PythonDialect {
    channel: Box<str>,
    host: Box<str>,
    single_values: bool,
    limits: DialectLimits,
    channels: Arc<dyn Channels>,
    questions: Arc<Questions>,
    stats: Arc<DialectStats>,
}

/// What a Python server wants from this node.
#[derive(Clone, Debug)]
pub enum PythonRequest {
    /// Deliver an event, and tell the first ack if somebody wants it.
    Emit {
        /// The event.
        event: Box<ForeignEvent>,
        /// Who wants the ack.
        callback: Option<Callback>,
    },
    /// Disconnect one socket.
    Disconnect {
        /// In which namespace.
        namespace: Text,
        /// Which.
        id: SocketId,
    },
    /// Put one socket into a room.
    EnterRoom {
        /// In which namespace.
        namespace: Text,
        /// Which socket.
        id: SocketId,
        /// Which room.
        room: Room,
    },
    /// Take one socket out of a room.
    LeaveRoom {
        /// In which namespace.
        namespace: Text,
        /// Which socket.
        id: SocketId,
        /// Which room.
        room: Room,
    },
    /// Take everybody out of a room.
    CloseRoom {
        /// In which namespace.
        namespace: Text,
        /// Which room.
        room: Room,
    },
}

/// Who wants an ack, and what they call it.
#[derive(Clone, Debug, PartialEq)]
pub struct Callback {
    host: String,
    room: Value,
    namespace: Value,
    id: Value,
}

impl PythonRequest {
    /// The namespace that it is about.
    #[must_use]
    pub fn namespace(&self) -> &str {
        match self {
            Self::Emit { event, .. } => &event.namespace,
            Self::Disconnect { namespace, .. }
            | Self::EnterRoom { namespace, .. }
            | Self::LeaveRoom { namespace, .. }
            | Self::CloseRoom { namespace, .. } => namespace,
        }
    }
}

impl PythonDialect {
    /// A member that listens to the channel until it is dropped.
    #[must_use]
    pub fn new(config: PythonDialectConfig, node: NodeId, channels: Arc<dyn Channels>) -> Self {
        channels.subscribe(&config.channel);
        Self {
            channel: config.channel.into(),
            host: format!("{OWN_PREFIX}{node}").into(),
            single_values: config.single_values,
            limits: config.limits,
            channels,
            questions: Questions::new(&config.limits),
            stats: Arc::default(),
        }
    }

    /// What was counted.
    #[must_use]
    pub fn stats(&self) -> &Arc<DialectStats> {
        &self.stats
    }

    /// Tells the other servers about an event, which `packet` is for the JSON parser.
    ///
    /// *Shape:* they can leave out single sockets, but not rooms: an emit that leaves out anything
    /// that cannot be an id of a socket is not published, and counted as unsupported.
    ///
    /// # Errors
    /// They miss it.
    pub fn broadcast(
        &self,
        namespace: &str,
        options: &BroadcastOptions,
        packet: &Encoded,
    ) -> Result<(), BusError> {
        self.emit(namespace, options, packet, None)
    }

    /// Sends an event to one client of another server and asks for its ack.
    ///
    /// # Errors
    /// It is not sent, or too many questions are open.
    pub fn call(
        &self,
        namespace: &str,
        id: &SocketId,
        packet: &Encoded,
    ) -> Result<Option<Question>, BusError> {
        let Some(question) = self.questions.open() else {
            return self
                .stats
                .count_published(Err(BusError::QueueFull))
                .map(|()| None);
        };
        question.expect(1);
        self.questions.answer(question.number(), Answer::Asked(1));
        let options = BroadcastOptions {
            rooms: [Room::from(id)].into_iter().collect(),
            ..BroadcastOptions::default()
        };
        let callback = Value::Array(vec![
            id.as_str().into(),
            namespace.into(),
            question.number().into(),
        ]);
        self.emit(namespace, &options, packet, Some(&callback))?;
        Ok(Some(question))
    }

    /// Makes sockets of the other servers join rooms: those named by their ids, for these servers
    /// cannot be told about the members of a room.
    ///
    /// # Errors
    /// They do not.
    pub fn sockets_join(
        &self,
        namespace: &str,
        options: &BroadcastOptions,
        rooms: &[Room],
    ) -> Result<(), BusError> {
        self.move_sockets("enter_room", namespace, options, rooms)
    }

    /// Makes sockets of the other servers leave rooms: those named by their ids, or everybody in a
    /// room, that room.
    ///
    /// # Errors
    /// They do not.
    pub fn sockets_leave(
        &self,
        namespace: &str,
        options: &BroadcastOptions,
        rooms: &[Room],
    ) -> Result<(), BusError> {
        if let ([from], [room], []) = (&*options.rooms, rooms, &*options.except)
            && from == room
            && !may_be_id(room.as_str())
        {
            let room = ("room", room.as_str().into());
            return self.request("close_room", namespace, [room]);
        }
        self.move_sockets("leave_room", namespace, options, rooms)
    }

    /// Disconnects sockets of the other servers: those named by their ids.
    ///
    /// # Errors
    /// It does not.
    pub fn disconnect_sockets(
        &self,
        namespace: &str,
        options: &BroadcastOptions,
    ) -> Result<(), BusError> {
        self.each_id(options, |id| {
            self.request("disconnect", namespace, [("sid", id.into())])
        })
    }

    /// Tells whoever wanted an ack what it was.
    pub fn answer(&self, callback: &Callback, ack: &Payload) {
        let args = ack.args().unwrap_or_default();
        let message = object([
            ("method", "callback".into()),
            ("host_id", callback.host.as_str().into()),
            ("sid", callback.room.clone()),
            ("namespace", callback.namespace.clone()),
            ("id", callback.id.clone()),
            ("args", Value::Array(args.0)),
        ]);
        // A failure is counted; these servers know no deadline that could be told.
        let _ = self.publish(to_json(message, BinaryAs::Base64));
    }

    fn emit(
        &self,
        namespace: &str,
        options: &BroadcastOptions,
        packet: &Encoded,
        callback: Option<&Value>,
    ) -> Result<(), BusError> {
        if !options.except.iter().all(|room| may_be_id(room.as_str())) {
            return self.unsupported();
        }
        let message = write::Emit {
            host: &self.host,
            namespace,
            options,
            packet,
            callback,
            single_value: self.single_values,
        };
        match message.to_json() {
            Some(message) => self.publish(message),
            None => self.unsupported(),
        }
    }

    fn move_sockets(
        &self,
        method: &str,
        namespace: &str,
        options: &BroadcastOptions,
        rooms: &[Room],
    ) -> Result<(), BusError> {
        self.each_id(options, |id| {
            rooms.iter().try_for_each(|room| {
                let room = ("room", room.as_str().into());
                self.request(method, namespace, [("sid", id.into()), room])
            })
        })
    }

    /// Does something for each id of a socket, if nothing but ids is meant.
    fn each_id(
        &self,
        options: &BroadcastOptions,
        mut act: impl FnMut(&str) -> Result<(), BusError>,
    ) -> Result<(), BusError> {
        let ids = || options.rooms.iter().map(Room::as_str);
        if options.rooms.is_empty() || !options.except.is_empty() || !ids().all(may_be_id) {
            return self.unsupported();
        }
        ids().try_for_each(&mut act)
    }

    fn request<const N: usize>(
        &self,
        method: &str,
        namespace: &str,
        members: [(&str, Value); N],
    ) -> Result<(), BusError> {
        let head = [("method", method.into()), ("host_id", (&*self.host).into())];
        let all = head
            .into_iter()
            .chain(members)
            .chain([("namespace", namespace.into())]);
        let all = all.map(|(key, value)| (key.to_owned(), value)).collect();
        self.publish(to_json(Value::Object(all), BinaryAs::Base64))
    }

    fn publish(&self, message: Bytes) -> Result<(), BusError> {
        self.stats
            .count_published(self.channels.publish(&self.channel, message))
    }

    fn unsupported(&self) -> Result<(), BusError> {
        self.stats.unsupported.add(1);
        Ok(())
    }
}

impl Drop for PythonDialect {
    fn drop(&mut self) {
        self.channels.unsubscribe(&self.channel);
    }
}

impl fmt::Debug for PythonDialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PythonDialect")
            .field("host", &self.host)
            .field("channel", &self.channel)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

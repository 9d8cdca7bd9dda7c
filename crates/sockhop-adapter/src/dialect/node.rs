//! The dialect of Node.js: `@socket.io/redis-adapter` 8.x and `@socket.io/redis-emitter` 5.x.
//!
//! For each namespace there are the channels `<key>#<nsp>#` and `<key>#<nsp>#<room>#` for
//! broadcasts, `<key>-request#<nsp>#` for everything else, and `<key>-response#<nsp>#`, with
//! `<uid>#` behind it or without, for answers. A server counts those who subscribed to the channel
//! for requests and waits for an answer from each: so a node subscribes to it exactly once and
//! answers whatever wants an answer.
//!
//! sockhop nodes also subscribe to `<key>-response#<nsp>#sockhop#`, on which nothing is ever
//! published: the subscribers there are those to leave out of the count when a node asks, because
//! it asks its own kind in another way.
//!
//! A namespace whose name has a `#` in it does not take part: its channels could be those of
//! another namespace.

mod channels;
mod receive;
mod request;
mod response;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engineio_proto::{Encoded, Text};
use socketio_proto::{Args, Value, msgpack};

use self::channels::Names;
use super::answers::{Question, Questions};
use super::value::{BinaryAs, object, texts, to_json};
use super::{DialectLimits, DialectStats, ForeignEvent, OWN_PREFIX};
use crate::bus::{BusError, Channels, NodeId, Wait};
use crate::options::BroadcastOptions;
use crate::recipient::{DisconnectScope, RemoteSocketInfo, Room, SocketId};

/// How the dialect of Node.js is spoken.
#[derive(Clone, Debug)]
pub struct NodeDialectConfig {
    /// What all channels begin with: the `key` of the adapter. Default: `socket.io`.
    pub key: String,
    /// Whether answers go to the channel of whoever asked instead of the common one: the
    /// `publishOnSpecificResponseChannel` of the adapter. Default: no, as there.
    pub specific_responses: bool,
    /// What one message may hold.
    pub limits: DialectLimits,
}

impl Default for NodeDialectConfig {
    fn default() -> Self {
        Self {
            key: "socket.io".to_owned(),
            specific_responses: false,
            limits: DialectLimits::default(),
        }
    }
}

/// This node as a member of a cluster of Node.js servers.
pub struct NodeDialect {
    names: Names,
    uid: Box<str>,
    specific_responses: bool,
    limits: DialectLimits,
    channels: Arc<dyn Channels>,
    questions: Arc<Questions>,
    stats: Arc<DialectStats>,
}

/// What a server of Node.js wants from this node.
#[derive(Clone, Debug)]
pub enum NodeRequest {
    /// Deliver an event.
    Broadcast(ForeignEvent),
    /// Deliver an event, tell how many clients there are, then each ack.
    BroadcastWithAck {
        /// The event.
        event: ForeignEvent,
        /// How long acks are waited for.
        timeout: Option<Duration>,
        /// Whom to tell.
        asker: Asker,
    },
    /// Put sockets into rooms.
    Join {
        /// In which namespace.
        namespace: Text,
        /// Which sockets.
        options: BroadcastOptions,
        /// Which rooms.
        rooms: Vec<Room>,
        /// Whom to tell if there is such a socket here.
        asker: Option<Asker>,
    },
    /// Take sockets out of rooms.
    Leave {
        /// In which namespace.
        namespace: Text,
        /// Which sockets.
        options: BroadcastOptions,
        /// Which rooms.
        rooms: Vec<Room>,
        /// Whom to tell if there is such a socket here.
        asker: Option<Asker>,
    },
    /// Disconnect sockets.
    Disconnect {
        /// In which namespace.
        namespace: Text,
        /// Which sockets.
        options: BroadcastOptions,
        /// How much of their sessions ends.
        scope: DisconnectScope,
        /// Whom to tell if there is such a socket here.
        asker: Option<Asker>,
    },
    /// Tell the ids of sockets.
    SocketIds {
        /// In which namespace.
        namespace: Text,
        /// Which sockets.
        options: BroadcastOptions,
        /// Whom to tell.
        asker: Asker,
    },
    /// Tell all there is to know about sockets.
    Sockets {
        /// In which namespace.
        namespace: Text,
        /// Which sockets.
        options: BroadcastOptions,
        /// Whom to tell.
        asker: Asker,
    },
    /// Tell the rooms there are.
    AllRooms {
        /// In which namespace.
        namespace: Text,
        /// Whom to tell.
        asker: Asker,
    },
    /// Call the handler for an event between servers.
    ServerSideEmit {
        /// In which namespace.
        namespace: Text,
        /// Its name.
        event: String,
        /// Its arguments.
        args: Args,
        /// Whom to tell what the handler returned.
        asker: Option<Asker>,
    },
}

/// Who asked, and what to call the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    channel: Text,
    common_channel: Text,
    request: Text,
}

impl NodeRequest {
    /// The namespace that it is about.
    #[must_use]
    pub fn namespace(&self) -> &str {
        match self {
            Self::Broadcast(event) | Self::BroadcastWithAck { event, .. } => &event.namespace,
            Self::Join { namespace, .. }
            | Self::Leave { namespace, .. }
            | Self::Disconnect { namespace, .. }
            | Self::SocketIds { namespace, .. }
            | Self::Sockets { namespace, .. }
            | Self::AllRooms { namespace, .. }
            | Self::ServerSideEmit { namespace, .. } => namespace,
        }
    }
}

impl NodeDialect {
    /// A member without namespaces.
    #[must_use]
    pub fn new(config: NodeDialectConfig, node: NodeId, channels: Arc<dyn Channels>) -> Self {
        Self {
            names: Names::new(config.key),
            uid: format!("{OWN_PREFIX}{node}").into(),
            specific_responses: config.specific_responses,
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

    /// Begins to listen for a namespace.
    pub fn enter(&self, namespace: &str) {
        if let Some(names) = self.names.of(namespace) {
            self.channels.subscribe_pattern(&names.broadcast_pattern());
            for channel in names.exact(&self.uid) {
                self.channels.subscribe(&channel);
            }
        }
    }

    /// Takes [`Self::enter`] back.
    pub fn exit(&self, namespace: &str) {
        if let Some(names) = self.names.of(namespace) {
            self.channels
                .unsubscribe_pattern(&names.broadcast_pattern());
            for channel in names.exact(&self.uid) {
                self.channels.unsubscribe(&channel);
            }
        }
    }

    /// How many servers listen for a namespace that are no sockhop nodes: so many answer a question,
    /// for [`Question::expect`]. `None`: not known in
    /// time.
    pub fn count_others(&self, namespace: &str) -> Wait<Option<usize>> {
        let Some(names) = self.names.of(namespace) else {
            return Box::pin(std::future::ready(Some(0)));
        };
        let all = self.channels.count_subscribers(&names.request());
        let own = self.channels.count_subscribers(&names.presence());
        Box::pin(async move { Some(all.await?.saturating_sub(own.await?)) })
    }

    /// Tells the other servers about an event, which `packet` is for the MessagePack parser.
    ///
    /// # Errors
    /// They miss it.
    pub fn broadcast(
        &self,
        namespace: &str,
        options: &BroadcastOptions,
        packet: &Encoded,
    ) -> Result<(), BusError> {
        let Some(names) = self.names.of(namespace) else {
            return self.unsupported();
        };
        let channel = match options.rooms.as_slice() {
            [room] => names.room(room.as_str()),
            _ => names.broadcast(),
        };
        let mut out = vec![0x93];
        msgpack::write_value(&mut out, &(&*self.uid).into());
        out.extend_from_slice(bytes_of(packet));
        msgpack::write_value(&mut out, &request::options(options, None));
        self.publish(&channel, out.into())
    }

    /// As [`Self::broadcast`], and asks for the acks of their clients.
    ///
    /// # Errors
    /// They miss it, or too many questions are open.
    pub fn broadcast_with_ack(
        &self,
        namespace: &str,
        options: &BroadcastOptions,
        packet: &Encoded,
        timeout: Duration,
    ) -> Result<Option<Question>, BusError> {
        self.ask(namespace, |id| {
            let mut out = vec![0x85];
            for (key, value) in [
                ("uid", (&*self.uid).into()),
                ("requestId", id.into()),
                ("type", request::BROADCAST.into()),
                ("opts", request::options(options, Some(timeout))),
            ] {
                msgpack::write_value(&mut out, &key.into());
                msgpack::write_value(&mut out, &value);
            }
            msgpack::write_value(&mut out, &"packet".into());
            out.extend_from_slice(bytes_of(packet));
            out.into()
        })
    }

    /// Makes the sockets of the other servers join rooms.
    ///
    /// # Errors
    /// They do not.
    pub fn sockets_join(
        &self,
        namespace: &str,
        options: &BroadcastOptions,
        rooms: &[Room],
    ) -> Result<(), BusError> {
        let rooms = ("rooms", texts(rooms));
        self.request(namespace, request::JOIN, None, [opts(options), rooms])
    }

    /// Makes the sockets of the other servers leave rooms.
    ///
    /// # Errors
    /// They do not.
    pub fn sockets_leave(
        &self,
        namespace: &str,
        options: &BroadcastOptions,
        rooms: &[Room],
    ) -> Result<(), BusError> {
        let rooms = ("rooms", texts(rooms));
        self.request(namespace, request::LEAVE, None, [opts(options), rooms])
    }

    /// Disconnects the sockets of the other servers.
    ///
    /// # Errors
    /// It does not.
    pub fn disconnect_sockets(
        &self,
        namespace: &str,
        options: &BroadcastOptions,
        scope: DisconnectScope,
    ) -> Result<(), BusError> {
        let close = ("close", (scope == DisconnectScope::Session).into());
        self.request(namespace, request::DISCONNECT, None, [opts(options), close])
    }

    /// Calls the handlers of the other servers for an event between servers.
    ///
    /// # Errors
    /// They miss it.
    pub fn server_side_emit(
        &self,
        namespace: &str,
        event: &str,
        args: &Args,
    ) -> Result<(), BusError> {
        let data = [request::event_data(event, args)];
        self.request(namespace, request::SERVER_SIDE_EMIT, None, data)
    }

    /// As [`Self::server_side_emit`], and asks what their handlers return.
    ///
    /// # Errors
    /// They miss it, or too many questions are open.
    pub fn server_side_emit_with_ack(
        &self,
        namespace: &str,
        event: &str,
        args: &Args,
    ) -> Result<Option<Question>, BusError> {
        self.ask(namespace, |id| {
            let data = [request::event_data(event, args)];
            self.request_body(request::SERVER_SIDE_EMIT, Some(id), data)
        })
    }

    /// Asks the other servers for their sockets.
    ///
    /// # Errors
    /// They do not hear it, or too many questions are open.
    pub fn fetch_sockets(
        &self,
        namespace: &str,
        options: &BroadcastOptions,
    ) -> Result<Option<Question>, BusError> {
        self.ask(namespace, |id| {
            self.request_body(request::FETCH, Some(id), [opts(options)])
        })
    }

    /// Asks the other servers for their rooms.
    ///
    /// # Errors
    /// They do not hear it, or too many questions are open.
    pub fn all_rooms(&self, namespace: &str) -> Result<Option<Question>, BusError> {
        self.ask(namespace, |id| {
            self.request_body(request::ALL_ROOMS, Some(id), [])
        })
    }

    /// Answers [`NodeRequest::SocketIds`].
    pub fn answer_socket_ids(&self, asker: &Asker, ids: &[SocketId]) {
        let ids = ids.iter().map(|id| id.as_str().into()).collect();
        self.answer(asker, [("sockets", Value::Array(ids))]);
    }

    /// Answers [`NodeRequest::Sockets`].
    pub fn answer_sockets(&self, asker: &Asker, sockets: &[RemoteSocketInfo]) {
        let sockets = sockets.iter().map(response::socket).collect();
        self.answer(asker, [("sockets", Value::Array(sockets))]);
    }

    /// Answers [`NodeRequest::AllRooms`].
    pub fn answer_rooms(&self, asker: &Asker, rooms: &[Room]) {
        self.answer(asker, [("rooms", texts(rooms))]);
    }

    /// Answers a request about one socket that is here.
    pub fn answer_done(&self, asker: &Asker) {
        self.answer(asker, []);
    }

    /// Answers [`NodeRequest::ServerSideEmit`].
    pub fn answer_emitted(&self, asker: &Asker, returned: Value) {
        let body = object([
            ("type", request::SERVER_SIDE_EMIT.into()),
            ("requestId", (&*asker.request).into()),
            ("data", returned),
        ]);
        // A failure is counted, and whoever waits is told that this node is missing.
        let _ = self.publish(&asker.common_channel, to_json(body, BinaryAs::Buffer));
    }

    /// Answers [`NodeRequest::BroadcastWithAck`], before any ack: how many clients there are.
    pub fn answer_client_count(&self, asker: &Asker, clients: usize) {
        let body = object([
            ("type", response::CLIENT_COUNT.into()),
            ("requestId", (&*asker.request).into()),
            ("clientCount", (clients as u64).into()),
        ]);
        let _ = self.publish(&asker.channel, to_json(body, BinaryAs::Buffer));
    }

    /// Answers [`NodeRequest::BroadcastWithAck`] with the ack of one client, of which only the
    /// first argument counts.
    pub fn answer_ack(&self, asker: &Asker, ack: Option<Value>) {
        let body = object([
            ("type", response::ACK.into()),
            ("requestId", (&*asker.request).into()),
            ("packet", ack.unwrap_or_default()),
        ]);
        let mut out = Vec::new();
        msgpack::write_value(&mut out, &body);
        let _ = self.publish(&asker.channel, out.into());
    }

    fn answer<const N: usize>(&self, asker: &Asker, members: [(&str, Value); N]) {
        let id = [("requestId".to_owned(), (&*asker.request).into())];
        let members = members.map(|(key, value)| (key.to_owned(), value));
        let body = Value::Object(id.into_iter().chain(members).collect());
        let _ = self.publish(&asker.channel, to_json(body, BinaryAs::Buffer));
    }

    fn ask(
        &self,
        namespace: &str,
        body: impl FnOnce(&str) -> Bytes,
    ) -> Result<Option<Question>, BusError> {
        let Some(names) = self.names.of(namespace) else {
            return Ok(None);
        };
        let Some(question) = self.questions.open() else {
            return self
                .stats
                .count_published(Err(BusError::QueueFull))
                .map(|()| None);
        };
        let id = response::request_id(&self.uid, question.number());
        self.publish(&names.request(), body(&id))?;
        Ok(Some(question))
    }

    fn request<const N: usize>(
        &self,
        namespace: &str,
        kind: u64,
        id: Option<&str>,
        members: [(&str, Value); N],
    ) -> Result<(), BusError> {
        match self.names.of(namespace) {
            Some(names) => self.publish(&names.request(), self.request_body(kind, id, members)),
            None => self.unsupported(),
        }
    }

    fn request_body<const N: usize>(
        &self,
        kind: u64,
        id: Option<&str>,
        members: [(&str, Value); N],
    ) -> Bytes {
        let mut all = vec![("uid".to_owned(), (&*self.uid).into())];
        all.extend(id.map(|id| ("requestId".to_owned(), id.into())));
        all.push(("type".to_owned(), kind.into()));
        all.extend(members.map(|(key, value)| (key.to_owned(), value)));
        to_json(Value::Object(all), BinaryAs::Buffer)
    }

    fn publish(&self, channel: &str, payload: Bytes) -> Result<(), BusError> {
        self.stats
            .count_published(self.channels.publish(channel, payload))
    }

    fn unsupported(&self) -> Result<(), BusError> {
        self.stats.unsupported.add(1);
        Ok(())
    }
}

fn opts(options: &BroadcastOptions) -> (&'static str, Value) {
    ("opts", request::options(options, None))
}

/// The packet for the MessagePack parser: one binary message with everything inside.
fn bytes_of(packet: &Encoded) -> &[u8] {
    packet.frames().next().map_or(&[], |frame| frame.data())
}

impl fmt::Debug for NodeDialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeDialect")
            .field("uid", &self.uid)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

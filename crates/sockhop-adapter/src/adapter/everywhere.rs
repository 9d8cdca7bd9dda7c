//! What is asked of the sockets of the whole cluster.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engineio_proto::{Encoded, Text};
use serde::Serialize;
use socketio_proto::{AckId, EncodeError, Parser, Payload};

use super::{Adapter, encode_all, finish};
use crate::ack::{AckCollector, AckResponses};
use crate::bus::BusError;
use crate::cluster::{
    Answer, Asked, Broadcast, Destination, Enough, Gathered, Gathering, Packet, Request, Wanted,
    Whom, encode_broadcast,
};
use crate::foreign::{ForeignAcks, ForeignAnswer, Target};
use crate::options::BroadcastOptions;
use crate::recipient::{Directive, DisconnectScope, RemoteSocketInfo, Room, SocketId};

/// Acks of the whole cluster under way.
#[derive(Debug)]
pub struct AcksUnderWay {
    /// All of them.
    pub acks: Gathering<AckResponses>,
    /// Those of this node: [`AckCollector::finish`] ends the wait for them.
    pub here: Arc<AckCollector>,
}

/// Writes an event for a parser, with an ack id or without.
pub type WriteEvent<'a> = &'a mut dyn FnMut(Parser, Option<AckId>) -> Result<Encoded, EncodeError>;

impl<C> Adapter<C> {
    /// The sockets that `options` name, on every node.
    pub fn fetch_everywhere(
        &self,
        options: &BroadcastOptions,
        now: Instant,
        timeout: Duration,
    ) -> Gathering<Vec<RemoteSocketInfo>> {
        let found = Gathering::here(self.fetch_sockets(options));
        let request = || Request::Sockets {
            namespace: self.name(),
            options: options.clone(),
        };
        let foreign = self.foreign_answer(options, |foreign, target| {
            foreign.fetch_sockets(target, timeout)
        });
        let read = |found: &mut Vec<RemoteSocketInfo>, answer| {
            if let Answer::Sockets(sockets) = answer {
                found.extend(sockets);
            }
        };
        self.gather(found, options, (now, timeout), request, read)
            .and_foreign(foreign)
    }

    /// Puts the sockets that `options` name into `rooms`, on every node; what is found is how many
    /// they were. It is there when emits of every node reach them there.
    pub fn join_everywhere(
        &self,
        options: &BroadcastOptions,
        rooms: &[Room],
        now: Instant,
        timeout: Duration,
    ) -> Gathering<usize> {
        let count = self.sockets_join(options, rooms);
        let request = || Request::Join {
            namespace: self.name(),
            whom: Whom::Sockets(options.clone()),
            rooms: rooms.to_vec(),
        };
        self.tell_foreign(options, |foreign, target| {
            foreign.sockets_join(target, rooms);
        });
        let here = self.synced(count);
        self.gather(here, options, (now, timeout), request, add_count)
    }

    /// Takes the sockets that `options` name out of `rooms`, on every node; what is found is how
    /// many they were.
    pub fn leave_everywhere(
        &self,
        options: &BroadcastOptions,
        rooms: &[Room],
        now: Instant,
        timeout: Duration,
    ) -> Gathering<usize> {
        let count = self.sockets_leave(options, rooms);
        let request = || Request::Leave {
            namespace: self.name(),
            whom: Whom::Sockets(options.clone()),
            rooms: rooms.to_vec(),
        };
        self.tell_foreign(options, |foreign, target| {
            foreign.sockets_leave(target, rooms);
        });
        let here = Gathering::here(count);
        self.gather(here, options, (now, timeout), request, add_count)
    }

    /// Asks the sockets that `options` name to disconnect, on every node; what is found is how many
    /// they were.
    pub fn disconnect_everywhere(
        &self,
        options: &BroadcastOptions,
        scope: DisconnectScope,
        now: Instant,
        timeout: Duration,
    ) -> Gathering<usize>
    where
        C: From<Directive>,
    {
        let count = self.disconnect_sockets(options, scope);
        let request = || Request::Disconnect {
            namespace: self.name(),
            options: options.clone(),
            scope,
        };
        self.tell_foreign(options, |foreign, target| {
            foreign.disconnect_sockets(target, scope);
        });
        let here = Gathering::here(count);
        self.gather(here, options, (now, timeout), request, add_count)
    }

    /// Puts the socket with this id into `rooms`, wherever it lives, and nobody who joined the room
    /// of that name.
    pub fn enter_rooms(
        &self,
        id: &SocketId,
        rooms: &[Room],
        now: Instant,
        timeout: Duration,
    ) -> Gathering<usize> {
        if let Some(key) = self.rooms.lookup(id.as_str()) {
            for room in rooms {
                // A limit refuses this join only, and is counted where it is checked.
                let _ = self.rooms.join(key, room);
            }
            return self.synced(1);
        }
        let options = only(id);
        self.tell_foreign(&options, |foreign, target| {
            foreign.sockets_join(target, rooms);
        });
        self.ask_owner(id, (now, timeout), || Request::Join {
            namespace: self.name(),
            whom: Whom::Socket(id.clone()),
            rooms: rooms.to_vec(),
        })
    }

    /// Takes the socket with this id out of `rooms`, wherever it lives.
    pub fn leave_rooms(
        &self,
        id: &SocketId,
        rooms: &[Room],
        now: Instant,
        timeout: Duration,
    ) -> Gathering<usize> {
        if let Some(key) = self.rooms.lookup(id.as_str()) {
            for room in rooms {
                self.rooms.leave(key, room.as_str());
            }
            return Gathering::here(1);
        }
        let options = only(id);
        self.tell_foreign(&options, |foreign, target| {
            foreign.sockets_leave(target, rooms);
        });
        self.ask_owner(id, (now, timeout), || Request::Leave {
            namespace: self.name(),
            whom: Whom::Socket(id.clone()),
            rooms: rooms.to_vec(),
        })
    }

    /// All rooms of the namespace, in no order, each once for every node that has it.
    pub fn rooms_everywhere(&self, now: Instant, timeout: Duration) -> Gathering<Vec<Room>> {
        let options = BroadcastOptions::default();
        let here = Gathering::here(self.rooms.all_rooms());
        let request = || Request::Rooms {
            namespace: self.name(),
        };
        let foreign = self.foreign_answer(&options, |foreign, target| {
            foreign.all_rooms(target.namespace, timeout)
        });
        let read = |found: &mut Vec<Room>, answer| {
            if let Answer::Rooms(rooms) = answer {
                found.extend(rooms);
            }
        };
        self.gather(here, &options, (now, timeout), request, read)
            .and_foreign(foreign)
    }

    /// Sends an event to the handlers of all other servers.
    ///
    /// # Errors
    /// The payload cannot be written; or, within, some or all servers will miss it.
    pub fn emit_to_servers<T: Serialize + ?Sized>(
        &self,
        event: &str,
        payload: &T,
    ) -> Result<Result<(), BusError>, EncodeError> {
        let request = self.server_event(event, payload, false)?;
        if let (Some(foreign), Some(payload)) = (self.cluster.foreign(), written(&request)) {
            // Nobody is asked, so there is nothing to wait for.
            drop(foreign.server_side_emit(self.namespace.as_str(), event, &payload, None));
        }
        match self.cluster.may_have_others() {
            true => Ok(self.cluster.tell(&request)),
            false => Ok(Ok(())),
        }
    }

    /// Sends an event to the handlers of all other servers and collects their answers.
    ///
    /// # Errors
    /// The payload cannot be written.
    pub fn ask_servers<T: Serialize + ?Sized>(
        &self,
        event: &str,
        payload: &T,
        now: Instant,
        timeout: Duration,
    ) -> Result<Gathering<Vec<Payload>>, EncodeError> {
        let request = self.server_event(event, payload, true)?;
        let options = BroadcastOptions::default();
        let foreign = written(&request).and_then(|payload| {
            self.foreign_answer(&options, |foreign, target| {
                foreign.server_side_emit(target.namespace, event, &payload, Some(timeout))
            })
        });
        let read = |found: &mut Vec<Payload>, answer| {
            if let Answer::Event(payload) = answer {
                found.push(payload);
            }
        };
        let here = Gathering::here(Vec::new());
        Ok(self
            .gather(here, &options, (now, timeout), || request, read)
            .and_foreign(foreign))
    }

    /// Sends an event to the sockets that `options` name, on every node, and collects their acks
    /// until `timeout` has passed. Nodes that cannot be reached are missing.
    ///
    /// *Shape:* volatile is not honoured.
    ///
    /// # Errors
    /// The payload cannot be written; nothing was sent.
    pub fn acks_everywhere(
        &self,
        options: &BroadcastOptions,
        now: Instant,
        timeout: Duration,
        write: WriteEvent<'_>,
    ) -> Result<AcksUnderWay, EncodeError>
    where
        C: From<Directive>,
    {
        self.stats().broadcasts.add(1);
        let id = self.next_ack_id();
        let mut encode = |parser| write(parser, Some(id)).map(|packet| finish(packet, options));
        let mut packets = encode_all(self.needed(options), &mut encode)?;
        let asked = self.asked(options);
        if asked.is_some() && packets.any().is_none() {
            *packets.get_mut(Parser::Json) = Some(encode(Parser::Json)?);
        }
        let call = asked.and_then(|asked| {
            let (parser, packet) = packets.any()?;
            let write = |number| {
                let broadcast = Broadcast {
                    node: self.cluster.node(),
                    sequence: number,
                    namespace: self.namespace.as_str(),
                    options,
                    parser,
                    acks: Some(Wanted {
                        request: number,
                        timeout,
                    }),
                };
                encode_broadcast(&broadcast, packet)
            };
            Some(
                self.cluster
                    .call(now, timeout, &asked, Enough::First, write),
            )
        });
        let foreign = self.foreign_answer(options, |foreign, target| {
            let mut plain = |parser| write(parser, None).map(|packet| finish(packet, options));
            foreign.broadcast_with_ack(target, timeout, &mut plain)
        });
        let here = self.ask_here(options, id, now.checked_add(timeout), &packets);
        let responses = Arc::clone(&here).responses();
        let mut acks = Gathering::here(AckResponses::default()).and(async move {
            Gathered {
                found: responses.await,
                ..Gathered::default()
            }
        });
        if let Some(call) = call {
            acks = acks.and_nodes(call, add_acks);
        }
        if let Some(foreign) = foreign {
            let answer = async move { named(foreign.await) };
            acks = acks.and_foreign(Some(Box::pin(answer)));
        }
        Ok(AcksUnderWay { acks, here })
    }

    fn name(&self) -> Text {
        self.namespace.as_str().into()
    }

    fn server_event<T: Serialize + ?Sized>(
        &self,
        event: &str,
        payload: &T,
        wants_answer: bool,
    ) -> Result<Request, EncodeError> {
        Ok(Request::Event {
            namespace: self.name(),
            event: event.into(),
            payload: Packet::of(payload)?,
            wants_answer,
        })
    }

    /// What was found here, ready when other nodes' emits arrive.
    fn synced(&self, count: usize) -> Gathering<usize> {
        let here = Gathering::here(count);
        if self.cluster.is_alone() {
            return here;
        }
        let synced = self.cluster.bus().synced();
        here.and(async move {
            synced.await;
            Gathered::default()
        })
    }

    /// Which other nodes can have sockets that `options` name. `None`: none.
    fn asked(&self, options: &BroadcastOptions) -> Option<Asked> {
        let interest = self.rooms.interest()?;
        if options.local || !self.cluster.may_have_others() {
            return None;
        }
        let mut nodes = smallvec::SmallVec::new();
        for destination in interest.destinations(&options.rooms, |id| self.is_here(id)) {
            match destination {
                Destination::Node(node) => nodes.push(node),
                // Whoever does not have the room has to say so, else it would seem to be missing.
                Destination::Namespace | Destination::Room(_) => return Some(Asked::All),
            }
        }
        (!nodes.is_empty()).then_some(Asked::Some(nodes))
    }

    fn gather<T: crate::cluster::Merge>(
        &self,
        here: Gathering<T>,
        options: &BroadcastOptions,
        (now, timeout): (Instant, Duration),
        request: impl FnOnce() -> Request,
        read: fn(&mut T, Answer),
    ) -> Gathering<T> {
        match self.asked(options) {
            None => here,
            Some(asked) => {
                let call = self.cluster.ask(now, timeout, &asked, &request());
                here.and_nodes(call, read)
            }
        }
    }

    fn ask_owner(
        &self,
        id: &SocketId,
        times: (Instant, Duration),
        request: impl FnOnce() -> Request,
    ) -> Gathering<usize> {
        let options = only(id);
        match self.asked(&options) {
            // An id without a living node: nobody has it.
            None | Some(Asked::All) => Gathering::here(0),
            Some(Asked::Some(_)) => {
                self.gather(Gathering::here(0), &options, times, request, add_count)
            }
        }
    }

    fn tell_foreign(
        &self,
        options: &BroadcastOptions,
        tell: impl FnOnce(&dyn crate::foreign::Foreign, &Target<'_>),
    ) {
        if let Some(foreign) = self.cluster.foreign().filter(|_| !options.local) {
            tell(&**foreign, &self.target(options));
        }
    }

    fn foreign_answer<R>(
        &self,
        options: &BroadcastOptions,
        ask: impl FnOnce(&dyn crate::foreign::Foreign, &Target<'_>) -> R,
    ) -> Option<R> {
        let foreign = self.cluster.foreign().filter(|_| !options.local)?;
        Some(ask(&**foreign, &self.target(options)))
    }
}

/// The one socket with this id, and whoever joined the room of that name.
fn only(id: &SocketId) -> BroadcastOptions {
    BroadcastOptions {
        rooms: [Room::from(id)].into_iter().collect(),
        ..BroadcastOptions::default()
    }
}

/// The arguments of an event for servers, as those of other makes get them.
fn written(request: &Request) -> Option<Payload> {
    match request {
        Request::Event { payload, .. } => payload.payload(),
        Request::Sockets { .. }
        | Request::Join { .. }
        | Request::Leave { .. }
        | Request::Disconnect { .. }
        | Request::Rooms { .. } => None,
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "one of several readers of answers, most of which keep what they read"
)]
fn add_count(found: &mut usize, answer: Answer) {
    if let Answer::Count(count) = answer {
        *found = found.saturating_add(usize::try_from(count).unwrap_or(usize::MAX));
    }
}

fn add_acks(found: &mut AckResponses, answer: Answer) {
    if let Answer::Acks { expected, answers } = answer {
        let expected = usize::try_from(expected).unwrap_or(usize::MAX);
        found.expected = found.expected.saturating_add(expected);
        found.answers.extend(answers);
    }
}

/// Acks of servers that do not say whose they are have an empty id.
fn named(answer: ForeignAnswer<ForeignAcks>) -> ForeignAnswer<AckResponses> {
    let ForeignAnswer { found, missing } = answer;
    let answers = found.answers.into_iter();
    ForeignAnswer {
        found: AckResponses {
            answers: answers
                .map(|(id, payload)| (id.unwrap_or_else(|| SocketId::from("")), payload))
                .collect(),
            expected: found.expected,
        },
        missing,
    }
}

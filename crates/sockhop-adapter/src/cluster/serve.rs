//! What other nodes ask of this one.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Instant;

use engineio_proto::Text;
use socketio_proto::{EncodeError, Payload};

use super::answer::{Answer, Request, Whom, payload_of};
use super::core::{Cluster, Host};
use super::message::{BusMessage, Wanted};
use super::wire;
use crate::ack::AckCollector;
use crate::adapter::Adapter;
use crate::bus::{BusError, NodeId};
use crate::recipient::{Directive, Room, SocketId, SocketKey};

/// Sockets in one answer; more come in several.
const MAX_SOCKETS: usize = 256;
/// Rooms in one answer.
const MAX_ROOMS: usize = 4_096;

/// An event from another server of the cluster to this one, for the handlers of a namespace.
#[derive(Debug)]
pub struct ServerEvent {
    /// The name of the namespace.
    pub namespace: Text,
    /// The name of the event.
    pub event: Text,
    /// Its arguments.
    pub payload: Payload,
    /// Set when the other server wants an answer.
    pub reply: Option<Reply>,
}

/// Where the answer to a [`ServerEvent`] goes. Dropping it says that there is none.
pub struct Reply(Option<Box<dyn FnOnce(Option<Payload>) + Send>>);

impl Reply {
    /// Calls `send` with the answer, or without.
    pub fn new(send: impl FnOnce(Option<Payload>) + Send + 'static) -> Self {
        Self(Some(Box::new(send)))
    }

    /// Answers with anything: a tuple is many arguments, `()` none, anything else one.
    ///
    /// # Errors
    /// It cannot be written; the other server is told that there is no answer.
    pub fn answer<T: serde::Serialize + ?Sized>(self, payload: &T) -> Result<(), EncodeError> {
        self.send(payload_of(payload)?);
        Ok(())
    }

    /// Answers with these arguments.
    pub fn send(mut self, payload: Payload) {
        if let Some(send) = self.0.take() {
            send(Some(payload));
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(send) = self.0.take() {
            send(None);
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}

/// One query of another node that is worked on; counted until it is dropped.
#[derive(Debug)]
pub(super) struct Served {
    cluster: Arc<Cluster>,
    /// Who asks.
    node: NodeId,
    /// Its number for that.
    request: u64,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.cluster.serving.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Served {
    /// Begins to work on a query, unless there are too many.
    fn begin(cluster: &Arc<Cluster>, node: NodeId, request: u64) -> Option<Self> {
        let before = cluster.serving.fetch_add(1, Ordering::Relaxed);
        let served = Self {
            cluster: Arc::clone(cluster),
            node,
            request,
        };
        if before >= cluster.max_served {
            cluster.stats().requests_ignored.add(1);
            return None;
        }
        Some(served)
    }

    /// Sends an answer, in parts if one frame cannot hold it.
    fn answer(&self, last: bool, answer: &Answer) {
        let cluster = &self.cluster;
        let number = cluster.next_sequence();
        let frame = wire::encode_answer(cluster.node(), number, self.request, last, answer);
        let sent = frame.and_then(|frame| cluster.bus().publish_to_node(self.node, frame));
        match sent {
            // Who has gone waits for nothing.
            Ok(()) | Err(BusError::UnknownNode(_)) => {}
            Err(BusError::FrameTooLarge { .. } | BusError::ListTooLong { .. }) => {
                match halves(answer) {
                    Some((first, second)) => {
                        self.answer(false, &first);
                        self.answer(last, &second);
                    }
                    None => {
                        cluster.stats().publish_failures.add(1);
                        if last && !matches!(answer, Answer::Nothing) {
                            self.answer(true, &Answer::Nothing);
                        }
                    }
                }
            }
            Err(BusError::QueueFull | BusError::LinkDown) => {
                cluster.stats().publish_failures.add(1);
            }
        }
    }

    fn answer_in_parts<T: Clone>(&self, items: &[T], size: usize, make: fn(Vec<T>) -> Answer) {
        let parts = items.len().div_ceil(size).max(1);
        for part in 0..parts {
            let items = items.iter().skip(part * size).take(size);
            self.answer(part + 1 == parts, &make(items.cloned().collect()));
        }
    }
}

/// An answer in two parts, if it has any.
fn halves(answer: &Answer) -> Option<(Answer, Answer)> {
    fn split<T: Clone>(items: &[T]) -> Option<(Vec<T>, Vec<T>)> {
        let (first, second) = items.split_at(items.len() / 2);
        (!first.is_empty()).then(|| (first.to_vec(), second.to_vec()))
    }
    match answer {
        Answer::Sockets(sockets) => {
            let (first, second) = split(sockets)?;
            Some((Answer::Sockets(first), Answer::Sockets(second)))
        }
        Answer::Rooms(rooms) => {
            let (first, second) = split(rooms)?;
            Some((Answer::Rooms(first), Answer::Rooms(second)))
        }
        Answer::Acks { expected, answers } => {
            let (first, second) = split(answers)?;
            let acks = |answers| Answer::Acks {
                expected: *expected,
                answers,
            };
            Some((acks(first), acks(second)))
        }
        Answer::Nothing | Answer::Count(_) | Answer::Event(_) => None,
    }
}

impl Cluster {
    /// Does what another node asks, and answers.
    pub(super) fn serve<C: From<Directive> + Send + 'static>(
        self: &Arc<Self>,
        (node, number): (NodeId, u64),
        request: Request,
        host: &dyn Host<C>,
    ) {
        self.stats().requests_served.add(1);
        let Some(served) = Served::begin(self, node, number) else {
            return;
        };
        match request {
            Request::Sockets { namespace, options } => {
                let adapter = host.adapter(&namespace);
                host.spawn(Box::pin(async move {
                    let found = adapter.map(|adapter| adapter.fetch_sockets(&options));
                    let found = found.unwrap_or_default();
                    served.answer_in_parts(&found, MAX_SOCKETS, Answer::Sockets);
                }));
            }
            Request::Rooms { namespace } => {
                let rooms = host.adapter(&namespace);
                let rooms = rooms.map(|adapter| adapter.rooms().all_rooms());
                let rooms = rooms.unwrap_or_default();
                served.answer_in_parts(&rooms, MAX_ROOMS, Answer::Rooms);
            }
            Request::Join {
                namespace,
                whom,
                rooms,
            } => {
                let count = change(host.adapter(&namespace), &whom, |adapter, key| {
                    join(adapter, key, &rooms);
                });
                let synced = self.bus().synced();
                host.spawn(Box::pin(async move {
                    synced.await;
                    served.answer(true, &Answer::Count(count));
                }));
            }
            Request::Leave {
                namespace,
                whom,
                rooms,
            } => {
                let count = change(host.adapter(&namespace), &whom, |adapter, key| {
                    leave(adapter, key, &rooms);
                });
                served.answer(true, &Answer::Count(count));
            }
            Request::Disconnect {
                namespace,
                options,
                scope,
            } => {
                let adapter = host.adapter(&namespace);
                let count =
                    adapter.map_or(0, |adapter| adapter.disconnect_sockets(&options, scope));
                served.answer(true, &Answer::Count(count as u64));
            }
            Request::Event {
                namespace,
                event,
                payload,
                wants_answer,
            } => {
                let Some(payload) = payload.payload() else {
                    self.stats().bad_frames.add(1);
                    return;
                };
                let reply = wants_answer.then(|| {
                    Reply::new(move |payload| {
                        let answer = payload.map_or(Answer::Nothing, Answer::Event);
                        served.answer(true, &answer);
                    })
                });
                host.server_event(ServerEvent {
                    namespace,
                    event,
                    payload,
                    reply,
                });
            }
        }
    }

    /// Serves the sockets of this node with a broadcast that wants acks, and passes these on.
    pub(super) fn serve_acks<C: From<Directive> + Send + 'static>(
        self: &Arc<Self>,
        now: Instant,
        message: &BusMessage,
        wanted: Wanted,
        host: &dyn Host<C>,
    ) {
        let Some(served) = Served::begin(self, message.node, wanted.request) else {
            return;
        };
        let acks = host.adapter(message.namespace()).and_then(|adapter| {
            let deadline = now.checked_add(wanted.timeout);
            adapter.receive_with_acks(message, deadline)
        });
        let expected = acks.as_ref().map_or(0, |acks| acks.expected() as u64);
        let asked = Answer::Acks {
            expected,
            answers: Vec::new(),
        };
        served.answer(expected == 0, &asked);
        if let Some(acks) = acks.filter(|_| expected > 0) {
            host.spawn(Box::pin(pass_on(served, acks)));
        }
    }
}

/// Brings acks to the node that wants them, as they come.
async fn pass_on(served: Served, acks: Arc<AckCollector>) {
    loop {
        let (answers, complete) = poll_fn(|cx| poll_some(&acks, cx)).await;
        let answer = Answer::Acks {
            expected: 0,
            answers,
        };
        served.answer(complete, &answer);
        if complete {
            return;
        }
    }
}

/// All acks that have come, and whether they are the last.
fn poll_some(acks: &AckCollector, cx: &mut Context<'_>) -> Poll<(Vec<(SocketId, Payload)>, bool)> {
    let mut answers = Vec::new();
    loop {
        match acks.poll_next(cx) {
            Poll::Ready(Some(answer)) => answers.push(answer),
            Poll::Ready(None) => return Poll::Ready((answers, true)),
            Poll::Pending if answers.is_empty() => return Poll::Pending,
            Poll::Pending => return Poll::Ready((answers, false)),
        }
    }
}

fn change<C>(
    adapter: Option<Arc<Adapter<C>>>,
    whom: &Whom,
    change: impl Fn(&Adapter<C>, SocketKey),
) -> u64 {
    let Some(adapter) = adapter else {
        return 0;
    };
    let keys = match whom {
        Whom::Sockets(options) => adapter.rooms().keys(options),
        Whom::Socket(id) => adapter.rooms().lookup(id.as_str()).into_iter().collect(),
    };
    keys.iter().for_each(|&key| change(&adapter, key));
    keys.len() as u64
}

/// A limit refuses one join only, and a socket that has gone needs none.
fn join<C>(adapter: &Adapter<C>, key: SocketKey, rooms: &[Room]) {
    for room in rooms {
        let _ = adapter.rooms().join(key, room);
    }
}

fn leave<C>(adapter: &Adapter<C>, key: SocketKey, rooms: &[Room]) {
    for room in rooms {
        adapter.rooms().leave(key, room.as_str());
    }
}

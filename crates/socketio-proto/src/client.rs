//! Everything one peer multiplexes over its session, seen from the server.

mod config;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use engineio_proto::{Encoded, Message, Text};
use smallvec::SmallVec;

use crate::SocketioVersion;
use crate::ack::{AckId, AckTable};
use crate::decode::decode;
use crate::encode::{encode_connect, encode_connect_error, encode_disconnect};
use crate::error::{ConnectError, PeerViolation};
use crate::name::NamespaceName;
use crate::packet::{Content, Packet};
use crate::payload::Payload;
use crate::reassembly::{Progress, Reassembly};

pub use config::{ClientConfig, Limits};

/// One peer: the namespaces it joined, the packet it is sending, the acks it owes.
///
/// A state machine without I/O. `A` is what the server wants back with an ack.
///
/// *Inputs:* [`Self::handle_message`], [`Self::handle_timeout`]; the decisions of the server
/// [`Self::accept`], [`Self::refuse`], [`Self::disconnect`], [`Self::expect_ack`], which return the
/// packet to send; [`Self::close`] at the end. *Outputs,* polled after each input:
/// [`Self::poll_event`] until it returns `None`, then [`Self::poll_timeout`].
///
/// Every namespace goes through these states:
///
/// ```text
///    CONNECT              accept             disconnect
///  ───────────► Pending ──────────► Joined ────────────► Left ──── CONNECT ───► Pending
///                  │ refuse            │ DISCONNECT        (packets that crossed the
///                  │ DISCONNECT        │                    DISCONNECT are ignored)
///                  ▼                   ▼
///               unknown             unknown
/// ```
///
/// A packet for a namespace that is unknown or pending is a violation; a CONNECT to a pending one
/// is ignored, because the answer to the first will do for both. A peer of protocol 4 is pending
/// in `/` from the start, and its CONNECT to `/` is always harmless.
///
/// *Source:* `client.ts` of socket.io, which knows no `Left` and closes the session when a packet
/// crosses a DISCONNECT.
#[derive(Debug)]
pub struct Client<A> {
    config: Arc<ClientConfig>,
    version: SocketioVersion,
    namespaces: SmallVec<[Membership; 1]>,
    next_membership: u32,
    /// Until when a namespace has to be joined; `None` once one was.
    connect_deadline: Option<Instant>,
    reassembly: Option<Box<Reassembly>>,
    acks: AckTable<A>,
    events: VecDeque<ClientEvent<A>>,
    stats: ClientStats,
}

#[derive(Debug)]
struct Membership {
    name: NamespaceName,
    /// Never the same twice, so that acks of an earlier membership stay apart.
    number: u32,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The peer asked, the server has not decided.
    Pending,
    /// The peer is in.
    Joined,
    /// The server ended it; what the peer sent before it knew may still arrive.
    Left,
}

/// What a [`Client`] has to tell. Namespaces appear in the order in which things happened.
#[derive(Debug)]
pub enum ClientEvent<A> {
    /// The peer wants to join: answer with [`Client::accept`] or [`Client::refuse`].
    Connect {
        /// The namespace.
        namespace: NamespaceName,
        /// The query in the namespace, without `?`, as peers of protocol 4 send it.
        query: Option<Text>,
        /// The auth data of peers of protocol 5: an object as the only argument, or nothing.
        auth: Payload,
    },
    /// An event of the peer.
    Event {
        /// The namespace.
        namespace: NamespaceName,
        /// The name of the event.
        name: Text,
        /// Its arguments.
        payload: Payload,
        /// Set when the peer wants an ack.
        ack: Option<AckId>,
    },
    /// An ack that was expected.
    Ack {
        /// The namespace.
        namespace: NamespaceName,
        /// Its arguments.
        payload: Payload,
        /// What was given to [`Client::expect_ack`].
        sink: A,
    },
    /// An ack did not come in time.
    AckTimeout {
        /// What was given to [`Client::expect_ack`].
        sink: A,
    },
    /// An ack cannot come any more, because the membership ended.
    AckLost {
        /// What was given to [`Client::expect_ack`].
        sink: A,
    },
    /// The peer left. Its lost acks follow.
    Disconnect {
        /// The namespace.
        namespace: NamespaceName,
    },
    /// No namespace was joined in time: close the session.
    ConnectTimeout,
    /// The attachments of a packet did not come in time: close the session.
    AttachmentTimeout,
}

/// What a [`Client`] ignored, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientStats {
    /// Acks that nobody expected (any more): repeated, late or made up.
    pub unknown_acks: u32,
    /// Packets of the peer that crossed a DISCONNECT of the server.
    pub crossed_packets: u32,
    /// CONNECTs to a namespace that was pending, or to `/` from a peer of protocol 4.
    pub repeated_connects: u32,
}

impl<A> Client<A> {
    /// The client of a session that has just opened.
    ///
    /// A peer of protocol 4 wants to join `/` without saying so: its first event is there already.
    #[must_use]
    pub fn new(now: Instant, config: Arc<ClientConfig>, version: SocketioVersion) -> Self {
        let mut client = Self {
            connect_deadline: now.checked_add(config.connect_timeout),
            config,
            version,
            namespaces: SmallVec::new(),
            next_membership: 0,
            reassembly: None,
            acks: AckTable::new(),
            events: VecDeque::new(),
            stats: ClientStats::default(),
        };
        if version == SocketioVersion::V4 {
            client.enter(NamespaceName::root(), None, Payload::default());
        }
        client
    }

    /// Takes a message of the peer.
    ///
    /// # Errors
    /// The rule that the peer broke: close the session. Events that came before stay.
    pub fn handle_message(&mut self, now: Instant, message: Message) -> Result<(), PeerViolation> {
        let limits = &self.config.limits;
        if message.len() > limits.max_packet_bytes {
            return Err(PeerViolation::PacketTooLarge);
        }
        if let Some(reassembly) = self.reassembly.take() {
            let Message::Binary(data) = message else {
                return Err(PeerViolation::UnexpectedText);
            };
            return match reassembly.add(now, limits, data)? {
                Progress::Complete(packet) => self.handle_packet(packet),
                Progress::Waiting(reassembly) => {
                    self.reassembly = Some(reassembly);
                    Ok(())
                }
            };
        }
        let head_bytes = message.len();
        let head = decode(self.config.parser, self.version, limits, message)?;
        if head.attachments == 0 {
            return self.handle_packet(head.packet);
        }
        // Nothing is kept for a peer that may not send the packet at all.
        self.check_membership(head.packet.namespace())?;
        self.reassembly = Some(Reassembly::new(now, limits, head, head_bytes));
        Ok(())
    }

    /// Reports the deadlines that have passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self
            .connect_deadline
            .is_some_and(|deadline| deadline <= now)
        {
            self.connect_deadline = None;
            self.events.push_back(ClientEvent::ConnectTimeout);
        }
        let reassembly = self.reassembly.take();
        if reassembly
            .as_ref()
            .is_some_and(|waiting| waiting.deadline() <= now)
        {
            self.events.push_back(ClientEvent::AttachmentTimeout);
        } else {
            self.reassembly = reassembly;
        }
        while let Some(sink) = self.acks.take_expired(now) {
            self.events.push_back(ClientEvent::AckTimeout { sink });
        }
    }

    /// When [`Self::handle_timeout`] has to be called, if nothing happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let earlier = |one: Option<Instant>, other: Option<Instant>| match (one, other) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        let reassembly = self.reassembly.as_ref().map(|waiting| waiting.deadline());
        let deadline = earlier(self.connect_deadline, self.acks.next_deadline());
        earlier(deadline, reassembly)
    }

    /// The next thing to tell. The memory of the queue is freed with the `None` at its end.
    pub fn poll_event(&mut self) -> Option<ClientEvent<A>> {
        let event = self.events.pop_front();
        if event.is_none() {
            self.events = VecDeque::new();
        }
        event
    }

    /// Lets the peer into a namespace it asked for; `None` when it does not ask (any more).
    ///
    /// `sid` is the public id of its socket there. The packet has to leave before any other of this
    /// namespace. A decision that is still open when the peer leaves has to be dropped: the peer
    /// may ask again, with other auth data.
    pub fn accept(&mut self, namespace: &str, sid: &str) -> Option<Encoded> {
        let membership = self.membership_mut(namespace)?;
        if membership.state != State::Pending {
            return None;
        }
        membership.state = State::Joined;
        self.connect_deadline = None;
        Some(encode_connect(
            self.config.parser,
            self.version,
            namespace,
            sid,
        ))
    }

    /// Keeps the peer out of a namespace it asked for; `None` when it does not ask (any more).
    pub fn refuse(&mut self, namespace: &str, error: &ConnectError) -> Option<Encoded> {
        let index = self.index(namespace)?;
        if self.namespaces.get(index)?.state != State::Pending {
            return None;
        }
        self.namespaces.remove(index);
        Some(encode_connect_error(
            self.config.parser,
            self.version,
            namespace,
            error,
        ))
    }

    /// Ends the membership of the peer; `None` when it has not joined. Lost acks become events.
    pub fn disconnect(&mut self, namespace: &str) -> Option<Encoded> {
        let membership = self.membership_mut(namespace)?;
        if membership.state != State::Joined {
            return None;
        }
        membership.state = State::Left;
        let number = membership.number;
        self.lose_acks(number);
        Some(encode_disconnect(self.config.parser, namespace))
    }

    /// Awaits the ack of an event that is about to be sent.
    ///
    /// # Errors
    /// Gives the sink back: the peer has not joined the namespace, owes
    /// [`Limits::max_pending_acks`] already, or owes this very one.
    pub fn expect_ack(
        &mut self,
        namespace: &str,
        id: AckId,
        deadline: Option<Instant>,
        sink: A,
    ) -> Result<(), A> {
        let full = self.acks.len() >= self.config.limits.max_pending_acks;
        match self.membership_mut(namespace) {
            Some(membership) if membership.state == State::Joined && !full => {
                let number = membership.number;
                self.acks.insert(number, id, deadline, sink)
            }
            Some(_) | None => Err(sink),
        }
    }

    /// Ends everything with the session and gives back the acks that will not come.
    pub fn close(&mut self) -> impl Iterator<Item = A> + use<A> {
        self.namespaces.clear();
        self.reassembly = None;
        self.connect_deadline = None;
        self.acks.drain()
    }

    /// The protocol that the peer speaks.
    #[must_use]
    pub fn version(&self) -> SocketioVersion {
        self.version
    }

    /// The namespaces that the peer has joined.
    pub fn joined(&self) -> impl Iterator<Item = &NamespaceName> {
        self.namespaces
            .iter()
            .filter(|membership| membership.state == State::Joined)
            .map(|membership| &membership.name)
    }

    /// Acks that the peer owes.
    #[must_use]
    pub fn pending_acks(&self) -> usize {
        self.acks.len()
    }

    /// What was ignored so far.
    #[must_use]
    pub fn stats(&self) -> &ClientStats {
        &self.stats
    }

    fn handle_packet(&mut self, packet: Packet) -> Result<(), PeerViolation> {
        let name = packet.namespace.as_deref().unwrap_or("/");
        match packet.content {
            Content::Connect { auth } => self.handle_connect(name, packet.query, auth),
            Content::Disconnect => self.handle_disconnect(name),
            Content::Event {
                name: event,
                payload,
                ack,
            } => {
                match self.check_membership(name)? {
                    Some((namespace, _)) => self.events.push_back(ClientEvent::Event {
                        namespace,
                        name: event,
                        payload,
                        ack,
                    }),
                    None => count(&mut self.stats.crossed_packets),
                }
                Ok(())
            }
            Content::Ack { id, payload } => {
                match self.check_membership(name)? {
                    Some(membership) => self.handle_ack(membership, id, payload),
                    None => count(&mut self.stats.crossed_packets),
                }
                Ok(())
            }
            Content::ConnectError => Err(PeerViolation::ConnectErrorFromClient),
        }
    }

    fn handle_ack(
        &mut self,
        (namespace, membership): (NamespaceName, u32),
        id: AckId,
        payload: Payload,
    ) {
        match self.acks.take(membership, id) {
            Some(sink) => self.events.push_back(ClientEvent::Ack {
                namespace,
                payload,
                sink,
            }),
            None => count(&mut self.stats.unknown_acks),
        }
    }

    fn handle_connect(
        &mut self,
        name: &str,
        query: Option<Text>,
        auth: Payload,
    ) -> Result<(), PeerViolation> {
        let implicit = self.version == SocketioVersion::V4 && name == "/";
        if let Some(index) = self.index(name) {
            match self
                .namespaces
                .get(index)
                .map(|membership| membership.state)
            {
                Some(State::Joined) if !implicit => return Err(PeerViolation::AlreadyJoined),
                Some(State::Joined | State::Pending) => {
                    count(&mut self.stats.repeated_connects);
                    return Ok(());
                }
                Some(State::Left) | None => {
                    self.namespaces.remove(index);
                }
            }
        }
        self.make_room()?;
        let namespace = NamespaceName::parse(name).ok_or(PeerViolation::IllegalNamespace)?;
        self.enter(namespace, query, auth);
        Ok(())
    }

    /// Frees a place for one more namespace. One that was left holds its place only for packets
    /// that crossed the DISCONNECT, and the oldest has waited longest for them.
    fn make_room(&mut self) -> Result<(), PeerViolation> {
        if self.namespaces.len() < self.config.limits.max_namespaces {
            return Ok(());
        }
        let left = self
            .namespaces
            .iter()
            .position(|membership| membership.state == State::Left)
            .ok_or(PeerViolation::TooManyNamespaces)?;
        self.namespaces.remove(left);
        Ok(())
    }

    fn enter(&mut self, namespace: NamespaceName, query: Option<Text>, auth: Payload) {
        self.namespaces.push(Membership {
            name: namespace.clone(),
            number: self.next_membership,
            state: State::Pending,
        });
        self.next_membership = self.next_membership.wrapping_add(1);
        self.events.push_back(ClientEvent::Connect {
            namespace,
            query,
            auth,
        });
    }

    /// The peer may leave before the server has decided.
    fn handle_disconnect(&mut self, name: &str) -> Result<(), PeerViolation> {
        let Some(index) = self.index(name) else {
            return Err(self.not_joined());
        };
        let membership = self.namespaces.remove(index);
        if membership.state == State::Left {
            count(&mut self.stats.crossed_packets);
            return Ok(());
        }
        self.events.push_back(ClientEvent::Disconnect {
            namespace: membership.name,
        });
        self.lose_acks(membership.number);
        Ok(())
    }

    /// The joined namespace `name` and the number of its membership; `None` when the packet
    /// crossed a DISCONNECT and has to be ignored.
    fn check_membership(&self, name: &str) -> Result<Option<(NamespaceName, u32)>, PeerViolation> {
        let Some(membership) = self
            .index(name)
            .and_then(|index| self.namespaces.get(index))
        else {
            return Err(self.not_joined());
        };
        match membership.state {
            State::Joined => Ok(Some((membership.name.clone(), membership.number))),
            State::Pending => Err(PeerViolation::NotJoined),
            State::Left => Ok(None),
        }
    }

    fn not_joined(&self) -> PeerViolation {
        match self.next_membership {
            0 => PeerViolation::NotConnected,
            _ => PeerViolation::NotJoined,
        }
    }

    fn lose_acks(&mut self, membership: u32) {
        while let Some(sink) = self.acks.take_any(membership) {
            self.events.push_back(ClientEvent::AckLost { sink });
        }
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.namespaces
            .iter()
            .position(|membership| &*membership.name == name)
    }

    fn membership_mut(&mut self, name: &str) -> Option<&mut Membership> {
        let index = self.index(name)?;
        self.namespaces.get_mut(index)
    }
}

fn count(counter: &mut u32) {
    *counter = counter.saturating_add(1);
}

#[cfg(test)]
pub(crate) mod tests;

//! One node's part in its cluster: the machines behind the bus, and what all adapters share.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::member::{ClusterConfig, ForwardToken, Member};
use super::membership::{Announcement, MemberEvent, Membership, MembershipConfig, Transmit};
use super::requests::Requests;
use super::serve::ServerEvent;
use super::window::Windows;
use super::wire::{self, Frame};
use crate::adapter::Adapter;
use crate::bus::{Bus, BusError, Link, NodeId, Wait};
use crate::foreign::Foreign;
use crate::recipient::Directive;
use crate::stats::Stats;

/// Where every node listens.
pub(super) const NODES_TOPIC: &str = "@nodes";

/// Changes among the members that the layer above has not taken; older ones are forgotten.
const MAX_EVENTS: usize = 1_024;

/// What a node is besides its configuration.
#[derive(Clone, Debug)]
pub struct Identity {
    /// When it started. *Units:* milliseconds since 1970.
    pub started_ms: u64,
    /// The version of its sockhop.
    pub version: String,
    /// What requests from other nodes carry, unless the configuration says it.
    pub token: ForwardToken,
}

/// What the cluster asks of the layer above.
pub trait Host<C>: Send + Sync {
    /// The adapter of a namespace, if it is there.
    fn adapter(&self, namespace: &str) -> Option<Arc<Adapter<C>>>;

    /// Runs something that takes a while. Their number is limited by
    /// [`ClusterConfig::max_served`].
    fn spawn(&self, work: Wait<()>);

    /// Hands an event of another server to the handlers of its namespace.
    fn server_event(&self, event: ServerEvent);
}

/// How the cluster is, as one node sees it.
#[derive(Clone, Debug)]
pub struct ClusterStatus {
    /// Whether this node has other nodes to find at all.
    pub clustered: bool,
    /// Whether this node is heard and hears.
    pub link: Link,
    /// Whether the others had the time to answer this node's first hello.
    pub settled: bool,
    /// Members, this node included.
    pub members: usize,
    /// Queries of this node that wait for answers.
    pub requests: usize,
    /// Queries of other nodes that this node works on.
    pub serving: usize,
}

/// One node's part in its cluster, shared by its adapters.
///
/// *Shape:* sans-IO but for the [`Bus`], which never waits. The layer above drives it: frames of the
/// bus into [`Self::handle_frame`], time into [`Self::handle_timeout`] at [`Self::poll_timeout`].
/// The lock of its state is taken alone, and nothing is published or woken under it.
pub struct Cluster {
    bus: Arc<dyn Bus>,
    stats: Arc<Stats>,
    /// No other node will ever come.
    alone: bool,
    /// Whether it makes sense to publish at all.
    may_have_others: AtomicBool,
    max_topics: usize,
    pub(super) max_served: usize,
    /// Queries of other nodes that are worked on.
    pub(super) serving: AtomicUsize,
    sequence: AtomicU64,
    foreign: OnceLock<Arc<dyn Foreign>>,
    /// The other members by the tag in their ids.
    by_tag: RwLock<HashMap<u32, NodeId>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    membership: Membership,
    windows: Windows,
    requests: Requests,
    /// What the layer above has not been told.
    events: VecDeque<MemberEvent>,
}

impl Cluster {
    /// The part of the node that `bus` belongs to. It says hello with the first
    /// [`Self::handle_timeout`].
    #[must_use]
    pub fn new(
        bus: Arc<dyn Bus>,
        config: ClusterConfig,
        identity: Identity,
        stats: Arc<Stats>,
        now: Instant,
    ) -> Arc<Self> {
        let alone = bus.is_alone();
        if !alone {
            bus.subscribe(NODES_TOPIC);
        }
        let me = Member {
            node: bus.node(),
            started_ms: identity.started_ms,
            version: identity.version,
            dialects: config.dialects,
            address: config.advertise,
            token: config.forward_token.unwrap_or(identity.token),
        };
        let times = MembershipConfig {
            heartbeat: config.heartbeat,
            timeout: config.member_timeout,
            max_members: config.max_members,
        };
        Arc::new(Self {
            stats,
            alone,
            may_have_others: AtomicBool::new(!alone),
            max_topics: config.max_topics_per_broadcast,
            max_served: config.max_served,
            serving: AtomicUsize::new(0),
            sequence: AtomicU64::new(0),
            foreign: OnceLock::new(),
            by_tag: RwLock::default(),
            state: Mutex::new(State {
                membership: Membership::new(me, times, now),
                windows: Windows::default(),
                requests: Requests::new(config.max_requests),
                events: VecDeque::new(),
            }),
            bus,
        })
    }

    /// The bus.
    #[must_use]
    pub fn bus(&self) -> &Arc<dyn Bus> {
        &self.bus
    }

    /// This node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.bus.node()
    }

    /// What was counted.
    #[must_use]
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// Whether somebody else may hear what is published.
    #[must_use]
    pub fn may_have_others(&self) -> bool {
        self.may_have_others.load(Ordering::Relaxed)
    }

    /// Whether no other node will ever come.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.alone
    }

    /// Tells a dialect from now on what users of this node ask of the whole cluster. The first one
    /// stays; `false`: there is one already.
    pub fn set_foreign(&self, foreign: Arc<dyn Foreign>) -> bool {
        self.foreign.set(foreign).is_ok()
    }

    /// How many servers of other makes there are.
    pub fn foreign_servers(&self, timeout: Duration) -> Wait<usize> {
        match self.foreign() {
            Some(foreign) => foreign.server_count(timeout),
            None => Box::pin(std::future::ready(0)),
        }
    }

    /// The dialect that is told.
    pub(crate) fn foreign(&self) -> Option<&Arc<dyn Foreign>> {
        self.foreign.get()
    }

    /// Above how many destinations a broadcast goes to the whole namespace.
    pub(crate) fn max_topics(&self) -> usize {
        self.max_topics
    }

    /// The members, this node first.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        let state = self.lock();
        let me = std::iter::once(state.membership.me());
        me.chain(state.membership.others()).cloned().collect()
    }

    /// The other member whose ids have this tag.
    #[must_use]
    pub fn owner(&self, tag: u32) -> Option<NodeId> {
        let by_tag = self.by_tag.read().unwrap_or_else(PoisonError::into_inner);
        by_tag.get(&tag).copied()
    }

    /// How the cluster is.
    #[must_use]
    pub fn status(&self) -> ClusterStatus {
        let state = self.lock();
        ClusterStatus {
            clustered: !self.alone,
            link: self.bus.link(),
            settled: self.alone || state.membership.is_settled(),
            members: state.membership.others().len() + 1,
            requests: state.requests.len(),
            serving: self.serving.load(Ordering::Relaxed),
        }
    }

    /// A frame has come over the bus.
    ///
    /// *Shape:* frames that nobody can read, that this node sent itself, or that are for a namespace
    /// that is not here are counted and dropped.
    pub fn handle_frame<C>(self: &Arc<Self>, now: Instant, frame: &Bytes, host: &dyn Host<C>)
    where
        C: From<Directive> + Send + 'static,
    {
        self.stats.received_bytes.add(frame.len());
        let Ok((node, content)) = wire::decode(frame) else {
            self.stats.bad_frames.add(1);
            return;
        };
        if node == self.node() {
            self.stats.own.add(1);
            return;
        }
        if content
            .number()
            .is_some_and(|number| !self.is_new(node, number))
        {
            self.stats.duplicates.add(1);
            return;
        }
        match content {
            Frame::Broadcast(message) => match (message.acks, host.adapter(message.namespace())) {
                (Some(wanted), _) => self.serve_acks(now, &message, wanted, host),
                (None, Some(adapter)) => {
                    adapter.receive(&message);
                    adapter.pass_on_strays(&message, frame);
                }
                (None, None) => {
                    self.stats.received.add(1);
                    self.stats.discarded.add(1);
                }
            },
            Frame::Request { number, request } => self.serve((node, number), request, host),
            Frame::Answer {
                request,
                last,
                answer,
                ..
            } => {
                let known = self
                    .with_requests(|requests| requests.handle_answer(node, request, last, answer));
                if !known {
                    self.stats.late_answers.add(1);
                }
            }
            Frame::Announcement(member, hello) => {
                self.update(|state| state.membership.handle_announcement(now, member, hello));
            }
            Frame::Goodbye => self.update(|state| state.membership.handle_goodbye(node)),
        }
    }

    /// Time has passed, or the link of the bus may have changed.
    pub fn handle_timeout(&self, now: Instant) {
        if self.alone {
            return;
        }
        let link = self.bus.link();
        self.update(|state| {
            state.membership.handle_link(now, link);
            state.membership.handle_timeout(now);
            state.requests.handle_timeout(now);
        });
    }

    /// When [`Self::handle_timeout`] wants to be called at the latest. Changes of the link are only
    /// noticed there.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.alone {
            true => None,
            false => {
                let state = self.lock();
                let times = [
                    state.membership.poll_timeout(),
                    state.requests.poll_timeout(),
                ];
                times.into_iter().flatten().min()
            }
        }
    }

    /// The next change among the members.
    #[must_use]
    pub fn poll_event(&self) -> Option<MemberEvent> {
        self.lock().events.pop_front()
    }

    /// Says goodbye. The node no longer counts as a member, and takes no notice of others.
    pub fn close(&self) {
        if self.alone {
            return;
        }
        let link = self.bus.link();
        self.update(|state| state.membership.close(link));
    }

    /// The next number of a broadcast of this node.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::Relaxed)
    }

    /// Changes the state, then says what is to be said.
    fn update(&self, change: impl FnOnce(&mut State)) {
        let (me, transmits, woken) = {
            let mut state = self.lock();
            change(&mut state);
            let State {
                membership,
                requests,
                events,
                ..
            } = &mut *state;
            self.stats.members_refused.add(membership.take_refused());
            let mut changed = false;
            while let Some(event) = membership.poll_event() {
                changed = true;
                if let MemberEvent::Left(node) = event {
                    requests.handle_gone(node);
                }
                if events.len() == MAX_EVENTS {
                    events.pop_front();
                }
                events.push_back(event);
            }
            self.may_have_others
                .store(membership.may_have_others(), Ordering::Relaxed);
            if changed {
                self.note_tags(membership);
            }
            let transmits: Vec<Transmit> =
                std::iter::from_fn(|| membership.poll_transmit()).collect();
            let me = (!transmits.is_empty()).then(|| membership.me().clone());
            (me, transmits, requests.take_woken())
        };
        woken.into_iter().for_each(Waker::wake);
        let Some(me) = me else {
            return;
        };
        for (to, announcement) in transmits {
            if self.announce(&me, to, announcement).is_err() {
                self.stats.publish_failures.add(1);
            }
        }
    }

    /// Uses the table of queries, then wakes whose answers are there.
    pub(super) fn with_requests<R>(&self, f: impl FnOnce(&mut Requests) -> R) -> R {
        let (result, woken) = {
            let mut state = self.lock();
            let result = f(&mut state.requests);
            (result, state.requests.take_woken())
        };
        woken.into_iter().for_each(Waker::wake);
        result
    }

    /// The other members.
    pub(super) fn others(&self) -> Vec<NodeId> {
        let state = self.lock();
        state
            .membership
            .others()
            .map(|member| member.node)
            .collect()
    }

    fn is_new(&self, node: NodeId, number: u64) -> bool {
        let State {
            membership,
            windows,
            ..
        } = &mut *self.lock();
        windows.is_new(node, number, |node| membership.is_member(node))
    }

    fn announce(
        &self,
        me: &Member,
        to: Option<NodeId>,
        announcement: Announcement,
    ) -> Result<(), BusError> {
        let frame = wire::encode_announcement(me, announcement)?;
        match to {
            None => self.bus.publish(NODES_TOPIC, frame),
            Some(node) => match self.bus.publish_to_node(node, frame) {
                // It has gone since: nobody misses anything.
                Err(BusError::UnknownNode(_)) => Ok(()),
                result => result,
            },
        }
    }

    fn note_tags(&self, membership: &Membership) {
        let tags = membership
            .others()
            .map(|member| (member.tag(), member.node))
            .collect();
        *self.by_tag.write().unwrap_or_else(PoisonError::into_inner) = tags;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !self.alone {
            self.bus.unsubscribe(NODES_TOPIC);
        }
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("node", &self.node())
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

//! What all users of a run share, and what happens when a packet arrives.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::Instant;

use tokio::sync::Notify;

use crate::error::Fault;
use crate::ledger::{Arrival, EVERYBODY, End, Ledger};
use crate::link::Link;
use crate::packet::{self, Eio};
use crate::plan::{Kind, Plan};
use crate::stamp::Stamp;
use crate::stats::Stats;
use crate::track::IdHash;

/// What an ack that a user waits for means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// An echo that was due then.
    Echo {
        /// µs since the run began.
        due_us: u64,
    },
    /// A join.
    Join {
        /// The room.
        channel: u32,
    },
    /// A leave.
    Leave {
        /// The room.
        channel: u32,
    },
}

/// One virtual user: the same person over several connections.
#[derive(Debug)]
pub struct User {
    /// Its number.
    pub index: u32,
    /// How it talks.
    pub kind: Kind,
    /// Its protocol.
    pub eio: Eio,
    /// Whether it never reads.
    pub slow: bool,
    /// The way out.
    pub link: Link,
    /// This connection in the books, once the namespace has answered.
    pub peer: Cell<Option<u32>>,
    /// The rooms, as channels; kept over connections.
    pub rooms: RefCell<Vec<u32>>,
    /// Where it is in the list of live users.
    live_at: Cell<Option<usize>>,
    next_ack: Cell<u64>,
    waiting: RefCell<VecDeque<(u64, Waiting)>>,
    /// When the connection broke, and which channels it was in; until it is back.
    away: RefCell<Option<(u64, Vec<u32>)>>,
    /// When the server was heard last, µs.
    pub heard_us: Cell<u64>,
    /// How long the server may be silent, µs.
    pub patience_us: Cell<u64>,
    /// How often version 3 pings, µs.
    pub ping_us: Cell<u64>,
    /// When version 3 pinged last, µs.
    pub pinged_us: Cell<u64>,
}

/// The whole run; everything happens on one thread.
#[derive(Debug)]
pub struct World {
    /// What is to be done.
    pub plan: Plan,
    /// Tells this run's messages from others'.
    pub run: u32,
    start: Instant,
    /// The books.
    pub ledger: RefCell<Ledger>,
    /// The counters.
    pub stats: RefCell<Stats>,
    /// All users.
    pub users: Vec<Rc<User>>,
    /// Those who are connected and ready.
    pub live: RefCell<Vec<u32>>,
    /// Members of each room, by channel; those who are connected.
    pub members: RefCell<HashMap<u32, Vec<u32>, IdHash>>,
    /// No new work; connections stay.
    pub draining: Cell<bool>,
    /// The end; connections close and do not come back.
    pub closing: Cell<bool>,
    /// Closed-loop broadcasts and how many arrivals each waits for.
    pub in_flight: RefCell<HashMap<(u32, u32), u64>>,
    /// One of them is done.
    pub flight_done: Notify,
}

impl World {
    /// A world in which nobody is connected yet.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let mut run = [0; 4];
        getrandom::fill(&mut run).expect("the system has randomness");
        let users = (0..plan.connections).map(|index| Rc::new(User::new(index, &plan)));
        let users = users.collect();
        let ms = |value: Option<u64>, default: u64| value.unwrap_or(default) * 1000;
        let (grace, settle) = (plan.options.grace, plan.options.settle);
        Self {
            run: u32::from_le_bytes(run),
            start: Instant::now(),
            ledger: RefCell::new(Ledger::new(ms(grace, 2000), ms(settle, 0))),
            stats: RefCell::default(),
            users,
            live: RefCell::default(),
            members: RefCell::default(),
            draining: Cell::new(false),
            closing: Cell::new(false),
            in_flight: RefCell::default(),
            flight_done: Notify::new(),
            plan,
        }
    }

    /// Microseconds since the run began.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).expect("a run is short")
    }

    /// When the run began.
    #[must_use]
    pub fn start(&self) -> Instant {
        self.start
    }

    /// The name of a room.
    #[must_use]
    pub fn room_name(channel: u32) -> String {
        format!("room{channel}")
    }

    /// The namespace let a user in.
    pub fn connected(&self, user: &User, began_us: u64) {
        let now_us = self.now_us();
        let time_us = now_us - began_us;
        self.stats.borrow_mut().connected(user.kind.name(), time_us);
        let mut live = self.live.borrow_mut();
        user.live_at.set(Some(live.len()));
        live.push(user.index);
        drop(live);
        if user.slow {
            return;
        }
        let peer = self.ledger.borrow_mut().open();
        user.peer.set(Some(peer));
        self.ledger.borrow_mut().join_requested(peer, EVERYBODY);
        self.joined(user, EVERYBODY);
        let rooms = user.rooms.borrow().clone();
        for channel in rooms {
            if self.plan.app.joins_by_event() {
                self.ask_to_join(user, channel);
            } else {
                self.ledger.borrow_mut().join_requested(peer, channel);
                self.joined(user, channel);
            }
        }
    }

    /// A user's connection is over.
    pub fn disconnected(&self, user: &User, fault: &Fault) {
        let now_us = self.now_us();
        let asked = *fault == Fault::Asked;
        self.leave_live(user);
        let waiting = std::mem::take(&mut *user.waiting.borrow_mut());
        let echoes = waiting
            .iter()
            .filter(|(_, what)| matches!(what, Waiting::Echo { .. }));
        let echoes = echoes.count() as u64;
        let mut stats = self.stats.borrow_mut();
        if asked {
            stats.closed += 1;
        } else {
            stats.broke(fault.to_string());
            stats.echoes_cut += echoes;
        }
        drop(stats);
        let Some(peer) = user.peer.take() else {
            return;
        };
        let end = if asked { End::Asked } else { End::Broken };
        self.ledger.borrow_mut().close(peer, now_us, end);
        let rooms = user.rooms.borrow().clone();
        for channel in &rooms {
            self.remove_member(user, *channel);
        }
        if !asked {
            let channels = [vec![EVERYBODY], rooms].concat();
            *user.away.borrow_mut() = Some((now_us, channels));
        }
    }

    fn leave_live(&self, user: &User) {
        let Some(at) = user.live_at.take() else {
            return;
        };
        let mut live = self.live.borrow_mut();
        live.swap_remove(at);
        if let Some(moved) = live.get(at) {
            self.users[*moved as usize].live_at.set(Some(at));
        }
    }

    fn joined(&self, user: &User, channel: u32) {
        let Some(peer) = user.peer.get() else {
            return;
        };
        let now_us = self.now_us();
        let mut ledger = self.ledger.borrow_mut();
        ledger.join_confirmed(peer, channel, now_us);
        if let Some((since_us, channels)) = &mut *user.away.borrow_mut()
            && let Some(at) = channels.iter().position(|other| *other == channel)
        {
            channels.swap_remove(at);
            ledger.missed(channel, *since_us, now_us);
        }
        if channel != EVERYBODY {
            let mut members = self.members.borrow_mut();
            members.entry(channel).or_default().push(user.index);
        }
    }

    fn remove_member(&self, user: &User, channel: u32) {
        let mut members = self.members.borrow_mut();
        if let Some(list) = members.get_mut(&channel)
            && let Some(at) = list.iter().position(|index| *index == user.index)
        {
            list.swap_remove(at);
        }
    }

    /// Sends an event; with an ack if something waits for it.
    pub fn emit(&self, user: &User, args: &str, waiting: Option<Waiting>) {
        let id = waiting.map(|what| {
            let id = user.next_ack.get();
            user.next_ack.set(id + 1);
            user.waiting.borrow_mut().push_back((id, what));
            id
        });
        let packet = packet::event(&self.plan.namespace, id, args);
        user.link.send(packet.as_bytes());
    }

    /// Sends JOIN for a room.
    pub fn ask_to_join(&self, user: &User, channel: u32) {
        let (Some(peer), Some(join)) = (user.peer.get(), self.plan.app.get("join")) else {
            return;
        };
        self.ledger.borrow_mut().join_requested(peer, channel);
        let args = join.fill(&Self::room_name(channel), "");
        self.emit(user, &args, Some(Waiting::Join { channel }));
    }

    /// Sends LEAVE for a room.
    pub fn ask_to_leave(&self, user: &User, channel: u32) {
        let (Some(peer), Some(leave)) = (user.peer.get(), self.plan.app.get("leave")) else {
            return;
        };
        let now_us = self.now_us();
        self.ledger
            .borrow_mut()
            .leave_requested(peer, channel, now_us);
        self.remove_member(user, channel);
        let args = leave.fill(&Self::room_name(channel), "");
        self.emit(user, &args, Some(Waiting::Leave { channel }));
    }

    /// Sends an echo that was due at that time.
    pub fn echo(&self, user: &User, due_us: u64) {
        let Some(echo) = self.plan.app.get("echo") else {
            return;
        };
        let number = u32::try_from(user.next_ack.get()).expect("fewer echoes than numbers");
        let stamp = Stamp {
            run: self.run,
            stream: Stamp::ECHO,
            number,
            due_us,
        };
        let args = echo.fill("", &stamp.payload(self.payload_len()));
        let lag_us = self.now_us().saturating_sub(due_us);
        let mut stats = self.stats.borrow_mut();
        stats.echoes += 1;
        stats.sent(lag_us);
        drop(stats);
        self.emit(user, &args, Some(Waiting::Echo { due_us }));
    }

    /// Publishes to a channel; stream and number of the message.
    pub fn publish(
        &self,
        user: &User,
        channel: u32,
        skip: bool,
        due_us: u64,
    ) -> Option<(u32, u32)> {
        let key = match (channel == EVERYBODY, skip) {
            (true, false) => "broadcast",
            (true, true) => "broadcast_skip",
            (false, false) => "room",
            (false, true) => "room_skip",
        };
        let (peer, template) = (user.peer.get()?, self.plan.app.get(key)?);
        let now_us = self.now_us();
        let (stream, number) = self
            .ledger
            .borrow_mut()
            .publish(peer, channel, skip, now_us);
        let stamp = Stamp {
            run: self.run,
            stream,
            number,
            due_us,
        };
        let payload = stamp.payload(self.payload_len());
        self.stats.borrow_mut().sent(now_us.saturating_sub(due_us));
        self.emit(
            user,
            &template.fill(&Self::room_name(channel), &payload),
            None,
        );
        Some((stream, number))
    }

    fn payload_len(&self) -> usize {
        self.plan.options.payload.unwrap_or(100)
    }

    /// One Engine.IO message (without its `4`) for a user who is connected.
    ///
    /// # Errors
    /// [`Fault::Disconnected`] if it ends the connection.
    pub fn arrived(&self, user: &User, message: &[u8]) -> Result<(), Fault> {
        let head = packet::parse_head(message, &self.plan.namespace)
            .ok_or(Fault::Protocol("bad packet"))?;
        if !head.ours {
            return Ok(());
        }
        match head.kind {
            b'1' => Err(Fault::Disconnected),
            b'2' | b'5' => {
                self.event(user, head.data);
                Ok(())
            }
            b'3' | b'6' => {
                self.ack(user, head.id, head.data);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn event(&self, user: &User, data: &[u8]) {
        let Some(stamp) = Stamp::find(data) else {
            self.stats.borrow_mut().unstamped += 1;
            return;
        };
        let Some(peer) = user.peer.get() else {
            return;
        };
        if stamp.run != self.run {
            self.stats.borrow_mut().foreign += 1;
            return;
        }
        let now_us = self.now_us();
        let arrival = self
            .ledger
            .borrow_mut()
            .arrived(peer, stamp.stream, stamp.number);
        if matches!(arrival, Arrival::InOrder | Arrival::Late) {
            self.stats
                .borrow_mut()
                .delivered(now_us.saturating_sub(stamp.due_us));
            self.count_flight((stamp.stream, stamp.number));
        }
    }

    fn count_flight(&self, key: (u32, u32)) {
        let mut in_flight = self.in_flight.borrow_mut();
        if in_flight.is_empty() {
            return;
        }
        if let Some(rest) = in_flight.get_mut(&key) {
            *rest = rest.saturating_sub(1);
            if *rest == 0 {
                in_flight.remove(&key);
                self.flight_done.notify_one();
            }
        }
    }

    fn ack(&self, user: &User, id: Option<u64>, data: &[u8]) {
        let mut waiting = user.waiting.borrow_mut();
        let at = waiting.iter().position(|(other, _)| Some(*other) == id);
        // A join may wait for the whole cluster, and holds nothing else up.
        let overtakes = |at| {
            let mut before = waiting.range(..at);
            before.any(|(_, what)| matches!(what, Waiting::Echo { .. }))
        };
        let overtook = at.is_some_and(overtakes);
        let found = at.and_then(|at| waiting.remove(at));
        drop(waiting);
        match found {
            None => self.stats.borrow_mut().echo_duplicates += 1,
            Some((id, Waiting::Echo { due_us })) => {
                let now_us = self.now_us();
                let mut stats = self.stats.borrow_mut();
                stats.answered(now_us.saturating_sub(due_us));
                stats.echo_reordered += u64::from(overtook);
                let stamp = Stamp::find(data);
                let same = stamp
                    .is_some_and(|stamp| stamp.run == self.run && u64::from(stamp.number) == id);
                stats.corrupt += u64::from(!same || data.len() < self.payload_len());
                drop(stats);
                if self.plan.options.echo_in_flight.is_some() && !self.draining.get() {
                    self.echo(user, now_us);
                }
            }
            Some((_, Waiting::Join { channel })) => self.joined(user, channel),
            Some((_, Waiting::Leave { channel })) => {
                if let Some(peer) = user.peer.get() {
                    let now_us = self.now_us();
                    self.ledger
                        .borrow_mut()
                        .leave_confirmed(peer, channel, now_us);
                }
            }
        }
    }

    /// Counts what is still unanswered as such.
    pub fn give_up_waiting(&self) {
        for user in &self.users {
            let waiting = std::mem::take(&mut *user.waiting.borrow_mut());
            let mut stats = self.stats.borrow_mut();
            for (_, what) in waiting {
                match what {
                    Waiting::Echo { .. } => stats.unanswered += 1,
                    Waiting::Join { .. } => stats.error("join without an answer".to_owned()),
                    Waiting::Leave { .. } => stats.error("leave without an answer".to_owned()),
                }
            }
        }
    }

    /// Whether anybody still waits for an answer.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.users
            .iter()
            .any(|user| !user.waiting.borrow().is_empty())
    }
}

impl User {
    fn new(index: u32, plan: &Plan) -> Self {
        let each = plan.options.rooms_each.unwrap_or(1);
        let rooms = match plan.rooms() {
            0 => Vec::new(),
            rooms => (0..each).map(|nth| 1 + (index + nth) % rooms).collect(),
        };
        Self {
            index,
            kind: plan.kind_of(index),
            eio: plan.eio_of(index),
            slow: plan.is_slow(index),
            link: Link::new(index),
            peer: Cell::new(None),
            rooms: RefCell::new(rooms),
            live_at: Cell::new(None),
            next_ack: Cell::new(0),
            waiting: RefCell::default(),
            away: RefCell::default(),
            heard_us: Cell::new(0),
            patience_us: Cell::new(u64::MAX),
            ping_us: Cell::new(u64::MAX),
            pinged_us: Cell::new(0),
        }
    }
}

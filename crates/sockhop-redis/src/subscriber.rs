//! The subscription connection: it follows what is wanted, takes in what arrives, and proves with
//! messages to itself that it is not deaf.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use engineio_proto::Text;
use sockhop_adapter::ChannelMessage;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::connect::Stream;
use crate::error::Fault;
use crate::hearing::{Hearing, Verdict};
use crate::link::{Canary, Link, restarted};
use crate::metrics::Dropped;
use crate::pipe::{Receiver, Sender, split};
use crate::resp::{self, Kind, Limits, Push, Step};
use crate::shared::Origin;
use crate::subscriptions::Confirmed;

/// How often the canary is looked at, in parts of its timeout.
const CHECKS_PER_TIMEOUT: u32 = 15;

/// What arrived in one read, reused from read to read.
#[derive(Default)]
struct Arrived {
    pushes: Vec<Push>,
    frames: Vec<Bytes>,
    messages: Vec<ChannelMessage>,
}

impl Link {
    /// Receives until the connection is lost, the link is to start anew or to end.
    pub(crate) async fn subscribe_on(
        &self,
        stream: Box<dyn Stream>,
        restarts: &mut watch::Receiver<u64>,
    ) -> Fault {
        let complete = self.subscriptions().connected();
        let connection = self.next_connection();
        let config = &self.shared.config;
        let mut hearing = Hearing::new(config, connection, complete, Instant::now());
        let fault = self.listen(stream, &mut hearing, restarts).await;
        self.subscriptions().disconnected();
        self.down(&fault);
        fault
    }

    async fn listen(
        &self,
        stream: Box<dyn Stream>,
        hearing: &mut Hearing,
        restarts: &mut watch::Receiver<u64>,
    ) -> Fault {
        let (mut receiver, mut sender) = split(stream);
        let mut arrived = Arrived::default();
        let mut checks = interval(self.shared.config.canary_timeout / CHECKS_PER_TIMEOUT);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if sender.is_idle() {
                self.send_changes(&mut sender);
            }
            let idle = sender.is_idle();
            let done = tokio::select! {
                filled = receiver.fill() => match filled {
                    Ok(()) => self.receive(&mut receiver, &mut arrived, hearing),
                    Err(fault) => Err(fault),
                },
                written = sender.write(), if !idle => written,
                () = self.changes.notified(), if idle => Ok(()),
                now = checks.tick() => self.check(hearing, now),
                () = restarted(restarts) => Err(Fault::Moved),
                () = self.closed.cancelled() => Err(Fault::Stopped),
            };
            if let Err(fault) = done {
                return fault;
            }
        }
    }

    fn send_changes(&self, sender: &mut Sender) {
        let mut out = BytesMut::new();
        let mut subscriptions = self.subscriptions();
        let commands = subscriptions.put_commands(&mut out);
        let confirmed = subscriptions.confirmed();
        drop(subscriptions);
        if !out.is_empty() {
            let commands = u64::try_from(commands).unwrap_or_default();
            self.shared.metrics.subscription_commands.inc_by(commands);
            sender.push(VecDeque::from([out.freeze()]));
        }
        self.confirmed(confirmed);
    }

    /// Takes in what was read, up to the last whole reply.
    fn receive(
        &self,
        receiver: &mut Receiver,
        arrived: &mut Arrived,
        hearing: &mut Hearing,
    ) -> Result<(), Fault> {
        hearing.received(Instant::now());
        let limits = Limits::default();
        let mut at = 0;
        let needed = loop {
            match resp::parse_push(receiver.unread(), at, &limits)? {
                Step::Done(push, end) => {
                    at = end;
                    arrived.pushes.push(push);
                }
                Step::NeedMore(needed) => break needed - at,
            }
        };
        let bytes = receiver.consume(at, needed);
        let mut result = Ok(());
        for push in arrived.pushes.drain(..) {
            let taken = match push {
                Push::Message { channel, payload } => {
                    match self.shared.origin(&bytes[channel.clone()]) {
                        Origin::Bus => arrived.frames.push(bytes.slice(payload)),
                        Origin::Canary => self.heard(hearing, &bytes[payload]),
                        Origin::Channel => {
                            self.channel_message(&bytes, channel, payload, &mut arrived.messages);
                        }
                    }
                    Ok(())
                }
                Push::PatternMessage { channel, payload } => {
                    self.channel_message(&bytes, channel, payload, &mut arrived.messages);
                    Ok(())
                }
                Push::Changed {
                    kind,
                    subscribed,
                    channel,
                } => self.confirmed_change(kind, subscribed, &bytes[channel]),
                Push::Error(line) => self.refused_change(&bytes[line]),
                Push::Other => Ok(()),
            };
            // What came before a fault was received all the same.
            result = result.and(taken);
        }
        self.shared
            .deliver(&mut arrived.frames, &mut arrived.messages);
        self.follow_confirmations(hearing);
        result
    }

    fn channel_message(
        &self,
        bytes: &Bytes,
        channel: std::ops::Range<usize>,
        payload: std::ops::Range<usize>,
        messages: &mut Vec<ChannelMessage>,
    ) {
        match Text::from_utf8(bytes.slice(channel)) {
            Ok(channel) => messages.push(ChannelMessage {
                channel,
                payload: bytes.slice(payload),
            }),
            // Only a pattern of somebody who names channels in bytes gets here.
            Err(_) => self.shared.metrics.dropped(Dropped::ChannelName, 1),
        }
    }

    fn confirmed_change(&self, kind: Kind, subscribed: bool, channel: &[u8]) -> Result<(), Fault> {
        let mut subscriptions = self.subscriptions();
        match (subscriptions.confirm(kind, subscribed, channel), kind) {
            (Confirmed::Expected, _) => Ok(()),
            (Confirmed::Unasked, Kind::Shard) => {
                subscriptions.lost(kind, channel);
                drop(subscriptions);
                self.moved();
                Ok(())
            }
            // No server does this. Whatever it means, all of it is subscribed anew.
            (Confirmed::Unasked, Kind::Channel | Kind::Pattern) => Err(Fault::Moved),
        }
    }

    /// A command was refused. For good, unless it was for a slot that is on the move.
    fn refused_change(&self, line: &[u8]) -> Result<(), Fault> {
        let on_the_move = is_about_slots(line);
        if on_the_move && self.subscriptions().refused() {
            self.moved();
            return Ok(());
        }
        if on_the_move {
            // The end of a subscription that the server has ended already.
            return Ok(());
        }
        Err(Fault::Refused(String::from_utf8_lossy(line).into_owned()))
    }

    /// Something that is wanted is not in force any more: that is no better than being deaf.
    fn moved(&self) {
        self.down(&Fault::Moved);
        self.shared.metrics.moved.inc();
        self.shared.something_moved();
    }

    fn follow_confirmations(&self, hearing: &mut Hearing) {
        let confirmed = self.subscriptions().confirmed();
        if hearing.confirmed(confirmed) {
            // The proof that everything works need not wait for its turn.
            self.send_canary(hearing);
        }
        self.confirmed(confirmed);
    }

    fn send_canary(&self, hearing: &mut Hearing) {
        let now = Instant::now();
        let payload = Bytes::from(hearing.canary(now));
        let Canary { kind, channel } = &self.canary;
        if self.outgoing.publish_canary(*kind, channel, &payload) {
            hearing.sent(now);
        }
    }

    fn heard(&self, hearing: &mut Hearing, canary: &[u8]) {
        let Some(time) = hearing.heard(canary, Instant::now()) else {
            return;
        };
        self.shared.metrics.round_trip(time);
        if hearing.is_complete() && !self.subscriptions().misses_any() {
            self.up();
        }
    }

    fn check(&self, hearing: &mut Hearing, now: Instant) -> Result<(), Fault> {
        self.observe();
        match hearing.judge(!self.outgoing.is_empty(), now) {
            Verdict::Good => {}
            Verdict::Late => self.down(&Fault::Canary),
            Verdict::Deaf => return Err(Fault::Canary),
        }
        if hearing.is_due(now) {
            self.send_canary(hearing);
        }
        Ok(())
    }
}

/// Whether an error says that this server is not, or not now, the one for a slot.
fn is_about_slots(line: &[u8]) -> bool {
    [&b"MOVED "[..], b"ASK ", b"TRYAGAIN", b"CLUSTERDOWN"]
        .iter()
        .any(|code| line.starts_with(code))
}

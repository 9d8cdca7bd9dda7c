//! The one task that owns a session: it turns requests, bytes and time into the inputs of the
//! sans-IO machine, and the machine's outputs into answers, frames and calls of the handler.

mod waiting;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Instant;

use bytes::Bytes;
use engineio_proto::{
    BodyKind, CloseReason, Detached, Event, Outgoing, Session, Transmit, Transport, TransportId,
};
use pin_project_lite::pin_project;
use sockhop_outbox::{Demand, Outbox, Taken};
use tokio::sync::oneshot;
use tokio::time::Sleep;

use crate::admission::Place;
use crate::handler::{Context, ControlOf, Handler, SessionHandler};
use crate::mailbox::{Mail, Mailbox, PollReply, PostReply, Refused};
use crate::memory::{MemoryBudget, Share};
use crate::metrics::TrafficDelta;
use crate::rate::{Meter, OverRate};
use crate::service::Shared;
use crate::transports::{News, Transports, Upgrading};
use crate::websocket::ReadLimits;

/// Rounds of one turn; then other tasks get theirs.
const MAX_ROUNDS: usize = 16;

/// Looks into a queue in one round: at most this often something new is in it.
const MAX_TAKES: usize = 4;

pin_project! {
    /// A session with its transports and its handler.
    pub(crate) struct SessionTask<H: Handler> {
        #[pin]
        sleep: Sleep,
        // The instant the sleep is set to and polled for.
        armed: Option<Instant>,
        driver: Driver<H>,
    }
}

/// What a session is made of.
pub(crate) struct Parts<H: Handler> {
    pub(crate) shared: Arc<Shared<H>>,
    pub(crate) session: Session,
    pub(crate) handler: H::Session,
    pub(crate) mailbox: Mailbox,
    pub(crate) outbox: Outbox<Outgoing<ControlOf<H>>>,
    /// Given back when the session ends.
    pub(crate) _place: Option<Place>,
}

/// Everything but the timer, which must not move.
struct Driver<H: Handler> {
    parts: Parts<H>,
    transports: Transports,
    poll: Option<(TransportId, oneshot::Sender<PollReply>)>,
    post: Option<(TransportId, oneshot::Sender<PostReply>)>,
    /// The POST in which the client said goodbye, answered when the session is gone.
    goodbye: Option<oneshot::Sender<PostReply>>,
    /// What the outbox was last told.
    writable: bool,
    /// The transport that the metrics count this session under.
    counted: Transport,
    closed: bool,
    /// The handler was called and may have put something into the outbox.
    called: bool,
    traffic: TrafficDelta,
    /// None: the session may send as much as it likes.
    meter: Option<Box<Meter>>,
    /// Whether the message that is being handled is over the session's rates.
    over_rate: bool,
    /// None: there is no common budget.
    share: Option<Share>,
    /// What the outbox asked for, done once the transports took what they could.
    demand: Demand,
}

impl<H: Handler> SessionTask<H> {
    pub(crate) fn new(parts: Parts<H>, websocket: Option<Upgrading>) -> Self {
        let session = &parts.session;
        let mut transports = Transports::new(session.version(), !session.peer().supports_binary);
        if let Some(upgrade) = websocket {
            transports.attach(session.current_transport(), upgrade);
        }
        let counted = parts.session.transport();
        parts
            .shared
            .metrics
            .opened(counted, parts.session.version());
        let share = parts.shared.config.memory.as_ref().map(MemoryBudget::share);
        let limited = parts.shared.config.rates.is_limited();
        let meter = limited.then(|| Box::new(Meter::new(now())));
        let mut driver = Driver {
            parts,
            transports,
            poll: None,
            post: None,
            goodbye: None,
            writable: false,
            counted,
            closed: false,
            called: false,
            traffic: TrafficDelta::default(),
            meter,
            over_rate: false,
            share,
            demand: Demand::None,
        };
        driver.call(now(), |handler, cx| handler.start(cx));
        Self {
            sleep: tokio::time::sleep_until(tokio::time::Instant::now()),
            armed: None,
            driver,
        }
    }
}

fn now() -> Instant {
    // Tokio's clock, so that tests can pause it.
    tokio::time::Instant::now().into_std()
}

impl<H: Handler> Future for SessionTask<H> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let mut this = self.project();
        for _ in 0..MAX_ROUNDS {
            let now = now();
            // Nothing is due before the deadline that was found last; newer ones are found below.
            if this.armed.is_none_or(|armed| armed <= now) {
                this.driver.timeouts(now);
            }
            let again = this.driver.round(cx, now);
            if this.driver.parts.session.is_closed() {
                this.driver.end_turn();
                return Poll::Ready(());
            }
            if again || this.driver.listen_to_outbox(cx, now) {
                continue;
            }
            this.driver.end_turn();
            let deadline = this.driver.deadline();
            if *this.armed != deadline {
                *this.armed = deadline;
                let Some(deadline) = deadline else {
                    return Poll::Pending;
                };
                this.sleep.as_mut().reset(deadline.into());
                // Unconstrained: a turn that has used up its budget would be told to come back
                // without the timer having heard of it.
                let sleep = pin!(tokio::task::unconstrained(this.sleep.as_mut()));
                if sleep.poll(cx).is_ready() {
                    *this.armed = None;
                    continue;
                }
            } else if deadline.is_some_and(|deadline| deadline <= now) {
                *this.armed = None;
                continue;
            }
            return Poll::Pending;
        }
        this.driver.end_turn();
        // New deadlines have not been looked at.
        *this.armed = None;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<H: Handler> Driver<H> {
    /// One round over all inputs and outputs; whether another must follow. It need not where every
    /// input was left waiting, so that its next news wakes the task.
    fn round(&mut self, cx: &mut TaskContext<'_>, now: Instant) -> bool {
        // WebSockets before mail: a client that sent its upgrade packet and then a GET means it in
        // that order. Outbox before mail: what was emitted before the server closed still leaves.
        let mut again = self.read_transports(cx, now);
        self.take_outbox(now);
        again |= self.take_mail(cx, now);
        again |= self.notice_aborts(cx, now);
        self.drain(now);
        // What handlers sent to their own client leaves with the same write.
        if std::mem::take(&mut self.called) && self.take_outbox(now) {
            self.drain(now);
        }
        if self.flush_transports(cx, now) {
            self.drain(now);
            again = true;
        }
        again |= self.make_room(now);
        self.tell_writable();
        again
    }

    fn deadline(&self) -> Option<Instant> {
        let session = self.parts.session.poll_timeout();
        let handler = self.parts.handler.poll_timeout();
        match (session, handler) {
            (Some(session), Some(handler)) => Some(session.min(handler)),
            (session, handler) => session.or(handler),
        }
    }

    fn timeouts(&mut self, now: Instant) {
        if self
            .parts
            .session
            .poll_timeout()
            .is_some_and(|deadline| deadline <= now)
        {
            self.parts.session.handle_timeout(now);
        }
        if !self.closed
            && self
                .parts
                .handler
                .poll_timeout()
                .is_some_and(|deadline| deadline <= now)
        {
            self.call(now, |handler, cx| handler.timeout(cx));
        }
    }

    /// Calls the handler, and charges what it sent past the outbox.
    fn call(&mut self, now: Instant, f: impl FnOnce(&mut H::Session, &mut Context<'_>)) {
        let Parts {
            session,
            handler,
            outbox,
            ..
        } = &mut self.parts;
        let mut cx = Context {
            now,
            session,
            sent_bytes: 0,
            over_rate: std::mem::take(&mut self.over_rate),
        };
        f(handler, &mut cx);
        self.called = true;
        if cx.sent_bytes > 0 {
            // An overflow is noticed with the next look into the outbox.
            let _ = outbox.charge(cx.sent_bytes);
        }
    }

    /// Takes mail out until there is none; whether another round must follow.
    fn take_mail(&mut self, cx: &mut TaskContext<'_>, now: Instant) -> bool {
        let mut taken = false;
        for _ in 0..MAX_TAKES {
            match self.parts.mailbox.poll_take(cx) {
                Poll::Ready(Taken::Items(mail)) => {
                    taken = true;
                    mail.into_iter().for_each(|mail| self.open_mail(mail, now));
                }
                Poll::Ready(Taken::Overflowed) => {
                    self.parts.mailbox.close(&self.parts.shared.metrics);
                    self.parts.session.close(now, CloseReason::TransportError);
                    return true;
                }
                // Nobody has asked a WebSocket yet that came in the mail.
                Poll::Ready(Taken::Closed) | Poll::Pending => {
                    return taken && self.transports.has_new();
                }
            }
        }
        true
    }

    fn open_mail(&mut self, mail: Mail, now: Instant) {
        let session = &mut self.parts.session;
        match mail {
            Mail::Poll { reply } => match session.handle_poll(now) {
                Ok(id) => {
                    self.parts.shared.metrics.parked_polls().inc();
                    self.poll = Some((id, reply));
                }
                // A requester that went away needs no answer.
                Err(refusal) => drop(reply.send(PollReply::Refused(refusal.into()))),
            },
            Mail::PostStart { done } => self.post_start(done, now),
            Mail::PostBody { kind, body } => self.post_body(kind, body, now),
            Mail::Post { kind, body, done } => {
                self.post_start(done, now);
                self.post_body(kind, body, now);
            }
            Mail::WebSocket { upgrade } => match session.handle_ws_open(now) {
                Ok(id) => self.transports.attach(id, upgrade),
                Err(_) => {
                    self.parts.shared.metrics.upgrade_refused();
                    self.transports.refuse(upgrade, &self.parts.shared.tasks);
                }
            },
            Mail::Close(reason) => session.close(now, reason),
        }
    }

    fn post_start(&mut self, done: oneshot::Sender<PostReply>, now: Instant) {
        match self.parts.session.handle_post_start(now) {
            Ok(id) => self.post = Some((id, done)),
            Err(refusal) => {
                // A requester that went away needs no answer.
                let _ = done.send(Err(refusal.into()));
            }
        }
    }

    fn post_body(&mut self, kind: BodyKind, body: Result<Bytes, Detached>, now: Instant) {
        let Some((id, done)) = self.post.take() else {
            return;
        };
        let session = &mut self.parts.session;
        match body {
            Ok(body) => {
                self.traffic.bytes_in += body.len() as u64;
                let result = session.handle_post(now, id, kind, body);
                if result.is_ok() && session.awaits_overtaken_poll() {
                    self.goodbye = Some(done);
                    return;
                }
                let _ = done.send(result.map_err(Refused::from));
            }
            Err(why) => session.handle_detached(now, id, why),
        }
    }

    fn read_transports(&mut self, cx: &mut TaskContext<'_>, now: Instant) -> bool {
        let Parts {
            session, shared, ..
        } = &mut self.parts;
        let limits = ReadLimits {
            max_message_bytes: shared.config.session.max_payload,
            max_fragments: shared.config.max_fragments,
        };
        let traffic = &mut self.traffic;
        self.transports
            .read(cx, limits, &shared.tasks, |id, news| match news {
                News::Message(message) => {
                    traffic.bytes_in += message.len() as u64;
                    session.handle_ws_message(now, id, message);
                }
                News::Ended(why) => session.handle_detached(now, id, why),
            })
    }

    /// Requests whose client went away.
    fn notice_aborts(&mut self, cx: &mut TaskContext<'_>, now: Instant) -> bool {
        let mut progress = false;
        if let Some((id, reply)) = &mut self.poll
            && reply.poll_closed(cx).is_ready()
        {
            self.parts
                .session
                .handle_detached(now, *id, Detached::Closed);
            self.unpark();
            progress = true;
        }
        if let Some((id, done)) = &mut self.post
            && done.poll_closed(cx).is_ready()
        {
            self.parts
                .session
                .handle_detached(now, *id, Detached::Closed);
            self.post = None;
            progress = true;
        }
        progress
    }

    /// Hands on what the session has for its transports and for the handler.
    fn drain(&mut self, now: Instant) -> bool {
        let mut progress = false;
        loop {
            let mut again = false;
            while self.may_transmit()
                && let Some(transmit) = self.parts.session.poll_transmit(now)
            {
                self.transmit(transmit, now);
                again = true;
            }
            while let Some(event) = self.parts.session.poll_event() {
                self.event(event, now);
                again = true;
            }
            if !again {
                return progress;
            }
            progress = true;
        }
    }

    /// Frames for a WebSocket wait until its 101 answer is out.
    fn may_transmit(&self) -> bool {
        self.parts.session.transport() == Transport::Polling || !self.transports.is_upgrading()
    }

    fn transmit(&mut self, transmit: Transmit, now: Instant) {
        match transmit {
            Transmit::PollBody {
                id,
                body,
                refund_bytes,
            } => {
                self.traffic.bytes_out += body.bytes.len() as u64;
                if refund_bytes > 0 {
                    self.parts.outbox.refund(refund_bytes);
                }
                let Some((_, reply)) = self.unpark().filter(|(parked, _)| *parked == id) else {
                    return;
                };
                if reply.send(PollReply::Body(body)).is_err() {
                    self.parts
                        .session
                        .handle_detached(now, id, Detached::Closed);
                }
            }
            Transmit::WebSocket { id, packet } => {
                if !self.transports.send(id, packet) {
                    self.parts.shared.metrics.dropped("transport_gone", 1);
                }
            }
            Transmit::CloseWebSocket { id } => {
                if !self.closed && id != self.parts.session.current_transport() {
                    self.parts.shared.metrics.upgrade_abandoned();
                }
                self.transports.close(id, &self.parts.shared.tasks);
            }
        }
    }

    fn unpark(&mut self) -> Option<(TransportId, oneshot::Sender<PollReply>)> {
        let parked = self.poll.take()?;
        self.parts.shared.metrics.parked_polls().dec();
        Some(parked)
    }

    fn event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Message(message) => {
                self.traffic.messages_in += 1;
                if !self.closed && self.is_within_rates(now, message.len()) {
                    self.call(now, |handler, cx| handler.message(cx, message));
                }
            }
            Event::Upgraded => {
                self.flush_traffic();
                self.parts
                    .shared
                    .metrics
                    .upgraded(self.parts.session.version());
                self.counted = Transport::WebSocket;
                self.call(now, |handler, cx| handler.upgraded(cx));
            }
            Event::Closed(reason) => self.close(&reason),
        }
    }

    /// Whether the peer may say this now. If not, it is closed, or only its message is for nothing:
    /// [`Context::is_over_rate`].
    fn is_within_rates(&mut self, now: Instant, bytes: usize) -> bool {
        let Some(meter) = &mut self.meter else {
            return true;
        };
        let rates = &self.parts.shared.config.rates;
        self.over_rate = !meter.take(rates, now, bytes);
        if self.over_rate && rates.over == OverRate::Close {
            self.parts.session.close(now, CloseReason::RateLimited);
            return false;
        }
        true
    }

    fn close(&mut self, reason: &CloseReason) {
        self.closed = true;
        self.post = None;
        self.parts.handler.close(reason);
        self.close_outbox();
        self.parts.shared.metrics.close_reason(reason);
        tracing::debug!(
            session = ?self.parts.session.id(),
            transport = self.counted.name(),
            reason = reason.label(),
            "session closed"
        );
    }

    /// Writes what the transports hold; whether one failed, of which the session has news then.
    fn flush_transports(&mut self, cx: &mut TaskContext<'_>, now: Instant) -> bool {
        let (written, failed) = self.transports.flush(cx);
        if written.refund_bytes > 0 {
            self.parts.outbox.refund(written.refund_bytes);
        }
        self.traffic.bytes_out += written.bytes as u64;
        if let Some(id) = failed {
            self.parts
                .session
                .handle_detached(now, id, Detached::Failed);
        }
        failed.is_some()
    }

    /// A volatile packet may be sent when it would leave at once.
    fn tell_writable(&mut self) {
        let writable =
            !self.closed && self.parts.session.is_writable() && self.transports.is_flushed();
        if writable != self.writable {
            self.writable = writable;
            self.parts.outbox.set_writable(writable);
        }
    }

    /// At the end of a turn: what was counted in it, and what is left waiting.
    fn end_turn(&mut self) {
        self.flush_traffic();
        if let Some(share) = &mut self.share {
            share.tell(self.parts.outbox.queued_bytes(), &self.parts.mailbox);
        }
    }

    fn flush_traffic(&mut self) {
        let counters = self.parts.shared.traffic(self.counted);
        self.traffic.flush(counters);
    }
}

impl<H: Handler> Drop for Driver<H> {
    /// Also when the runtime drops the task: nothing may believe that the session lives.
    fn drop(&mut self) {
        self.unpark();
        let Parts {
            shared,
            session,
            mailbox,
            outbox,
            ..
        } = &self.parts;
        mailbox.close(&shared.metrics);
        shared.registry.remove(&session.id());
        let lost = session.stats().messages_lost;
        if lost > 0 {
            shared.metrics.dropped("session_closed", lost);
        }
        if let Some(done) = self.goodbye.take() {
            let _ = done.send(Ok(()));
        }
        shared.metrics.closed(self.counted, session.version());
        if !self.closed {
            drop(outbox.close());
            self.parts.handler.close(&CloseReason::ServerShutdown);
        }
    }
}

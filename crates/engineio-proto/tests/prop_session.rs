//! Property tests: a session under random interleavings of everything that can happen to it.
//!
//! A driver plays both the network and the client, sometimes fetching the outputs late, and checks
//! after every step that the session keeps its promises.

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::base_instant;
use engineio_proto::payload;
use engineio_proto::{
    Body, BodyKind, CloseReason, Detached, Encoded, Event, Frame, IncomingPacket, Message,
    MessageWriter, NodeTag, Packet, PollingPeer, ProtocolVersion, Session, SessionConfig,
    SessionId, Text, Transmit, Transport, TransportId,
};
use proptest::prelude::*;

const CLOSE_TIMEOUT: Duration = Duration::from_millis(1_000);

/// Something that happens.
#[derive(Clone, Debug)]
enum Step {
    Send { attachments: usize },
    Get,
    PostStart,
    PostBody(Content),
    OpenWebSocket,
    WebSocket { candidate: bool, content: Content },
    DetachGet(Detached),
    DetachPost(Detached),
    DetachWebSocket { candidate: bool, why: Detached },
    Stale(Detached),
    Pass { ms: u64 },
    Close(CloseReason),
    FetchOutputs,
}

/// What a client may say; a probe and an upgrade mean something on a candidate only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Message,
    Heartbeat,
    WrongHeartbeat,
    Close,
    Probe,
    Upgrade,
    Garbage,
}

impl Content {
    fn text(self, version: ProtocolVersion, number: usize) -> String {
        match (self, version) {
            (Self::Message, _) => format!("4{number}€😀"),
            (Self::Heartbeat, ProtocolVersion::V3)
            | (Self::WrongHeartbeat, ProtocolVersion::V4) => "2".to_owned(),
            (Self::Heartbeat, ProtocolVersion::V4)
            | (Self::WrongHeartbeat, ProtocolVersion::V3) => "3".to_owned(),
            (Self::Close, _) => "1".to_owned(),
            (Self::Probe, _) => "2probe".to_owned(),
            (Self::Upgrade, _) => "5".to_owned(),
            (Self::Garbage, _) => "x".to_owned(),
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let content = || {
        prop_oneof![
            20 => Just(Content::Message),
            10 => Just(Content::Heartbeat),
            1 => Just(Content::WrongHeartbeat),
            1 => Just(Content::Close),
            20 => Just(Content::Probe),
            20 => Just(Content::Upgrade),
            1 => Just(Content::Garbage),
        ]
    };
    let detached = || {
        prop::sample::select(vec![
            Detached::Closed,
            Detached::Failed,
            Detached::TooLarge,
            Detached::Violation,
        ])
    };
    let reason = prop::sample::select(vec![
        CloseReason::ForcedClose,
        CloseReason::ServerShutdown,
        CloseReason::SlowConsumer,
        CloseReason::InvalidMessage,
    ]);
    prop_oneof![
        30 => (0_usize..4).prop_map(|attachments| Step::Send { attachments }),
        30 => Just(Step::Get),
        10 => Just(Step::PostStart),
        10 => content().prop_map(Step::PostBody),
        10 => Just(Step::OpenWebSocket),
        30 => (any::<bool>(), content())
            .prop_map(|(candidate, content)| Step::WebSocket { candidate, content }),
        1 => detached().prop_map(Step::DetachGet),
        1 => detached().prop_map(Step::DetachPost),
        2 => (any::<bool>(), detached())
            .prop_map(|(candidate, why)| Step::DetachWebSocket { candidate, why }),
        3 => detached().prop_map(Step::Stale),
        15 => (0_u64..150).prop_map(|ms| Step::Pass { ms }),
        1 => reason.prop_map(Step::Close),
        20 => Just(Step::FetchOutputs),
    ]
}

/// The network and the client around one session.
struct Driver {
    session: Session,
    now: Instant,
    eager: bool,
    get: Option<TransportId>,
    post: Option<TransportId>,
    candidate: Option<TransportId>,
    current: Option<TransportId>,
    stale: Vec<TransportId>,
    sent: Vec<Encoded>,
    delivered: Vec<Message>,
    refunded_bytes: usize,
    /// What the client said, and what of it came out.
    said: Vec<String>,
    heard: Vec<String>,
    closed: bool,
}

impl Driver {
    fn new(version: ProtocolVersion, transport: Transport, binary: bool, eager: bool) -> Self {
        let now = base_instant();
        let config = SessionConfig {
            ping_interval: Duration::from_millis(300),
            ping_timeout: Duration::from_millis(200),
            upgrade_timeout: Duration::from_millis(400),
            close_timeout: CLOSE_TIMEOUT,
            max_payload: 200,
            max_packets_per_body: 4,
            ..SessionConfig::default()
        };
        let peer = PollingPeer {
            supports_binary: binary,
            counts_utf16: true,
            jsonp: None,
        };
        let id = SessionId::new(NodeTag::MAX, [0; 12]);
        let session = Session::new(now, Arc::new(config), id, version, transport, peer);
        let current = (transport == Transport::WebSocket).then(|| session.current_transport());
        Self {
            session,
            now,
            eager,
            get: None,
            post: None,
            candidate: None,
            current,
            stale: Vec::new(),
            sent: Vec::new(),
            delivered: Vec::new(),
            refunded_bytes: 0,
            said: Vec::new(),
            heard: Vec::new(),
            closed: false,
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Send { attachments } => self.send(*attachments),
            Step::Get => self.get(),
            Step::PostStart => match self.session.handle_post_start(self.now) {
                Ok(id) => {
                    assert_eq!(self.post.replace(id), None, "one post at a time");
                }
                Err(_) => self.stale.extend(self.post.take()),
            },
            Step::PostBody(content) => self.post_body(*content),
            Step::OpenWebSocket => {
                if let Ok(id) = self.session.handle_ws_open(self.now) {
                    // An earlier candidate that was discarded unheard is stale from now on.
                    self.stale.extend(self.candidate.replace(id));
                }
            }
            Step::WebSocket { candidate, content } => self.websocket(*candidate, *content),
            Step::DetachGet(why) => {
                let id = self.get.take();
                self.detach(id, *why);
            }
            Step::DetachPost(why) => {
                let id = self.post.take();
                self.detach(id, *why);
            }
            Step::DetachWebSocket { candidate, why } => {
                let place = match candidate {
                    true => &mut self.candidate,
                    false => &mut self.current,
                };
                let id = place.take();
                self.detach(id, *why);
            }
            Step::Stale(why) => {
                for id in self.stale.clone() {
                    self.session.handle_detached(self.now, id, *why);
                    let content = Message::Text(Text::from("4stale"));
                    self.session.handle_ws_message(self.now, id, content);
                }
            }
            Step::Pass { ms } => self.pass(Duration::from_millis(*ms)),
            Step::Close(reason) => self.session.close(self.now, reason.clone()),
            Step::FetchOutputs => self.fetch_outputs(),
        }
        if self.eager {
            self.fetch_outputs();
        }
    }

    fn send(&mut self, attachments: usize) {
        let mut writer = MessageWriter::with_capacity(16);
        let text = format!("message {}", self.sent.len());
        writer.buffer().extend_from_slice(text.as_bytes());
        let attachment = |index: usize| Bytes::from(vec![index as u8; 30 * index]);
        let encoded = writer.finish((0..attachments).map(attachment).collect());
        let writable = self.session.is_writable();
        self.sent.push(encoded.clone());
        self.session.send(encoded);
        if writable && self.eager {
            let before = self.delivered.len();
            self.fetch_outputs();
            assert!(self.delivered.len() > before, "writable means at once");
        }
    }

    fn get(&mut self) {
        match self.session.handle_poll(self.now) {
            Ok(id) => assert_eq!(self.get.replace(id), None, "one parked poll at most"),
            Err(_) if self.get.is_some() && self.session.transport() == Transport::Polling => {
                self.fetch_outputs();
                assert!(self.closed, "an overlapping poll ends the session");
                assert_eq!(self.get, None, "and answers the pending one");
            }
            Err(_) => {}
        }
    }

    fn post_body(&mut self, content: Content) {
        let Some(id) = self.post.take() else { return };
        let packet = content.text(self.session.version(), self.said.len());
        let body = match self.session.version() {
            ProtocolVersion::V3 => format!("{}:{packet}", packet.encode_utf16().count()),
            ProtocolVersion::V4 => packet.clone(),
        };
        let result = self
            .session
            .handle_post(self.now, id, BodyKind::Text, body.into());
        if content == Content::Message && result.is_ok() {
            self.said.push(packet);
        }
        self.stale.push(id);
    }

    fn websocket(&mut self, candidate: bool, content: Content) {
        let place = match candidate {
            true => self.candidate,
            false => self.current,
        };
        let Some(id) = place else { return };
        let text = content.text(self.session.version(), self.said.len());
        let message = Message::Text(Text::from(text.as_str()));
        let takes_messages = self.session.transport() == Transport::WebSocket
            && self.session.current_transport() == id;
        self.session.handle_ws_message(self.now, id, message);
        if content == Content::Message && takes_messages {
            self.said.push(text);
        }
        let switched = self.session.transport() == Transport::WebSocket
            && self.session.current_transport() == id;
        if candidate && switched {
            self.current = self.candidate.take();
        }
    }

    fn detach(&mut self, id: Option<TransportId>, why: Detached) {
        let Some(id) = id else { return };
        self.session.handle_detached(self.now, id, why);
        self.stale.push(id);
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.session.poll_timeout().filter(|next| *next <= end) {
            assert!(next >= self.now, "timers never run backwards");
            self.now = next;
            self.session.handle_timeout(next);
            let after = self.session.poll_timeout();
            assert!(
                after.is_none_or(|after| after > next),
                "a deadline is met once"
            );
            if self.eager {
                self.fetch_outputs();
            }
        }
        self.now = end;
    }

    fn fetch_outputs(&mut self) {
        while let Some(transmit) = self.session.poll_transmit(self.now) {
            match transmit {
                Transmit::PollBody {
                    id,
                    body,
                    refund_bytes,
                } => {
                    assert_eq!(self.get.take(), Some(id), "an answer to the pending poll");
                    self.stale.push(id);
                    self.refunded_bytes += refund_bytes;
                    self.deliver_body(body);
                }
                Transmit::WebSocket { id, packet } => self.deliver_packet(id, &packet),
                Transmit::CloseWebSocket { id } => {
                    let place = match self.candidate == Some(id) {
                        true => &mut self.candidate,
                        false => &mut self.current,
                    };
                    assert_eq!(place.take(), Some(id), "closes a WebSocket that is open");
                    self.stale.push(id);
                }
            }
        }
        while let Some(event) = self.session.poll_event() {
            assert!(!self.closed, "nothing comes after the end: {event:?}");
            match event {
                Event::Message(Message::Text(text)) => self.heard.push(format!("4{}", &*text)),
                Event::Message(Message::Binary(data)) => panic!("nobody said {data:?}"),
                Event::Upgraded => assert_eq!(self.session.transport(), Transport::WebSocket),
                Event::Closed(_) => self.closed = true,
            }
        }
        self.check();
    }

    fn deliver_body(&mut self, body: Body) {
        let single = body.bytes.len() <= 200;
        let packets = payload::decode(self.session.version(), body.kind, body.bytes.into(), 100);
        let packets: Vec<IncomingPacket> = packets.map(|packet| packet.unwrap()).collect();
        assert!(packets.len() <= 4, "a body has a limited number of packets");
        assert!(single || packets.len() == 1, "a body has a limited size");
        for packet in packets {
            if let IncomingPacket::Message(message) = packet {
                self.delivered.push(message);
            }
        }
    }

    fn deliver_packet(&mut self, id: TransportId, packet: &Packet) {
        if self.candidate == Some(id) {
            assert_eq!(
                packet.control(),
                Some(('3', "probe")),
                "all a candidate hears"
            );
            return;
        }
        assert_eq!(
            self.current,
            Some(id),
            "written to a WebSocket that is open"
        );
        self.delivered.extend(packet.frames().map(content_of));
        if let Packet::Message { encoded, .. } = packet {
            self.refunded_bytes += encoded.budget_bytes();
        }
    }

    /// Every message once and in order, in both directions; budgets returned as messages leave.
    fn check(&self) {
        let sent = self.sent.iter().flat_map(Encoded::frames).map(content_of);
        let sent: Vec<Message> = sent.take(self.delivered.len()).collect();
        assert_eq!(self.delivered, sent);
        let whole = &self.sent[..self.delivered_whole()];
        let budget: usize = whole.iter().map(Encoded::budget_bytes).sum();
        assert_eq!(self.refunded_bytes, budget);
        assert_eq!(self.heard, self.said[..self.heard.len()]);
        if !self.closed {
            assert_eq!(self.heard.len(), self.said.len());
        }
        // A WebSocket takes everything at once, and so does a poll that still waits.
        let on_websocket = self.session.transport() == Transport::WebSocket && !self.closed;
        if on_websocket {
            assert_eq!(self.get, None, "the pending poll was released");
        }
        if on_websocket || self.session.is_writable() {
            assert_eq!(self.delivered_whole(), self.sent.len());
        }
    }

    /// How many messages were delivered with all their frames.
    fn delivered_whole(&self) -> usize {
        let mut frames = 0;
        let ends = self.sent.iter().map(|encoded| {
            frames += encoded.frame_count();
            frames
        });
        ends.filter(|end| *end <= self.delivered.len()).count()
    }

    /// Ends the session and checks that everything is accounted for.
    fn end(&mut self, polls_left: usize) {
        self.session.close(self.now, CloseReason::ForcedClose);
        self.fetch_outputs();
        for _ in 0..polls_left {
            if self.get.is_none() && self.session.handle_poll(self.now).is_ok() {
                self.get = Some(self.session.current_transport());
            }
            self.fetch_outputs();
        }
        self.pass(CLOSE_TIMEOUT);
        self.fetch_outputs();
        assert!(self.closed && self.session.is_closed());
        assert_eq!(self.session.poll_timeout(), None);
        assert_eq!(self.get, None, "no poll is left without an answer");
        assert_eq!(self.candidate, None, "no WebSocket is left open");
        assert_eq!(self.current, None, "no WebSocket is left open");
        let lost = self.sent.len() - self.delivered_whole();
        assert_eq!(self.session.stats().messages_lost, lost as u64);
    }
}

fn content_of(frame: &Frame) -> Message {
    let data = Bytes::copy_from_slice(frame.data());
    if frame.is_binary() {
        return Message::Binary(data);
    }
    Message::Text(Text::from_utf8(data.slice(1..)).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]
    #[test]
    fn a_session_keeps_its_promises_whatever_happens(
        version in prop::sample::select(vec![ProtocolVersion::V3, ProtocolVersion::V4]),
        transport in prop::sample::select(vec![
            Transport::Polling,
            Transport::Polling,
            Transport::Polling,
            Transport::WebSocket,
        ]),
        binary in any::<bool>(),
        eager in any::<bool>(),
        steps in prop::collection::vec(step(), 0..60),
        polls_left in 0_usize..20,
    ) {
        let mut driver = Driver::new(version, transport, binary, eager);
        for step in &steps {
            driver.step(step);
        }
        driver.end(polls_left);
    }
}

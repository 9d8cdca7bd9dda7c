//! Unit tests of the session, on virtual time.

mod close;
mod heartbeat;
mod polling;
mod upgrade;

use std::fmt::Debug;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;
use crate::{BodyKind, GivesWay, NodeTag, Refusal, Text};

/// The moment that all virtual time counts from.
#[expect(
    clippy::disallowed_methods,
    reason = "an Instant can only be had from the clock; tests add to this one"
)]
pub(crate) fn base_instant() -> Instant {
    static BASE: OnceLock<Instant> = OnceLock::new();
    *BASE.get_or_init(Instant::now)
}

/// One input of a small state machine: its name, and what it does and answers.
pub(super) struct Input<S>(pub(super) &'static str, pub(super) fn(&mut S) -> String);

/// One line for each state and input: `<state> <input> -> <state after> <answer>`.
pub(super) fn transitions<S: Copy + Debug>(states: &[(&str, S)], inputs: &[Input<S>]) -> String {
    let mut table = String::new();
    for (state_name, state) in states {
        for Input(input_name, input) in inputs {
            let mut after = *state;
            let answer = input(&mut after);
            let line = format!("{state_name} {input_name} -> {after:?} {answer}");
            table.push_str(line.trim_end());
            table.push('\n');
        }
    }
    table
}

/// A session with short names for its inputs, and its outputs as text.
struct Fixture {
    session: Session,
    now: Instant,
}

const INTERVAL_MS: u64 = 300;
const TIMEOUT_MS: u64 = 200;
const UPGRADE_TIMEOUT_MS: u64 = 250;
const CLOSE_TIMEOUT_MS: u64 = 1_000;

fn test_config() -> SessionConfig {
    SessionConfig {
        ping_interval: Duration::from_millis(INTERVAL_MS),
        ping_timeout: Duration::from_millis(TIMEOUT_MS),
        upgrade_timeout: Duration::from_millis(UPGRADE_TIMEOUT_MS),
        close_timeout: Duration::from_millis(CLOSE_TIMEOUT_MS),
        ..SessionConfig::default()
    }
}

impl Fixture {
    /// A session whose open packet has left already.
    fn open(version: ProtocolVersion, transport: Transport) -> Self {
        Self::with_config(version, transport, test_config())
    }

    fn with_config(version: ProtocolVersion, transport: Transport, config: SessionConfig) -> Self {
        let mut fixture = Self::fresh(version, transport, config, PollingPeer::default());
        if transport == Transport::Polling {
            fixture.get();
        }
        let out = fixture.out();
        assert!(out.contains("0{\"sid\":"), "{out}");
        fixture
    }

    fn fresh(
        version: ProtocolVersion,
        transport: Transport,
        config: SessionConfig,
        peer: PollingPeer,
    ) -> Self {
        let now = base_instant();
        let id = SessionId::new(NodeTag::default(), [1; 12]);
        Self {
            session: Session::new(now, Arc::new(config), id, version, transport, peer),
            now,
        }
    }

    fn get(&mut self) -> TransportId {
        self.session.handle_poll(self.now).expect("not refused")
    }

    fn post(&mut self, body: &str) {
        let result = self.post_body(BodyKind::Text, body.to_owned());
        assert_eq!(result, Ok(()), "{body:?}");
    }

    fn post_body(&mut self, kind: BodyKind, body: impl Into<Bytes>) -> Result<(), Refusal> {
        let id = self.session.handle_post_start(self.now)?;
        self.session.handle_post(self.now, id, kind, body.into())
    }

    fn candidate(&mut self) -> TransportId {
        self.session.handle_ws_open(self.now).expect("not refused")
    }

    fn ws_text(&mut self, id: TransportId, text: &str) {
        let content = Message::Text(Text::from(text));
        self.session.handle_ws_message(self.now, id, content);
    }

    /// A text on the session's WebSocket.
    fn ws(&mut self, text: &str) {
        self.ws_text(self.session.current_transport(), text);
    }

    fn detach(&mut self, id: TransportId, why: Detached) {
        self.session.handle_detached(self.now, id, why);
    }

    fn send(&mut self, text: &str) {
        self.session.send(Encoded::text(text));
    }

    fn close(&mut self, reason: CloseReason) {
        self.session.close(self.now, reason);
    }

    /// Lets time pass, with every deadline on the way taking effect at its moment.
    fn pass(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        while let Some(next) = self.session.poll_timeout().filter(|next| *next <= end) {
            assert!(next >= self.now, "timers never run backwards");
            self.now = next;
            self.session.handle_timeout(next);
        }
        self.now = end;
    }

    /// Lets time pass without a look at the deadlines before its end.
    fn oversleep(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        self.session.handle_timeout(self.now);
    }

    /// What there is to transmit, as text: `get <body>`, `ws <packet>`, `close ws`.
    fn out(&mut self) -> String {
        let mut out = Vec::new();
        while let Some(transmit) = self.session.poll_transmit(self.now) {
            out.push(match transmit {
                Transmit::PollBody { body, .. } => format!(
                    "get {}",
                    String::from_utf8_lossy(&body.bytes).replace('\u{1e}', " ")
                ),
                Transmit::WebSocket { packet, .. } => {
                    let control = packet.control();
                    let control = control.map(|(digit, data)| format!("{digit}{data}"));
                    let frames = packet
                        .frames()
                        .map(|frame| String::from_utf8_lossy(frame.data()).into_owned());
                    let texts: Vec<String> = control.into_iter().chain(frames).collect();
                    format!("ws {}", texts.join(" "))
                }
                Transmit::CloseWebSocket { .. } => "close ws".to_owned(),
            });
        }
        out.join(" | ")
    }

    /// What the layer above is told, as text.
    fn events(&mut self) -> String {
        let mut events = Vec::new();
        while let Some(event) = self.session.poll_event() {
            events.push(match event {
                Event::Message(Message::Text(text)) => text.to_string(),
                Event::Message(Message::Binary(data)) => format!("{data:?}"),
                Event::Upgraded => "upgraded".to_owned(),
                Event::Closed(reason) => format!("closed: {}", reason.engine_reason()),
            });
        }
        events.join(" | ")
    }

    /// Moves the session to a WebSocket.
    fn upgrade(&mut self) -> TransportId {
        let id = self.candidate();
        self.ws_text(id, "2probe");
        assert!(self.out().starts_with("ws 3probe"));
        self.ws_text(id, "5");
        assert_eq!(self.events(), "upgraded");
        id
    }
}

#[test]
fn the_diagram_of_the_phases_is_their_code() {
    let states = [
        ("Open", Phase::Open),
        ("Closing", Phase::Closing),
        ("Closed", Phase::Closed),
    ];
    let table = transitions(
        &states,
        &[
            Input("drain", |phase| phase.drain().to_string()),
            Input("finish", |phase| format!("was {:?}", phase.finish())),
        ],
    );
    assert_eq!(
        table,
        "Open drain -> Closing true\n\
         Open finish -> Closed was Open\n\
         Closing drain -> Closing false\n\
         Closing finish -> Closed was Closing\n\
         Closed drain -> Closed false\n\
         Closed finish -> Closed was Closed\n"
    );
}

#[test]
fn an_idle_session_is_small() {
    let size = size_of::<Session>();
    assert!(size < 300, "{size} bytes, and no heap when idle");
}

#[test]
fn traffic_is_counted() {
    let mut fixture = Fixture::open(ProtocolVersion::V4, Transport::WebSocket);
    let before = *fixture.session.stats();
    assert_eq!(before.packets_out, 1);
    fixture.send("hello");
    fixture.out();
    fixture.ws("4hi");
    let after = fixture.session.stats();
    assert_eq!(after.packets_out, 2);
    assert_eq!(after.bytes_out - before.bytes_out, 6);
    assert_eq!((after.packets_in, after.bytes_in), (1, 3));
}

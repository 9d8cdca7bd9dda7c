//! Counters of one registry, shared by all mounts of a server.

use engineio_proto::{CloseReason, ProtocolVersion, Transport};
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// The engine's metrics; create them once with [`Metrics::register`] and share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    closed: IntCounterVec,
    upgrades: IntCounterVec,
    messages: IntCounterVec,
    bytes: IntCounterVec,
    refused: IntCounterVec,
    outbox_overflows: IntCounter,
    dropped: IntCounterVec,
    parked_polls: IntGauge,
    /// Of every transport and protocol, as [`Metrics::of`] finds them: to look labels up takes
    /// longer than to count.
    kinds: [Kind; 4],
}

/// The sessions of one transport and protocol.
#[derive(Clone, Debug)]
struct Kind {
    open: IntGauge,
    opened: IntCounter,
}

/// The labels of all close reasons.
const CLOSE_REASONS: [&str; 12] = [
    "transport_close",
    "transport_error",
    "ping_timeout",
    "parse_error",
    "peer_violation",
    "invalid_message",
    "forced_close",
    "slow_consumer",
    "server_shutdown",
    "connect_timeout",
    "rate_limited",
    "memory_budget",
];

/// The labels of all refusals: error codes, and what is answered without one.
const REFUSALS: [&str; 13] = [
    "0",
    "1",
    "2",
    "3",
    "4",
    "5",
    "empty",
    "too_large",
    "unavailable",
    "origin",
    "rate",
    "address_rate",
    "address_sessions",
];

/// What [`Metrics::of`] tells apart, in its order.
const KINDS: [(Transport, ProtocolVersion); 4] = [
    (Transport::Polling, ProtocolVersion::V3),
    (Transport::Polling, ProtocolVersion::V4),
    (Transport::WebSocket, ProtocolVersion::V3),
    (Transport::WebSocket, ProtocolVersion::V4),
];

/// Which way something went, as a label.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Direction {
    In,
    Out,
}

impl Direction {
    fn label(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// Messages and bytes of one session's transport, resolved once for the hot path.
#[derive(Clone, Debug)]
pub(crate) struct Traffic {
    pub(crate) messages_in: IntCounter,
    pub(crate) messages_out: IntCounter,
    pub(crate) bytes_in: IntCounter,
    pub(crate) bytes_out: IntCounter,
}

impl Metrics {
    /// Creates the metrics and registers them.
    ///
    /// # Errors
    /// When the registry holds metrics of these names already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let sessions = IntGaugeVec::new(
            Opts::new("sockhop_engine_sessions", "Open sessions."),
            &["transport", "protocol"],
        )?;
        registry.register(Box::new(sessions.clone()))?;
        let parked_polls = IntGauge::new("sockhop_engine_parked_polls", "GETs that wait.")?;
        registry.register(Box::new(parked_polls.clone()))?;
        let outbox_overflows = IntCounter::new(
            "sockhop_engine_outbox_overflows_total",
            "Sessions closed because their outbox was full.",
        )?;
        registry.register(Box::new(outbox_overflows.clone()))?;
        let opened = counters(
            "sockhop_engine_sessions_opened_total",
            "Sessions opened.",
            &["transport", "protocol"],
        )?;
        let kinds = KINDS.map(|(transport, version)| {
            let labels = [transport.name(), protocol_label(version)];
            Kind {
                open: sessions.with_label_values(&labels),
                opened: opened.with_label_values(&labels),
            }
        });
        let metrics = Self {
            kinds,
            closed: counters(
                "sockhop_engine_sessions_closed_total",
                "Sessions ended.",
                &["reason"],
            )?,
            upgrades: counters(
                "sockhop_engine_upgrades_total",
                "Moves from polling to WebSocket.",
                &["result"],
            )?,
            messages: counters(
                "sockhop_engine_packets_total",
                "Message packets.",
                &["direction", "transport"],
            )?,
            bytes: counters(
                "sockhop_engine_bytes_total",
                "Bytes of message packets (in) and of bodies and frames (out).",
                &["direction", "transport"],
            )?,
            refused: counters(
                "sockhop_engine_requests_refused_total",
                "Requests answered with an error, by its code.",
                &["code"],
            )?,
            outbox_overflows,
            dropped: counters(
                "sockhop_engine_dropped_total",
                "Packets that reached nobody.",
                &["reason"],
            )?,
            parked_polls,
        };
        metrics.begin_at_zero();
        Ok(metrics)
    }

    /// A series that appears with its first event has no rate at that event.
    fn begin_at_zero(&self) {
        for transport in ["polling", "websocket"] {
            for direction in [Direction::In, Direction::Out] {
                let labels = [direction.label(), transport];
                self.messages.with_label_values(&labels);
                self.bytes.with_label_values(&labels);
            }
        }
        let begin = |counters: &IntCounterVec, labels: &[&str]| {
            for label in labels {
                counters.with_label_values(&[*label]);
            }
        };
        begin(&self.closed, &CLOSE_REASONS);
        begin(&self.upgrades, &["completed", "refused", "abandoned"]);
        begin(&self.refused, &REFUSALS);
        begin(&self.dropped, &["transport_gone", "session_closed"]);
    }

    fn of(&self, transport: Transport, version: ProtocolVersion) -> &Kind {
        let [polling_v3, polling_v4, websocket_v3, websocket_v4] = &self.kinds;
        match (transport, version) {
            (Transport::Polling, ProtocolVersion::V3) => polling_v3,
            (Transport::Polling, ProtocolVersion::V4) => polling_v4,
            (Transport::WebSocket, ProtocolVersion::V3) => websocket_v3,
            (Transport::WebSocket, ProtocolVersion::V4) => websocket_v4,
        }
    }

    /// Sessions that are open now, of all mounts that share these metrics.
    #[must_use]
    pub fn open_sessions(&self) -> u64 {
        let open: i64 = self.kinds.iter().map(|kind| kind.open.get()).sum();
        // An upgrade between two reads may hide a session, or show it twice.
        open.try_into().unwrap_or(0)
    }

    pub(crate) fn opened(&self, transport: Transport, version: ProtocolVersion) {
        let kind = self.of(transport, version);
        kind.opened.inc();
        kind.open.inc();
    }

    pub(crate) fn upgraded(&self, version: ProtocolVersion) {
        self.of(Transport::Polling, version).open.dec();
        self.of(Transport::WebSocket, version).open.inc();
        self.upgrades.with_label_values(&["completed"]).inc();
    }

    pub(crate) fn upgrade_refused(&self) {
        self.upgrades.with_label_values(&["refused"]).inc();
    }

    pub(crate) fn upgrade_abandoned(&self) {
        self.upgrades.with_label_values(&["abandoned"]).inc();
    }

    pub(crate) fn closed(&self, transport: Transport, version: ProtocolVersion) {
        self.of(transport, version).open.dec();
    }

    pub(crate) fn close_reason(&self, reason: &CloseReason) {
        self.closed.with_label_values(&[reason.label()]).inc();
        if matches!(reason, CloseReason::SlowConsumer) {
            self.outbox_overflows.inc();
        }
    }

    /// `code` is the number of the JSON answer, or what was answered instead.
    pub(crate) fn refused(&self, code: &str) {
        self.refused.with_label_values(&[code]).inc();
    }

    pub(crate) fn dropped(&self, reason: &str, packets: u64) {
        self.dropped.with_label_values(&[reason]).inc_by(packets);
    }

    pub(crate) fn parked_polls(&self) -> &IntGauge {
        &self.parked_polls
    }

    pub(crate) fn traffic(&self, transport: Transport) -> Traffic {
        let counter = |vec: &IntCounterVec, direction: Direction| {
            vec.with_label_values(&[direction.label(), transport.name()])
        };
        Traffic {
            messages_in: counter(&self.messages, Direction::In),
            messages_out: counter(&self.messages, Direction::Out),
            bytes_in: counter(&self.bytes, Direction::In),
            bytes_out: counter(&self.bytes, Direction::Out),
        }
    }
}

fn protocol_label(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::V3 => "3",
        ProtocolVersion::V4 => "4",
    }
}

/// Counted during a turn and added to the shared counters at its end.
#[derive(Default)]
pub(crate) struct TrafficDelta {
    pub(crate) messages_in: u64,
    pub(crate) messages_out: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

impl TrafficDelta {
    /// Adds what was counted to `counters`, and begins anew.
    pub(crate) fn flush(&mut self, counters: &Traffic) {
        let delta = std::mem::take(self);
        for (counter, amount) in [
            (&counters.messages_in, delta.messages_in),
            (&counters.messages_out, delta.messages_out),
            (&counters.bytes_in, delta.bytes_in),
            (&counters.bytes_out, delta.bytes_out),
        ] {
            if amount > 0 {
                counter.inc_by(amount);
            }
        }
    }
}

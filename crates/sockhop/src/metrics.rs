//! Counters of the Socket.IO layer.

use std::sync::{Arc, Weak};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use socketio_proto::ClientStats;
use sockhop_adapter::{Cluster, Counter, Stats};

use crate::error::DisconnectReason;

const DISCONNECT_REASONS: [DisconnectReason; 9] = [
    DisconnectReason::TransportError,
    DisconnectReason::TransportClose,
    DisconnectReason::ForcedClose,
    DisconnectReason::PingTimeout,
    DisconnectReason::ParseError,
    DisconnectReason::ServerShuttingDown,
    DisconnectReason::ForcedServerClose,
    DisconnectReason::ClientNamespaceDisconnect,
    DisconnectReason::ServerNamespaceDisconnect,
];

const DROP_REASONS: [&str; 7] = [
    "volatile",
    "unknown_ack",
    "crossed_disconnect",
    "repeated_connect",
    "no_handler",
    "too_many_acks",
    "rate",
];

/// The labels of [`crate::HandlerError`].
const HANDLER_ERRORS: [&str; 5] = ["payload", "failed", "panicked", "refused", "backlog"];

/// Counters of one server; no label names a room, an event, a namespace or a socket.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    sockets: IntGauge,
    connects: IntCounterVec,
    disconnects: IntCounterVec,
    events: IntCounter,
    dropped: IntCounterVec,
    handler_errors: IntCounterVec,
    violations: IntCounter,
}

impl Metrics {
    pub(crate) fn register(
        registry: &Registry,
        stats: &Arc<Stats>,
    ) -> Result<Self, prometheus::Error> {
        registry.register(Box::new(AdapterCollector::new(Arc::clone(stats))?))?;
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let counters = |name: &str, help: &str, label: &str| {
            let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let sockets = IntGauge::new("sockhop_sockets", "Clients in namespaces.")?;
        registry.register(Box::new(sockets.clone()))?;
        let metrics = Self {
            sockets,
            connects: counters(
                "sockhop_connects_total",
                "Clients let in or refused.",
                "result",
            )?,
            disconnects: counters("sockhop_disconnects_total", "Sockets that left.", "reason")?,
            events: counter("sockhop_events_received_total", "Events from clients.")?,
            dropped: counters(
                "sockhop_dropped_total",
                "Packets that reached nobody.",
                "reason",
            )?,
            handler_errors: counters("sockhop_handler_errors_total", "Failed handlers.", "kind")?,
            violations: counter(
                "sockhop_violations_total",
                "Sessions closed for what they sent.",
            )?,
        };
        metrics.begin_at_zero();
        Ok(metrics)
    }

    /// A series that appears with its first event has no rate at that event.
    fn begin_at_zero(&self) {
        let begin = |counters: &IntCounterVec, labels: &[&str]| {
            for label in labels {
                counters.with_label_values(&[*label]);
            }
        };
        begin(&self.connects, &["accepted", "refused"]);
        begin(
            &self.disconnects,
            &DISCONNECT_REASONS.map(DisconnectReason::as_str),
        );
        begin(&self.dropped, &DROP_REASONS);
        begin(&self.handler_errors, &HANDLER_ERRORS);
    }

    pub(crate) fn connected(&self) {
        self.sockets.inc();
        self.connects.with_label_values(&["accepted"]).inc();
    }

    pub(crate) fn refused(&self) {
        self.connects.with_label_values(&["refused"]).inc();
    }

    pub(crate) fn disconnected(&self, reason: DisconnectReason) {
        self.sockets.dec();
        self.disconnects.with_label_values(&[reason.as_str()]).inc();
    }

    pub(crate) fn event(&self) {
        self.events.inc();
    }

    pub(crate) fn dropped_volatile(&self) {
        self.dropped.with_label_values(&["volatile"]).inc();
    }

    /// What a client sent in vain, told at the end of its session.
    pub(crate) fn ignored(&self, stats: &ClientStats) {
        for (reason, packets) in [
            ("unknown_ack", stats.unknown_acks),
            ("crossed_disconnect", stats.crossed_packets),
            ("repeated_connect", stats.repeated_connects),
        ] {
            if packets > 0 {
                self.dropped
                    .with_label_values(&[reason])
                    .inc_by(packets.into());
            }
        }
    }

    pub(crate) fn dropped_without_handler(&self) {
        self.dropped.with_label_values(&["no_handler"]).inc();
    }

    pub(crate) fn dropped_server_event(&self) {
        self.dropped.with_label_values(&["no_server_handler"]).inc();
    }

    pub(crate) fn dropped_over_rate(&self) {
        self.dropped.with_label_values(&["rate"]).inc();
    }

    pub(crate) fn dropped_with_ack(&self) {
        self.dropped.with_label_values(&["too_many_acks"]).inc();
    }

    pub(crate) fn handler_error(&self, kind: &str) {
        self.handler_errors.with_label_values(&[kind]).inc();
    }

    pub(crate) fn violation(&self) {
        self.violations.inc();
    }
}

/// Shows how the cluster is, asked when somebody reads.
pub(crate) struct ClusterCollector {
    /// The registry outlives its server.
    cluster: Weak<Cluster>,
    members: IntGauge,
    pending: IntGauge,
    served: IntGauge,
}

impl ClusterCollector {
    pub(crate) fn register(
        cluster: &Arc<Cluster>,
        registry: &Registry,
    ) -> Result<(), prometheus::Error> {
        let collector = Self {
            cluster: Arc::downgrade(cluster),
            members: IntGauge::new(
                "sockhop_adapter_members",
                "Nodes of the cluster, this one included.",
            )?,
            pending: IntGauge::new(
                "sockhop_adapter_requests_pending",
                "Queries that wait for answers of other nodes.",
            )?,
            served: IntGauge::new(
                "sockhop_adapter_requests_in_work",
                "Queries of other nodes that are being answered.",
            )?,
        };
        registry.register(Box::new(collector))
    }

    fn gauges(&self) -> [&IntGauge; 3] {
        [&self.members, &self.pending, &self.served]
    }
}

impl Collector for ClusterCollector {
    fn desc(&self) -> Vec<&Desc> {
        let gauges = self.gauges();
        gauges.into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        if let Some(cluster) = self.cluster.upgrade() {
            let status = cluster.status();
            for (gauge, value) in [
                (&self.members, status.members),
                (&self.pending, status.requests),
                (&self.served, status.serving),
            ] {
                gauge.set(value.try_into().unwrap_or(i64::MAX));
            }
        }
        let gauges = self.gauges();
        gauges.into_iter().flat_map(Collector::collect).collect()
    }
}

/// Reads one counter of the adapter.
type Read = fn(&Stats) -> &Counter;

/// What the adapter counts, by the names of its metrics.
const ADAPTER_COUNTERS: &[(&str, &str, Read)] = &[
    ("broadcasts_total", "Broadcasts begun on this node.", |s| {
        &s.broadcasts
    }),
    ("deliveries_total", "Packets queued by broadcasts.", |s| {
        &s.deliveries
    }),
    (
        "volatile_dropped_total",
        "Volatile packets for busy clients.",
        |s| &s.volatile_dropped,
    ),
    (
        "overflows_total",
        "Packets for sessions over budget.",
        |s| &s.overflows,
    ),
    (
        "late_total",
        "Packets for sessions that had just ended.",
        |s| &s.late,
    ),
    (
        "rooms_refused_total",
        "Joins over the limit of rooms.",
        |s| &s.rooms_refused,
    ),
    ("names_refused_total", "Joins of overlong names.", |s| {
        &s.names_refused
    }),
    (
        "bus_published_total",
        "Broadcasts handed to the bus.",
        |s| &s.published,
    ),
    (
        "bus_publish_failures_total",
        "Broadcasts the bus refused.",
        |s| &s.publish_failures,
    ),
    (
        "bus_published_bytes_total",
        "Bytes of broadcasts handed to the bus.",
        |s| &s.published_bytes,
    ),
    ("bus_received_total", "Messages of other nodes.", |s| {
        &s.received
    }),
    (
        "bus_discarded_total",
        "Messages that nobody here wants.",
        |s| &s.discarded,
    ),
    (
        "bus_duplicates_total",
        "Further copies of messages, dropped.",
        |s| &s.duplicates,
    ),
    (
        "bus_strays_total",
        "Messages passed on for rooms that look like ids of this node.",
        |s| &s.strays,
    ),
    (
        "bus_own_total",
        "Messages of this node that came back to it.",
        |s| &s.own,
    ),
    (
        "bus_received_bytes_total",
        "Bytes of all frames of the bus.",
        |s| &s.received_bytes,
    ),
    ("requests_total", "Queries sent to other nodes.", |s| {
        &s.requests
    }),
    (
        "requests_refused_total",
        "Queries over the limit of those that wait.",
        |s| &s.requests_refused,
    ),
    ("requests_served_total", "Queries of other nodes.", |s| {
        &s.requests_served
    }),
    (
        "requests_ignored_total",
        "Queries of other nodes over the limit.",
        |s| &s.requests_ignored,
    ),
    (
        "missing_answers_total",
        "Nodes whose answers to queries were missing.",
        |s| &s.missing_answers,
    ),
    (
        "late_answers_total",
        "Answers that nobody waited for.",
        |s| &s.late_answers,
    ),
    (
        "members_refused_total",
        "Nodes over the limit of members.",
        |s| &s.members_refused,
    ),
    (
        "bus_bad_frames_total",
        "Messages that nobody can read.",
        |s| &s.bad_frames,
    ),
    (
        "transcoded_total",
        "Packets written anew for another parser.",
        |s| &s.transcoded,
    ),
];

/// Shows the adapter's own counters: its crate knows nothing of metrics.
struct AdapterCollector {
    stats: Arc<Stats>,
    counters: Vec<(IntCounter, Read)>,
}

impl AdapterCollector {
    fn new(stats: Arc<Stats>) -> Result<Self, prometheus::Error> {
        let counters = ADAPTER_COUNTERS.iter().map(|&(name, help, read)| {
            Ok((
                IntCounter::new(format!("sockhop_adapter_{name}"), help)?,
                read,
            ))
        });
        Ok(Self {
            stats,
            counters: counters.collect::<Result<_, prometheus::Error>>()?,
        })
    }
}

impl Collector for AdapterCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.counters
            .iter()
            .flat_map(|(counter, _)| counter.desc())
            .collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let read = |(counter, read): &(IntCounter, Read)| {
            // Scrapes may overlap; each shows a value that was true a moment ago.
            counter.reset();
            counter.inc_by(read(&self.stats).get());
            counter.collect()
        };
        self.counters.iter().flat_map(read).collect()
    }
}

//! What the bus counts.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// The counters of a [`RedisBus`](crate::RedisBus).
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) published: IntCounter,
    pub(crate) published_bytes: IntCounter,
    pub(crate) received: IntCounter,
    pub(crate) received_bytes: IntCounter,
    pub(crate) writes: IntCounter,
    pub(crate) subscription_commands: IntCounter,
    pub(crate) moved: IntCounter,
    pub(crate) subscriptions: IntGauge,
    pub(crate) link_up: IntGauge,
    pub(crate) canary: Histogram,
    dropped: IntCounterVec,
    queue_bytes: IntGaugeVec,
    connects: IntCounterVec,
    disconnects: IntCounterVec,
}

/// Why a frame was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dropped {
    FrameTooLarge,
    QueueFull,
    LinkDown,
    ConnectionLost,
    Refused,
    IncomingFull,
    ChannelName,
}

impl Dropped {
    const ALL: [Self; 7] = [
        Self::FrameTooLarge,
        Self::QueueFull,
        Self::LinkDown,
        Self::ConnectionLost,
        Self::Refused,
        Self::IncomingFull,
        Self::ChannelName,
    ];

    const fn reason(self) -> &'static str {
        match self {
            Self::FrameTooLarge => "frame_too_large",
            Self::QueueFull => "queue_full",
            Self::LinkDown => "link_down",
            Self::ConnectionLost => "connection_lost",
            Self::Refused => "refused",
            Self::IncomingFull => "incoming_full",
            Self::ChannelName => "channel_name",
        }
    }
}

impl Metrics {
    /// Makes the counters and registers them, as `sockhop_bus_…`.
    ///
    /// # Errors
    /// The registry has metrics of these names.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| registered(registry, IntCounter::new(name, help));
        let counters = |name: &str, help: &str, labels: &[&str]| {
            registered(registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let gauge = |name: &str, help: &str| registered(registry, IntGauge::new(name, help));
        // From a loopback's 50 microseconds to the moment at which the link counts as down.
        let buckets = prometheus::exponential_buckets(0.000_05, 2.0, 16)?;
        let canary = HistogramOpts::new(
            "sockhop_bus_canary_round_trip_seconds",
            "From publishing a message to ourselves until it came back.",
        );
        let metrics = Self {
            published: counter(
                "sockhop_bus_published_total",
                "Messages queued for the bus.",
            )?,
            published_bytes: counter(
                "sockhop_bus_published_bytes_total",
                "Bytes of messages queued for the bus.",
            )?,
            received: counter(
                "sockhop_bus_received_total",
                "Messages received from the bus.",
            )?,
            received_bytes: counter(
                "sockhop_bus_received_bytes_total",
                "Bytes of messages received from the bus.",
            )?,
            writes: counter(
                "sockhop_bus_batches_total",
                "Batches in which messages left for the bus.",
            )?,
            subscription_commands: counter(
                "sockhop_bus_subscription_commands_total",
                "Commands that changed subscriptions.",
            )?,
            moved: counter(
                "sockhop_bus_moved_total",
                "Subscriptions that a Redis Cluster took from a server.",
            )?,
            subscriptions: gauge(
                "sockhop_bus_subscriptions",
                "Channels and patterns subscribed.",
            )?,
            link_up: gauge(
                "sockhop_bus_link_up",
                "1 while this node hears itself over every subscription connection.",
            )?,
            canary: registered(registry, Histogram::with_opts(canary.buckets(buckets)))?,
            dropped: counters(
                "sockhop_bus_dropped_total",
                "Messages that did not reach the bus, or not this node from it.",
                &["reason"],
            )?,
            queue_bytes: registered(
                registry,
                IntGaugeVec::new(
                    Opts::new("sockhop_bus_queue_bytes", "Bytes that wait."),
                    &["direction"],
                ),
            )?,
            connects: counters(
                "sockhop_bus_connects_total",
                "Attempts to connect.",
                &["connection", "result"],
            )?,
            disconnects: counters(
                "sockhop_bus_disconnects_total",
                "Connections that were lost or given up.",
                &["connection", "reason"],
            )?,
        };
        metrics.begin_at_zero();
        Ok(metrics)
    }

    /// A series that appears with its first event has no rate at that event.
    fn begin_at_zero(&self) {
        for dropped in Dropped::ALL {
            self.dropped(dropped, 0);
        }
        for direction in ["out", "in"] {
            self.queue_bytes.with_label_values(&[direction]);
        }
        for connection in ["publish", "subscribe"] {
            for result in ["ok", "failed"] {
                self.connects.with_label_values(&[connection, result]);
            }
            for reason in [
                "closed", "io", "protocol", "refused", "timeout", "canary", "moved",
            ] {
                self.disconnects.with_label_values(&[connection, reason]);
            }
        }
    }

    pub(crate) fn dropped(&self, dropped: Dropped, messages: usize) {
        self.dropped
            .with_label_values(&[dropped.reason()])
            .inc_by(messages as u64);
    }

    pub(crate) fn connect(&self, connection: &str, ok: bool) {
        let result = if ok { "ok" } else { "failed" };
        self.connects.with_label_values(&[connection, result]).inc();
    }

    pub(crate) fn disconnect(&self, connection: &str, reason: &str) {
        self.disconnects
            .with_label_values(&[connection, reason])
            .inc();
    }

    pub(crate) fn round_trip(&self, time: Duration) {
        self.canary.observe(time.as_secs_f64());
    }

    pub(crate) fn outgoing_bytes(&self) -> IntGauge {
        self.queue_bytes.with_label_values(&["out"])
    }

    pub(crate) fn incoming_bytes(&self) -> IntGauge {
        self.queue_bytes.with_label_values(&["in"])
    }
}

fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    made: Result<C, prometheus::Error>,
) -> Result<C, prometheus::Error> {
    let collector = made?;
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_is_there_before_its_first_event() {
        let registry = Registry::new();
        Metrics::register(&registry).unwrap();
        let families = registry.gather();
        assert_eq!(families.len(), 14);
        assert!(
            families
                .iter()
                .all(|family| !family.get_metric().is_empty())
        );
        assert!(Metrics::register(&registry).is_err());
    }
}

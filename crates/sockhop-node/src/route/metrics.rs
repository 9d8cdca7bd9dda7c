//! What became of requests for other nodes, and of those that came from them.

use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

/// What became of a request for a session of another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The owner answered, whatever it said.
    Answered,
    /// The owner took the WebSocket.
    Upgraded,
    /// No live member has the tag.
    UnknownOwner,
    /// The owner could not be connected to.
    Unreachable,
    /// The owner did not believe that a member asks.
    Refused,
    /// The connection to the owner broke before its answer.
    Failed,
    /// The owner was given up, or said goodbye, before its answer.
    OwnerLeft,
    /// The owner did not answer in time.
    TimedOut,
    /// The client went away before the answer.
    Aborted,
    /// Too many are under way.
    Busy,
    /// It had been passed on before.
    Hopped,
}

impl Outcome {
    const ALL: [Self; 11] = [
        Self::Answered,
        Self::Upgraded,
        Self::UnknownOwner,
        Self::Unreachable,
        Self::Refused,
        Self::Failed,
        Self::OwnerLeft,
        Self::TimedOut,
        Self::Aborted,
        Self::Busy,
        Self::Hopped,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Upgraded => "upgraded",
            Self::UnknownOwner => "unknown_owner",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::OwnerLeft => "owner_left",
            Self::TimedOut => "timed_out",
            Self::Aborted => "aborted",
            Self::Busy => "busy",
            Self::Hopped => "hopped",
        }
    }
}

/// The counters of routing.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    forwarded: IntCounterVec,
    in_flight: IntGaugeVec,
    received: IntCounterVec,
}

impl Metrics {
    /// Creates the metrics and registers them.
    ///
    /// # Errors
    /// When the registry holds metrics of these names already.
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let forwarded = IntCounterVec::new(
            Opts::new(
                "sockhop_route_forwarded_total",
                "Requests for sessions of other nodes.",
            ),
            &["outcome"],
        )?;
        let in_flight = IntGaugeVec::new(
            Opts::new(
                "sockhop_route_in_flight",
                "Requests and WebSockets under way to other nodes.",
            ),
            &["kind"],
        )?;
        let received = IntCounterVec::new(
            Opts::new(
                "sockhop_route_received_total",
                "Requests at the private listener.",
            ),
            &["result"],
        )?;
        registry.register(Box::new(forwarded.clone()))?;
        registry.register(Box::new(in_flight.clone()))?;
        registry.register(Box::new(received.clone()))?;
        // A series that appears with its first event has no rate at that event.
        for outcome in Outcome::ALL {
            forwarded.with_label_values(&[outcome.label()]);
        }
        for kind in ["request", "websocket"] {
            in_flight.with_label_values(&[kind]);
        }
        for result in ["forbidden", "not_found", "served"] {
            received.with_label_values(&[result]);
        }
        Ok(Self {
            forwarded,
            in_flight,
            received,
        })
    }

    pub(crate) fn forwarded(&self, outcome: Outcome) {
        self.forwarded.with_label_values(&[outcome.label()]).inc();
    }

    pub(crate) fn in_flight(&self, kind: &str, change: i64) {
        self.in_flight.with_label_values(&[kind]).add(change);
    }

    pub(crate) fn received(&self, result: &str) {
        self.received.with_label_values(&[result]).inc();
    }
}

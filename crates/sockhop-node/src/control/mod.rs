//! What operators and their probes ask a node: alive, ready, metrics.

mod lateness;
mod ready;

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use prometheus::{Encoder, IntGauge, Registry, TextEncoder};

pub(crate) use lateness::watch_lateness;
pub(crate) use ready::{Phase, Readiness, watch_cluster};

use crate::http::{Answer, Site, body, status};

const JSON: &str = "application/json";

/// The state of a node for those who operate it.
pub(crate) struct Control {
    registry: Registry,
    ready: Readiness,
    ready_gauge: IntGauge,
    draining_gauge: IntGauge,
    members_gauge: IntGauge,
}

impl Control {
    /// Shows what is in `registry`, and whether `ready`.
    ///
    /// # Errors
    /// When the registry holds metrics of these names already.
    pub(crate) fn new(registry: Registry, ready: Readiness) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        Ok(Self {
            ready_gauge: gauge("sockhop_node_ready", "Whether the node is ready: 1 or 0.")?,
            draining_gauge: gauge(
                "sockhop_node_draining_seconds",
                "For how long the node has been draining; 0 while it is not.",
            )?,
            members_gauge: gauge(
                "sockhop_node_members",
                "Nodes of the cluster that this one knows, itself included.",
            )?,
            registry,
            ready,
        })
    }

    pub(crate) fn phase(&self, phase: Phase) {
        self.ready.enter(phase);
    }

    /// The answer of a node that is alive.
    pub(crate) fn health(&self) -> Answer {
        body(JSON, Bytes::from_static(b"{\"status\":\"ok\"}"))
    }

    /// 200 when clients should be sent here, 503 otherwise; why not is in the body.
    pub(crate) fn readiness(&self) -> Answer {
        let report = self.ready.report();
        let mut answer = body(JSON, report.json());
        if !report.is_ready() {
            *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        answer
    }

    /// All metrics as Prometheus reads them.
    pub(crate) fn metrics(&self) -> Answer {
        let report = self.ready.report();
        self.ready_gauge.set(report.is_ready().into());
        let members = report.members();
        self.members_gauge
            .set(members.try_into().unwrap_or(i64::MAX));
        let draining = self.ready.draining_for().as_secs();
        self.draining_gauge
            .set(draining.try_into().unwrap_or(i64::MAX));
        let mut text = Vec::new();
        match TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            Ok(()) => body("text/plain; version=0.0.4; charset=utf-8", text),
            Err(error) => {
                tracing::error!(%error, "metrics cannot be written");
                status(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }
}

/// The control listener: nothing for clients.
pub(crate) struct ControlSite(pub(crate) Arc<Control>);

impl Site for ControlSite {
    async fn respond(self: Arc<Self>, request: Request<Incoming>) -> Answer {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return status(StatusCode::METHOD_NOT_ALLOWED);
        }
        match request.uri().path() {
            "/healthz" => self.0.health(),
            "/readyz" => self.0.readiness(),
            "/metrics" => self.0.metrics(),
            _ => status(StatusCode::NOT_FOUND),
        }
    }
}

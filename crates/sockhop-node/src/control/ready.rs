//! Whether clients should be sent to this node, and why not.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use sockhop::{Link, Server};

/// Where a node is in its life.
///
/// ```text
/// Starting ──► Serving ──► Draining
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not all listeners are bound.
    Starting,
    /// Serving.
    Serving,
    /// Somebody asked it to end.
    Draining,
}

/// What the cluster says about this node.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct ClusterView {
    /// This node among them.
    pub(crate) members: usize,
    /// Why the node is deaf, or about to be; empty when it is not.
    #[serde(skip)]
    pub(crate) faults: Vec<String>,
}

type AskCluster = Box<dyn Fn() -> ClusterView + Send + Sync>;

/// Asks `server` about its cluster on every report. Costs nothing on the bus.
pub(crate) fn watch_cluster(server: Server) -> AskCluster {
    Box::new(move || {
        let status = server.cluster_status();
        let mut faults = Vec::new();
        match status.link {
            Link::Up if !status.settled => {
                faults.push("the other nodes have not been heard yet".to_owned());
            }
            Link::Up => {}
            Link::Down { since } => faults.push(format!(
                "the link to the other nodes has been down for {} ms",
                since.elapsed().as_millis()
            )),
        }
        ClusterView {
            members: status.members,
            faults,
        }
    })
}

/// The truth about a node, from its phase and from the cluster.
pub(crate) struct Readiness {
    phase: Mutex<(Phase, Instant)>,
    cluster: Option<AskCluster>,
}

/// The body of `/readyz`.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    status: &'static str,
    /// Why not; empty when ready.
    reasons: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<ClusterView>,
}

impl Readiness {
    /// A node that is starting; `cluster` is asked on every report, when there is one.
    pub(crate) fn new(cluster: Option<AskCluster>) -> Self {
        Self {
            phase: Mutex::new((Phase::Starting, Instant::now())),
            cluster,
        }
    }

    pub(crate) fn enter(&self, phase: Phase) {
        *self.phase() = (phase, Instant::now());
    }

    pub(crate) fn draining_for(&self) -> Duration {
        match *self.phase() {
            (Phase::Draining, since) => since.elapsed(),
            (Phase::Starting | Phase::Serving, _) => Duration::ZERO,
        }
    }

    pub(crate) fn report(&self) -> Report {
        let (phase, _) = *self.phase();
        let mut reasons = Vec::new();
        match phase {
            Phase::Starting => reasons.push("starting".to_owned()),
            Phase::Serving => {}
            Phase::Draining => reasons.push("draining".to_owned()),
        }
        let cluster = self.cluster.as_ref().map(|ask| ask());
        if let Some(view) = &cluster {
            reasons.extend_from_slice(&view.faults);
        }
        Report {
            status: if reasons.is_empty() {
                "ready"
            } else {
                "not ready"
            },
            reasons,
            cluster,
        }
    }

    fn phase(&self) -> MutexGuard<'_, (Phase, Instant)> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Report {
    pub(crate) fn is_ready(&self) -> bool {
        self.reasons.is_empty()
    }

    /// Nodes of the cluster; a node without one is alone.
    pub(crate) fn members(&self) -> usize {
        self.cluster.as_ref().map_or(1, |view| view.members)
    }

    pub(crate) fn json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and numbers become JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(readiness: &Readiness) -> String {
        String::from_utf8(readiness.report().json()).unwrap()
    }

    #[test]
    fn a_node_is_ready_only_between_its_start_and_its_end() {
        let readiness = Readiness::new(None);
        assert_eq!(
            json(&readiness),
            r#"{"status":"not ready","reasons":["starting"]}"#
        );
        readiness.enter(Phase::Serving);
        assert_eq!(json(&readiness), r#"{"status":"ready","reasons":[]}"#);
        assert_eq!(readiness.draining_for(), Duration::ZERO);
        readiness.enter(Phase::Draining);
        assert_eq!(
            json(&readiness),
            r#"{"status":"not ready","reasons":["draining"]}"#
        );
    }

    #[test]
    fn a_fault_of_the_cluster_is_told_in_its_words() {
        let ask = || ClusterView {
            members: 3,
            faults: vec!["the link is down".to_owned()],
        };
        let readiness = Readiness::new(Some(Box::new(ask)));
        readiness.enter(Phase::Serving);
        assert_eq!(
            json(&readiness),
            r#"{"status":"not ready","reasons":["the link is down"],"cluster":{"members":3}}"#
        );
    }
}

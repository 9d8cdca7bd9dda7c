//! What this node asks of others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use smallvec::SmallVec;

use super::answer::Request;
use super::core::{Cluster, NODES_TOPIC};
use super::gather::Call;
use super::requests::Enough;
use super::wire;
use crate::bus::{BusError, NodeId};

/// Which nodes are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// All other members.
    All,
    /// These.
    Some(SmallVec<[NodeId; 2]>),
}

impl Cluster {
    /// Asks nodes. Those that cannot be reached are missing at once.
    pub(crate) fn ask(
        self: &Arc<Self>,
        now: Instant,
        timeout: Duration,
        asked: &Asked,
        request: &Request,
    ) -> Call {
        let write = |number| wire::encode_request(self.node(), number, request);
        self.call(now, timeout, asked, Enough::Last, write)
    }

    /// Tells all other members something that needs no answer.
    ///
    /// # Errors
    /// Some or all of them will miss it.
    pub(crate) fn tell(&self, request: &Request) -> Result<(), BusError> {
        let number = self.next_sequence();
        let sent = wire::encode_request(self.node(), number, request)
            .and_then(|frame| self.bus().publish(NODES_TOPIC, frame));
        match sent {
            Ok(()) => self.stats().requests.add(1),
            Err(_) => self.stats().publish_failures.add(1),
        }
        sent
    }

    /// Sends what `write` writes to nodes, and waits for their answers.
    pub(crate) fn call(
        self: &Arc<Self>,
        now: Instant,
        timeout: Duration,
        asked: &Asked,
        enough: Enough,
        write: impl FnOnce(u64) -> Result<Bytes, BusError>,
    ) -> Call {
        let deadline = now + timeout;
        let nodes = match asked {
            Asked::All => self.others(),
            Asked::Some(nodes) => nodes.to_vec(),
        };
        let failed = |nodes| Call::failed(Arc::clone(self), deadline, nodes);
        if nodes.is_empty() {
            return failed(nodes);
        }
        let number = self.next_sequence();
        // Before it is sent: an answer may be here before `publish` returns.
        if !self.with_requests(|requests| requests.begin(number, &nodes, deadline, enough)) {
            self.stats().requests_refused.add(1);
            return failed(nodes);
        }
        let call = Call::waiting(Arc::clone(self), deadline, number);
        self.stats().requests.add(1);
        let sent = write(number).and_then(|frame| self.send(asked, &nodes, number, &frame));
        if sent.is_err() {
            self.stats().publish_failures.add(1);
            return failed(nodes);
        }
        call
    }

    fn send(
        &self,
        asked: &Asked,
        nodes: &[NodeId],
        number: u64,
        frame: &Bytes,
    ) -> Result<(), BusError> {
        if *asked == Asked::All {
            return self.bus().publish(NODES_TOPIC, frame.clone());
        }
        for &node in nodes {
            if self.bus().publish_to_node(node, frame.clone()).is_err() {
                self.with_requests(|requests| requests.miss(number, node));
            }
        }
        Ok(())
    }
}

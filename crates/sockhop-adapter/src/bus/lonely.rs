//! The bus of a node that will never have another beside it.

use std::future::ready;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::{Bus, BusError, Link, NodeId, Wait};

/// A bus without other nodes: nothing goes out, nothing comes in, and nothing needs to be written
/// for it.
#[derive(Clone, Copy, Debug)]
pub struct LonelyBus(NodeId);

impl LonelyBus {
    /// The bus of the node of this number.
    #[must_use]
    pub const fn new(node: NodeId) -> Self {
        Self(node)
    }
}

impl Bus for LonelyBus {
    fn node(&self) -> NodeId {
        self.0
    }

    fn is_alone(&self) -> bool {
        true
    }

    fn publish(&self, _: &str, _: Bytes) -> Result<(), BusError> {
        Ok(())
    }

    fn publish_to_node(&self, node: NodeId, _: Bytes) -> Result<(), BusError> {
        Err(BusError::UnknownNode(node))
    }

    fn subscribe(&self, _: &str) {}

    fn unsubscribe(&self, _: &str) {}

    fn synced(&self) -> Wait<()> {
        Box::pin(ready(()))
    }

    fn link(&self) -> Link {
        Link::Up
    }

    fn poll_incoming(&self, _: &mut Context<'_>) -> Poll<Vec<Bytes>> {
        Poll::Pending
    }
}

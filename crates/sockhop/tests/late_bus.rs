//! A bus on which subscriptions take their time, as they do over a network.

mod support;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use sockhop::{Bus, BusError, EngineConfig, Link, MemoryHub, NodeId, Parser, Server};
use support::{Client, answer_pings, serve, until};
use tokio::sync::watch;

/// A bus of a node that waits until it is told that its subscriptions are in force.
#[derive(Debug)]
struct LateBus {
    bus: Arc<dyn Bus>,
    in_force: watch::Receiver<bool>,
    asked: watch::Sender<usize>,
}

impl Bus for LateBus {
    fn node(&self) -> NodeId {
        self.bus.node()
    }

    fn publish(&self, topic: &str, frame: Bytes) -> Result<(), BusError> {
        self.bus.publish(topic, frame)
    }

    fn publish_to_node(&self, node: NodeId, frame: Bytes) -> Result<(), BusError> {
        self.bus.publish_to_node(node, frame)
    }

    fn subscribe(&self, topic: &str) {
        self.bus.subscribe(topic);
    }

    fn unsubscribe(&self, topic: &str) {
        self.bus.unsubscribe(topic);
    }

    fn synced(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let mut in_force = self.in_force.clone();
        self.asked.send_modify(|asked| *asked += 1);
        Box::pin(async move {
            let _ = in_force.wait_for(|in_force| *in_force).await;
        })
    }

    fn link(&self) -> Link {
        self.bus.link()
    }

    fn poll_incoming(&self, cx: &mut Context<'_>) -> Poll<Vec<Bytes>> {
        self.bus.poll_incoming(cx)
    }
}

#[tokio::test]
async fn nobody_is_let_in_before_broadcasts_of_other_nodes_would_reach_it() {
    let hub = MemoryHub::default();
    let (in_force, wait) = watch::channel(false);
    let (asked, how_often) = watch::channel(0);
    let bus = LateBus {
        bus: Arc::new(hub.attach(NodeId::new(1 << 40)).unwrap()),
        in_force: wait,
        asked,
    };
    let server = Server::builder().bus(Arc::new(bus)).build().unwrap();
    let service = server.mount(EngineConfig::default(), Parser::Json);
    let address = serve(&server, service).await;
    answer_pings(&server.of("/"));

    let mut joining = Box::pin(Client::connect(address, "/"));
    tokio::select! {
        _ = &mut joining => panic!("let in too early"),
        () = until("the server to wait for the bus", || *how_often.borrow() == 1) => {}
    }
    in_force.send_replace(true);
    joining.await.settle().await;
    // Whoever comes later need not wait.
    Client::connect(address, "/").await.settle().await;
    assert_eq!(*how_often.borrow(), 1);
}

//! Who is there.

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use sockhop::{ClusterConfig, ForwardToken, MemoryHub, NodeId, Server};
use support::until;

fn start(hub: &MemoryHub, number: u64, config: ClusterConfig) -> Server {
    let bus = hub.attach(NodeId::new(number << 40)).unwrap();
    let builder = Server::builder().bus(Arc::new(bus)).cluster(config);
    builder.build().unwrap()
}

/// Times that let a test see a node disappear.
fn quick() -> ClusterConfig {
    ClusterConfig {
        heartbeat: Duration::from_millis(100),
        member_timeout: Duration::from_secs(2),
        ..ClusterConfig::default()
    }
}

fn tags(server: &Server) -> Vec<u32> {
    let members = server.members();
    members.iter().map(|member| member.tag()).collect()
}

#[tokio::test]
async fn members_know_each_other_with_address_and_token() {
    let hub = MemoryHub::default();
    let address = SocketAddr::from(([127, 0, 0, 1], 7000));
    let a = start(
        &hub,
        1,
        ClusterConfig {
            advertise: Some(address),
            forward_token: Some(ForwardToken::new([5; 32])),
            dialects: vec!["node".to_owned()],
            ..ClusterConfig::default()
        },
    );
    let b = start(&hub, 2, ClusterConfig::default());
    until("they met", || {
        a.members().len() == 2 && b.members().len() == 2
    })
    .await;
    assert_eq!((tags(&a), tags(&b)), (vec![1, 2], vec![2, 1]));
    let other = &b.members()[1];
    assert_eq!(*other, a.members()[0]);
    assert_eq!(other.address, Some(address));
    assert_eq!(other.token, ForwardToken::new([5; 32]));
    assert_eq!(other.dialects, ["node"]);
    let status = b.cluster_status();
    assert!(status.clustered && status.settled && status.link.is_up());
    assert_eq!(status.members, 2);
    assert_ne!(b.members()[0].token, a.members()[0].token, "drawn");
}

#[tokio::test]
async fn who_closes_is_gone_at_once() {
    let hub = MemoryHub::default();
    let a = start(&hub, 1, ClusterConfig::default());
    let b = start(&hub, 2, ClusterConfig::default());
    until("they met", || a.members().len() == 2).await;
    b.close().await;
    until("it is gone", || tags(&a) == [1]).await;
}

#[tokio::test]
async fn who_falls_silent_is_gone_and_is_there_again_when_it_speaks() {
    let hub = MemoryHub::default();
    let a = start(&hub, 1, quick());
    let b = start(&hub, 2, quick());
    until("they met", || a.members().len() == 2).await;
    let node = b.members()[0].node;
    hub.take_down(node, std::time::Instant::now());
    until("it is gone", || tags(&a) == [1]).await;
    until("it knows", || !b.cluster_status().link.is_up()).await;
    assert_eq!(tags(&b), [2, 1], "it hears nobody, and waits");
    hub.bring_up(node);
    until("it is there again", || tags(&a) == [1, 2]).await;
}

#[tokio::test]
async fn a_server_without_a_bus_is_a_member_of_its_own_cluster() {
    let server = Server::builder().build().unwrap();
    let status = server.cluster_status();
    assert!(!status.clustered && status.settled);
    assert_eq!((status.members, server.members().len()), (1, 1));
}

#[tokio::test]
async fn the_metrics_show_how_many_members_there_are() {
    let hub = MemoryHub::default();
    let registry = Registry::new();
    let bus = hub.attach(NodeId::new(1 << 40)).unwrap();
    let builder = Server::builder().bus(Arc::new(bus)).registry(&registry);
    let _a = builder.build().unwrap();
    let _b = start(&hub, 2, ClusterConfig::default());
    let gauge = |name: &str| {
        let families = registry.gather();
        let family = families.iter().find(|family| family.name() == name);
        family.map(|family| family.get_metric()[0].get_gauge().get_value())
    };
    until("they met", || {
        gauge("sockhop_adapter_members").is_some_and(|members| members > 1.5)
    })
    .await;
    assert_eq!(gauge("sockhop_adapter_requests_pending"), Some(0.0));
    assert_eq!(gauge("sockhop_adapter_requests_in_work"), Some(0.0));
}

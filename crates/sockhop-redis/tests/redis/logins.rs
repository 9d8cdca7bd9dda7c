//! Nodes that reach their server over other ways than plain TCP, or have to log in.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use sockhop_redis::{RedisConfig, RedisError};
use testkit::RedisServer;

use crate::support::{Node, config, until};

async fn expect_talk(config: RedisConfig) {
    let [a, b] = [Node::start(config.clone()).await, Node::start(config).await];
    b.subscribe("room");
    b.synced().await;
    a.publish("room", "hello");
    assert_eq!(b.next_text().await, "hello");
}

#[tokio::test]
async fn a_socket_in_the_file_system() {
    let server = RedisServer::start();
    expect_talk(config(&format!("unix://{}", server.socket().display()))).await;
}

#[tokio::test]
async fn a_password() {
    let server = RedisServer::start();
    server.run(&["CONFIG", "SET", "requirepass", "p@ss"]);
    // The socket of the test keeps its rights, so that it can still ask.
    expect_talk(config(&format!(
        "redis://:p%40ss@127.0.0.1:{}",
        server.port()
    )))
    .await;
    let mut separate = config(&server.url());
    separate.password = Some(sockhop_redis::Secret::new("p@ss"));
    expect_talk(separate).await;
}

#[tokio::test]
async fn an_acl_user_with_no_more_rights_than_the_documented_ones() {
    let server = RedisServer::start();
    let rights = [
        "resetchannels",
        "&sockhop:*",
        "+publish",
        "+subscribe",
        "+unsubscribe",
    ];
    let user = [&["ACL", "SETUSER", "app", "on", ">secret"][..], &rights].concat();
    server.run(&user);
    server.run(&["ACL", "SETUSER", "default", "off"]);
    let url = format!("redis://app:secret@127.0.0.1:{}", server.port());
    expect_talk(config(&url)).await;
}

#[tokio::test]
async fn a_wrong_password_and_a_forbidden_channel_leave_the_link_down() {
    let server = RedisServer::start();
    server.run(&[
        "ACL",
        "SETUSER",
        "app",
        "on",
        ">secret",
        "+@all",
        "resetchannels",
        "&other:*",
    ]);
    for user in ["app:wrong", "app:secret"] {
        let url = format!("redis://{user}@127.0.0.1:{}", server.port());
        let node = Node::start_down(config(&url));
        until("it has been refused", || {
            node.metric("sockhop_bus_connects_total", "failed") >= 2
                || node.metric("sockhop_bus_disconnects_total", "refused") >= 2
        })
        .await;
        assert!(!sockhop_adapter::Bus::link(&*node.bus).is_up());
    }
}

/// Files of an authority, a server and a client that it vouches for.
struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    fn make(folder: &Path) -> Self {
        let folder = folder.join("tls");
        fs::create_dir_all(&folder).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
        for name in ["server", "client"] {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
            // With the authority's own name it would count as its own authority.
            params.distinguished_name.push(DnType::CommonName, name);
            let certificate = params.signed_by(&key, &authority).unwrap();
            fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
            fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// A server that speaks only TLS, and its certificates.
fn start_tls(ask_for_certificates: &str) -> (RedisServer, Certificates) {
    // The folder of a server exists only once it runs; this one only holds files.
    let keeper = RedisServer::start();
    let certificates = Certificates::make(keeper.folder());
    let path = |name: &str| certificates.path(name).display().to_string();
    let options = [
        ("--port", "0".to_owned()),
        ("--tls-port", "{port}".to_owned()),
        ("--tls-cert-file", path("server.pem")),
        ("--tls-key-file", path("server.key")),
        ("--tls-ca-cert-file", path("ca.pem")),
        ("--tls-auth-clients", ask_for_certificates.to_owned()),
    ];
    let options: Vec<&str> = options
        .iter()
        .flat_map(|(name, value)| [*name, value])
        .collect();
    let server = RedisServer::start_with(&options);
    // The files are read at the start and by the node; the caller's copy outlives the keeper.
    let kept = Certificates {
        folder: server.folder().join("tls"),
    };
    fs::create_dir_all(&kept.folder).unwrap();
    for name in ["ca.pem", "client.pem", "client.key"] {
        fs::copy(certificates.path(name), kept.path(name)).unwrap();
    }
    (server, kept)
}

#[tokio::test]
async fn tls_with_an_authority_of_ones_own() {
    let (server, certificates) = start_tls("no");
    let mut config = config(&format!("rediss://127.0.0.1:{}", server.port()));
    config.tls_ca_file = Some(certificates.path("ca.pem"));
    expect_talk(config).await;
}

#[tokio::test]
async fn tls_with_a_certificate_of_the_client() {
    let (server, certificates) = start_tls("yes");
    let mut config = config(&format!("rediss://127.0.0.1:{}", server.port()));
    config.tls_ca_file = Some(certificates.path("ca.pem"));
    config.tls_cert_file = Some(certificates.path("client.pem"));
    config.tls_key_file = Some(certificates.path("client.key"));
    expect_talk(config).await;
}

#[tokio::test]
async fn a_server_that_no_authority_vouches_for_is_not_talked_to() {
    let (server, _) = start_tls("no");
    let node = Node::start_down(config(&format!("rediss://127.0.0.1:{}", server.port())));
    until("it has refused", || {
        node.metric("sockhop_bus_connects_total", "failed") >= 2
    })
    .await;
    assert!(!sockhop_adapter::Bus::link(&*node.bus).is_up());
}

#[test]
fn tls_files_that_cannot_be_used_are_named_at_the_start() {
    let mut config = config("rediss://localhost");
    config.tls_ca_file = Some("/nowhere/ca.pem".into());
    let metrics = sockhop_redis::Metrics::register(&prometheus::Registry::new()).unwrap();
    let nobody = |_, _| panic!("nothing to run");
    let node = sockhop_adapter::NodeId::new(1);
    let error = sockhop_redis::RedisBus::start(config, node, metrics, nobody).unwrap_err();
    assert!(matches!(error, RedisError::TlsFile { .. }));
    assert!(error.to_string().contains("/nowhere/ca.pem"));
}

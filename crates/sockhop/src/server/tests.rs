use std::time::UNIX_EPOCH;

use super::*;

fn server() -> Server {
    let server = Server::builder().build().unwrap();
    server.dynamic("/on-{demand}", |_| {}).unwrap();
    server
}

fn enter(server: &Server) -> Namespace {
    let (parts, ()) = http::Request::new(()).into_parts();
    let handshake = Handshake::new(&parts, UNIX_EPOCH);
    let name = NamespaceName::parse("/on-1").unwrap();
    server
        .enter_namespace(&name, &Value::Null, &handshake)
        .unwrap()
}

#[test]
fn who_enters_before_the_last_one_frees_the_namespace_keeps_it() {
    let server = server();
    let namespace = enter(&server);
    // The last one has left, but has not come to the table yet.
    assert!(namespace.remove_user());
    assert!(enter(&server).is(&namespace));
    server.free(&namespace);
    assert_eq!(server.namespaces().len(), 2);
    server.leave_namespace(&namespace);
    assert_eq!(server.namespaces().len(), 1);
}

#[test]
fn who_is_late_to_free_a_namespace_leaves_its_successor_alone() {
    let server = server();
    let first = enter(&server);
    assert!(first.remove_user());
    // Somebody else comes, leaves, and frees it; then another one is made.
    server.leave_namespace(&enter(&server));
    let second = enter(&server);
    assert!(!second.is(&first));
    server.free(&first);
    assert!(enter(&server).is(&second));
    assert_eq!(server.namespaces_now().dynamic, 1);
}

#[test]
fn names_may_lack_their_slash_and_mean_the_same() {
    let server = server();
    assert!(server.of("chat").is(&server.of("/chat")));
    assert!(server.of("").is(&server.of("/")));
}

#[test]
fn a_registry_takes_one_server() {
    let registry = Registry::new();
    let first = Server::builder().registry(&registry).build();
    assert!(first.is_ok());
    let second = Server::builder().registry(&registry).build();
    assert!(matches!(second, Err(BuildError::Metrics(_))));
}

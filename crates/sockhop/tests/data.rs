//! What users attach to a socket.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sockhop::{Socket, Value};
use support::{TestServer, answer_pings, log, next, reasons, sockets};

#[derive(Debug, PartialEq)]
struct User(&'static str);

#[tokio::test]
async fn a_socket_keeps_one_value_of_each_type() {
    let test = TestServer::start().await;
    let mut connected = sockets(&test.root());
    let (_client, socket) = test.pair(&mut connected).await;
    assert!(socket.get::<User>().is_none());
    assert!(socket.remove::<User>().is_none());
    assert!(socket.insert(User("ann")).is_none());
    assert!(socket.insert(7_u32).is_none());
    assert_eq!(*socket.get::<User>().unwrap(), User("ann"));
    assert_eq!(*socket.insert(User("bob")).unwrap(), User("ann"));
    assert_eq!(*socket.get::<u32>().unwrap(), 7);
    assert_eq!(*socket.remove::<User>().unwrap(), User("bob"));
    assert!(socket.get::<User>().is_none());
}

#[tokio::test]
async fn data_of_a_middleware_is_there_in_every_handler() {
    let test = TestServer::start().await;
    let (log, mut lines) = log();
    test.root()
        .middleware(|socket: Socket| async move {
            socket.insert(User("ann"));
            socket.insert(AtomicUsize::new(0));
            Ok(())
        })
        .on("count", |socket: Socket, (): ()| async move {
            let count = socket.get::<AtomicUsize>().unwrap();
            count.fetch_add(1, Ordering::Relaxed);
        })
        .on_disconnect(move |socket: Socket, _| {
            let user = socket.get::<User>().unwrap();
            let count = socket.get::<AtomicUsize>().unwrap();
            log.say(format!("{} {}", user.0, count.load(Ordering::Relaxed)));
            async {}
        });
    let mut client = test.client().await;
    client.send(r#"42["count"]"#).await;
    client.send(r#"42["count"]"#).await;
    client.send("41").await;
    assert_eq!(next(&mut lines).await, "ann 2");
}

#[tokio::test]
async fn data_belongs_to_one_socket_and_goes_with_it() {
    let test = TestServer::start().await;
    let mut connected = sockets(&test.root());
    let mut left = reasons(&test.root());
    let (mut client, socket) = test.pair(&mut connected).await;
    let (_other_client, other) = test.pair(&mut connected).await;
    let witness = Arc::new(());
    socket.insert(Arc::clone(&witness));
    assert!(other.get::<Arc<()>>().is_none());
    client.send("41").await;
    next(&mut left).await;
    assert_eq!(Arc::strong_count(&witness), 2);
    drop(socket);
    support::until("it is freed", || Arc::strong_count(&witness) == 1).await;
    client.join("/").await;
    assert!(next(&mut connected).await.get::<Arc<()>>().is_none());
}

#[tokio::test]
async fn public_data_is_null_until_it_is_set() {
    let test = TestServer::start().await;
    answer_pings(&test.root());
    let mut connected = sockets(&test.root());
    let (mut client, socket) = test.pair(&mut connected).await;
    assert_eq!(socket.data(), Value::Null);
    socket.set_data(Value::from(7_u64));
    assert_eq!(socket.data(), Value::from(7_u64));
    // Nobody is told.
    client.settle().await;
}

//! The graceful end of a server.

mod support;

use std::sync::Arc;

use futures_util::StreamExt;
use sockhop::{DisconnectReason, EngineConfig, Parser, Socket};
use support::{TestServer, get, log, next, reasons, serve, sockets, until};
use tokio::sync::Semaphore;

#[tokio::test]
async fn closing_ends_all_sessions_with_the_reason_and_returns() {
    let test = TestServer::start().await;
    let mut left = reasons(&test.root());
    let mut clients = [test.client().await, test.client().await];
    let closing = async {
        for client in &mut clients {
            client.ended().await;
        }
    };
    tokio::join!(test.server.close(), closing);
    for _ in 0..2 {
        assert_eq!(next(&mut left).await, DisconnectReason::ServerShuttingDown);
    }
    assert!(test.server.tasks().is_empty());
    // A second time there is nothing to do.
    test.server.close().await;
}

#[tokio::test]
async fn what_was_emitted_before_the_close_still_arrives() {
    let test = TestServer::start().await;
    let mut connected = sockets(&test.root());
    let (mut client, socket) = test.pair(&mut connected).await;
    socket.emit("last", &()).unwrap();
    let reading = async {
        client.expect(r#"42["last"]"#).await;
        client.ended().await;
    };
    tokio::join!(test.server.close(), reading);
}

#[tokio::test]
async fn closing_waits_for_handlers() {
    let test = TestServer::start().await;
    let (log, mut lines) = log();
    let gate = Arc::new(Semaphore::new(0));
    let inside = Arc::clone(&gate);
    test.root().on_disconnect(move |_: Socket, _| {
        let (gate, log) = (Arc::clone(&inside), log.clone());
        async move {
            log.say("start");
            gate.acquire().await.unwrap().forget();
            log.say("end");
        }
    });
    let mut client = test.client().await;
    let opening = async {
        client.ended().await;
        assert_eq!(next(&mut lines).await, "start");
        gate.add_permits(1);
    };
    tokio::join!(test.server.close(), opening);
    assert_eq!(lines.try_recv().unwrap(), "end");
}

#[tokio::test]
async fn a_closed_server_refuses_new_sessions_on_every_mount() {
    let test = TestServer::start().await;
    let mount = test.server.service();
    let closing = test.server.clone();
    closing.close().await;
    for mount in [
        mount,
        test.server.mount(EngineConfig::default(), Parser::Json),
    ] {
        // The accept loop of this server has not been told to stop.
        let host = sockhop::Server::builder().build().unwrap();
        let address = serve(&host, mount).await;
        let refused = get(address, "/socket.io/?EIO=4&transport=polling").await;
        assert_eq!(refused.status, 503);
    }
}

#[tokio::test]
async fn a_closed_server_forgets_what_its_handlers_own() {
    let test = TestServer::start().await;
    let witness = Arc::new(());
    let owned = Arc::clone(&witness);
    test.root().on("x", move |_: Socket, (): ()| {
        let _ = Arc::clone(&owned);
        async {}
    });
    let client = test.client().await;
    drop(client);
    test.server.close().await;
    drop(test);
    until("everything is freed", || Arc::strong_count(&witness) == 1).await;
}

/// Sessions are opened while the server closes; none may survive.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_session_slips_through_while_closing() {
    for _ in 0..20 {
        let test = TestServer::start().await;
        let mut clients = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let address = test.address;
            clients.spawn(async move {
                let target = "/socket.io/?EIO=4&transport=websocket";
                let tcp = tokio::net::TcpStream::connect(address).await.ok()?;
                let url = format!("ws://{address}{target}");
                // Refused or cut off is fine. If served, it stays until the server says goodbye.
                let (mut stream, _) = tokio_tungstenite::client_async(url, tcp).await.ok()?;
                while let Some(Ok(_)) = stream.next().await {}
                Some(())
            });
        }
        tokio::task::yield_now().await;
        let closed = tokio::time::timeout(support::PATIENCE, test.server.close()).await;
        assert!(closed.is_ok(), "a session lives on");
        drop(clients.join_all().await);
    }
}

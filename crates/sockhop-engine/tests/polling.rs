//! Long-polling over real connections.

mod support;

use std::time::Duration;

use engineio_proto::CloseReason;
use sockhop_engine::{Cookie, Cors, EngineConfig, Origins};
use support::{Server, get, post, request};

const OPEN: &str = "/socket.io/?EIO=4&transport=polling";

async fn open(server: &Server) -> String {
    let answer = get(server.address, OPEN).await;
    assert_eq!(answer.status, 200);
    format!("{OPEN}&sid={}", answer.sid())
}

#[tokio::test]
async fn messages_come_back() {
    let server = Server::start(EngineConfig::default()).await;
    let target = open(&server).await;
    let posted = post(server.address, &target, "4hello\x1ebAQID".as_bytes()).await;
    assert_eq!((posted.status, posted.text()), (200, "ok"));
    let polled = get(server.address, &target).await;
    assert_eq!((polled.status, polled.text()), (200, "4hello\x1ebAQID"));
    assert_eq!(
        polled.header("content-type"),
        Some("text/plain; charset=UTF-8")
    );
    assert_eq!(polled.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn a_poll_waits_for_a_message() {
    let server = Server::start(EngineConfig::default()).await;
    let target = open(&server).await;
    let (polled, posted) = tokio::join!(
        get(server.address, &target),
        post(server.address, &target, b"4hi")
    );
    assert_eq!((polled.text(), posted.text()), ("4hi", "ok"));
}

#[tokio::test]
async fn a_second_poll_ends_the_session() {
    let mut server = Server::start(EngineConfig::default()).await;
    let target = open(&server).await;
    let (first, second) = tokio::join!(get(server.address, &target), get(server.address, &target));
    let mut answers = [(first.status, first.text()), (second.status, second.text())];
    answers.sort_unstable();
    assert_eq!(answers, [(200, "1"), (400, "")]);
    assert!(matches!(
        server.closed.recv().await,
        Some(CloseReason::Violation(_))
    ));
}

#[tokio::test]
async fn an_aborted_poll_ends_the_session() {
    use tokio::io::AsyncWriteExt;
    let mut server = Server::start(EngineConfig::default()).await;
    let target = open(&server).await;
    let mut stream = tokio::net::TcpStream::connect(server.address)
        .await
        .unwrap();
    stream
        .write_all(&support::head("GET", &target, &[], 0))
        .await
        .unwrap();
    while server.metric("sockhop_engine_parked_polls") < 1.0 {
        tokio::task::yield_now().await;
    }
    drop(stream);
    assert_eq!(
        server.closed.recv().await,
        Some(CloseReason::TransportError)
    );
}

#[tokio::test]
async fn errors_have_their_numeric_codes() {
    let server = Server::start(EngineConfig::default()).await;
    let sid = get(server.address, OPEN).await.sid();
    for (method, target, body) in [
        (
            "GET",
            "/socket.io/?EIO=4",
            r#"{"code":0,"message":"Transport unknown"}"#.to_owned(),
        ),
        (
            "GET",
            "/socket.io/?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAA",
            r#"{"code":1,"message":"Session ID unknown"}"#.to_owned(),
        ),
        (
            "POST",
            OPEN,
            r#"{"code":2,"message":"Bad handshake method"}"#.to_owned(),
        ),
        (
            "GET",
            "/socket.io/?EIO=4&transport=websocket",
            r#"{"code":3,"message":"Bad request"}"#.to_owned(),
        ),
        (
            "GET",
            &format!("/socket.io/?EIO=3&transport=polling&sid={sid}"),
            r#"{"code":3,"message":"Bad request"}"#.to_owned(),
        ),
        (
            "GET",
            "/socket.io/?transport=polling",
            r#"{"code":5,"message":"Unsupported protocol version"}"#.to_owned(),
        ),
    ] {
        let answer = request(server.address, method, target, &[], b"").await;
        assert_eq!(
            (answer.status, answer.text()),
            (400, body.as_str()),
            "{method} {target}"
        );
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
}

#[tokio::test]
async fn a_handshake_sets_the_cookie_and_later_answers_do_not() {
    let config = EngineConfig {
        cookie: Some(Cookie::default()),
        ..EngineConfig::default()
    };
    let server = Server::start(config).await;
    let opened = get(server.address, OPEN).await;
    let expected = format!("io={}; Path=/; HttpOnly; SameSite=Lax", opened.sid());
    assert_eq!(opened.header("set-cookie"), Some(expected.as_str()));
    let target = format!("{OPEN}&sid={}", opened.sid());
    assert_eq!(
        post(server.address, &target, b"4x")
            .await
            .header("set-cookie"),
        None
    );
}

#[tokio::test]
async fn large_answers_are_compressed_for_clients_that_can() {
    use std::io::Read;
    let server = Server::start(EngineConfig::default()).await;
    for (accepted, encoding) in [
        ("gzip, deflate", Some("gzip")),
        ("deflate", Some("deflate")),
    ] {
        let target = open(&server).await;
        let message = format!("4{}", "x".repeat(5000));
        post(server.address, &target, message.as_bytes()).await;
        let accept = format!("accept-encoding: {accepted}");
        let polled = request(server.address, "GET", &target, &[&accept], b"").await;
        assert_eq!(polled.header("content-encoding"), encoding);
        let mut text = String::new();
        match encoding {
            Some("gzip") => {
                flate2::read::GzDecoder::new(&polled.body[..]).read_to_string(&mut text)
            }
            _ => flate2::read::ZlibDecoder::new(&polled.body[..]).read_to_string(&mut text),
        }
        .unwrap();
        assert_eq!(text, message);
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_and_the_session_lives() {
    let mut config = EngineConfig::default();
    config.session.max_payload = 100;
    let server = Server::start(config).await;
    let target = open(&server).await;
    let answer = post(server.address, &target, &[b'4'; 101]).await;
    assert_eq!((answer.status, answer.text()), (413, ""));
    post(server.address, &target, b"4still here").await;
    assert_eq!(get(server.address, &target).await.text(), "4still here");
}

#[tokio::test]
async fn who_writes_a_body_over_the_limit_to_its_end_is_told_so() {
    let server = Server::start(EngineConfig::default()).await;
    let target = open(&server).await;
    // More than the buffers of a connection hold: without a reader, its sender would see a reset.
    let answer = post(server.address, &target, &vec![b'4'; 12 << 20]).await;
    assert_eq!((answer.status, answer.text()), (413, ""));
    post(server.address, &target, b"4still here").await;
    assert_eq!(get(server.address, &target).await.text(), "4still here");
}

#[tokio::test]
async fn an_unfinished_post_does_not_outlive_the_session() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut config = EngineConfig::default();
    config.session.ping_interval = Duration::from_millis(50);
    config.session.ping_timeout = Duration::from_millis(50);
    let server = Server::start(config).await;
    let target = open(&server).await;
    let mut stream = tokio::net::TcpStream::connect(server.address)
        .await
        .unwrap();
    stream
        .write_all(&support::head("POST", &target, &[], 10))
        .await
        .unwrap();
    stream.write_all(b"4").await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(support::parse(&bytes).status, 400);
}

#[tokio::test]
async fn preflights_and_answers_carry_cors_headers_for_the_allowed_origin_only() {
    let cors = Cors {
        origins: Origins::List(vec!["http://a".to_owned()]),
        credentials: true,
    };
    let server = Server::start(EngineConfig {
        cors,
        ..EngineConfig::default()
    })
    .await;
    for (origin, allowed) in [("http://a", true), ("http://b", false)] {
        let line = format!("origin: {origin}");
        let asks = ["access-control-request-headers: x-token", line.as_str()];
        let preflight = request(server.address, "OPTIONS", OPEN, &asks, b"").await;
        assert_eq!(preflight.status, 204);
        assert_eq!(
            preflight.header("access-control-allow-headers"),
            Some("x-token")
        );
        let answer = request(server.address, "GET", OPEN, &[&line], b"").await;
        for answer in [preflight, answer] {
            let expected = allowed.then_some(origin);
            assert_eq!(answer.header("access-control-allow-origin"), expected);
            let credentials = allowed.then_some("true");
            assert_eq!(
                answer.header("access-control-allow-credentials"),
                credentials
            );
        }
    }
}

#[tokio::test]
async fn jsonp_is_wrapped_both_ways() {
    let server = Server::start(EngineConfig::default()).await;
    let opened = get(server.address, &format!("{OPEN}&j=7")).await;
    assert!(
        opened.text().starts_with("___eio[7](\"0{\\\"sid\\\":"),
        "{}",
        opened.text()
    );
    let (_, rest) = opened.text().split_once("\\\"sid\\\":\\\"").unwrap();
    let target = format!("{OPEN}&j=7&sid={}", rest.split('\\').next().unwrap());
    let form = ["content-type: application/x-www-form-urlencoded"];
    let posted = request(server.address, "POST", &target, &form, b"d=4a%5Cnb%5C%5Cnc").await;
    assert_eq!(posted.text(), "ok");
    let polled = get(server.address, &target).await;
    assert_eq!(polled.text(), "___eio[7](\"4a\\nb\\\\nc\");");
}

#[tokio::test]
async fn a_full_server_answers_503_and_says_when_to_come_back() {
    let server = Server::start(EngineConfig {
        max_sessions: 1,
        ..EngineConfig::default()
    })
    .await;
    open(&server).await;
    let answer = get(server.address, OPEN).await;
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("5"))
    );
}

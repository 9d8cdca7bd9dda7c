//! The lane: it answers as hyper does, in whatever pieces requests arrive, and lets go of what is odd.

mod support;

use std::time::Duration;

use engineio_proto::CloseReason;
use sockhop_engine::{Cookie, Cors, EngineConfig, Origins};
use support::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// More than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// How the bytes of requests leave.
#[derive(Clone, Copy, Debug)]
enum Way {
    Whole,
    Bytewise,
    /// All requests before the first answer; only where none needs to know an answer.
    Pipelined,
}

fn config() -> EngineConfig {
    let mut config = EngineConfig {
        cors: Cors {
            origins: Origins::List(vec!["http://friend.example".to_owned()]),
            credentials: true,
        },
        cookie: Some(Cookie::default()),
        ..EngineConfig::default()
    };
    config.session.max_payload = 5_000;
    config
}

const GET: &str = "GET /socket.io/?EIO=4&transport=polling";
const POST: &str = "POST /socket.io/?EIO=4&transport=polling";

/// A request; `{sid}` in it stands for the id of the session that the first answer opened.
fn request(line: &str, headers: &[&str], body: &str) -> String {
    let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let length = match line.starts_with("POST") {
        true => format!("Content-Length: {}\r\n", body.len()),
        false => String::new(),
    };
    format!("{line} HTTP/1.1\r\nHost: test\r\n{length}{lines}\r\n{body}")
}

/// Conversations in which every request has to know what was answered.
fn sessions() -> Vec<Vec<String>> {
    let get = |more: &str, headers: &[&str]| request(&format!("{GET}{more}"), headers, "");
    let post =
        |headers: &[&str], body: &str| request(&format!("{POST}&sid={{sid}}"), headers, body);
    let long = "x".repeat(2_000);
    vec![
        vec![
            get("", &[]),
            post(&["Content-Type: text/plain;charset=UTF-8"], "4hello"),
            get("&sid={sid}", &["User-Agent: Mozilla ;MSIE 9"]),
            post(&[], "4a\u{1e}4b"),
            get("&sid={sid}", &["Connection: close"]),
        ],
        vec![
            get("", &["Origin: http://friend.example", "X-A: 1"]),
            post(&["Origin: http://friend.example"], &format!("4{long}")),
            get("&sid={sid}", &["Accept-Encoding: gzip, deflate"]),
            post(&["Origin: http://foe.example"], &format!("4{long}")),
            get("&sid={sid}", &["Accept-Encoding: deflate"]),
        ],
        vec![
            get("&j=3", &[]),
            post(
                &["Content-Type: application/x-www-form-urlencoded"],
                "d=4hi",
            ),
            get("&sid={sid}&j=3", &[]),
        ],
        // A binary body of version 4 ends the session, an unknown version of a known one does not.
        vec![
            get("", &[]),
            request("GET /socket.io/?EIO=3&transport=polling&sid={sid}", &[], ""),
            request(
                "GET /socket.io/?EIO=4&transport=websocket&sid={sid}",
                &[],
                "",
            ),
            request(
                "OPTIONS /socket.io/?EIO=4&transport=polling&sid={sid}",
                &[],
                "",
            ),
            post(&["Content-Type: application/octet-stream"], "4hello"),
            get("&sid={sid}", &[]),
        ],
        // Too long, and the client writes all of it before it reads.
        vec![get("", &[]), post(&[], &"4".repeat(30_000))],
        // What hyper has to read: chunks, another version, another method.
        vec![
            get("", &[]),
            format!(
                "{POST}&sid={{sid}} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n\
                 3\r\n4yo\r\n0\r\n\r\n"
            ),
            get("&sid={sid}", &[]),
            request("PUT /socket.io/?EIO=4&transport=polling&sid={sid}", &[], ""),
        ],
    ]
}

/// Requests that need to know nothing, and what the last of them may be to end a connection.
fn loose() -> Vec<Vec<String>> {
    let mut all = vec![vec![
        request("GET /socket.io/?EIO=4&transport=carrier-pigeon", &[], ""),
        request("GET /socket.io/?EIO=5&transport=polling", &[], ""),
        request(
            &format!("{GET}&sid=nobody"),
            &["Origin: http://friend.example"],
            "",
        ),
        request(&format!("{POST}&sid=AAAAAAAAAAAAAAAAAAAA"), &[], "4lost"),
        request(POST, &[], ""),
        request(
            "OPTIONS /socket.io/",
            &["Access-Control-Request-Headers: X-A"],
            "",
        ),
        request("GET /socket.io/?transport=websocket&EIO=9", &WEBSOCKET, ""),
        request("GET /socket.io?%45IO=4&transport=poll%69ng&sid=x", &[], ""),
        request("GET /socket.io/?EIO=4&transport=x#fragment", &[], ""),
        request(
            &format!("{GET}&sid=nobody"),
            &["Upgrade: h2c", "Connection: upgrade"],
            "",
        ),
        request("HEAD /socket.io/?EIO=4&transport=polling&sid=x", &[], ""),
    ]];
    let poll = format!("{GET}&sid=nobody");
    let odd = [
        format!("{poll} HTTP/1.0\r\nHost: test\r\n\r\n"),
        format!("{poll} HTTP/1.1\nHost: test\nConnection: close\n\n"),
        format!("{poll} HTTP/1.1\r\nHost: test\r\nX-A: 1\r\n folded\r\n\r\n"),
        format!("{poll} HTTP/1.1\r\nHost : test\r\n\r\n"),
        format!("{poll} HTTP/1.1\r\nHost: te\rst\r\n\r\n"),
        format!("{poll} HTTP/2.0\r\nHost: test\r\n\r\n"),
        format!("\r\n{poll} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"),
        format!(
            "{poll} HTTP/1.1\r\nHost: test\r\nX-Long: {}\r\n\r\n",
            "y".repeat(20_000)
        ),
        format!(
            "{poll} HTTP/1.1\r\nHost: test\r\n{}\r\n",
            "X-A: 1\r\n".repeat(120)
        ),
        "GET http://test/socket.io/ HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".to_owned(),
        "get /socket.io/ HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".to_owned(),
        "\u{16}\u{3}\u{1}\u{2}\r\n\r\n".to_owned(),
        request(POST, &["Content-Length: 1"], "ab"),
        request(POST, &["Content-Length: 0"], ""),
        request(
            POST,
            &["Transfer-Encoding: chunked", "Connection: close"],
            "",
        ),
        "POST /socket.io/ HTTP/1.1\r\nHost: test\r\nContent-Length: +1\r\n\r\na".to_owned(),
        "POST /socket.io/ HTTP/1.1\r\nHost: test\r\nContent-Length: 1, 1\r\n\r\na".to_owned(),
        request(
            "GET /socket.io/?EIO=4&transport=x",
            &["Connection: keep-alive, Close"],
            "",
        ),
    ];
    all.extend(odd.map(|last| vec![request(&poll, &[], ""), last]));
    all
}

const WEBSOCKET: [&str; 4] = [
    "Connection: keep-alive, Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

/// A client that reads one answer after the other.
struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Client {
    async fn connect(server: &Server) -> Self {
        Self {
            stream: TcpStream::connect(server.address).await.unwrap(),
            read: Vec::new(),
        }
    }

    async fn send(&mut self, bytes: &[u8], way: Way) {
        let size = match way {
            Way::Whole | Way::Pipelined => bytes.len(),
            Way::Bytewise => 1,
        };
        for piece in bytes.chunks(size) {
            // A server that has seen enough may have closed.
            let _ = self.stream.write_all(piece).await;
            tokio::task::yield_now().await;
        }
    }

    /// Whether there was more to read.
    async fn more(&mut self) -> bool {
        let mut buffer = [0; 4096];
        let read = timeout(PATIENCE, self.stream.read(&mut buffer)).await;
        let len = read.expect("an answer in time").unwrap_or(0);
        self.read.extend_from_slice(&buffer[..len]);
        len > 0
    }

    /// The next answer with its headers in order and without its date; none when the server closed.
    async fn answer(&mut self, has_body: bool) -> Option<(String, Vec<u8>)> {
        let end = loop {
            let mut parts = self.read.windows(4);
            if let Some(end) = parts.position(|part| part == b"\r\n\r\n") {
                break end + 4;
            }
            if !self.more().await {
                assert_eq!(self.read, b"", "half an answer");
                return None;
            }
        };
        let head = String::from_utf8(self.read[..end].to_vec()).unwrap();
        let mut lines: Vec<_> = head.trim_end().split("\r\n").collect();
        let status = lines.remove(0);
        lines.retain(|line| !line.starts_with("date: "));
        lines.sort_unstable();
        let length = lines
            .iter()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |length| length.parse::<usize>().unwrap());
        let len = if has_body { length } else { 0 };
        while self.read.len() < end + len {
            assert!(self.more().await, "half a body");
        }
        let body = self.read[end..end + len].to_vec();
        self.read.drain(..end + len);
        Some((format!("{status}\n{}", lines.join("\n")), body))
    }
}

/// What is answered to these requests on one connection; session ids are blotted out.
async fn converse(server: &Server, requests: &[String], way: Way) -> Vec<String> {
    let mut client = Client::connect(server).await;
    let mut answers = Vec::new();
    let mut sid = String::new();
    if matches!(way, Way::Pipelined) {
        client.send(requests.concat().as_bytes(), way).await;
    }
    for request in requests {
        if !matches!(way, Way::Pipelined) {
            let request = request.replace("{sid}", &sid);
            client.send(request.as_bytes(), way).await;
        }
        let Some((head, body)) = client.answer(!request.starts_with("HEAD")).await else {
            answers.push("closed".to_owned());
            break;
        };
        let body = String::from_utf8_lossy(&body).into_owned();
        if let Some((_, rest)) = body
            .split_once("sid\":\"")
            .or_else(|| body.split_once("sid\\\":\\\""))
        {
            sid = rest[..20].to_owned();
        }
        let answer = format!("{head}\n{body}");
        answers.push(match sid.is_empty() {
            true => answer,
            false => answer.replace(&sid, "(sid)"),
        });
    }
    answers
}

async fn compare(conversations: Vec<Vec<String>>, ways: &[Way]) {
    let hyper = Server::start(config()).await;
    let lane = Server::start_with_lane(config()).await;
    for requests in conversations {
        let expected = converse(&hyper, &requests, Way::Whole).await;
        for way in ways {
            let answers = converse(&lane, &requests, *way).await;
            assert_eq!(answers, expected, "{way:?}: {requests:#?}");
        }
    }
}

#[tokio::test]
async fn sessions_are_served_as_hyper_serves_them() {
    compare(sessions(), &[Way::Whole, Way::Bytewise]).await;
}

#[tokio::test]
async fn requests_are_refused_as_behind_hyper_however_they_arrive() {
    compare(loose(), &[Way::Whole, Way::Bytewise, Way::Pipelined]).await;
}

#[tokio::test]
async fn a_websocket_is_opened_as_behind_hyper() {
    for open in [
        Server::start(config()).await,
        Server::start_with_lane(config()).await,
    ] {
        let mut client = Client::connect(&open).await;
        let headers = [&WEBSOCKET[..], &["Sec-WebSocket-Protocol: a, b"]].concat();
        let opening = request("GET /socket.io/?EIO=4&transport=websocket", &headers, "");
        // With a first message that does not wait for the answer: `4hi`, masked with zeros.
        let mut bytes = opening.into_bytes();
        bytes.extend_from_slice(b"\x81\x83\0\0\0\x004hi");
        client.send(&bytes, Way::Whole).await;
        let (head, _) = client.answer(false).await.unwrap();
        assert_eq!(
            head,
            "HTTP/1.1 101 Switching Protocols\nconnection: Upgrade\n\
             sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\nsec-websocket-protocol: a\n\
             upgrade: websocket"
        );
        while !client.read.ends_with(b"\x81\x034hi") {
            assert!(client.more().await, "{:?}", client.read);
        }
        assert!(
            client.read[2..].starts_with(b"0{\"sid\":"),
            "{:?}",
            client.read
        );
    }
}

#[tokio::test]
async fn a_poll_whose_client_goes_away_ends_its_session() {
    let mut server = Server::start_with_lane(config()).await;
    let mut client = Client::connect(&server).await;
    client
        .send(request(GET, &[], "").as_bytes(), Way::Whole)
        .await;
    let (_, body) = client.answer(true).await.unwrap();
    let body = String::from_utf8(body).unwrap();
    let sid = body.split('"').nth(3).unwrap();
    let poll = request(&format!("{GET}&sid={sid}"), &[], "");
    client.send(poll.as_bytes(), Way::Whole).await;
    while server.metric("sockhop_engine_parked_polls") < 1.0 {
        tokio::task::yield_now().await;
    }
    drop(client);
    let reason = timeout(PATIENCE, server.closed.recv()).await.unwrap();
    assert_eq!(reason, Some(CloseReason::TransportError));
    assert_eq!(server.metric("sockhop_engine_parked_polls"), 0.0);
}

#[tokio::test]
async fn a_stop_ends_idle_connections_and_busy_ones_after_their_answer() {
    let server = Server::start_with_lane(config()).await;
    let mut idle = Client::connect(&server).await;
    let refused = request(&format!("{GET}&sid=nobody"), &[], "");
    idle.send(refused.as_bytes(), Way::Whole).await;
    idle.answer(true).await.unwrap();
    let mut busy = Client::connect(&server).await;
    busy.send(request(GET, &[], "").as_bytes(), Way::Whole)
        .await;
    let (_, body) = busy.answer(true).await.unwrap();
    let body = String::from_utf8(body).unwrap();
    let sid = body.split('"').nth(3).unwrap();
    let poll = request(&format!("{GET}&sid={sid}"), &[], "");
    busy.send(poll.as_bytes(), Way::Whole).await;
    while server.metric("sockhop_engine_parked_polls") < 1.0 {
        tokio::task::yield_now().await;
    }
    server.tasks.stop();
    assert!(!idle.more().await);
    server.service.close(&CloseReason::ServerShutdown);
    let (head, _) = busy.answer(true).await.unwrap();
    assert!(head.contains("\nconnection: close\n"), "{head}");
    assert!(!busy.more().await);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_end_ends_its_connection() {
    let server = Server::start_with_lane(config()).await;
    let begun = tokio::time::Instant::now();
    let mut silent = Client::connect(&server).await;
    let mut slow = Client::connect(&server).await;
    slow.send(b"GET /socket.io/?EIO", Way::Whole).await;
    assert!(!slow.more_in_virtual_time().await);
    assert!(!silent.more_in_virtual_time().await);
    let passed = begun.elapsed();
    let close = support::HEAD_TIMEOUT..support::HEAD_TIMEOUT * 2;
    assert!(close.contains(&passed), "{passed:?}");
}

#[tokio::test(start_paused = true)]
async fn between_two_requests_a_connection_is_kept_for_the_idle_time_and_a_begun_head_for_its_own()
{
    let server = Server::start_with_lane(config()).await;
    let refused = request(&format!("{GET}&sid=nobody"), &[], "");
    for (begun_head, timeout) in [
        (&b""[..], support::IDLE_TIMEOUT),
        (b"GET /socket.io/?EIO", support::HEAD_TIMEOUT),
    ] {
        let mut client = Client::connect(&server).await;
        client.send(refused.as_bytes(), Way::Whole).await;
        client.answer(true).await.unwrap();
        let answered = tokio::time::Instant::now();
        client.stream.write_all(begun_head).await.unwrap();
        assert!(!client.more_in_virtual_time().await);
        let kept = answered.elapsed();
        assert!((timeout..timeout * 2).contains(&kept), "{kept:?}");
    }
}

impl Client {
    /// As [`Self::more`], with no limit on time.
    async fn more_in_virtual_time(&mut self) -> bool {
        let mut buffer = [0; 100];
        self.stream.read(&mut buffer).await.unwrap_or(0) > 0
    }
}

#[tokio::test]
async fn a_websocket_that_a_full_server_refuses_is_told_when_to_come_back() {
    let server = Server::start_with_lane(EngineConfig {
        max_sessions: 0,
        ..config()
    })
    .await;
    let mut client = Client::connect(&server).await;
    let opening = request("GET /socket.io/?EIO=4&transport=websocket", &WEBSOCKET, "");
    // The connection is good for another try.
    for _ in 0..2 {
        client.send(opening.as_bytes(), Way::Whole).await;
        let (head, _) = client.answer(true).await.expect("an answer");
        assert_eq!(
            head,
            "HTTP/1.1 503 Service Unavailable\ncontent-length: 0\nretry-after: 5"
        );
    }
}

//! A session and a client as machines, driven by bytes through everything that can happen to them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engineio_proto::{
    BodyKind, CloseReason, Detached, Encoded, Event, Message, NodeTag, PollingPeer,
    ProtocolVersion, Session, SessionConfig, SessionId, Text, Transmit, Transport, TransportId,
};
use socketio_proto::{
    AckId, Client, ClientConfig, ClientEvent, ConnectError, Limits, Parser, SocketioVersion,
};

use super::input::{Input, start};

fn message(flag: bool, data: &[u8]) -> Message {
    match Text::from_utf8(Bytes::copy_from_slice(data)) {
        Ok(text) if flag => Message::Text(text),
        _ => Message::Binary(Bytes::copy_from_slice(data)),
    }
}

/// What a driver keeps of a session's requests.
#[derive(Default)]
struct Requests {
    get: Option<TransportId>,
    post: Option<TransportId>,
    websockets: Vec<TransportId>,
    closed: bool,
}

/// A session never answers twice, never speaks after its end, and never sleeps over a deadline.
pub fn session(data: &[u8]) {
    let mut input = Input(data);
    let flags = input.byte();
    let version = if flags & 1 == 1 {
        ProtocolVersion::V4
    } else {
        ProtocolVersion::V3
    };
    let transport = if flags & 2 == 2 {
        Transport::WebSocket
    } else {
        Transport::Polling
    };
    let config = SessionConfig {
        max_payload: 200,
        max_packets_per_body: 4,
        max_packets_per_post: 8,
        ..SessionConfig::default()
    };
    let peer = PollingPeer {
        supports_binary: flags & 4 == 0,
        ..PollingPeer::default()
    };
    let mut now = start();
    let id = SessionId::new(NodeTag::MAX, [0; 12]);
    let mut session = Session::new(now, Arc::new(config), id, version, transport, peer);
    let mut requests = Requests::default();
    if transport == Transport::WebSocket {
        requests.websockets.push(session.current_transport());
    }
    while !input.is_empty() {
        match input.byte() % 10 {
            0 => {
                if let Ok(id) = session.handle_poll(now) {
                    assert!(requests.get.replace(id).is_none(), "one GET waits at most");
                }
            }
            1 => requests.post = session.handle_post_start(now).ok().or(requests.post),
            2 => {
                let kind = if input.flag() {
                    BodyKind::Text
                } else {
                    BodyKind::Binary
                };
                let body = Bytes::copy_from_slice(input.piece());
                if let Some(id) = requests.post.take() {
                    let _ = session.handle_post(now, id, kind, body);
                }
            }
            3 => requests.websockets.extend(session.handle_ws_open(now)),
            4 => {
                let which = usize::from(input.byte());
                let message = message(input.flag(), input.piece());
                if let Some(id) = requests
                    .websockets
                    .get(which % requests.websockets.len().max(1))
                {
                    session.handle_ws_message(now, *id, message);
                }
            }
            5 => detach(&mut session, &mut requests, &mut input, now),
            6 => session.send(Encoded::binary(Bytes::copy_from_slice(input.piece()))),
            7 => session.send(Encoded::text(&String::from_utf8_lossy(input.piece()))),
            8 => {
                now += Duration::from_millis(u64::from(input.byte()) * 200);
                session.handle_timeout(now);
                assert!(
                    session.poll_timeout().is_none_or(|at| at > now),
                    "a deadline is over"
                );
            }
            _ => session.close(now, CloseReason::ForcedClose),
        }
        outputs(&mut session, &mut requests, now);
    }
    // Whatever it was through: without its peer a session ends.
    for _ in 0..1_000 {
        let Some(at) = session.poll_timeout() else {
            break;
        };
        now = now.max(at);
        session.handle_timeout(now);
        outputs(&mut session, &mut requests, now);
    }
    assert!(
        session.is_closed() || requests.get.is_some(),
        "the session outlives its deadlines"
    );
}

fn detach(
    session: &mut Session,
    requests: &mut Requests,
    input: &mut Input<'_>,
    now: std::time::Instant,
) {
    let kinds = [
        Detached::Closed,
        Detached::Failed,
        Detached::TooLarge,
        Detached::Violation,
    ];
    let why = kinds[usize::from(input.byte()) % kinds.len()];
    let which = input.byte();
    let id = match which % 3 {
        0 => requests.get.take(),
        1 => requests.post.take(),
        _ => {
            let index = usize::from(which) % requests.websockets.len().max(1);
            (index < requests.websockets.len()).then(|| requests.websockets.remove(index))
        }
    };
    if let Some(id) = id {
        session.handle_detached(now, id, why);
    }
}

fn outputs(session: &mut Session, requests: &mut Requests, now: std::time::Instant) {
    for _ in 0..10_000 {
        let Some(transmit) = session.poll_transmit(now) else {
            break;
        };
        match transmit {
            Transmit::PollBody { id, .. } => {
                assert_eq!(
                    requests.get.take(),
                    Some(id),
                    "only a GET that waits is answered"
                );
            }
            Transmit::WebSocket { .. } => {}
            Transmit::CloseWebSocket { id } => requests.websockets.retain(|open| *open != id),
        }
    }
    assert!(session.poll_transmit(now).is_none(), "output without end");
    while let Some(event) = session.poll_event() {
        assert!(!requests.closed, "an event after the end");
        requests.closed = matches!(event, Event::Closed(_));
    }
}

/// A peer's namespaces stay within their limits whatever arrives and whatever the server decides.
pub fn client(data: &[u8]) {
    let mut input = Input(data);
    let flags = input.byte();
    let version = if flags & 1 == 1 {
        SocketioVersion::V5
    } else {
        SocketioVersion::V4
    };
    let limits = Limits {
        max_namespaces: 4,
        max_packet_bytes: 500,
        max_pending_acks: 4,
        ..Limits::default()
    };
    let config = ClientConfig {
        parser: if flags & 2 == 2 {
            Parser::Msgpack
        } else {
            Parser::Json
        },
        limits,
        ..ClientConfig::default()
    };
    let mut now = start();
    let mut client: Client<u8> = Client::new(now, Arc::new(config), version);
    while !input.is_empty() {
        match input.byte() % 6 {
            0..=2 => {
                let message = message(input.flag(), input.piece());
                if client.handle_message(now, message).is_err() {
                    break;
                }
            }
            3 => {
                now += Duration::from_secs(u64::from(input.byte()));
                client.handle_timeout(now);
                assert!(
                    client.poll_timeout().is_none_or(|at| at > now),
                    "a deadline is over"
                );
            }
            4 => {
                let names: Vec<_> = client.joined().cloned().collect();
                if let Some(name) = names.get(usize::from(input.byte()) % names.len().max(1)) {
                    client.disconnect(name.as_str());
                }
            }
            _ => {
                let names: Vec<_> = client.joined().cloned().collect();
                if let Some(name) = names.first() {
                    let at = now + Duration::from_secs(10);
                    let id = AckId::new(u64::from(input.byte()));
                    let _ = client.expect_ack(name.as_str(), id, Some(at), 0);
                }
            }
        }
        events(&mut client, &mut input);
        assert!(client.joined().count() <= 4 && client.pending_acks() <= 4);
    }
    let _ = client.close().count();
}

fn events(client: &mut Client<u8>, input: &mut Input<'_>) {
    while let Some(event) = client.poll_event() {
        if let ClientEvent::Connect { namespace, .. } = event {
            if input.flag() {
                client.refuse(&namespace, &ConnectError::new("no"));
            } else {
                client.accept(&namespace, "AAAAAAAAAAAAAAAAAAAA");
            }
        }
    }
}

//! What servers answer each other.

use std::sync::Arc;

use bytes::Bytes;
use socketio_proto::{Args, Value};

use crate::dialect::answers::Answer;
use crate::dialect::value::{Fields, list, names, object, texts};
use crate::dialect::{DialectLimits, Ignored};
use crate::foreign::SocketSnapshot;
use crate::recipient::{RemoteSocketInfo, Room};

pub(super) const CLIENT_COUNT: u64 = 8;
pub(super) const ACK: u64 = 9;

/// What a question of this node is called.
pub(super) fn request_id(uid: &str, number: u64) -> String {
    format!("{uid}-{number}")
}

/// Reads an answer to a question that the server `uid` asked: the number of the question and what
/// was said.
pub(super) fn read(
    uid: &str,
    payload: &Bytes,
    limits: &DialectLimits,
) -> Result<(u64, Answer), Ignored> {
    let fields = Fields::read(payload)?;
    let id = fields.text("requestId").ok_or(Ignored::Malformed)?;
    let number = id.strip_prefix(uid).and_then(|rest| rest.strip_prefix('-'));
    let number = number.and_then(|number| number.parse().ok());
    let number = number.ok_or(Ignored::NotAsked)?;
    let answer = match fields.number("type") {
        Some(super::request::SERVER_SIDE_EMIT) => {
            Answer::Emitted(fields.get("data").cloned().unwrap_or_default())
        }
        Some(CLIENT_COUNT) => {
            Answer::Asked(fields.number("clientCount").ok_or(Ignored::Malformed)?)
        }
        Some(ACK) => Answer::Ack(Args(fields.get("packet").cloned().into_iter().collect())),
        Some(_) => return Err(Ignored::Unknown),
        None if fields.get("rooms").is_some() => {
            Answer::Rooms(names(fields.get("rooms"), limits.max_items)?)
        }
        None => {
            let sockets = list(fields.get("sockets"), limits.max_items)?;
            let sockets: Option<_> = sockets
                .iter()
                .map(|socket| read_socket(socket, limits))
                .collect();
            Answer::Sockets(sockets.ok_or(Ignored::Malformed)?)
        }
    };
    Ok((number, answer))
}

/// A socket as servers tell of it.
pub(super) fn socket(socket: &RemoteSocketInfo) -> Value {
    object([
        ("id", socket.id.as_str().into()),
        ("handshake", socket.info.handshake()),
        ("rooms", texts(&socket.rooms)),
        ("data", socket.info.data()),
    ])
}

fn read_socket(value: &Value, limits: &DialectLimits) -> Option<RemoteSocketInfo> {
    let id: &str = value.get("id")?.as_str()?;
    let member = |key| value.get(key).cloned().unwrap_or_default();
    let rooms: Vec<Room> = names(value.get("rooms"), limits.max_items).ok()?;
    Some(RemoteSocketInfo {
        id: id.into(),
        rooms,
        info: Arc::new(SocketSnapshot {
            id: id.into(),
            handshake: member("handshake"),
            data: member("data"),
        }),
    })
}

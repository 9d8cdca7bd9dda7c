//! The first request of a session, in the form that socket.io tells it.

use std::time::UNIX_EPOCH;

use humantime::format_rfc3339_millis;
use socketio_proto::Value;
use sockhop_engine::Handshake;

/// The handshake as an object.
///
/// *Source:* the `Handshake` interface of socket.io. `time` is given as the ISO text that
/// JavaScript dates become, not in the locale of the server.
pub(crate) fn describe(handshake: &Handshake, auth: &Value) -> Value {
    let texts = |pairs: &mut dyn Iterator<Item = (String, String)>| {
        Value::Object(
            pairs
                .map(|(name, text)| (name, Value::String(text)))
                .collect(),
        )
    };
    let headers = &mut handshake
        .headers()
        .map(|(name, text)| (name.to_owned(), text.to_owned()));
    let issued = handshake
        .issued()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let issued_ms = u64::try_from(issued.as_millis()).unwrap_or(u64::MAX);
    let address = handshake
        .address()
        .map(|address| address.ip().to_string())
        .unwrap_or_default();
    let members = [
        ("headers", texts(headers)),
        (
            "time",
            Value::String(format_rfc3339_millis(handshake.issued()).to_string()),
        ),
        ("address", Value::String(address)),
        ("xdomain", Value::Bool(handshake.cross_origin())),
        ("secure", Value::Bool(handshake.secure())),
        ("issued", Value::Number(issued_ms.into())),
        ("url", Value::String(handshake.url().to_owned())),
        ("query", texts(&mut handshake.query())),
        ("auth", auth.clone()),
    ];
    Value::Object(
        members
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    )
}

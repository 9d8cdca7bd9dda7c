//! Passing a payload on as it arrived, past serde.
//!
//! Serde carries values, not the message that they arrived in. So a payload shows itself to every
//! serializer as a newtype with a private name. Those of other crates look through it at the
//! arguments; the one that spreads payloads knows the name and asks the content for the payload,
//! which comes through a thread-local. It is asked for by [`payload_from`] only, and the first
//! thing to answer is the content itself, so that no other payload can be taken for it.

use std::cell::Cell;

use bytes::Bytes;
use serde::ser::{Error, Serialize, Serializer};

use super::{Payload, Repr, tail, without_bracket};
use crate::decode::walk_placeholders;
use crate::msgpack;
use crate::value::serialize_all;

/// The name of the newtype that a payload is for serializers.
pub(crate) const PAYLOAD_TOKEN: &str = "$socketio_proto::Payload";

/// As deep as serde_json goes, the array around the arguments included.
const MAX_NESTING: usize = 127;

thread_local! {
    static OFFER: Cell<Offer> = const { Cell::new(Offer::None) };
}

/// What passes between [`payload_from`] and the content that it asks.
enum Offer {
    None,
    Wanted,
    Made(Payload),
}

/// The payload whose content `serialize` serialises.
pub(crate) fn payload_from<R>(serialize: impl FnOnce() -> R) -> Option<Payload> {
    exchange(Offer::Wanted)?;
    serialize();
    match exchange(Offer::None)? {
        Offer::Made(payload) => Some(payload),
        Offer::None | Offer::Wanted => None,
    }
}

/// `None` while the thread ends: then payloads go the ordinary way.
fn exchange(offer: Offer) -> Option<Offer> {
    OFFER.try_with(|cell| cell.replace(offer)).ok()
}

/// All arguments, as with [`crate::Args`]; a tuple for serializers of other crates.
impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(PAYLOAD_TOKEN, &Content(self))
    }
}

struct Content<'a>(&'a Payload);

impl Serialize for Content<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some(Offer::Wanted) = exchange(Offer::None) {
            exchange(Offer::Made(self.0.clone()));
            return Err(S::Error::custom("handed over"));
        }
        match &self.0.0 {
            Repr::Values(values) => serialize_all(values, serializer),
            Repr::Empty | Repr::Json { .. } | Repr::JsonOne { .. } | Repr::Msgpack { .. } => self
                .0
                .args()
                .map_err(S::Error::custom)?
                .serialize(serializer),
        }
    }
}

impl Payload {
    /// The arguments as in [`Self::raw_json`], with the attachments that they point to.
    ///
    /// `None` if they are not JSON, or would do harm at the next peer: a parser may give up on
    /// what is nested too deeply, and does so on a placeholder without its attachment.
    pub(crate) fn json_as_it_arrived(&self) -> Option<(&str, &[Bytes])> {
        match &self.0 {
            Repr::Empty => Some(("", &[])),
            Repr::Json {
                text,
                start,
                arguments,
                attachments,
            } => {
                let array = tail(text, *start);
                let attachments = attachments.as_deref().unwrap_or_default();
                let harmless = match attachments.len() {
                    0 => is_shallow(array),
                    // Goes no deeper than allowed either. Placeholders out of their order are
                    // numbered anew, as every encoder of the protocol numbers them, if only the
                    // payload can be read.
                    count => walk_placeholders(array, count)
                        .is_ok_and(|in_order| in_order || self.args().is_err()),
                };
                harmless.then(|| (without_bracket(tail(text, *arguments)), attachments))
            }
            Repr::JsonOne { .. } | Repr::Msgpack { .. } | Repr::Values(_) => None,
        }
    }

    /// The arguments and their number.
    ///
    /// `None` if they are not MessagePack, or if parsers of other peers might give up on them.
    pub(crate) fn msgpack_as_it_arrived(&self) -> Option<(&[u8], u32)> {
        match &self.0 {
            Repr::Empty => Some((&[], 0)),
            Repr::Msgpack { data, count, .. } => {
                msgpack::any_peer_reads(data).then_some((&**data, *count))
            }
            Repr::Json { .. } | Repr::JsonOne { .. } | Repr::Values(_) => None,
        }
    }
}

/// Whether valid JSON is nested no deeper than [`MAX_NESTING`].
fn is_shallow(json: &str) -> bool {
    // What is opened is closed again.
    if json.len() <= 2 * MAX_NESTING {
        return true;
    }
    let brackets = json.bytes().filter(|byte| matches!(byte, b'[' | b'{'));
    // Nearly always this settles it, and it is fast.
    if brackets.count() <= MAX_NESTING {
        return true;
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth = depth.saturating_add(1);
                if depth > MAX_NESTING {
                    return false;
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests;

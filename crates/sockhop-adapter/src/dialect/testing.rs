//! What the tests of both dialects need.

use socketio_proto::Value;

use super::{DialectStats, Ignored};
use crate::options::BroadcastOptions;
use crate::recipient::Room;

pub(super) fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

pub(super) fn options(rooms: &[&str], except: &[&str]) -> BroadcastOptions {
    BroadcastOptions {
        rooms: rooms.iter().map(|room| Room::from(*room)).collect(),
        except: except.iter().map(|room| Room::from(*room)).collect(),
        ..BroadcastOptions::default()
    }
}

/// What a message is counted as that `receive` does not act on.
pub(super) fn counted(stats: &DialectStats, receive: impl FnOnce()) -> Ignored {
    let before = Ignored::ALL.map(|reason| stats.ignored(reason).get());
    receive();
    let is_counted = |(reason, before): &(Ignored, u64)| stats.ignored(*reason).get() > *before;
    let mut reasons = Ignored::ALL.into_iter().zip(before).filter(is_counted);
    reasons.next().expect("it is counted").0
}

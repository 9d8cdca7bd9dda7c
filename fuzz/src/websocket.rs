//! WebSocket frames of a client. The reader is private to its crate, so its file is read again.

#[allow(
    dead_code,
    unreachable_pub,
    clippy::allow_attributes,
    reason = "a file of another crate, of which this uses a part"
)]
#[path = "../../crates/sockhop-engine/src/websocket/reader.rs"]
mod reader;

use super::input::Input;
use reader::{FrameReader, Incoming, ReadError, ReadLimits};

const LIMITS: ReadLimits = ReadLimits {
    max_message_bytes: 1000,
    max_fragments: 8,
};

/// All that is read when the bytes come in pieces of these sizes.
fn read_in_pieces(data: &[u8], sizes: &[u8]) -> (Vec<Incoming>, Option<ReadError>) {
    let mut reader = FrameReader::default();
    let mut read = Vec::new();
    let mut rest = data;
    let mut sizes = sizes.iter().cycle();
    while !rest.is_empty() {
        let size = sizes
            .next()
            .map_or(usize::MAX, |size| usize::from(*size) + 1);
        let (mut piece, later) = rest.split_at(size.min(rest.len()));
        rest = later;
        loop {
            match reader.read(&mut piece, LIMITS) {
                Ok(Some(incoming)) => read.push(incoming),
                Ok(None) => break,
                Err(error) => return (read, Some(error)),
            }
        }
        assert!(piece.is_empty(), "without a message all is consumed");
    }
    (read, None)
}

/// Frames mean the same however the bytes arrive, and no message is over its limit.
pub fn websocket_frames(data: &[u8]) {
    let mut input = Input(data);
    let sizes = input.piece();
    let whole = read_in_pieces(input.0, &[]);
    for incoming in &whole.0 {
        if let Incoming::Message(message) = incoming {
            assert!(message.len() <= LIMITS.max_message_bytes);
        }
    }
    assert_eq!(read_in_pieces(input.0, sizes), whole);
    assert_eq!(read_in_pieces(input.0, &[0]), whole);
}

//! One connection's two directions: what is being written, and what was read and not yet parsed.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use crate::connect::Stream;
use crate::error::Fault;

/// Room for one read. Payloads are slices of it, so it is shared by many small messages.
const READ_BYTES: usize = 64 << 10;

/// With less room than this a new buffer is taken.
const SMALL_READ_BYTES: usize = 4 << 10;

/// The receiving half and its buffer.
pub(crate) struct Receiver {
    half: ReadHalf<Box<dyn Stream>>,
    buffer: BytesMut,
    /// Before this many bytes are there, parsing is in vain.
    needed: usize,
}

/// The sending half and what is to leave on it.
pub(crate) struct Sender {
    half: WriteHalf<Box<dyn Stream>>,
    segments: Segments,
    unflushed: bool,
}

pub(crate) fn split(stream: Box<dyn Stream>) -> (Receiver, Sender) {
    let (read, write) = tokio::io::split(stream);
    let receiver = Receiver {
        half: read,
        buffer: BytesMut::new(),
        needed: 0,
    };
    let sender = Sender {
        half: write,
        segments: Segments::default(),
        unflushed: false,
    };
    (receiver, sender)
}

impl Receiver {
    /// Waits for bytes until there can be a whole reply. Cancel-safe.
    pub(crate) async fn fill(&mut self) -> Result<(), Fault> {
        loop {
            let room = self.buffer.capacity() - self.buffer.len();
            let missing = self.needed.saturating_sub(self.buffer.len());
            if room < missing.max(SMALL_READ_BYTES) {
                self.buffer.reserve(missing.max(READ_BYTES));
            }
            if self.half.read_buf(&mut self.buffer).await? == 0 {
                return Err(Fault::Closed);
            }
            if self.buffer.len() >= self.needed {
                return Ok(());
            }
        }
    }

    /// What was read and not consumed.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.buffer
    }

    /// Takes the first `bytes` out, to be sliced; the reply after them needs `needed` bytes.
    pub(crate) fn consume(&mut self, bytes: usize, needed: usize) -> Bytes {
        self.needed = needed;
        self.buffer.split_to(bytes).freeze()
    }
}

impl Sender {
    /// Appends.
    pub(crate) fn push(&mut self, mut segments: VecDeque<Bytes>) {
        self.segments.0.append(&mut segments);
    }

    /// Whether all of it has left.
    pub(crate) fn is_idle(&self) -> bool {
        self.segments.0.is_empty() && !self.unflushed
    }

    /// Sends as much as one system call takes. Cancel-safe.
    pub(crate) async fn write(&mut self) -> Result<(), Fault> {
        if self.segments.has_remaining() {
            if self.half.write_buf(&mut self.segments).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::WriteZero).into());
            }
            self.unflushed = true;
        }
        if !self.segments.has_remaining() {
            // TLS keeps records back until they are flushed.
            self.half.flush().await?;
            self.unflushed = false;
        }
        Ok(())
    }
}

/// A queue of byte strings, written together.
#[derive(Debug, Default)]
struct Segments(VecDeque<Bytes>);

impl Buf for Segments {
    fn remaining(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    fn has_remaining(&self) -> bool {
        !self.0.is_empty()
    }

    fn chunk(&self) -> &[u8] {
        self.0.front().map(Bytes::as_ref).unwrap_or_default()
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let pairs = slices.iter_mut().zip(&self.0);
        pairs
            .map(|(slice, segment)| *slice = IoSlice::new(segment))
            .count()
    }

    fn advance(&mut self, mut count: usize) {
        while count > 0
            && let Some(front) = self.0.front_mut()
        {
            if count < front.len() {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_written_in_order_and_forgotten_when_written() {
        let parts = ["abc", "d", "ef"].map(Bytes::from);
        let mut segments = Segments(VecDeque::from(parts));
        segments.advance(2);
        assert_eq!(segments.chunk(), b"c");
        segments.advance(3);
        assert_eq!((segments.remaining(), segments.chunk()), (1, &b"f"[..]));
        segments.advance(1);
        assert!(!segments.has_remaining());
    }
}

//! Outgoing frames of one WebSocket: everything that waits leaves in one vectored write.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use engineio_proto::{Encoded, Frame, GaveWay, GivesWay, ProtocolVersion};
use smallvec::SmallVec;
use tokio::io::AsyncWrite;

/// Slices of one vectored write.
const MAX_SLICES: usize = 64;

/// A queue longer than this is freed once it is empty.
const KEEP_ENTRIES: usize = 8;

/// Header of a binary frame, with the packet type that version 3 puts behind it.
type BinaryHeader = ([u8; 11], usize);

#[derive(Debug)]
enum Entry {
    /// Prepared frames from `first_frame` on, shared with the other recipients.
    Packet {
        encoded: Encoded,
        first_frame: usize,
    },
    /// Whole frames of this connection alone, and the budget of the packet that they carry.
    Own {
        frames: Bytes,
        refund_bytes: usize,
        gives_way: GivesWay,
    },
}

/// Frames in the order in which they leave, and how far the first of them got.
#[derive(Debug)]
pub(crate) struct FrameWriter {
    entries: VecDeque<Entry>,
    /// Bytes of the first frame that the kernel has taken.
    written: usize,
    version: ProtocolVersion,
}

/// What one call of [`FrameWriter::poll_write`] handed to the kernel.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Written {
    pub(crate) bytes: usize,
    /// Budget of the packets that are now entirely with the kernel.
    pub(crate) refund_bytes: usize,
}

impl FrameWriter {
    pub(crate) fn new(version: ProtocolVersion) -> Self {
        Self {
            entries: VecDeque::new(),
            written: 0,
            version,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn push_packet(&mut self, encoded: Encoded, first_frame: usize) {
        self.entries.push_back(Entry::Packet {
            encoded,
            first_frame,
        });
    }

    /// Queues whole frames of no packet, headers included.
    pub(crate) fn push_own(&mut self, frames: Bytes) {
        self.entries.push_back(Entry::Own {
            frames,
            refund_bytes: 0,
            gives_way: GivesWay::Never,
        });
    }

    /// Queues `packet` as these whole frames, headers included.
    pub(crate) fn push_rewritten(&mut self, packet: &Encoded, frames: Bytes) {
        self.entries.push_back(Entry::Own {
            frames,
            refund_bytes: packet.budget_bytes(),
            gives_way: packet.gives_way(),
        });
    }

    /// Drops packets that give way, oldest first, until `bytes` are free or none is left. A packet
    /// of which the kernel has a part stays whole.
    pub(crate) fn make_room(&mut self, bytes: usize) -> GaveWay {
        let mut gone = GaveWay::default();
        let mut first_written = self.written;
        self.entries.retain(|entry| {
            let begun = std::mem::take(&mut first_written) > 0;
            let (gives_way, budget_bytes, begun) = match entry {
                Entry::Packet {
                    encoded,
                    first_frame,
                } => {
                    let begun = begun || *first_frame > 0;
                    (encoded.gives_way(), encoded.budget_bytes(), begun)
                }
                Entry::Own {
                    refund_bytes,
                    gives_way,
                    ..
                } => (*gives_way, *refund_bytes, begun),
            };
            let stays = begun || gone.bytes >= bytes || gives_way == GivesWay::Never;
            if !stays {
                gone.add(gives_way, budget_bytes);
            }
            stays
        });
        gone
    }

    /// Writes until the queue is empty or the transport takes no more.
    ///
    /// `Ready` means that the queue is empty.
    pub(crate) fn poll_write(
        &mut self,
        io: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
        done: &mut Written,
    ) -> Poll<std::io::Result<()>> {
        while !self.entries.is_empty() {
            let attempt = match self.only_slice() {
                Some(bytes) => Pin::new(&mut *io).poll_write(cx, bytes),
                None => {
                    let headers = self.binary_headers();
                    let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                    let count = self.gather(&headers, &mut slices);
                    Pin::new(&mut *io).poll_write_vectored(cx, &slices[..count])
                }
            };
            let taken = ready!(attempt)?;
            if taken == 0 {
                return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
            }
            done.bytes += taken;
            done.refund_bytes += self.advance(taken);
        }
        if self.entries.capacity() > KEEP_ENTRIES {
            self.entries = VecDeque::new();
        }
        Poll::Ready(Ok(()))
    }

    /// All that waits, if it is one slice: the kernel takes that for less than a vector of one.
    fn only_slice(&self) -> Option<&[u8]> {
        if self.entries.len() > 1 {
            return None;
        }
        let whole = match self.entries.front()? {
            Entry::Own { frames, .. } => frames,
            Entry::Packet {
                encoded,
                first_frame,
            } if *first_frame + 1 == encoded.frame_count() => {
                encoded.frame(*first_frame)?.websocket_text()?
            }
            Entry::Packet { .. } => return None,
        };
        whole.get(self.written..)
    }

    /// Headers of the binary frames among the first entries, which the slices refer to.
    fn binary_headers(&self) -> SmallVec<[BinaryHeader; 4]> {
        self.frames()
            .filter(|frame| frame.is_binary())
            .map(|frame| frame.websocket_binary_header(self.version))
            .collect()
    }

    /// The frames of the packets that one write can hold at most.
    fn frames(&self) -> impl Iterator<Item = &Frame> {
        self.entries
            .iter()
            .take(MAX_SLICES)
            .filter_map(|entry| match entry {
                Entry::Packet {
                    encoded,
                    first_frame,
                } => Some(encoded.frames().skip(*first_frame)),
                Entry::Own { .. } => None,
            })
            .flatten()
            .take(MAX_SLICES)
    }

    fn gather<'a>(&'a self, headers: &'a [BinaryHeader], slices: &mut [IoSlice<'a>]) -> usize {
        let mut headers = headers.iter();
        let mut out = Gather {
            slices,
            count: 0,
            skip: self.written,
        };
        for entry in self.entries.iter().take(MAX_SLICES) {
            match entry {
                Entry::Own { frames, .. } => out.push(frames),
                Entry::Packet {
                    encoded,
                    first_frame,
                } => {
                    for frame in encoded.frames().skip(*first_frame) {
                        if let Some(text) = frame.websocket_text() {
                            out.push(text);
                        } else if let Some((header, len)) = headers.next() {
                            out.push(&header[..*len]);
                            out.push(frame.data());
                        } else {
                            // More binary frames than one write looks at: the next write's.
                            return out.count;
                        }
                    }
                }
            }
            if out.count >= MAX_SLICES - 1 {
                break;
            }
        }
        out.count
    }

    /// Forgets `taken` bytes; returns the budget of the packets that they complete.
    fn advance(&mut self, taken: usize) -> usize {
        let mut refund = 0;
        self.written += taken;
        while let Some(first) = self.entries.front_mut() {
            let (len, done, budget) = match first {
                Entry::Own {
                    frames,
                    refund_bytes,
                    ..
                } => (frames.len(), true, *refund_bytes),
                Entry::Packet {
                    encoded,
                    first_frame,
                } => {
                    let len = encoded
                        .frame(*first_frame)
                        .map_or(0, |it| frame_len(it, self.version));
                    let last = *first_frame + 1 >= encoded.frame_count();
                    (len, last, encoded.budget_bytes())
                }
            };
            if self.written < len {
                break;
            }
            self.written -= len;
            if done {
                refund += budget;
                self.entries.pop_front();
            } else if let Entry::Packet { first_frame, .. } = first {
                *first_frame += 1;
            }
        }
        refund
    }
}

/// Bytes of a frame with its header.
fn frame_len(frame: &Frame, version: ProtocolVersion) -> usize {
    match frame.websocket_text() {
        Some(text) => text.len(),
        None => frame.websocket_binary_header(version).1 + frame.data().len(),
    }
}

/// Collects slices, leaving out the bytes that were written before.
struct Gather<'s, 'a> {
    slices: &'s mut [IoSlice<'a>],
    count: usize,
    skip: usize,
}

impl<'a> Gather<'_, 'a> {
    fn push(&mut self, bytes: &'a [u8]) {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        let rest = &bytes[skipped..];
        if let (false, Some(slot)) = (rest.is_empty(), self.slices.get_mut(self.count)) {
            *slot = IoSlice::new(rest);
            self.count += 1;
        }
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;

//! The way out of one user: frames straight into the socket, or packets waiting for a POST.

use std::cell::{Cell, RefCell};
use std::task::{Context, Poll, Waker};

use crate::error::Fault;
use crate::stream::Stream;
use crate::websocket;

/// Bytes that may wait for a server that does not read.
const MAX_WAITING_BYTES: usize = 4 * 1024 * 1024;

/// See the module.
#[derive(Debug)]
pub struct Link {
    /// The WebSocket, while there is one.
    stream: RefCell<Option<Stream>>,
    /// Bytes that the socket did not take.
    out: RefCell<Vec<u8>>,
    /// Packets that wait for a POST or for the end of an upgrade.
    packets: RefCell<Vec<Vec<u8>>>,
    waker: RefCell<Option<Waker>>,
    /// Why the connection is to end.
    end: RefCell<Option<Fault>>,
    mask: Cell<u32>,
}

impl Link {
    /// A link that leads nowhere yet.
    #[must_use]
    pub fn new(seed: u32) -> Self {
        Self {
            stream: RefCell::new(None),
            out: RefCell::default(),
            packets: RefCell::default(),
            waker: RefCell::new(None),
            end: RefCell::new(None),
            mask: Cell::new(seed.wrapping_mul(0x9e37_79b9) | 1),
        }
    }

    /// Forgets an earlier connection.
    pub fn reset(&self) {
        *self.stream.borrow_mut() = None;
        *self.out.borrow_mut() = Vec::new();
        *self.packets.borrow_mut() = Vec::new();
        *self.end.borrow_mut() = None;
    }

    /// From now on packets leave as frames; those that waited leave first.
    pub fn open_websocket(&self, stream: Stream) {
        *self.stream.borrow_mut() = Some(stream);
        let packets = std::mem::take(&mut *self.packets.borrow_mut());
        for packet in packets {
            self.send(&packet);
        }
    }

    /// Sends one Engine.IO packet.
    pub fn send(&self, packet: &[u8]) {
        if self.stream.borrow().is_none() {
            self.packets.borrow_mut().push(packet.to_vec());
            self.wake();
            return;
        }
        self.send_frame(websocket::TEXT, packet);
    }

    /// Sends one WebSocket frame.
    pub fn send_frame(&self, opcode: u8, content: &[u8]) {
        let mut out = self.out.borrow_mut();
        let was_empty = out.is_empty();
        websocket::push_frame(&mut out, opcode, &[content], self.next_mask());
        if let (true, Some(stream)) = (was_empty, &mut *self.stream.borrow_mut()) {
            // An error shows again in the reading half, which ends the connection.
            let _ = stream.try_write(&mut out);
        }
        let waiting = out.len();
        drop(out);
        if waiting > MAX_WAITING_BYTES {
            self.end(Fault::Timeout("the server does not read"));
        } else if waiting > 0 {
            self.wake();
        }
    }

    /// RFC 6455 wants masks that pages cannot foresee; for a load test, different ones do.
    fn next_mask(&self) -> [u8; 4] {
        let mut mask = self.mask.get();
        mask ^= mask << 13;
        mask ^= mask >> 17;
        mask ^= mask << 5;
        self.mask.set(mask);
        mask.to_le_bytes()
    }

    /// Takes the packets that wait for a POST.
    pub fn take_packets(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *self.packets.borrow_mut())
    }

    /// The packets that wait for a POST, once there are any.
    pub fn poll_packets(&self, context: &mut Context<'_>) -> Poll<Vec<Vec<u8>>> {
        if self.packets.borrow().is_empty() {
            self.remember(context);
            return Poll::Pending;
        }
        Poll::Ready(self.take_packets())
    }

    /// Asks the connection to end.
    pub fn end(&self, fault: Fault) {
        self.end.borrow_mut().get_or_insert(fault);
        self.wake();
    }

    /// Ready once the connection is to end.
    pub fn poll_end(&self, context: &mut Context<'_>) -> Poll<Fault> {
        match &*self.end.borrow() {
            Some(fault) => Poll::Ready(fault.clone()),
            None => {
                self.remember(context);
                Poll::Pending
            }
        }
    }

    fn remember(&self, context: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(context.waker()))
        {
            *waker = Some(context.waker().clone());
        }
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Writes what waits, and reads once; pending if nothing came.
    pub fn poll_socket(
        &self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<std::io::Result<usize>> {
        self.remember(context);
        let mut stream = self.stream.borrow_mut();
        let Some(stream) = &mut *stream else {
            return Poll::Ready(Ok(0));
        };
        let mut out = self.out.borrow_mut();
        if (!out.is_empty() || matches!(stream, Stream::Tls(_)))
            && let Poll::Ready(Err(error)) = stream.poll_write(context, &mut out)
        {
            return Poll::Ready(Err(error));
        }
        stream.poll_read(context, buffer)
    }
}

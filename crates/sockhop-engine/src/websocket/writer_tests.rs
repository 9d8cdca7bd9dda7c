use super::*;
use engineio_proto::MessageWriter;

/// Takes a fixed number of bytes a call, and remembers all of them.
struct Trickle {
    step: usize,
    taken: Vec<u8>,
    calls: usize,
}

impl Trickle {
    fn new(step: usize) -> Self {
        Self {
            step,
            taken: Vec::new(),
            calls: 0,
        }
    }
}

impl AsyncWrite for Trickle {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let take = buf.len().min(self.step);
        self.taken.extend_from_slice(&buf[..take]);
        Poll::Ready(Ok(take))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let mut left = self.step;
        self.calls += 1;
        for buf in bufs {
            let take = buf.len().min(left);
            self.taken.extend_from_slice(&buf[..take]);
            left -= take;
        }
        Poll::Ready(Ok(self.step - left))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

fn with_attachments(text: &str, attachments: &[&'static [u8]]) -> Encoded {
    let mut writer = MessageWriter::with_capacity(text.len());
    writer.buffer().extend_from_slice(text.as_bytes());
    writer.finish(
        attachments
            .iter()
            .map(|data| Bytes::from_static(data))
            .collect(),
    )
}

fn write_all(writer: &mut FrameWriter, io: &mut Trickle) -> Written {
    let mut done = Written::default();
    let mut cx = Context::from_waker(std::task::Waker::noop());
    assert!(matches!(
        writer.poll_write(io, &mut cx, &mut done),
        Poll::Ready(Ok(()))
    ));
    done
}

#[test]
fn the_bytes_are_the_same_however_little_the_kernel_takes() {
    for version in [ProtocolVersion::V3, ProtocolVersion::V4] {
        let fill = |writer: &mut FrameWriter| {
            writer.push_packet(with_attachments("51-[\"a\"]", &[b"abc", b"", b"defgh"]), 0);
            writer.push_own(Bytes::from_static(&[0x81, 1, b'2']));
            writer.push_packet(Encoded::text("2[\"b\"]"), 0);
        };
        let mut whole = Trickle::new(usize::MAX / 2);
        let mut writer = FrameWriter::new(version);
        fill(&mut writer);
        let done = write_all(&mut writer, &mut whole);
        assert_eq!((whole.calls, done.bytes), (1, whole.taken.len()));
        for step in 1..whole.taken.len() {
            let mut io = Trickle::new(step);
            fill(&mut writer);
            assert_eq!(
                write_all(&mut writer, &mut io).refund_bytes,
                done.refund_bytes
            );
            assert_eq!(io.taken, whole.taken, "{step} bytes a call");
        }
    }
}

#[test]
fn a_long_queue_leaves_in_order_and_is_all_refunded() {
    let mut writer = FrameWriter::new(ProtocolVersion::V4);
    let mut expected = Vec::new();
    let mut charged = 0;
    for index in 0..300 {
        let packet = with_attachments(&format!("{index}"), &[b"x", b"y"]);
        charged += packet.budget_bytes();
        expected.extend_from_slice(packet.frame(0).unwrap().websocket_text().unwrap());
        expected.extend_from_slice(b"\x82\x01x\x82\x01y");
        writer.push_packet(packet, 0);
    }
    let mut io = Trickle::new(usize::MAX / 2);
    assert_eq!(write_all(&mut writer, &mut io).refund_bytes, charged);
    assert_eq!(io.taken, expected);
    assert!(writer.is_empty());
}

#[test]
fn a_packet_with_more_attachments_than_one_write_holds_is_written_whole() {
    let mut writer = FrameWriter::new(ProtocolVersion::V4);
    writer.push_packet(with_attachments("5", &[&b"z"[..]; 200]), 0);
    let mut io = Trickle::new(usize::MAX / 2);
    write_all(&mut writer, &mut io);
    assert_eq!(io.taken.len(), 4 + 200 * 3);
}

fn marked(text: &str, attachments: &[&'static [u8]]) -> Encoded {
    with_attachments(text, attachments).giving_way(GivesWay::ToNewer)
}

/// Takes so many bytes in all, and then no more.
struct Full {
    left: usize,
    taken: Vec<u8>,
}

impl AsyncWrite for Full {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        if self.left == 0 {
            return Poll::Pending;
        }
        let take = buf.len().min(self.left);
        self.left -= take;
        self.taken.extend_from_slice(&buf[..take]);
        Poll::Ready(Ok(take))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn room_is_made_of_the_oldest_that_give_way_but_not_of_what_has_begun_to_leave() {
    for left in [1, 7, 10] {
        let mut writer = FrameWriter::new(ProtocolVersion::V4);
        writer.push_packet(marked("51-0", &[b"abc"]), 0);
        writer.push_own(Bytes::from_static(&[0x81, 1, b'2']));
        writer.push_packet(Encoded::text("firm"), 0);
        let bytes = marked("1", &[]).budget_bytes();
        writer.push_packet(marked("1", &[]), 0);
        writer.push_packet(marked("2", &[]), 0);
        writer.push_rewritten(&marked("3", &[]), Bytes::from_static(b"\x81\x0243"));
        writer.push_packet(marked("4", &[]), 0);
        let taken = Vec::new();
        let mut io = Full { left, taken };
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut written = Written::default();
        assert!(
            writer
                .poll_write(&mut io, &mut cx, &mut written)
                .is_pending()
        );

        let gone = writer.make_room(2 * bytes + 1);
        let (to_newer, volatile) = (3, 0);
        let expected = GaveWay {
            bytes: 3 * bytes,
            to_newer,
            volatile,
        };
        assert_eq!(gone, expected);
        io.left = usize::MAX;
        let done = writer.poll_write(&mut io, &mut cx, &mut written);
        assert!(matches!(done, Poll::Ready(Ok(()))));
        assert_eq!(
            io.taken,
            b"\x81\x05451-0\x82\x03abc\x81\x012\x81\x054firm\x81\x0244"
        );
    }
}

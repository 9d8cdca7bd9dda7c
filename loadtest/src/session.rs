//! The life of one connection, from the first byte to the last.

use std::cell::Cell;
use std::future::poll_fn;
use std::net::Ipv4Addr;
use std::task::{Context, Poll};
use std::time::Duration;

use serde_json::Value;

use crate::error::Fault;
use crate::http::{self, Head};
use crate::packet::{self, Eio};
use crate::plan::Kind;
use crate::stream::{Stream, Target, with_buffer};
use crate::websocket;
use crate::world::{User, World};

/// How long a handshake may take, from the first request to the namespace's answer.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// Reads in a row before others get their turn.
const MAX_READS: usize = 16;

/// One connection in the making or alive.
struct Session<'a> {
    world: &'a World,
    user: &'a User,
    target: &'a Target,
    source: Option<Ipv4Addr>,
    /// When it was to begin.
    began_us: u64,
    cookies: String,
    session_id: String,
    is_connected: Cell<bool>,
}

/// Connects, lives, and says why it ended. `is_connected` on return is in the fault's meaning:
/// [`World::disconnected`] was called if the namespace had answered.
pub async fn run(world: &World, user: &User, attempt: u32, began_us: u64) -> Fault {
    let targets = &world.plan.targets;
    let target = &targets[(user.index as usize + attempt as usize) % targets.len()];
    let sources = &world.plan.sources;
    let source = sources.get(user.index as usize % sources.len().max(1));
    user.link.reset();
    let mut session = Session {
        world,
        user,
        target,
        source: source.copied(),
        began_us,
        cookies: String::new(),
        session_id: String::new(),
        is_connected: Cell::new(false),
    };
    let life = async {
        match user.kind {
            Kind::WebSocket => session.websocket().await,
            Kind::Polling => session.polling().await,
            Kind::Upgrading => session.upgrading().await,
        }
    };
    let fault = match life.await {
        Ok(never) => match never {},
        Err(fault) => fault,
    };
    if session.is_connected.get() {
        world.disconnected(user, &fault);
    } else if fault != Fault::Asked {
        world.stats.borrow_mut().error(fault.to_string());
    }
    user.link.reset();
    fault
}

/// There is no good end: every life ends with a [`Fault`].
enum Never {}

impl Session<'_> {
    fn query(&self, transport: &str) -> String {
        let plan = &self.world.plan;
        let mut path = format!(
            "{}?EIO={}&transport={transport}",
            plan.path,
            self.user.eio.number()
        );
        if !self.session_id.is_empty() {
            path.push_str("&sid=");
            path.push_str(&self.session_id);
            return path;
        }
        if let Some(query) = &plan.options.query {
            path.push('&');
            path.push_str(query);
        }
        if let Some(room) = self.user.rooms.borrow().first()
            && let Some(join) = plan.app.join_query(&World::room_name(*room))
        {
            path.push('&');
            path.push_str(&join);
        }
        path
    }

    fn head(&self) -> Head<'_> {
        Head {
            authority: &self.target.authority,
            cookies: &self.cookies,
            extra: &self.world.plan.headers,
        }
    }

    async fn in_time<T>(&self, what: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        let ended = poll_fn(|context| self.user.link.poll_end(context));
        tokio::select! {
            biased;
            fault = ended => Err(fault),
            result = tokio::time::timeout(HANDSHAKE_TIMEOUT, what) => {
                result.unwrap_or(Err(Fault::Timeout("handshake")))
            }
        }
    }

    async fn connect(&self) -> Result<Stream, Fault> {
        self.in_time(Stream::connect(self.target, self.source))
            .await
    }

    // ---- websocket ------------------------------------------------------------------------

    async fn websocket(&mut self) -> Result<Never, Fault> {
        let mut stream = self.connect().await?;
        let mut rest = Vec::new();
        let path = self.query("websocket");
        let head = self.head();
        let upgrade = websocket::upgrade(&mut stream, &head, &path, &mut rest);
        self.in_time(upgrade).await?;
        self.user.link.open_websocket(stream);
        self.frames(rest).await
    }

    /// Everything that comes over a WebSocket.
    async fn frames(&mut self, mut rest: Vec<u8>) -> Result<Never, Fault> {
        if !self.is_connected.get() {
            let deadline = tokio::time::sleep(HANDSHAKE_TIMEOUT);
            let until_connected = poll_fn(|context| {
                let fault = self.poll_frames(context, &mut rest);
                match (fault, self.is_connected.get()) {
                    (Poll::Ready(fault), _) => Poll::Ready(Err(fault)),
                    (Poll::Pending, true) => Poll::Ready(Ok(())),
                    (Poll::Pending, false) => Poll::Pending,
                }
            });
            tokio::select! {
                biased;
                result = until_connected => result?,
                () = deadline => return Err(Fault::Timeout("handshake")),
            }
        }
        if self.user.slow {
            return Err(poll_fn(|context| self.user.link.poll_end(context)).await);
        }
        Err(poll_fn(|context| self.poll_frames(context, &mut rest)).await)
    }

    fn poll_frames(&self, context: &mut Context<'_>, rest: &mut Vec<u8>) -> Poll<Fault> {
        for _ in 0..MAX_READS {
            if let Poll::Ready(fault) = self.user.link.poll_end(context) {
                return Poll::Ready(fault);
            }
            if !rest.is_empty()
                && let Err(fault) = self.take_rest(rest)
            {
                return Poll::Ready(fault);
            }
            let read = with_buffer(|buffer| {
                let read = match self.user.link.poll_socket(context, buffer) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(Fault::Closed)),
                    Poll::Ready(Ok(len)) => &buffer[..len],
                    Poll::Ready(Err(error)) => {
                        return Poll::Ready(Err(Fault::Broken(error.kind())));
                    }
                    Poll::Pending => return Poll::Pending,
                };
                self.user.heard_us.set(self.world.now_us());
                if rest.is_empty() {
                    let used = self.take_frames(read)?;
                    rest.extend_from_slice(&read[used..]);
                } else {
                    rest.extend_from_slice(read);
                }
                Poll::Ready(Ok(()))
            });
            match read {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(fault)) => return Poll::Ready(fault),
                Poll::Ready(Ok(())) => {}
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn take_rest(&self, rest: &mut Vec<u8>) -> Result<(), Fault> {
        let used = self.take_frames(rest)?;
        if used == rest.len() {
            *rest = Vec::new();
        } else {
            rest.drain(..used);
        }
        Ok(())
    }

    /// Handles the complete frames; how many bytes they took.
    fn take_frames(&self, bytes: &[u8]) -> Result<usize, Fault> {
        let mut used = 0;
        while let Some((frame, len)) = websocket::parse_frame(&bytes[used..])? {
            match (frame.opcode, frame.last) {
                (websocket::TEXT, true) => self.packet(frame.content)?,
                (websocket::PING, _) => {
                    self.user.link.send_frame(websocket::PONG, frame.content);
                }
                (websocket::CLOSE, _) => {
                    let code = frame.content.first_chunk().copied();
                    let code = u16::from_be_bytes(code.unwrap_or(1005_u16.to_be_bytes()));
                    return Err(Fault::CloseCode(code));
                }
                (websocket::TEXT | 0, false) | (0, true) => {
                    return Err(Fault::Protocol("fragmented message"));
                }
                _ => {}
            }
            used += len;
        }
        Ok(used)
    }

    // ---- packets --------------------------------------------------------------------------

    /// One Engine.IO packet, over either transport.
    fn packet(&self, packet: &[u8]) -> Result<(), Fault> {
        match packet.split_first() {
            Some((b'4', message)) if self.is_connected.get() => {
                self.world.arrived(self.user, message)
            }
            Some((b'4', message)) => self.namespace_answer(message),
            Some((b'2', data)) => {
                self.user.link.send(&[b"3", data].concat());
                Ok(())
            }
            Some((b'0', open)) => self.open(open).map(drop),
            Some((b'1', _)) => Err(Fault::Disconnected),
            _ => Ok(()),
        }
    }

    /// The session's id and its heartbeat, and CONNECT in answer.
    fn open(&self, data: &[u8]) -> Result<String, Fault> {
        let bad = || Fault::Protocol("bad open packet");
        let open: Value = serde_json::from_slice(data).map_err(|_| bad())?;
        let ms = |key: &str| open[key].as_u64().ok_or_else(bad);
        let (interval, timeout) = (ms("pingInterval")?, ms("pingTimeout")?);
        let user = self.user;
        user.heard_us.set(self.world.now_us());
        user.pinged_us.set(self.world.now_us());
        user.patience_us.set((interval + timeout) * 1000);
        if user.eio == Eio::V3 {
            user.ping_us.set(interval * 1000);
        }
        let plan = &self.world.plan;
        if let Some(packet) = packet::connect(user.eio, &plan.namespace, plan.auth.as_ref()) {
            user.link.send(packet.as_bytes());
        }
        Ok(open["sid"].as_str().ok_or_else(bad)?.to_owned())
    }

    fn namespace_answer(&self, message: &[u8]) -> Result<(), Fault> {
        let head = packet::parse_head(message, &self.world.plan.namespace);
        let head = head.ok_or(Fault::Protocol("bad packet"))?;
        match head.kind {
            b'0' if head.ours => {
                self.is_connected.set(true);
                self.world.connected(self.user, self.began_us);
                Ok(())
            }
            b'4' => Err(Fault::Refused(
                String::from_utf8_lossy(head.data).into_owned(),
            )),
            _ => Ok(()),
        }
    }

    // ---- polling --------------------------------------------------------------------------

    async fn polling(&mut self) -> Result<Never, Fault> {
        let mut gets = self.open_polling().await?;
        let mut posts = None;
        while !self.is_connected.get() {
            self.post_once(&mut posts).await?;
            self.in_time(self.poll(&mut gets)).await?;
        }
        let ended = poll_fn(|context| self.user.link.poll_end(context));
        if self.user.slow {
            return Err(ended.await);
        }
        tokio::select! {
            biased;
            fault = ended => Err(fault),
            result = self.poll_for_good(&mut gets) => result,
            result = self.post_for_good(&mut posts) => result,
        }
    }

    /// The first request; the connection that it used.
    async fn open_polling(&mut self) -> Result<Stream, Fault> {
        let mut stream = self.connect().await?;
        let mut request = self.head().request("GET", &self.query("polling"));
        request.push_str("\r\n");
        let exchange = http::exchange(&mut stream, request.into_bytes());
        let (answer, body) = self.in_time(exchange).await?;
        if answer.status != 200 {
            return Err(Fault::Status(answer.status));
        }
        if self.world.plan.options.cookies {
            self.cookies = answer.cookies.join("; ");
        }
        let packets = packet::decode_body(self.user.eio, &body)?;
        let mut packets = packets.into_iter();
        let Some((b'0', open)) = packets.next().and_then(<[u8]>::split_first) else {
            return Err(Fault::Protocol("no open packet"));
        };
        self.session_id = self.open(open)?;
        for packet in packets {
            self.packet(packet)?;
        }
        Ok(stream)
    }

    async fn poll(&self, stream: &mut Stream) -> Result<(), Fault> {
        let mut request = self.head().request("GET", &self.query("polling"));
        request.push_str("\r\n");
        let (answer, body) = http::exchange(stream, request.into_bytes()).await?;
        if answer.status != 200 {
            return Err(Fault::Polling(answer.status));
        }
        self.user.heard_us.set(self.world.now_us());
        for packet in packet::decode_body(self.user.eio, &body)? {
            self.packet(packet)?;
        }
        if answer.closes {
            *stream = Stream::connect(self.target, self.source).await?;
        }
        Ok(())
    }

    async fn poll_for_good(&self, stream: &mut Stream) -> Result<Never, Fault> {
        loop {
            self.poll(stream).await?;
        }
    }

    async fn post_for_good(&self, stream: &mut Option<Stream>) -> Result<Never, Fault> {
        loop {
            let packets = poll_fn(|context| self.user.link.poll_packets(context)).await;
            self.post(stream, &packets).await?;
        }
    }

    async fn post_once(&self, stream: &mut Option<Stream>) -> Result<(), Fault> {
        let packets = self.user.link.take_packets();
        if packets.is_empty() {
            return Ok(());
        }
        self.in_time(self.post(stream, &packets)).await
    }

    async fn post(&self, stream: &mut Option<Stream>, packets: &[Vec<u8>]) -> Result<(), Fault> {
        // A server may close a connection that had no request for a while, as every HTTP client
        // knows: that breaks nothing.
        let idle = stream.take();
        let mut open = match idle.and_then(Stream::if_open) {
            Some(idle) => idle,
            None => Stream::connect(self.target, self.source).await?,
        };
        let body = packet::encode_body(self.user.eio, packets);
        let mut request = self.head().request("POST", &self.query("polling"));
        request.push_str("Content-Type: text/plain;charset=UTF-8\r\nContent-Length: ");
        request.push_str(&body.len().to_string());
        request.push_str("\r\n\r\n");
        let request = [request.as_bytes(), &body].concat();
        let (answer, _) = http::exchange(&mut open, request).await?;
        if answer.status != 200 {
            return Err(Fault::Polling(answer.status));
        }
        *stream = Some(open).filter(|_| !answer.closes);
        Ok(())
    }

    // ---- upgrade --------------------------------------------------------------------------

    async fn upgrading(&mut self) -> Result<Never, Fault> {
        let mut gets = self.open_polling().await?;
        let mut posts = None;
        while !self.is_connected.get() {
            self.post_once(&mut posts).await?;
            self.in_time(self.poll(&mut gets)).await?;
        }
        drop(posts);
        let probed = Cell::new(false);
        let probe = async {
            let stream = self.probe().await;
            probed.set(true);
            stream
        };
        // The server answers the open poll once it has seen the probe, and that answer has to be
        // read before the session may move.
        let polls = async {
            while !probed.get() {
                self.poll(&mut gets).await?;
            }
            Ok(())
        };
        let both = async { tokio::try_join!(probe, polls) };
        let ((mut stream, rest), ()) = self.in_time(both).await?;
        let mut frame = Vec::new();
        websocket::push_frame(&mut frame, websocket::TEXT, &[b"5"], [7, 11, 13, 17]);
        stream.write_all(frame).await?;
        drop(gets);
        let time_us = self.world.now_us() - self.began_us;
        crate::stats::record(&mut self.world.stats.borrow_mut().upgrade, time_us);
        self.user.link.open_websocket(stream);
        self.frames(rest).await
    }

    /// A WebSocket beside the polls that answered the probe, and what it sent behind that.
    async fn probe(&self) -> Result<(Stream, Vec<u8>), Fault> {
        let mut stream = Stream::connect(self.target, self.source).await?;
        let mut rest = Vec::new();
        let path = self.query("websocket");
        websocket::upgrade(&mut stream, &self.head(), &path, &mut rest).await?;
        let mut frame = Vec::new();
        websocket::push_frame(&mut frame, websocket::TEXT, &[b"2probe"], [5, 7, 11, 13]);
        stream.write_all(frame).await?;
        loop {
            if let Some((frame, len)) = websocket::parse_frame(&rest)? {
                let is_answer = frame.content == b"3probe";
                rest.drain(..len);
                if is_answer {
                    return Ok((stream, rest));
                }
                return Err(Fault::Protocol("bad answer to the probe"));
            }
            stream.read_more(&mut rest).await?;
        }
    }
}

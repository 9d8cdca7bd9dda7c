use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::PATIENCE;

/// A WebSocket with an Engine.IO session on it.
pub(crate) struct Client {
    stream: WebSocketStream<TcpStream>,
    /// The id that the last [`Self::join`] was answered with.
    pub(crate) id: String,
}

impl Client {
    /// An Engine.IO 4 session in no namespace.
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self::open_at(address, "/socket.io/?EIO=4&transport=websocket").await
    }

    /// A session at this request target.
    pub(crate) async fn open_at(address: SocketAddr, target: &str) -> Self {
        let mut client = Self::upgrade(address, target).await;
        let opened = client.text().await;
        assert!(opened.starts_with("0{"), "{opened}");
        client
    }

    /// A WebSocket that has not said anything.
    pub(crate) async fn upgrade(address: SocketAddr, target: &str) -> Self {
        let tcp = TcpStream::connect(address).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let url = format!("ws://{address}{target}");
        let (stream, _) = tokio_tungstenite::client_async(url, tcp).await.unwrap();
        Self {
            stream,
            id: String::new(),
        }
    }

    /// A session in one namespace.
    pub(crate) async fn connect(address: SocketAddr, namespace: &str) -> Self {
        let mut client = Self::open(address).await;
        client.join(namespace).await;
        client
    }

    /// Joins a namespace and waits until it is let in.
    pub(crate) async fn join(&mut self, namespace: &str) {
        let comma = match namespace {
            "/" => String::new(),
            other => format!("{other},"),
        };
        self.send(&format!("40{comma}")).await;
        let answer = self.text().await;
        let id = answer
            .strip_prefix(&format!("40{comma}{{\"sid\":\""))
            .and_then(|rest| rest.strip_suffix("\"}"));
        self.id = id.expect(&answer).to_owned();
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.stream.send(Message::text(text)).await.unwrap();
    }

    pub(crate) async fn send_binary(&mut self, data: &[u8]) {
        let data = Message::binary(data.to_vec());
        self.stream.send(data).await.unwrap();
    }

    /// The next frame; heartbeats are answered and passed over.
    pub(crate) async fn frame(&mut self) -> Option<Message> {
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.stream.next()).await;
            match frame.expect("a frame in time")?.ok()? {
                Message::Text(text) if text == "2" => self.send("3").await,
                frame @ (Message::Text(_) | Message::Binary(_)) => return Some(frame),
                _ => {}
            }
        }
    }

    pub(crate) async fn text(&mut self) -> String {
        let frame = self.frame().await.expect("an open WebSocket");
        frame.into_text().expect("a text frame").to_string()
    }

    pub(crate) async fn binary(&mut self) -> Vec<u8> {
        match self.frame().await {
            Some(Message::Binary(data)) => data.to_vec(),
            other => panic!("no binary frame but {other:?}"),
        }
    }

    pub(crate) async fn expect(&mut self, text: &str) {
        assert_eq!(self.text().await, text);
    }

    /// Sends an event and expects what comes next.
    pub(crate) async fn ask(&mut self, event: &str, answer: &str) {
        self.send(event).await;
        self.expect(answer).await;
    }

    /// Everything sent before has been handled, and caused no frame. Needs
    /// [`super::answer_pings`].
    pub(crate) async fn settle(&mut self) {
        self.ask(r#"42999["ping"]"#, r#"43999["pong"]"#).await;
    }

    /// The server has ended the session, without another frame.
    pub(crate) async fn ended(&mut self) {
        let frame = self.frame().await;
        assert!(frame.is_none(), "{frame:?}");
        // The server waits a while for this.
        let _ = self.stream.get_mut().shutdown().await;
    }

    /// Says goodbye as WebSockets do.
    pub(crate) async fn close(mut self) {
        self.stream.close(None).await.unwrap();
    }

    /// Resets the TCP connection.
    pub(crate) fn abort(self) {
        self.stream.get_ref().set_zero_linger().unwrap();
    }
}

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The answer to a request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Answer {
    /// The session id of a handshake.
    pub(crate) fn sid(&self) -> String {
        let (_, rest) = self.body.split_once("\"sid\":\"").expect("an open packet");
        rest.split('"').next().unwrap().to_owned()
    }
}

pub(crate) async fn get(address: SocketAddr, target: &str) -> Answer {
    request(address, "GET", target, "").await
}

pub(crate) async fn post(address: SocketAddr, target: &str, body: &str) -> Answer {
    request(address, "POST", target, body).await
}

async fn request(address: SocketAddr, method: &str, target: &str, body: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "{method} {target} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\
         content-type: text/plain;charset=UTF-8\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    // A server that ends the connection early may reset it.
    let _ = stream.read_to_end(&mut bytes).await;
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").expect("a response head");
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        body: body.to_owned(),
    }
}

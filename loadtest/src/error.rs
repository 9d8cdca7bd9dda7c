//! What goes wrong with one connection, by kind.

use std::io;

/// Why a connection or a request failed; its text is the kind in the report.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Fault {
    /// No connection.
    #[error("connect: {0}")]
    Connect(io::ErrorKind),
    /// No TLS.
    #[error("tls: {0}")]
    Tls(String),
    /// The handshake was answered otherwise.
    #[error("handshake: status {0}")]
    Status(u16),
    /// The namespace said no.
    #[error("refused: {0}")]
    Refused(String),
    /// No answer in time.
    #[error("timeout: {0}")]
    Timeout(&'static str),
    /// The server closed the TCP connection.
    #[error("closed by the server")]
    Closed,
    /// The server closed the WebSocket and said why.
    #[error("closed by the server: code {0}")]
    CloseCode(u16),
    /// The server ended the session or left the namespace.
    #[error("disconnected by the server")]
    Disconnected,
    /// The TCP connection broke.
    #[error("broken: {0}")]
    Broken(io::ErrorKind),
    /// A poll or a post was answered with an error.
    #[error("polling: status {0}")]
    Polling(u16),
    /// The server was silent for longer than its heartbeat allows.
    #[error("ping timeout")]
    PingTimeout,
    /// Bytes that the protocol does not know.
    #[error("protocol: {0}")]
    Protocol(&'static str),
    /// This tool closed the connection, as planned.
    #[error("closed as planned")]
    Asked,
}

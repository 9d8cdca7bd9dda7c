//! What can go wrong outside of the hot path.

use std::io;
use std::path::PathBuf;

use crate::resp::RespError;

/// Why a bus cannot be built. Nothing of it is about Redis being there.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// A file with certificates or a key cannot be used.
    #[error("cannot use {}", path.display())]
    TlsFile {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The TLS settings do not fit together.
    #[error("TLS: {0}")]
    Tls(String),
    /// The configuration contradicts itself.
    #[error("{0}")]
    Config(&'static str),
    /// No entropy.
    #[error("the operating system gives no random numbers")]
    Random(#[from] getrandom::Error),
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("no connection within the limit")]
    Timeout,
    #[error("cannot connect: {0}")]
    Io(#[from] io::Error),
    #[error("the server breaks the protocol: {0}")]
    Protocol(#[from] RespError),
    #[error("the server refuses: {0}")]
    Refused(String),
    #[error("no sentinel knows a master of this name")]
    NoMaster,
    #[error("no server knows a cluster with slots")]
    NoCluster,
    #[error("the server is not the master")]
    NotMaster,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("closed by the server")]
    Closed,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the server breaks the protocol: {0}")]
    Protocol(#[from] RespError),
    #[error("the server refuses: {0}")]
    Refused(String),
    #[error("no answer within the limit")]
    Timeout,
    #[error("a message to ourselves did not come back in time")]
    Canary,
    #[error("the server's place has changed")]
    Moved,
    #[error("stopped")]
    Stopped,
}

impl Fault {
    /// For the metrics.
    pub(crate) const fn reason(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Io(_) => "io",
            Self::Protocol(_) => "protocol",
            Self::Refused(_) => "refused",
            Self::Timeout => "timeout",
            Self::Canary => "canary",
            Self::Moved => "moved",
            Self::Stopped => "stopped",
        }
    }
}

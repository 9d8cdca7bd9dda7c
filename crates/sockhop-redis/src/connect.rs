//! From an address to a connection that is logged in.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::config::RedisConfig;
use crate::error::{ConnectError, RedisError};
use crate::resp::{self, Limits, Step, Value};
use crate::tls::Tls;
use crate::url::Address;

/// A connection of any kind.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Makes connections.
#[derive(Debug)]
pub(crate) struct Connector {
    config: RedisConfig,
    tls: Option<Tls>,
}

/// Whom to log in as.
#[derive(Clone, Copy, Debug)]
enum Login {
    Server,
    Sentinel,
}

impl Connector {
    pub(crate) fn new(config: &RedisConfig) -> Result<Self, RedisError> {
        let tls = config.url.tls.then(|| Tls::new(config)).transpose()?;
        Ok(Self {
            config: config.clone(),
            tls,
        })
    }

    /// Connects to a server and logs in. `name` shows in the server's list of clients.
    pub(crate) async fn connect(
        &self,
        address: &Address,
        name: &str,
    ) -> Result<Box<dyn Stream>, ConnectError> {
        let named = async {
            let mut stream = self.open(address, Login::Server).await?;
            // A user of few rights may be denied the name, and nothing depends on it. A server
            // that wants a password says so here.
            let question: [&[u8]; 3] = [b"CLIENT", b"SETNAME", name.as_bytes()];
            match ask(&mut stream, &question).await? {
                Value::Error(line) if !is_denied(&line) => Err(ConnectError::Refused(line)),
                _ => Ok(stream),
            }
        };
        self.within_limit(named).await
    }

    /// Connects to a sentinel and logs in.
    pub(crate) async fn open_sentinel(
        &self,
        address: &Address,
    ) -> Result<Box<dyn Stream>, ConnectError> {
        self.within_limit(self.open(address, Login::Sentinel)).await
    }

    /// Asks one question while nothing else is under way.
    pub(crate) async fn ask_on(
        &self,
        stream: &mut Box<dyn Stream>,
        words: &[&[u8]],
    ) -> Result<Value, ConnectError> {
        match self.within_limit(ask(stream, words)).await? {
            Value::Error(line) => Err(ConnectError::Refused(line)),
            value => Ok(value),
        }
    }

    /// Asks a server one question on a connection of its own.
    pub(crate) async fn ask(
        &self,
        address: &Address,
        words: &[&[u8]],
    ) -> Result<Value, ConnectError> {
        let mut stream = self.within_limit(self.open(address, Login::Server)).await?;
        self.ask_on(&mut stream, words).await
    }

    /// Makes sure that a server is a master, as far as we may ask.
    pub(crate) async fn check_master(
        &self,
        stream: &mut Box<dyn Stream>,
    ) -> Result<(), ConnectError> {
        match self.within_limit(ask(stream, &[b"ROLE"])).await? {
            Value::Array(parts) => match parts.first() {
                Some(Value::Bulk(role)) if role == "master" => Ok(()),
                _ => Err(ConnectError::NotMaster),
            },
            Value::Error(line) if !is_denied(&line) => Err(ConnectError::Refused(line)),
            _ => Ok(()),
        }
    }

    async fn within_limit<T>(
        &self,
        attempt: impl Future<Output = Result<T, ConnectError>>,
    ) -> Result<T, ConnectError> {
        match timeout(self.config.connect_timeout, attempt).await {
            Ok(result) => result,
            Err(_) => Err(ConnectError::Timeout),
        }
    }

    async fn open(&self, address: &Address, login: Login) -> Result<Box<dyn Stream>, ConnectError> {
        let mut stream: Box<dyn Stream> = match address {
            Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
            Address::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                // Batches are made here; the kernel must not wait for more.
                stream.set_nodelay(true)?;
                match &self.tls {
                    Some(tls) => Box::new(tls.connect(host, stream).await?),
                    None => Box::new(stream),
                }
            }
        };
        self.log_in(&mut stream, login).await?;
        Ok(stream)
    }

    async fn log_in(&self, stream: &mut Box<dyn Stream>, login: Login) -> Result<(), ConnectError> {
        let config = &self.config;
        let (username, password) = match login {
            Login::Server => (
                config.username.as_ref().or(config.url.username.as_ref()),
                config.password.as_ref().or(config.url.password.as_ref()),
            ),
            Login::Sentinel => (
                config.sentinel_username.as_ref(),
                config.sentinel_password.as_ref(),
            ),
        };
        let Some(password) = password.map(|password| password.expose().as_bytes()) else {
            return Ok(());
        };
        let answer = match username {
            Some(username) => ask(stream, &[b"AUTH", username.as_bytes(), password]).await?,
            None => ask(stream, &[b"AUTH", password]).await?,
        };
        match answer {
            Value::Error(line) => Err(ConnectError::Refused(line)),
            _ => Ok(()),
        }
    }
}

/// Whether an error says that a user lacks a right, or that there is no such command.
fn is_denied(line: &str) -> bool {
    line.starts_with("NOPERM") || line.starts_with("ERR unknown")
}

/// One question and its answer, while nothing else is under way.
async fn ask(stream: &mut Box<dyn Stream>, words: &[&[u8]]) -> Result<Value, ConnectError> {
    let mut buffer = BytesMut::new();
    resp::put_command(&mut buffer, words);
    stream.write_all(&buffer).await?;
    stream.flush().await?;
    buffer.clear();
    loop {
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        if let Step::Done(value, _) = resp::parse_value(&buffer, 0, &Limits::default())? {
            return Ok(value);
        }
    }
}

//! Which server a link belongs to.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::time::sleep;

use crate::connect::{Connector, Stream};
use crate::error::ConnectError;
use crate::link::Link;
use crate::resp::Value;
use crate::url::Address;

/// Whom to connect to.
#[derive(Debug)]
pub(crate) enum Target {
    /// Always the same server.
    Fixed(Address),
    /// Whichever is the master now.
    Sentinel(Sentinels),
}

/// Those who know the master.
#[derive(Debug)]
pub(crate) struct Sentinels {
    addresses: Vec<Address>,
    master: String,
    /// Which one answered last; the next question goes to it first.
    answered: AtomicUsize,
    /// Where the last connection went.
    connected: Mutex<Option<Address>>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(address) => address.fmt(f),
            Self::Sentinel(sentinels) => write!(f, "master {}", sentinels.master),
        }
    }
}

impl Target {
    /// The server, if it is always the same.
    pub(crate) const fn address(&self) -> Option<&Address> {
        match self {
            Self::Fixed(address) => Some(address),
            Self::Sentinel(_) => None,
        }
    }

    pub(crate) fn is_at(&self, server: &Address) -> bool {
        self.address() == Some(server)
    }

    pub(crate) async fn connect(
        &self,
        connector: &Connector,
        name: &str,
    ) -> Result<Box<dyn Stream>, ConnectError> {
        match self {
            Self::Fixed(address) => connector.connect(address, name).await,
            Self::Sentinel(sentinels) => {
                let (address, _) = sentinels.find_master(connector).await?;
                let mut stream = connector.connect(&address, name).await?;
                connector.check_master(&mut stream).await?;
                *sentinels.lock() = Some(address);
                Ok(stream)
            }
        }
    }
}

impl Sentinels {
    pub(crate) fn new(addresses: Vec<Address>, master: String) -> Self {
        Self {
            addresses,
            master,
            answered: AtomicUsize::new(0),
            connected: Mutex::default(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Address>> {
        self.connected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks one after the other; comes with the connection to the one that knew.
    async fn find_master(
        &self,
        connector: &Connector,
    ) -> Result<(Address, Box<dyn Stream>), ConnectError> {
        let first = self.answered.load(Ordering::Relaxed);
        let mut failure = ConnectError::NoMaster;
        for offset in 0..self.addresses.len() {
            let index = (first + offset) % self.addresses.len();
            let asked = async {
                let mut stream = connector.open_sentinel(&self.addresses[index]).await?;
                Ok((self.ask(connector, &mut stream).await?, stream))
            };
            match asked.await {
                Ok(found) => {
                    self.answered.store(index, Ordering::Relaxed);
                    return Ok(found);
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn ask(
        &self,
        connector: &Connector,
        sentinel: &mut Box<dyn Stream>,
    ) -> Result<Address, ConnectError> {
        let question: [&[u8]; 3] = [
            b"SENTINEL",
            b"get-master-addr-by-name",
            self.master.as_bytes(),
        ];
        let answer = connector.ask_on(sentinel, &question).await?;
        address(&answer).ok_or(ConnectError::NoMaster)
    }
}

/// Reads a pair of host and port.
fn address(value: &Value) -> Option<Address> {
    let Value::Array(pair) = value else {
        return None;
    };
    let [Value::Bulk(host), Value::Bulk(port)] = pair.as_slice() else {
        return None;
    };
    let host = String::from_utf8(host.to_vec()).ok()?;
    let port = std::str::from_utf8(port).ok()?.parse().ok()?;
    Some(Address::Tcp(host, port))
}

impl Link {
    /// Moves the link when the sentinels name another master. A lost master closes its connections
    /// in most cases; one that is cut off together with us does not.
    pub(crate) async fn follow_master(&self) {
        let Target::Sentinel(sentinels) = &self.target else {
            return;
        };
        let shared = &self.shared;
        let connector = &shared.connector;
        let watch = async {
            let mut sentinel: Option<Box<dyn Stream>> = None;
            loop {
                sleep(shared.config.topology_interval).await;
                let master = match sentinel.take() {
                    Some(mut stream) => sentinels
                        .ask(connector, &mut stream)
                        .await
                        .map(|master| (master, stream)),
                    None => sentinels.find_master(connector).await,
                };
                // Sentinels out of reach are no reason to leave a master that answers.
                let Ok((master, stream)) = master else {
                    continue;
                };
                sentinel = Some(stream);
                let connected = sentinels.lock().clone();
                if connected.is_some_and(|connected| connected != master) {
                    self.restart();
                }
            }
        };
        self.closed.run_until_cancelled(watch).await;
    }
}

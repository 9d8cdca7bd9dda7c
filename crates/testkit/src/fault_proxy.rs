//! A TCP proxy that breaks connections in the ways in which networks do.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// How soon a pump notices another network.
const GLANCE: Duration = Duration::from_millis(20);

/// What the network does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Bytes pass.
    Passes,
    /// Bytes pass after this time, each way.
    Delays(Duration),
    /// Connections are cut, and new ones end at once.
    Cuts,
    /// Connections stay, new ones are taken, and no byte passes: half-open.
    Swallows,
}

/// A proxy before one server, on the loopback; it ends with the process.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    network: Arc<Mutex<Network>>,
}

impl FaultProxy {
    /// A proxy before `server`, on a free port.
    ///
    /// # Panics
    /// When no port can be had.
    #[must_use]
    pub fn start(server: SocketAddr) -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST.into(), server)
    }

    /// A proxy before `server`, on a free port of `host`.
    ///
    /// # Panics
    /// When no port can be had.
    #[must_use]
    pub fn start_at(host: IpAddr, server: SocketAddr) -> Self {
        let listener = TcpListener::bind((host, 0)).expect("a free port");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let network = Arc::new(Mutex::new(Network::Passes));
        let shared = Arc::clone(&network);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || connect(&client, server, &shared));
            }
        });
        Self { address, network }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From here on the network does this.
    pub fn set(&self, network: Network) {
        *self.network.lock().unwrap_or_else(PoisonError::into_inner) = network;
    }
}

fn now(network: &Mutex<Network>) -> Network {
    *network.lock().unwrap_or_else(PoisonError::into_inner)
}

fn connect(client: &TcpStream, server: SocketAddr, network: &Arc<Mutex<Network>>) {
    while now(network) == Network::Swallows {
        thread::sleep(GLANCE);
    }
    if now(network) == Network::Cuts {
        return;
    }
    let Ok(upstream) = TcpStream::connect(server) else {
        return;
    };
    for (from, to) in [(client, &upstream), (&upstream, client)] {
        let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else {
            return;
        };
        let network = Arc::clone(network);
        thread::spawn(move || pump(from, to, &network));
    }
}

/// Carries bytes one way until an end.
fn pump(mut from: TcpStream, mut to: TcpStream, network: &Mutex<Network>) {
    let mut chunk = vec![0; 64 << 10];
    let _ = (from.set_read_timeout(Some(GLANCE)), to.set_nodelay(true));
    loop {
        match now(network) {
            Network::Cuts => break,
            Network::Swallows => {
                thread::sleep(GLANCE);
                continue;
            }
            Network::Passes | Network::Delays(_) => {}
        }
        let len = match from.read(&mut chunk) {
            Ok(0) => break,
            Ok(len) => len,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                continue;
            }
            Err(_) => break,
        };
        if let Network::Delays(time) = now(network) {
            thread::sleep(time);
        }
        // What was read before the network went silent arrives when it speaks again, as by a
        // retransmission.
        while now(network) == Network::Swallows {
            thread::sleep(GLANCE);
        }
        if to.write_all(&chunk[..len]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

//! Whose a connection is: the peer's, or that of a client behind proxies which are trusted; and how
//! many one address may have.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{IntCounterVec, Opts, Registry};
use sockhop::engine::customer;

/// Addresses that are written alike up to a bit: `10.0.0.0/8`, or one alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Whether the address is in it. IPv4 in IPv6 is IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let apart = u32::from(own) ^ u32::from(other);
                apart.leading_zeros() >= u32::from(self.bits)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let apart = u128::from(own) ^ u128::from(other);
                apart.leading_zeros() >= u32::from(self.bits)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// The text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an address, nor an address and a number of bits")]
pub struct NotANetwork;

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let (address, bits) = text.split_once('/').unwrap_or((text, ""));
        let address: IpAddr = address.parse().map_err(|_| NotANetwork)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            "" if !text.contains('/') => most,
            bits => bits.parse().map_err(|_| NotANetwork)?,
        };
        if bits > most {
            return Err(NotANetwork);
        }
        Ok(Self { address, bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// Who a node believes to be a client, and how many connections it takes from one address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientsConfig {
    /// Proxies whose word about their clients counts. Default: none.
    pub trusted_proxies: Vec<Network>,
    /// Whether every connection begins with a header of the PROXY protocol, version 1 or 2. With
    /// `trusted_proxies` only theirs are taken at all. Default: no.
    pub proxy_protocol: bool,
    /// Connections of one address that speak HTTP, at a time; a WebSocket is a session and no longer
    /// counted here. All addresses of one [customer] are one. 0 is no limit, the default. Trusted
    /// proxies have none.
    pub max_connections_per_address: usize,
}

/// Knows clients by their addresses.
#[derive(Debug)]
pub(crate) struct Clients {
    pub(crate) config: ClientsConfig,
    connections: Mutex<HashMap<IpAddr, usize>>,
    refused: Option<IntCounterVec>,
}

/// A connection that is counted, unless nothing limits its kind; no longer when dropped.
#[derive(Debug)]
pub(crate) struct Counted(Option<(Arc<Clients>, IpAddr)>);

impl Clients {
    /// Everybody is who connects, and may have as many connections as there are.
    pub(crate) fn anybody() -> Self {
        Self {
            config: ClientsConfig::default(),
            connections: Mutex::default(),
            refused: None,
        }
    }

    /// As configured; what is refused is counted in `registry`.
    pub(crate) fn new(config: ClientsConfig, registry: &Registry) -> prometheus::Result<Self> {
        let refused = IntCounterVec::new(
            Opts::new(
                "sockhop_node_connections_refused_total",
                "Connections that were closed before their first request.",
            ),
            &["reason"],
        )?;
        for reason in ["address_connections", "proxy_header", "untrusted_proxy"] {
            refused.with_label_values(&[reason]);
        }
        registry.register(Box::new(refused.clone()))?;
        Ok(Self {
            refused: Some(refused),
            config,
            connections: Mutex::default(),
        })
    }

    pub(crate) fn refused(&self, reason: &str) {
        if let Some(refused) = &self.refused {
            refused.with_label_values(&[reason]).inc();
        }
    }

    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        let mut proxies = self.config.trusted_proxies.iter();
        proxies.any(|proxy| proxy.contains(address))
    }

    /// The client of a request: the last address on its way that is no trusted proxy's.
    ///
    /// *Shape:* `X-Forwarded-For` is read from its end, where those who are trusted have written; what
    /// stands before an address that is not trusted may be anybody's invention. `lines` gives the
    /// values of these headers.
    pub(crate) fn client<'h, I>(&self, peer: SocketAddr, lines: impl FnOnce() -> I) -> SocketAddr
    where
        I: DoubleEndedIterator<Item = &'h [u8]>,
    {
        let mut client = peer;
        if self.config.trusted_proxies.is_empty() || !self.trusts(peer.ip()) {
            return client;
        }
        let hops = lines().rev().flat_map(|line| {
            let line = std::str::from_utf8(line)
                .ok()
                .filter(|line| is_visible(line));
            line.unwrap_or("?").rsplit(',')
        });
        for hop in hops {
            if !self.trusts(client.ip()) {
                break;
            }
            match address(hop.trim()) {
                Some(hop) => client = hop,
                None => break,
            }
        }
        client
    }

    /// Counts a connection, if its address may have another.
    pub(crate) fn count(self: &Arc<Self>, address: IpAddr) -> Option<Counted> {
        let most = self.config.max_connections_per_address;
        if most == 0 || self.trusts(address) {
            return Some(Counted(None));
        }
        let address = customer(address);
        let mut connections = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let count = connections.entry(address).or_default();
        if *count >= most {
            drop(connections);
            self.refused("address_connections");
            return None;
        }
        *count += 1;
        drop(connections);
        Some(Counted(Some((Arc::clone(self), address))))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Some((clients, address)) = &self.0 else {
            return;
        };
        let connections = clients.connections.lock();
        let mut connections = connections.unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = connections.get_mut(address) {
            *count -= 1;
            if *count == 0 {
                connections.remove(address);
            }
        }
    }
}

/// Whether a header's value is text.
fn is_visible(line: &str) -> bool {
    line.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'))
}

/// An address as proxies write it: with or without a port, IPv6 with or without brackets.
fn address(text: &str) -> Option<SocketAddr> {
    let alone = text.trim_start_matches('[').trim_end_matches(']');
    let without_port = || Some(SocketAddr::new(alone.parse().ok()?, 0));
    text.parse().ok().or_else(without_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients(trusted: &[&str], most: usize) -> Arc<Clients> {
        let config = ClientsConfig {
            trusted_proxies: trusted.iter().map(|text| text.parse().unwrap()).collect(),
            proxy_protocol: false,
            max_connections_per_address: most,
        };
        Arc::new(Clients::new(config, &Registry::new()).unwrap())
    }

    fn client_of(clients: &Clients, peer: &str, lines: &[&str]) -> String {
        let lines = || lines.iter().map(|line| line.as_bytes());
        clients
            .client(peer.parse().unwrap(), lines)
            .ip()
            .to_string()
    }

    #[test]
    fn networks_are_read_and_contain_their_addresses() {
        for text in [
            "",
            "10.0.0.0/33",
            "10.0.0.0/",
            "::/129",
            "x/8",
            "10.0.0.0/-1",
        ] {
            assert_eq!(text.parse::<Network>(), Err(NotANetwork), "{text}");
        }
        let contains = |network: &str, address: &str| {
            network
                .parse::<Network>()
                .unwrap()
                .contains(address.parse().unwrap())
        };
        assert!(contains("10.0.0.0/8", "10.255.0.1") && !contains("10.0.0.0/8", "11.0.0.1"));
        assert!(contains("10.0.0.1", "10.0.0.1") && !contains("10.0.0.1", "10.0.0.2"));
        assert!(contains("0.0.0.0/0", "1.2.3.4") && !contains("0.0.0.0/0", "::1"));
        assert!(contains("2001:db8::/32", "2001:db8:ffff::1"));
        assert!(contains("10.0.0.0/8", "::ffff:10.0.0.1"));
    }

    #[test]
    fn nobody_is_believed_by_default() {
        let nobody = clients(&[], 0);
        assert_eq!(client_of(&nobody, "10.0.0.1:1", &["6.6.6.6"]), "10.0.0.1");
        let other = clients(&["10.9.0.0/16"], 0);
        assert_eq!(client_of(&other, "10.0.0.1:1", &["6.6.6.6"]), "10.0.0.1");
    }

    #[test]
    fn only_what_trusted_proxies_wrote_counts() {
        let clients = clients(&["10.0.0.0/8"], 0);
        let of = |lines: &[&str]| client_of(&clients, "10.0.0.1:1", lines);
        assert_eq!(of(&["1.1.1.1"]), "1.1.1.1");
        assert_eq!(of(&["6.6.6.6, 1.1.1.1, 10.0.0.2"]), "1.1.1.1");
        assert_eq!(of(&["6.6.6.6", "1.1.1.1:4711", "10.0.0.2"]), "1.1.1.1");
        assert_eq!(of(&["[2001:db8::1]:80"]), "2001:db8::1");
        assert_eq!(of(&["2001:db8::1"]), "2001:db8::1");
        assert_eq!(of(&["6.6.6.6, unknown"]), "10.0.0.1");
        assert_eq!(of(&["6.6.6.6, unknown, 10.0.0.3"]), "10.0.0.3");
        assert_eq!(of(&[]), "10.0.0.1");
    }

    #[test]
    fn connections_of_an_address_are_counted_for_as_long_as_they_are() {
        let clients = clients(&["10.0.0.0/8"], 2);
        let address = "1.1.1.1".parse().unwrap();
        let one = clients.count(address).unwrap();
        let _two = clients.count(address).unwrap();
        assert!(clients.count(address).is_none());
        drop(one);
        assert!(clients.count(address).is_some());
        let [one, two, three] = [1, 2, 3].map(|host| {
            let text = format!("2001:db8:1:2::{host}");
            clients.count(text.parse().unwrap())
        });
        assert!(one.is_some() && two.is_some() && three.is_none());
        assert!(clients.count("2001:db8:1:3::1".parse().unwrap()).is_some());
        let proxy = "10.0.0.1".parse().unwrap();
        let many: Vec<_> = (0..5).map(|_| clients.count(proxy)).collect();
        assert!(many.iter().all(Option::is_some));
    }
}

//! The private listener's address, as the other nodes are told it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};

/// Where others reach a listener that is bound to `bound`: as `wish` says, or else at that very
/// address, or where it is unspecified, at the one that packets to `towards` leave by. Without
/// that, at the address that this machine's name has.
///
/// # Errors
/// There is no such address, or a name has none.
pub(crate) fn advertised(
    bound: SocketAddr,
    wish: Option<&str>,
    towards: Option<&str>,
) -> io::Result<SocketAddr> {
    match wish {
        Some(wish) => resolve(wish, bound),
        None if !bound.ip().is_unspecified() => Ok(bound),
        None => {
            let ip = match towards {
                Some(towards) => source_address(towards)?,
                None => resolve(&own_name()?, bound)?.ip(),
            };
            Ok(SocketAddr::new(ip, bound.port()))
        }
    }
}

/// An address or a name, with the port of `bound` unless it says one.
fn resolve(text: &str, bound: SocketAddr) -> io::Result<SocketAddr> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, bound.port()));
    }
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) => match port.parse() {
            Ok(port) => (name, port),
            Err(_) => return Err(not_found(text)),
        },
        None => (text, bound.port()),
    };
    let addresses: Vec<SocketAddr> = (name, port).to_socket_addrs()?.collect();
    // One that the listener is bound for, if there is one.
    let family = |address: &&SocketAddr| address.is_ipv4() == bound.is_ipv4();
    let fitting = addresses.iter().find(family).or_else(|| addresses.first());
    fitting.copied().ok_or_else(|| not_found(text))
}

/// The address of this machine for packets to `towards`. None is sent.
fn source_address(towards: &str) -> io::Result<IpAddr> {
    let mut failure = not_found(towards);
    for target in towards.to_socket_addrs()? {
        let any: IpAddr = match target {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let attempt = UdpSocket::bind((any, 0)).and_then(|socket| {
            socket.connect(target)?;
            socket.local_addr()
        });
        match attempt {
            Ok(source) => return Ok(source.ip()),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn own_name() -> io::Result<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    Ok(name.trim().to_owned())
}

fn not_found(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("`{text}` has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advertise(bound: &str, wish: Option<&str>, towards: Option<&str>) -> String {
        match advertised(bound.parse().unwrap(), wish, towards) {
            Ok(address) => address.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_wish_may_leave_out_the_port() {
        let bound = "0.0.0.0:7001";
        for (wish, address) in [
            ("10.1.2.3", "10.1.2.3:7001"),
            ("10.1.2.3:80", "10.1.2.3:80"),
            ("::1", "[::1]:7001"),
            ("[::1]", "[::1]:7001"),
            ("[::1]:80", "[::1]:80"),
            ("localhost", "127.0.0.1:7001"),
            ("localhost:80", "127.0.0.1:80"),
            ("localhost:http", "`localhost:http` has no address"),
        ] {
            assert_eq!(advertise(bound, Some(wish), None), address, "{wish}");
        }
    }

    #[test]
    fn a_listener_on_one_address_is_found_there() {
        let bound = "127.0.0.1:7001";
        assert_eq!(advertise(bound, None, Some("10.0.0.1:6379")), bound);
    }

    #[test]
    fn a_listener_on_all_addresses_is_found_where_redis_is_reached_from() {
        let towards = Some("127.0.0.1:6379");
        assert_eq!(advertise("0.0.0.0:7001", None, towards), "127.0.0.1:7001");
    }
}

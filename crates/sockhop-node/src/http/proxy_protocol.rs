//! The PROXY protocol, versions 1 and 2: what a balancer says about a connection before its first
//! byte.
//!
//! *Source:* HAProxy's `proxy-protocol.txt`, sections 2.1 and 2.2.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

/// How version 2 begins. Version 1 is longer than this, always.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// The longest line of version 1, with its end.
const MAX_LINE: usize = 107;

/// The most that is read of a header of version 2: addresses, and what else there may be.
const MAX_LEN: usize = 4_096;

/// Reads a header and not a byte more; `None`: the balancer speaks for itself.
///
/// # Errors
/// The stream ends, or what it begins with is no such header.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let mut begin = [0; SIGNATURE.len()];
    stream.read_exact(&mut begin).await?;
    if begin == SIGNATURE {
        let mut fixed = [0; 4];
        stream.read_exact(&mut fixed).await?;
        let [version_and_command, family, high, low] = fixed;
        let mut rest = vec![0; usize::from(u16::from_be_bytes([high, low]))];
        if rest.len() > MAX_LEN {
            return Err(malformed());
        }
        stream.read_exact(&mut rest).await?;
        return version_2(version_and_command, family, &rest);
    }
    let mut line = begin.to_vec();
    // Byte by byte: what follows the line is not ours.
    while !line.ends_with(b"\r\n") {
        if line.len() >= MAX_LINE || !line.starts_with(b"PROXY ") {
            return Err(malformed());
        }
        line.push(stream.read_u8().await?);
    }
    version_1(&line)
}

fn malformed() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "no header of the PROXY protocol",
    )
}

fn version_1(line: &[u8]) -> io::Result<Option<SocketAddr>> {
    let text = std::str::from_utf8(line).map_err(|_| malformed())?;
    let words: Vec<&str> = text.trim_end_matches("\r\n").split(' ').collect();
    match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => Ok(None),
        ["PROXY", family @ ("TCP4" | "TCP6"), source, _, port, _] => {
            let address: IpAddr = source.parse().map_err(|_| malformed())?;
            let port = port.parse().map_err(|_| malformed())?;
            if address.is_ipv4() != (*family == "TCP4") {
                return Err(malformed());
            }
            Ok(Some(SocketAddr::new(address, port)))
        }
        _ => Err(malformed()),
    }
}

fn version_2(version_and_command: u8, family: u8, rest: &[u8]) -> io::Result<Option<SocketAddr>> {
    match version_and_command {
        // LOCAL: a health check of the balancer.
        0x20 => return Ok(None),
        0x21 => {}
        _ => return Err(malformed()),
    }
    let port = |at: usize| {
        let port = rest.get(at..)?.first_chunk()?;
        Some(u16::from_be_bytes(*port))
    };
    let source = match family {
        0x11 => rest
            .first_chunk::<4>()
            .zip(port(8))
            .map(|(address, port)| SocketAddr::new(IpAddr::V4(Ipv4Addr::from(*address)), port)),
        0x21 => rest
            .first_chunk::<16>()
            .zip(port(32))
            .map(|(address, port)| SocketAddr::new(IpAddr::V6(Ipv6Addr::from(*address)), port)),
        // Unspecified, datagrams, local sockets: whoever that is, it has no address.
        _ => return Ok(None),
    };
    source.map(Some).ok_or_else(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read, and how many bytes are left.
    async fn read_all(mut bytes: &[u8]) -> (io::Result<Option<SocketAddr>>, usize) {
        let read = read(&mut bytes).await;
        (read, bytes.len())
    }

    #[tokio::test]
    async fn version_1_is_one_line() {
        let good = b"PROXY TCP4 1.2.3.4 5.6.7.8 4711 80\r\nGET /";
        let (read, left) = read_all(good).await;
        assert_eq!(read.unwrap(), Some("1.2.3.4:4711".parse().unwrap()));
        assert_eq!(left, 5);
        let (read, _) = read_all(b"PROXY TCP6 2001:db8::1 ::1 4711 80\r\n").await;
        assert_eq!(read.unwrap(), Some("[2001:db8::1]:4711".parse().unwrap()));
        assert_eq!(read_all(b"PROXY UNKNOWN\r\nGET /").await.0.unwrap(), None);
    }

    #[tokio::test]
    async fn version_2_is_binary() {
        let mut header = [&SIGNATURE[..], &[0x21, 0x11, 0, 15]].concat();
        header.extend_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8, 0x12, 0x67, 0, 80, 4, 0, 0]);
        header.extend_from_slice(b"GET /");
        let (read, left) = read_all(&header).await;
        assert_eq!(read.unwrap(), Some("1.2.3.4:4711".parse().unwrap()));
        assert_eq!(left, 5);
        let local = [&SIGNATURE[..], &[0x20, 0, 0, 0]].concat();
        assert_eq!(read_all(&local).await.0.unwrap(), None);
    }

    #[tokio::test]
    async fn everything_else_is_refused() {
        let long = [b"PROXY TCP4 ".to_vec(), vec![b'1'; 200]].concat();
        let short_address = [&SIGNATURE[..], &[0x21, 0x11, 0, 4, 1, 2, 3, 4]].concat();
        let command = [&SIGNATURE[..], &[0x2f, 0x11, 0, 0]].concat();
        let huge = [&SIGNATURE[..], &[0x21, 0x11, 0xff, 0xff]].concat();
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"PROXY",
            b"PROXY TCP4 1.2.3.4\r\n",
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 99999 2\r\n",
            b"PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n",
            &long,
            &short_address,
            &command,
            &huge,
        ] {
            assert!(read_all(bytes).await.0.is_err(), "{}", bytes.escape_ascii());
        }
    }
}

//! Engine.IO bodies and the heads of Socket.IO packets, as a client meets them.

use serde_json::Value;

use crate::error::Fault;

/// The Engine.IO protocol version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Eio {
    /// Socket.IO 2 clients.
    #[serde(rename = "3")]
    V3,
    /// Socket.IO 3 and 4 clients.
    #[serde(rename = "4")]
    V4,
}

impl Eio {
    /// As in the query.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::V3 => 3,
            Self::V4 => 4,
        }
    }
}

/// Joins packets to one polling body.
#[must_use]
pub fn encode_body(eio: Eio, packets: &[Vec<u8>]) -> Vec<u8> {
    let mut body = Vec::new();
    for (index, packet) in packets.iter().enumerate() {
        match eio {
            Eio::V4 if index > 0 => body.push(0x1e),
            Eio::V4 => {}
            Eio::V3 => {
                let units = String::from_utf8_lossy(packet).encode_utf16().count();
                body.extend_from_slice(format!("{units}:").as_bytes());
            }
        }
        body.extend_from_slice(packet);
    }
    body
}

/// Splits a polling body into its packets.
///
/// # Errors
/// [`Fault::Protocol`] for a body that is none.
pub fn decode_body(eio: Eio, body: &[u8]) -> Result<Vec<&[u8]>, Fault> {
    match eio {
        Eio::V4 => Ok(body.split(|byte| *byte == 0x1e).collect()),
        Eio::V3 if body.first().is_some_and(|first| *first <= 1) => decode_binary_v3(body),
        Eio::V3 => decode_text_v3(body),
    }
}

fn decode_text_v3(body: &[u8]) -> Result<Vec<&[u8]>, Fault> {
    let bad = Fault::Protocol("bad polling body");
    let mut rest = std::str::from_utf8(body).map_err(|_| bad.clone())?;
    let mut packets = Vec::new();
    while !rest.is_empty() {
        let (digits, after) = rest.split_once(':').ok_or_else(|| bad.clone())?;
        let units: usize = digits.parse().map_err(|_| bad.clone())?;
        let (mut seen, mut end) = (0, 0);
        for character in after.chars() {
            if seen >= units {
                break;
            }
            seen += character.len_utf16();
            end += character.len_utf8();
        }
        if seen < units {
            return Err(bad);
        }
        packets.push(&after.as_bytes()[..end]);
        rest = &after[end..];
    }
    Ok(packets)
}

fn decode_binary_v3(mut body: &[u8]) -> Result<Vec<&[u8]>, Fault> {
    let bad = Fault::Protocol("bad polling body");
    let mut packets = Vec::new();
    while let Some((kind, after)) = body.split_first() {
        let mark = after.iter().position(|byte| *byte == 0xff);
        let mark = mark.ok_or_else(|| bad.clone())?;
        let len = after[..mark]
            .iter()
            .take(10)
            .fold(0, |len, digit| len * 10 + usize::from(*digit));
        let packet = after.get(mark + 1..mark + 1 + len);
        let packet = packet.ok_or_else(|| bad.clone())?;
        if *kind == 0 {
            packets.push(packet);
        }
        body = &after[mark + 1 + len..];
    }
    Ok(packets)
}

/// What a Socket.IO packet says in front of its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// `0` CONNECT to `6` BINARY_ACK.
    pub kind: u8,
    /// Whether it is for the namespace asked about.
    pub ours: bool,
    /// The ack id.
    pub id: Option<u64>,
    /// The rest.
    pub data: &'a [u8],
}

/// Reads the head of a Socket.IO packet (without Engine.IO's `4`).
#[must_use]
pub fn parse_head<'a>(packet: &'a [u8], namespace: &str) -> Option<Head<'a>> {
    let (kind, mut rest) = packet.split_first()?;
    if !(b'0'..=b'6').contains(kind) {
        return None;
    }
    if matches!(kind, b'5' | b'6') {
        let dash = rest.iter().position(|byte| *byte == b'-')?;
        rest = &rest[dash + 1..];
    }
    let mut found: &[u8] = b"/";
    if rest.first() == Some(&b'/') {
        let end = rest.iter().position(|byte| *byte == b',');
        let end = end.unwrap_or(rest.len());
        found = &rest[..end];
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    let name = found.split(|byte| *byte == b'?').next().unwrap_or_default();
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let id = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok();
    Some(Head {
        kind: *kind,
        ours: name == namespace.as_bytes(),
        id,
        data: &rest[digits..],
    })
}

/// Writes an event: Engine.IO's `4`, the head, and the arguments.
#[must_use]
pub fn event(namespace: &str, id: Option<u64>, args: &str) -> String {
    let mut text = String::with_capacity(args.len() + namespace.len() + 24);
    text.push_str("42");
    if namespace != "/" {
        text.push_str(namespace);
        text.push(',');
    }
    if let Some(id) = id {
        text.push_str(&id.to_string());
    }
    text.push_str(args);
    text
}

/// Writes CONNECT; in version 3 the default namespace needs none.
#[must_use]
pub fn connect(eio: Eio, namespace: &str, auth: Option<&Value>) -> Option<String> {
    let prefix = if namespace == "/" {
        String::new()
    } else {
        format!("{namespace},")
    };
    match (eio, auth) {
        (Eio::V3, _) if namespace == "/" => None,
        (Eio::V4, Some(auth)) => Some(format!("40{prefix}{auth}")),
        _ => Some(format!("40{prefix}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_of_version_3_count_utf16_units() {
        let body = "3:4€x8:42[\"𝄞\"]".as_bytes();
        let packets = decode_body(Eio::V3, body).unwrap();
        let texts: Vec<_> = packets
            .iter()
            .map(|p| std::str::from_utf8(p).unwrap())
            .collect();
        assert_eq!(texts, ["4€x", "42[\"𝄞\"]"]);
    }

    #[test]
    fn heads_are_read_with_and_without_namespace_and_id() {
        let head = parse_head(b"3/chat,12[\"a\"]", "/chat").unwrap();
        assert_eq!((head.kind, head.ours, head.id), (b'3', true, Some(12)));
        assert_eq!(head.data, b"[\"a\"]");
        let head = parse_head(b"2[\"msg\"]", "/chat").unwrap();
        assert_eq!(
            (head.ours, head.id, head.data),
            (false, None, &b"[\"msg\"]"[..])
        );
        let head = parse_head(b"51-/chat?token=1,7[]", "/chat").unwrap();
        assert_eq!((head.kind, head.ours, head.id), (b'5', true, Some(7)));
    }
}

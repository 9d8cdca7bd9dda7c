//! Which server of a Redis Cluster has which slots. Sans-IO.

use crate::resp::Value;
use crate::url::Address;

/// Slots of a Redis Cluster.
pub(crate) const SLOTS: u16 = 16_384;

/// A range of slots, both ends included, and the server that has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SlotRange {
    pub(crate) first: u16,
    pub(crate) last: u16,
    pub(crate) server: Address,
}

/// The slot of a channel: of the part in its first braces, if there is any, or else of all of it.
/// *Source:* Redis Cluster specification, "Key distribution model" and "Hash tags".
pub(crate) fn slot(channel: &[u8]) -> u16 {
    crc16(hash_tag(channel).unwrap_or(channel)) % SLOTS
}

/// The part that alone decides on the slot.
pub(crate) fn hash_tag(channel: &[u8]) -> Option<&[u8]> {
    let open = channel.iter().position(|&byte| byte == b'{')?;
    let rest = &channel[open + 1..];
    let close = rest.iter().position(|&byte| byte == b'}')?;
    (close > 0).then(|| &rest[..close])
}

/// CRC-16 in the variant of XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            }
        })
    })
}

/// Reads the answer to CLUSTER SLOTS. A server that does not know its own address leaves it out;
/// then it is `asked`. `None`: it is no such answer.
pub(crate) fn parse_slots(value: &Value, asked: &Address) -> Option<Vec<SlotRange>> {
    let Value::Array(ranges) = value else {
        return None;
    };
    ranges
        .iter()
        .map(|range| parse_range(range, asked))
        .collect()
}

fn parse_range(value: &Value, asked: &Address) -> Option<SlotRange> {
    let Value::Array(parts) = value else {
        return None;
    };
    let [
        Value::Int(first),
        Value::Int(last),
        Value::Array(master),
        ..,
    ] = parts.as_slice()
    else {
        return None;
    };
    let [host, Value::Int(port), ..] = master.as_slice() else {
        return None;
    };
    let host = match host {
        Value::Bulk(host) if !host.is_empty() && host != "?" => {
            String::from_utf8(host.to_vec()).ok()?
        }
        Value::Bulk(_) | Value::Nil => match asked {
            Address::Tcp(host, _) => host.clone(),
            Address::Unix(_) => return None,
        },
        Value::Status(_) | Value::Error(_) | Value::Int(_) | Value::Array(_) => return None,
    };
    let in_range = |slot: &i64| u16::try_from(*slot).ok().filter(|slot| *slot < SLOTS);
    Some(SlotRange {
        first: in_range(first)?,
        last: in_range(last)?,
        server: Address::Tcp(host, u16::try_from(*port).ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(slot(b"foo"), 12182);
        assert_eq!(slot(b"{user1000}.following"), slot(b"{user1000}.followers"));
        assert_eq!(slot(b"foo{bar}{zap}"), slot(b"bar"));
        assert_eq!(slot(b"foo{{bar}}zap"), slot(b"{bar"));
        assert_ne!(slot(b"foo{}{bar}"), slot(b"bar"));
    }

    fn text(text: &'static str) -> Value {
        Value::Bulk(Bytes::from_static(text.as_bytes()))
    }

    fn range(first: i64, last: i64, host: Value) -> Value {
        let master = Value::Array(vec![host, Value::Int(7000), text("id")]);
        let replica = Value::Array(vec![text("elsewhere"), Value::Int(1), text("id")]);
        Value::Array(vec![Value::Int(first), Value::Int(last), master, replica])
    }

    #[test]
    fn masters_are_read_and_unknown_hosts_are_the_one_that_was_asked() {
        let asked = Address::Tcp("asked".to_owned(), 1);
        let value = Value::Array(vec![range(0, 100, text("h")), range(101, 16_383, text(""))]);
        let ranges = parse_slots(&value, &asked).unwrap();
        assert_eq!(ranges[0].server, Address::Tcp("h".to_owned(), 7000));
        assert_eq!(ranges[1].server, Address::Tcp("asked".to_owned(), 7000));
        assert_eq!((ranges[1].first, ranges[1].last), (101, 16_383));
    }

    #[test]
    fn other_answers_are_none() {
        let asked = Address::Tcp("asked".to_owned(), 1);
        for value in [
            Value::Nil,
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![range(0, 16_384, text("h"))]),
            Value::Array(vec![range(-1, 5, text("h"))]),
            Value::Array(vec![range(0, 5, Value::Int(1))]),
        ] {
            assert_eq!(parse_slots(&value, &asked), None);
        }
    }
}

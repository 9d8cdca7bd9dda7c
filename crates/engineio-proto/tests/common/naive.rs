//! Payloads decoded and encoded a second time, as simply as possible: characters in vectors, no
//! sharing, no care for speed. What both implementations agree on is likely to be right.

/// A packet of a body, without the meaning of its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Naive {
    /// Type digit and data.
    Text(char, String),
    /// Data of a message.
    Binary(Vec<u8>),
}

/// The packets before the first fault, and whether there was one.
pub(crate) type Decoded = (Vec<Naive>, bool);

fn base64(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    // Padding may be missing, wholly or in part, but it is not more than needed.
    let needed = (4 - digits.len() % 4) % 4;
    if digits.len() % 4 == 1 || padding > needed {
        return None;
    }
    let mut bits = Vec::new();
    for digit in digits.chars() {
        let value = ALPHABET.find(digit)?;
        bits.extend((0..6).rev().map(|bit| value >> bit & 1 == 1));
    }
    let whole = bits.chunks_exact(8);
    Some(
        whole
            .map(|bits| bits.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit)))
            .collect(),
    )
}

fn packet(text: &str, version: u8) -> Option<Naive> {
    let kind = text.chars().next()?;
    let data = &text[kind.len_utf8()..];
    match (kind, version) {
        ('0'..='6', _) => Some(Naive::Text(kind, data.to_owned())),
        ('b', 4) => base64(data).map(Naive::Binary),
        ('b', 3) => base64(data.strip_prefix('4')?).map(Naive::Binary),
        _ => None,
    }
}

/// A body of version 4.
pub(crate) fn decode_v4(body: &[u8]) -> Decoded {
    let mut packets = Vec::new();
    let Ok(text) = std::str::from_utf8(body) else {
        return (packets, true);
    };
    for part in text.split('\u{1e}') {
        match packet(part, 4) {
            Some(packet) => packets.push(packet),
            None => return (packets, true),
        }
    }
    (packets, false)
}

/// A text body of version 3, whose lengths count UTF-16 units.
pub(crate) fn decode_v3_text(body: &[u8]) -> Decoded {
    let mut packets = Vec::new();
    let Ok(text) = std::str::from_utf8(body) else {
        return (packets, true);
    };
    let mut units: Vec<u16> = text.encode_utf16().collect();
    if units.is_empty() {
        return (packets, true);
    }
    while !units.is_empty() {
        let digits = units
            .iter()
            .take_while(|unit| (48..58).contains(*unit))
            .count();
        let number: String = units[..digits]
            .iter()
            .map(|unit| char::from(*unit as u8))
            .collect();
        let length = number.parse::<usize>().ok().filter(|_| digits <= 10);
        let Some(length) = length.filter(|_| units.get(digits) == Some(&58)) else {
            return (packets, true);
        };
        let (from, to) = (digits + 1, digits + 1 + length);
        // Half of a character is no text.
        let Some(Ok(content)) = units.get(from..to).map(String::from_utf16) else {
            return (packets, true);
        };
        units.drain(..to);
        if content.is_empty() {
            continue;
        }
        match packet(&content, 3) {
            Some(packet) => packets.push(packet),
            None => return (packets, true),
        }
    }
    (packets, false)
}

/// A binary body of version 3.
pub(crate) fn decode_v3_binary(body: &[u8]) -> Decoded {
    let mut packets = Vec::new();
    let mut rest = body.to_vec();
    while !rest.is_empty() {
        let Some(mark) = rest.iter().skip(1).position(|byte| *byte == 0xff) else {
            return (packets, true);
        };
        let digits = &rest[1..=mark];
        if digits.is_empty() || digits.len() > 10 || digits.iter().any(|digit| *digit > 9) {
            return (packets, true);
        }
        let length = digits
            .iter()
            .fold(0, |sum, digit| sum * 10 + usize::from(*digit));
        let Some(content) = rest.get(mark + 2..mark + 2 + length) else {
            return (packets, true);
        };
        let read = match rest[0] {
            0 => std::str::from_utf8(content)
                .ok()
                .and_then(|text| packet(text, 3)),
            1 if content.first() == Some(&4) => Some(Naive::Binary(content[1..].to_vec())),
            _ => None,
        };
        match read {
            Some(packet) => packets.push(packet),
            None => return (packets, true),
        }
        rest.drain(..mark + 2 + length);
    }
    (packets, false)
}

//! The mark that every message carries.
//!
//! *Shape:* `~sl<run>.<stream>.<number>.<due>~`, decimal, then padding; a string, because a
//! server may decode and encode a payload again, and strings survive that unchanged.

/// Begins a stamp.
const HEAD: &[u8] = b"~sl";

/// Who sent what, when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The run of the tool; messages of others on the same server are not ours to count.
    pub run: u32,
    /// The stream, or [`Stamp::ECHO`].
    pub stream: u32,
    /// The number in the stream.
    pub number: u32,
    /// When it was to be sent, µs since the run began.
    pub due_us: u64,
}

impl Stamp {
    /// The stream of what is acknowledged instead of delivered.
    pub const ECHO: u32 = u32::MAX;

    /// The payload: the stamp, filled up to `len` bytes.
    #[must_use]
    pub fn payload(&self, len: usize) -> String {
        let mut text = format!(
            "~sl{}.{}.{}.{}~",
            self.run, self.stream, self.number, self.due_us
        );
        while text.len() < len {
            text.push('x');
        }
        text
    }

    /// The first stamp in these bytes.
    #[must_use]
    pub fn find(bytes: &[u8]) -> Option<Self> {
        let mut from = 0;
        while let Some(at) = bytes[from..].iter().position(|byte| *byte == HEAD[0]) {
            from += at + 1;
            if let Some(rest) = bytes[from - 1..].strip_prefix(HEAD)
                && let Some(stamp) = Self::parse(rest)
            {
                return Some(stamp);
            }
        }
        None
    }

    fn parse(rest: &[u8]) -> Option<Self> {
        let (run, rest) = number(rest, b'.')?;
        let (stream, rest) = number(rest, b'.')?;
        let (number_, rest) = number(rest, b'.')?;
        let (due_us, _) = number(rest, b'~')?;
        Some(Self {
            run: u32::try_from(run).ok()?,
            stream: u32::try_from(stream).ok()?,
            number: u32::try_from(number_).ok()?,
            due_us,
        })
    }
}

/// Digits up to a mark; the value and what follows the mark.
fn number(bytes: &[u8], mark: u8) -> Option<(u64, &[u8])> {
    let mut value: u64 = 0;
    for (at, byte) in bytes.iter().enumerate().take(20) {
        match byte {
            b'0'..=b'9' => value = value.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?,
            byte if *byte == mark && at > 0 => return Some((value, &bytes[at + 1..])),
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_found_in_a_packet() {
        let stamp = Stamp {
            run: 7,
            stream: 3,
            number: 12,
            due_us: 1_500_000,
        };
        let packet = format!("42[\"m~sg\",\"{}\"]", stamp.payload(80));
        assert_eq!(Stamp::find(packet.as_bytes()), Some(stamp));
    }

    #[test]
    fn what_only_begins_like_a_stamp_is_none() {
        for text in [
            "",
            "~",
            "~sl",
            "~sl1.2.3~",
            "~sl1.2.3.",
            "~sl.1.2.3~",
            "~sl1.2.99999999999.4~",
        ] {
            assert_eq!(Stamp::find(text.as_bytes()), None, "{text}");
        }
    }
}

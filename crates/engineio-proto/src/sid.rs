//! The secret identifier of a session.

use std::fmt;
use std::ops::Deref;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Number of characters in a session id.
///
/// *Source:* existing sticky balancers match `sid=([\w\-]{20})`, and the cluster engine and the
/// sharded Redis adapter of Node.js treat exactly this length as a session id.
pub const SID_LEN: usize = 20;

/// Bytes of an id before base64.
const RAW_LEN: usize = 15;

/// The node of a cluster that owns a session: 24 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeTag(u32);

impl NodeTag {
    /// The largest tag.
    pub const MAX: Self = Self(0x00ff_ffff);

    /// `value` as a tag; `None` when it needs more than 24 bits.
    #[must_use]
    pub fn new(value: u32) -> Option<Self> {
        (value <= Self::MAX.0).then_some(Self(value))
    }

    /// The tag as a number below 2²⁴.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

/// Identifies a session to the peer that holds it; whoever knows it can act as that peer.
///
/// *Shape:* 3 bytes of [`NodeTag`] and 12 random bytes, written as [`SID_LEN`] characters of
/// base64url. `Debug` shows only the first six characters; `Display` shows all of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId([u8; RAW_LEN]);

impl SessionId {
    /// The id with these random bytes on node `node_tag`.
    #[must_use]
    pub fn new(node_tag: NodeTag, random: [u8; 12]) -> Self {
        let [_, t0, t1, t2] = node_tag.0.to_be_bytes();
        let [r0, r1, r2, r3, r4, r5, r6, r7, r8, r9, r10, r11] = random;
        Self([t0, t1, t2, r0, r1, r2, r3, r4, r5, r6, r7, r8, r9, r10, r11])
    }

    /// Reads an id as it stands in a query string; `None` unless it is exactly [`SID_LEN`]
    /// characters of `[A-Za-z0-9_-]`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != SID_LEN {
            return None;
        }
        // Every polling request carries an id, and a general decoder costs many times as much.
        let mut raw = [0; RAW_LEN];
        let (groups, _) = text.as_bytes().as_chunks::<4>();
        let (parts, _) = raw.as_chunks_mut::<3>();
        let mut all = 0;
        for ([a, b, c, d], part) in groups.iter().zip(parts) {
            let [a, b, c, d] = [sextet(*a), sextet(*b), sextet(*c), sextet(*d)];
            all |= a | b | c | d;
            let bits = a << 18 | b << 12 | c << 6 | d;
            let [_, first, second, third] = bits.to_be_bytes();
            *part = [first, second, third];
        }
        if all & NO_SEXTET != 0 {
            return None;
        }
        Some(Self(raw))
    }

    /// The node that made this id.
    #[must_use]
    pub fn node_tag(&self) -> NodeTag {
        let [t0, t1, t2, ..] = self.0;
        NodeTag(u32::from_be_bytes([0, t0, t1, t2]))
    }

    /// The characters of the id, without allocating.
    #[must_use]
    pub fn to_text(&self) -> SidText {
        let mut text = [0; SID_LEN];
        let written = URL_SAFE_NO_PAD.encode_slice(self.0, &mut text);
        debug_assert_eq!(written, Ok(SID_LEN), "15 bytes are 20 base64 characters");
        SidText(text)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.to_text())
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", self.to_text().get(..6).unwrap_or_default())
    }
}

/// The characters of a [`SessionId`]; dereferences to `str`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SidText([u8; SID_LEN]);

impl Deref for SidText {
    type Target = str;
    fn deref(&self) -> &str {
        // Base64 is ASCII, so the default is never taken.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for SidText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", self.get(..6).unwrap_or_default())
    }
}

/// What [`sextet`] says of other characters: a bit above those of a group.
const NO_SEXTET: u32 = 1 << 31;

/// The six bits that each character of base64url stands for.
#[expect(
    clippy::indexing_slicing,
    reason = "computed when this is compiled, which then fails"
)]
const SEXTETS: [u32; 256] = {
    let mut table = [NO_SEXTET; 256];
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut value = 0;
    while value < 64 {
        table[alphabet[value as usize] as usize] = value;
        value += 1;
    }
    table
};

fn sextet(character: u8) -> u32 {
    SEXTETS
        .get(usize::from(character))
        .map_or(NO_SEXTET, |value| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> SessionId {
        SessionId::new(NodeTag::new(0x00ab_cdef).unwrap(), [0xfb; 12])
    }

    #[test]
    fn an_id_survives_its_text_form() {
        let text = id().to_string();
        assert_eq!(text, "q83v-_v7-_v7-_v7-_v7");
        assert_eq!(SessionId::parse(&text), Some(id()));
        assert_eq!(id().node_tag().get(), 0x00ab_cdef);
    }

    #[test]
    fn only_20_characters_of_base64url_are_an_id() {
        for text in [
            "",
            "q83v",
            "q83v-_v7-_v7-_v7-_v7A",
            "q83v+/v7-_v7-_v7-_v7",
            "q83v-_v7-_v7-_v7-_v=",
            "q83v-_v7-_v7-_v7-_é",
            "q83v-_v7 _v7-_v7-_v7",
        ] {
            assert_eq!(SessionId::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn debug_output_keeps_the_secret() {
        assert_eq!(format!("{:?}", id()), "q83v-_…");
        assert_eq!(format!("{:?}", id().to_text()), "q83v-_…");
    }

    #[test]
    fn a_tag_has_24_bits() {
        assert_eq!(NodeTag::new(1 << 24), None);
        assert_eq!(NodeTag::new((1 << 24) - 1), Some(NodeTag::MAX));
    }
}

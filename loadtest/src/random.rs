//! Choices that need no secrecy.

/// A small generator (xorshift64*).
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Seeded by the system.
    #[must_use]
    pub fn new() -> Self {
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).expect("the system has randomness");
        Self(u64::from_le_bytes(seed) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
    }

    /// From 0 up to and without 1.
    pub fn fraction(&mut self) -> f64 {
        f64::from(u32::try_from(self.next()).expect("32 bits")) / 4_294_967_296.0
    }

    /// From 0 up to and without `limit`; 0 for a limit of 0.
    pub fn below(&mut self, limit: u32) -> u32 {
        u32::try_from((self.next() * u64::from(limit)) >> 32).expect("32 bits")
    }

    /// One of them.
    pub fn choose<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        let len = u32::try_from(list.len()).ok()?;
        list.get(self.below(len) as usize)
    }
}

impl Default for Random {
    fn default() -> Self {
        Self::new()
    }
}

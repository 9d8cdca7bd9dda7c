//! A network that loses, delays and repeats, with every decision drawn from a seed.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// Random numbers that are the same for the same seed (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers of this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.draw() % end as u64).expect("less than a usize")
    }

    /// Whether something happens that does so `percent` times in a hundred.
    pub fn happens(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of these; there is at least one.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// How bad a [`Net`] is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Of a hundred items, how many are lost.
    pub lost_percent: usize,
    /// Of a hundred items, how many arrive twice.
    pub repeated_percent: usize,
    /// The longest way.
    pub max_delay: Duration,
}

/// Items on their way between numbered nodes. What one node sends another arrives in order.
#[derive(Debug)]
pub struct Net<T> {
    random: Random,
    faults: Faults,
    now: Instant,
    /// By arrival; the second number keeps the order of those that arrive together.
    under_way: BTreeMap<(Instant, u64), (u64, T)>,
    sent: u64,
    /// When the last item from one to another arrives.
    last: HashMap<(u64, u64), Instant>,
    /// Which part of a divided network a node is in; without an entry in part 0.
    parts: HashMap<u64, usize>,
}

impl<T: Clone> Net<T> {
    /// A network without faults.
    #[must_use]
    pub fn new(seed: u64, now: Instant) -> Self {
        Self {
            random: Random::new(seed),
            faults: Faults::default(),
            now,
            under_way: BTreeMap::new(),
            sent: 0,
            last: HashMap::new(),
            parts: HashMap::new(),
        }
    }

    /// Sets how bad it is from now on.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// Puts a node into a part of the network: only nodes of one part reach each other.
    pub fn set_part(&mut self, node: u64, part: usize) {
        self.parts.insert(node, part);
    }

    /// Puts all nodes into one part.
    pub fn heal(&mut self) {
        self.parts.clear();
    }

    /// Moves its time.
    pub fn set_now(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    /// Sends an item.
    pub fn send(&mut self, from: u64, to: u64, item: &T) {
        let part = |node| self.parts.get(&node).copied().unwrap_or_default();
        if part(from) != part(to) || self.random.happens(self.faults.lost_percent) {
            return;
        }
        self.put(from, to, item);
        if self.random.happens(self.faults.repeated_percent) {
            self.put(from, to, item);
        }
    }

    fn put(&mut self, from: u64, to: u64, item: &T) {
        let millis = usize::try_from(self.faults.max_delay.as_millis()).expect("a short delay");
        let delay = Duration::from_millis(self.random.below(millis + 1) as u64);
        let last = self.last.entry((from, to)).or_insert(self.now);
        *last = (self.now + delay).max(*last);
        self.under_way
            .insert((*last, self.sent), (to, item.clone()));
        self.sent += 1;
    }

    /// The next item that has arrived, and where.
    pub fn poll(&mut self) -> Option<(u64, T)> {
        let entry = self.under_way.first_entry()?;
        (entry.key().0 <= self.now).then(|| entry.remove())
    }

    /// When the next item arrives.
    #[must_use]
    pub fn next_arrival(&self) -> Option<Instant> {
        self.under_way.keys().next().map(|&(at, _)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Clock;

    fn arrived(net: &mut Net<u32>) -> Vec<(u64, u32)> {
        std::iter::from_fn(|| net.poll()).collect()
    }

    #[test]
    fn the_same_seed_draws_the_same_numbers() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            [(); 4].map(|()| random.draw())
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn what_one_sends_another_arrives_in_order_however_long_it_takes() {
        let mut clock = Clock::new();
        let mut net = Net::new(1, clock.now());
        net.set_faults(Faults {
            max_delay: Duration::from_millis(50),
            ..Faults::default()
        });
        for number in 0..100 {
            net.send(1, 2, &number);
        }
        assert!(net.next_arrival().is_some());
        clock.advance(Duration::from_secs(1));
        net.set_now(clock.now());
        let numbers: Vec<u32> = arrived(&mut net).iter().map(|&(_, it)| it).collect();
        assert!(numbers.is_sorted() && numbers.len() == 100);
    }

    #[test]
    fn parts_do_not_reach_each_other_until_they_heal() {
        let mut net = Net::new(1, Clock::new().now());
        net.set_part(2, 1);
        net.send(1, 2, &7);
        net.send(1, 3, &8);
        net.heal();
        net.send(1, 2, &9);
        assert_eq!(arrived(&mut net), [(3, 8), (2, 9)]);
    }

    #[test]
    fn items_are_lost_and_repeated_as_often_as_told() {
        let mut net = Net::new(3, Clock::new().now());
        net.set_faults(Faults {
            lost_percent: 50,
            repeated_percent: 100,
            max_delay: Duration::ZERO,
        });
        for number in 0..1000 {
            net.send(1, 2, &number);
        }
        let count = arrived(&mut net).len();
        assert!((800..1200).contains(&count), "{count}");
    }
}

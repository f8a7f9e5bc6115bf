//! Numbers that a seed decides, the same on every machine and with every version of any library.

/// A sequence of numbers (SplitMix64).
#[derive(Debug, Clone)]
pub struct Seed(u64);

impl Seed {
    /// The sequence of `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// An unrelated sequence for the part `number` of whatever this one is for.
    #[must_use]
    pub fn part(&self, number: u64) -> Self {
        let mut start = Self(self.0 ^ number.wrapping_mul(0xA076_1D64_78BD_642F));
        Self(start.next())
    }

    /// The next number.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_gives_the_same_numbers_and_its_parts_others() {
        let first: Vec<u64> = {
            let mut seed = Seed::new(7);
            (0..4).map(|_| seed.next()).collect()
        };
        let again: Vec<u64> = {
            let mut seed = Seed::new(7);
            (0..4).map(|_| seed.next()).collect()
        };
        assert_eq!(first, again);
        // The published test vector of SplitMix64.
        assert_eq!(Seed::new(1_234_567).next(), 6_457_827_717_110_365_317);
        assert_ne!(Seed::new(7).part(1).next(), Seed::new(7).part(2).next());
    }
}

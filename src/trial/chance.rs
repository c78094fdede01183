//! Seeded, portable chance: the same seed draws the same kill moments everywhere.

use std::time::Duration;

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};

pub(super) struct Chance(ChaCha8Rng);

impl Chance {
    pub fn new(seed: u64) -> Chance {
        Chance(ChaCha8Rng::seed_from_u64(seed))
    }

    /// One of many streams of the same seed.
    pub fn of_stream(seed: u64, stream: u64) -> Chance {
        let mut chance = ChaCha8Rng::seed_from_u64(seed);
        chance.set_stream(stream);
        Chance(chance)
    }

    /// A whole number from 0 up to, not including, `end`; 0 where that is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        // the high half of the product; the bias of at most end / 2^64 does not matter here
        ((u128::from(self.0.next_u64()) * u128::from(end)) >> 64) as u64
    }

    /// A whole number from 1 up to, not including, `2^octaves`, about as often as one over it: Zipf's law without
    /// floating point.
    pub fn log_uniform(&mut self, octaves: u64) -> u64 {
        let low = 1 << self.below(octaves);
        low + self.below(low)
    }

    /// Any moment from now to `longest`.
    pub fn moment(&mut self, longest: Duration) -> Duration {
        Duration::from_micros(self.below(u64::try_from(longest.as_micros()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_is_the_same_for_the_same_seed_and_stays_below() {
        let draw = |seed| {
            let mut chance = Chance::new(seed);
            (0..100).map(|_| chance.below(7)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert!(draw(1).iter().all(|n| *n < 7) && (0..7).all(|n| draw(1).contains(&n)));
        assert_eq!(Chance::new(1).below(0), 0);
    }
}

//! The only source of chance in a simulated run.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A seeded generator; the same seed and purpose give the same throws on every machine.
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// Independent throws for each `purpose` of one seed, so that a new throw in one place leaves
    /// the others as they were.
    pub fn new(seed: u64, purpose: u64) -> Self {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        generator.set_stream(purpose);
        Self(generator)
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.0.random_bool(p)
    }

    /// A number in `from..=to`.
    pub fn range(&mut self, from: u64, to: u64) -> u64 {
        self.0.random_range(from..=to)
    }

    /// One of `from`, which is not empty.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.0.random_range(0..from.len())]
    }

    /// Mostly a short time, seldom one up to twenty times as long, milliseconds.
    pub fn latency(&mut self, most: u64) -> u64 {
        if self.chance(0.05) {
            self.range(0, most * 20)
        } else {
            self.range(0, most)
        }
    }

    /// Half the time never, otherwise one of `rates`: most runs see few kinds of fault, some many.
    pub fn rate(&mut self, rates: &[f64]) -> f64 {
        if self.chance(0.5) {
            0.0
        } else {
            self.pick(rates)
        }
    }
}

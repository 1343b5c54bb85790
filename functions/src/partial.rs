//! Partial aggregates: a commutative monoid, so that chunks, slices, shards, revisions and wider
//! windows all merge the same way.

use std::sync::Arc;

/// Count, sum, minimum and maximum of some tuples' values, in minor units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partial {
    /// How many tuples.
    pub count: u64,
    /// Sum of values; i128 because 2⁶⁴ values of 2⁶³ fit.
    pub sum: i128,
    /// Smallest value; `i64::MAX` when empty.
    pub min: i64,
    /// Largest value; `i64::MIN` when empty.
    pub max: i64,
}

impl Partial {
    /// The partial of no tuples: merging it changes nothing.
    pub const EMPTY: Self = Self {
        count: 0,
        sum: 0,
        min: i64::MAX,
        max: i64::MIN,
    };

    /// The partial of one value.
    pub fn of(value: i64) -> Self {
        Self {
            count: 1,
            sum: value.into(),
            min: value,
            max: value,
        }
    }

    /// Adds one value.
    pub fn add(&mut self, value: i64) {
        self.count += 1;
        self.sum += i128::from(value);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// Merges another partial into this one; associative and commutative.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// Whether there are values that have this partial: at least one, `min` not above `max`, and
    /// the sum within what so many values from `min` to `max` can add up to.
    pub fn is_possible(&self) -> bool {
        let count = i128::from(self.count);
        count > 0
            && self.min <= self.max
            && (count * i128::from(self.min)..=count * i128::from(self.max)).contains(&self.sum)
    }
}

/// Adds `amount[i]` to `partials[cell[i]]` for every `i`.
///
/// # Panics
/// If a cell is not below `partials.len()`.
pub(crate) fn add_all(
    partials: &mut [Partial],
    cells: impl Iterator<Item = usize>,
    amounts: &[i64],
) {
    for (cell, &amount) in cells.zip(amounts) {
        partials[cell].add(amount);
    }
}

/// Partials by key: what a function answers for a batch. No key stands twice.
pub type Partials = Vec<(Arc<str>, Partial)>;

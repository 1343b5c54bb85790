//! The settled seqs of one source, kept as `low` plus bitmap blocks above it.
//!
//! A source numbers its tuples without gaps from 0 or 1, so nearly all of the set is one run:
//! `low` says where the run ends, and only what stands above a hole costs memory. Block `b` holds
//! the seqs `b << 16 ..= b << 16 | 0xffff`, as a Roaring bitmap of their low 16 bits; that is also
//! its stored form. Seq 0 has a bit of its own in block 0, because a source that numbers from 1
//! never settles it and must not pay for that hole for ever.
//!
//! A source whose seqs are no numbering at all (nanoseconds, snowflake ids) would cost a block a
//! tuple. So the blocks with holes are limited, to [`MAX_RAGGED_BLOCKS`] a source; full ones are not:
//! they cost as much for 65,536 tuples.

use std::collections::{BTreeMap, BTreeSet};

use roaring::RoaringBitmap;

const BLOCK_BITS: u32 = 16;
const BLOCK_MASK: u64 = (1 << BLOCK_BITS) - 1;
const BLOCK_LEN: u64 = 1 << BLOCK_BITS;

/// How many blocks above `low` may have holes: what a source would need whose tuples are out of order
/// by 268 million, or that has left holes in as many places. Some 150 bytes each.
pub const MAX_RAGGED_BLOCKS: usize = 4_096;

/// What became of seqs that were to be settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Insert {
    /// They are settled now.
    Fresh,
    /// One of them was settled before; nothing has changed.
    Known,
    /// They would open a block with holes beyond [`MAX_RAGGED_BLOCKS`]; nothing has changed.
    Scattered,
}

/// A block as it is stored: its number and its content, `None` when nothing is left above `low`.
pub type StoredBlock = (u64, Option<Vec<u8>>);

/// A block as it is read back: its number and its content.
pub type StoredBytes = (u64, Vec<u8>);

/// A stored block that cannot be read back.
#[derive(Debug, thiserror::Error)]
#[error(
    "ledger block {number} is damaged: {reason}; restore the database from a backup or a replica"
)]
pub struct DamagedBlock {
    /// The block's number.
    pub number: u64,
    /// What the bitmap reader said.
    pub reason: String,
}

/// The settled seqs of one source.
#[derive(Clone, Debug, Default)]
pub struct Settled {
    /// Whether seq 0 is settled; kept apart from `blocks`, stored in block 0.
    zero: bool,
    /// Every seq in `1..low` is settled; at least 1.
    low: u64,
    /// What is settled at and above `low`.
    blocks: BTreeMap<u64, RoaringBitmap>,
    /// How many of `blocks` are not full.
    ragged: usize,
    /// Blocks that changed since the last [`Settled::take_changes`].
    touched: BTreeSet<u64>,
}

impl Settled {
    /// The empty set.
    pub fn new() -> Self {
        Self {
            low: 1,
            ..Self::default()
        }
    }

    /// The set as it was stored.
    ///
    /// # Errors
    /// If a block's bytes are not a bitmap.
    pub fn restore(low: u64, stored: &[StoredBytes]) -> Result<Self, DamagedBlock> {
        let mut settled = Self::new();
        settled.low = low.max(1);
        for (number, bytes) in stored {
            let mut block =
                RoaringBitmap::deserialize_from(&bytes[..]).map_err(|error| DamagedBlock {
                    number: *number,
                    reason: error.to_string(),
                })?;
            settled.zero |= *number == 0 && block.remove(0);
            if !block.is_empty() {
                settled.ragged += usize::from(block.len() < BLOCK_LEN);
                settled.blocks.insert(*number, block);
            }
        }
        Ok(settled)
    }

    /// Every seq in `1..low` is settled.
    pub fn low(&self) -> u64 {
        self.low
    }

    /// Whether `seq` is settled.
    pub fn contains(&self, seq: u64) -> bool {
        match seq {
            0 => self.zero,
            _ => seq < self.low || !self.is_clear(seq, seq),
        }
    }

    /// Settles `seq`.
    pub fn insert(&mut self, seq: u64) -> Insert {
        self.insert_run(seq, 1)
    }

    /// Settles `first .. first + len`, all of them or none. `len` is at least 1.
    pub fn insert_run(&mut self, first: u64, len: u64) -> Insert {
        if first == 0 {
            if self.zero {
                return Insert::Known;
            }
            if len > 1 {
                let rest = self.insert_run(1, len - 1);
                if rest != Insert::Fresh {
                    return rest;
                }
            }
            self.zero = true;
            self.touched.insert(0);
            return Insert::Fresh;
        }
        if first == self.low && self.blocks.is_empty() {
            self.low += len;
            return Insert::Fresh;
        }
        let last = first + (len - 1);
        if first < self.low || !self.is_clear(first, last) {
            return Insert::Known;
        }
        // What fills the first hole leaves no block behind.
        if first != self.low && self.ragged + self.opened(first, last) > MAX_RAGGED_BLOCKS {
            return Insert::Scattered;
        }
        let mut from = first;
        loop {
            let number = from >> BLOCK_BITS;
            let to = last.min(from | BLOCK_MASK);
            let block = self.blocks.entry(number).or_default();
            let was_ragged = !block.is_empty();
            block.insert_range((from & BLOCK_MASK) as u32..=(to & BLOCK_MASK) as u32);
            self.ragged -= usize::from(was_ragged);
            self.ragged += usize::from(block.len() < BLOCK_LEN);
            self.touched.insert(number);
            if to == last {
                break;
            }
            from = to + 1;
        }
        self.raise_low();
        Insert::Fresh
    }

    /// How many blocks with holes it takes to hold `first ..= last` that are not there yet: only the
    /// outermost can have any.
    fn opened(&self, first: u64, last: u64) -> usize {
        let (lowest, highest) = (first >> BLOCK_BITS, last >> BLOCK_BITS);
        let starts_within = first & BLOCK_MASK != 0;
        let ends_within = last & BLOCK_MASK != BLOCK_MASK;
        let is_new = |number| !self.blocks.contains_key(&number);
        if lowest == highest {
            return usize::from((starts_within || ends_within) && is_new(lowest));
        }
        usize::from(starts_within && is_new(lowest)) + usize::from(ends_within && is_new(highest))
    }

    fn is_clear(&self, first: u64, last: u64) -> bool {
        self.blocks
            .range(first >> BLOCK_BITS..=last >> BLOCK_BITS)
            .all(|(&number, block)| {
                let base = number << BLOCK_BITS;
                let from = (first.max(base) - base) as u32;
                let to = (last.min(base | BLOCK_MASK) - base) as u32;
                block.range_cardinality(from..=to) == 0
            })
    }

    /// Moves `low` past what has become contiguous and drops the blocks it has passed.
    fn raise_low(&mut self) {
        while let Some(block) = self.blocks.get_mut(&(self.low >> BLOCK_BITS)) {
            let number = self.low >> BLOCK_BITS;
            let end = first_absent(block, (self.low & BLOCK_MASK) as u32);
            self.low = (number << BLOCK_BITS) + u64::from(end);
            self.ragged -= usize::from(block.len() < BLOCK_LEN);
            block.remove_range(0..end);
            self.touched.insert(number);
            if block.is_empty() {
                self.blocks.remove(&number);
            } else {
                self.ragged += usize::from(block.len() < BLOCK_LEN);
            }
            if u64::from(end) <= BLOCK_MASK {
                break;
            }
        }
    }

    /// The blocks that changed since the last call, in their stored form.
    pub fn take_changes(&mut self) -> Vec<StoredBlock> {
        let touched = std::mem::take(&mut self.touched);
        touched
            .into_iter()
            .map(|number| {
                if let Some(block) = self.blocks.get_mut(&number) {
                    block.optimize();
                }
                let block = self.blocks.get(&number);
                let stored = if number == 0 && self.zero {
                    let mut with_zero = block.cloned().unwrap_or_default();
                    with_zero.insert(0);
                    Some(bytes_of(&with_zero))
                } else {
                    block.map(bytes_of)
                };
                (number, stored)
            })
            .collect()
    }
}

fn bytes_of(block: &RoaringBitmap) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(block.serialized_size());
    block
        .serialize_into(&mut bytes)
        .expect("writing to memory cannot fail");
    bytes
}

/// The first value from `from` up that `block` lacks; 65,536 if it lacks none.
fn first_absent(block: &RoaringBitmap, from: u32) -> u32 {
    let limit = BLOCK_MASK as u32 + 1;
    let (mut low, mut high) = (from, limit);
    // `from ..= x` is full exactly while its cardinality equals its length: bisect on that.
    while low < high {
        let middle = low + (high - low) / 2;
        if block.range_cardinality(from..=middle) == u64::from(middle - from) + 1 {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stored(changes: Vec<StoredBlock>, into: &mut BTreeMap<u64, Vec<u8>>) {
        for (number, bytes) in changes {
            match bytes {
                Some(bytes) => into.insert(number, bytes),
                None => into.remove(&number),
            };
        }
    }

    #[test]
    fn a_source_that_numbers_from_one_keeps_no_blocks() {
        let mut settled = Settled::new();
        for seq in 1..200_000 {
            assert_eq!(settled.insert(seq), Insert::Fresh);
        }
        assert_eq!(settled.low(), 200_000);
        assert!(settled.take_changes().is_empty());
        assert!(!settled.contains(0));
    }

    #[test]
    fn a_source_that_numbers_from_zero_keeps_one_bit() {
        let mut settled = Settled::new();
        assert_eq!(settled.insert_run(0, 1), Insert::Fresh);
        assert_eq!(settled.insert_run(1, 99_999), Insert::Fresh);
        assert_eq!(settled.insert(0), Insert::Known);
        assert_eq!(settled.low(), 100_000);
        let changes = settled.take_changes();
        assert_eq!(changes.len(), 1);
        assert!(changes[0].1.as_ref().unwrap().len() < 32);
    }

    #[test]
    fn a_hole_is_filled_and_its_blocks_go() {
        let mut settled = Settled::new();
        assert_eq!(settled.insert_run(1, 10), Insert::Fresh);
        assert_eq!(settled.insert_run(12, 200_000), Insert::Fresh);
        assert_eq!(settled.low(), 11);
        assert_eq!(settled.take_changes().len(), 4);
        assert_eq!(settled.insert(11), Insert::Fresh);
        assert_eq!(settled.low(), 200_012);
        assert!(
            settled
                .take_changes()
                .iter()
                .all(|(_, bytes)| bytes.is_none())
        );
    }

    #[test]
    fn a_run_that_overlaps_changes_nothing() {
        let mut settled = Settled::new();
        assert_eq!(settled.insert_run(5, 5), Insert::Fresh);
        assert_eq!(settled.insert_run(1, 5), Insert::Known);
        assert!(!settled.contains(1));
        assert_eq!(settled.insert_run(1, 4), Insert::Fresh);
        assert_eq!(settled.low(), 10);
    }

    #[test]
    fn seqs_that_are_no_numbering_open_a_limited_number_of_blocks() {
        let mut settled = Settled::new();
        let most = MAX_RAGGED_BLOCKS as u64;
        let scattered = |n: u64| 1_700_000_000_000_000_000 + n * 1_000_000;
        for n in 0..most {
            assert_eq!(settled.insert(scattered(n)), Insert::Fresh);
        }
        assert_eq!(settled.insert(scattered(most)), Insert::Scattered);
        assert_eq!(settled.insert_run(scattered(most), 3), Insert::Scattered);
        assert!(!settled.contains(scattered(most)));
        assert_eq!(settled.insert(scattered(7)), Insert::Known);
        assert_eq!(
            settled.insert(scattered(7) + 1),
            Insert::Fresh,
            "no new block"
        );
        assert_eq!(settled.take_changes().len(), MAX_RAGGED_BLOCKS);
        assert_eq!(settled.insert_run(1, 200_000), Insert::Fresh, "a numbering");
        assert_eq!(settled.low(), 200_001);
        assert_eq!(settled.insert(300_000), Insert::Scattered);
    }

    #[test]
    fn a_hole_that_is_never_filled_stops_no_source() {
        let mut settled = Settled::new();
        let blocks = 2 * MAX_RAGGED_BLOCKS as u64;
        for block in 0..blocks {
            let first = 2 + block * BLOCK_LEN;
            assert_eq!(settled.insert_run(first, BLOCK_LEN), Insert::Fresh);
        }
        assert_eq!(settled.low(), 1);
        let stored: Vec<_> = (settled.take_changes().into_iter())
            .map(|(number, bytes)| (number, bytes.expect("nothing is below `low`")))
            .collect();
        let mut settled = Settled::restore(1, &stored).expect("blocks are legible");
        assert_eq!(settled.insert(2 + blocks * BLOCK_LEN), Insert::Fresh);
        assert_eq!(settled.insert(1), Insert::Fresh);
        assert_eq!(settled.low(), 3 + blocks * BLOCK_LEN);
    }

    #[test]
    fn a_damaged_block_is_refused() {
        assert!(Settled::restore(1, &[(0, vec![1, 2, 3])]).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn it_equals_a_plain_set_and_survives_storage(
            runs in prop::collection::vec((prop_oneof![Just(0u64), Just(1), 0..140_000u64], 1u64..1_500), 1..30),
            restarts in prop::collection::vec(any::<bool>(), 30),
        ) {
            let mut model = BTreeSet::new();
            let mut settled = Settled::new();
            let mut database = BTreeMap::new();
            for (&(first, len), &restart) in runs.iter().zip(&restarts) {
                let fresh = (first..first + len).all(|seq| !model.contains(&seq));
                prop_assert_eq!(settled.insert_run(first, len) == Insert::Fresh, fresh);
                prop_assert_eq!(settled.ragged, settled.blocks.values().filter(|b| b.len() < BLOCK_LEN).count());
                if fresh {
                    model.extend(first..first + len);
                }
                if restart {
                    stored(settled.take_changes(), &mut database);
                    let blocks: Vec<_> = database.clone().into_iter().collect();
                    settled = Settled::restore(settled.low(), &blocks).unwrap();
                }
            }
            let low = settled.low();
            prop_assert_eq!(model.range(1..low).count() as u64, low - 1);
            prop_assert!(!model.contains(&low));
            for &(first, len) in &runs {
                for seq in [first.saturating_sub(1), first, first + len / 2, first + len - 1, first + len] {
                    prop_assert_eq!(settled.contains(seq), model.contains(&seq), "seq {}", seq);
                }
            }
        }
    }
}

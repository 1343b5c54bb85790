//! The settled seqs of one source, kept as `low` plus bitmap blocks above it.
//!
//! A source numbers its tuples without gaps from 0 or 1, so nearly all of the set is one run:
//! `low` says where the run ends, and only what stands above a hole costs memory. Block `b` holds
//! the seqs `b << 16 ..= b << 16 | 0xffff`, as a Roaring bitmap of their low 16 bits; that is also
//! its stored form. Seq 0 has a bit of its own in block 0, because a source that numbers from 1
//! never settles it and must not pay for that hole for ever.

use std::collections::{BTreeMap, BTreeSet};

use roaring::RoaringBitmap;

const BLOCK_BITS: u32 = 16;
const BLOCK_MASK: u64 = (1 << BLOCK_BITS) - 1;

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

    /// Settles `seq`; `false` if it was settled before.
    pub fn insert(&mut self, seq: u64) -> bool {
        self.insert_run(seq, 1)
    }

    /// Settles `first .. first + len` if none of them is settled; `false`, and no change, if any is.
    /// `len` is at least 1.
    pub fn insert_run(&mut self, first: u64, len: u64) -> bool {
        if first == 0 {
            if self.zero || (len > 1 && !self.insert_run(1, len - 1)) {
                return false;
            }
            self.zero = true;
            self.touched.insert(0);
            return true;
        }
        if first == self.low && self.blocks.is_empty() {
            self.low += len;
            return true;
        }
        let last = first + (len - 1);
        if first < self.low || !self.is_clear(first, last) {
            return false;
        }
        let mut from = first;
        loop {
            let number = from >> BLOCK_BITS;
            let to = last.min(from | BLOCK_MASK);
            self.blocks
                .entry(number)
                .or_default()
                .insert_range((from & BLOCK_MASK) as u32..=(to & BLOCK_MASK) as u32);
            self.touched.insert(number);
            if to == last {
                break;
            }
            from = to + 1;
        }
        self.raise_low();
        true
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
            block.remove_range(0..end);
            self.touched.insert(number);
            if block.is_empty() {
                self.blocks.remove(&number);
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
            assert!(settled.insert(seq));
        }
        assert_eq!(settled.low(), 200_000);
        assert!(settled.take_changes().is_empty());
        assert!(!settled.contains(0));
    }

    #[test]
    fn a_source_that_numbers_from_zero_keeps_one_bit() {
        let mut settled = Settled::new();
        assert!(settled.insert_run(0, 1));
        assert!(settled.insert_run(1, 99_999));
        assert!(!settled.insert(0));
        assert_eq!(settled.low(), 100_000);
        let changes = settled.take_changes();
        assert_eq!(changes.len(), 1);
        assert!(changes[0].1.as_ref().unwrap().len() < 32);
    }

    #[test]
    fn a_hole_is_filled_and_its_blocks_go() {
        let mut settled = Settled::new();
        assert!(settled.insert_run(1, 10));
        assert!(settled.insert_run(12, 200_000));
        assert_eq!(settled.low(), 11);
        assert_eq!(settled.take_changes().len(), 4);
        assert!(settled.insert(11));
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
        assert!(settled.insert_run(5, 5));
        assert!(!settled.insert_run(1, 5));
        assert!(!settled.contains(1));
        assert!(settled.insert_run(1, 4));
        assert_eq!(settled.low(), 10);
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
                prop_assert_eq!(settled.insert_run(first, len), fresh);
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

//! Tuples in columns: what decoding appends to and windows are built from.

use std::sync::Arc;

use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};

/// Distinct texts, each with a dense number in order of first appearance.
///
/// A dictionary belongs to one slice; numbers mean nothing outside it.
#[derive(Debug)]
pub struct Dictionary {
    texts: Vec<Arc<str>>,
    index: HashTable<u32>,
    hasher: RandomState,
    bytes: usize,
    /// Numbers met lately, each where its text's [`slot`] is.
    recent: [u32; RECENT],
}

const RECENT: usize = 256;

/// A cheap and predictable place for a text: its end tells most sources and keys apart. Two
/// texts that share a place only cost a proper hash.
fn slot(text: &str) -> usize {
    let end = match text.as_bytes().last_chunk::<8>() {
        Some(end) => u64::from_le_bytes(*end),
        None => text.bytes().fold(0, |end, byte| end << 8 | u64::from(byte)),
    };
    // Fibonacci hashing, Knuth, TAOCP 6.4.
    (end.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize
}

impl Default for Dictionary {
    fn default() -> Self {
        Self {
            texts: Vec::new(),
            index: HashTable::new(),
            hasher: RandomState::new(),
            bytes: 0,
            recent: [0; RECENT],
        }
    }
}

impl Dictionary {
    /// The number of `text`, given out now if it is new.
    pub fn intern(&mut self, text: &str) -> u32 {
        // The same few texts come again and again: one comparison beats a hash.
        let slot = slot(text);
        let recent = self.recent[slot];
        if let Some(met) = self.texts.get(recent as usize)
            && **met == *text
        {
            return recent;
        }
        let hash = self.hasher.hash_one(text);
        let found = self
            .index
            .find(hash, |&number| *self.texts[number as usize] == *text)
            .copied();
        let number = found.unwrap_or_else(|| {
            let number = self.texts.len() as u32;
            self.texts.push(Arc::from(text));
            self.bytes += text.len() + 48;
            let (texts, hasher) = (&self.texts, &self.hasher);
            self.index
                .insert_unique(hash, number, |&n| hasher.hash_one(&*texts[n as usize]));
            number
        });
        self.recent[slot] = number;
        number
    }

    /// The text numbered `number`.
    ///
    /// # Panics
    /// If `number` was not given out by this dictionary.
    pub fn text(&self, number: u32) -> &Arc<str> {
        &self.texts[number as usize]
    }

    /// All texts in the order of their numbers.
    pub fn texts(&self) -> &[Arc<str>] {
        &self.texts
    }

    /// How many distinct texts it holds.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// Roughly the memory held, bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The dictionaries that a slice's tuples refer to.
#[derive(Debug, Default)]
pub struct Dictionaries {
    /// Distinct sources.
    pub sources: Dictionary,
    /// Distinct keys.
    pub keys: Dictionary,
}

impl Dictionaries {
    /// Roughly the memory held, bytes.
    pub fn bytes(&self) -> usize {
        self.sources.bytes() + self.keys.bytes()
    }
}

/// Tuples in columns of equal length; row `i` is one tuple.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tuples {
    /// Number of the source in [`Dictionaries::sources`].
    pub source: Vec<u32>,
    /// The tuple's number within its source.
    pub seq: Vec<u64>,
    /// Event time, milliseconds since the epoch (UTC).
    pub ts: Vec<i64>,
    /// Number of the key in [`Dictionaries::keys`].
    pub key: Vec<u32>,
    /// Value in minor units.
    pub amount: Vec<i64>,
}

impl Tuples {
    /// Memory one row takes, bytes.
    pub const ROW_BYTES: usize = 4 + 8 + 8 + 4 + 8;

    /// How many tuples.
    pub fn len(&self) -> usize {
        self.seq.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.seq.is_empty()
    }

    /// Appends one tuple.
    pub fn push(&mut self, source: u32, seq: u64, ts: i64, key: u32, amount: i64) {
        self.source.push(source);
        self.seq.push(seq);
        self.ts.push(ts);
        self.key.push(key);
        self.amount.push(amount);
    }

    /// Appends rows `range` of `other`, which must use the same dictionaries.
    pub fn extend_from(&mut self, other: &Tuples, range: std::ops::Range<usize>) {
        self.source.extend_from_slice(&other.source[range.clone()]);
        self.seq.extend_from_slice(&other.seq[range.clone()]);
        self.ts.extend_from_slice(&other.ts[range.clone()]);
        self.key.extend_from_slice(&other.key[range.clone()]);
        self.amount.extend_from_slice(&other.amount[range]);
    }

    /// Appends row `row` of `other`, which must use the same dictionaries.
    pub fn push_from(&mut self, other: &Tuples, row: usize) {
        self.push(
            other.source[row],
            other.seq[row],
            other.ts[row],
            other.key[row],
            other.amount[row],
        );
    }

    /// Keeps the first `rows` rows, and the memory.
    pub fn truncate(&mut self, rows: usize) {
        self.source.truncate(rows);
        self.seq.truncate(rows);
        self.ts.truncate(rows);
        self.key.truncate(rows);
        self.amount.truncate(rows);
    }

    /// Removes all rows, keeping the memory.
    pub fn clear(&mut self) {
        self.source.clear();
        self.seq.clear();
        self.ts.clear();
        self.key.clear();
        self.amount.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_dictionary_numbers_texts_in_order_of_first_appearance(
            texts in prop::collection::vec("[ab]{0,3}|[a-z]{8,10}|\\p{Han}{1,5}", 0..400),
        ) {
            let mut dictionary = Dictionary::default();
            let mut order: Vec<&str> = Vec::new();
            for text in &texts {
                if !order.contains(&text.as_str()) {
                    order.push(text);
                }
                let number = dictionary.intern(text) as usize;
                prop_assert_eq!(order[number], text);
            }
            prop_assert!(dictionary.texts().iter().map(|text| &**text).eq(order));
        }
    }
}

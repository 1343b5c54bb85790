//! Functions: pure maps from a batch to partials.

use std::sync::Arc;

use crate::batch::Batch;
use crate::partial::{Partial, Partials, add_all};

/// What a worker runs on each batch. `map` must depend on nothing but its argument: the same
/// batch may be mapped twice, by two workers, and either answer may win.
pub trait Function: Send + Sync {
    /// The name that the `windlass-function` header carries.
    fn name(&self) -> &str;

    /// The partials of one batch.
    ///
    /// # Errors
    /// Whatever the function cannot digest. The dispatcher retries, then bisects the batch until
    /// the tuple at fault is alone.
    fn map(&self, batch: &Batch) -> anyhow::Result<Partials>;
}

/// Gross merchandise volume: count, sum, minimum and maximum of the value by key.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gmv;

impl Function for Gmv {
    fn name(&self) -> &str {
        "gmv"
    }

    fn map(&self, batch: &Batch) -> anyhow::Result<Partials> {
        let mut partials = vec![Partial::EMPTY; batch.keys.len()];
        add_all(
            &mut partials,
            batch.key.iter().map(|&key| key as usize),
            &batch.amount,
        );
        Ok(batch
            .keys
            .iter()
            .zip(partials)
            .filter(|(_, partial)| partial.count > 0)
            .map(|(key, partial)| (Arc::clone(key), partial))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn gmv_is_what_adding_one_value_after_the_other_gives(
            rows in prop::collection::vec((0u32..5, any::<i64>()), 0..300),
        ) {
            let batch = Batch {
                keys: ["a", "b", "c", "d", "e"].map(Arc::from).to_vec(),
                key: rows.iter().map(|row| row.0).collect(),
                amount: rows.iter().map(|row| row.1).collect(),
            };
            let mut expected = BTreeMap::new();
            for (key, amount) in rows {
                let key = Arc::clone(&batch.keys[key as usize]);
                let (count, sum, min, max) = expected.entry(key).or_insert((0, 0, amount, amount));
                *count += 1;
                *sum += i128::from(amount);
                *min = amount.min(*min);
                *max = amount.max(*max);
            }
            let partials = Gmv.map(&batch).unwrap();
            let came: BTreeMap<_, _> = partials
                .into_iter()
                .map(|(key, partial)| (key, (partial.count, partial.sum, partial.min, partial.max)))
                .collect();
            prop_assert_eq!(came, expected);
        }
    }

    #[test]
    fn gmv_sums_what_no_64_bits_could_hold() {
        let batch = Batch {
            keys: vec!["a".into()],
            key: vec![0; 3],
            amount: vec![i64::MAX; 3],
        };
        let partials = Gmv.map(&batch).unwrap();
        assert_eq!(partials[0].1.sum, 3 * i128::from(i64::MAX));
    }
}

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

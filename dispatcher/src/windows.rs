//! Windows by latency, each counted once however many shards it comes from. Pure.
//!
//! A window is as late as its last shard. When that ends is not known while others have none of its rows, so
//! a window is counted with the first shard that commits it, and moved to a higher class when a slower one
//! does. Counts of what is above any bound only grow.

use std::collections::BTreeMap;

use crate::workload::Latencies;

/// Windows that are remembered: shards that are further apart than this many count theirs anew.
const RECENT: usize = 4_096;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Windows {
    committed: Latencies,
    /// The latency of each by its end, ms UTC.
    recent: BTreeMap<i64, u64>,
}

impl Windows {
    /// A shard has committed its rows of the window that ends at `end`, so many ms after its watermark
    /// passed that.
    pub fn committed(&mut self, end: i64, ms: u64) {
        match self.recent.get_mut(&end) {
            Some(known) if *known < ms => {
                self.committed.moved(*known, ms);
                *known = ms;
            }
            Some(_) => {}
            None => {
                self.committed.add(ms);
                self.recent.insert(end, ms);
                if self.recent.len() > RECENT {
                    self.recent.pop_first();
                }
            }
        }
    }

    /// The committed windows and those that no shard has committed yet, if `pending` are by their ends the
    /// ms since the watermark of the slowest shard that has not committed its rows.
    pub fn by_latency(&self, pending: &BTreeMap<i64, u64>) -> (Latencies, Latencies) {
        let (mut committed, mut fresh) = (self.committed.clone(), Latencies::default());
        for (end, &ms) in pending {
            match self.recent.get(end) {
                Some(&known) => committed.moved(known, known.max(ms)),
                None => fresh.add(ms),
            }
        }
        (committed, fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(windows: &Windows, pending: &[(i64, u64)]) -> [f64; 4] {
        let (committed, pending) = windows.by_latency(&pending.iter().copied().collect());
        let above = |goal: f64| [committed.above(goal), pending.above(goal)];
        let ([all, waiting], [late, waiting_late]) = (above(0.0), above(1_000.0));
        [all, late, waiting, waiting_late].map(f64::round)
    }

    #[test]
    fn a_window_of_four_shards_is_one_and_as_late_as_its_last() {
        let mut windows = Windows::default();
        for (shard_ms, late) in [(300, 0.0), (1_500, 1.0), (200, 1.0), (2_500, 1.0)] {
            windows.committed(1_000, shard_ms);
            assert_eq!(counts(&windows, &[]), [1.0, late, 0.0, 0.0]);
        }
        windows.committed(2_000, 10);
        assert_eq!(counts(&windows, &[]), [2.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn a_window_that_a_slow_shard_still_has_is_late_once() {
        let mut windows = Windows::default();
        assert_eq!(counts(&windows, &[(1_000, 1_200)]), [0.0, 0.0, 1.0, 1.0]);
        windows.committed(1_000, 1_200);
        assert_eq!(counts(&windows, &[(1_000, 1_900)]), [1.0, 1.0, 0.0, 0.0]);
        windows.committed(2_000, 100);
        assert_eq!(counts(&windows, &[(2_000, 400)]), [2.0, 1.0, 0.0, 0.0]);
        assert_eq!(counts(&windows, &[(2_000, 1_400)]), [2.0, 2.0, 0.0, 0.0]);
        windows.committed(2_000, 1_500);
        assert_eq!(counts(&windows, &[]), [2.0, 2.0, 0.0, 0.0]);
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let mut windows = Windows::default();
        for window in 0..2 * RECENT as i64 {
            windows.committed(window, 5);
        }
        assert_eq!(windows.recent.len(), RECENT);
        assert_eq!(counts(&windows, &[])[0], 2.0 * RECENT as f64);
    }
}

//! How much work comes in and how late its results are: what the scaler reads beside the workers'
//! doings. Pure.
//!
//! Arrivals are told by the queues and not by what workers are given: a dispatcher whose workers are
//! too slow takes less in, and the demand that it does not take in is what more workers are for.

use serde::{Deserialize, Serialize};

/// Bounds of the classes of window latency, ms. A latency goal that is one of them is exact.
pub const BOUNDS_MS: [u64; 32] = [
    10, 20, 30, 50, 75, 100, 150, 200, 250, 300, 400, 500, 600, 700, 800, 900, 1_000, 1_250, 1_500,
    1_750, 2_000, 2_500, 3_000, 4_000, 5_000, 7_500, 10_000, 15_000, 20_000, 30_000, 45_000,
    60_000,
];

/// Windows by latency: class `i` holds those above the bound before `i` and up to bound `i`, the
/// last one those above every bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Latencies(Vec<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self(vec![0; BOUNDS_MS.len() + 1])
    }
}

impl Latencies {
    /// Counts a window.
    pub fn add(&mut self, ms: u64) {
        if let Some(count) = self.class(ms) {
            *count += 1;
        }
    }

    /// A window that was counted with `from` ms took `to` ms.
    pub fn moved(&mut self, from: u64, to: u64) {
        if let Some(count) = self.class(from) {
            *count = count.saturating_sub(1);
        }
        self.add(to);
    }

    fn class(&mut self, ms: u64) -> Option<&mut u64> {
        let class = BOUNDS_MS.partition_point(|&bound| bound < ms);
        self.0.get_mut(class)
    }

    /// Windows that took longer than `goal_ms`; within a class they count as evenly spread.
    pub fn above(&self, goal_ms: f64) -> f64 {
        let mut from = 0.0;
        let mut above = 0.0;
        for (class, &count) in self.0.iter().enumerate() {
            let to = BOUNDS_MS.get(class).map_or(f64::INFINITY, |&to| to as f64);
            let share = if from >= goal_ms {
                1.0
            } else if to <= goal_ms {
                0.0
            } else if to.is_finite() {
                (to - goal_ms) / (to - from)
            } else {
                1.0
            };
            above += share * count as f64;
            from = to;
        }
        above
    }
}

/// What one shard's queue says at a moment, counted since the shard was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// Deliveries taken in.
    pub deliveries: u64,
    /// Tuples that were in them.
    pub rows: u64,
    /// Messages that wait in the queue.
    pub ready: u64,
}

/// Messages over which the number of tuples in one is averaged.
const AVERAGED: f64 = 16.0;

/// Counts what is published to one shard, as far as its queue tells.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arrivals {
    /// Most messages that had been published at any look since the shard was opened.
    highest: Option<u64>,
    last: Level,
    /// Tuples in a message lately; `None` before the first.
    in_message: Option<f64>,
    tuples: f64,
}

impl Arrivals {
    /// The shard was opened anew: what waits in the queue by then has not just arrived.
    pub fn reopened(&mut self) {
        self.highest = None;
        self.last = Level::default();
    }

    /// Looks at the queue.
    ///
    /// A message on its way from the broker is neither ready nor taken for a moment; hence the
    /// highest so far, which makes this a counter.
    pub fn look(&mut self, level: &Level) {
        let taken = level.deliveries.saturating_sub(self.last.deliveries) as f64;
        if taken > 0.0 {
            let mean = level.rows.saturating_sub(self.last.rows) as f64 / taken;
            let before = self.in_message.unwrap_or(mean);
            self.in_message = Some(before + (taken / AVERAGED).min(1.0) * (mean - before));
        }
        let published = level.deliveries + level.ready;
        let fresh = self
            .highest
            .map_or(0, |highest| published.saturating_sub(highest));
        self.tuples += fresh as f64 * self.in_message();
        self.highest = Some(self.highest.unwrap_or_default().max(published));
        self.last = *level;
    }

    /// Tuples published since the start.
    pub fn tuples(&self) -> f64 {
        self.tuples
    }

    /// Tuples that wait in the queue, if its messages are like those before.
    pub fn waiting(&self) -> f64 {
        self.last.ready as f64 * self.in_message()
    }

    fn in_message(&self) -> f64 {
        self.in_message.unwrap_or(1.0)
    }
}

/// What the scaler reads, as `/v1/status` serves it. What ends in `_total` only grows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Workload {
    /// Tuples published to the shards owned here.
    pub arrived_tuples_total: f64,
    /// Tuples that wait for a worker: in the queues, and in batches that nobody has taken.
    pub waiting_tuples: f64,
    /// Workers that take batches.
    pub workers_ready: u32,
    /// Time that warm workers have been busy, ms.
    pub busy_ms_total: u64,
    /// Time that warm workers have been ready, busy or not, ms.
    pub ready_ms_total: u64,
    /// Time that Jobs have been busy, ms.
    pub job_ms_total: u64,
    /// Tuples of the batches that warm workers have answered.
    pub answered_tuples_total: u64,
    /// Time that these batches took, ms.
    pub answered_ms_total: u64,
    /// How many these were.
    pub answered_batches_total: u64,
    /// Windows whose rows are committed, by the time from the watermark's passing their end; each once, with
    /// the slowest shard's.
    pub committed_windows: Latencies,
    /// Windows whose end the watermark has passed and whose rows no shard has committed, by the time
    /// since.
    pub pending_windows: Latencies,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_above_a_bound_are_counted_exactly() {
        let mut latencies = Latencies::default();
        for ms in [5, 999, 1_000, 1_001, 70_000] {
            latencies.add(ms);
        }
        let counts = [0.0, 1_000.0, 60_000.0].map(|goal| latencies.above(goal).round());
        assert_eq!(counts, [5.0, 2.0, 1.0]);
        // 1,001 is in the class up to 1,250, which lies half above 1,125.
        assert!((latencies.above(1_125.0) - 1.5).abs() < 1e-12);
    }

    #[test]
    fn what_waits_when_a_shard_is_opened_has_not_just_arrived() {
        let mut arrivals = Arrivals::default();
        let level = |deliveries, rows, ready| Level {
            deliveries,
            rows,
            ready,
        };
        arrivals.look(&level(0, 0, 1_000_000));
        arrivals.look(&level(1_000, 5_000, 999_000));
        assert!(arrivals.tuples().abs() < 1e-12);
        // Ten more, five tuples each; and then some are on their way and seen by nobody.
        arrivals.look(&level(2_000, 10_000, 998_010));
        arrivals.look(&level(2_000, 10_000, 990_000));
        arrivals.look(&level(10_010, 50_050, 990_000));
        assert!((arrivals.tuples() - 50.0).abs() < 1e-9, "{arrivals:?}");
        assert!((arrivals.waiting() - 4_950_000.0).abs() < 1e-3);
        arrivals.reopened();
        arrivals.look(&level(0, 0, 1_000_000));
        arrivals.look(&level(0, 0, 1_000_003));
        assert!((arrivals.tuples() - 65.0).abs() < 1e-9, "{arrivals:?}");
    }

    #[test]
    fn messages_that_grow_tenfold_are_counted_as_such_at_once() {
        let mut arrivals = Arrivals::default();
        let mut level = Level::default();
        for look in 0..400 {
            // Two messages a look: of 40 tuples, later of 400.
            level.deliveries += 2;
            level.rows += if look < 200 { 80 } else { 800 };
            arrivals.look(&level);
        }
        let counted = arrivals.tuples() / level.rows as f64;
        assert!((0.96..1.01).contains(&counted), "{counted}");
    }
}

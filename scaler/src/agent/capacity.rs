//! What one pod can do, measured; and how unsteady the rate is.

use super::history::{Every, History, View};

/// Seconds over which batches are averaged.
const WINDOW: usize = 60;
/// Share of the goal that is planned with: a batch may take 15% longer than the mean.
const RESERVE: f64 = 1.15;

/// What is assumed of a batch until one has been seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Assumed {
    /// Tuples of a batch.
    pub tuples: f64,
    /// Seconds that it takes.
    pub seconds: f64,
}

impl Default for Assumed {
    fn default() -> Self {
        Self {
            tuples: 500.0,
            seconds: 0.35,
        }
    }
}

/// What a pod can do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Capacity {
    /// Tuples a second that a pod can do and still meet the goal, or at all if it cannot meet it.
    pub tuples: f64,
    /// Whole batches that a pod does within the goal. If none, batches are too big: they should take
    /// at most a third of it.
    pub batches: f64,
}

/// Tuples that a pod does in a busy second.
pub fn throughput(history: &History, assumed: Assumed) -> f64 {
    let tuples = history.sum(WINDOW, |s| s.started_tuples);
    let seconds = history.sum(WINDOW, |s| s.started_seconds);
    if seconds < 1e-9 {
        return assumed.tuples / assumed.seconds;
    }
    tuples / seconds
}

/// Capacity aware of the latency goal: how many whole batches a pod finishes within `goal` seconds.
pub fn within_goal(history: &History, assumed: Assumed, goal: f64) -> Capacity {
    let tuples = history.sum(WINDOW, |s| s.started_tuples);
    let seconds = history.sum(WINDOW, |s| s.started_seconds);
    let batches = history.sum(WINDOW, |s| s.started_batches);
    if batches < 1.0 {
        return Capacity {
            tuples: 0.7 * assumed.tuples / assumed.seconds,
            batches: (goal / (RESERVE * assumed.seconds)).floor(),
        };
    }
    let each = (goal / (RESERVE * (seconds / batches))).floor();
    if each < 1.0 {
        return Capacity {
            tuples: tuples / seconds,
            batches: 0.0,
        };
    }
    // A goal of other than a second changes how much a pod does in the goal, not in a second.
    Capacity {
        tuples: each * tuples / batches / goal,
        batches: each,
    }
}

/// Exponentially weighted mean of how much the rate changes in five seconds: |Δ ln rate|, at most 1.
#[derive(Clone, Copy, Debug)]
pub struct Volatility {
    value: f64,
    every: Every,
}

/// Seconds between two looks, and the length of each.
const STRIDE: usize = 5;
/// Weight of a look.
const WEIGHT: f64 = 0.05;
/// Tuples a second added to both rates, so that a handful of tuples is not a storm.
pub const SMOOTHING: f64 = 50.0;

impl Default for Volatility {
    fn default() -> Self {
        Self {
            value: 0.05,
            every: Every::new(STRIDE as f64),
        }
    }
}

impl Volatility {
    /// A value kept from an earlier run; out of range is brought into it.
    pub fn restored(value: f64) -> Self {
        Self {
            value: if value.is_finite() {
                value.clamp(0.0, 1.0)
            } else {
                Self::default().value
            },
            ..Self::default()
        }
    }

    /// Looks at the rate if that is due.
    pub fn update(&mut self, view: &View<'_>) -> f64 {
        if view.history.seconds() >= 2 * STRIDE as u64 && self.every.due(view.now) {
            let new = view.history.mean(STRIDE, |s| s.arrived);
            let old = view.history.mean_before(STRIDE, STRIDE, |s| s.arrived);
            let change = ((new + SMOOTHING) / (old + SMOOTHING)).ln().abs();
            self.value += WEIGHT * (change.min(1.0) - self.value);
        }
        self.value
    }

    /// The value as of the last look.
    pub fn value(&self) -> f64 {
        self.value
    }
}

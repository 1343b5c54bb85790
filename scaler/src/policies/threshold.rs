//! A few pods more above one utilization, a few less below another.

use crate::agent::history::{Every, View};

/// A threshold policy.
#[derive(Clone, Debug)]
pub struct Threshold {
    every: Every,
    window: usize,
    high: f64,
    low: f64,
    step: u32,
}

/// Seconds of waiting work a pod that are as good as being over the threshold.
const BACKLOG: f64 = 0.5;

impl Threshold {
    /// Every 5 s: `step` more above 70%, `step` less below 35%.
    pub fn new(step: u32) -> Self {
        Self {
            every: Every::new(5.0),
            window: 5,
            high: 0.7,
            low: 0.35,
            step,
        }
    }

    /// The size it wants.
    pub fn desired(&mut self, view: &View<'_>) -> Option<u32> {
        let due = self.every.due(view.now);
        let last = view.history.last()?;
        if !due {
            return None;
        }
        let current = view.pool.size();
        let ready = view.history.sum(self.window, |s| s.ready).max(1e-9);
        let utilization = view.history.sum(self.window, |s| s.busy) / ready;
        if utilization > self.high || last.queued_seconds > BACKLOG * f64::from(current) {
            Some(current + self.step)
        } else if utilization < self.low {
            Some(current.saturating_sub(self.step))
        } else {
            None
        }
    }
}

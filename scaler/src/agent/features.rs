//! What is measured before a decision, whoever decides: the same figures explain an agent and a formula.

use serde::{Deserialize, Serialize};

use super::capacity::{Capacity, SMOOTHING};
use super::history::View;
use super::layout::Feature;

/// What was measured before a decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Features {
    /// Tuples a second, over the last two seconds.
    pub rate: f64,
    /// Tuples a second that a pod can do within the goal.
    pub capacity: f64,
    /// Pods that would just meet the goal, with the queue worked off in a second.
    pub demand: f64,
    /// Rate ÷ (capacity × pods).
    pub load: f64,
    /// ln(rate of 2 s ÷ rate of 30 s).
    pub trend: f64,
    /// Seconds of waiting work a pod.
    pub backlog: f64,
    /// Weighted mean of |Δ ln rate| in five seconds.
    pub volatility: f64,
    /// Busy ÷ ready pod-seconds of a decision's interval, at most 1.
    pub utilization: f64,
}

impl Features {
    /// Measures them; decisions are `interval` seconds apart.
    pub fn measure(view: &View<'_>, capacity: Capacity, interval: f64, volatility: f64) -> Self {
        let history = view.history;
        let pods = f64::from(view.pool.size().max(1));
        let (queued_tuples, queued_seconds) = history
            .last()
            .map_or((0.0, 0.0), |last| (last.queued_tuples, last.queued_seconds));
        let rate = history.mean(2, |s| s.arrived);
        let slow = history.mean(30, |s| s.arrived);
        let capacity = capacity.tuples;
        let seconds = interval as usize;
        let busy = history.sum(seconds, |s| s.busy);
        let ready = history.sum(seconds, |s| s.ready);
        Self {
            rate,
            capacity,
            demand: (rate + queued_tuples) / capacity,
            load: rate / (capacity * pods),
            trend: ((rate + SMOOTHING) / (slow + SMOOTHING)).ln(),
            backlog: queued_seconds / pods,
            volatility,
            utilization: (busy / ready.max(1e-9)).min(1.0),
        }
    }

    /// One of them.
    pub fn get(&self, which: Feature) -> f64 {
        match which {
            Feature::Load => self.load,
            Feature::Trend => self.trend,
            Feature::Backlog => self.backlog,
            Feature::Volatility => self.volatility,
            Feature::Utilization => self.utilization,
            Feature::Demand => self.demand,
        }
    }
}

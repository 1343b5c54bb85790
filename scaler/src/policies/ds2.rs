//! DS2 (Kalavri and others, OSDI 2018): rate ÷ measured capacity, with headroom for volatility.

use super::pods;
use super::stabilize::Recommendations;
use crate::agent::capacity::{Assumed, Volatility, throughput, within_goal};
use crate::agent::history::{Every, View};

/// What is counted as a pod's capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Tuples of a busy second.
    Throughput,
    /// Tuples of whole batches within the goal.
    WithinGoal,
}

/// Parameters of a DS2-like policy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parameters {
    /// Seconds between decisions.
    pub interval: f64,
    /// Share of the capacity that is planned with; above 1, more than it.
    pub utilization: f64,
    /// Seconds whose highest recommendation holds against shrinking.
    pub stabilization: f64,
    /// Seconds of the rate's mean.
    pub rate_window: usize,
    /// Seconds in which a backlog should be gone.
    pub catch_up: f64,
    /// Extra headroom a unit of volatility.
    pub volatility_gain: f64,
    /// What is counted as capacity.
    pub measure: Measure,
    /// Latency goal, seconds; for [`Measure::WithinGoal`].
    pub goal: f64,
}

impl Parameters {
    /// As published: every 5 s, 60% utilization.
    pub const PLAIN: Self = Self {
        interval: 5.0,
        utilization: 0.6,
        stabilization: 0.0,
        rate_window: 2,
        catch_up: 2.0,
        volatility_gain: 0.0,
        measure: Measure::Throughput,
        goal: 1.0,
    };
    /// Every second, tuned for the benchmark.
    pub const TUNED: Self = Self {
        interval: 1.0,
        utilization: 0.67,
        stabilization: 5.0,
        catch_up: 1.0,
        ..Self::PLAIN
    };
    /// With headroom for volatility, tuned for the benchmark.
    pub const VOLATILITY: Self = Self {
        utilization: 0.7,
        volatility_gain: 1.0,
        ..Self::TUNED
    };
    /// On capacity within the goal: the agent's fallback.
    pub const WITHIN_GOAL: Self = Self {
        utilization: 1.05,
        volatility_gain: 2.0,
        measure: Measure::WithinGoal,
        ..Self::TUNED
    };
}

/// A DS2-like policy.
#[derive(Clone, Debug)]
pub struct Ds2 {
    parameters: Parameters,
    assumed: Assumed,
    every: Every,
    volatility: Volatility,
    recommendations: Recommendations,
}

impl Ds2 {
    /// A policy that has seen nothing.
    pub fn new(parameters: Parameters) -> Self {
        Self {
            parameters,
            assumed: Assumed::default(),
            every: Every::new(parameters.interval),
            volatility: Volatility::default(),
            recommendations: Recommendations::new(parameters.stabilization),
        }
    }

    /// Has another latency goal, seconds.
    pub fn aim(&mut self, goal: f64) {
        self.parameters.goal = goal;
    }

    /// The size it wants.
    pub fn desired(&mut self, view: &View<'_>) -> Option<u32> {
        let due = self.every.due(view.now);
        let last = view.history.last()?;
        if !due {
            return None;
        }
        let p = &self.parameters;
        let volatility = self.volatility.update(view);
        let rate = view.history.mean(p.rate_window, |s| s.arrived);
        let capacity = match p.measure {
            Measure::Throughput => throughput(view.history, self.assumed),
            Measure::WithinGoal => within_goal(view.history, self.assumed, p.goal).tuples,
        };
        let demand = (rate + last.queued_tuples / p.catch_up) / capacity;
        let headroom = 1.0 + p.volatility_gain * volatility;
        let wanted = pods((demand * headroom / p.utilization).ceil());
        let highest = self.recommendations.highest(view.now, wanted);
        let current = view.pool.size();
        Some(if wanted < current {
            current.min(highest)
        } else {
            wanted
        })
    }
}

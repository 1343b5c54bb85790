//! Kubernetes' horizontal pod autoscaler, on utilization or on a metric that KEDA feeds it.

use super::pods;
use super::stabilize::{Growth, Recommendations};
use crate::agent::history::{Every, View};

/// What it aims at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Signal {
    /// Utilization of ready pods.
    Utilization {
        /// The share to aim at.
        target: f64,
        /// Seconds that it is measured over.
        window: usize,
    },
    /// Tuples queued and in flight, a pod.
    Queue {
        /// Tuples a pod.
        target: f64,
    },
    /// Tuples a second, a pod.
    Rate {
        /// Tuples a second and pod.
        target: f64,
        /// Seconds that the rate is averaged over.
        window: usize,
    },
}

/// The autoscaler's state.
#[derive(Clone, Debug)]
pub struct Autoscaler {
    signal: Signal,
    every: Every,
    recommendations: Recommendations,
    growth: Growth,
}

/// Relative distance from the target within which nothing happens: Kubernetes' default.
const TOLERANCE: f64 = 0.1;

impl Autoscaler {
    /// An autoscaler that decides every `interval` seconds, shrinks to the highest recommendation of
    /// `stabilization` seconds, and may always grow by `growth` pods within 15 s.
    pub fn new(signal: Signal, interval: f64, stabilization: f64, growth: u32) -> Self {
        Self {
            signal,
            every: Every::new(interval),
            recommendations: Recommendations::new(stabilization),
            growth: Growth::new(growth),
        }
    }

    /// Has another target, in its signal's unit.
    pub fn aim(&mut self, target: f64) {
        match &mut self.signal {
            Signal::Utilization { target: now, .. }
            | Signal::Queue { target: now }
            | Signal::Rate { target: now, .. } => *now = target,
        }
    }

    /// The size it wants.
    pub fn desired(&mut self, view: &View<'_>) -> Option<u32> {
        if !self.every.due(view.now) {
            return None;
        }
        let wanted = self.recommendation(view)?;
        let current = view.pool.size();
        let highest = self.recommendations.highest(view.now, wanted);
        let desired = match wanted {
            more if more > current => more.min(self.growth.limit(view.now, current)),
            less if less < current => highest.min(current),
            _ => current,
        };
        if desired > current {
            self.growth.grew(view.now, desired - current);
        }
        Some(desired)
    }

    fn recommendation(&self, view: &View<'_>) -> Option<u32> {
        let last = view.history.last()?;
        let current = view.pool.size();
        let average = |metric: f64, target: f64| {
            let usage = metric / (target * f64::from(current.max(1)));
            if (usage - 1.0).abs() <= TOLERANCE {
                current
            } else {
                pods((metric / target).ceil())
            }
        };
        Some(match self.signal {
            Signal::Queue { target } => average(last.queued_tuples + last.arrived, target),
            Signal::Rate { target, window } => {
                average(view.history.mean(window, |s| s.arrived), target)
            }
            Signal::Utilization { target, window } => by_utilization(view, target, window),
        })
    }
}

/// Pods that are not ready count as idle when the pool would grow, as in Kubernetes.
fn by_utilization(view: &View<'_>, target: f64, window: usize) -> u32 {
    let current = view.pool.size();
    let ready_seconds = view.history.sum(window, |s| s.ready).max(1e-9);
    let utilization = view.history.sum(window, |s| s.busy) / ready_seconds;
    let ratio = utilization / target;
    if (ratio - 1.0).abs() <= TOLERANCE {
        return current;
    }
    let ready = f64::from(view.pool.ready);
    if ratio > 1.0 && view.pool.starting > 0 {
        let damped = utilization * ready / f64::from(current.max(1)) / target;
        if damped <= 1.0 + TOLERANCE {
            return current;
        }
        return pods((damped * f64::from(current)).ceil());
    }
    pods((ratio * ready).ceil())
}

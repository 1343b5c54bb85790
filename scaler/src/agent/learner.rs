//! Sarsa(λ) with replacing traces (Rummery & Niranjan 1994; Singh & Sutton 1996).
//!
//! δ = r + β·Q(s′, a′) − Q(s, a), and Q(s, a) += α·δ·e(s, a) for the pairs of the recent past. The
//! published description writes Q(s) for Q(s, a); on-policy means the action really taken next.

use super::table::{Pair, Table};

/// Pairs remembered; older traces have decayed below the cutoff.
const TRACES: usize = 24;
/// Traces below this are as good as nothing.
const CUTOFF: f64 = 0.01;

/// How fast it learns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// β, the discount an interval.
    pub discount: f64,
    /// λ, the decay of traces beside the discount; 0 updates one pair only.
    pub trace: f64,
    /// α on the first visit of a pair.
    pub first: f64,
    /// Below this α never falls, so that a change of the world is still learned.
    pub least: f64,
    /// Visits after which α is half the first.
    pub half: f64,
}

impl Rates {
    /// α of a pair that has been visited so often.
    pub fn alpha(&self, visits: u64) -> f64 {
        let after_first = visits.saturating_sub(1) as f64;
        (self.first / (1.0 + after_first / self.half)).max(self.least)
    }
}

/// A reward, its two parts apart so that the price of lateness may change later.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Reward {
    /// For pod-seconds.
    pub cost: f64,
    /// For late windows, at a price of 1.
    pub late: f64,
}

#[derive(Clone, Copy, Debug)]
struct Trace {
    pair: Pair,
    eligibility: f64,
}

/// A table that learns.
#[derive(Clone, Debug)]
pub struct Learner {
    /// What has been learned so far.
    pub table: Table,
    /// How fast it learns.
    pub rates: Rates,
    traces: Vec<Trace>,
}

impl Learner {
    /// Goes on from a table.
    pub fn new(table: Table, rates: Rates) -> Self {
        Self {
            table,
            rates,
            traces: Vec::with_capacity(TRACES),
        }
    }

    /// Forgets how it came here: after a gap the past is not to be blamed for what follows.
    pub fn forget_path(&mut self) {
        self.traces.clear();
    }

    /// Learns that `before` was followed by `reward` and then by `after`.
    ///
    /// A reward that is not finite teaches nothing.
    pub fn learn(&mut self, before: Pair, reward: Reward, after: Pair) {
        if !(reward.cost.is_finite() && reward.late.is_finite()) {
            return;
        }
        let (old, next) = (*self.table.cell(before), *self.table.cell(after));
        let cost_error = reward.cost + self.rates.discount * next.cost - old.cost;
        let late_error = reward.late + self.rates.discount * next.late - old.late;
        let decay = self.rates.discount * self.rates.trace;
        self.traces.retain_mut(|trace| {
            trace.eligibility *= decay;
            trace.pair.state != before.state && trace.eligibility > CUTOFF
        });
        if self.traces.len() == TRACES {
            self.traces.remove(0);
        }
        self.traces.push(Trace {
            pair: before,
            eligibility: 1.0,
        });
        self.table.cell_mut(before).visits += 1;
        for trace in &self.traces {
            let cell = self.table.cell_mut(trace.pair);
            let step = self.rates.alpha(cell.visits);
            cell.cost += step * cost_error * trace.eligibility;
            cell.late += step * late_error * trace.eligibility;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::layout::{Action, Axis, Feature, Layout};

    fn learner(trace: f64) -> Learner {
        let layout = Layout {
            axes: vec![Axis {
                feature: Feature::Load,
                edges: vec![1.0],
            }],
            actions: vec![Action::Hold, Action::Step(1)],
        };
        let rates = Rates {
            discount: 0.5,
            trace,
            first: 0.5,
            least: 0.1,
            half: 1.0,
        };
        Learner::new(Table::new(layout, |_, _| 0.0), rates)
    }

    const A: Pair = Pair {
        state: 0,
        action: 0,
    };
    const B: Pair = Pair {
        state: 1,
        action: 1,
    };

    fn reward(cost: f64) -> Reward {
        Reward { cost, late: 0.0 }
    }

    #[test]
    fn a_reward_moves_the_pair_by_alpha_times_the_error() {
        let mut learner = learner(0.0);
        learner.learn(A, reward(8.0), B);
        assert!((learner.table.cell(A).cost - 4.0).abs() < 1e-12);
        // α is now 0.25: 0.25 · (8 − 4).
        learner.learn(A, reward(8.0), B);
        assert!((learner.table.cell(A).cost - 5.0).abs() < 1e-12);
    }

    #[test]
    fn traces_let_a_reward_reach_the_pair_before() {
        let mut learner = learner(0.5);
        learner.learn(A, reward(0.0), B);
        learner.learn(B, reward(8.0), A);
        // α 0.5 · error 8 · (0.5 · 0.5).
        assert!((learner.table.cell(A).cost - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_forgotten_path_gets_no_credit() {
        let mut learner = learner(0.5);
        learner.learn(A, reward(0.0), B);
        learner.forget_path();
        learner.learn(B, reward(8.0), A);
        assert!(learner.table.cell(A).cost.abs() < 1e-12);
    }

    #[test]
    fn a_reward_that_is_no_number_teaches_nothing() {
        let mut learner = learner(0.5);
        learner.learn(A, reward(f64::NAN), B);
        assert_eq!(*learner.table.cell(A), Default::default());
    }
}

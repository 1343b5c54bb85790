//! J = (pod-seconds + κ · late windows) ÷ the oracle's pod-seconds, and what it is made of.

use std::ops::Range;

use serde::Serialize;

use super::player::Player;
use crate::simulator::{Metrics, Oracle, Pattern, Setting, Trace, run_oracle};

/// Price of a late window in the published score, pod-seconds.
pub const KAPPA: f64 = 60.0;

/// A trace, what it needs and what the oracle pays for it.
#[derive(Debug)]
struct Case {
    pattern: Pattern,
    trace: Trace,
    oracle: Oracle,
    oracle_cost: f64,
}

/// Traces to score policies on, made once for all of them.
#[derive(Debug)]
pub struct Cases(Vec<Case>);

/// Figures of one policy on one trace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// The pattern.
    pub pattern: Pattern,
    /// The seed.
    pub seed: u64,
    /// (pod-seconds + κ · late windows) ÷ the oracle's pod-seconds.
    pub j: f64,
    /// Pod-seconds ÷ the oracle's.
    pub cost: f64,
    /// What the run was like.
    pub metrics: Metrics,
}

/// Means of one policy over its scores.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// Its name.
    pub policy: String,
    /// Mean J.
    pub j: f64,
    /// Standard error of J between seeds, patterns averaged first.
    pub j_error: f64,
    /// Mean pod-seconds ÷ the oracle's.
    pub cost: f64,
    /// Mean percentage of late windows.
    pub late_percent: f64,
    /// Mean 99th percentile of window latency, seconds.
    pub p99: f64,
    /// Mean number of resizes an hour.
    pub actions: f64,
}

impl Cases {
    /// Every pattern under every seed, `seeds.end` excluded.
    pub fn new(patterns: &[Pattern], seeds: Range<u64>, setting: Setting) -> Self {
        let pairs = patterns
            .iter()
            .flat_map(|&pattern| seeds.clone().map(move |seed| (pattern, seed)));
        let case = |(pattern, seed)| {
            let trace = Trace::new(pattern, seed, setting);
            let oracle = Oracle::new(&trace);
            let oracle_cost = run_oracle(&trace, &oracle).cost;
            Case {
                pattern,
                trace,
                oracle,
                oracle_cost,
            }
        };
        Self(pairs.map(case).collect())
    }

    /// Scores a policy, each trace with a fresh copy of it.
    pub fn score(&self, player: &Player) -> Vec<Score> {
        let score = |case: &Case| {
            let metrics = player.clone().play(&case.trace, &case.oracle);
            let price = metrics.cost + KAPPA * f64::from(metrics.late);
            Score {
                pattern: case.pattern,
                seed: case.trace.seed,
                j: price / case.oracle_cost,
                cost: metrics.cost / case.oracle_cost,
                metrics,
            }
        };
        self.0.iter().map(score).collect()
    }
}

impl Line {
    /// Means of `scores`, which may come from several agents of the same kind.
    pub fn of(policy: &str, scores: &[Score]) -> Self {
        let mean = |of: &dyn Fn(&Score) -> f64| {
            scores.iter().map(of).sum::<f64>() / scores.len().max(1) as f64
        };
        Self {
            policy: policy.into(),
            j: mean(&|s| s.j),
            j_error: standard_error(scores),
            cost: mean(&|s| s.cost),
            late_percent: mean(&|s| s.metrics.late_percent),
            p99: mean(&|s| s.metrics.p99),
            actions: mean(&|s| f64::from(s.metrics.actions)),
        }
    }
}

/// Seeds are independent of each other; patterns of one seed are not a sample of anything.
fn standard_error(scores: &[Score]) -> f64 {
    let mut seeds: Vec<u64> = scores.iter().map(|s| s.seed).collect();
    seeds.sort_unstable();
    seeds.dedup();
    let means: Vec<f64> = seeds
        .iter()
        .map(|seed| {
            let of_seed = scores.iter().filter(|s| s.seed == *seed);
            let (sum, count) = of_seed.fold((0.0, 0.0), |(sum, n), s| (sum + s.j, n + 1.0));
            sum / count
        })
        .collect();
    let count = means.len() as f64;
    if count < 2.0 {
        return 0.0;
    }
    let mean = means.iter().sum::<f64>() / count;
    let variance = means.iter().map(|m| (m - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (variance / count).sqrt()
}

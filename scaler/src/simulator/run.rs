//! Runs a policy through a trace.

use super::{Metrics, Oracle, Trace, World};
use crate::agent::history::{History, View};

/// Seconds between the oracle's decisions.
const ORACLE_INTERVAL: usize = 5;

/// Asks `decide` every second for the size it wants, `None` to leave the pool as it is.
///
/// The run begins with `first` ready pods.
pub fn run(trace: &Trace, first: u32, mut decide: impl FnMut(&View<'_>) -> Option<u32>) -> Metrics {
    let mut world = World::new(trace, first);
    let mut history = History::default();
    while world.second() < trace.len() {
        let view = View {
            now: world.second() as f64,
            history: &history,
            pool: world.pool(),
        };
        if let Some(size) = decide(&view) {
            world.resize(size);
        }
        if let Some(sample) = world.step() {
            history.push(sample);
        }
    }
    world.metrics()
}

/// Runs the policy that knows the future.
pub fn run_oracle(trace: &Trace, oracle: &Oracle) -> Metrics {
    run(trace, oracle.first(), |view| {
        let second = view.now as usize;
        let due = second.is_multiple_of(ORACLE_INTERVAL);
        due.then(|| oracle.desired(second, ORACLE_INTERVAL))
    })
}

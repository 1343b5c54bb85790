//! The policy that knows the future: the yardstick of every score.

use super::trace::Trace;

/// Seconds ahead that the oracle provides for, beside its interval: a pod may take 5 s to start.
const LEAD: usize = 6;
/// Seconds at the beginning that a run's first pods must be enough for.
const FIRST: usize = 10;

/// The fewest pods that finish each window's batches within the goal if all start idle.
#[derive(Clone, Debug)]
pub struct Oracle {
    need: Vec<u32>,
}

impl Oracle {
    /// Works the needs of every window out.
    pub fn new(trace: &Trace) -> Self {
        Self::of_first(trace, trace.len())
    }

    /// Pods to start a run of `trace` with; cheaper than an oracle of the whole.
    pub fn first_of(trace: &Trace) -> u32 {
        Self::of_first(trace, FIRST.min(trace.len())).first()
    }

    fn of_first(trace: &Trace, windows: usize) -> Self {
        let mut free = Vec::new();
        let need = (0..windows).map(|second| {
            let service = trace.window(second).service;
            let setting = &trace.setting;
            let total: f64 = service.iter().sum();
            let mut pods = setting.min.max((total / setting.goal).ceil() as u32);
            while pods < setting.max && makespan(service, pods, &mut free) > setting.goal {
                pods += 1;
            }
            pods
        });
        Self {
            need: need.collect(),
        }
    }

    /// The pods that each window needs.
    pub fn need(&self) -> &[u32] {
        &self.need
    }

    /// Pods to have from `second` until the next decision, `interval` seconds later.
    pub fn desired(&self, second: usize, interval: usize) -> u32 {
        let end = (second + interval + LEAD).min(self.need.len());
        self.need[second..end].iter().copied().max().unwrap_or(0)
    }

    /// Pods to start a run with, so that no policy is judged by how it is woken.
    pub fn first(&self) -> u32 {
        self.need
            .iter()
            .take(FIRST)
            .copied()
            .max()
            .unwrap_or(0)
            .max(2)
    }

    /// The number of pods that is enough for this share of all windows, linearly interpolated.
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted: Vec<f64> = self.need.iter().map(|&pods| f64::from(pods)).collect();
        super::metrics::quantile(&mut sorted, share)
    }
}

/// When the last batch ends if each goes to the pod that is free first, in order.
fn makespan(service: &[f64], pods: u32, free: &mut Vec<f64>) -> f64 {
    free.clear();
    free.resize(pods as usize, 0.0);
    let mut last = 0.0_f64;
    for seconds in service {
        let mut pod = 0;
        for at in 1..free.len() {
            if free[at] < free[pod] {
                pod = at;
            }
        }
        free[pod] += seconds;
        last = last.max(free[pod]);
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::trace::Setting;

    #[test]
    fn an_empty_window_needs_the_smallest_pool() {
        let setting = Setting::default();
        let oracle = Oracle::new(&Trace::of(vec![0, 5_000], 1, setting));
        assert_eq!(oracle.need()[0], setting.min);
        // Ten batches of 0.35 s: two of them fit a second.
        assert_eq!(oracle.need()[1], 5);
    }
}

//! What a run cost and how late it was.

use serde::Serialize;

/// Figures of one run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub struct Metrics {
    /// Windows whose last batch ended after the goal.
    pub late: u32,
    /// The same in percent of all windows.
    pub late_percent: f64,
    /// 99th percentile of the windows' latency, seconds.
    pub p99: f64,
    /// Median of the windows' latency, seconds.
    pub p50: f64,
    /// Pod-seconds, Jobs included.
    pub cost: f64,
    /// Pod-seconds of the pool alone.
    pub paid: f64,
    /// Changes of the pool's size.
    pub actions: u32,
    /// Pods started and stopped by them.
    pub churn: u32,
    /// Changes in the other direction than the change before.
    pub reversals: u32,
    /// Jobs started.
    pub jobs: u32,
}

/// The `share` quantile, linearly interpolated between the two nearest values; sorts `values`.
///
/// Zero if there are none.
pub fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let Some(last) = values.len().checked_sub(1) else {
        return 0.0;
    };
    let at = share * last as f64;
    let below = at.floor() as usize;
    let above = (below + 1).min(last);
    values[below] + (values[above] - values[below]) * (at - below as f64)
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn quantiles_interpolate() {
        let mut values = [4.0, 1.0, 3.0, 2.0];
        assert!((quantile(&mut values, 0.5) - 2.5).abs() < 1e-12);
        assert!((quantile(&mut values, 1.0) - 4.0).abs() < 1e-12);
        assert!(quantile(&mut [], 0.5).abs() < 1e-12);
    }
}

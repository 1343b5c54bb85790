//! How the rate of orders changes over a run.

use serde::{Deserialize, Serialize};

/// The shape of the rate over a run; its base is the workload's rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pattern {
    /// The base rate throughout.
    #[default]
    Steady,
    /// A day in one run: a smooth wave between 0.2 and 1.8 of the base, which is its mean.
    Diurnal,
    /// The base rate, and eight times it for the tenth of the run that follows its middle.
    Spike,
    /// The base rate in the first half of the run, twice it in the second.
    Step,
}

impl Pattern {
    /// The rate relative to the base at `elapsed`, the share of the run that has passed.
    ///
    /// Built from the four basic operations, which give the same bits on every platform.
    pub fn factor(self, elapsed: f64) -> f64 {
        match self {
            Self::Steady => 1.0,
            Self::Diurnal => 1.0 + 0.8 * wave(elapsed.fract()),
            Self::Spike if (0.5..0.6).contains(&elapsed) => 8.0,
            Self::Spike => 1.0,
            Self::Step if elapsed < 0.5 => 1.0,
            Self::Step => 2.0,
        }
    }
}

/// Two parabolas in the place of a sine of period 1: from 0 up to 1, through 0, down to -1.
fn wave(x: f64) -> f64 {
    if x < 0.5 {
        16.0 * x * (0.5 - x)
    } else {
        -16.0 * (x - 0.5) * (1.0 - x)
    }
}

/// When orders are due: one after another, at the pace of a pattern.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    pattern: Pattern,
    step_ns: f64,
    duration_ns: f64,
    issued: u64,
    next_ns: f64,
}

impl Schedule {
    /// Orders at `rate` a second shaped over `duration_ms`.
    pub(crate) fn new(pattern: Pattern, rate: f64, duration_ms: u64) -> Self {
        Self {
            pattern,
            step_ns: 1e9 / rate,
            duration_ns: duration_ms as f64 * 1e6,
            issued: 0,
            next_ns: 0.0,
        }
    }

    /// When the next order is due, nanoseconds after the start.
    pub(crate) fn next_due(&mut self) -> u64 {
        let due = self.next_ns;
        self.issued += 1;
        self.next_ns = match self.pattern {
            // A product where others add up: N a second for T seconds is exactly N × T orders.
            Pattern::Steady => self.issued as f64 * self.step_ns,
            other => due + self.step_ns / other.factor(due / self.duration_ns),
        };
        due.round() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Orders due in each tenth of a 10-second run at 1,000 a second.
    fn tenths(pattern: Pattern) -> Vec<u64> {
        let mut schedule = Schedule::new(pattern, 1_000.0, 10_000);
        let mut tenths = vec![0; 10];
        loop {
            let tenth = schedule.next_due() / 1_000_000_000;
            match tenths.get_mut(tenth as usize) {
                Some(count) => *count += 1,
                None => return tenths,
            }
        }
    }

    #[test]
    fn a_steady_pattern_issues_exactly_rate_times_time() {
        assert_eq!(tenths(Pattern::Steady), [1_000; 10]);
    }

    #[test]
    fn a_spike_is_eightfold_for_the_tenth_after_the_middle() {
        let tenths = tenths(Pattern::Spike);
        assert!((7_990..=8_010).contains(&tenths[5]), "{tenths:?}");
        for quiet in [0, 1, 2, 3, 4, 6, 7, 8, 9] {
            assert!((999..=1_001).contains(&tenths[quiet]), "{tenths:?}");
        }
    }

    #[test]
    fn a_step_doubles_the_rate_at_half_time() {
        let tenths = tenths(Pattern::Step);
        assert!(
            tenths[..5].iter().all(|n| (999..=1_001).contains(n)),
            "{tenths:?}"
        );
        assert!(
            tenths[5..].iter().all(|n| (1_999..=2_001).contains(n)),
            "{tenths:?}"
        );
    }

    #[test]
    fn a_diurnal_pattern_rises_then_falls_around_the_base_rate() {
        let tenths = tenths(Pattern::Diurnal);
        let total: u64 = tenths.iter().sum();
        assert!((9_900..=10_100).contains(&total), "{tenths:?}");
        assert!(tenths[2] > 1_700 && tenths[7] < 300, "{tenths:?}");
    }
}

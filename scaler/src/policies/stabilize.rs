//! How autoscalers keep from flapping: recommendations remembered, steps limited.

use std::collections::VecDeque;

/// The highest recommendation of a while: a pool shrinks no further than that.
#[derive(Clone, Debug)]
pub struct Recommendations {
    seconds: f64,
    kept: VecDeque<(f64, u32)>,
}

impl Recommendations {
    /// Remembers for `seconds`, the ends included.
    pub fn new(seconds: f64) -> Self {
        Self {
            seconds,
            kept: VecDeque::new(),
        }
    }

    /// Adds one and returns the highest of those not older than the window.
    pub fn highest(&mut self, now: f64, size: u32) -> u32 {
        self.kept.push_back((now, size));
        while let Some(&(at, _)) = self.kept.front() {
            if at >= now - self.seconds {
                break;
            }
            self.kept.pop_front();
        }
        self.peak()
    }

    /// The highest that is still remembered; 0 without any.
    pub fn peak(&self) -> u32 {
        self.kept.iter().map(|&(_, size)| size).max().unwrap_or(0)
    }
}

/// Kubernetes' default limit on growth: within 15 s, double, or a few pods if that is more.
#[derive(Clone, Debug)]
pub struct Growth {
    pods: u32,
    grown: VecDeque<(f64, u32)>,
}

/// Seconds of the growth limit's period.
const PERIOD: f64 = 15.0;

impl Growth {
    /// Allows `pods` in any case.
    pub fn new(pods: u32) -> Self {
        Self {
            pods,
            grown: VecDeque::new(),
        }
    }

    /// The largest size allowed now.
    pub fn limit(&self, now: f64, current: u32) -> u32 {
        let recent = self.grown.iter().filter(|&&(at, _)| at > now - PERIOD);
        let grown: u32 = recent.map(|&(_, pods)| pods).sum();
        // Below zero if the pool has shrunk since; then there is nothing to double.
        let before = i64::from(current) - i64::from(grown);
        let limit = (2 * before).max(before + i64::from(self.pods));
        u32::try_from(limit.max(i64::from(current))).unwrap_or(u32::MAX)
    }

    /// Remembers that the pool was asked to grow by so many.
    pub fn grew(&mut self, now: f64, pods: u32) {
        self.grown.retain(|&(at, _)| at > now - PERIOD);
        self.grown.push_back((now, pods));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_shrinks_to_the_highest_recommendation_of_the_window() {
        let mut kept = Recommendations::new(5.0);
        assert_eq!(kept.highest(0.0, 9), 9);
        assert_eq!(kept.highest(5.0, 3), 9);
        assert_eq!(kept.highest(6.0, 2), 3);
    }

    #[test]
    fn growth_is_limited_by_the_size_of_fifteen_seconds_ago() {
        let mut growth = Growth::new(4);
        assert_eq!(growth.limit(0.0, 2), 6);
        growth.grew(0.0, 4);
        assert_eq!(growth.limit(10.0, 6), 6);
        assert_eq!(growth.limit(15.0, 6), 12);
    }
}

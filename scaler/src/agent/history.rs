//! The last minutes of samples, and sums over them.

use std::collections::VecDeque;

use super::sample::{Pool, Sample};

/// Seconds that are kept: the longest average any policy takes is a minute.
const KEPT: usize = 64;

/// The newest samples, a second each.
#[derive(Clone, Debug, Default)]
pub struct History {
    samples: VecDeque<Sample>,
    total: u64,
}

impl History {
    /// Appends the second that has just ended.
    pub fn push(&mut self, sample: Sample) {
        if self.samples.len() == KEPT {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
        self.total += 1;
    }

    /// Forgets everything: what follows a gap is not the continuation of what went before.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Seconds seen since the start or the last [`History::clear`].
    pub fn seconds(&self) -> u64 {
        self.total
    }

    /// The newest second.
    pub fn last(&self) -> Option<&Sample> {
        self.samples.back()
    }

    /// The newest `seconds` samples, oldest first; fewer if there are no more.
    pub fn newest(&self, seconds: usize) -> impl Iterator<Item = &Sample> {
        self.before(0, seconds)
    }

    /// Sum over the newest `seconds`.
    pub fn sum(&self, seconds: usize, of: impl Fn(&Sample) -> f64) -> f64 {
        self.newest(seconds)
            .fold(0.0, |sum, sample| sum + of(sample))
    }

    /// Mean over the newest `seconds`, or over all if there are fewer; 0 without any.
    pub fn mean(&self, seconds: usize, of: impl Fn(&Sample) -> f64) -> f64 {
        self.mean_before(0, seconds, of)
    }

    /// Mean over the `seconds` that ended `ago` seconds before the newest sample did.
    pub fn mean_before(&self, ago: usize, seconds: usize, of: impl Fn(&Sample) -> f64) -> f64 {
        let (count, sum) = self
            .before(ago, seconds)
            .fold((0_u32, 0.0), |(count, sum), sample| {
                (count + 1, sum + of(sample))
            });
        sum / f64::from(count.max(1))
    }

    fn before(&self, ago: usize, seconds: usize) -> impl Iterator<Item = &Sample> {
        let end = self.samples.len().saturating_sub(ago);
        let start = end.saturating_sub(seconds);
        self.samples.range(start..end)
    }
}

/// What a policy decides by.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Seconds on a clock that never goes back.
    pub now: f64,
    /// The seconds that have ended.
    pub history: &'a History,
    /// The pool as it is.
    pub pool: Pool,
}

/// When something that happens every few seconds is next due.
#[derive(Clone, Copy, Debug)]
pub struct Every {
    seconds: f64,
    next: Option<f64>,
}

impl Every {
    /// Due at once, and then every `seconds`.
    pub fn new(seconds: f64) -> Self {
        Self {
            seconds,
            next: None,
        }
    }

    /// Whether it is due at `now`; if so, the next time is set.
    pub fn due(&mut self, now: f64) -> bool {
        // Half a tick of tolerance: a timer that fires a little early is not a second late.
        let due = self.next.is_none_or(|next| now >= next - 1e-3);
        if due {
            self.next = Some(now + self.seconds);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrived(tuples: f64) -> Sample {
        Sample {
            arrived: tuples,
            ..Sample::default()
        }
    }

    #[test]
    fn means_are_over_what_there_is() {
        let mut history = History::default();
        assert!(history.mean(5, |s| s.arrived).abs() < 1e-12);
        for tuples in [1.0, 2.0, 6.0] {
            history.push(arrived(tuples));
        }
        assert!((history.mean(2, |s| s.arrived) - 4.0).abs() < 1e-12);
        assert!((history.mean(60, |s| s.arrived) - 3.0).abs() < 1e-12);
        assert!((history.mean_before(1, 2, |s| s.arrived) - 1.5).abs() < 1e-12);
    }

    #[test]
    fn an_old_second_is_forgotten() {
        let mut history = History::default();
        for tuples in 0..1_000 {
            history.push(arrived(f64::from(tuples)));
        }
        assert_eq!(history.newest(usize::MAX).count(), KEPT);
        assert_eq!(history.seconds(), 1_000);
    }

    #[test]
    fn an_interval_is_due_at_its_start_and_then_when_it_has_passed() {
        let mut every = Every::new(5.0);
        let due: Vec<bool> = (0..11).map(|now| every.due(f64::from(now))).collect();
        let at: Vec<usize> = (0..11).filter(|&now| due[now]).collect();
        assert_eq!(at, [0, 5, 10]);
    }
}

//! Where orders come from: a workload, or files.

use windlass_functions::tuple::Dictionaries;

use crate::files::Recording;
use crate::workload::{Order, Workload};

/// Tells which tuples may be late, from the order in which they are sent.
///
/// A dispatcher may call a tuple late once the newest event time lies further ahead of it than
/// delay and allowed lateness together. Its watermark follows the slowest source, so the newest of
/// all sources bounds it from above: a tuple that passes this rule is never late, one that
/// does not may still be in time.
#[derive(Clone, Debug, Default)]
pub struct LateRule {
    newest: Option<i64>,
}

impl LateRule {
    /// The dispatcher's default delay (500 ms) and allowed lateness (5 s).
    pub const AFTER_MS: i64 = 5_500;

    /// Whether the tuple with event time `ts`, sent next, may be late.
    pub fn judge(&mut self, ts: i64) -> bool {
        let newest = *self.newest.get_or_insert(ts);
        self.newest = Some(newest.max(ts));
        ts < newest.saturating_sub(Self::AFTER_MS)
    }
}

/// A stream of orders.
#[derive(Debug)]
pub enum Feed {
    /// Generated.
    Workload(Box<Workload>),
    /// Read from files.
    Recording(Box<Recording>),
}

impl Feed {
    /// The names behind the numbers that orders carry; grows while files are read.
    pub fn dictionaries(&self) -> &Dictionaries {
        match self {
            Self::Workload(workload) => workload.dictionaries(),
            Self::Recording(recording) => recording.dictionaries(),
        }
    }

    /// How many orders there are in all, if that is known beforehand.
    pub fn expected(&self) -> Option<u64> {
        match self {
            Self::Workload(workload) => workload.expected(),
            Self::Recording(_) => None,
        }
    }
}

/// An error means that a file cannot be read on; nothing follows it.
impl Iterator for Feed {
    type Item = anyhow::Result<Order>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Workload(workload) => workload.next().map(Ok),
            Self::Recording(recording) => recording.next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tuple_may_be_late_once_a_newer_one_is_further_ahead_than_delay_and_lateness() {
        let mut rule = LateRule::default();
        assert!(!rule.judge(0));
        assert!(!rule.judge(10_000));
        assert!(!rule.judge(10_000 - LateRule::AFTER_MS));
        assert!(rule.judge(10_000 - LateRule::AFTER_MS - 1));
    }
}

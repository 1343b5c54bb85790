//! What a policy is told: one closed second of the dispatcher and its pool.

use serde::{Deserialize, Serialize};

/// One second, measured. Every field is a plain amount within that second unless it says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Sample {
    /// Tuples of the windows that closed.
    pub arrived: f64,
    /// Pod-seconds that warm workers were busy.
    pub busy: f64,
    /// Pod-seconds that warm workers were ready, busy or not.
    pub ready: f64,
    /// Tuples that wait for a worker at the second's end.
    pub queued_tuples: f64,
    /// Pod-seconds of work that wait at the second's end; measured batches × their mean duration
    /// where nobody knows better.
    pub queued_seconds: f64,
    /// Tuples of the batches that warm workers took.
    pub started_tuples: f64,
    /// Pod-seconds that these batches took or will take.
    pub started_seconds: f64,
    /// How many these were.
    pub started_batches: f64,
    /// Pod-seconds paid: starting, ready and draining pods, and Jobs.
    pub cost: f64,
    /// Windows whose deadline passed unmet.
    pub late: f64,
}

/// The warm pool at the moment of a decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Pool {
    /// Pods that have been asked for and are not ready.
    pub starting: u32,
    /// Pods that take batches.
    pub ready: u32,
    /// Pods beside these that a scale-in under way has not taken yet: it can be called back.
    pub recallable: u32,
}

impl Pool {
    /// Pods that will take batches if nobody intervenes: starting and ready, not draining.
    pub fn size(self) -> u32 {
        self.starting + self.ready
    }

    /// The size if the scale-in under way is called back.
    pub fn whole(self) -> u32 {
        self.size().saturating_add(self.recallable)
    }
}

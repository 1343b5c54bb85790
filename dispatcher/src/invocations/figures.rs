//! How much there is to do, and what has been done.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Invocations;
use crate::roster::Done;

/// Counts for the status page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Load {
    /// Parts that wait for a worker.
    pub waiting: usize,
    /// Attempts at workers.
    pub in_flight: usize,
    /// Workers with an attempt.
    pub busy: usize,
    /// Workers that wait for one.
    pub idle: usize,
    /// Workers that are given none, because the pool is about to shrink.
    pub parked: usize,
    /// Attempts handed out since the start.
    pub handed_out: u64,
    /// Answers that won since the start.
    pub answered: u64,
    /// Attempts that failed, were lost or timed out since the start.
    pub failed: u64,
}

impl Invocations {
    /// What workers have done, those included that are at it.
    pub fn done(&self, now_ms: u64) -> Done {
        let mut done = self.roster.done();
        let parts = self.chunks.values().flat_map(|chunk| chunk.parts.values());
        for live in parts.flat_map(|part| &part.live) {
            let so_far = now_ms.saturating_sub(live.since_ms);
            if live.job.is_some() {
                done.job_ms += so_far;
            } else {
                done.busy_ms += so_far;
            }
        }
        done
    }

    /// Whether something waits for a worker.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Tuples that wait for a worker.
    pub fn waiting_tuples(&self) -> u64 {
        let parts = self
            .ready
            .iter()
            .filter_map(|(id, part)| self.chunks.get(id)?.parts.get(part));
        parts.map(|part| part.rows.len() as u64).sum()
    }

    /// Counts for the status page.
    pub fn load(&self) -> Load {
        let live = self.chunks.values().flat_map(|chunk| chunk.parts.values());
        let busy: Vec<&Arc<str>> = live
            .flat_map(|part| &part.live)
            .map(|live| &live.worker.name)
            .collect();
        let names: BTreeSet<&Arc<str>> = busy.iter().copied().collect();
        Load {
            waiting: self.ready.len(),
            in_flight: busy.len(),
            busy: names.len(),
            idle: self
                .waiting
                .keys()
                .filter(|name| !names.contains(name) && !self.roster.is_parked(name))
                .count(),
            parked: self.roster.lot().parked as usize,
            ..self.load
        }
    }
}

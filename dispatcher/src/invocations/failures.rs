//! What follows when an attempt fails, is lost or takes too long.

use std::sync::Arc;

use super::{AttemptId, GONE, Halt, Invocations, Live, Part};
use crate::shard::Answer;

/// Who is gone.
#[derive(Clone, Debug)]
pub enum Gone {
    /// The worker of this name.
    Worker(Arc<str>),
    /// Whoever promised to keep this connection open until it has answered.
    Connection(u64),
}

impl Invocations {
    /// An attempt failed: retried, then bisected. Returns the chunk's answer if that completes it.
    pub fn fail(&mut self, id: AttemptId, error: String, now_ms: u64) -> Option<Answer> {
        let chunk = self.chunks.get_mut(&id.chunk)?;
        let part = chunk.parts.get_mut(&id.part)?;
        let index = part
            .live
            .iter()
            .position(|live| live.attempt == id.attempt)?;
        let live = part.live.swap_remove(index);
        // The one place that knows all of it; whoever asks why a batch ran twice finds the answer here.
        tracing::warn!(
            invocation.id = %id,
            worker = &*live.worker.name,
            after_ms = now_ms.saturating_sub(live.since_ms),
            error,
            "an attempt failed"
        );
        self.roster
            .ended(&live.worker.name, live.ended(None), now_ms);
        part.failures += 1;
        let first_failure_ms = *chunk.first_failure_ms.get_or_insert(live.since_ms);
        chunk
            .failed_versions
            .insert(Arc::clone(&live.worker.version));
        if part.gone.len() == GONE {
            part.gone.remove(0);
        }
        part.gone.push(live);
        self.load.failed += 1;
        self.failures_in_a_row += 1;

        let rows = part.rows.clone();
        let failures = part.failures;
        if rows.len() > 1 && failures >= self.limits.failures_before_bisect {
            chunk.parts.remove(&id.part);
            let middle = rows.start + rows.len() / 2;
            for half in [rows.start..middle, middle..rows.end] {
                let number = chunk.next_part;
                chunk.next_part += 1;
                chunk.parts.insert(number, Part::new(half, now_ms));
                self.ready.push_back((id.chunk, number));
            }
        } else if rows.len() == 1 && failures >= self.limits.failures_before_poison {
            let workers_are_well = chunk.failed_versions.iter().any(|version| {
                let success = self.last_success_ms.get(version);
                success.is_some_and(|&at| at >= first_failure_ms)
            });
            if workers_are_well {
                chunk.parts.remove(&id.part);
                chunk.poisoned.push((rows.start, error));
                self.failures_in_a_row = 0;
                return self.finish(id.chunk);
            }
            part.waits_ms = Some(now_ms);
            self.ready.push_back((id.chunk, id.part));
            self.halt(&error, now_ms);
        } else {
            part.waits_ms = Some(now_ms);
            self.ready.push_back((id.chunk, id.part));
        }
        if self.failures_in_a_row >= self.limits.failures_before_halt {
            self.halt(&error, now_ms);
        }
        None
    }

    fn halt(&mut self, error: &str, now_ms: u64) {
        self.halt.get_or_insert_with(|| Halt {
            reason: format!(
                "workers fail on every batch, so nothing is handed out but a probe every {} s; \
                 everything is kept. Mend or roll back the function. Last error: {error}",
                self.limits.probe_ms / 1_000
            ),
            probe_at_ms: now_ms + self.limits.probe_ms,
        });
    }

    /// A worker is gone, or the connection it promised to keep: its attempts are lost.
    pub fn lost(&mut self, gone: &Gone, now_ms: u64) -> Vec<Answer> {
        let ids = self.live_ids(|live| match gone {
            Gone::Worker(name) => *live.worker.name == **name,
            Gone::Connection(connection) => live.connection == *connection,
        });
        if let Gone::Worker(name) = gone {
            self.roster.gone(name);
        }
        self.fail_all(ids, "the worker died before it answered", now_ms)
    }

    /// Attempts past their deadline are lost.
    pub fn expire(&mut self, now_ms: u64) -> Vec<Answer> {
        let ids = self.live_ids(|live| live.deadline_ms <= now_ms);
        let seconds = self.limits.attempt_timeout_ms / 1_000;
        self.fail_all(ids, &format!("no answer within {seconds} s"), now_ms)
    }

    fn live_ids(&self, is_meant: impl Fn(&Live) -> bool) -> Vec<AttemptId> {
        let mut ids = Vec::new();
        for (&chunk, state) in &self.chunks {
            for (&part, Part { live, .. }) in &state.parts {
                for live in live.iter().filter(|live| is_meant(live)) {
                    ids.push(AttemptId {
                        chunk,
                        part,
                        attempt: live.attempt,
                    });
                }
            }
        }
        ids
    }

    fn fail_all(&mut self, ids: Vec<AttemptId>, error: &str, now_ms: u64) -> Vec<Answer> {
        ids.into_iter()
            .filter_map(|id| self.fail(id, error.to_owned(), now_ms))
            .collect()
    }
}

//! Where an invocation ran, why there, and how long each phase of its way took.

use serde::Serialize;

use crate::invocations::AttemptId;

/// Where an invocation ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// On a warm worker.
    Pool,
    /// In a Job of its own.
    Job,
}

impl Place {
    /// The word in tables and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pool => "pool",
            Self::Job => "job",
        }
    }
}

/// Why it ran there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// A warm worker was there.
    Warm,
    /// No warm worker had time for it within the overflow wait.
    Overflow,
    /// Its function asks for Jobs.
    Asked,
}

impl Reason {
    /// The word in tables and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warm => "warm",
            Self::Overflow => "overflow",
            Self::Asked => "asked",
        }
    }
}

/// How long each phase took, ms; together they are the time from the decision to the answer. A phase
/// whose end was not seen is `None`, and its time is in the next one. A warm worker's invocation has
/// only the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Phases {
    /// Until the API server had created the Job.
    pub created: Option<u64>,
    /// Until its pod had a node.
    pub scheduled: Option<u64>,
    /// Until its program ran.
    pub started: Option<u64>,
    /// Until it had asked for its batch.
    pub pulled: Option<u64>,
    /// Until it had answered.
    pub answered: Option<u64>,
}

impl Phases {
    /// Each with its name, in order.
    pub fn named(&self) -> [(&'static str, Option<u64>); 5] {
        [
            ("created", self.created),
            ("scheduled", self.scheduled),
            ("started", self.started),
            ("pulled", self.pulled),
            ("answered", self.answered),
        ]
    }
}

/// An answered invocation, for the commit log, the status and the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ran {
    /// The part of the chunk.
    pub part: u32,
    /// Which attempt won.
    pub attempt: u32,
    /// Where.
    pub place: Place,
    /// Why there.
    pub reason: Reason,
    /// How many tuples.
    pub tuples: u64,
    /// From when its batch was ready until a warm worker took it or a Job was decided on, ms.
    pub waited_ms: u64,
    /// From then on.
    pub phases: Phases,
}

/// A Job's way so far, in monotonic ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobRun {
    /// The attempt that it was made for.
    pub id: AttemptId,
    /// Why it was made.
    pub reason: Reason,
    ready_ms: u64,
    decided_ms: u64,
    created_ms: Option<u64>,
    scheduled_ms: Option<u64>,
    started_ms: Option<u64>,
    pulled_ms: Option<u64>,
}

impl JobRun {
    /// Decided on now, for a batch that was ready at `ready_ms`.
    pub fn new(id: AttemptId, reason: Reason, ready_ms: u64, decided_ms: u64) -> Self {
        Self {
            id,
            reason,
            ready_ms,
            decided_ms,
            created_ms: None,
            scheduled_ms: None,
            started_ms: None,
            pulled_ms: None,
        }
    }

    /// It exists.
    pub fn created(&mut self, now_ms: u64) {
        self.created_ms.get_or_insert(now_ms);
    }

    /// Its pod has a node.
    pub fn scheduled(&mut self, now_ms: u64) {
        self.scheduled_ms.get_or_insert(now_ms);
    }

    /// Its program, which has run for `age_ms` if it says so, asks for the batch.
    pub fn pulled(&mut self, age_ms: Option<u64>, now_ms: u64) {
        self.started_ms = age_ms.map(|age| now_ms.saturating_sub(age));
        self.pulled_ms = Some(now_ms);
    }

    /// Since when its start is awaited.
    pub fn due_from_ms(&self) -> u64 {
        self.created_ms.unwrap_or(self.decided_ms)
    }

    /// From when the batch was ready until the decision.
    pub fn waited_ms(&self) -> u64 {
        self.decided_ms.saturating_sub(self.ready_ms)
    }

    /// The phases of a run that is answered at `now_ms`. What was heard late, after the phase that
    /// follows it, is taken to have ended with that.
    pub fn phases(&self, now_ms: u64) -> Phases {
        let mut before = self.decided_ms;
        let mut phase = |end: Option<u64>, next: u64| {
            let end = end?.min(next).max(before);
            let took = end - before;
            before = end;
            Some(took)
        };
        let pulled = self.pulled_ms.unwrap_or(now_ms);
        let started = self.started_ms.unwrap_or(pulled).min(pulled);
        Phases {
            created: phase(self.created_ms, started),
            scheduled: phase(self.scheduled_ms, started),
            started: phase(self.started_ms, pulled),
            pulled: phase(self.pulled_ms, now_ms),
            answered: phase(Some(now_ms), now_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::ChunkId;

    fn run() -> JobRun {
        let chunk = ChunkId {
            shard: 0,
            epoch: 1,
            slice: 2,
            window: 3_000,
            chunk: 0,
        };
        let id = AttemptId {
            chunk,
            part: 0,
            attempt: 1,
        };
        JobRun::new(id, Reason::Overflow, 1_000, 1_500)
    }

    #[test]
    fn phases_add_up_to_the_time_from_the_decision_to_the_answer() {
        let mut run = run();
        run.created(1_510);
        run.scheduled(1_550);
        run.pulled(Some(20), 2_400);
        let phases = run.phases(2_405);
        assert_eq!(run.waited_ms(), 500);
        let took: Vec<_> = phases.named().map(|(_, took)| took.unwrap()).into();
        assert_eq!(took, [10, 40, 830, 20, 5]);
    }

    #[test]
    fn what_was_not_seen_belongs_to_the_next_phase_and_what_was_heard_late_to_its_own() {
        let mut run = run();
        run.scheduled(2_300);
        run.pulled(Some(500), 2_400);
        let phases = run.phases(2_410);
        assert_eq!(phases.created, None);
        assert_eq!(phases.scheduled, Some(400), "by then its program ran");
        assert_eq!(phases.started, Some(0));
        assert_eq!((phases.pulled, phases.answered), (Some(500), Some(10)));
        let sum: u64 = phases.named().iter().filter_map(|(_, took)| *took).sum();
        assert_eq!(sum, 910);
    }
}

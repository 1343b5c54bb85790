//! Who runs what: hands chunks to workers, takes the first valid answer, reissues what was lost,
//! and halves what fails until the tuple at fault is alone. Pure: it is told the time.
//!
//! A chunk that fails [`Limits::failures_before_bisect`] times is *bisected*: its parts get ids of
//! their own and the chunk's own answer no longer counts. A single tuple that keeps failing is
//! poisonous only if a worker of the same version has answered something else meanwhile; otherwise
//! the workers are at fault, and nothing is handed out but one probe now and then.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use hashbrown::HashMap;
use windlass_functions::partial::{Partial, Partials};

use crate::shard::{Answer, ChunkId, Work};

/// When an attempt counts as failed and what follows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// An attempt without an answer for this long is lost.
    pub attempt_timeout_ms: u64,
    /// Failures of several tuples together before they are bisected.
    pub failures_before_bisect: u32,
    /// Failures of a single tuple before it is poisonous.
    pub failures_before_poison: u32,
    /// Failures in a row, with no success anywhere, before handing out stops.
    pub failures_before_halt: u32,
    /// While halted, one probe is handed out this often.
    pub probe_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            attempt_timeout_ms: 30_000,
            failures_before_bisect: 2,
            failures_before_poison: 3,
            failures_before_halt: 12,
            probe_ms: 2_000,
        }
    }
}

/// Names one attempt; in text `shard.epoch.slice.window.chunk.part.attempt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttemptId {
    /// The chunk.
    pub chunk: ChunkId,
    /// 0 for the whole chunk, else the part that bisecting made.
    pub part: u32,
    /// Counts the times this part was handed out, from 1.
    pub attempt: u32,
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ChunkId {
            shard,
            epoch,
            slice,
            window,
            chunk,
        } = self.chunk;
        let (part, attempt) = (self.part, self.attempt);
        write!(
            f,
            "{shard}.{epoch}.{slice}.{window}.{chunk}.{part}.{attempt}"
        )
    }
}

/// A text that is no attempt id.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is no invocation id: expected the windlass-invocation-id header of the invocation, \
     as in 0.7.42.1700000000000.0.0.1"
)]
pub struct BadAttemptId(String);

impl FromStr for AttemptId {
    type Err = BadAttemptId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        fn parse(text: &str) -> Option<AttemptId> {
            let mut fields = text.split('.');
            let id = AttemptId {
                chunk: ChunkId {
                    shard: fields.next()?.parse().ok()?,
                    epoch: fields.next()?.parse().ok()?,
                    slice: fields.next()?.parse().ok()?,
                    window: fields.next()?.parse().ok()?,
                    chunk: fields.next()?.parse().ok()?,
                },
                part: fields.next()?.parse().ok()?,
                attempt: fields.next()?.parse().ok()?,
            };
            fields.next().is_none().then_some(id)
        }
        parse(text).ok_or_else(|| BadAttemptId(text.chars().take(80).collect()))
    }
}

/// An attempt handed to a worker.
#[derive(Clone, Debug)]
pub struct Handout {
    /// Its name.
    pub id: AttemptId,
    /// What to run; `work.rows` are the rows of this part.
    pub work: Work,
    /// By when it must be answered, monotonic ms.
    pub deadline_ms: u64,
}

/// What `next` has for a worker.
#[derive(Debug)]
pub enum Next {
    /// Run this.
    Run(Box<Handout>),
    /// Nothing yet; if `Some`, ask again at this time at the latest (monotonic ms).
    Nothing(Option<u64>),
    /// Finish and exit.
    Drain,
}

/// What became of an answer.
#[derive(Debug)]
pub enum Taken {
    /// It won; if the whole chunk is answered now, here is its answer.
    Won(Option<Answer>),
    /// Another attempt answered first, or the chunk is gone with its epoch.
    Conflict,
    /// It does not fit the batch; the attempt counts as failed.
    Invalid(String),
}

/// The worker at the other end of a call.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Worker {
    /// Its name, unique among live workers.
    pub name: Arc<str>,
    /// The version of its code.
    pub version: Arc<str>,
}

#[derive(Debug)]
struct Live {
    attempt: u32,
    worker: Worker,
    connection: u64,
    since_ms: u64,
    deadline_ms: u64,
}

#[derive(Debug)]
struct Part {
    rows: Range<usize>,
    attempts: u32,
    failures: u32,
    live: Vec<Live>,
}

#[derive(Debug)]
struct Chunk {
    work: Work,
    parts: BTreeMap<u32, Part>,
    next_part: u32,
    partials: BTreeMap<Arc<str>, Partial>,
    poisoned: Vec<(usize, String)>,
    first_failure_ms: Option<u64>,
    failed_versions: BTreeSet<Arc<str>>,
}

/// Why nothing is handed out.
#[derive(Debug)]
struct Halt {
    reason: String,
    probe_at_ms: u64,
}

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
    /// Attempts handed out since the start.
    pub handed_out: u64,
    /// Answers that won since the start.
    pub answered: u64,
    /// Attempts that failed, were lost or timed out since the start.
    pub failed: u64,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Invocations {
    limits: Limits,
    chunks: HashMap<ChunkId, Chunk>,
    ready: VecDeque<(ChunkId, u32)>,
    /// Calls of `next` that wait, by worker name.
    waiting: HashMap<Arc<str>, u32>,
    last_success_ms: HashMap<Arc<str>, u64>,
    failures_in_a_row: u32,
    halt: Option<Halt>,
    draining: bool,
    load: Load,
}

impl Invocations {
    /// Nothing to run yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            chunks: HashMap::new(),
            ready: VecDeque::new(),
            waiting: HashMap::new(),
            last_success_ms: HashMap::new(),
            failures_in_a_row: 0,
            halt: None,
            draining: false,
            load: Load::default(),
        }
    }

    /// Queues a chunk.
    pub fn submit(&mut self, work: Work) {
        let id = work.id;
        let part = Part::new(work.rows.clone());
        self.chunks.insert(
            id,
            Chunk {
                work,
                parts: BTreeMap::from([(0, part)]),
                next_part: 1,
                partials: BTreeMap::new(),
                poisoned: Vec::new(),
                first_failure_ms: None,
                failed_versions: BTreeSet::new(),
            },
        );
        self.ready.push_back((id, 0));
    }

    /// Forgets all chunks of a shard: its owner has discarded what was uncommitted.
    pub fn retire(&mut self, shard: u32) {
        self.chunks.retain(|id, _| id.shard != shard);
        self.ready.retain(|(id, _)| id.shard != shard);
    }

    /// From now on workers are told to exit.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Why nothing is handed out, if so.
    pub fn halted(&self) -> Option<&str> {
        self.halt.as_ref().map(|halt| halt.reason.as_str())
    }

    /// A worker begins to wait; pair it with [`Invocations::stopped_waiting`].
    pub fn waits(&mut self, worker: &Worker) {
        *self.waiting.entry(Arc::clone(&worker.name)).or_default() += 1;
    }

    /// A worker's call of `next` has ended.
    pub fn stopped_waiting(&mut self, worker: &Worker) {
        if let Some(calls) = self.waiting.get_mut(&worker.name) {
            *calls -= 1;
            if *calls == 0 {
                self.waiting.remove(&worker.name);
            }
        }
    }

    /// The next attempt for this worker. `connection` names the connection it promises to answer
    /// on, 0 for none.
    pub fn next(&mut self, worker: &Worker, connection: u64, now_ms: u64) -> Next {
        if self.draining {
            return Next::Drain;
        }
        if let Some(halt) = &mut self.halt {
            if now_ms < halt.probe_at_ms {
                return Next::Nothing(Some(halt.probe_at_ms));
            }
            halt.probe_at_ms = now_ms + self.limits.probe_ms;
        }
        while let Some((id, number)) = self.ready.pop_front() {
            if let Some(handout) = self.hand_out(id, number, worker, connection, now_ms) {
                return Next::Run(Box::new(handout));
            }
        }
        Next::Nothing(None)
    }

    /// The attempt that a launched program was made for, if its part still waits for a worker.
    pub fn take(
        &mut self,
        id: AttemptId,
        worker: &Worker,
        connection: u64,
        now_ms: u64,
    ) -> Option<Handout> {
        let position = self
            .ready
            .iter()
            .position(|&(chunk, part)| chunk == id.chunk && part == id.part)?;
        self.ready.remove(position);
        self.hand_out(id.chunk, id.part, worker, connection, now_ms)
    }

    fn hand_out(
        &mut self,
        id: ChunkId,
        number: u32,
        worker: &Worker,
        connection: u64,
        now_ms: u64,
    ) -> Option<Handout> {
        let chunk = self.chunks.get_mut(&id)?;
        let part = chunk.parts.get_mut(&number)?;
        part.attempts += 1;
        let deadline_ms = now_ms + self.limits.attempt_timeout_ms;
        part.live.push(Live {
            attempt: part.attempts,
            worker: worker.clone(),
            connection,
            since_ms: now_ms,
            deadline_ms,
        });
        self.load.handed_out += 1;
        let mut work = chunk.work.clone();
        work.rows = part.rows.clone();
        Some(Handout {
            id: AttemptId {
                chunk: id,
                part: number,
                attempt: part.attempts,
            },
            work,
            deadline_ms,
        })
    }

    /// A worker's answer. The first valid one for a part wins, even if its attempt was given up.
    pub fn respond(&mut self, id: AttemptId, partials: Partials, now_ms: u64) -> Taken {
        let Some(chunk) = self.chunks.get_mut(&id.chunk) else {
            return Taken::Conflict;
        };
        let Some(part) = chunk.parts.get(&id.part) else {
            return Taken::Conflict;
        };
        if id.attempt == 0 || id.attempt > part.attempts {
            return Taken::Conflict;
        }
        let counted: u64 = partials.iter().map(|(_, partial)| partial.count).sum();
        let expected = part.rows.len() as u64;
        if counted != expected {
            let reason = format!(
                "the counts of the answer add up to {counted}, the batch has {expected} tuples"
            );
            self.fail(id, reason.clone(), now_ms);
            return Taken::Invalid(reason);
        }
        let version = part.live.iter().find(|live| live.attempt == id.attempt);
        let version = version.map(|live| Arc::clone(&live.worker.version));
        chunk.parts.remove(&id.part);
        for (key, partial) in partials {
            chunk
                .partials
                .entry(key)
                .or_insert(Partial::EMPTY)
                .merge(&partial);
        }
        self.load.answered += 1;
        self.failures_in_a_row = 0;
        self.halt = None;
        if let Some(version) = version {
            self.last_success_ms.insert(version, now_ms);
        }
        Taken::Won(self.finish(id.chunk))
    }

    /// When a live attempt was handed out, monotonic ms.
    pub fn since_ms(&self, id: AttemptId) -> Option<u64> {
        let part = self.chunks.get(&id.chunk)?.parts.get(&id.part)?;
        let live = part.live.iter().find(|live| live.attempt == id.attempt)?;
        Some(live.since_ms)
    }

    /// The chunk's answer, once no part is left.
    fn finish(&mut self, id: ChunkId) -> Option<Answer> {
        if !self.chunks.get(&id)?.parts.is_empty() {
            return None;
        }
        let chunk = self.chunks.remove(&id)?;
        Some(Answer {
            id,
            partials: chunk.partials.into_iter().collect(),
            poisoned: chunk.poisoned,
        })
    }

    /// An attempt failed: retried, then bisected. Returns the chunk's answer if that completes it.
    pub fn fail(&mut self, id: AttemptId, error: String, now_ms: u64) -> Option<Answer> {
        let chunk = self.chunks.get_mut(&id.chunk)?;
        let part = chunk.parts.get_mut(&id.part)?;
        let index = part
            .live
            .iter()
            .position(|live| live.attempt == id.attempt)?;
        let live = part.live.swap_remove(index);
        part.failures += 1;
        let first_failure_ms = *chunk.first_failure_ms.get_or_insert(live.since_ms);
        chunk
            .failed_versions
            .insert(Arc::clone(&live.worker.version));
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
                chunk.parts.insert(number, Part::new(half));
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
            self.ready.push_back((id.chunk, id.part));
            self.halt(&error, now_ms);
        } else {
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

    /// A worker is gone, or the connection it promised to answer on: its attempts are lost.
    pub fn lost(&mut self, gone: &Gone, now_ms: u64) -> Vec<Answer> {
        let ids = self.live_ids(|live| match gone {
            Gone::Worker(name) => *live.worker.name == **name,
            Gone::Connection(connection) => live.connection == *connection,
        });
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
                .filter(|name| !names.contains(name))
                .count(),
            ..self.load
        }
    }
}

impl Part {
    fn new(rows: Range<usize>) -> Self {
        Self {
            rows,
            attempts: 0,
            failures: 0,
            live: Vec::new(),
        }
    }
}

/// Who is gone.
#[derive(Clone, Debug)]
pub enum Gone {
    /// The worker of this name.
    Worker(Arc<str>),
    /// Whoever promised to answer on this connection.
    Connection(u64),
}

#[cfg(test)]
mod tests;

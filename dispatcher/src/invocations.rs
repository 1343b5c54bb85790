//! Who runs what: hands chunks to workers, takes the first valid answer, reissues what was lost,
//! and halves what fails until the tuple at fault is alone. Pure: it is told the time.
//!
//! A chunk that fails [`Limits::failures_before_bisect`] times is *bisected*: its parts get ids of
//! their own and the chunk's own answer no longer counts. A single tuple that keeps failing is
//! poisonous only if a worker of the same version has answered something else meanwhile; otherwise
//! the workers are at fault, and nothing is handed out but one probe now and then.
//!
//! What waits may become a Job: see [`crate::placement`], and `jobs` below for the two together.

mod attempt;
mod failures;
mod figures;
mod jobs;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashMap;
use windlass_functions::partial::{Partial, Partials};

use crate::placement::{JobRun, PartId, Phases, Place, Placement, Placer, Ran, Reason};
use crate::roster::{Ended, Roster};
use crate::shard::{Answer, ChunkId, Work};

pub use attempt::{AttemptId, BadAttemptId};
pub use failures::Gone;
pub use figures::Load;

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
    /// Nothing for the time being: it is parked.
    Parked,
    /// Finish and exit.
    Drain,
}

/// An answer that counts.
#[derive(Debug)]
pub struct Won {
    /// Where its attempt ran; `None` for one that was given up long ago.
    pub ran: Option<Ran>,
    /// The chunk's answer, if the whole chunk is answered now.
    pub answer: Option<Answer>,
}

/// What became of an answer.
#[derive(Debug)]
pub enum Taken {
    /// It won.
    Won(Box<Won>),
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
    /// The same by a finer clock, if the shell said so.
    handed_out_us: Option<u64>,
    deadline_ms: u64,
    /// Since when its batch had waited.
    ready_ms: u64,
    /// Set if a Job runs it.
    job: Option<JobRun>,
}

impl Live {
    fn ended(&self, answered: Option<usize>) -> Ended {
        Ended {
            since_ms: self.since_ms,
            job: self.job.is_some(),
            answered,
        }
    }

    fn ran(&self, part: u32, tuples: u64, now_ms: u64) -> Ran {
        let (attempt, answered) = (self.attempt, now_ms.saturating_sub(self.since_ms));
        let (place, reason, waited_ms, phases) = match &self.job {
            None => {
                let phases = Phases {
                    answered: Some(answered),
                    ..Phases::default()
                };
                let waited_ms = self.since_ms.saturating_sub(self.ready_ms);
                (Place::Pool, Reason::Warm, waited_ms, phases)
            }
            Some(job) => (Place::Job, job.reason, job.waited_ms(), job.phases(now_ms)),
        };
        Ran {
            part,
            attempt,
            place,
            reason,
            tuples,
            waited_ms,
            phases,
        }
    }
}

#[derive(Debug)]
struct Part {
    rows: Range<usize>,
    attempts: u32,
    failures: u32,
    /// Since when it waits to be taken; `None` while a worker has it.
    waits_ms: Option<u64>,
    live: Vec<Live>,
    /// The last attempts given up, since the answer of one still counts if it is the first.
    gone: Vec<Live>,
}

impl Part {
    fn new(rows: Range<usize>, now_ms: u64) -> Self {
        Self {
            rows,
            attempts: 0,
            failures: 0,
            waits_ms: Some(now_ms),
            live: Vec::new(),
            gone: Vec::new(),
        }
    }
}

#[derive(Debug)]
struct Chunk {
    work: Work,
    parts: BTreeMap<u32, Part>,
    next_part: u32,
    partials: BTreeMap<Arc<str>, Partial>,
    ran: Vec<Ran>,
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

/// Attempts given up whose place and times are remembered, a part.
const GONE: usize = 4;

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
    /// Who is there, and what has been done.
    pub roster: Roster,
    placer: Placer,
}

impl Invocations {
    /// Nothing to run yet; all of it will be for the pool.
    pub fn new(limits: Limits) -> Self {
        Self::with_jobs(limits, crate::placement::Settings::default())
    }

    /// Nothing to run yet; what waits may become Jobs as `jobs` says.
    pub fn with_jobs(limits: Limits, jobs: crate::placement::Settings) -> Self {
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
            roster: Roster::default(),
            placer: Placer::new(jobs),
        }
    }

    /// Queues a chunk.
    pub fn submit(&mut self, work: Work, now_ms: u64) {
        let id = work.id;
        let part = Part::new(work.rows.clone(), now_ms);
        self.chunks.insert(
            id,
            Chunk {
                work,
                parts: BTreeMap::from([(0, part)]),
                next_part: 1,
                partials: BTreeMap::new(),
                ran: Vec::new(),
                poisoned: Vec::new(),
                first_failure_ms: None,
                failed_versions: BTreeSet::new(),
            },
        );
        self.ready.push_back((id, 0));
    }

    /// Forgets all chunks of a shard: its owner has discarded what was uncommitted.
    pub fn retire(&mut self, shard: u32, now_ms: u64) {
        let roster = &mut self.roster;
        self.chunks.retain(|id, chunk| {
            let retired = id.shard == shard;
            if retired {
                let live = chunk.parts.values().flat_map(|part| &part.live);
                live.for_each(|live| roster.ended(&live.worker.name, live.ended(None), now_ms));
            }
            !retired
        });
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

    /// The next attempt for this worker. `connection` names the connection it promises to keep open
    /// until it has answered, 0 for none.
    pub fn next(&mut self, worker: &Worker, connection: u64, now_ms: u64) -> Next {
        if self.draining || self.roster.is_leaving(&worker.name) {
            return Next::Drain;
        }
        if self.roster.is_parked(&worker.name) {
            return Next::Parked;
        }
        if self.placer.placement() == Placement::Job {
            return Next::Nothing(None);
        }
        if let Some(halt) = &mut self.halt {
            if now_ms < halt.probe_at_ms {
                return Next::Nothing(Some(halt.probe_at_ms));
            }
            halt.probe_at_ms = now_ms + self.limits.probe_ms;
        }
        while let Some((id, number)) = self.ready.pop_front() {
            if let Some(handout) = self.hand_out((id, number), worker, connection, None, now_ms) {
                return Next::Run(Box::new(handout));
            }
        }
        Next::Nothing(None)
    }

    fn hand_out(
        &mut self,
        (id, number): PartId,
        worker: &Worker,
        connection: u64,
        job: Option<JobRun>,
        now_ms: u64,
    ) -> Option<Handout> {
        let warm = job.is_none();
        let chunk = self.chunks.get_mut(&id)?;
        let part = chunk.parts.get_mut(&number)?;
        part.attempts += 1;
        let ready_ms = part.waits_ms.take().unwrap_or(now_ms);
        let deadline_ms = now_ms + self.limits.attempt_timeout_ms;
        part.live.push(Live {
            attempt: part.attempts,
            worker: worker.clone(),
            connection,
            since_ms: now_ms,
            handed_out_us: None,
            deadline_ms,
            ready_ms,
            job,
        });
        if warm {
            self.roster.took(&worker.name, now_ms);
        }
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
        let counts = partials
            .iter()
            .map(|(_, partial)| u128::from(partial.count));
        let counted: u128 = counts.sum();
        let expected = part.rows.len() as u64;
        if counted != expected.into() {
            let reason = format!(
                "the counts of the answer add up to {counted}, the batch has {expected} tuples"
            );
            self.fail(id, reason.clone(), now_ms);
            return Taken::Invalid(reason);
        }
        let is_meant = |live: &&Live| live.attempt == id.attempt;
        let version = part.live.iter().find(is_meant);
        let version = version.map(|live| Arc::clone(&live.worker.version));
        for live in &part.live {
            let answered = (live.attempt == id.attempt).then_some(part.rows.len());
            self.roster
                .ended(&live.worker.name, live.ended(answered), now_ms);
        }
        let attempt = part.live.iter().chain(&part.gone).find(is_meant);
        let ran = attempt.map(|live| live.ran(id.part, expected, now_ms));
        chunk.ran.extend(ran);
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
        Taken::Won(Box::new(Won {
            ran,
            answer: self.finish(id.chunk),
        }))
    }

    /// Notes when a live attempt was handed out, in microseconds of a clock of the caller's: a warm worker
    /// takes less than the millisecond that decisions are made by.
    pub fn handed_out_at(&mut self, id: AttemptId, us: u64) {
        let chunk = self.chunks.get_mut(&id.chunk);
        let part = chunk.and_then(|chunk| chunk.parts.get_mut(&id.part));
        let mut live = part.into_iter().flat_map(|part| &mut part.live);
        if let Some(live) = live.find(|live| live.attempt == id.attempt) {
            live.handed_out_us = Some(us);
        }
    }

    /// What [`Invocations::handed_out_at`] noted of a live attempt.
    pub fn handed_out_us(&self, id: AttemptId) -> Option<u64> {
        let part = self.chunks.get(&id.chunk)?.parts.get(&id.part)?;
        let live = part.live.iter().find(|live| live.attempt == id.attempt)?;
        live.handed_out_us
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
            ran: chunk.ran,
            poisoned: chunk.poisoned,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;

//! Where an invocation runs: on a warm worker that pulls it, or in a Job made for it. Pure: it is told
//! the time and the dice, and returns what to create and to remove.
//!
//! Making a Job takes nothing from the pool: the batch stays where warm workers find it until the
//! Job, once its program runs, takes it by its id. So whatever becomes of the Job, the batch is not
//! with it before that moment, and a Job that comes too late finds it gone and ends.
//!
//! Creating is bounded by a rate, by the number of live Jobs, and by a pause after everything that
//! went wrong. "Unknown" (no answer from the API server) means that nothing new is begun; the same
//! Job is asked for again later, and being told that it exists is as good as having made it.

mod bucket;
mod pause;
mod run;

use std::num::{NonZeroU32, NonZeroUsize};

use hashbrown::HashMap;
use serde::Serialize;

use crate::invocations::AttemptId;
use crate::shard::ChunkId;
use bucket::Bucket;
use pause::Pause;

pub use run::{JobRun, Phases, Place, Ran, Reason};

/// Which invocations may run where; the setting of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    /// On warm workers only.
    Pool,
    /// Each in a Job of its own; warm workers get none.
    Job,
    /// On warm workers; in a Job when none had time for it.
    Auto,
}

/// How Jobs are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Which invocations may become Jobs.
    pub placement: Placement,
    /// With [`Placement::Auto`]: how long a batch waits for a warm worker before a Job is made.
    pub overflow_wait_ms: u64,
    /// Jobs created a second, in the long run.
    pub jobs_per_second: NonZeroU32,
    /// Jobs created at once, after a quiet time.
    pub burst: NonZeroU32,
    /// Most Jobs that have not ended, this dispatcher's and those that a dead one left.
    pub max_live: NonZeroUsize,
    /// When a Job has not taken its batch after this long, another may be made; it is removed if it is
    /// known not to start.
    pub start_timeout_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        let number = |n| NonZeroU32::new(n).expect("not zero");
        Self {
            placement: Placement::Pool,
            overflow_wait_ms: 500,
            jobs_per_second: number(5),
            burst: number(20),
            max_live: NonZeroUsize::new(50).expect("not zero"),
            start_timeout_ms: 60_000,
        }
    }
}

/// For how long a Job that nobody waits for any more may still be there, ms: about what the cluster
/// grants it beyond its start.
const LATE_MS: u64 = 120_000;

/// A part of a chunk: 0 for all of it, else what bisecting made.
pub type PartId = (ChunkId, u32);

/// What the shell is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Create the Job that takes this attempt → [`Report::Created`], [`Report::Exists`] or
    /// [`Report::Refused`]. Once more for the same attempt if it is not known what became of the first.
    Create(AttemptId),
    /// Remove the Job that was made for this attempt, if it is there.
    Remove(AttemptId),
}

/// Why a Job was not created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 429: too many requests, or a quota; wait at least so many ms.
    Throttled(u64),
    /// 5xx.
    Failing,
    /// No answer; it may have been created.
    Unreachable,
    /// 403: a Role or an admission rule forbids it.
    Forbidden,
    /// There is no usable pod template, or the API server finds the Job invalid.
    Template,
}

impl Refusal {
    /// The word in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Throttled(_) => "throttled",
            Self::Failing => "failing",
            Self::Unreachable => "unreachable",
            Self::Forbidden => "forbidden",
            Self::Template => "template",
        }
    }

    /// Whether it is certain that nothing was created.
    fn is_certain(self) -> bool {
        matches!(self, Self::Forbidden | Self::Template)
    }
}

/// What the shell learnt about the Job of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// It was created.
    Created,
    /// It was there already; whether it has finished.
    Exists {
        /// It will not take its batch any more.
        finished: bool,
    },
    /// It was not created; why, for a person.
    Refused(Refusal, String),
    /// Its pod has a node.
    Scheduled,
    /// Something keeps its pod from starting, in words: no node fits, the image cannot be pulled.
    Stuck(String),
    /// It has ended, or is gone; how.
    Ended(String),
}

/// A batch that waits to be taken.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// Which.
    pub part: PartId,
    /// The number that its next attempt has.
    pub attempt: u32,
    /// Since when it waits, monotonic ms.
    pub since_ms: u64,
}

impl Waiting {
    fn id(&self) -> AttemptId {
        AttemptId {
            chunk: self.part.0,
            part: self.part.1,
            attempt: self.attempt,
        }
    }
}

/// A Job that has not taken its batch.
#[derive(Debug)]
struct Job {
    run: JobRun,
    state: State,
    /// What was last heard to keep it from starting.
    stuck: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The shell has been told to create it.
    Asked,
    /// It is there.
    Made,
    /// It may be there: to be asked for again.
    Unknown,
}

/// What follows from a look at what waits.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Oldest batch first.
    pub create: Vec<AttemptId>,
    /// When to look again even if nothing happens, monotonic ms.
    pub again_ms: Option<u64>,
}

impl Decision {
    fn again_at(&mut self, ms: u64) {
        self.again_ms = Some(self.again_ms.map_or(ms, |earlier| earlier.min(ms)));
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Placer {
    settings: Settings,
    bucket: Bucket,
    /// After the API server did not create what it was asked for.
    refused: Pause,
    /// After Jobs that did not take their batch.
    failed: Pause,
    jobs: HashMap<PartId, Job>,
    /// Jobs that nobody waits for any more and that may still start, and until when. On a busy cluster
    /// removing them would undo what it has nearly done; one that comes may take what still waits.
    late: HashMap<AttemptId, (JobRun, u64)>,
    /// Unfinished Jobs that are not in `jobs` and hold no batch of ours.
    others: usize,
    at_cap: bool,
}

impl Placer {
    /// No Job yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            bucket: Bucket::new(settings.jobs_per_second, settings.burst),
            refused: Pause::default(),
            failed: Pause::default(),
            jobs: HashMap::new(),
            late: HashMap::new(),
            others: 0,
            at_cap: false,
        }
    }

    /// Which invocations may become Jobs.
    pub fn placement(&self) -> Placement {
        self.settings.placement
    }

    /// Jobs that have not taken their batch, and those of earlier dispatchers.
    pub fn pending(&self) -> usize {
        self.jobs.len() + self.late.len() + self.others
    }

    /// Why no Job is created, while that is so.
    pub fn paused(&self) -> Option<String> {
        let reason = self.refused.reason().or(self.failed.reason());
        reason.map(str::to_owned).or_else(|| {
            let max = self.settings.max_live;
            self.at_cap
                .then(|| format!("{max} Jobs are live, the most that --max-jobs allows"))
        })
    }

    /// So many unfinished Jobs of this deployment belong to no attempt of this dispatcher.
    pub fn others(&mut self, unfinished: usize) {
        self.others = unfinished;
    }

    /// Whether a Job was made for this attempt and has not been heard of since to take it or to end.
    pub fn expects(&self, id: AttemptId) -> bool {
        let job = self.jobs.get(&(id.chunk, id.part));
        job.is_some_and(|job| job.run.id == id)
    }

    /// Gives up on the Jobs that have not taken their batch in time: which, and what keeps them if that
    /// is known; then they are to be removed.
    pub fn overdue(&mut self, now_ms: u64) -> Vec<(AttemptId, Option<String>)> {
        let timeout_ms = self.settings.start_timeout_ms;
        let overdue = self
            .jobs
            .extract_if(|_, job| job.run.due_from_ms() + timeout_ms <= now_ms);
        let overdue: Vec<Job> = overdue.map(|(_, job)| job).collect();
        let late = overdue.iter().filter(|job| job.stuck.is_none());
        let late = late.map(|job| (job.run.id, (job.run, now_ms + LATE_MS)));
        self.late.extend(late);
        let given_up = overdue.into_iter().map(|job| (job.run.id, job.stuck));
        given_up.collect()
    }

    /// What to create. `waiting` is what waits, oldest first; `running` counts the Jobs
    /// that hold a batch; `probe` says that one Job may be made and no more.
    pub fn decide(
        &mut self,
        waiting: impl IntoIterator<Item = Waiting>,
        running: usize,
        probe: bool,
        now_ms: u64,
    ) -> Decision {
        let mut decision = Decision::default();
        self.late.retain(|_, (_, until_ms)| *until_ms > now_ms);
        for job in self.jobs.values() {
            decision.again_at(job.run.due_from_ms() + self.settings.start_timeout_ms);
        }
        let wait_ms = match self.settings.placement {
            Placement::Pool => return decision,
            Placement::Job => 0,
            Placement::Auto => self.settings.overflow_wait_ms,
        };
        self.at_cap = false;
        for waiting in waiting {
            let due_ms = waiting.since_ms + wait_ms;
            if due_ms > now_ms {
                // The rest wait for less long.
                decision.again_at(due_ms);
                break;
            }
            let known = self.jobs.get(&waiting.part).map(|job| job.state);
            if matches!(known, Some(State::Asked | State::Made)) {
                continue;
            }
            if probe && self.pending() + running > 0 && known.is_none() {
                break;
            }
            if let Err(again_ms) = self.may_create(known.is_some(), running, now_ms) {
                again_ms.into_iter().for_each(|ms| decision.again_at(ms));
                break;
            }
            decision.create.push(self.create(&waiting, now_ms));
        }
        decision
    }

    /// Whether one more may be asked for now; else when that may change by itself.
    fn may_create(&mut self, again: bool, running: usize, now_ms: u64) -> Result<(), Option<u64>> {
        for pause in [&self.refused, &self.failed] {
            if let Some(until_ms) = pause.blocks(now_ms) {
                return Err(Some(until_ms));
            }
            // After a failure one is tried alone.
            let is_tried = |job: &Job| job.state == State::Asked;
            if pause.reason().is_some() && self.jobs.values().any(is_tried) {
                return Err(None);
            }
        }
        // A Job that waits to start is the trial of whether Jobs start.
        let starting = |job: &Job| job.state == State::Made;
        if self.failed.reason().is_some() && self.jobs.values().any(starting) {
            return Err(None);
        }
        // One that is asked for again counts already.
        if !again && self.pending() + running >= self.settings.max_live.get() {
            self.at_cap = true;
            return Err(None);
        }
        self.bucket.take(now_ms).map_err(Some)
    }

    fn reason(&self) -> Reason {
        match self.settings.placement {
            Placement::Auto => Reason::Overflow,
            Placement::Job | Placement::Pool => Reason::Asked,
        }
    }

    fn create(&mut self, waiting: &Waiting, now_ms: u64) -> AttemptId {
        let reason = self.reason();
        let job = self.jobs.entry(waiting.part).or_insert_with(|| Job {
            run: JobRun::new(waiting.id(), reason, waiting.since_ms, now_ms),
            state: State::Asked,
            stuck: None,
        });
        job.state = State::Asked;
        job.run.id
    }
}

/// What is heard of Jobs.
impl Placer {
    /// Takes a report about a Job that has not taken its batch. If that Job never will, why.
    pub fn reported(
        &mut self,
        id: AttemptId,
        report: Report,
        random: f64,
        now_ms: u64,
    ) -> Option<String> {
        let part = (id.chunk, id.part);
        let job = self.jobs.get_mut(&part).filter(|job| job.run.id == id)?;
        match report {
            Report::Created | Report::Exists { finished: false } => {
                job.state = State::Made;
                job.run.created(now_ms);
                self.refused.well();
                None
            }
            Report::Exists { finished: true } => {
                self.refused.well();
                self.jobs.remove(&part);
                Some("its Job had finished before".into())
            }
            Report::Refused(why, message) => {
                if why.is_certain() {
                    self.jobs.remove(&part);
                } else {
                    job.state = State::Unknown;
                }
                let asked_ms = match why {
                    Refusal::Throttled(ms) => ms,
                    _ => 0,
                };
                self.refused.failed(message, asked_ms, random, now_ms);
                None
            }
            Report::Scheduled => {
                job.run.scheduled(now_ms);
                // It was kept by the lack of a node, if by anything.
                job.stuck = None;
                None
            }
            Report::Stuck(why) => {
                job.stuck = Some(why);
                None
            }
            Report::Ended(how) => {
                let stuck = self.jobs.remove(&part).and_then(|job| job.stuck);
                Some(stuck.unwrap_or(how))
            }
        }
    }

    /// A Job did not take its batch: before the next one there is a pause.
    pub fn did_not_start(&mut self, why: &str, random: f64, now_ms: u64) {
        let reason = format!("the last Job did not take its batch: {why}");
        self.failed.failed(reason, 0, random, now_ms);
    }

    /// The program that was launched for this attempt takes its batch, which has waited since
    /// `since_ms`.
    pub fn taken(&mut self, id: AttemptId, since_ms: u64) -> JobRun {
        self.failed.well();
        if self.expects(id)
            && let Some(job) = self.jobs.remove(&(id.chunk, id.part))
        {
            return job.run;
        }
        if let Some((run, _)) = self.late.remove(&id) {
            return run;
        }
        // Forgotten, or started by hand.
        JobRun::new(id, self.reason(), since_ms, since_ms)
    }

    /// The program that was launched for this attempt came in vain, and ends.
    pub fn missed(&mut self, id: AttemptId) {
        if self.expects(id) {
            self.jobs.remove(&(id.chunk, id.part));
        }
        self.ended(id);
    }

    /// A Job that nobody waits for any more has ended.
    pub fn ended(&mut self, id: AttemptId) {
        self.late.remove(&id);
    }
}

#[cfg(test)]
mod tests;

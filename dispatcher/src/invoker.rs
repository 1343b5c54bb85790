//! Where shards and workers meet: [`Invocations`] behind a lock that is held for microseconds,
//! with the clock read, waiters woken and answers sent on to their shards.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use windlass_functions::partial::Partials;

use crate::clock::Clock;
use crate::invocations::{
    AttemptId, Gone, Handout, Invocations, Limits, Load, Next, Taken, Worker,
};
use crate::metrics::{Kind, Metrics};
use crate::placement::{Order, Report, Settings};
use crate::roster::Done;
use crate::roster::parking::{Lot, Parking};
use crate::shard::{Answer, Work};
use crate::status::{PlacementStatus, RanTotals, RecentRun};

/// How long the placing of Jobs rests at most, ms.
const LOOK_AGAIN_MS: u64 = 10_000;
/// How often attempts are checked against their deadlines.
const EXPIRY_TICK: Duration = Duration::from_millis(200);

/// Answered invocations shown in the status.
const RECENT: usize = 20;

/// How Jobs are to be made, and who makes them.
#[derive(Debug)]
pub struct Jobs {
    /// When, and how many.
    pub settings: Settings,
    /// Carries the orders out; what becomes of them is told to [`Invoker::reported`].
    pub orders: mpsc::UnboundedSender<Order>,
}

/// What became of an answer, for the caller of the API.
#[derive(Debug)]
pub enum Response {
    /// It counts.
    Won,
    /// Another attempt was first.
    Conflict,
    /// It does not fit the batch.
    Invalid(String),
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Invoker {
    invocations: Mutex<Invocations>,
    submitted: Notify,
    /// Workers were parked, or returned to work.
    parked: Notify,
    /// Something changed that may call for a Job.
    changed: Notify,
    orders: Option<mpsc::UnboundedSender<Order>>,
    recent: Mutex<(VecDeque<RecentRun>, RanTotals)>,
    shards: Mutex<BTreeMap<u32, mpsc::UnboundedSender<Answer>>>,
    clock: Clock,
    metrics: Arc<Metrics>,
}

impl Invoker {
    /// Nothing to run yet. Without `jobs` everything is for the pool.
    pub fn new(limits: Limits, jobs: Option<Jobs>, clock: Clock, metrics: Arc<Metrics>) -> Self {
        let (invocations, orders) = match jobs {
            None => (Invocations::new(limits), None),
            Some(Jobs { settings, orders }) => {
                (Invocations::with_jobs(limits, settings), Some(orders))
            }
        };
        Self {
            invocations: Mutex::new(invocations),
            submitted: Notify::new(),
            parked: Notify::new(),
            changed: Notify::new(),
            orders,
            recent: Mutex::default(),
            shards: Mutex::default(),
            clock,
            metrics,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Invocations> {
        // The state machine leaves no invariant broken if a caller panics between its calls.
        self.invocations
            .lock()
            .unwrap_or_else(|broken| broken.into_inner())
    }

    fn shards(&self) -> MutexGuard<'_, BTreeMap<u32, mpsc::UnboundedSender<Answer>>> {
        self.shards
            .lock()
            .unwrap_or_else(|broken| broken.into_inner())
    }

    /// A shard was opened: its answers come here. At most its slices in flight wait in the channel.
    pub fn attach(&self, shard: u32) -> mpsc::UnboundedReceiver<Answer> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.lock().retire(shard, self.clock.now().mono_ms);
        self.shards().insert(shard, sender);
        receiver
    }

    /// A shard was closed: its chunks are forgotten.
    pub fn detach(&self, shard: u32) {
        self.lock().retire(shard, self.clock.now().mono_ms);
        self.shards().remove(&shard);
    }

    /// Queues a chunk for the next worker.
    pub fn submit(&self, work: Work) {
        self.lock().submit(work, self.clock.now().mono_ms);
        self.submitted.notify_one();
        self.changed.notify_one();
    }

    /// A batch waits again, for any worker or for a Job.
    fn wake(&self) {
        self.submitted.notify_waiters();
        self.parked.notify_waiters();
        self.changed.notify_one();
    }

    /// From now on workers are told to exit.
    pub fn drain(&self) {
        self.lock().drain();
        self.wake();
    }

    /// Waits up to `wait` for something to run. `connection` is 0 unless the worker promised to keep
    /// the connection of this call open until it has answered. Who says that it can be parked is told
    /// at once when it is to be, and when no longer.
    pub async fn next(
        &self,
        worker: &Worker,
        connection: u64,
        parking: Parking,
        wait: Duration,
    ) -> Next {
        let _waiting = Waiting::new(self, worker, parking);
        let give_up = self
            .clock
            .instant(self.clock.now().mono_ms + wait.as_millis() as u64);
        loop {
            // Made before looking, so that nothing submitted in between is missed.
            let (submitted, parked) = (self.submitted.notified(), self.parked.notified());
            let (next, more) = {
                let mut invocations = self.lock();
                let next = invocations.next(worker, connection, self.clock.now().mono_ms);
                if let Next::Run(handout) = &next {
                    invocations.handed_out_at(handout.id, self.clock.mono_us());
                }
                (next, invocations.has_ready())
            };
            if more && matches!(next, Next::Run(_)) {
                // Of two batches submitted while nobody was waiting yet, one wake-up is remembered.
                self.submitted.notify_one();
            }
            let (again, rests) = match (next, parking) {
                (Next::Nothing(_), Parking::Parked) => return Next::Nothing(None),
                (Next::Nothing(again), _) => (again.map(|ms| self.clock.instant(ms)), false),
                (Next::Parked, Parking::Parked) => (None, true),
                (decided, _) => return decided,
            };
            let wake = again.map_or(give_up, |again| again.min(give_up));
            tokio::select! {
                // A batch wakes one worker: not one that may not have it.
                () = submitted, if !rests => {}
                () = parked => {}
                () = tokio::time::sleep_until(wake) => {
                    if wake == give_up {
                        return if rests { Next::Parked } else { Next::Nothing(None) };
                    }
                }
            }
        }
    }

    /// The attempt that a program was launched for, if its batch still waits. `age` is for how long
    /// that program has run, if it says so.
    pub fn take(
        &self,
        id: AttemptId,
        worker: &Worker,
        connection: u64,
        age: Option<Duration>,
    ) -> Option<Handout> {
        let age_ms = age.map(|age| age.as_millis() as u64);
        let taken = {
            let mut invocations = self.lock();
            let now_ms = self.clock.now().mono_ms;
            let taken = invocations.take(id, worker, connection, age_ms, now_ms);
            if let Some(handout) = &taken {
                invocations.handed_out_at(handout.id, self.clock.mono_us());
            }
            taken
        };
        // There is room for another Job, or one less batch to make it for.
        self.changed.notify_one();
        taken
    }

    /// A worker's answer.
    pub fn respond(&self, id: AttemptId, partials: Partials) -> Response {
        let (taken, took) = {
            let mut invocations = self.lock();
            let (now_ms, now_us) = (self.clock.now().mono_ms, self.clock.mono_us());
            let handed_out_us = invocations.handed_out_us(id);
            let took = handed_out_us.map(|us| Duration::from_micros(now_us.saturating_sub(us)));
            (invocations.respond(id, partials, now_ms), took)
        };
        match taken {
            Taken::Won(won) => {
                self.metrics.answered(took);
                if let Some(ran) = won.ran {
                    self.metrics.ran(&ran);
                    self.remember(RecentRun::new(id.chunk.window, &ran));
                }
                self.send(won.answer);
                self.changed.notify_one();
                Response::Won
            }
            Taken::Conflict => {
                self.count("conflict");
                Response::Conflict
            }
            Taken::Invalid(reason) => {
                self.count("invalid");
                self.wake();
                Response::Invalid(reason)
            }
        }
    }

    /// A worker says that its function failed.
    pub fn fail(&self, id: AttemptId, error: String) {
        self.count("failed");
        let answer = self.lock().fail(id, error, self.clock.now().mono_ms);
        self.send(answer);
        self.wake();
    }

    /// A worker is gone.
    pub fn lost(&self, gone: &Gone) {
        let answers = self.lock().lost(gone, self.clock.now().mono_ms);
        self.send(answers);
        self.wake();
    }

    /// Orders Jobs for what waits, for as long as the dispatcher runs and the orders are wanted.
    pub async fn place_jobs(&self) {
        let Some(orders) = &self.orders else { return };
        loop {
            let changed = self.changed.notified();
            let now_ms = self.clock.now().mono_ms;
            let placed = self.lock().place(fastrand::f64(), now_ms);
            for order in placed.orders {
                if orders.send(order).is_err() {
                    return;
                }
            }
            let again_ms = placed.again_ms.unwrap_or(now_ms + LOOK_AGAIN_MS);
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep_until(self.clock.instant(again_ms)) => {}
            }
        }
    }

    /// Something was heard of the Job that was made for this attempt.
    pub fn reported(&self, id: AttemptId, report: Report) {
        let report = heard(report);
        match &report {
            Report::Created => {
                self.metrics.jobs_created.inc();
            }
            Report::Refused(why, message) => {
                let kind = why.as_str();
                // At most as often as pauses allow.
                tracing::warn!(invocation.id = %id, kind, "no Job created: {message}");
                self.metrics
                    .jobs_refused
                    .get_or_create(&Kind { kind })
                    .inc();
            }
            _ => {}
        }
        let answer = self
            .lock()
            .reported(id, report, fastrand::f64(), self.clock.now().mono_ms);
        self.send(answer);
        self.wake();
    }

    /// So many unfinished Jobs of this deployment were made by dispatchers that are gone.
    pub fn other_jobs(&self, unfinished: usize) {
        self.lock().other_jobs(unfinished);
        self.changed.notify_one();
    }

    fn remember(&self, run: RecentRun) {
        let mut recent = self
            .recent
            .lock()
            .unwrap_or_else(|broken| broken.into_inner());
        let (runs, totals) = &mut *recent;
        totals.add(run.reason);
        if runs.len() == RECENT {
            runs.pop_front();
        }
        runs.push_back(run);
    }

    /// Where invocations run, for the status page.
    pub fn placement(&self) -> PlacementStatus {
        let recent = self
            .recent
            .lock()
            .unwrap_or_else(|broken| broken.into_inner());
        let (ran, recent) = (recent.1, recent.0.iter().rev().cloned().collect());
        let invocations = self.lock();
        PlacementStatus {
            mode: invocations.placement(),
            live_jobs: invocations.jobs_live(),
            waiting: invocations.load().waiting,
            creating_paused: invocations.jobs_paused(),
            ran,
            recent,
        }
    }

    /// Gives up attempts past their deadline, for as long as the dispatcher runs.
    pub async fn expire_attempts(&self) {
        let mut tick = tokio::time::interval(EXPIRY_TICK);
        loop {
            tick.tick().await;
            let before = self.load().failed;
            let now_ms = self.clock.now().mono_ms;
            let (parked, answers) = {
                let mut invocations = self.lock();
                let parked = invocations.roster.tick(now_ms);
                (parked, invocations.expire(now_ms))
            };
            self.send(answers);
            if parked || self.load().failed != before {
                self.wake();
            }
        }
    }

    fn send(&self, answers: impl IntoIterator<Item = Answer>) {
        for answer in answers {
            if let Some(shard) = self.shards().get(&answer.id.shard) {
                // A closed shard has discarded what this answers.
                let _ = shard.send(answer);
            }
        }
    }

    fn count(&self, kind: &'static str) {
        self.metrics.attempts.get_or_create(&Kind { kind }).inc();
    }

    /// Counts for the status page.
    pub fn load(&self) -> Load {
        self.lock().load()
    }

    /// Tells `count` of these workers to finish what they run and exit, the idle ones first, and says
    /// which. They are given nothing more from this moment on.
    pub fn dismiss(&self, names: &[Arc<str>], count: usize) -> Vec<Arc<str>> {
        let now_ms = self.clock.now().mono_ms;
        let told = self.lock().roster.dismiss_some(names, count, now_ms);
        // Those that wait are answered now; others look, find no work and wait again.
        self.wake();
        told
    }

    /// A worker says that it is about to leave.
    pub fn dismiss_one(&self, name: &str) {
        let now_ms = self.clock.now().mono_ms;
        self.lock().roster.dismiss(&Arc::from(name), now_ms);
        self.wake();
    }

    /// How many of these workers take batches.
    pub fn ready_of(&self, names: &[Arc<str>]) -> u32 {
        self.lock().roster.ready_of(names)
    }

    /// Workers that take batches, what has been done so far, and tuples that wait for a worker.
    pub fn work(&self) -> (u32, Done, u64) {
        let invocations = self.lock();
        let done = invocations.done(self.clock.now().mono_ms);
        (
            invocations.roster.ready(),
            done,
            invocations.waiting_tuples(),
        )
    }

    /// For some seconds `size` of the workers that can be parked are to stay at work; the others are
    /// parked as soon as they are idle. How many are what now.
    pub fn keep(&self, size: u32) -> Lot {
        let (parked, lot) = {
            let mut invocations = self.lock();
            let now_ms = self.clock.now().mono_ms;
            let parked = invocations.roster.keep(size, now_ms);
            (parked, invocations.roster.lot())
        };
        if parked {
            self.wake();
        }
        lot
    }

    /// Why nothing is handed out, if so.
    pub fn halted(&self) -> Option<String> {
        self.lock().halted().map(str::to_owned)
    }
}

/// A call of `next` in progress; ends with it even when the connection is dropped.
struct Waiting<'a> {
    invoker: &'a Invoker,
    worker: &'a Worker,
}

impl<'a> Waiting<'a> {
    fn new(invoker: &'a Invoker, worker: &'a Worker, parking: Parking) -> Self {
        let mut invocations = invoker.lock();
        invocations.waits(worker);
        let now_ms = invoker.clock.now().mono_ms;
        let parked = invocations.roster.waits_as(&worker.name, parking, now_ms);
        drop(invocations);
        if parked {
            // One that was woken for a batch may be parked now: somebody else has to look.
            invoker.wake();
        }
        Self { invoker, worker }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut invocations = self.invoker.lock();
        invocations.stopped_waiting(self.worker);
        let now_ms = self.invoker.clock.now().mono_ms;
        invocations
            .roster
            .stopped_waiting(&self.worker.name, now_ms);
    }
}

/// What was heard, unless a test has the answer to a create be lost.
fn heard(report: Report) -> Report {
    if report == Report::Created {
        fail::fail_point!("job.created", |_| {
            let lost = "the answer to a create was lost".to_owned();
            Report::Refused(crate::placement::Refusal::Unreachable, lost)
        });
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invocations::tests::{ID, sum, work, worker};
    use crate::shard::ChunkId;

    #[tokio::test]
    async fn an_answer_within_a_millisecond_is_measured() {
        let metrics = Arc::new(Metrics::default());
        let invoker = Invoker::new(
            Limits::default(),
            None,
            Clock::start(),
            Arc::clone(&metrics),
        );
        let me = worker("w");
        for slice in 0..50 {
            invoker.submit(work(ChunkId { slice, ..ID }, 1));
            let next = invoker.next(&me, 0, Parking::Unable, Duration::ZERO);
            let Next::Run(handout) = next.await else {
                panic!("a batch waits")
            };
            let answered = invoker.respond(handout.id, sum(&handout));
            assert!(matches!(answered, Response::Won), "{answered:?}");
        }
        let latency = metrics.invocation_latency();
        assert_eq!(latency.samples, 50);
        assert!(latency.p50_ms > 0.0, "{latency:?}");
    }
}

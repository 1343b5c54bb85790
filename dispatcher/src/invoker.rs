//! Where shards and workers meet: [`Invocations`] behind a lock that is held for microseconds,
//! with the clock read, waiters woken and answers sent on to their shards.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use windlass_functions::partial::Partials;

use crate::clock::Clock;
use crate::invocations::{
    AttemptId, Gone, Handout, Invocations, Limits, Load, Next, Taken, Worker,
};
use crate::metrics::{Kind, Metrics};
use crate::shard::{Answer, Work};

/// How often attempts are checked against their deadlines.
const EXPIRY_TICK: Duration = Duration::from_millis(200);

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
    shards: Mutex<BTreeMap<u32, mpsc::UnboundedSender<Answer>>>,
    clock: Clock,
    metrics: Arc<Metrics>,
}

impl Invoker {
    /// Nothing to run yet.
    pub fn new(limits: Limits, clock: Clock, metrics: Arc<Metrics>) -> Self {
        Self {
            invocations: Mutex::new(Invocations::new(limits)),
            submitted: Notify::new(),
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
        self.lock().retire(shard);
        self.shards().insert(shard, sender);
        receiver
    }

    /// A shard was closed: its chunks are forgotten.
    pub fn detach(&self, shard: u32) {
        self.lock().retire(shard);
        self.shards().remove(&shard);
    }

    /// Queues a chunk for the next worker.
    pub fn submit(&self, work: Work) {
        self.lock().submit(work);
        self.submitted.notify_one();
    }

    /// From now on workers are told to exit.
    pub fn drain(&self) {
        self.lock().drain();
        self.submitted.notify_waiters();
    }

    /// Waits up to `wait` for something to run. `connection` is 0 unless the worker promised to
    /// answer on the connection of this call.
    pub async fn next(&self, worker: &Worker, connection: u64, wait: Duration) -> Next {
        let _waiting = Waiting::new(self, worker);
        let give_up = self
            .clock
            .instant(self.clock.now().mono_ms + wait.as_millis() as u64);
        loop {
            // Registered before looking, so that nothing submitted in between is missed.
            let submitted = self.submitted.notified();
            let next = self
                .lock()
                .next(worker, connection, self.clock.now().mono_ms);
            let again = match next {
                Next::Nothing(again) => again.map(|ms| self.clock.instant(ms)),
                run_or_drain => return run_or_drain,
            };
            let wake = again.map_or(give_up, |again| again.min(give_up));
            tokio::select! {
                () = submitted => {}
                () = tokio::time::sleep_until(wake) => {
                    if wake == give_up {
                        return Next::Nothing(None);
                    }
                }
            }
        }
    }

    /// The attempt that a program was launched for, if its batch still waits.
    pub fn take(&self, id: AttemptId, worker: &Worker, connection: u64) -> Option<Handout> {
        self.lock()
            .take(id, worker, connection, self.clock.now().mono_ms)
    }

    /// A worker's answer.
    pub fn respond(&self, id: AttemptId, partials: Partials) -> Response {
        let (taken, since_ms) = {
            let mut invocations = self.lock();
            let now_ms = self.clock.now().mono_ms;
            let since_ms = invocations.since_ms(id).map(|since| now_ms - since);
            (invocations.respond(id, partials, now_ms), since_ms)
        };
        match taken {
            Taken::Won(answer) => {
                self.metrics.answered(since_ms.unwrap_or_default() as f64);
                self.send(answer);
                Response::Won
            }
            Taken::Conflict => {
                self.count("conflict");
                Response::Conflict
            }
            Taken::Invalid(reason) => {
                self.count("invalid");
                self.submitted.notify_one();
                Response::Invalid(reason)
            }
        }
    }

    /// A worker says that its function failed.
    pub fn fail(&self, id: AttemptId, error: String) {
        self.count("failed");
        let answer = self.lock().fail(id, error, self.clock.now().mono_ms);
        self.send(answer);
        self.submitted.notify_waiters();
    }

    /// A worker is gone.
    pub fn lost(&self, gone: &Gone) {
        let answers = self.lock().lost(gone, self.clock.now().mono_ms);
        self.send(answers);
        self.submitted.notify_waiters();
    }

    /// Gives up attempts past their deadline, for as long as the dispatcher runs.
    pub async fn expire_attempts(&self) {
        let mut tick = tokio::time::interval(EXPIRY_TICK);
        loop {
            tick.tick().await;
            let before = self.load().failed;
            let answers = self.lock().expire(self.clock.now().mono_ms);
            self.send(answers);
            if self.load().failed != before {
                self.submitted.notify_waiters();
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
    fn new(invoker: &'a Invoker, worker: &'a Worker) -> Self {
        invoker.lock().waits(worker);
        Self { invoker, worker }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.invoker.lock().stopped_waiting(self.worker);
    }
}

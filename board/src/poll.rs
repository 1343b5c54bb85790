//! The one poller of the process.
//!
//! Beside it the status is told once a second, however long the replicas take: a viewer knows by it that
//! the board lives.
//!
//! Every [`TICK`] it asks each replica how far it is (one statement). Only when something was
//! committed does it read a snapshot: of the windows that were not final before. A replay from
//! quarantine may change final ones: when the totals grew by other than these windows did, the whole
//! history is read with the next tick (but for [`AGAIN`] after the last time: a source that lags by more
//! than the history changes windows that are never shown), and once in [`WHOLE`] in any case.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use windlass_dispatcher::store::{Progress, ReplicaState, Replication, Snapshot};

use crate::ask::{self, Told};
use crate::dispatcher::Dispatcher;
use crate::jobs::Jobs;
use crate::live::Shared;
use crate::schema::{Placement, Replica, Status};
use crate::screen::{KEPT_MS, Screen};
use crate::trouble::{Failure, Growth, Seen, Troubles};

/// How often replicas are asked how far they are.
const TICK: Duration = Duration::from_millis(200);
/// How often the whole history is read again.
const WHOLE: Duration = Duration::from_secs(10);
/// How soon it is read once more where the totals ask for it.
const AGAIN: Duration = Duration::from_secs(1);
/// How often the status is sent.
const STATUS: Duration = Duration::from_secs(1);
/// Statuses kept: five minutes.
const KEPT: usize = 300;

/// Polls, and asks beside it, until it is dropped.
pub(crate) async fn run(shared: Arc<Shared>, dispatcher: Option<Dispatcher>) {
    let has_dispatcher = dispatcher.is_some();
    let (tell, told) = watch::channel(Arc::default());
    let asking = ask::run(&shared.reader, dispatcher, tell);
    let (tell, found) = watch::channel(Found::default());
    let mut poller = Poller {
        shared: Arc::clone(&shared),
        since: None,
        whole_at: now(),
        unexplained: false,
        again_at: now(),
        failure: None,
    };
    let mut reporter = Reporter {
        shared: Arc::clone(&shared),
        has_dispatcher,
        told,
        found,
        troubles: Troubles::default(),
        quarantined: Growth::default(),
        jobs: Jobs::default(),
    };
    tokio::join!(asking, poller.run(tell), reporter.run());
}

/// What a poll found, for the status.
#[derive(Clone, Default)]
struct Found {
    progress: Option<Progress>,
    failure: Option<Failure>,
}

struct Poller {
    shared: Arc<Shared>,
    /// Windows before this were final when last read.
    since: Option<i64>,
    whole_at: Instant,
    /// The totals grew by other than the windows that were read: others have changed, too.
    unexplained: bool,
    /// From when on they are looked for.
    again_at: Instant,
    failure: Option<Failure>,
}

impl Poller {
    async fn run(&mut self, tell: watch::Sender<Found>) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let progress = self.poll().await;
            self.shared.live().fresh = progress.is_some() && self.failure.is_none();
            tell.send_replace(Found {
                progress,
                failure: self.failure.clone(),
            });
        }
    }

    async fn poll(&mut self) -> Option<Progress> {
        let progress = self.shared.reader.probe().await;
        let Some(furthest) = progress else {
            self.failure = Some(Failure::NoReplica);
            return None;
        };
        let shown = self.shared.live().screen.totals().commits;
        let whole = now() >= self.whole_at || (self.unexplained && now() >= self.again_at);
        if furthest.commits == shown && !whole {
            return progress;
        }
        let history = Duration::from_millis(KEPT_MS.cast_unsigned());
        let since = if whole { None } else { self.since };
        match self.shared.reader.snapshot(history, since).await {
            Ok(snapshot) => {
                self.failure = (snapshot.progress.commits < shown && furthest.commits < shown)
                    .then_some(Failure::Restored);
                if snapshot.progress.commits >= shown {
                    self.since = snapshot.final_start;
                    if since.is_none() {
                        self.whole_at = now() + WHOLE;
                        self.again_at = now() + AGAIN;
                        self.unexplained = false;
                    } else {
                        let screen = Arc::clone(&self.shared.live().screen);
                        self.unexplained |= !screen.explains(&snapshot);
                    }
                    self.take(snapshot);
                }
            }
            Err(error) => self.failure = Some(Failure::Unread(error.to_string())),
        }
        progress
    }

    fn take(&self, snapshot: Snapshot) {
        let [counted, late, quarantined] = snapshot.outcomes;
        let newest = snapshot.newest;
        let mut screen = Screen::clone(&self.shared.live().screen);
        let frame = screen.take(snapshot);
        let mut live = self.shared.live();
        live.screen = Arc::new(screen);
        live.status.newest_window = newest;
        live.status.counted = Some(counted);
        live.status.late = Some(late);
        live.status.quarantined = Some(quarantined);
        if let Some(frame) = frame {
            self.shared.frames.fetch_add(1, Ordering::Relaxed);
            live.tell("frame", &frame);
        }
    }
}

/// Tells the status.
struct Reporter {
    shared: Arc<Shared>,
    has_dispatcher: bool,
    /// What dispatcher and scaler said last.
    told: watch::Receiver<Arc<Told>>,
    /// What the last poll found.
    found: watch::Receiver<Found>,
    troubles: Troubles,
    quarantined: Growth,
    jobs: Jobs,
}

impl Reporter {
    async fn run(&mut self) {
        // At first there is little to tell before a poll has ended.
        let _ = timeout(STATUS, self.found.changed()).await;
        let mut ticks = interval(STATUS);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.status();
        }
    }

    fn status(&mut self) {
        let Found { progress, failure } = self.found.borrow().clone();
        let told = Arc::clone(&self.told.borrow());
        let at = unix_ms();
        let replicas = self.shared.reader.replicas();
        let quarantined = self.shared.live().status.quarantined;
        // A poll that waits for all of them has not ended yet.
        let silent = replicas.iter().all(|replica| replica.skipped.is_some());
        let seen = Seen {
            replicas: &replicas,
            failure: failure.or(silent.then_some(Failure::NoReplica)),
            silent_ms: progress.and_then(|p| Some((p.now - p.seen_at?).max(0).cast_unsigned())),
            quarantined: quarantined.map_or(0, |count| self.quarantined.grown_to(count)),
            told: &told,
        };
        self.troubles.update(at, seen.troubles());
        let answer = told.answer.as_ref().and_then(|answer| answer.as_ref().ok());
        let running = told.scaler.as_ref().filter(|scaler| scaler.running);
        let desired = running.and_then(|scaler| scaler.desired);
        let operations = answer.map(|answer| answer.operations(told.at, desired));
        let placement = answer.and_then(|answer| answer.placement.as_ref());
        let placement = placement.map(|placed| {
            self.jobs.take(&placed.recent);
            Placement {
                mode: placed.mode.clone(),
                live_jobs: placed.live_jobs,
                creating_paused: placed.creating_paused.clone(),
                recent: placed.recent.clone(),
                jobs: self.jobs.runs(),
            }
        });

        let mut live = self.shared.live();
        let last = live.operations.back().map(|last| last.at);
        if let Some(operations) = operations.filter(|now| Some(now.at) != last) {
            if live.operations.len() == KEPT {
                live.operations.pop_front();
            }
            live.operations.push_back(operations);
        }
        if let Some(policy) = &told.policy {
            let shown = live.policy.as_ref();
            if shown.is_none_or(|shown| !Arc::ptr_eq(shown, policy)) {
                live.tell("policy", policy.as_ref());
                live.policy = Some(Arc::clone(policy));
            }
        }
        let known = !live.screen.server().is_empty();
        let windows_open = known.then(|| live.screen.open());
        live.status = Status {
            at,
            windows_open,
            replicas: replicas.into_iter().map(replica).collect(),
            has_dispatcher: self.has_dispatcher,
            operations,
            placement,
            scaler: told.scaler.clone(),
            troubles: self.troubles.now().to_vec(),
            ..live.status.clone()
        };
        live.tell("status", &live.status);
    }
}

fn replica(state: ReplicaState) -> Replica {
    Replica {
        server: state.server,
        skipped: state.skipped.map(|why| why.to_string()),
        commits: state.commits,
        age_ms: state.age_ms,
        behind_s: match state.replication {
            Replication::Behind(seconds) => Some(seconds),
            Replication::Unknown | Replication::Stopped(_) => None,
        },
    }
}

#[allow(clippy::disallowed_methods)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[allow(clippy::disallowed_methods)]
pub(crate) fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_millis() as i64
}

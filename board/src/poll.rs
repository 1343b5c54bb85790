//! The one poller of the process, and what it shares with the handlers.
//!
//! Every [`TICK`] it asks each replica how far it is (one statement). Only when something was
//! committed does it read a snapshot: of the windows that were not final before, and once in
//! [`WHOLE`] of the whole history, since a replay from quarantine may change final windows.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::{Semaphore, broadcast};
use tokio::time::{Instant, MissedTickBehavior, interval};
use windlass_dispatcher::store::{BoardReader, Progress};

use crate::dispatcher::{Answer, Dispatcher};
use crate::schema::{Operations, Replica, Status};
use crate::screen::{HISTORY_MS, Screen};
use crate::trouble::Troubles;

/// How often replicas are asked how far they are.
const TICK: Duration = Duration::from_millis(200);
/// How often the whole history is read again.
const WHOLE: Duration = Duration::from_secs(10);
/// How often the status is sent and the dispatcher asked.
const STATUS: Duration = Duration::from_secs(1);
/// Statuses kept: five minutes.
const KEPT: usize = 300;
/// Frames that a slow viewer may be behind before it is sent the whole anew.
const BACKLOG: usize = 64;
/// Silence of the shards' owners that counts as trouble, ms: twice the longest lease.
const SILENT_MS: u64 = 20_000;
/// Reads of the past at once.
const READS: usize = 4;

/// What the poller writes and the handlers read.
pub(crate) struct Shared {
    pub reader: BoardReader,
    pub live: Mutex<Live>,
    pub viewers: AtomicUsize,
    pub frames: AtomicU64,
    pub reads: Semaphore,
}

/// The page's state, and who is told of its changes.
pub(crate) struct Live {
    pub screen: Screen,
    pub status: Status,
    pub operations: VecDeque<Operations>,
    sender: broadcast::Sender<Bytes>,
}

impl Shared {
    pub fn new(reader: BoardReader) -> Self {
        Self {
            reader,
            live: Mutex::new(Live {
                screen: Screen::default(),
                status: Status::default(),
                operations: VecDeque::new(),
                sender: broadcast::channel(BACKLOG).0,
            }),
            viewers: 0.into(),
            frames: 0.into(),
            reads: Semaphore::new(READS),
        }
    }

    pub fn live(&self) -> MutexGuard<'_, Live> {
        self.live
            .lock()
            .unwrap_or_else(|broken| broken.into_inner())
    }
}

impl Live {
    /// Everything up to now, and what comes after it: no frame is missed or met twice.
    pub fn subscribe(&self) -> (Bytes, broadcast::Receiver<Bytes>) {
        (self.whole(), self.sender.subscribe())
    }

    /// Everything up to now, as events.
    pub fn whole(&self) -> Bytes {
        let mut bytes = event("whole", &self.screen.whole()).to_vec();
        bytes.extend_from_slice(&event("operations", &self.operations));
        bytes.extend_from_slice(&event("status", &self.status));
        bytes.into()
    }

    fn send(&self, bytes: Bytes) {
        // Nobody may be watching.
        let _ = self.sender.send(bytes);
    }
}

/// A server-sent event; JSON has no line breaks outside of strings, and escapes those within.
fn event(name: &str, value: &impl Serialize) -> Bytes {
    let json = serde_json::to_string(value).unwrap_or_default();
    format!("event: {name}\ndata: {json}\n\n").into()
}

/// Polls until it is dropped.
pub(crate) async fn run(shared: Arc<Shared>, dispatcher: Option<Dispatcher>) {
    let mut poller = Poller {
        shared,
        dispatcher,
        troubles: Troubles::default(),
        since: None,
        whole_at: now(),
        failure: None,
        quarantined: VecDeque::new(),
    };
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut status_at = now();
    loop {
        ticks.tick().await;
        let progress = poller.poll().await;
        if now() >= status_at {
            status_at = now() + STATUS;
            poller.status(progress).await;
        }
    }
}

struct Poller {
    shared: Arc<Shared>,
    dispatcher: Option<Dispatcher>,
    troubles: Troubles,
    /// Windows before this were final when last read.
    since: Option<i64>,
    whole_at: Instant,
    failure: Option<String>,
    /// What was in quarantine in the last minute.
    quarantined: VecDeque<u64>,
}

impl Poller {
    async fn poll(&mut self) -> Option<Progress> {
        let progress = self.shared.reader.probe().await;
        let Some(furthest) = progress else {
            self.failure = Some("store: no replica answers".into());
            return None;
        };
        let shown = self.shared.live().screen.totals().commits;
        let whole = now() >= self.whole_at;
        if furthest.commits == shown && !whole {
            return progress;
        }
        let history = Duration::from_millis(HISTORY_MS.cast_unsigned());
        let since = if whole { None } else { self.since };
        match self.shared.reader.snapshot(history, since).await {
            Ok(snapshot) => {
                self.failure = (snapshot.progress.commits < shown && furthest.commits < shown)
                    .then(|| {
                        "store: it holds fewer commits than are shown here: was it restored? \
                         Restart the board to show it"
                            .into()
                    });
                if snapshot.progress.commits >= shown {
                    self.since = snapshot.final_start;
                    if whole {
                        self.whole_at = now() + WHOLE;
                    }
                    self.take(snapshot);
                }
            }
            Err(error) => self.failure = Some(format!("store: {error}")),
        }
        progress
    }

    fn take(&self, snapshot: windlass_dispatcher::store::Snapshot) {
        let mut live = self.shared.live();
        let [counted, late, quarantined] = snapshot.outcomes;
        live.status.newest_window = snapshot.newest;
        (live.status.counted, live.status.late) = (counted, late);
        live.status.quarantined = quarantined;
        if let Some(frame) = live.screen.take(snapshot) {
            self.shared.frames.fetch_add(1, Ordering::Relaxed);
            live.send(event("frame", &frame));
        }
    }

    async fn status(&mut self, progress: Option<Progress>) {
        let answer = match &self.dispatcher {
            Some(dispatcher) => Some(dispatcher.ask().await),
            None => None,
        };
        let at = unix_ms();
        let replicas = self
            .shared
            .reader
            .replicas()
            .into_iter()
            .map(|state| Replica {
                server: state.server,
                skipped: state.skipped,
                commits: state.commits,
                age_ms: state.age_ms,
            });
        let replicas: Vec<Replica> = replicas.collect();
        let quarantined = self.shared.live().status.quarantined;
        let found = self.found(progress, &replicas, answer.as_ref(), quarantined);
        self.troubles.update(at, found);
        let operations = answer
            .as_ref()
            .and_then(|a| a.as_ref().ok())
            .map(|a| a.operations(at));

        let mut live = self.shared.live();
        if let Some(operations) = operations {
            if live.operations.len() == KEPT {
                live.operations.pop_front();
            }
            live.operations.push_back(operations);
        }
        let windows_open = live.screen.open();
        live.status = Status {
            at,
            windows_open,
            replicas,
            has_dispatcher: self.dispatcher.is_some(),
            operations,
            troubles: self.troubles.now().to_vec(),
            ..live.status.clone()
        };
        live.send(event("status", &live.status));
    }

    /// What is wrong now.
    fn found(
        &mut self,
        progress: Option<Progress>,
        replicas: &[Replica],
        answer: Option<&Result<Answer, String>>,
        quarantined: u64,
    ) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        for replica in replicas {
            if let Some(why) = &replica.skipped {
                found.push(("replica", format!("replica {}: {why}", replica.server)));
            }
        }
        found.extend(self.failure.iter().map(|why| ("store", why.clone())));
        match answer {
            Some(Err(why)) => found.push(("dispatcher", why.clone())),
            Some(Ok(answer)) => {
                found.extend(answer.troubles().map(|why| ("shard", why)));
                let halted = answer.halted.iter();
                found
                    .extend(halted.map(|why| ("halted", format!("no batch is handed out: {why}"))));
            }
            None => {}
        }
        let silent = progress.and_then(|p| p.seen_at.map(|at| (p.now - at).max(0).cast_unsigned()));
        if let Some(silent) = silent.filter(|&ms| ms > SILENT_MS) {
            let seconds = silent / 1_000;
            found.push(("stale", format!("stream: no sign of life for {seconds} s")));
        }
        if self.quarantined.len() == 60 {
            self.quarantined.pop_front();
        }
        self.quarantined.push_back(quarantined);
        let grown = quarantined.saturating_sub(self.quarantined.front().copied().unwrap_or(0));
        if grown > 0 {
            let text = format!("quarantine: grew by {grown} in the last minute");
            found.push(("quarantine", text));
        }
        found
    }
}

#[allow(clippy::disallowed_methods)]
fn now() -> Instant {
    Instant::now()
}

#[allow(clippy::disallowed_methods)]
fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_millis() as i64
}

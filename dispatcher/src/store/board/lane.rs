//! One replica that the page may be read from: its connections, and how it was found last.

use std::fmt;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::{Progress, Replication};
use crate::store::conn::Conn;
use crate::store::{Store, StoreError};

/// Connections kept open to a replica between uses.
const KEPT: usize = 4;
/// How much longer than the quickest a replica may take to say how far it is, and how long any may take
/// before it is skipped for it.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
/// For how long one that takes longer is not asked again.
const REST: Duration = Duration::from_secs(10);

/// Why a replica is skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Skipped {
    /// It has applied less than the newest one, for longer than is allowed.
    Lags {
        /// By so many commits.
        commits: u64,
        /// By so much of the primary's time, ms.
        ms: u64,
    },
    /// It does not answer, or not what it is asked; in words.
    Failed(String),
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lags { commits, ms } => write!(
                f,
                "lags {commits} commits and {ms} ms behind the newest replica: is its replication running?"
            ),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

/// A replica as the last use of it found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaState {
    /// Its URL without a password.
    pub server: String,
    /// Why it is skipped, if it is.
    pub skipped: Option<Skipped>,
    /// Commits of all shards that it had applied.
    pub commits: u64,
    /// Its clock minus the newest sign of life it has, ms: an upper bound of its lag.
    pub age_ms: Option<u64>,
    /// What it says of its replication.
    pub replication: Replication,
}

pub(super) struct Lane {
    pub(super) store: Store,
    idle: tokio::sync::Mutex<Vec<Conn>>,
    state: Mutex<ReplicaState>,
    rests_until: Mutex<Option<Instant>>,
    /// When it may be asked of its replication again, if not at once.
    tells_from: Mutex<Option<Instant>>,
}

impl Lane {
    pub(super) fn new(store: Store) -> Self {
        let state = ReplicaState {
            server: store.name().to_owned(),
            skipped: None,
            commits: 0,
            age_ms: None,
            replication: Replication::Unknown,
        };
        Self {
            store,
            idle: tokio::sync::Mutex::default(),
            state: Mutex::new(state),
            rests_until: Mutex::default(),
            tells_from: Mutex::default(),
        }
    }

    pub(super) fn state(&self) -> ReplicaState {
        lock(&self.state).clone()
    }

    /// Notes what a probe found: why it is skipped, if it is, and how far it has come, if it said so.
    pub(super) fn found(&self, skipped: Option<Skipped>, progress: Option<Progress>) {
        let mut state = lock(&self.state);
        state.skipped = skipped;
        if let Some(progress) = progress {
            state.commits = progress.commits;
            state.age_ms = progress
                .seen_at
                .map(|at| (progress.now - at).max(0).cast_unsigned());
        }
    }

    /// Skips it until a probe succeeds.
    pub(super) fn failed(&self, error: StoreError) -> StoreError {
        lock(&self.state).skipped = Some(Skipped::Failed(error.to_string()));
        error
    }

    /// Notes what it says of its replication.
    pub(super) fn replicates(&self, replication: Replication) {
        lock(&self.state).replication = replication;
    }

    /// Whether it may be asked of its replication.
    pub(super) fn tells(&self) -> bool {
        let from = *lock(&self.tells_from);
        !self.rests() && from.is_none_or(|from| Instant::now() >= from)
    }

    /// It has nothing to say of it, and is left alone with that for a while.
    pub(super) fn tells_nothing(&self, for_now: Duration) {
        *lock(&self.tells_from) = Some(Instant::now() + for_now);
        self.replicates(Replication::Unknown);
    }

    /// Whether it kept silent a moment ago.
    pub(super) fn rests(&self) -> bool {
        let until = *lock(&self.rests_until);
        until.is_some_and(|until| Instant::now() < until)
    }

    /// Asks it again in any case.
    pub(super) fn rouse(&self) {
        *lock(&self.rests_until) = None;
    }

    /// Waits for an answer of it, but once another has `answered` not for long: then it rests. While it
    /// keeps silent it is skipped, whoever waits for it.
    pub(super) async fn unless_late<T>(
        &self,
        mut answered: watch::Receiver<()>,
        ask: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let late = async {
            // Gone when nobody else will answer.
            if answered.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(PATIENCE).await;
        };
        let silent = async {
            tokio::time::sleep(PATIENCE).await;
            self.keeps_silent();
            std::future::pending::<std::convert::Infallible>().await
        };
        tokio::select! {
            biased;
            answer = ask => answer,
            never = silent => match never {},
            () = late => {
                *lock(&self.rests_until) = Some(Instant::now() + REST);
                self.replicates(Replication::Unknown);
                Err(StoreError::Unreachable(format!(
                    "no answer from {} for {} s longer than from others: is the server running, and does the \
                     network lead to it?",
                    self.store.name(),
                    PATIENCE.as_secs()
                )))
            }
        }
    }

    fn keeps_silent(&self) {
        let why = format!(
            "no answer from {} for {} s: is the server running, and does the network lead to it?",
            self.store.name(),
            PATIENCE.as_secs()
        );
        lock(&self.state)
            .skipped
            .get_or_insert(Skipped::Failed(why));
    }

    pub(super) async fn open(&self) -> Result<Conn, StoreError> {
        let kept = self.idle.lock().await.pop();
        match kept {
            Some(conn) => Ok(conn),
            None => self.store.open_migrated().await,
        }
    }

    pub(super) async fn keep(&self, conn: Conn) {
        let mut idle = self.idle.lock().await;
        if conn.is_open() && idle.len() < KEPT {
            idle.push(conn);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|broken| broken.into_inner())
}

//! Writes the scaler's rows behind its back, and looks for tables that somebody has brought in: a
//! database that is slow or away holds up no decision.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::warn;
use windlass_dispatcher::store::{DecisionRow, Followed, Journal, ScalerState, TableRow};

/// Rows that may wait for the database; a decision a second fills it in four minutes.
const WAITING: usize = 256;
/// Between two tries of a row.
const PAUSE: Duration = Duration::from_secs(1);
/// Tries after which a row is given up: it may be the row's own fault.
const TRIES: usize = 120;
/// How long the last rows may take when the scaler ends.
const LAST: Duration = Duration::from_secs(5);
/// How often old decisions are deleted.
const TIDY: Duration = Duration::from_secs(600);
/// How often tables are looked for that somebody has brought in.
const LOOK: Duration = Duration::from_secs(2);
/// For how long decisions are kept, ms.
const KEPT_MS: i64 = 7 * 86_400_000;
/// Decisions deleted in one go.
const PORTION: u32 = 5_000;

/// What is to be kept.
pub enum Entry {
    /// A decision, and the reward of an earlier one.
    Decided(Box<DecisionRow>, Option<Followed>),
    /// A table.
    Table(Box<TableRow>),
    /// The state.
    State(Box<ScalerState>),
}

/// A writer at work.
pub struct Writer {
    entries: mpsc::Sender<Entry>,
    task: JoinHandle<()>,
    dropped: u64,
}

impl Writer {
    /// Starts to write to a journal. Tables that are brought in after version `newest` of an agent
    /// come out of the receiver.
    pub fn start(
        journal: Journal,
        newest: Vec<(&'static str, u64)>,
    ) -> (Self, mpsc::UnboundedReceiver<TableRow>) {
        let (entries, waiting) = mpsc::channel(WAITING);
        let (bring, brought) = mpsc::unbounded_channel();
        let task = tokio::spawn(write(journal, waiting, newest, bring));
        let writer = Self {
            entries,
            task,
            dropped: 0,
        };
        (writer, brought)
    }

    /// Hands an entry over; when too many wait it is dropped and counted.
    pub fn keep(&mut self, entry: Entry) {
        if self.entries.try_send(entry).is_err() {
            self.dropped += 1;
        }
    }

    /// Entries that were dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Writes what waits, within a few seconds.
    pub async fn finish(self) {
        drop(self.entries);
        let mut task = self.task;
        if tokio::time::timeout(LAST, &mut task).await.is_err() {
            task.abort();
            warn!("the scaler's last rows could not be written in time");
        }
    }
}

async fn write(
    mut journal: Journal,
    mut waiting: mpsc::Receiver<Entry>,
    mut newest: Vec<(&'static str, u64)>,
    bring: mpsc::UnboundedSender<TableRow>,
) {
    let mut look = tokio::time::interval(LOOK);
    let mut tidy = tokio::time::interval(TIDY);
    loop {
        let entry = tokio::select! {
            biased;
            entry = waiting.recv() => entry,
            _ = look.tick() => {
                for (agent, version) in &mut newest {
                    if let Ok(Some(row)) = journal.brought_in(agent, *version).await {
                        *version = row.version;
                        // A scaler that ends takes nothing more.
                        let _ = bring.send(row);
                    }
                }
                continue;
            }
            _ = tidy.tick() => {
                // What cannot be deleted now is deleted later.
                let _ = journal.forget(unix_ms() - KEPT_MS, PORTION).await;
                continue;
            }
        };
        let Some(entry) = entry else { return };
        let mut failures = 0;
        while let Err(error) = carry_out(&mut journal, &entry).await {
            failures += 1;
            if !error.is_transient() || failures == TRIES {
                warn!("a row of the scaler is lost: {error}");
                break;
            }
            if failures == 1 {
                warn!("the scaler's rows wait for the database: {error}");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn carry_out(
    journal: &mut Journal,
    entry: &Entry,
) -> Result<(), windlass_dispatcher::store::StoreError> {
    match entry {
        Entry::Decided(row, followed) => journal.decided(row, *followed).await,
        Entry::Table(row) => journal.save_table(row).await.map(|_| ()),
        Entry::State(state) => journal.alive(state).await,
    }
}

#[allow(clippy::disallowed_methods)]
fn unix_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap_or_default().as_millis() as i64
}

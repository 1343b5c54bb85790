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
/// How often tables are looked for that somebody has brought in.
const LOOK: Duration = Duration::from_secs(2);

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

#[cfg(test)]
mod tests {
    use windlass_dispatcher::store::Store;
    use windlass_functions::stream::Stream;

    use super::*;

    async fn bring(journal: &mut Journal, brought: &mut mpsc::UnboundedReceiver<TableRow>) {
        let row = TableRow {
            agent: "elastic".into(),
            kind: "import".into(),
            ..TableRow::default()
        };
        let version = journal.save_table(&row).await.unwrap();
        assert_eq!(brought.recv().await.unwrap().version, version);
    }

    #[tokio::test]
    async fn a_decision_of_long_ago_is_left_to_whoever_is_to_remove_it() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", directory.path().join("w.sqlite").display());
        let (store, stream) = (Store::connect(&url).await.unwrap(), Stream::default());
        store.migrate(&stream, 1).await.unwrap();
        let mut journal = store.journal(&stream);
        let old = DecisionRow {
            run: 1_000,
            no: 1,
            ..DecisionRow::default()
        };
        journal.decided(&old, None).await.unwrap();
        let newest = vec![("elastic", 0)];
        let (writer, mut brought) = Writer::start(store.journal(&stream), newest);
        // Whatever the writer does beside writing, it has done it when it has looked twice.
        bring(&mut journal, &mut brought).await;
        bring(&mut journal, &mut brought).await;
        writer.finish().await;
        assert_eq!(journal.runs(2).await.unwrap(), [(1_000, 1)]);
    }
}

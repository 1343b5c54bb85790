//! Runs of datagen: who published what, when, and the manifest by which a run can be checked.
//!
//! A run has one row, whoever carries it out and however often it is started: the first attempt
//! fixes its options, a later one takes them up again and publishes the same tuples under the same
//! numbers. Manifests of any size are kept in parts.

use serde::Serialize;

use super::conn::{Conn, DbError, READ_TIMEOUT};
use super::row::Row;
use super::sql::{Dialect, hex, inserts, time_or_null};
use super::{Store, StoreError};

/// Bytes of a manifest in one row: a `BLOB` holds 64 KiB.
const PART_BYTES: usize = 48 << 10;

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// It is published, or whoever did so died.
    Running,
    /// It is through, and its manifest is kept.
    Finished,
    /// It was stopped, and may be taken up again; its manifest holds what was confirmed by then.
    Interrupted,
}

impl RunState {
    const ALL: [Self; 3] = [Self::Running, Self::Finished, Self::Interrupted];

    /// The word that the database keeps.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Interrupted => "interrupted",
        }
    }
}

/// A run as the database has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunRow {
    /// Its name.
    pub run: String,
    /// The stream that it publishes to.
    pub stream: String,
    /// What was asked for.
    #[serde(skip)]
    pub request: String,
    /// What the first attempt made of that.
    #[serde(skip)]
    pub options: String,
    /// How often it was started.
    pub attempt: u32,
    /// How it stands.
    pub state: RunState,
    /// When the first attempt began, ms UTC by the database's clock.
    pub started_at: i64,
    /// For how long it has shown no sign of life, ms.
    #[serde(skip)]
    pub silent_ms: u64,
    /// How long ago the first attempt began, ms.
    #[serde(skip)]
    pub age_ms: u64,
    /// When it ended, ms UTC.
    pub ended_at: Option<i64>,
    /// How many distinct tuples were confirmed.
    pub orders: u64,
    /// Start of its first window, ms UTC.
    pub first_window: Option<i64>,
    /// Start of its last window, ms UTC.
    pub last_window: Option<i64>,
    #[serde(skip)]
    parts: u32,
}

/// What somebody who wants to carry out a run is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// Publish with the options in this row; they are another attempt's if it is not the first.
    Yours(RunRow),
    /// Nothing: this very run is through.
    Ended(RunRow),
    /// Nothing: another request has the name.
    Taken(RunRow),
}

/// The end of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunEnd {
    /// Whether it was stopped before it was through.
    pub interrupted: bool,
    /// How many distinct tuples were confirmed.
    pub orders: u64,
    /// Starts of its first and last window, ms UTC.
    pub windows: Option<(i64, i64)>,
}

impl Store {
    /// Enters run `name`, or takes it up again: `request` says what is asked for and tells runs of
    /// one name apart, `options` what the first attempt makes of it. Both are texts of at most 2,000
    /// characters.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn claim_run(
        &self,
        stream: &str,
        name: &str,
        request: &str,
        options: &str,
    ) -> Result<Claimed, StoreError> {
        let mut conn = self.open_migrated().await?;
        let dialect = conn.dialect();
        let (now, text) = (dialect.now(), |text: &str| dialect.text(text));
        let which = which(dialect, stream, name);
        let insert = format!(
            "INSERT INTO datagen_runs (stream, run, request, options, attempt, state, started_at, seen_at) \
             VALUES ({}, {}, {}, {}, 1, 'running', {now}, {now})",
            text(stream),
            text(name),
            text(request),
            text(options),
        );
        let first = match conn.execute(&insert).await {
            Ok(_) => true,
            Err(error) if error.is_duplicate() => false,
            Err(error) => return Err(error.into()),
        };
        if !first {
            let again = format!(
                "UPDATE datagen_runs SET attempt = attempt + 1, seen_at = {now}, state = 'running' \
                 WHERE {which} AND request = {} AND state <> 'finished'",
                text(request),
            );
            conn.execute(&again).await?;
        }
        let found = select(&mut conn, &which).await?.pop();
        conn.close().await;
        let row = found.ok_or_else(|| {
            StoreError::Failed(anyhow::anyhow!("run {name:?} was deleted while it began"))
        })?;
        Ok(match row.state {
            _ if row.request != request => Claimed::Taken(row),
            RunState::Finished => Claimed::Ended(row),
            RunState::Running | RunState::Interrupted => Claimed::Yours(row),
        })
    }

    /// Shows that run `name` is alive.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn touch_run(&self, stream: &str, name: &str) -> Result<(), StoreError> {
        let mut conn = self.open_migrated().await?;
        let dialect = conn.dialect();
        let (which, now) = (which(dialect, stream, name), dialect.now());
        conn.execute(&format!(
            "UPDATE datagen_runs SET seen_at = {now} WHERE {which}"
        ))
        .await?;
        conn.close().await;
        Ok(())
    }

    /// Keeps the manifest of run `name`, then marks the run as ended; again harmless.
    ///
    /// # Errors
    /// If the database does not answer; then the run counts as running.
    pub async fn end_run(
        &self,
        stream: &str,
        name: &str,
        manifest: &[u8],
        end: &RunEnd,
    ) -> Result<(), StoreError> {
        let mut conn = self.open_migrated().await?;
        let dialect = conn.dialect();
        let which = which(dialect, stream, name);
        conn.execute(&format!("DELETE FROM datagen_manifests WHERE {which}"))
            .await?;
        let parts = manifest.chunks(PART_BYTES).enumerate();
        let of = format!("{}, {}", dialect.text(stream), dialect.text(name));
        let rows = parts.map(|(part, content)| format!("({of}, {part}, {})", hex(content)));
        let head = "INSERT INTO datagen_manifests (stream, run, part, content)";
        for statement in inserts(head, rows, "", conn.packet() / 2) {
            conn.execute(&statement).await?;
        }
        let state = if end.interrupted {
            RunState::Interrupted
        } else {
            RunState::Finished
        };
        let now = dialect.now();
        conn.execute(&format!(
            "UPDATE datagen_runs SET state = '{}', seen_at = {now}, ended_at = {now}, orders = {}, \
             parts = {}, first_window = {}, last_window = {} WHERE {which}",
            state.as_str(),
            end.orders,
            manifest.len().div_ceil(PART_BYTES),
            time_or_null(end.windows.map(|(first, _)| first)),
            time_or_null(end.windows.map(|(_, last)| last)),
        ))
        .await?;
        conn.close().await;
        Ok(())
    }

    /// Run `name`, if there is one.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn run(&self, stream: &str, name: &str) -> Result<Option<RunRow>, StoreError> {
        let mut conn = self.open_migrated().await?;
        let which = which(conn.dialect(), stream, name);
        let mut found = select(&mut conn, &which).await?;
        conn.close().await;
        Ok(found.pop())
    }

    /// All runs of a stream, oldest first.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn runs(&self, stream: &str) -> Result<Vec<RunRow>, StoreError> {
        let mut conn = self.open_migrated().await?;
        let of = format!("stream = {}", conn.dialect().text(stream));
        let rows = select(&mut conn, &of).await?;
        conn.close().await;
        Ok(rows)
    }

    /// What [`Store::end_run`] was given.
    ///
    /// # Errors
    /// If the database does not answer, or a part is missing.
    pub async fn run_manifest(&self, run: &RunRow) -> Result<Vec<u8>, StoreError> {
        let mut conn = self.open_migrated().await?;
        let sql = format!(
            "SELECT content FROM datagen_manifests WHERE {} ORDER BY part",
            which(conn.dialect(), &run.stream, &run.run)
        );
        let rows = conn.rows_within(READ_TIMEOUT, &sql).await?;
        conn.close().await;
        if rows.len() != run.parts as usize {
            return Err(StoreError::Failed(anyhow::anyhow!(
                "expected {} parts of the manifest of run {:?}, found {}: restore the table \
                 datagen_manifests from a backup",
                run.parts,
                run.run,
                rows.len()
            )));
        }
        Ok(rows
            .iter()
            .flat_map(|row| row.bytes(0).unwrap_or_default())
            .copied()
            .collect())
    }
}

/// The condition that selects a run's rows.
fn which(dialect: Dialect, stream: &str, name: &str) -> String {
    format!(
        "stream = {} AND run = {}",
        dialect.text(stream),
        dialect.text(name)
    )
}

async fn select(conn: &mut Conn, which: &str) -> Result<Vec<RunRow>, StoreError> {
    let now = conn.dialect().now();
    let now = match conn.dialect() {
        // A column's type, as the others have it.
        Dialect::MySql | Dialect::MariaDb => format!("CAST({now} AS DATETIME(3))"),
        Dialect::Sqlite => now.to_owned(),
    };
    let sql = format!(
        "SELECT run, stream, request, options, attempt, state, started_at, seen_at, ended_at, orders, \
         parts, first_window, last_window, {now} FROM datagen_runs WHERE {which} ORDER BY started_at, run"
    );
    let rows = conn.rows(&sql).await?;
    let rows: Result<_, DbError> = rows.iter().map(run_row).collect();
    Ok(rows?)
}

fn run_row(row: &Row) -> Result<RunRow, DbError> {
    let now = row.time(13)?;
    let since = |at: i64| (now - at).max(0).cast_unsigned();
    let (started_at, seen_at) = (row.time(6)?, row.time(7)?);
    Ok(RunRow {
        run: row.text(0)?,
        stream: row.text(1)?,
        request: row.text(2)?,
        options: row.text(3)?,
        attempt: row.u32(4)?,
        state: row.parsed(5, "the state of a run", |text| {
            RunState::ALL
                .into_iter()
                .find(|state| state.as_str() == text)
        })?,
        started_at,
        silent_ms: since(seen_at),
        age_ms: since(started_at),
        ended_at: row.opt_time(8)?,
        orders: row.u64(9)?,
        parts: row.u32(10)?,
        first_window: row.opt_time(11)?,
        last_window: row.opt_time(12)?,
    })
}

//! Removing what is old, in small portions, beside owners that go on writing.
//!
//! Rows go only once they are final, and the bound below which they go is recorded first, under the
//! lock of every shard: a commit that comes later knows it, one that came earlier has written what
//! the removal then finds. So a replay of an old tuple changes the totals only. The ledger stays
//! for ever: it is what exactly once rests on.

use std::time::Duration;

use windlass_functions::stream::Stream;
use windlass_functions::window;

use super::conn::{CALL_TIMEOUT, Conn, DbError};
use super::sql::{Dialect, stream_key, time};
use super::{Store, StoreError};

/// Rows deleted by one statement: few enough that no other transaction waits long for its locks.
const PORTION: u64 = 2_000;
/// How often a portion that lost against other transactions is tried again.
const ATTEMPTS: u32 = 5;

/// What has an age to go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Old {
    /// Rows of `results` whose windows started so long ago and are final.
    Rows,
    /// Rows of `outcomes`, settled so long ago, whose windows' rows are gone, too.
    Outcomes,
    /// Rows of `commit_log`, where invocations ran, by when they were committed.
    Placements,
    /// Rows of `scaler_decisions`, by when they were taken.
    Decisions,
    /// Runs of datagen that showed their last sign of life so long ago, with their manifests.
    Runs,
}

impl Store {
    /// The start of the oldest window whose rows are kept, ms UTC; `None` if none were removed.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn retained_from(&self, stream: &Stream) -> Result<Option<i64>, StoreError> {
        let mut conn = self.open_migrated().await?;
        let bound = read(&mut conn, stream).await?;
        conn.close().await;
        Ok(bound)
    }

    /// Removes what is older than `keep`, by the database's clock; says how many rows that were.
    /// Stopped in between, it has removed a part; begun again, it goes on.
    ///
    /// # Errors
    /// If the database does not answer, or has no such stream.
    pub async fn remove_old(
        &self,
        stream: &Stream,
        what: Old,
        keep: Duration,
    ) -> Result<u64, StoreError> {
        let mut conn = self.open_migrated().await?;
        let removed = match what {
            Old::Rows => rows(&mut conn, stream, keep).await,
            Old::Outcomes => outcomes(&mut conn, stream, keep).await,
            Old::Placements => placements(&mut conn, stream, keep).await,
            Old::Decisions => self.decisions(&mut conn, stream, keep).await,
            Old::Runs => runs(&mut conn, stream, keep).await,
        };
        conn.close().await;
        removed
    }

    /// By way of the journal, which makes the scaler's tables where there are none yet.
    async fn decisions(
        &self,
        conn: &mut Conn,
        stream: &Stream,
        keep: Duration,
    ) -> Result<u64, StoreError> {
        let keep = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
        let before = now(conn).await?.saturating_sub(keep);
        let mut journal = self.journal(stream);
        let mut removed = 0;
        loop {
            let rows = journal.forget(before, PORTION as u32).await?;
            removed += rows;
            if rows < PORTION {
                return Ok(removed);
            }
        }
    }
}

async fn rows(conn: &mut Conn, stream: &Stream, keep: Duration) -> Result<u64, StoreError> {
    let Some(bound) = raise(conn, stream, keep).await? else {
        return Ok(0);
    };
    let of = stream_key(conn.dialect(), stream);
    let old = format!("{of} AND window_start < {bound}");
    let key = "stream, query, window_start, item_key, shard";
    remove(conn, "results", key, &old).await
}

async fn outcomes(conn: &mut Conn, stream: &Stream, keep: Duration) -> Result<u64, StoreError> {
    let bound = read(conn, stream).await?.and_then(time);
    let of = stream_key(conn.dialect(), stream);
    let gone = match bound {
        // The audit subtracts these from the windows that are left.
        Some(bound) => format!("(window_start IS NULL OR window_start < {bound})"),
        None => "window_start IS NULL".into(),
    };
    let old = format!("{of} AND at < {} AND {gone}", before(conn, keep).await?);
    remove(conn, "outcomes", "stream, query, source, seq", &old).await
}

async fn placements(conn: &mut Conn, stream: &Stream, keep: Duration) -> Result<u64, StoreError> {
    let of = stream_key(conn.dialect(), stream);
    let old = format!("{of} AND committed_at < {}", before(conn, keep).await?);
    let key = "stream, query, shard, commit_no, slice, window_start, chunk, part";
    remove(conn, "commit_log", key, &old).await
}

async fn runs(conn: &mut Conn, stream: &Stream, keep: Duration) -> Result<u64, StoreError> {
    let (of, before) = (conn.dialect().text(&stream.name), before(conn, keep).await?);
    let old = format!("stream = {of} AND seen_at < {before}");
    let manifests = format!("stream = {of} AND run IN (SELECT run FROM datagen_runs WHERE {old})");
    remove(conn, "datagen_manifests", "stream, run, part", &manifests).await?;
    remove(conn, "datagen_runs", "stream, run", &old).await
}

async fn read(conn: &mut Conn, stream: &Stream) -> Result<Option<i64>, DbError> {
    let of = stream_key(conn.dialect(), stream);
    let sql = format!("SELECT retained_from FROM retention WHERE {of}");
    let rows = conn.rows(&sql).await?;
    rows.first().map(|row| row.time(0)).transpose()
}

/// The literal of the database's time, `keep` ago.
async fn before(conn: &mut Conn, keep: Duration) -> Result<String, StoreError> {
    let now = now(conn).await?;
    let keep = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
    // Older than every date: nothing is.
    Ok(time(now.saturating_sub(keep)).unwrap_or_else(|| "'1000-01-01 00:00:00.000'".into()))
}

async fn now(conn: &mut Conn) -> Result<i64, DbError> {
    let now = conn.dialect().now();
    let sql = match conn.dialect() {
        Dialect::Sqlite => format!("SELECT {now}"),
        _ => format!("SELECT CAST({now} AS DATETIME(3))"),
    };
    let rows = conn.rows(&sql).await?;
    let row = rows.first();
    row.ok_or_else(|| DbError::Answer("no time".into()))?
        .time(0)
}

/// Raises the bound as far as age and finality allow, and returns it as a literal; `None` if nothing
/// is final yet.
async fn raise(
    conn: &mut Conn,
    stream: &Stream,
    keep: Duration,
) -> Result<Option<String>, StoreError> {
    let of = stream_key(conn.dialect(), stream);
    let mut attempt = 0;
    loop {
        attempt += 1;
        match try_raise(conn, stream, &of, keep).await {
            Err(error) if error.is_contention() && attempt < ATTEMPTS => conn.rollback().await,
            Err(error) => return Err(error.into()),
            Ok(Raised::NoStream) => {
                conn.rollback().await;
                return Err(StoreError::Schema(format!(
                    "the database has no stream {:?} with query {:?}: run `windlass migrate` first",
                    stream.name, stream.query
                )));
            }
            Ok(Raised::NothingFinal) => {
                conn.rollback().await;
                return Ok(None);
            }
            Ok(Raised::To(bound)) => return Ok(Some(bound)),
        }
    }
}

enum Raised {
    NoStream,
    NothingFinal,
    To(String),
}

async fn try_raise(
    conn: &mut Conn,
    stream: &Stream,
    of: &str,
    keep: Duration,
) -> Result<Raised, DbError> {
    // Every shard's row is ours until the bound is committed: no commit is on its way meanwhile.
    let lock = format!("UPDATE shards SET misrouted = misrouted WHERE {of}");
    if conn.begin_with(&lock).await? == 0 {
        return Ok(Raised::NoStream);
    }
    let sql =
        format!("SELECT MIN(final_before), COUNT(final_before), COUNT(*) FROM shards WHERE {of}");
    let found = conn.rows(&sql).await?;
    let row = found
        .first()
        .ok_or_else(|| DbError::Answer("no row of an aggregate".into()))?;
    let all = row.u64(1)? == row.u64(2)?;
    let Some(final_before) = row.opt_time(0)?.filter(|_| all) else {
        return Ok(Raised::NothingFinal);
    };
    let keep = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
    let old = now(conn).await?.saturating_sub(keep);
    // A window that starts below an aligned bound ends at or below it.
    let bound = window::start_of(old.min(final_before), stream.window_ms);
    let bound = bound.max(read(conn, stream).await?.unwrap_or(i64::MIN));
    let Some(bound) = time(bound) else {
        return Ok(Raised::NothingFinal);
    };
    let dialect = conn.dialect();
    let upsert = format!(
        "INSERT INTO retention (stream, query, retained_from) VALUES ({}, {}, {bound}){}retained_from = {}",
        dialect.text(&stream.name),
        dialect.text(&stream.query),
        dialect.on_conflict("stream, query"),
        dialect.proposed("retained_from"),
    );
    conn.execute(&upsert).await?;
    conn.execute("COMMIT").await?;
    Ok(Raised::To(bound))
}

/// Deletes the rows of `table` that are `old`, portion by portion, with as long a pause after each as
/// it took, so that owners never wait for more than one.
async fn remove(conn: &mut Conn, table: &str, key: &str, old: &str) -> Result<u64, StoreError> {
    let delete = match conn.dialect() {
        Dialect::Sqlite => format!(
            "DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} WHERE {old} LIMIT {PORTION})"
        ),
        _ => format!("DELETE FROM {table} WHERE {old} LIMIT {PORTION}"),
    };
    let (mut removed, mut lost) = (0, 0);
    loop {
        let begun = tokio::time::Instant::now();
        match conn.execute(&delete).await {
            Err(error) if error.is_contention() && lost < ATTEMPTS => lost += 1,
            Err(error) => return Err(error.into()),
            Ok(rows) => {
                (removed, lost) = (removed + rows, 0);
                if rows < PORTION {
                    return Ok(removed);
                }
            }
        }
        tokio::time::sleep(begun.elapsed().min(CALL_TIMEOUT)).await;
    }
}

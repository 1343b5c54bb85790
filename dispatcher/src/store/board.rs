//! What a live page reads: one snapshot a poll, and steps of the past, from replicas in turn.
//!
//! A snapshot is one read transaction on one server, so that windows, totals and progress agree
//! with each other. A replica that does not answer, or that has applied less than the newest one
//! for longer than is allowed, is skipped, and [`ReplicaState`] says why. Nothing here writes, and
//! nothing here asks a primary unless its URL was given as a replica's.

mod lane;
mod replication;
mod scaler;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use windlass_functions::stream::Stream;

use super::conn::{Conn, DbError};
use super::read::{GmvQuery, GmvRow, TotalRow, gmv_row, measures, total_row};
use super::row::Row;
use super::sql::{Dialect, stream_key, time};
use super::{Store, StoreError, tables};

use lane::{Lane, PATIENCE};

pub use lane::{ReplicaState, Skipped};
pub use replication::Replication;
pub use scaler::{ChoiceSeen, ScalerSeen, TableSeen};

/// How long one statement for the page may take.
const PAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// Width of a step of the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// The windows themselves.
    Second,
    /// Sixty seconds, aligned to the minute.
    Minute,
    /// An hour, aligned.
    Hour,
}

impl Step {
    /// The start of the step that `r.window_start` belongs to, as SQL.
    fn start(self, dialect: Dialect) -> &'static str {
        match (self, dialect) {
            (Self::Second, _) => "r.window_start",
            (Self::Minute, Dialect::Sqlite) => "SUBSTR(r.window_start, 1, 16) || ':00.000'",
            (Self::Hour, Dialect::Sqlite) => "SUBSTR(r.window_start, 1, 13) || ':00:00.000'",
            // The percent signs are the server's, which sees the text as it stands here.
            (Self::Minute, _) => "DATE_FORMAT(r.window_start, '%Y-%m-%d %H:%i:00.000')",
            (Self::Hour, _) => "DATE_FORMAT(r.window_start, '%Y-%m-%d %H:00:00.000')",
        }
    }
}

/// How far a server's copy of the stream has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Commits of all shards together: a copy with more of them is newer.
    pub commits: u64,
    /// The newest sign of life of any shard's owner, ms UTC of the primary's clock.
    pub seen_at: Option<i64>,
    /// The answering server's clock, ms UTC.
    pub now: i64,
}

/// Everything that the live page shows, at one moment of one server.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// How far this copy has come.
    pub progress: Progress,
    /// Start of the newest window, ms UTC.
    pub newest: Option<i64>,
    /// Windows that start at or before this are final, ms UTC.
    pub final_start: Option<i64>,
    /// Rows of `gmv_per_second` from [`Self::from`] on.
    pub windows: Vec<GmvRow>,
    /// From where `windows` is complete, ms UTC.
    pub from: i64,
    /// Rows of `gmv_total`.
    pub totals: Vec<TotalRow>,
    /// Tuples counted, late and quarantined in all, from the ledger.
    pub outcomes: [u64; 3],
    /// The server that gave all this, without a password.
    pub server: String,
}

/// Reads for the page, from replicas in turn.
pub struct BoardReader {
    lanes: Vec<Lane>,
    next: AtomicUsize,
    stream: Stream,
    max_lag_ms: i64,
    read_limit: Duration,
    statements: AtomicU64,
}

impl BoardReader {
    /// A reader that connects when it is asked. A replica that is more than `max_lag` behind the
    /// one that is furthest is skipped. A read of the past may take `read_limit`.
    ///
    /// # Errors
    /// If a URL is not one of a store, or there is none.
    pub fn new(
        urls: &[String],
        stream: &Stream,
        max_lag: Duration,
        read_limit: Duration,
    ) -> Result<Self, StoreError> {
        if urls.is_empty() {
            return Err(StoreError::Url(
                "expected at least one replica to read from, got none".into(),
            ));
        }
        let lane = |url: &String| Store::parse(url).map(Lane::new);
        Ok(Self {
            lanes: urls.iter().map(lane).collect::<Result<_, _>>()?,
            next: 0.into(),
            stream: stream.clone(),
            max_lag_ms: i64::try_from(max_lag.as_millis()).unwrap_or(i64::MAX),
            read_limit,
            statements: 0.into(),
        })
    }

    /// Statements sent to databases so far.
    pub fn statements(&self) -> u64 {
        self.statements.load(Ordering::Relaxed)
    }

    /// Every replica as it was last found.
    pub fn replicas(&self) -> Vec<ReplicaState> {
        self.lanes.iter().map(Lane::state).collect()
    }

    /// Asks every replica how far it is; those that lag or do not answer are skipped until the
    /// next call. The progress of the furthest, or `None` if none answers. One that keeps silent when
    /// another has answered is not waited for, and not asked again for a while.
    pub async fn probe(&self) -> Option<Progress> {
        let asked: Vec<&Lane> = self.lanes.iter().filter(|lane| !lane.rests()).collect();
        let (answered, _) = watch::channel(());
        let answers = asked.iter().map(|lane| {
            let ask = async {
                let mut conn = lane.open().await?;
                let progress = self.progress(&mut conn).await?;
                lane.keep(conn).await;
                answered.send_replace(());
                Ok(progress)
            };
            lane.unless_late(answered.subscribe(), ask)
        });
        let answers = futures_util::future::join_all(answers).await;
        let furthest = answers
            .iter()
            .flatten()
            .max_by_key(|progress| progress.commits)
            .copied();
        for (lane, answer) in asked.into_iter().zip(answers) {
            let skipped = match (&answer, &furthest) {
                (Err(error), _) => Some(Skipped::Failed(error.to_string())),
                (Ok(own), Some(best)) => lag(own, best, self.max_lag_ms),
                (Ok(_), None) => None,
            };
            lane.found(skipped, answer.ok());
        }
        if furthest.is_none() {
            self.lanes.iter().for_each(Lane::rouse);
        }
        furthest
    }

    /// Windows of the last `history`, but at least all that are not final, totals and progress, from
    /// the next replica that is not skipped. With `since`, windows from there on are enough. One that
    /// takes long is read from beside the one after it: it may have died since it was asked how far it is.
    ///
    /// # Errors
    /// The last replica's, if none answers.
    pub async fn snapshot(
        &self,
        history: Duration,
        since: Option<i64>,
    ) -> Result<Snapshot, StoreError> {
        let mut last = no_replica();
        let mut lanes = self.in_turn();
        let mut reads = FuturesUnordered::new();
        loop {
            let next = lanes.next();
            reads.extend(
                next.map(
                    |lane| async move { (lane, self.snapshot_of(lane, history, since).await) },
                ),
            );
            let read = match next {
                Some(_) => tokio::time::timeout(PATIENCE, reads.next()).await,
                None => Ok(reads.next().await),
            };
            match read {
                Ok(Some((_, Ok(snapshot)))) => return Ok(snapshot),
                Ok(Some((lane, Err(error)))) => last = lane.failed(error),
                Ok(None) => return Err(last),
                Err(_) => {}
            }
        }
    }

    /// Steps of `[from, to)` in order of start and province, at most `limit` of them, and the server
    /// that answered.
    ///
    /// # Errors
    /// The last replica's, if none answers; [`StoreError::Url`] for a time that no database holds;
    /// [`StoreError::Overlong`] if it takes too long, which is no fault of the replica: it is not
    /// skipped for it, and no other one is made to read as much.
    pub async fn steps(
        &self,
        query: &GmvQuery,
        step: Step,
        limit: usize,
    ) -> Result<(Vec<GmvRow>, String), StoreError> {
        let bound = |ms: Option<i64>, sign: &str| match ms.map(|ms| (ms, time(ms))) {
            None => Ok(String::new()),
            Some((_, Some(at))) => Ok(format!(" AND r.window_start {sign} {at}")),
            Some((ms, None)) => Err(StoreError::Url(format!(
                "expected a time of the years 1000 to 9999, got {ms} ms"
            ))),
        };
        let bounds = bound(query.from, ">=")? + &bound(query.to, "<")?;
        let mut last = no_replica();
        for lane in self.in_turn() {
            let ask = async {
                let mut conn = lane.open().await?;
                let sql = self.steps_sql(conn.dialect(), query, step, &bounds, limit);
                let rows = self.past(&mut conn, &sql).await?;
                lane.keep(conn).await;
                rows.iter().map(gmv_row).collect::<Result<Vec<_>, _>>()
            };
            match ask.await {
                Ok(rows) => return Ok((rows, lane.store.name().to_owned())),
                Err(error @ StoreError::Overlong(_)) => return Err(error),
                Err(error) => last = lane.failed(error),
            }
        }
        Err(last)
    }

    /// How the database of the first replica that answers would carry a range of seconds out, a
    /// line a step of the plan.
    ///
    /// # Errors
    /// If no replica answers.
    pub async fn plan(&self, from: i64, to: i64) -> Result<Vec<String>, StoreError> {
        let lane = self.in_turn().next().ok_or_else(no_replica)?;
        let mut conn = lane.open().await?;
        let dialect = conn.dialect();
        let bounds = format!(
            " AND r.window_start >= {} AND r.window_start < {}",
            super::sql::time_or_null(Some(from)),
            super::sql::time_or_null(Some(to)),
        );
        let query = GmvQuery::default();
        let sql = self.steps_sql(dialect, &query, Step::Second, &bounds, 100_000);
        let (explain, columns) = match dialect {
            Dialect::Sqlite => ("EXPLAIN QUERY PLAN", vec![3]),
            // table, type and key: columns differ in between the two servers.
            Dialect::MySql => ("EXPLAIN FORMAT=TRADITIONAL", vec![2, 4, 6]),
            Dialect::MariaDb => ("EXPLAIN", vec![2, 3, 5]),
        };
        let rows = self.rows(&mut conn, &format!("{explain} {sql}")).await?;
        lane.keep(conn).await;
        Ok(rows
            .iter()
            .map(|row| {
                let texts = columns.iter().map(|&column| row.opt_text(column));
                let texts = texts.map(|text| text.ok().flatten().unwrap_or_default());
                texts.collect::<Vec<_>>().join(" ")
            })
            .collect())
    }

    fn steps_sql(
        &self,
        dialect: Dialect,
        query: &GmvQuery,
        step: Step,
        bounds: &str,
        limit: usize,
    ) -> String {
        let mut of = self.of(dialect) + bounds;
        if let Some(province) = &query.province {
            of += &format!(" AND r.item_key = {}", dialect.text(province));
        }
        let rows = match step {
            Step::Second => tables::per_second(dialect, &of).replacen(
                "r.window_start,",
                "r.window_start AS step_start,",
                1,
            ),
            _ => tables::per_step(dialect, &of, step.start(dialect)),
        };
        format!(
            "SELECT step_start, province, orders, {}, revision, state FROM ({rows}) AS steps \
             ORDER BY step_start, province LIMIT {limit}",
            measures(dialect)
        )
    }

    async fn snapshot_of(
        &self,
        lane: &Lane,
        history: Duration,
        since: Option<i64>,
    ) -> Result<Snapshot, StoreError> {
        let mut conn = lane.open().await?;
        let dialect = conn.dialect();
        let begin = match dialect {
            Dialect::Sqlite => "BEGIN",
            _ => "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; START TRANSACTION READ ONLY",
        };
        self.rows(&mut conn, begin).await?;
        let snapshot = self.read(&mut conn, history, since).await;
        self.rows(&mut conn, "COMMIT").await?;
        lane.keep(conn).await;
        let mut snapshot = snapshot?;
        snapshot.server = lane.store.name().to_owned();
        Ok(snapshot)
    }

    async fn read(
        &self,
        conn: &mut Conn,
        history: Duration,
        since: Option<i64>,
    ) -> Result<Snapshot, StoreError> {
        let dialect = conn.dialect();
        let key = stream_key(dialect, &self.stream);
        let mut snapshot = Snapshot {
            progress: self.progress(conn).await?,
            ..Snapshot::default()
        };
        let sql = format!(
            "SELECT (SELECT MAX(window_start) FROM results WHERE {key}), \
             (SELECT final_start FROM windlass_progress WHERE {key}), \
             (SELECT COALESCE(SUM(counted), 0) FROM ledger WHERE {key}), \
             (SELECT COALESCE(SUM(late), 0) FROM ledger WHERE {key}), \
             (SELECT COALESCE(SUM(quarantined), 0) FROM ledger WHERE {key})"
        );
        if let Some(row) = self.rows(conn, &sql).await?.first() {
            snapshot.newest = row.opt_time(0)?;
            snapshot.final_start = row.opt_time(1)?;
            for (i, outcome) in snapshot.outcomes.iter_mut().enumerate() {
                *outcome = row.u64(2 + i)?;
            }
        }
        if let Some(newest) = snapshot.newest {
            let history = i64::try_from(history.as_millis()).unwrap_or(i64::MAX);
            let oldest = newest.saturating_sub(history);
            snapshot.from = since.map_or(oldest, |since| since.max(oldest));
            let bounds = time(snapshot.from)
                .map(|from| format!(" AND r.window_start >= {from}"))
                .unwrap_or_default();
            let query = GmvQuery::default();
            let sql = self.steps_sql(dialect, &query, Step::Second, &bounds, 1_000_000);
            let rows = self.rows(conn, &sql).await?;
            snapshot.windows = rows.iter().map(gmv_row).collect::<Result<_, _>>()?;
        }
        let sql = format!(
            "SELECT province, orders, {} FROM ({}) AS gmv_total ORDER BY province",
            measures(dialect),
            tables::total(dialect, &self.of(dialect))
        );
        let rows = self.rows(conn, &sql).await?;
        snapshot.totals = rows.iter().map(total_row).collect::<Result<_, _>>()?;
        Ok(snapshot)
    }

    async fn progress(&self, conn: &mut Conn) -> Result<Progress, StoreError> {
        let dialect = conn.dialect();
        let sql = format!(
            "SELECT COALESCE(SUM(commit_no), 0), MAX(seen_at), {} FROM shards WHERE {}",
            dialect.now(),
            stream_key(dialect, &self.stream)
        );
        let rows = self.rows(conn, &sql).await?;
        let row = rows
            .first()
            .ok_or_else(|| DbError::Answer("an aggregate with no row".into()))?;
        Ok(Progress {
            commits: row.u64(0)?,
            seen_at: row.opt_time(1)?,
            now: row.time(2)?,
        })
    }

    /// The condition that selects the stream's rows `r`.
    fn of(&self, dialect: Dialect) -> String {
        format!(
            "r.stream = {} AND r.query = {}",
            dialect.text(&self.stream.name),
            dialect.text(&self.stream.query)
        )
    }

    /// Rows of a read whose size whoever asks has chosen.
    async fn past(&self, conn: &mut Conn, select: &str) -> Result<Vec<Row>, StoreError> {
        self.count_statement();
        let rows = conn.select_within(self.read_limit, select).await;
        rows.map_err(|error| match error.is_overlong() {
            true => StoreError::Overlong(format!(
                "expected a read that the database does in {:?}, got a longer one: ask for a shorter \
                 time, or for a longer step of it",
                self.read_limit
            )),
            false => error.into(),
        })
    }

    fn count_statement(&self) {
        self.statements.fetch_add(1, Ordering::Relaxed);
    }

    async fn rows(&self, conn: &mut Conn, sql: &str) -> Result<Vec<Row>, StoreError> {
        self.count_statement();
        Ok(conn.rows_within(PAGE_TIMEOUT, sql).await?)
    }

    /// Replicas that are not skipped, beginning with the next in turn.
    fn in_turn(&self) -> impl Iterator<Item = &Lane> {
        let count = self.lanes.len();
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        (0..count)
            .map(move |i| &self.lanes[(first + i) % count])
            .filter(|lane| lane.state().skipped.is_none())
    }
}

/// Why a replica is skipped for lagging; both have been asked at the same moment.
fn lag(own: &Progress, best: &Progress, max_lag_ms: i64) -> Option<Skipped> {
    let behind = best.seen_at? - own.seen_at.unwrap_or(0);
    (own.commits < best.commits && behind > max_lag_ms).then(|| Skipped::Lags {
        commits: best.commits - own.commits,
        ms: behind.max(0).cast_unsigned(),
    })
}

fn no_replica() -> StoreError {
    StoreError::Unreachable("no replica is fit to be read from: see the state of each".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(commits: u64, seen_at: i64) -> Progress {
        Progress {
            commits,
            seen_at: Some(seen_at),
            now: seen_at,
        }
    }

    #[test]
    fn a_replica_is_skipped_only_when_it_lags_in_commits_and_in_time() {
        let best = at(10, 100_000);
        assert_eq!(lag(&at(10, 50_000), &best, 2_000), None);
        assert_eq!(lag(&at(9, 99_000), &best, 2_000), None);
        let why = lag(&at(7, 90_000), &best, 2_000).unwrap().to_string();
        assert!(why.starts_with("lags 3 commits and 10000 ms"), "{why}");
    }
}

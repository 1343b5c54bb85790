//! A shard's writer: epoch, lease, and what an owner reads before it goes on where the last one
//! stopped.
//!
//! A writer has one connection. When that is lost or in doubt, every call fails until
//! [`Writer::raise_epoch`] or [`Writer::lease_free`] opens a new one: an owner that has lost its
//! connection must take its own shard over anew.

use std::sync::Arc;
use std::time::Duration;

use windlass_functions::stream::Stream;

use super::conn::{Conn, DbError, LOCK_TIMEOUT, Row};
use super::sql::{Dialect, time};
use super::{Store, StoreError, schema};
use crate::plan::{Loaded, SourceRecord};

/// Names asked for in one statement.
const NAMES: usize = 1000;

/// The writer of one shard.
pub struct Writer {
    store: Store,
    pub(super) conn: Option<Conn>,
    pub(super) stream: Stream,
    pub(super) shard: u32,
    owner: String,
    lease: Duration,
}

impl Writer {
    pub(super) fn new(
        store: Store,
        stream: &Stream,
        shard: u32,
        owner: &str,
        lease: Duration,
    ) -> Self {
        Self {
            store,
            conn: None,
            stream: stream.clone(),
            shard,
            owner: owner.chars().take(255).collect(),
            lease,
        }
    }

    /// Takes the shard: raises its epoch in a transaction of its own, which shuts out every earlier
    /// owner, then reads what the last commit left.
    ///
    /// # Errors
    /// If the database does not answer, or a frozen owner still holds the shard's row locked after
    /// the lease, by which time its server session should have been ended.
    pub async fn raise_epoch(&mut self) -> Result<Loaded, StoreError> {
        self.connect().await?;
        // Each attempt waits LOCK_TIMEOUT for the row; a frozen owner's lock goes with its lease.
        let attempts = 2 + self.lease.as_secs() / LOCK_TIMEOUT.as_secs();
        let mut attempt = 0;
        let mut loaded = loop {
            attempt += 1;
            match self.try_raise().await {
                Err(RaiseError::Db(error)) if error.is_contention() && attempt < attempts => {}
                Err(RaiseError::Db(error)) if error.is_contention() => {
                    return Err(StoreError::Busy(format!(
                        "shard {} stayed locked by another session beyond the lease of {:?} ({error}): \
                         look for it in the database's process list",
                        self.shard, self.lease
                    )));
                }
                Err(RaiseError::Db(error)) => return Err(error.into()),
                Err(RaiseError::Missing) => {
                    return Err(StoreError::Schema(format!(
                        "the database has no shard {} of stream {:?}: run `windlass migrate` first",
                        self.shard, self.stream.name
                    )));
                }
                Ok(loaded) => break loaded,
            }
        };
        loaded.open_ends = self.open_ends(loaded.watermark).await?;
        loaded.active_sources = self.active_sources().await?;
        Ok(loaded)
    }

    async fn try_raise(&mut self) -> Result<Loaded, RaiseError> {
        let shard = self.shard_key();
        let (owner, lease, window) = (self.owner.clone(), self.lease, self.stream.window_ms);
        let conn = self.conn()?;
        let dialect = conn.dialect();
        let update = format!(
            "UPDATE shards SET epoch = epoch + 1, owner = {}, lease_until = {}, seen_at = {} WHERE {shard}",
            dialect.text(&owner),
            dialect.now_plus(lease.as_millis()),
            dialect.now(),
        );
        let raised = async {
            conn.begin_with(&update).await?;
            // Still inside: this reads the epoch that is ours, not one raised since.
            let read = format!(
                "SELECT epoch, commit_no, watermark, final_before, last_window FROM shards WHERE {shard}"
            );
            let rows = conn.rows(&read).await?;
            conn.execute("COMMIT").await?;
            Ok::<_, DbError>(rows)
        };
        let rows = match raised.await {
            Ok(rows) => rows,
            Err(error) => {
                if error.is_contention() {
                    conn.rollback().await;
                } else {
                    conn.abandon();
                }
                return Err(error.into());
            }
        };
        let row = rows.first().ok_or(RaiseError::Missing)?;
        Ok(Loaded {
            epoch: row.u64(0)?,
            commit_no: row.u64(1)?,
            watermark: row.opt_time(2)?,
            final_before: row.opt_time(3)?,
            last_end: row.opt_time(4)?.map(|start| start.saturating_add(window)),
            ..Loaded::default()
        })
    }

    /// Whether nobody's lease covers the shard, by the database's clock.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn lease_free(&mut self) -> Result<bool, StoreError> {
        self.connect().await?;
        let shard = self.shard_key();
        let conn = self.conn()?;
        let sql = format!(
            "SELECT CASE WHEN lease_until > {} THEN 0 ELSE 1 END FROM shards WHERE {shard}",
            conn.dialect().now()
        );
        let rows = conn.rows(&sql).await?;
        Ok(rows.first().map(|row| row.i64(0)).transpose()? == Some(1))
    }

    /// Extends the lease, and tells readers that the shard is up to date; `false` if another owner
    /// has raised the epoch since.
    ///
    /// # Errors
    /// If the connection is lost; take the shard over anew.
    pub async fn renew_lease(&mut self, epoch: u64) -> Result<bool, StoreError> {
        let (shard, lease) = (self.shard_key(), self.lease);
        let conn = self.conn()?;
        let dialect = conn.dialect();
        let sql = format!(
            "UPDATE shards SET lease_until = {}, seen_at = {} WHERE {shard} AND epoch = {epoch}",
            dialect.now_plus(lease.as_millis()),
            dialect.now(),
        );
        match conn.execute(&sql).await {
            // Somebody holds the row: the lease is shorter by this attempt, no more.
            Err(error) if error.is_contention() => Ok(true),
            renewed => Ok(renewed? == 1),
        }
    }

    /// The ledger of those of `sources` that any shard has met.
    ///
    /// # Errors
    /// If the connection is lost; take the shard over anew.
    pub async fn load_sources(
        &mut self,
        sources: &[Arc<str>],
    ) -> Result<Vec<SourceRecord>, StoreError> {
        let mut records = Vec::new();
        for names in sources.chunks(NAMES) {
            let dialect = self.conn()?.dialect();
            let names: Vec<String> = names.iter().map(|name| dialect.text(name)).collect();
            let which = format!("source IN ({})", names.join(","));
            records.extend(self.records(&which, &which).await?);
        }
        Ok(records)
    }

    /// For each (source, seq): whether it stands in `outcomes`, settled but not counted.
    ///
    /// # Errors
    /// If the connection is lost; take the shard over anew.
    pub async fn has_outcomes(
        &mut self,
        tuples: &[(Arc<str>, u64)],
    ) -> Result<Vec<bool>, StoreError> {
        let of = self.stream_key();
        let conn = self.conn()?;
        let dialect = conn.dialect();
        let mut found = Vec::with_capacity(tuples.len());
        for tuples in tuples.chunks(NAMES) {
            let pairs: Vec<String> = tuples
                .iter()
                .map(|(source, seq)| {
                    let (source, seq) = (dialect.text(source), dialect.seq(*seq));
                    format!("(source = {source} AND seq = {seq})")
                })
                .collect();
            let sql = format!(
                "SELECT source, seq FROM outcomes WHERE {of} AND ({})",
                pairs.join(" OR ")
            );
            let rows = conn.rows(&sql).await?;
            let there = rows
                .iter()
                .map(|row| Ok((row.text(0)?, row.u64(1)?)))
                .collect::<Result<std::collections::HashSet<_>, DbError>>()?;
            found.extend(
                tuples
                    .iter()
                    .map(|(source, seq)| there.contains(&(source.to_string(), *seq))),
            );
        }
        Ok(found)
    }

    /// The largest `final_before` (ms UTC) that the stream's other shards have committed.
    ///
    /// # Errors
    /// If the connection is lost; take the shard over anew.
    pub async fn others_final_before(&mut self) -> Result<Option<i64>, StoreError> {
        let (of, shard) = (self.stream_key(), self.shard);
        let sql = format!("SELECT MAX(final_before) FROM shards WHERE {of} AND shard <> {shard}");
        let rows = self.conn()?.rows(&sql).await?;
        Ok(match rows.first() {
            Some(row) => row.opt_time(0)?,
            None => None,
        })
    }

    async fn open_ends(&mut self, watermark: Option<i64>) -> Result<Vec<i64>, StoreError> {
        let (of, shard, window) = (self.stream_key(), self.shard, self.stream.window_ms);
        let after = watermark
            .and_then(|watermark| time(watermark.saturating_sub(window)))
            .map(|start| format!(" AND window_start > {start}"))
            .unwrap_or_default();
        let sql = format!(
            "SELECT DISTINCT window_start FROM results WHERE {of}{after} AND shard = {shard} \
             ORDER BY window_start"
        );
        let rows = self.conn()?.rows(&sql).await?;
        rows.iter()
            .map(|row| Ok(row.time(0)?.saturating_add(window)))
            .collect()
    }

    async fn active_sources(&mut self) -> Result<Vec<SourceRecord>, StoreError> {
        let home = format!("shard = {} AND active = 1", self.shard);
        let of = self.stream_key();
        let blocks = format!("source IN (SELECT source FROM ledger WHERE {of} AND {home})");
        self.records(&home, &blocks).await
    }

    /// Ledger rows and blocks under two conditions that select the same sources.
    async fn records(
        &mut self,
        of_ledger: &str,
        of_blocks: &str,
    ) -> Result<Vec<SourceRecord>, StoreError> {
        let of = self.stream_key();
        let conn = self.conn()?;
        let rows = conn
            .rows(&format!(
                "SELECT source, shard, active, max_ts, low FROM ledger WHERE {of} AND {of_ledger} \
                 ORDER BY source"
            ))
            .await?;
        let mut records = rows.iter().map(record).collect::<Result<Vec<_>, _>>()?;
        let rows = conn
            .rows(&format!(
                "SELECT source, block_no, seqs FROM ledger_blocks WHERE {of} AND {of_blocks} \
                 ORDER BY source, block_no"
            ))
            .await?;
        for row in &rows {
            let source = row.text(0)?;
            // Sorted bytewise by the database, as strings are compared here.
            let at = records.binary_search_by(|record| (*record.source).cmp(&source));
            if let Ok(at) = at {
                let bytes = row.bytes(2).unwrap_or_default().to_vec();
                records[at].blocks.push((row.u64(1)?, bytes));
            }
        }
        Ok(records)
    }

    async fn connect(&mut self) -> Result<(), StoreError> {
        if self.conn.as_ref().is_some_and(Conn::is_open) {
            return Ok(());
        }
        let mut conn = self.store.open().await?;
        schema::check_version(&mut conn, &self.store.database).await?;
        if conn.dialect() != Dialect::Sqlite {
            // When this process is frozen in mid-transaction, the server ends the session and the
            // row is free again.
            let seconds = self.lease.as_secs().max(1);
            conn.execute(&format!(
                "SET SESSION wait_timeout = {seconds}, net_read_timeout = {seconds}, \
                 net_write_timeout = {seconds}"
            ))
            .await?;
        }
        self.conn = Some(conn);
        Ok(())
    }

    fn conn(&mut self) -> Result<&mut Conn, DbError> {
        self.conn.as_mut().ok_or(DbError::Closed)
    }

    /// The condition that selects the stream's rows.
    pub(super) fn stream_key(&self) -> String {
        let dialect = self.dialect();
        format!(
            "stream = {} AND query = {}",
            dialect.text(&self.stream.name),
            dialect.text(&self.stream.query)
        )
    }

    pub(super) fn shard_key(&self) -> String {
        format!("{} AND shard = {}", self.stream_key(), self.shard)
    }

    pub(super) fn dialect(&self) -> Dialect {
        self.conn.as_ref().map_or(Dialect::Sqlite, Conn::dialect)
    }
}

enum RaiseError {
    Db(DbError),
    Missing,
}

impl From<DbError> for RaiseError {
    fn from(error: DbError) -> Self {
        Self::Db(error)
    }
}

fn record(row: &Row) -> Result<SourceRecord, DbError> {
    Ok(SourceRecord {
        source: row.text(0)?.into(),
        shard: row.u32(1)?,
        active: row.i64(2)? != 0,
        max_ts: row.opt_time(3)?,
        low: row.u64(4)?,
        blocks: Vec::new(),
    })
}

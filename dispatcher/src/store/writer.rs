//! A shard's writer: epoch, lease, and what an owner reads before it goes on where the last one
//! stopped.
//!
//! A writer has one connection. When that is lost or in doubt, every call fails until
//! [`Writer::raise_epoch`] or [`Writer::lease_free`] opens a new one: an owner that has lost its
//! connection must take its own shard over anew.

use std::sync::Arc;
use std::time::Duration;

use windlass_functions::stream::Stream;

use super::conn::{Conn, DbError, LOCK_TIMEOUT};
use super::row::Row;
use super::sql::{Dialect, stream_key, time};
use super::{Store, StoreError, schema};
use crate::plan::{Loaded, OutcomeKind, Reached, SourceRecord};

/// Names asked for in one statement.
const NAMES: usize = 1000;

/// The writer of one shard.
pub struct Writer {
    store: Store,
    pub(super) conn: Option<Conn>,
    pub(super) stream: Stream,
    pub(super) shard: u32,
    owner: String,
    pub(super) lease: Duration,
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
        match self.raise(Claim::Certain).await? {
            Some(loaded) => Ok(loaded),
            None => Err(DbError::Answer("an UPDATE that matched no row it found".into()).into()),
        }
    }

    /// The same, but only if nobody's lease covers the shard when the row is ours to change: an owner
    /// whose slow commit held the row has then extended its lease, and `None` is returned.
    ///
    /// # Errors
    /// As [`Writer::raise_epoch`].
    pub async fn raise_epoch_if_free(&mut self) -> Result<Option<Loaded>, StoreError> {
        self.raise(Claim::IfFree).await
    }

    async fn raise(&mut self, claim: Claim) -> Result<Option<Loaded>, StoreError> {
        self.connect().await?;
        // Each attempt waits LOCK_TIMEOUT for the row; a frozen owner's lock goes with its lease.
        let attempts = 2 + self.lease.as_secs() / LOCK_TIMEOUT.as_secs();
        let mut attempt = 0;
        let mut loaded = loop {
            attempt += 1;
            match self.try_raise(claim).await {
                Err(RaiseError::Db(error)) if error.is_contention() && attempt < attempts => {}
                Err(RaiseError::Db(error)) if error.is_contention() => {
                    return Err(StoreError::Busy(format!(
                        "shard {} stayed locked by another session beyond the lease of {:?} ({error}): \
                         look for it in the database's process list",
                        self.shard, self.lease
                    )));
                }
                Err(RaiseError::Db(error)) => {
                    return Err(schema::privilege(error, &self.store.database));
                }
                Err(RaiseError::Missing) => {
                    return Err(StoreError::Schema(format!(
                        "the database has no shard {} of stream {:?}: run `windlass migrate` first",
                        self.shard, self.stream.name
                    )));
                }
                Ok(Some(loaded)) => break loaded,
                Ok(None) => return Ok(None),
            }
        };
        loaded.open_ends = self.open_ends(loaded.watermark).await?;
        loaded.active_sources = self.active_sources().await?;
        Ok(Some(loaded))
    }

    /// `None` if the shard is not free and had to be.
    async fn try_raise(&mut self, claim: Claim) -> Result<Option<Loaded>, RaiseError> {
        let shard = self.shard_key();
        let (owner, lease, window) = (self.owner.clone(), self.lease, self.stream.window_ms);
        let conn = self.conn()?;
        let dialect = conn.dialect();
        let now = dialect.now();
        let if_free = match claim {
            Claim::Certain => String::new(),
            // Part of the UPDATE, so that it is judged anew after a wait for the row's lock.
            Claim::IfFree => format!(" AND (lease_until IS NULL OR lease_until <= {now})"),
        };
        let update = format!(
            "UPDATE shards SET epoch = epoch + 1, owner = {}, seen_at = {now} WHERE {shard}{if_free}",
            dialect.text(&owner),
        );
        let raised = async {
            let taken = conn.begin_with(&update).await? == 1;
            // Still inside: this reads the epoch that is ours, not one raised since.
            let read = format!(
                "SELECT epoch, commit_no, watermark, final_before, last_window FROM shards \
                 WHERE {shard}"
            );
            let rows = conn.rows(&read).await?;
            if taken {
                let until = dialect.now_plus(lease.as_millis());
                let lease = format!("UPDATE shards SET lease_until = {until} WHERE {shard}");
                conn.execute(&lease).await?;
            }
            conn.execute("COMMIT").await?;
            Ok::<_, DbError>((taken, rows))
        };
        let (taken, rows) = match raised.await {
            Ok(raised) => raised,
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
        if !taken {
            return Ok(None);
        }
        Ok(Some(Loaded {
            epoch: row.u64(0)?,
            commit_no: row.u64(1)?,
            watermark: row.opt_time(2)?,
            final_before: row.opt_time(3)?,
            last_end: row.opt_time(4)?.map(|start| start.saturating_add(window)),
            ..Loaded::default()
        }))
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

    /// Those of `tuples` that stand in `outcomes`, settled but not counted, and as what.
    ///
    /// # Errors
    /// If the connection is lost; take the shard over anew.
    pub async fn find_outcomes(
        &mut self,
        tuples: &[(Arc<str>, u64)],
    ) -> Result<Vec<((Arc<str>, u64), OutcomeKind)>, StoreError> {
        let of = self.stream_key();
        let conn = self.conn()?;
        let dialect = conn.dialect();
        let mut found = Vec::new();
        for tuples in tuples.chunks(NAMES) {
            let pairs: Vec<String> = tuples
                .iter()
                .map(|(source, seq)| {
                    let (source, seq) = (dialect.text(source), dialect.seq(*seq));
                    format!("(source = {source} AND seq = {seq})")
                })
                .collect();
            let sql = format!(
                "SELECT source, seq, kind FROM outcomes WHERE {of} AND ({})",
                pairs.join(" OR ")
            );
            for row in conn.rows(&sql).await? {
                let kind = match row.text(2)?.as_str() {
                    "late" => OutcomeKind::Late,
                    _ => OutcomeKind::Quarantined,
                };
                found.push(((Arc::from(row.text(0)?), row.u64(1)?), kind));
            }
        }
        Ok(found)
    }

    /// The furthest that the stream's other shards have committed.
    ///
    /// # Errors
    /// If the connection is lost; take the shard over anew.
    pub async fn others_reached(&mut self) -> Result<Reached, StoreError> {
        let (of, shard) = (self.stream_key(), self.shard);
        let sql = format!(
            "SELECT MAX(watermark), MAX(final_before) FROM shards WHERE {of} AND shard <> {shard}"
        );
        let rows = self.conn()?.rows(&sql).await?;
        Ok(match rows.first() {
            Some(row) => Reached {
                watermark: row.opt_time(0)?,
                final_before: row.opt_time(1)?,
            },
            None => Reached::default(),
        })
    }

    /// Gives the lease up, so that another owner need not wait for its end. It also tells the next
    /// owner that no consumer is left that could hold deliveries: so only when ours is closed, and no
    /// earlier one can be.
    ///
    /// # Errors
    /// If the connection is lost; then the lease ends by itself.
    pub async fn release_lease(&mut self, epoch: u64) -> Result<(), StoreError> {
        let shard = self.shard_key();
        let sql = format!("UPDATE shards SET lease_until = NULL WHERE {shard} AND epoch = {epoch}");
        self.conn()?.execute(&sql).await?;
        Ok(())
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
        if let Some(conn) = &mut self.conn
            && conn.is_open()
            // The server ends sessions that were silent for longer than the lease.
            && conn.rows("SELECT 1").await.is_ok()
        {
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
    fn stream_key(&self) -> String {
        let dialect = self.conn.as_ref().map_or(Dialect::Sqlite, Conn::dialect);
        stream_key(dialect, &self.stream)
    }

    fn shard_key(&self) -> String {
        format!("{} AND shard = {}", self.stream_key(), self.shard)
    }
}

/// On what ground a shard is claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    /// The broker has given its deliveries to us.
    Certain,
    /// Nobody's lease seemed to cover it.
    IfFree,
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

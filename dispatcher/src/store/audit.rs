//! The audit's side of the store: what became of every tuple, per source and per window.
//!
//! [`Store::audit`] reads one snapshot, in which the books must balance at any moment; windows and
//! outcomes are read by themselves and agree with it once the stream has drained.

use std::fmt;
use std::ops::RangeInclusive;

use roaring::RoaringBitmap;
use serde::Serialize;
use windlass_functions::stream::Stream;

use super::conn::{Conn, DbError, READ_TIMEOUT};
use super::pages::{Pages, amount, unit};
use super::row::Row;
use super::sql::{Dialect, LIMB, parse_decimal, stream_key, time};
use super::{Store, StoreError};

/// Names asked for in one statement.
const SOURCES: usize = 1000;

/// What the ledger says of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// Every source, by name.
    pub sources: Vec<SourceAudit>,
    /// Tuples met again after they were settled or taken in.
    pub duplicates: u64,
    /// Messages that the broker marked as redelivered.
    pub redeliveries: u64,
    /// Messages or rows with no legible (source, seq), or with a seq that is no number in a row.
    pub undecodable: u64,
    /// Tuples that came to a shard that is not their source's home.
    pub misrouted: u64,
    /// What does not add up in the store itself. It always must, so each is damage: a row that was
    /// changed, lost or restored by somebody else.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub imbalances: Vec<Imbalance>,
}

/// Two figures of the store that must be the same and are not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum Imbalance {
    /// A source's counters and its settled seqs.
    Source {
        /// The source.
        source: String,
        /// Counted, late and quarantined together.
        counters: i64,
        /// Settled seqs.
        settled: u64,
    },
    /// The counted tuples of all sources and those in the totals.
    Totals {
        /// By the sources' counters.
        counted: i64,
        /// By the totals.
        totals: i64,
    },
}

impl fmt::Display for Imbalance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source {
                source,
                counters,
                settled,
            } => write!(
                f,
                "source {source:?}: counted + late + quarantined is {counters}, settled are {settled} \
                 (tables ledger, ledger_blocks)"
            ),
            Self::Totals { counted, totals } => write!(
                f,
                "counted of all sources is {counted}, the totals hold {totals} \
                 (tables ledger, totals)"
            ),
        }
    }
}

/// What the ledger says of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceAudit {
    /// The source.
    pub source: String,
    /// Tuples in the results.
    pub counted: i64,
    /// Tuples of windows that were final.
    pub late: i64,
    /// Tuples that could not be counted.
    pub quarantined: i64,
    /// Every seq below this is settled.
    pub low: u64,
    /// Runs of seqs, first and last, that are missing between the lowest and the highest settled
    /// one. A missing first seq is no gap: sources may number from 0 or from 1.
    pub gaps: Vec<(u64, u64)>,
}

/// A window's result for one key over all shards, in minor units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowTotal {
    /// Start of the window, ms UTC.
    pub window: i64,
    /// The key.
    pub key: String,
    /// How many tuples.
    pub orders: u64,
    /// Their sum.
    pub sum: i128,
    /// The smallest value.
    pub min: i64,
    /// The largest value.
    pub max: i64,
}

impl Store {
    /// Counters and gaps of every source, and whether the books balance.
    ///
    /// # Errors
    /// If the database does not answer, or a block of settled seqs is damaged.
    pub async fn audit(&self, stream: &Stream) -> Result<Audit, StoreError> {
        let mut conn = self.open_migrated().await?;
        conn.begin_snapshot().await?;
        let audit = read(&mut conn, stream).await;
        conn.rollback().await;
        conn.close().await;
        audit
    }

    /// How many tuples of `sources` are settled: counted, late or quarantined.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn settled<'a>(
        &self,
        stream: &Stream,
        sources: impl Iterator<Item = &'a str>,
    ) -> Result<u64, StoreError> {
        let mut conn = self.open_migrated().await?;
        let dialect = conn.dialect();
        let of = stream_key(dialect, stream);
        let names: Vec<String> = sources.map(|source| dialect.text(source)).collect();
        let mut settled = 0;
        for names in names.chunks(SOURCES) {
            let sql = format!(
                "SELECT COALESCE(SUM(counted + late + quarantined), 0) FROM ledger \
                 WHERE {of} AND source IN ({})",
                names.join(",")
            );
            let rows = conn.rows(&sql).await?;
            settled += rows.first().map_or(Ok(0), |row| row.u64(0))?;
        }
        conn.close().await;
        Ok(settled)
    }

    /// The results of the windows that start in `starts` (ms UTC), merged over the shards, in order
    /// of window and key.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn windows(
        &self,
        stream: &Stream,
        starts: RangeInclusive<i64>,
    ) -> Result<Pages<WindowTotal>, StoreError> {
        let conn = self.open_migrated().await?;
        let dialect = conn.dialect();
        // What lies beyond every date bounds nothing.
        let from = time(*starts.start()).map(|from| format!(" AND window_start >= {from}"));
        let to = time(*starts.end()).map(|to| format!(" AND window_start <= {to}"));
        let (from, to) = (from.unwrap_or_default(), to.unwrap_or_default());
        let sum = match dialect {
            Dialect::Sqlite => "SUM(gmv_hi), SUM(gmv_lo)",
            _ => "SUM(gmv), NULL",
        };
        let unit = unit(stream)?;
        let select = format!(
            "SELECT window_start, item_key, SUM(orders), {sum}, MIN(min_amount), MAX(max_amount) \
                 FROM results WHERE {}{from}{to}",
            stream_key(dialect, stream)
        );
        let order = &["window_start", "item_key"];
        Ok(Pages::new(conn, select, order, window_total, unit))
    }
}

async fn read(conn: &mut Conn, stream: &Stream) -> Result<Audit, StoreError> {
    let of = stream_key(conn.dialect(), stream);
    let rows = conn
        .rows(&format!(
            "SELECT COALESCE(SUM(duplicates), 0), COALESCE(SUM(redeliveries), 0), \
             COALESCE(SUM(undecodable), 0), COALESCE(SUM(misrouted), 0) FROM shards WHERE {of}"
        ))
        .await?;
    let mut audit = Audit::default();
    if let Some(row) = rows.first() {
        audit.duplicates = row.u64(0)?;
        audit.redeliveries = row.u64(1)?;
        audit.undecodable = row.u64(2)?;
        audit.misrouted = row.u64(3)?;
    }
    let sql = format!(
        "SELECT source, counted, late, quarantined, low FROM ledger WHERE {of} ORDER BY source"
    );
    for row in conn.rows_within(READ_TIMEOUT, &sql).await? {
        let (source, low) = (row.text(0)?, row.u64(4)?);
        let Seqs { gaps, settled } = seqs(conn, &of, &source, low).await?;
        let source = SourceAudit {
            counted: row.i64(1)?,
            late: row.i64(2)?,
            quarantined: row.i64(3)?,
            source,
            low,
            gaps,
        };
        let counters = source.counted + source.late + source.quarantined;
        if i128::from(counters) != i128::from(settled) {
            audit.imbalances.push(Imbalance::Source {
                source: source.source.clone(),
                counters,
                settled,
            });
        }
        audit.sources.push(source);
    }
    let sql = format!("SELECT COALESCE(SUM(orders), 0) FROM totals WHERE {of}");
    let rows = conn.rows(&sql).await?;
    let totals = rows.first().map_or(Ok(0), |row| row.i64(0))?;
    let counted = audit.sources.iter().map(|source| source.counted).sum();
    if totals != counted {
        let imbalance = Imbalance::Totals { counted, totals };
        audit.imbalances.push(imbalance);
    }
    Ok(audit)
}

/// What is settled of one source.
struct Seqs {
    /// The runs that are missing between its lowest and highest settled seq.
    gaps: Vec<(u64, u64)>,
    /// How many are settled.
    settled: u64,
}

async fn seqs(conn: &mut Conn, of: &str, source: &str, low: u64) -> Result<Seqs, StoreError> {
    let source_text = conn.dialect().text(source);
    let sql = format!(
        "SELECT block_no, seqs FROM ledger_blocks WHERE {of} AND source = {source_text} ORDER BY block_no"
    );
    let mut gaps = Vec::new();
    // All below `low` but 0, which has a bit of its own.
    let above = low.max(1);
    let mut settled = above - 1;
    // The seq expected next; unknown until the first settled one.
    let mut expected = (low > 0).then_some(low);
    for row in conn.rows_within(READ_TIMEOUT, &sql).await? {
        let number = row.u64(0)?;
        let bytes = row.bytes(1).unwrap_or_default();
        let block = RoaringBitmap::deserialize_from(bytes).map_err(|error| {
            StoreError::Failed(anyhow::anyhow!(
                "block {number} of source {source:?} in `ledger_blocks` is damaged ({error}): restore it from a backup"
            ))
        })?;
        let base = number << 16;
        let mut runs = block.iter();
        while let Some(run) = runs.next_range() {
            let (first, last) = (base | u64::from(*run.start()), base | u64::from(*run.end()));
            if let Some(expected) = expected
                && expected < first
            {
                gaps.push((expected, first - 1));
            }
            // Below `low` a block's content says nothing new, but of seq 0.
            settled += u64::from(first == 0);
            settled += last.checked_sub(first.max(above)).map_or(0, |n| n + 1);
            expected = expected.max(last.checked_add(1));
        }
    }
    Ok(Seqs { gaps, settled })
}

fn window_total(row: &Row, unit: i128) -> Result<WindowTotal, DbError> {
    let sum = match row.bytes(4) {
        Some(_) => i128::from(row.i64(3)?) * LIMB + i128::from(row.i64(4)?),
        None => row.parsed(3, "a decimal with two places", parse_decimal)?,
    };
    Ok(WindowTotal {
        window: row.time(0)?,
        key: row.text(1)?,
        orders: row.u64(2)?,
        sum: sum / unit,
        min: amount(row, 5, unit)?,
        max: amount(row, 6, unit)?,
    })
}

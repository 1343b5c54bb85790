//! The audit's side of the store: what became of every tuple, per source and per window.
//!
//! These reads are not one snapshot. They agree with each other once the stream has drained.

use std::collections::VecDeque;

use roaring::RoaringBitmap;
use serde::Serialize;
use windlass_functions::stream::Stream;

use super::conn::{Conn, DbError, READ_TIMEOUT, Row};
use super::sql::{Dialect, LIMB, hundredths_a_unit, parse_decimal};
use super::{Store, StoreError};
use crate::plan::OutcomeKind;

/// Rows read in one go.
const PAGE: usize = 10_000;

/// What the ledger says of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// Every source, by name.
    pub sources: Vec<SourceAudit>,
    /// Tuples met again after they were settled or taken in.
    pub duplicates: u64,
    /// Messages that the broker marked as redelivered.
    pub redeliveries: u64,
    /// Messages or rows with no legible (source, seq).
    pub undecodable: u64,
    /// Tuples that came to a shard that is not their source's home.
    pub misrouted: u64,
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

/// How many tuples of one window, key and value were settled without being counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutcomeTotal {
    /// Late or quarantined.
    pub kind: OutcomeKind,
    /// Start of the window, ms UTC.
    pub window: i64,
    /// The key.
    pub key: String,
    /// The value, minor units.
    pub amount: i64,
    /// How many.
    pub tuples: u64,
}

/// Which rows of `outcomes`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutcomeFilter {
    /// Only these.
    pub kind: Option<OutcomeKind>,
    /// Only of this source.
    pub source: Option<String>,
    /// Only this number.
    pub seq: Option<u64>,
}

/// A row of `outcomes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutcomeRow {
    /// Its source.
    pub source: String,
    /// Its number.
    pub seq: u64,
    /// `late` or `quarantined`.
    pub kind: String,
    /// Why, for a person.
    pub reason: String,
    /// The `message_id` of its copy in the quarantine queue.
    pub quarantine_id: String,
    /// Event time, ms UTC, where legible.
    pub ts: Option<i64>,
    /// Start of its window, ms UTC, where legible.
    pub window: Option<i64>,
    /// Its key, where legible.
    pub key: Option<String>,
    /// Its value in minor units, where legible.
    pub amount: Option<i64>,
    /// When it was settled, ms UTC, by the database's clock.
    pub at: i64,
}

impl Store {
    /// Counters and gaps of every source.
    ///
    /// # Errors
    /// If the database does not answer, or a block of settled seqs is damaged.
    pub async fn audit(&self, stream: &Stream) -> Result<Audit, StoreError> {
        let mut conn = self.open_migrated().await?;
        let of = key(conn.dialect(), stream);
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
            let gaps = gaps(&mut conn, &of, &source, low).await?;
            audit.sources.push(SourceAudit {
                counted: row.i64(1)?,
                late: row.i64(2)?,
                quarantined: row.i64(3)?,
                source,
                low,
                gaps,
            });
        }
        conn.close().await;
        Ok(audit)
    }

    /// Every window's results, merged over the shards, in order of window and key.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn windows(&self, stream: &Stream) -> Result<Pages<WindowTotal>, StoreError> {
        let conn = self.open_migrated().await?;
        let dialect = conn.dialect();
        let sum = match dialect {
            Dialect::Sqlite => "SUM(gmv_hi), SUM(gmv_lo)",
            _ => "SUM(gmv), NULL",
        };
        let unit = unit(stream)?;
        Ok(Pages {
            conn,
            select: format!(
                "SELECT window_start, item_key, SUM(orders), {sum}, MIN(min_amount), MAX(max_amount) \
                 FROM results WHERE {}",
                key(dialect, stream)
            ),
            group: "GROUP BY window_start, item_key",
            order: vec!["window_start", "item_key"],
            after: None,
            page: VecDeque::new(),
            done: false,
            read: Box::new(move |row| window_total(row, unit)),
        })
    }

    /// How many late and quarantined tuples there are of each kind, window, key and value, in this
    /// order; those that are not legible are left out.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn outcome_totals(&self, stream: &Stream) -> Result<Pages<OutcomeTotal>, StoreError> {
        let conn = self.open_migrated().await?;
        let dialect = conn.dialect();
        let unit = unit(stream)?;
        Ok(Pages {
            select: format!(
                "SELECT kind, window_start, item_key, amount, COUNT(*) FROM outcomes \
                 WHERE {} AND window_start IS NOT NULL",
                key(dialect, stream)
            ),
            conn,
            group: "GROUP BY kind, window_start, item_key, amount",
            order: vec!["kind", "window_start", "item_key", "amount"],
            after: None,
            page: VecDeque::new(),
            done: false,
            read: Box::new(move |row| outcome_total(row, unit)),
        })
    }

    /// Late and quarantined tuples, newest first, at most `limit`.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn outcomes(
        &self,
        stream: &Stream,
        filter: &OutcomeFilter,
        limit: u32,
    ) -> Result<Vec<OutcomeRow>, StoreError> {
        let mut conn = self.open_migrated().await?;
        let dialect = conn.dialect();
        let mut terms = vec![key(dialect, stream)];
        if let Some(kind) = filter.kind {
            terms.push(format!("kind = '{}'", kind.as_str()));
        }
        if let Some(source) = &filter.source {
            terms.push(format!("source = {}", dialect.text(source)));
        }
        if let Some(seq) = filter.seq {
            terms.push(format!("seq = {}", dialect.seq(seq)));
        }
        let sql = format!(
            "SELECT source, seq, kind, reason, quarantine_id, ts, window_start, item_key, amount, at \
             FROM outcomes WHERE {} ORDER BY at DESC, source, seq LIMIT {limit}",
            terms.join(" AND ")
        );
        let rows = conn.rows_within(READ_TIMEOUT, &sql).await?;
        conn.close().await;
        let unit = unit(stream)?;
        rows.iter()
            .map(|row| {
                Ok(OutcomeRow {
                    source: row.text(0)?,
                    seq: row.u64(1)?,
                    kind: row.text(2)?,
                    reason: row.text(3)?,
                    quarantine_id: row.text(4)?,
                    ts: row.opt_time(5)?,
                    window: row.opt_time(6)?,
                    key: row.opt_text(7)?,
                    amount: row
                        .bytes(8)
                        .is_some()
                        .then(|| amount(row, 8, unit))
                        .transpose()?,
                    at: row.time(9)?,
                })
            })
            .collect::<Result<_, DbError>>()
            .map_err(StoreError::from)
    }
}

/// Rows of any number, read page by page, so that memory and each call stay bounded.
pub struct Pages<T> {
    conn: Conn,
    select: String,
    group: &'static str,
    /// The grouping columns, which are the order and the first columns selected.
    order: Vec<&'static str>,
    /// The condition that leaves out what was read.
    after: Option<String>,
    page: VecDeque<T>,
    done: bool,
    read: Box<dyn Fn(&Row) -> Result<T, DbError> + Send + Sync>,
}

impl<T> Pages<T> {
    /// The next row; `None` after the last.
    ///
    /// # Errors
    /// If the database does not answer. The reading cannot go on after that.
    pub async fn next(&mut self) -> Result<Option<T>, StoreError> {
        if self.page.is_empty() && !self.done {
            let after = self.after.take().unwrap_or_default();
            let sql = format!(
                "{}{after} {} ORDER BY {} LIMIT {PAGE}",
                self.select,
                self.group,
                self.order.join(", ")
            );
            let rows = self.conn.rows_within(READ_TIMEOUT, &sql).await?;
            self.done = rows.len() < PAGE;
            if let Some(last) = rows.last() {
                self.after = Some(self.beyond(last)?);
            }
            for row in &rows {
                self.page.push_back((self.read)(row)?);
            }
        }
        Ok(self.page.pop_front())
    }

    /// The condition that selects what sorts after a row. Spelt out: comparisons of tuples do not
    /// use an index everywhere.
    fn beyond(&self, row: &Row) -> Result<String, DbError> {
        let dialect = self.conn.dialect();
        let values = (0..self.order.len())
            .map(|i| {
                let value = row.text(i)?;
                Ok(match self.order[i] {
                    "amount" => value,
                    _ => dialect.text(&value),
                })
            })
            .collect::<Result<Vec<_>, DbError>>()?;
        let mut terms = Vec::new();
        for i in 0..self.order.len() {
            let equal = (0..i).map(|j| format!("{} = {} AND ", self.order[j], values[j]));
            terms.push(format!(
                "({}{} > {})",
                equal.collect::<String>(),
                self.order[i],
                values[i]
            ));
        }
        let (leading, value) = (self.order[0], &values[0]);
        Ok(format!(
            " AND {leading} >= {value} AND ({})",
            terms.join(" OR ")
        ))
    }
}

/// The runs that are missing between a source's lowest and highest settled seq.
async fn gaps(
    conn: &mut Conn,
    of: &str,
    source: &str,
    low: u64,
) -> Result<Vec<(u64, u64)>, StoreError> {
    let source_text = conn.dialect().text(source);
    let sql = format!(
        "SELECT block_no, seqs FROM ledger_blocks WHERE {of} AND source = {source_text} ORDER BY block_no"
    );
    let mut gaps = Vec::new();
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
            // Below `low` a block's content says nothing new.
            expected = expected.max(last.checked_add(1));
        }
    }
    Ok(gaps)
}

fn key(dialect: Dialect, stream: &Stream) -> String {
    format!(
        "stream = {} AND query = {}",
        dialect.text(&stream.name),
        dialect.text(&stream.query)
    )
}

fn unit(stream: &Stream) -> Result<i128, StoreError> {
    hundredths_a_unit(stream.scale).ok_or_else(|| {
        StoreError::Schema(format!("expected scale 0, 1 or 2, got {}", stream.scale))
    })
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

fn outcome_total(row: &Row, unit: i128) -> Result<OutcomeTotal, DbError> {
    let kind = row.parsed(0, "late or quarantined", |text| {
        [OutcomeKind::Late, OutcomeKind::Quarantined]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    })?;
    Ok(OutcomeTotal {
        kind,
        window: row.time(1)?,
        key: row.text(2)?,
        amount: amount(row, 3, unit)?,
        tuples: row.u64(4)?,
    })
}

/// An amount in minor units: hundredths in SQLite, a decimal elsewhere.
fn amount(row: &Row, column: usize, unit: i128) -> Result<i64, DbError> {
    row.parsed(column, "an amount", |text| {
        let hundredths = parse_decimal(text).or_else(|| text.parse().ok())?;
        i64::try_from(hundredths / unit).ok()
    })
}

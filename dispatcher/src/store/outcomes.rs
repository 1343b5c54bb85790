//! Tuples that were settled without being counted: to list them, and to compare with what was sent.

use serde::Serialize;
use windlass_functions::stream::Stream;

use super::conn::{DbError, READ_TIMEOUT};
use super::pages::{Pages, amount, unit};
use super::row::Row;
use super::sql::stream_key;
use super::{Store, StoreError};
use crate::plan::OutcomeKind;

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
    /// How many late and quarantined tuples there are of each kind, window, key and value, in this
    /// order; those that are not legible are left out.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn outcome_totals(&self, stream: &Stream) -> Result<Pages<OutcomeTotal>, StoreError> {
        let conn = self.open_migrated().await?;
        let dialect = conn.dialect();
        let unit = unit(stream)?;
        let select = format!(
            "SELECT kind, window_start, item_key, amount, COUNT(*) FROM outcomes \
                 WHERE {} AND window_start IS NOT NULL",
            stream_key(dialect, stream)
        );
        let order = &["kind", "window_start", "item_key", "amount"];
        Ok(Pages::new(conn, select, order, outcome_total, unit))
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
        let mut terms = vec![stream_key(dialect, stream)];
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

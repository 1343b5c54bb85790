//! What people read: windows and totals, from replicas in turn, with the answer's age.
//!
//! An answer's age is how far the server that gave it lags behind the primary: every commit and
//! every renewed lease stamps the shard's row (`seen_at`, by the primary's clock), and the age is
//! the primary's present time minus the newest stamp that the replica has; nothing when the primary
//! has no newer stamp either. When the primary does not answer, it is the replica's own time minus
//! that stamp: an upper bound, since nobody can tell whether there is anything newer.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::Serialize;
use windlass_functions::stream::Stream;

use super::conn::{Conn, READ_TIMEOUT};
use super::row::Row;
use super::sql::{Dialect, stream_key, time};
use super::{Store, StoreError, tables};

/// Which windows of the view `gmv_per_second`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GmvQuery {
    /// Windows that start at or after this, ms UTC.
    pub from: Option<i64>,
    /// Windows that start before this, ms UTC.
    pub to: Option<i64>,
    /// Only this province.
    pub province: Option<String>,
    /// Only the windows of this long before the end of the newest one.
    pub last: Option<Duration>,
}

/// A row of `gmv_per_second`. Money is exact decimal text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GmvRow {
    /// Start of the window, `YYYY-MM-DD HH:MM:SS.mmm` UTC.
    pub window_start: String,
    /// The key.
    pub province: String,
    /// How many orders.
    pub orders: u64,
    /// Their sum.
    pub gmv: String,
    /// `gmv / orders`, to four places.
    pub mean: String,
    /// The smallest amount.
    pub min_amount: String,
    /// The largest amount.
    pub max_amount: String,
    /// How often late orders have corrected the row.
    pub revision: u64,
    /// `open`, `closed` or `final`.
    pub state: String,
}

/// A row of `gmv_total`. Money is exact decimal text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TotalRow {
    /// The key.
    pub province: String,
    /// How many orders.
    pub orders: u64,
    /// Their sum.
    pub gmv: String,
    /// `gmv / orders`, to four places.
    pub mean: String,
    /// The smallest amount.
    pub min_amount: String,
    /// The largest amount.
    pub max_amount: String,
}

/// Rows, and where they come from.
#[derive(Clone, Debug)]
pub struct Answer<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// The server that gave them, without a password.
    pub server: String,
    /// How old they are, ms; `None` before the first commit.
    pub staleness_ms: Option<u64>,
    /// What a person should be told: replicas that did not answer, an age that is a bound.
    pub warnings: Vec<String>,
}

impl Answer<Row> {
    fn map<T>(self, row: fn(&Row) -> Result<T, StoreError>) -> Result<Answer<T>, StoreError> {
        Ok(Answer {
            rows: self.rows.iter().map(row).collect::<Result<_, _>>()?,
            server: self.server,
            staleness_ms: self.staleness_ms,
            warnings: self.warnings,
        })
    }
}

#[derive(Clone, Copy)]
enum Question<'a> {
    Gmv(&'a GmvQuery),
    Totals,
}

/// Reads from replicas in turn, beginning with any one of them, and from the primary when there are
/// none or none answers.
pub struct Reader {
    primary: Store,
    replicas: Vec<Store>,
    next: AtomicUsize,
    stream: Stream,
}

impl Reader {
    /// A reader that connects when it is asked.
    ///
    /// # Errors
    /// If a URL is not one of a store.
    pub fn new(primary: &str, replicas: &[String], stream: &Stream) -> Result<Self, StoreError> {
        Ok(Self {
            primary: Store::parse(primary)?,
            replicas: replicas
                .iter()
                .map(|url| Store::parse(url))
                .collect::<Result<_, _>>()?,
            next: random().into(),
            stream: stream.clone(),
        })
    }

    /// Windows in order of start and province.
    ///
    /// # Errors
    /// If neither a replica nor the primary answers.
    pub async fn gmv(&self, query: &GmvQuery) -> Result<Answer<GmvRow>, StoreError> {
        self.ask(Question::Gmv(query)).await?.map(gmv_row)
    }

    /// Totals of all time by province.
    ///
    /// # Errors
    /// If neither a replica nor the primary answers.
    pub async fn totals(&self) -> Result<Answer<TotalRow>, StoreError> {
        self.ask(Question::Totals).await?.map(total_row)
    }

    async fn ask(&self, question: Question<'_>) -> Result<Answer<Row>, StoreError> {
        let count = self.replicas.len();
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let mut warnings = Vec::new();
        for replica in (0..count).map(|i| &self.replicas[first.wrapping_add(i) % count]) {
            match self.ask_one(replica, question).await {
                Ok((stamp, rows)) => {
                    let staleness_ms = self.staleness(&stamp, &mut warnings).await;
                    return Ok(Answer {
                        rows,
                        server: replica.name().to_owned(),
                        staleness_ms,
                        warnings,
                    });
                }
                Err(error) => warnings.push(format!("replica skipped: {error}")),
            }
        }
        if count > 0 {
            warnings.push("no replica answered: this is the primary's answer".into());
        }
        let (stamp, rows) = self.ask_one(&self.primary, question).await?;
        Ok(Answer {
            rows,
            server: self.primary.name().to_owned(),
            staleness_ms: stamp.seen_at.map(|_| 0),
            warnings,
        })
    }

    async fn ask_one(
        &self,
        store: &Store,
        question: Question<'_>,
    ) -> Result<(Stamp, Vec<Row>), StoreError> {
        let mut conn = store.open_migrated().await?;
        // Before the rows: they may be newer than the age says, never older.
        let stamp = Stamp::read(&mut conn, &self.stream).await?;
        let (dialect, measures) = (conn.dialect(), measures(conn.dialect()));
        // As the views have it, which show the shipped stream alone.
        let of = format!(
            "r.stream = {} AND r.query = {}",
            dialect.text(&self.stream.name),
            dialect.text(&self.stream.query)
        );
        let sql = match question {
            Question::Gmv(query) => {
                let Some(condition) = self.condition(&mut conn, query).await? else {
                    return Ok((stamp, Vec::new()));
                };
                format!(
                    "SELECT window_start, province, orders, {measures}, revision, state \
                     FROM ({}) AS gmv_per_second {condition} ORDER BY window_start, province",
                    tables::per_second(dialect, &of)
                )
            }
            Question::Totals => {
                format!(
                    "SELECT province, orders, {measures} FROM ({}) AS gmv_total ORDER BY province",
                    tables::total(dialect, &of)
                )
            }
        };
        let rows = conn.rows_within(READ_TIMEOUT, &sql).await?;
        conn.close().await;
        Ok((stamp, rows))
    }

    async fn staleness(&self, replica: &Stamp, warnings: &mut Vec<String>) -> Option<u64> {
        let now = match self.primary_stamp().await {
            Ok(primary) if primary.seen_at <= replica.seen_at => {
                return replica.seen_at.map(|_| 0);
            }
            Ok(primary) => primary.now,
            Err(error) => {
                warnings.push(format!("the answer's age is an upper bound: {error}"));
                replica.now
            }
        };
        replica
            .seen_at
            .map(|seen_at| (now - seen_at).max(0).cast_unsigned())
    }

    async fn primary_stamp(&self) -> Result<Stamp, StoreError> {
        let mut conn = self.primary.open().await?;
        let stamp = Stamp::read(&mut conn, &self.stream).await?;
        conn.close().await;
        Ok(stamp)
    }

    /// The query as a `WHERE` clause of constants, so that it reaches the primary key; `None` if
    /// there is no window at all.
    async fn condition(
        &self,
        conn: &mut Conn,
        query: &GmvQuery,
    ) -> Result<Option<String>, StoreError> {
        let mut terms = Vec::new();
        let outside = |ms: i64| {
            StoreError::Url(format!(
                "expected a time of the years 1000 to 9999, got {ms} ms"
            ))
        };
        if let Some(last) = query.last {
            let newest = format!(
                "SELECT MAX(window_start) FROM results WHERE {}",
                stream_key(conn.dialect(), &self.stream)
            );
            let rows = conn.rows(&newest).await?;
            let Some(newest) = rows
                .first()
                .map(|row| row.opt_time(0))
                .transpose()?
                .flatten()
            else {
                return Ok(None);
            };
            let last = i64::try_from(last.as_millis()).unwrap_or(i64::MAX);
            let from = newest
                .saturating_add(self.stream.window_ms)
                .saturating_sub(last);
            // Longer than there have been windows: no condition.
            terms.extend(time(from).map(|from| format!("window_start >= {from}")));
        }
        if let Some(from) = query.from {
            let from = time(from).ok_or_else(|| outside(from))?;
            terms.push(format!("window_start >= {from}"));
        }
        if let Some(to) = query.to {
            let to = time(to).ok_or_else(|| outside(to))?;
            terms.push(format!("window_start < {to}"));
        }
        if let Some(province) = &query.province {
            terms.push(format!("province = {}", conn.dialect().text(province)));
        }
        Ok(Some(if terms.is_empty() {
            String::new()
        } else {
            format!("WHERE {}", terms.join(" AND "))
        }))
    }
}

/// Where to begin, so that short-lived processes do not all ask the first replica.
fn random() -> usize {
    // The hasher's keys are random, its hash of nothing therefore too.
    RandomState::new().hash_one(()) as usize
}

/// When a server last heard of the stream, and what time it is there, ms UTC.
struct Stamp {
    seen_at: Option<i64>,
    now: i64,
}

impl Stamp {
    async fn read(conn: &mut Conn, stream: &Stream) -> Result<Self, StoreError> {
        let dialect = conn.dialect();
        let sql = format!(
            "SELECT MAX(seen_at), {} FROM shards WHERE {}",
            dialect.now(),
            stream_key(dialect, stream)
        );
        let rows = conn.rows(&sql).await?;
        let row = rows.first().ok_or_else(|| {
            StoreError::Failed(anyhow::anyhow!(
                "the database answered an aggregate with no row"
            ))
        })?;
        Ok(Self {
            seen_at: row.opt_time(0)?,
            now: row.time(1)?,
        })
    }
}

/// The views' measures as exact decimal text.
pub(super) fn measures(dialect: Dialect) -> &'static str {
    match dialect {
        // Numbers as SQLite's views give them lose their trailing zeros.
        Dialect::Sqlite => {
            "CASE TYPEOF(gmv) WHEN 'text' THEN gmv ELSE PRINTF('%.2f', gmv) END, \
             PRINTF('%.4f', mean), \
             CASE TYPEOF(min_amount) WHEN 'text' THEN min_amount ELSE PRINTF('%.2f', min_amount) END, \
             CASE TYPEOF(max_amount) WHEN 'text' THEN max_amount ELSE PRINTF('%.2f', max_amount) END"
        }
        _ => "gmv, mean, min_amount, max_amount",
    }
}

pub(super) fn gmv_row(row: &Row) -> Result<GmvRow, StoreError> {
    Ok(GmvRow {
        window_start: row.text(0)?,
        province: row.text(1)?,
        orders: row.u64(2)?,
        gmv: row.text(3)?,
        mean: row.text(4)?,
        min_amount: row.text(5)?,
        max_amount: row.text(6)?,
        revision: row.u64(7)?,
        state: row.text(8)?,
    })
}

pub(super) fn total_row(row: &Row) -> Result<TotalRow, StoreError> {
    Ok(TotalRow {
        province: row.text(0)?,
        orders: row.u64(1)?,
        gmv: row.text(2)?,
        mean: row.text(3)?,
        min_amount: row.text(4)?,
        max_amount: row.text(5)?,
    })
}

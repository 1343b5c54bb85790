//! Aggregates of any number of groups, read page by page.

use std::collections::VecDeque;

use windlass_functions::stream::Stream;

use super::StoreError;
use super::conn::{Conn, DbError, READ_TIMEOUT};
use super::row::Row;
use super::sql::{hundredths_a_unit, parse_decimal};

/// Rows read in one go.
const PAGE: usize = 10_000;

/// Rows of any number, read page by page, so that memory and each call stay bounded.
pub struct Pages<T> {
    conn: Conn,
    select: String,
    /// The grouping columns, which are the order and the first columns selected.
    order: &'static [&'static str],
    /// The condition that leaves out what was read.
    after: Option<String>,
    page: VecDeque<T>,
    done: bool,
    read: fn(&Row, i128) -> Result<T, DbError>,
    /// Hundredths in a minor unit.
    unit: i128,
}

impl<T> Pages<T> {
    /// `select` ends in a `WHERE` clause.
    pub(super) fn new(
        conn: Conn,
        select: String,
        order: &'static [&'static str],
        read: fn(&Row, i128) -> Result<T, DbError>,
        unit: i128,
    ) -> Self {
        Self {
            conn,
            select,
            order,
            after: None,
            page: VecDeque::new(),
            done: false,
            read,
            unit,
        }
    }

    /// The next row; `None` after the last.
    ///
    /// # Errors
    /// If the database does not answer. The reading cannot go on after that.
    pub async fn next(&mut self) -> Result<Option<T>, StoreError> {
        if self.page.is_empty() && !self.done {
            let after = self.after.take().unwrap_or_default();
            let order = self.order.join(", ");
            let sql = format!(
                "{}{after} GROUP BY {order} ORDER BY {order} LIMIT {PAGE}",
                self.select
            );
            let rows = self.conn.rows_within(READ_TIMEOUT, &sql).await?;
            self.done = rows.len() < PAGE;
            if let Some(last) = rows.last() {
                self.after = Some(self.beyond(last)?);
            }
            for row in &rows {
                self.page.push_back((self.read)(row, self.unit)?);
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

/// Hundredths in a minor unit of a stream.
pub(super) fn unit(stream: &Stream) -> Result<i128, StoreError> {
    hundredths_a_unit(stream.scale).ok_or_else(|| {
        StoreError::Schema(format!("expected scale 0, 1 or 2, got {}", stream.scale))
    })
}

/// An amount in minor units: hundredths in SQLite, a decimal elsewhere.
pub(super) fn amount(row: &Row, column: usize, unit: i128) -> Result<i64, DbError> {
    row.parsed(column, "an amount", |text| {
        let hundredths = parse_decimal(text).or_else(|| text.parse().ok())?;
        i64::try_from(hundredths / unit).ok()
    })
}

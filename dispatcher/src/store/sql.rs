//! SQL text in two dialects: literals that cannot be misquoted, and the few forms that differ.
//!
//! Statements carry their values as literals rather than as parameters, so that a transaction of
//! any size is a handful of round trips and no server keeps a prepared statement for every number
//! of rows. Text and bytes are written in hexadecimal, which no content can break out of.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::Offset;

/// What a database speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    MySql,
    MariaDb,
    Sqlite,
}

/// SQLite's integers end at 2⁶³, sums do not: there they are `hi * LIMB + lo`.
pub(super) const LIMB: i128 = 1_000_000_000_000_000;

/// First and last instants that a `DATETIME(3)` can hold, ms UTC.
const TIMES: std::ops::RangeInclusive<i64> = -30_610_224_000_000..=253_402_300_799_999;

impl Dialect {
    /// A text literal, compared byte by byte.
    pub fn text(self, text: &str) -> String {
        match self {
            Self::Sqlite => format!("CAST({} AS TEXT)", hex(text.as_bytes())),
            Self::MySql | Self::MariaDb => format!("_utf8mb4 {}", hex(text.as_bytes())),
        }
    }

    /// The present instant of the database's own clock, UTC, to the millisecond.
    pub fn now(self) -> &'static str {
        match self {
            Self::Sqlite => "STRFTIME('%Y-%m-%d %H:%M:%f', 'now')",
            Self::MySql | Self::MariaDb => "UTC_TIMESTAMP(3)",
        }
    }

    /// The present instant plus some milliseconds.
    pub fn now_plus(self, ms: u128) -> String {
        match self {
            Self::Sqlite => format!(
                "STRFTIME('%Y-%m-%d %H:%M:%f', 'now', '+{}.{:03} seconds')",
                ms / 1000,
                ms % 1000
            ),
            Self::MySql | Self::MariaDb => {
                format!("UTC_TIMESTAMP(3) + INTERVAL {} MICROSECOND", ms * 1000)
            }
        }
    }

    /// A sequence number. SQLite has no unsigned integers: there the upper half is negative.
    pub fn seq(self, seq: u64) -> String {
        match self {
            Self::Sqlite => seq.cast_signed().to_string(),
            Self::MySql | Self::MariaDb => seq.to_string(),
        }
    }

    /// The opening of an upsert's update part; `key` are the columns of the primary key.
    pub fn on_conflict(self, key: &str) -> String {
        match self {
            Self::Sqlite => format!(" ON CONFLICT({key}) DO UPDATE SET "),
            Self::MySql | Self::MariaDb => " ON DUPLICATE KEY UPDATE ".into(),
        }
    }

    /// In an upsert's update part: the value that was to be inserted.
    pub fn proposed(self, column: &str) -> String {
        match self {
            Self::Sqlite => format!("excluded.{column}"),
            // The row alias of newer MySQL is unknown to MariaDB.
            Self::MySql | Self::MariaDb => format!("VALUES({column})"),
        }
    }

    /// `column = column + proposed`.
    pub fn add(self, table: &str, column: &str) -> String {
        format!("{column} = {table}.{column} + {}", self.proposed(column))
    }

    /// `column = the smaller (or larger) of column and proposed`.
    pub fn extreme(self, table: &str, column: &str, largest: bool) -> String {
        let function = match (self, largest) {
            (Self::Sqlite, false) => "MIN",
            (Self::Sqlite, true) => "MAX",
            (Self::MySql | Self::MariaDb, false) => "LEAST",
            (Self::MySql | Self::MariaDb, true) => "GREATEST",
        };
        format!(
            "{column} = {function}({table}.{column}, {})",
            self.proposed(column)
        )
    }
}

/// A literal of bytes.
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut literal = String::with_capacity(bytes.len() * 2 + 3);
    literal.push_str("x'");
    for byte in bytes {
        let _ = write!(literal, "{byte:02x}");
    }
    literal.push('\'');
    literal
}

/// A `DATETIME(3)` literal; `None` if the instant lies outside the years 1000 to 9999.
pub(super) fn time(ms: i64) -> Option<String> {
    if !TIMES.contains(&ms) {
        return None;
    }
    let at = Offset::UTC.to_datetime(Timestamp::from_millisecond(ms).ok()?);
    Some(format!("'{}'", at.strftime("%Y-%m-%d %H:%M:%S.%3f")))
}

/// A `DATETIME(3)` literal, or `NULL` for no instant and for one that no `DATETIME` can hold.
pub(super) fn time_or_null(ms: Option<i64>) -> String {
    ms.and_then(time).unwrap_or_else(|| "NULL".into())
}

/// Reads a `DATETIME(3)` as the databases print it, into ms UTC.
pub(super) fn parse_time(text: &str) -> Option<i64> {
    let at = jiff::civil::DateTime::strptime("%Y-%m-%d %H:%M:%S%.f", text).ok()?;
    Some(Offset::UTC.to_timestamp(at).ok()?.as_millisecond())
}

/// Hundredths as a decimal number: `-12345` is `-123.45`.
pub(super) fn decimal(hundredths: i128) -> String {
    let magnitude = hundredths.unsigned_abs();
    format!(
        "{}{}.{:02}",
        if hundredths < 0 { "-" } else { "" },
        magnitude / 100,
        magnitude % 100
    )
}

/// Reads what [`decimal`] wrote.
pub(super) fn parse_decimal(text: &str) -> Option<i128> {
    let (whole, fraction) = text.split_once('.')?;
    let digits = format!("{whole}{fraction}");
    (fraction.len() == 2).then(|| digits.parse().ok())?
}

/// A stream's scale as what one of its minor units is in hundredths; `None` beyond two places.
pub(super) fn hundredths_a_unit(scale: u8) -> Option<i128> {
    [100, 10, 1].get(usize::from(scale)).copied()
}

/// The values of multi-row `INSERT`s, cut so that no statement exceeds `limit` bytes by more than
/// one row.
pub(super) fn inserts(
    head: &str,
    rows: impl IntoIterator<Item = String>,
    tail: &str,
    limit: usize,
) -> Vec<String> {
    let mut statements: Vec<String> = Vec::new();
    let mut open = false;
    for row in rows {
        match statements.last_mut() {
            Some(statement) if open => {
                statement.push(',');
                statement.push_str(&row);
            }
            _ => statements.push(format!("{head} VALUES {row}")),
        }
        let last = statements.last_mut().expect("one was just pushed");
        open = last.len() < limit;
        if !open {
            last.push_str(tail);
        }
    }
    if open && let Some(last) = statements.last_mut() {
        last.push_str(tail);
    }
    statements
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_in_a_literal_cannot_end_it() {
        assert_eq!(Dialect::MySql.text("a'\\"), "_utf8mb4 x'61275c'");
        assert_eq!(Dialect::Sqlite.text("'\0"), "CAST(x'2700' AS TEXT)");
        assert_eq!(Dialect::Sqlite.text(""), "CAST(x'' AS TEXT)");
    }

    #[test]
    fn times_are_written_and_read_to_the_millisecond() {
        for ms in [0, 1, -1, 1_762_819_200_123, *TIMES.start(), *TIMES.end()] {
            let literal = time(ms).unwrap();
            assert_eq!(parse_time(literal.trim_matches('\'')), Some(ms));
        }
        assert_eq!(
            time(1_762_819_200_007).unwrap(),
            "'2025-11-11 00:00:00.007'"
        );
        assert_eq!(time(*TIMES.start()).unwrap(), "'1000-01-01 00:00:00.000'");
        assert_eq!(time(*TIMES.end()).unwrap(), "'9999-12-31 23:59:59.999'");
    }

    #[test]
    fn an_instant_that_no_datetime_can_hold_is_null() {
        assert_eq!(time(*TIMES.end() + 1), None);
        assert_eq!(time_or_null(Some(i64::MIN)), "NULL");
        assert_eq!(time_or_null(None), "NULL");
    }

    #[test]
    fn hundredths_are_written_and_read_exactly() {
        for hundredths in [0, 1, -1, 99, -100, i128::MAX, i128::MIN + 1] {
            assert_eq!(parse_decimal(&decimal(hundredths)), Some(hundredths));
        }
        assert_eq!(decimal(-5), "-0.05");
    }

    #[test]
    fn rows_are_spread_over_statements_of_bounded_size() {
        let rows = ["(1)", "(2)", "(3)"].map(String::from);
        assert_eq!(
            inserts("I", rows.clone(), " T", 1000),
            ["I VALUES (1),(2),(3) T"]
        );
        assert_eq!(
            inserts("I", rows, " T", 1),
            ["I VALUES (1) T", "I VALUES (2) T", "I VALUES (3) T"]
        );
        assert!(inserts("I", [], " T", 1).is_empty());
    }
}

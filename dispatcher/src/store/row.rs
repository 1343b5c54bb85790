//! A row that a database answered.

use super::conn::DbError;
use super::sql::parse_time;

/// A row as text (numbers, times) or bytes, whatever the dialect.
#[derive(Debug)]
pub(super) struct Row(Vec<Option<Vec<u8>>>);

impl Row {
    pub fn read(
        columns: usize,
        column: impl Fn(usize) -> Result<Option<Vec<u8>>, sqlx::Error>,
    ) -> Result<Self, DbError> {
        Ok(Self((0..columns).map(column).collect::<Result<_, _>>()?))
    }

    /// The bytes of a column, `None` for `NULL`.
    pub fn bytes(&self, column: usize) -> Option<&[u8]> {
        self.0.get(column)?.as_deref()
    }

    fn opt<T>(
        &self,
        column: usize,
        what: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, DbError> {
        self.bytes(column)
            .map(|bytes| {
                std::str::from_utf8(bytes)
                    .ok()
                    .and_then(parse)
                    .ok_or_else(|| {
                        let came = String::from_utf8_lossy(bytes);
                        DbError::Answer(format!("expected {what}, got {came:?}"))
                    })
            })
            .transpose()
    }

    fn present<T>(&self, value: Option<T>, column: usize) -> Result<T, DbError> {
        value.ok_or_else(|| DbError::Answer(format!("NULL in column {column}")))
    }

    pub fn opt_text(&self, column: usize) -> Result<Option<String>, DbError> {
        self.opt(column, "text", |text| Some(text.to_owned()))
    }

    pub fn text(&self, column: usize) -> Result<String, DbError> {
        self.present(self.opt_text(column)?, column)
    }

    pub fn opt_i64(&self, column: usize) -> Result<Option<i64>, DbError> {
        self.opt(column, "an integer", |text| text.parse().ok())
    }

    pub fn i64(&self, column: usize) -> Result<i64, DbError> {
        self.present(self.opt_i64(column)?, column)
    }

    /// An unsigned integer; a negative one is SQLite's way to hold the upper half.
    pub fn u64(&self, column: usize) -> Result<u64, DbError> {
        let value = self.opt(column, "an unsigned integer", |text| {
            let signed = text.parse::<i64>().ok().map(i64::cast_unsigned);
            text.parse().ok().or(signed)
        })?;
        self.present(value, column)
    }

    pub fn u32(&self, column: usize) -> Result<u32, DbError> {
        let value = self.opt(column, "a small integer", |text| text.parse().ok())?;
        self.present(value, column)
    }

    pub fn opt_f64(&self, column: usize) -> Result<Option<f64>, DbError> {
        self.opt(column, "a number", |text| text.parse().ok())
    }

    pub fn opt_time(&self, column: usize) -> Result<Option<i64>, DbError> {
        self.opt(column, "a time", parse_time)
    }

    pub fn time(&self, column: usize) -> Result<i64, DbError> {
        self.present(self.opt_time(column)?, column)
    }

    pub fn parsed<T>(
        &self,
        column: usize,
        what: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, DbError> {
        let value = self.opt(column, what, parse)?;
        self.present(value, column)
    }
}

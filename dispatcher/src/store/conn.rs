//! One connection to a database, every call on it bounded in time.
//!
//! A connection on which anything was left in doubt (a timeout, an IO error, a call abandoned by
//! its caller) is dropped at once and never used again: an answer that arrives late must not be
//! taken for the answer to the next question.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use sqlx::error::ErrorKind;
use sqlx::mysql::MySqlConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, MySqlConnection, Row as _, SqliteConnection,
};

use super::row::Row;
use super::sql::Dialect;

/// How long a connection may take to be ready.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a statement may take. Waiting for a lock ends sooner, by [`LOCK_TIMEOUT`].
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a statement may wait for a lock.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// How much longer than it allows a database to take it is waited for.
const GRACE: Duration = Duration::from_secs(2);
/// Instructions of SQLite's machine between two looks at the clock: some tens of microseconds.
const OPS: i32 = 10_000;
/// From finding an SQLite file locked to looking again.
const LOCKED: Duration = Duration::from_millis(10);
/// How long a read of many rows may take.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(120);

/// Where a database is and how to open it.
#[derive(Clone, Debug)]
pub(super) enum Target {
    MySql(Box<MySqlConnectOptions>),
    Sqlite(Box<SqliteConnectOptions>),
}

enum Inner {
    MySql(MySqlConnection),
    Sqlite(SqliteConnection),
}

/// A connection that takes statements as text.
pub(super) struct Conn {
    inner: Option<Inner>,
    dialect: Dialect,
    /// Statements are cut to this many bytes, below the server's `max_allowed_packet`.
    packet: usize,
}

/// Why a call on a connection failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum DbError {
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
    #[error("the connection was lost earlier")]
    Closed,
    #[error("the database answered something else than was asked for: {0}")]
    Answer(String),
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
}

impl DbError {
    /// MySQL's or MariaDB's error number.
    pub fn number(&self) -> Option<u16> {
        let Self::Sql(sqlx::Error::Database(error)) = self else {
            return None;
        };
        error
            .try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>()
            .map(sqlx::mysql::MySqlDatabaseError::number)
    }

    /// Whether the same transaction may succeed when it is run again: a deadlock, a lock not got
    /// in time, a row changed since the snapshot.
    pub fn is_contention(&self) -> bool {
        match self {
            Self::Sql(sqlx::Error::Database(error)) => match self.number() {
                Some(number) => matches!(number, 1020 | 1205 | 1213),
                // SQLite's primary code is the low byte: busy is 5, locked is 6.
                None => error
                    .code()
                    .and_then(|code| code.parse::<u32>().ok())
                    .is_some_and(|code| matches!(code & 0xff, 5 | 6)),
            },
            _ => false,
        }
    }

    /// Whether a row of the same key was there already.
    pub fn is_duplicate(&self) -> bool {
        matches!(self, Self::Sql(sqlx::Error::Database(error))
            if error.kind() == ErrorKind::UniqueViolation)
    }

    /// Whether the database was not done in the time that the statement had.
    pub fn is_overlong(&self) -> bool {
        match self {
            Self::Timeout(_) => true,
            Self::Sql(sqlx::Error::Database(error)) => match self.number() {
                Some(number) => matches!(number, 1969 | 3024),
                // SQLITE_INTERRUPT
                None => error.code().as_deref() == Some("9"),
            },
            _ => false,
        }
    }

    /// Whether the user lacks a privilege.
    pub fn is_forbidden(&self) -> bool {
        matches!(self.number(), Some(1044 | 1142 | 1143 | 1227))
    }

    /// Whether the server refused a statement, and the connection is as good as before.
    fn is_refusal(&self) -> bool {
        matches!(self, Self::Sql(sqlx::Error::Database(_)))
            && !matches!(
                self.number(),
                // Shutting down, killed, or read timed out: a last word, not an answer.
                Some(1053 | 1077 | 1080 | 1152 | 1158..=1161 | 1184 | 1927 | 4031)
            )
    }
}

impl Target {
    /// The same, but a file that is missing is made.
    pub fn creating(self) -> Self {
        match self {
            Self::Sqlite(options) => Self::Sqlite(Box::new(options.create_if_missing(true))),
            Self::MySql(_) => self,
        }
    }

    /// Opens a connection with the session settings that every part of the store relies on.
    pub async fn open(&self) -> Result<Conn, DbError> {
        let opening = async {
            match self {
                Self::MySql(options) => Conn::mysql(options.connect().await?).await,
                Self::Sqlite(options) => Ok(Conn {
                    inner: Some(Inner::Sqlite(open_file(options).await?)),
                    dialect: Dialect::Sqlite,
                    packet: 256 << 10,
                }),
            }
        };
        tokio::time::timeout(CONNECT_TIMEOUT, opening)
            .await
            .map_err(|_| DbError::Timeout(CONNECT_TIMEOUT))?
    }
}

/// Opens an SQLite file. Its journal's mode is set then, for which SQLite does not wait: of those that
/// open a new file at once, one may do so, and the others are told that it is locked.
async fn open_file(options: &SqliteConnectOptions) -> Result<SqliteConnection, DbError> {
    loop {
        match options.connect().await.map_err(DbError::from) {
            Err(error) if error.is_contention() => tokio::time::sleep(LOCKED).await,
            opened => return opened,
        }
    }
}

impl Inner {
    async fn execute(&mut self, sql: &str) -> Result<u64, DbError> {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        Ok(match self {
            Self::MySql(conn) => sql.execute(conn).await?.rows_affected(),
            Self::Sqlite(conn) => sql.execute(conn).await?.rows_affected(),
        })
    }

    async fn rows(&mut self, sql: &str) -> Result<Vec<Row>, DbError> {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        let mut rows = Vec::new();
        match self {
            Self::MySql(conn) => {
                let mut stream = sql.fetch(conn);
                while let Some(row) = stream.try_next().await? {
                    rows.push(Row::read(row.len(), |i| row.try_get_unchecked(i))?);
                }
            }
            Self::Sqlite(conn) => {
                let mut stream = sql.fetch(conn);
                while let Some(row) = stream.try_next().await? {
                    rows.push(Row::read(row.len(), |i| row.try_get_unchecked(i))?);
                }
            }
        }
        Ok(rows)
    }
}

impl Conn {
    async fn mysql(connection: MySqlConnection) -> Result<Self, DbError> {
        let mut conn = Self {
            inner: Some(Inner::MySql(connection)),
            dialect: Dialect::MySql,
            packet: 0,
        };
        let lock = LOCK_TIMEOUT.as_secs();
        let answer = conn
            .rows(&format!(
                "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,\
                 ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00', \
                 autocommit = 1, innodb_lock_wait_timeout = {lock}; \
                 SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
                 SELECT VERSION(), @@max_allowed_packet"
            ))
            .await?;
        let row = answer
            .first()
            .ok_or_else(|| DbError::Answer("no version".into()))?;
        if row.text(0)?.contains("MariaDB") {
            conn.dialect = Dialect::MariaDb;
        }
        conn.packet = usize::try_from(row.u64(1)? / 2)
            .unwrap_or(usize::MAX)
            .min(1 << 20);
        Ok(conn)
    }

    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Bytes that a statement may have.
    pub fn packet(&self) -> usize {
        self.packet
    }

    /// Whether the connection can still be used, as far as is known.
    pub fn is_open(&self) -> bool {
        self.inner.is_some()
    }

    /// Drops the connection.
    pub fn abandon(&mut self) {
        self.inner = None;
    }

    /// Runs statements (separated by semicolons) and says how many rows they matched together.
    pub async fn execute(&mut self, sql: &str) -> Result<u64, DbError> {
        let mut inner = self.inner.take().ok_or(DbError::Closed)?;
        let result = tokio::time::timeout(CALL_TIMEOUT, inner.execute(sql)).await;
        self.settle(inner, CALL_TIMEOUT, result)
    }

    /// Runs statements and returns all their rows.
    pub async fn rows(&mut self, sql: &str) -> Result<Vec<Row>, DbError> {
        self.rows_within(CALL_TIMEOUT, sql).await
    }

    /// Like [`Self::rows`], with a limit of time of its own.
    pub async fn rows_within(&mut self, limit: Duration, sql: &str) -> Result<Vec<Row>, DbError> {
        let mut inner = self.inner.take().ok_or(DbError::Closed)?;
        let result = tokio::time::timeout(limit, inner.rows(sql)).await;
        self.settle(inner, limit, result)
    }

    /// Runs a SELECT that the database itself ends after `limit`, so that it does not go on reading
    /// for nobody; [`DbError::is_overlong`] then.
    pub async fn select_within(
        &mut self,
        limit: Duration,
        select: &str,
    ) -> Result<Vec<Row>, DbError> {
        let sql = match self.dialect {
            Dialect::MariaDb => format!(
                "SET STATEMENT max_statement_time = {:.3} FOR {select}",
                limit.as_secs_f64()
            ),
            Dialect::MySql => {
                let hint = format!("SELECT /*+ MAX_EXECUTION_TIME({}) */", limit.as_millis());
                select.replacen("SELECT", &hint, 1)
            }
            Dialect::Sqlite => select.to_owned(),
        };
        let until = tokio::time::Instant::now() + limit;
        if let Some(Inner::Sqlite(conn)) = &mut self.inner {
            let goes_on = move || tokio::time::Instant::now() < until;
            conn.lock_handle().await?.set_progress_handler(OPS, goes_on);
        }
        let rows = self.rows_within(limit + GRACE, &sql).await;
        if let Some(Inner::Sqlite(conn)) = &mut self.inner {
            conn.lock_handle().await?.remove_progress_handler();
        }
        rows
    }

    /// Like [`Self::rows_within`], but of these columns only, by their names.
    pub async fn named_within(
        &mut self,
        limit: Duration,
        sql: &str,
        columns: &[&str],
    ) -> Result<Vec<Row>, DbError> {
        let mut inner = self.inner.take().ok_or(DbError::Closed)?;
        let asked = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        let reading = async {
            match &mut inner {
                Inner::MySql(conn) => {
                    let rows = asked.fetch_all(conn).await?;
                    let named = rows
                        .iter()
                        .map(|row| Row::read(columns.len(), |i| row.try_get_unchecked(columns[i])));
                    named.collect::<Result<Vec<_>, DbError>>()
                }
                Inner::Sqlite(conn) => {
                    let rows = asked.fetch_all(conn).await?;
                    let named = rows
                        .iter()
                        .map(|row| Row::read(columns.len(), |i| row.try_get_unchecked(columns[i])));
                    named.collect::<Result<Vec<_>, DbError>>()
                }
            }
        };
        let result = tokio::time::timeout(limit, reading).await;
        self.settle(inner, limit, result)
    }

    /// Puts the connection back where it was taken from, if it is as good as before. It is out of
    /// its place while in use, so that whoever drops the call drops the connection.
    fn settle<T>(
        &mut self,
        inner: Inner,
        limit: Duration,
        result: Result<Result<T, DbError>, tokio::time::error::Elapsed>,
    ) -> Result<T, DbError> {
        let result = result.unwrap_or(Err(DbError::Timeout(limit)));
        match &result {
            Ok(_) => self.inner = Some(inner),
            Err(error) if error.is_refusal() => self.inner = Some(inner),
            Err(_) => {}
        }
        result
    }

    /// Begins a transaction and runs its first statement; says how many rows that matched.
    pub async fn begin_with(&mut self, sql: &str) -> Result<u64, DbError> {
        match self.dialect {
            Dialect::MySql | Dialect::MariaDb => self.execute(&format!("BEGIN; {sql}")).await,
            Dialect::Sqlite => {
                // Taking the write lock first: a read that turns into a write cannot wait for it.
                self.execute("BEGIN IMMEDIATE").await?;
                self.execute(sql).await
            }
        }
    }

    /// Begins a transaction that reads, all of it, the database of one moment.
    pub async fn begin_snapshot(&mut self) -> Result<(), DbError> {
        self.execute(match self.dialect {
            Dialect::Sqlite => "BEGIN",
            _ => {
                "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; \
                 START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"
            }
        })
        .await
        .map(drop)
    }

    /// Undoes the transaction in progress, or gives the connection up.
    pub async fn rollback(&mut self) {
        if self.execute("ROLLBACK").await.is_err() {
            self.abandon();
        }
    }

    /// Closes the connection in good order, as far as that is possible at once.
    pub async fn close(mut self) {
        let closing = async {
            match self.inner.take() {
                Some(Inner::MySql(conn)) => conn.close().await,
                Some(Inner::Sqlite(conn)) => conn.close().await,
                None => Ok(()),
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), closing).await;
    }
}

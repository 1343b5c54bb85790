//! The store: results, ledger and progress in MySQL, MariaDB or an SQLite file.
//!
//! Only this module knows SQL. What it promises to the rest: a [`CommitPlan`] is carried out as one
//! transaction or not at all, and only by the owner of the shard's epoch; no call waits for ever;
//! no message or log line contains a password.
//!
//! [`CommitPlan`]: crate::plan::CommitPlan

mod audit;
mod board;
mod commit;
mod conn;
mod outcomes;
mod pages;
mod read;
mod replicas;
mod retention;
mod row;
mod runs;
mod scaler;
mod schema;
mod sql;
mod statements;
mod tables;
mod writer;

use std::path::Path;
use std::str::FromStr as _;
use std::time::Duration;

use sqlx::ConnectOptions as _;
use sqlx::mysql::MySqlConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use url::Url;
use windlass_functions::stream::Stream;
use windlass_functions::trust;

pub use audit::{Audit, Imbalance, SourceAudit, WindowTotal};
pub use board::{
    BoardReader, ChoiceSeen, Progress, ReplicaState, Replication, ScalerSeen, Skipped, Snapshot,
    Step, TableSeen,
};
pub use commit::{CommitError, Committed};
use conn::{Conn, DbError, LOCK_TIMEOUT, Target};
pub use outcomes::{OutcomeFilter, OutcomeRow, OutcomeTotal};
pub use pages::Pages;
pub use read::{Answer, GmvQuery, GmvRow, Reader, TotalRow};
pub use replicas::{Gate, Replicas};
pub use retention::Old;
pub use runs::{Claimed, RunEnd, RunRow, RunState};
pub use scaler::{DecisionRow, Followed, Journal, ScalerState, TableRow};
pub use writer::Writer;

/// Why a database cannot be used. Each message is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL is not one of a store.
    #[error("{0}")]
    Url(String),
    /// Nothing answers at that address, or not in time. Trying again later may help.
    #[error("{0}")]
    Unreachable(String),
    /// The server knows no such user or password, or lets it not in from here.
    #[error("{0}")]
    Denied(String),
    /// The server has no such database.
    #[error("{0}")]
    UnknownDatabase(String),
    /// The user may not do what windlass needs; names the grant.
    #[error("{0}")]
    Privilege(String),
    /// The schema is of another version, or the stream has another shape.
    #[error("{0}")]
    Schema(String),
    /// Somebody else holds what is needed. Trying again later may help.
    #[error("{0}")]
    Busy(String),
    /// The database was not done in time with so large a question. A smaller one may be answered.
    #[error("{0}")]
    Overlong(String),
    /// Anything else.
    #[error("{0:#}")]
    Failed(anyhow::Error),
}

impl StoreError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Busy(_) => true,
            Self::Failed(error) => error
                .downcast_ref::<DbError>()
                .is_some_and(|error| !matches!(error, DbError::Answer(_))),
            _ => false,
        }
    }
}

impl From<DbError> for StoreError {
    fn from(error: DbError) -> Self {
        Self::Failed(anyhow::Error::new(error).context("the database failed"))
    }
}

/// A database, known to answer. Opens a connection for each use of it; cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    target: Target,
    /// What messages call it; no password.
    name: String,
    /// The database's name, for messages about grants.
    database: String,
}

impl Store {
    /// Connects to `mysql://USER:PASSWORD@HOST:PORT/DATABASE` or `sqlite:PATH`.
    ///
    /// # Errors
    /// If the URL is no such thing, or the database is unreachable, unknown or denied.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        let store = Self::parse(url)?;
        // A file that is not there yet is for `migrate` to make.
        if !matches!(store.target, Target::Sqlite(_)) || Path::new(&store.database).exists() {
            store.open().await?.close().await;
        }
        Ok(store)
    }

    fn parse(url: &str) -> Result<Self, StoreError> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            return Self::parse_sqlite(path);
        }
        // The text itself may hold a password, so no message repeats it.
        let bad = |why: &str| {
            StoreError::Url(format!(
                "expected a store URL like mysql://USER:PASSWORD@HOST:3306/DATABASE or sqlite:PATH: {why}"
            ))
        };
        let mut parsed = Url::parse(url).map_err(|error| bad(&error.to_string()))?;
        if !matches!(parsed.scheme(), "mysql" | "mariadb") {
            return Err(bad(&format!("its scheme is {:?}", parsed.scheme())));
        }
        let database = parsed.path().trim_start_matches('/').to_owned();
        if database.is_empty() {
            return Err(bad("the database's name is missing"));
        }
        if parsed.host_str().is_none_or(str::is_empty) {
            return Err(bad("the host is missing"));
        }
        let options = MySqlConnectOptions::from_str(url)
            .map_err(|error| bad(&error.to_string()))?
            // Set in one go with the rest of the session, when the connection is there.
            .pipes_as_concat(false)
            .no_engine_substitution(false)
            .timezone(None)
            .disable_statement_logging();
        let _ = parsed.set_password(None);
        parsed.set_query(None);
        Ok(Self {
            target: Target::MySql(Box::new(options)),
            name: parsed.to_string(),
            database,
        })
    }

    fn parse_sqlite(path: &str) -> Result<Self, StoreError> {
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() || path.starts_with(":memory:") {
            return Err(StoreError::Url(
                "expected sqlite:PATH with a path of a file, which several connections can share"
                    .into(),
            ));
        }
        let directory = Path::new(path)
            .parent()
            .filter(|d| !d.as_os_str().is_empty());
        if let Some(directory) = directory
            && !directory.is_dir()
        {
            return Err(StoreError::UnknownDatabase(format!(
                "cannot open sqlite:{path}: create the directory {} first",
                directory.display()
            )));
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            // A commit is on disk when it returns, as it is on a server.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(LOCK_TIMEOUT)
            .disable_statement_logging();
        Ok(Self {
            target: Target::Sqlite(Box::new(options)),
            name: format!("sqlite:{path}"),
            database: path.to_owned(),
        })
    }

    /// The URL without the password.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes tables, views and the stream where they are missing; safe from several processes at
    /// once.
    ///
    /// # Errors
    /// If the database has another version's schema, foreign tables or a stream of another shape,
    /// or the user lacks a privilege.
    pub async fn migrate(&self, stream: &Stream, shards: u32) -> Result<(), StoreError> {
        let opened = self.target.clone().creating().open().await;
        let mut conn = opened.map_err(|error| self.explain(error))?;
        let done = schema::migrate(&mut conn, &self.database, stream, shards).await;
        conn.close().await;
        done
    }

    /// Checks, without writing, that the schema and the stream are as expected.
    ///
    /// # Errors
    /// If they are not.
    pub async fn check(&self, stream: &Stream, shards: u32) -> Result<(), StoreError> {
        let mut conn = self.open().await?;
        let done = schema::check(&mut conn, &self.database, stream, shards).await;
        conn.close().await;
        done
    }

    /// The writer of one shard. It connects when it is first used.
    ///
    /// `owner` says, to people who look into `shards`, which process it is. `lease` is for how long
    /// the shard counts as owned after each sign of life; the server also ends the session after
    /// that long without a call (but at least a second), so renew within half of it.
    pub fn writer(&self, stream: &Stream, shard: u32, owner: &str, lease: Duration) -> Writer {
        Writer::new(self.clone(), stream, shard, owner, lease)
    }

    async fn open(&self) -> Result<Conn, StoreError> {
        self.target
            .open()
            .await
            .map_err(|error| self.explain(error))
    }

    /// Opens a database that must have been migrated.
    async fn open_migrated(&self) -> Result<Conn, StoreError> {
        let mut conn = self.open().await?;
        schema::check_version(&mut conn, &self.database).await?;
        Ok(conn)
    }

    /// What to do about a connection that could not be opened.
    fn explain(&self, error: DbError) -> StoreError {
        let name = &self.name;
        match (&error, error.number()) {
            (_, Some(1044 | 1045 | 1130 | 1698)) => StoreError::Denied(format!(
                "{name} denies access ({error}): check user, password and the user's grants"
            )),
            (_, Some(1049)) => StoreError::UnknownDatabase(format!(
                "{name} has no such database: create it first, or correct the name"
            )),
            (DbError::Sql(sqlx::Error::Database(_)), None) => StoreError::UnknownDatabase(format!(
                "cannot open {name} ({error}): run `windlass migrate` to create it, or check the path and its permissions"
            )),
            _ => {
                let text = trust::chain(&error);
                let meaning = trust::explain(&text);
                StoreError::Unreachable(format!(
                    "cannot reach {name} ({error}): {}",
                    meaning.unwrap_or("is the server running, and are host and port right?")
                ))
            }
        }
    }
}

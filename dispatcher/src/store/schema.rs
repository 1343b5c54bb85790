//! Making the tables and views, and checking that they fit.
//!
//! Every table is keyed by stream and query. A stream's shards, window and scale are fixed when
//! its row is made; other values are refused later, since rows of two shapes cannot be merged.

use windlass_functions::stream::Stream;

use super::StoreError;
use super::conn::{Conn, DbError};
use super::scaler::tables as scaler;
use super::sql::{Dialect, hundredths_a_unit, stream_key};
use super::tables::{tables, views};

/// The schema that this release reads and writes.
const VERSION: u32 = 2;

/// Held in the version table while the tables are being made.
const UNFINISHED: u32 = 0;

/// What an earlier release made, which lacks tables and has none that differ: they are added.
const LACKING: [u32; 1] = [1];

const TABLES: [&str; 11] = [
    "streams",
    "shards",
    "results",
    "totals",
    "ledger",
    "ledger_blocks",
    "outcomes",
    "retention",
    "datagen_runs",
    "datagen_manifests",
    "commit_log",
];

/// Makes the tables, views and the stream's rows where they are missing. Any number of processes
/// may do so at once.
pub(super) async fn migrate(
    conn: &mut Conn,
    database: &str,
    stream: &Stream,
    shards: u32,
) -> Result<(), StoreError> {
    refuse_unfit(stream, shards)?;
    let dialect = conn.dialect();
    let failed = |error| privilege(error, database);
    if dialect == Dialect::Sqlite {
        conn.execute("BEGIN IMMEDIATE").await.map_err(failed)?;
    } else {
        let lock = format!("SELECT GET_LOCK({}, 10)", lock_name(dialect, database));
        let got = conn.rows(&lock).await.map_err(failed)?;
        if got.first().and_then(|row| row.bytes(0)) != Some(b"1") {
            return Err(StoreError::Busy(
                "another process has been migrating this database for 10 s: try again when it is done".into(),
            ));
        }
    }
    let done = make(conn, database, stream, shards).await;
    if done.is_err() && dialect == Dialect::Sqlite {
        conn.rollback().await;
    }
    done?;
    let end = match dialect {
        Dialect::Sqlite => "COMMIT".to_owned(),
        _ => format!("DO RELEASE_LOCK({})", lock_name(dialect, database)),
    };
    conn.execute(&end).await.map_err(failed)?;
    Ok(())
}

async fn make(
    conn: &mut Conn,
    database: &str,
    stream: &Stream,
    shards: u32,
) -> Result<(), StoreError> {
    let dialect = conn.dialect();
    let failed = |error| privilege(error, database);
    match version(conn).await.map_err(failed)? {
        Some(VERSION) => {}
        found => {
            if found.is_none() {
                refuse_foreign(conn).await?;
                let start = format!(
                    "CREATE TABLE windlass_schema (version INTEGER NOT NULL PRIMARY KEY); \
                     INSERT INTO windlass_schema VALUES ({UNFINISHED})"
                );
                conn.execute(&start).await.map_err(failed)?;
            } else if !found.is_some_and(|found| found == UNFINISHED || LACKING.contains(&found)) {
                return Err(other_version(found));
            }
            for statement in tables(dialect).iter().chain(&views(dialect)) {
                conn.execute(statement).await.map_err(failed)?;
            }
            let finish = format!("UPDATE windlass_schema SET version = {VERSION}");
            conn.execute(&finish).await.map_err(failed)?;
        }
    }
    if stream_row(conn, stream).await.map_err(failed)?.is_none() {
        let (name, query) = (dialect.text(&stream.name), dialect.text(&stream.query));
        // Shards first: a crash in between leaves no stream without its shards.
        for shard in 0..shards {
            let insert = format!(
                "INSERT INTO shards (stream, query, shard) SELECT {name}, {query}, {shard} \
                 WHERE NOT EXISTS (SELECT 1 FROM shards WHERE stream = {name} \
                 AND query = {query} AND shard = {shard})"
            );
            conn.execute(&insert).await.map_err(failed)?;
        }
        let insert = format!(
            "INSERT INTO streams (stream, query, shards, window_ms, scale) \
             VALUES ({name}, {query}, {shards}, {}, {})",
            stream.window_ms, stream.scale
        );
        conn.execute(&insert).await.map_err(failed)?;
    }
    check_stream(conn, database, stream, shards).await
}

/// Makes the scaler's tables where they are missing. Any number of processes may do so at once.
pub(super) async fn make_scaler_tables(conn: &mut Conn, database: &str) -> Result<(), StoreError> {
    let failed = |error| privilege(error, database);
    let dialect = conn.dialect();
    for (name, statement) in scaler::NAMES.into_iter().zip(scaler::tables(dialect)) {
        if exists(conn, &[name]).await.map_err(failed)? {
            continue;
        }
        conn.execute(&statement).await.map_err(failed)?;
        if name == scaler::NAMES[0]
            && let Err(error) = conn.execute(scaler::index(dialect)).await
            // Another process was first: "duplicate key name".
            && error.number() != Some(1061)
        {
            return Err(failed(error));
        }
    }
    Ok(())
}

/// Refuses a database whose schema or stream is not the one expected. Writes nothing.
pub(super) async fn check(
    conn: &mut Conn,
    database: &str,
    stream: &Stream,
    shards: u32,
) -> Result<(), StoreError> {
    refuse_unfit(stream, shards)?;
    check_version(conn, database).await?;
    check_stream(conn, database, stream, shards).await
}

/// Refuses a database that is not of this release's schema.
pub(super) async fn check_version(conn: &mut Conn, database: &str) -> Result<(), StoreError> {
    match version(conn).await.map_err(|e| privilege(e, database))? {
        Some(VERSION) => Ok(()),
        found => Err(other_version(found)),
    }
}

async fn check_stream(
    conn: &mut Conn,
    database: &str,
    stream: &Stream,
    shards: u32,
) -> Result<(), StoreError> {
    let name = &stream.name;
    let Some(found) = stream_row(conn, stream)
        .await
        .map_err(|error| privilege(error, database))?
    else {
        return Err(StoreError::Schema(format!(
            "the database has no stream {name:?} with query {:?}: run `windlass migrate` first",
            stream.query
        )));
    };
    let wanted = [
        ("shards", i64::from(shards)),
        ("window-ms", stream.window_ms),
        ("scale", stream.scale.into()),
    ];
    for ((what, wanted), found) in wanted.into_iter().zip(found) {
        if wanted != found {
            return Err(StoreError::Schema(format!(
                "stream {name:?} was created with {what} {found}, not {wanted}, and that cannot change: \
                 use {found}, or let this stream drain and start a new one under another name"
            )));
        }
    }
    Ok(())
}

fn refuse_unfit(stream: &Stream, shards: u32) -> Result<(), StoreError> {
    let unfit = |what: String| Err(StoreError::Schema(what));
    let scale = stream.scale;
    if hundredths_a_unit(scale).is_none() {
        return unfit(format!(
            "scale {scale} does not fit: money is kept as DECIMAL(38,2), so use 0, 1 or 2"
        ));
    }
    if shards == 0 {
        return unfit("a stream needs at least one shard, got 0".into());
    }
    if stream.window_ms < 1 {
        return unfit(format!(
            "a window lasts at least 1 ms, got {}",
            stream.window_ms
        ));
    }
    Ok(())
}

async fn version(conn: &mut Conn) -> Result<Option<u32>, DbError> {
    if !exists(conn, &["windlass_schema"]).await? {
        return Ok(None);
    }
    let rows = conn
        .rows("SELECT MAX(version) FROM windlass_schema HAVING MAX(version) IS NOT NULL")
        .await?;
    // Made, but not yet filled in: the one who made it died in between.
    rows.first()
        .map_or(Ok(Some(UNFINISHED)), |row| row.u32(0).map(Some))
}

/// Whether any of these tables is there.
async fn exists(conn: &mut Conn, tables: &[&str]) -> Result<bool, DbError> {
    let names = format!("('{}')", tables.join("', '"));
    let sql = match conn.dialect() {
        Dialect::Sqlite => {
            format!("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name IN {names} LIMIT 1")
        }
        _ => format!(
            "SELECT 1 FROM information_schema.tables \
             WHERE table_schema = DATABASE() AND table_name IN {names} LIMIT 1"
        ),
    };
    Ok(!conn.rows(&sql).await?.is_empty())
}

async fn refuse_foreign(conn: &mut Conn) -> Result<(), StoreError> {
    for table in TABLES {
        if exists(conn, &[table]).await? {
            return Err(StoreError::Schema(format!(
                "the database already has a table {table:?} that windlass did not make: use an empty database"
            )));
        }
    }
    Ok(())
}

fn other_version(found: Option<u32>) -> StoreError {
    StoreError::Schema(match found {
        None | Some(UNFINISHED) => {
            "the database has no windlass tables yet: run `windlass migrate` first".into()
        }
        Some(found) if LACKING.contains(&found) => format!(
            "the database has windlass schema version {found}, this windlass needs version {VERSION}: \
             run `windlass migrate`, which adds what is missing"
        ),
        Some(found) => format!(
            "the database has windlass schema version {found}, this windlass needs version {VERSION}: \
             use the release that made it, or another database"
        ),
    })
}

async fn stream_row(conn: &mut Conn, stream: &Stream) -> Result<Option<[i64; 3]>, DbError> {
    let sql = format!(
        "SELECT shards, window_ms, scale FROM streams WHERE {}",
        stream_key(conn.dialect(), stream)
    );
    let rows = conn.rows(&sql).await?;
    rows.first()
        .map(|row| Ok([row.i64(0)?, row.i64(1)?, row.i64(2)?]))
        .transpose()
}

/// Names the grant that is needed, when it was a grant that was missing.
pub(super) fn privilege(error: DbError, database: &str) -> StoreError {
    match error.number() {
        Some(1044 | 1142 | 1143 | 1227 | 1370) => StoreError::Privilege(format!(
            "the database user lacks a privilege ({error}); as an administrator run: \
             GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, CREATE VIEW, SHOW VIEW, INDEX \
             ON `{database}`.* TO this user"
        )),
        _ => error.into(),
    }
}

/// Locks have the server's scope and at most 64 characters, databases' names as many.
fn lock_name(dialect: Dialect, database: &str) -> String {
    format!(
        "SHA2({}, 256)",
        dialect.text(&format!("windlass {database}"))
    )
}

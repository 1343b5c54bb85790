//! Tables and views: their text in each dialect, making them, and checking that they fit.
//!
//! Every table is keyed by stream and query. A stream's shards, window and scale are fixed when
//! its row is made; other values are refused later, since rows of two shapes cannot be merged.

use windlass_functions::stream::Stream;

use super::StoreError;
use super::conn::{Conn, DbError};
use super::sql::{Dialect, LIMB, hundredths_a_unit};

/// The schema that this release reads and writes.
const VERSION: u32 = 1;

/// Held in the version table while the tables are being made.
const UNFINISHED: u32 = 0;

const TABLES: [&str; 7] = [
    "streams",
    "shards",
    "results",
    "totals",
    "ledger",
    "ledger_blocks",
    "outcomes",
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
            } else if found != Some(UNFINISHED) {
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
        Some(found) => format!(
            "the database has windlass schema version {found}, this windlass needs version {VERSION}: \
             use the release that made it, or another database"
        ),
    })
}

async fn stream_row(conn: &mut Conn, stream: &Stream) -> Result<Option<[i64; 3]>, DbError> {
    let dialect = conn.dialect();
    let sql = format!(
        "SELECT shards, window_ms, scale FROM streams WHERE stream = {} AND query = {}",
        dialect.text(&stream.name),
        dialect.text(&stream.query)
    );
    let rows = conn.rows(&sql).await?;
    rows.first()
        .map(|row| Ok([row.i64(0)?, row.i64(1)?, row.i64(2)?]))
        .transpose()
}

/// Names the grant that is needed, when it was a grant that was missing.
fn privilege(error: DbError, database: &str) -> StoreError {
    match error.number() {
        Some(1044 | 1142 | 1143 | 1227 | 1370) => StoreError::Privilege(format!(
            "the database user lacks a privilege ({error}); as an administrator run: \
             GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, CREATE VIEW, SHOW VIEW, INDEX \
             ON `{database}`.* TO this user"
        )),
        _ => error.into(),
    }
}

/// Locks have the server's scope and at most 64 characters.
fn lock_name(dialect: Dialect, database: &str) -> String {
    format!("CONCAT('windlass.', MD5({}))", dialect.text(database))
}

fn tables(dialect: Dialect) -> Vec<String> {
    let sqlite = dialect == Dialect::Sqlite;
    // Text is equal only when its bytes are, trailing spaces included.
    let end = match dialect {
        Dialect::Sqlite => ") WITHOUT ROWID",
        Dialect::MySql => ") ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin",
        Dialect::MariaDb => ") ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin",
    };
    let (name, text, reason, time, blob) = if sqlite {
        ("TEXT", "TEXT", "TEXT", "TEXT", "BLOB")
    } else {
        (
            "VARCHAR(64)",
            "VARCHAR(255)",
            "VARCHAR(1000)",
            "DATETIME(3)",
            "BLOB",
        )
    };
    let unsigned = if sqlite { "INTEGER" } else { "BIGINT UNSIGNED" };
    let (sum, amount) = if sqlite {
        (
            "gmv_hi INTEGER NOT NULL, gmv_lo INTEGER NOT NULL",
            "INTEGER",
        )
    } else {
        ("gmv DECIMAL(38,2) NOT NULL", "DECIMAL(38,2)")
    };
    let of = format!("stream {name} NOT NULL, query {name} NOT NULL");
    let aggregates = format!(
        "orders BIGINT NOT NULL, {sum}, min_amount {amount} NOT NULL, max_amount {amount} NOT NULL"
    );
    let mut tables: Vec<String> = [
        format!(
            "streams ({of}, shards INTEGER NOT NULL, window_ms BIGINT NOT NULL, \
             scale INTEGER NOT NULL, PRIMARY KEY (stream, query)"
        ),
        format!(
            "shards ({of}, shard INTEGER NOT NULL, epoch BIGINT NOT NULL DEFAULT 0, \
             commit_no BIGINT NOT NULL DEFAULT 0, watermark {time} NULL, final_before {time} NULL, \
             last_window {time} NULL, owner {text} NULL, lease_until {time} NULL, seen_at {time} NULL, \
             duplicates BIGINT NOT NULL DEFAULT 0, redeliveries BIGINT NOT NULL DEFAULT 0, \
             undecodable BIGINT NOT NULL DEFAULT 0, misrouted BIGINT NOT NULL DEFAULT 0, \
             PRIMARY KEY (stream, query, shard)"
        ),
        format!(
            "results ({of}, window_start {time} NOT NULL, item_key {text} NOT NULL, \
             shard INTEGER NOT NULL, {aggregates}, revision BIGINT NOT NULL, \
             PRIMARY KEY (stream, query, window_start, item_key, shard)"
        ),
        format!(
            "totals ({of}, item_key {text} NOT NULL, shard INTEGER NOT NULL, {aggregates}, \
             PRIMARY KEY (stream, query, item_key, shard)"
        ),
        format!(
            "ledger ({of}, source {text} NOT NULL, shard INTEGER NOT NULL, active INTEGER NOT NULL, \
             max_ts {time} NULL, low {unsigned} NOT NULL, counted BIGINT NOT NULL, \
             late BIGINT NOT NULL, quarantined BIGINT NOT NULL, PRIMARY KEY (stream, query, source){}",
            if sqlite { "" } else { ", INDEX ledger_home (stream, query, shard, active)" }
        ),
        format!(
            "ledger_blocks ({of}, source {text} NOT NULL, block_no {unsigned} NOT NULL, \
             seqs {blob} NOT NULL, PRIMARY KEY (stream, query, source, block_no)"
        ),
        format!(
            "outcomes ({of}, source {text} NOT NULL, seq {unsigned} NOT NULL, \
             kind VARCHAR(16) NOT NULL, reason {reason} NOT NULL, quarantine_id {text} NOT NULL, \
             ts {time} NULL, window_start {time} NULL, item_key {text} NULL, amount {amount} NULL, \
             at {time} NOT NULL, PRIMARY KEY (stream, query, source, seq)"
        ),
    ]
    .into_iter()
    .map(|table| format!("CREATE TABLE IF NOT EXISTS {table}{end}"))
    .collect();
    if sqlite {
        tables.push(
            "CREATE INDEX IF NOT EXISTS ledger_home ON ledger (stream, query, shard, active)"
                .into(),
        );
    }
    tables
}

/// The views that people query, of the shipped stream and query.
///
/// A condition on `window_start` or `province` reaches the primary key of `results` through the
/// grouping on all three databases; so no expression may wrap these two columns.
fn views(dialect: Dialect) -> Vec<String> {
    let create = match dialect {
        Dialect::Sqlite => "CREATE VIEW IF NOT EXISTS",
        // With the invoker's rights the views outlive the user who made them.
        _ => "CREATE OR REPLACE SQL SECURITY INVOKER VIEW",
    };
    // The start of the last window that a shard's progress has passed. A shard that has none yet
    // holds the whole stream back, hence the count.
    let passed = |column: &str| {
        let start = match dialect {
            Dialect::Sqlite => format!(
                "STRFTIME('%Y-%m-%d %H:%M:%f', MIN(s.{column}), (-w.window_ms / 1000.0) || ' seconds')"
            ),
            _ => format!("MIN(s.{column}) - INTERVAL w.window_ms * 1000 MICROSECOND"),
        };
        format!("CASE WHEN COUNT(s.{column}) = w.shards THEN {start} END")
    };
    let progress = format!(
        "{create} windlass_progress AS SELECT w.stream, w.query, {} AS closed_start, {} AS final_start \
         FROM streams w JOIN shards s ON s.stream = w.stream AND s.query = w.query \
         GROUP BY w.stream, w.query, w.shards, w.window_ms",
        passed("watermark"),
        passed("final_before"),
    );
    let measures = measures(dialect);
    let integer = |sum: &str| match dialect {
        Dialect::Sqlite => sum.to_owned(),
        _ => format!("CAST({sum} AS SIGNED)"),
    };
    let gmv_per_second = format!(
        "{create} gmv_per_second AS SELECT r.window_start, r.item_key AS province, {} AS orders, \
         {measures}, {} AS revision, \
         CASE WHEN r.window_start <= MIN(p.final_start) THEN 'final' \
         WHEN r.window_start <= MIN(p.closed_start) THEN 'closed' ELSE 'open' END AS state, \
         CASE WHEN r.window_start <= MIN(p.final_start) THEN 1 ELSE 0 END AS is_final \
         FROM results r JOIN windlass_progress p ON p.stream = r.stream AND p.query = r.query \
         WHERE r.stream = 'orders' AND r.query = 'gmv' GROUP BY r.window_start, r.item_key",
        integer("SUM(r.orders)"),
        integer("SUM(r.revision)"),
    );
    let gmv_total = format!(
        "{create} gmv_total AS SELECT r.item_key AS province, {} AS orders, {measures} \
         FROM totals r WHERE r.stream = 'orders' AND r.query = 'gmv' GROUP BY r.item_key",
        integer("SUM(r.orders)"),
    );
    vec![progress, gmv_per_second, gmv_total]
}

/// `gmv, mean, min_amount, max_amount` over rows `r` of one group.
fn measures(dialect: Dialect) -> String {
    if dialect != Dialect::Sqlite {
        return "CAST(SUM(r.gmv) AS DECIMAL(38,2)) AS gmv, \
                CAST(SUM(r.gmv) / SUM(r.orders) AS DECIMAL(38,4)) AS mean, \
                MIN(r.min_amount) AS min_amount, MAX(r.max_amount) AS max_amount"
            .into();
    }
    // Carried over, so that the low limb has 15 digits.
    let hi = format!("(SUM(r.gmv_hi) + SUM(r.gmv_lo) / {LIMB})");
    let lo = format!("(SUM(r.gmv_lo) % {LIMB})");
    let amount = |column: &str| {
        let (hi, lo) = (
            format!("({column} / {LIMB})"),
            format!("({column} % {LIMB})"),
        );
        sqlite_money(&hi, &lo)
    };
    format!(
        "{} AS gmv, ROUND(({hi} * {LIMB}.0 + {lo}) / 100.0 / SUM(r.orders), 4) AS mean, \
         {} AS min_amount, {} AS max_amount",
        sqlite_money(&hi, &lo),
        amount("MIN(r.min_amount)"),
        amount("MAX(r.max_amount)"),
    )
}

/// Hundredths in two limbs as a number where a float shows all digits, else as exact text.
fn sqlite_money(hi: &str, lo: &str) -> String {
    // The limbs' signs may differ: the text borrows one of the high limb's for the low one.
    let borrow = format!(
        "CASE WHEN {hi} > 0 AND {lo} < 0 THEN 1 WHEN {hi} < 0 AND {lo} > 0 THEN -1 ELSE 0 END"
    );
    let digits = format!("PRINTF('%015d', ABS({lo} + ({borrow}) * {LIMB}))");
    format!(
        "CASE WHEN {hi} BETWEEN -8 AND 8 THEN ({hi} * {LIMB} + {lo}) / 100.0 \
         ELSE ({hi} - ({borrow})) || SUBSTR({digits}, 1, 13) || '.' || SUBSTR({digits}, 14) END"
    )
}

//! The text of the tables and views in each dialect.

use super::sql::{Dialect, LIMB};

/// Tables and indexes, in an order in which they can be made.
pub(super) fn tables(dialect: Dialect) -> Vec<String> {
    let sqlite = dialect == Dialect::Sqlite;
    // Text is equal only when its bytes are, trailing spaces included. SQLite's tables are strict:
    // an integer that overflows is an error, not a float.
    let end = match dialect {
        Dialect::Sqlite => ") STRICT, WITHOUT ROWID",
        Dialect::MySql => ") ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin",
        Dialect::MariaDb => ") ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin",
    };
    let (name, word, text, reason, time) = if sqlite {
        ("TEXT", "TEXT", "TEXT", "TEXT", "TEXT")
    } else {
        (
            "VARCHAR(64)",
            "VARCHAR(16)",
            "VARCHAR(255)",
            "VARCHAR(1000)",
            "DATETIME(3)",
        )
    };
    let long = if sqlite { "TEXT" } else { "VARCHAR(2000)" };
    let (count, unsigned) = if sqlite {
        ("INTEGER", "INTEGER")
    } else {
        ("BIGINT", "BIGINT UNSIGNED")
    };
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
        "orders {count} NOT NULL, {sum}, min_amount {amount} NOT NULL, max_amount {amount} NOT NULL"
    );
    let mut tables: Vec<String> = [
        format!(
            "streams ({of}, shards INTEGER NOT NULL, window_ms {count} NOT NULL, \
             scale INTEGER NOT NULL, PRIMARY KEY (stream, query)"
        ),
        format!(
            "shards ({of}, shard INTEGER NOT NULL, epoch {count} NOT NULL DEFAULT 0, \
             commit_no {count} NOT NULL DEFAULT 0, watermark {time} NULL, final_before {time} NULL, \
             last_window {time} NULL, owner {text} NULL, lease_until {time} NULL, seen_at {time} NULL, \
             duplicates {count} NOT NULL DEFAULT 0, redeliveries {count} NOT NULL DEFAULT 0, \
             undecodable {count} NOT NULL DEFAULT 0, misrouted {count} NOT NULL DEFAULT 0, \
             PRIMARY KEY (stream, query, shard)"
        ),
        format!(
            "results ({of}, window_start {time} NOT NULL, item_key {text} NOT NULL, \
             shard INTEGER NOT NULL, {aggregates}, revision {count} NOT NULL, \
             PRIMARY KEY (stream, query, window_start, item_key, shard)"
        ),
        format!(
            "totals ({of}, item_key {text} NOT NULL, shard INTEGER NOT NULL, {aggregates}, \
             PRIMARY KEY (stream, query, item_key, shard)"
        ),
        format!(
            "ledger ({of}, source {text} NOT NULL, shard INTEGER NOT NULL, active INTEGER NOT NULL, \
             max_ts {time} NULL, low {unsigned} NOT NULL, counted {count} NOT NULL, \
             late {count} NOT NULL, quarantined {count} NOT NULL, PRIMARY KEY (stream, query, source){}",
            if sqlite { "" } else { ", INDEX ledger_home (stream, query, shard, active)" }
        ),
        format!(
            "ledger_blocks ({of}, source {text} NOT NULL, block_no {unsigned} NOT NULL, \
             seqs BLOB NOT NULL, PRIMARY KEY (stream, query, source, block_no)"
        ),
        format!(
            "outcomes ({of}, source {text} NOT NULL, seq {unsigned} NOT NULL, \
             kind {text} NOT NULL, reason {reason} NOT NULL, quarantine_id {text} NOT NULL, \
             ts {time} NULL, window_start {time} NULL, item_key {text} NULL, amount {amount} NULL, \
             at {time} NOT NULL, PRIMARY KEY (stream, query, source, seq)"
        ),
        format!("retention ({of}, retained_from {time} NOT NULL, PRIMARY KEY (stream, query)"),
        format!(
            "datagen_runs (stream {name} NOT NULL, run {name} NOT NULL, request {long} NOT NULL, \
             options {long} NOT NULL, attempt INTEGER NOT NULL, state {name} NOT NULL, \
             started_at {time} NOT NULL, seen_at {time} NOT NULL, ended_at {time} NULL, \
             orders {count} NOT NULL DEFAULT 0, parts INTEGER NOT NULL DEFAULT 0, \
             first_window {time} NULL, last_window {time} NULL, PRIMARY KEY (stream, run)"
        ),
        format!(
            "datagen_manifests (stream {name} NOT NULL, run {name} NOT NULL, part INTEGER NOT NULL, \
             content BLOB NOT NULL, PRIMARY KEY (stream, run, part)"
        ),
        // Where every invocation ran. Rows are appended and deleted by age, never changed.
        format!(
            "commit_log ({of}, shard INTEGER NOT NULL, epoch {count} NOT NULL, commit_no {count} NOT NULL, \
             committed_at {time} NOT NULL, slice {count} NOT NULL, window_start {time} NOT NULL, \
             chunk {count} NOT NULL, part {count} NOT NULL, attempt {count} NOT NULL, \
             place {word} NOT NULL, reason {word} NOT NULL, tuples {count} NOT NULL, \
             waited_ms {count} NOT NULL, created_ms {count} NULL, scheduled_ms {count} NULL, \
             started_ms {count} NULL, pulled_ms {count} NULL, answered_ms {count} NULL, \
             PRIMARY KEY (stream, query, shard, commit_no, slice, window_start, chunk, part){}",
            if sqlite { "" } else { ", INDEX commit_log_at (stream, query, committed_at)" }
        ),
    ]
    .into_iter()
    .map(|table| format!("CREATE TABLE IF NOT EXISTS {table}{end}"))
    .collect();
    if sqlite {
        tables.push(
            "CREATE INDEX IF NOT EXISTS commit_log_at ON commit_log (stream, query, committed_at)"
                .into(),
        );
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
pub(super) fn views(dialect: Dialect) -> Vec<String> {
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
    let shipped = "r.stream = 'orders' AND r.query = 'gmv'";
    let gmv_per_second = format!(
        "{create} gmv_per_second AS {}",
        per_second(dialect, shipped)
    );
    let gmv_total = format!("{create} gmv_total AS {}", total(dialect, shipped));
    vec![progress, gmv_per_second, gmv_total]
}

/// What the view `gmv_per_second` selects, of the rows `r` of `results` that `of` lets pass.
pub(super) fn per_second(dialect: Dialect, of: &str) -> String {
    format!(
        "SELECT r.window_start, r.item_key AS province, {} AS orders, \
         {}, {} AS revision, \
         CASE WHEN r.window_start <= MIN(p.final_start) THEN 'final' \
         WHEN r.window_start <= MIN(p.closed_start) THEN 'closed' ELSE 'open' END AS state, \
         CASE WHEN r.window_start <= MIN(p.final_start) THEN 1 ELSE 0 END AS is_final \
         FROM results r JOIN windlass_progress p ON p.stream = r.stream AND p.query = r.query \
         WHERE {of} GROUP BY r.window_start, r.item_key",
        integer(dialect, "SUM(r.orders)"),
        measures(dialect),
        integer(dialect, "SUM(r.revision)"),
    )
}

/// The same measures by longer steps. `start` is the step that a row's window belongs to, as text.
///
/// `of` must bound `r.window_start` by constants: the grouping is by an expression, which no index
/// serves.
pub(super) fn per_step(dialect: Dialect, of: &str, start: &str) -> String {
    format!(
        "SELECT {start} AS step_start, r.item_key AS province, {} AS orders, \
         {}, {} AS revision, \
         CASE WHEN MAX(r.window_start) <= MIN(p.final_start) THEN 'final' \
         WHEN MAX(r.window_start) <= MIN(p.closed_start) THEN 'closed' ELSE 'open' END AS state \
         FROM results r JOIN windlass_progress p ON p.stream = r.stream AND p.query = r.query \
         WHERE {of} GROUP BY step_start, r.item_key",
        integer(dialect, "SUM(r.orders)"),
        measures(dialect),
        integer(dialect, "SUM(r.revision)"),
    )
}

/// What the view `gmv_total` selects, of the rows `r` of `totals` that `of` lets pass.
pub(super) fn total(dialect: Dialect, of: &str) -> String {
    format!(
        "SELECT r.item_key AS province, {} AS orders, {} FROM totals r WHERE {of} GROUP BY r.item_key",
        integer(dialect, "SUM(r.orders)"),
        measures(dialect),
    )
}

fn integer(dialect: Dialect, sum: &str) -> String {
    match dialect {
        Dialect::Sqlite => sum.to_owned(),
        _ => format!("CAST({sum} AS SIGNED)"),
    }
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
    // In integers where they suffice: a float may round half of the last place either way.
    let (all, orders) = (format!("({hi} * {LIMB} + {lo})"), "SUM(r.orders)");
    let mean = format!(
        "CASE WHEN {hi} BETWEEN -8 AND 8 THEN (CASE WHEN {all} < 0 THEN -1 ELSE 1 END) \
         * (ABS({all}) / {orders} * 100 + (ABS({all}) % {orders} * 200 + {orders}) / (2 * {orders})) / 10000.0 \
         ELSE ROUND(({hi} * {LIMB}.0 + {lo}) / 100.0 / {orders}, 4) END"
    );
    format!(
        "{} AS gmv, {mean} AS mean, \
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

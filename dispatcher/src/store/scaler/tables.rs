//! The text of the scaler's tables in each dialect.

use super::super::sql::Dialect;

/// Their names.
pub(in crate::store) const NAMES: [&str; 3] = ["scaler_decisions", "scaler_tables", "scaler_state"];

/// The statements that make them.
pub(in crate::store) fn tables(dialect: Dialect) -> [String; 3] {
    let sqlite = dialect == Dialect::Sqlite;
    let end = match dialect {
        Dialect::Sqlite => ") STRICT, WITHOUT ROWID",
        Dialect::MySql => ") ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin",
        Dialect::MariaDb => ") ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin",
    };
    let [name, word, line, long, time, count, real] = if sqlite {
        ["TEXT", "TEXT", "TEXT", "TEXT", "TEXT", "INTEGER", "REAL"]
    } else {
        [
            "VARCHAR(64)",
            "VARCHAR(255)",
            "VARCHAR(2000)",
            "MEDIUMTEXT",
            "DATETIME(3)",
            "BIGINT",
            "DOUBLE",
        ]
    };
    let of = format!("stream {name} NOT NULL, query {name} NOT NULL");
    [
        format!(
            "scaler_decisions ({of}, at {time} NOT NULL, run {time} NOT NULL, no {count} NOT NULL, \
             generation {count} NOT NULL, mode {word} NOT NULL, size_before INTEGER NOT NULL, \
             size_desired INTEGER NOT NULL, cause {word} NOT NULL, reason {line} NOT NULL, \
             state {count} NULL, bins {word} NULL, q_values {line} NULL, action {word} NULL, \
             explored INTEGER NULL, guards {word} NOT NULL, reward_cost {real} NULL, \
             reward_late {real} NULL, detail {long} NOT NULL, seconds {long} NOT NULL, \
             PRIMARY KEY (stream, query, run, no)"
        ),
        format!(
            "scaler_tables ({of}, agent {name} NOT NULL, version {count} NOT NULL, \
             at {time} NOT NULL, kind {word} NOT NULL, layout {word} NOT NULL, \
             tuning {long} NOT NULL, decisions {count} NOT NULL, body {long} NOT NULL, \
             PRIMARY KEY (stream, query, agent, version)"
        ),
        format!(
            "scaler_state ({of}, at {time} NOT NULL, run {time} NOT NULL, owner {word} NOT NULL, \
             pool {word} NOT NULL, mode {word} NOT NULL, generation {count} NOT NULL, \
             tuning {long} NOT NULL, refused {line} NULL, refused_tuning {long} NULL, \
             refused_total {count} NOT NULL, size INTEGER NOT NULL, reason {line} NOT NULL, \
             PRIMARY KEY (stream, query)"
        ),
    ]
    .map(|table| format!("CREATE TABLE IF NOT EXISTS {table}{end}"))
}

/// The index by which decisions are found and forgotten by their time.
pub(in crate::store) fn index(dialect: Dialect) -> &'static str {
    match dialect {
        // MySQL knows no IF NOT EXISTS here; the caller makes it only with the table.
        Dialect::MySql => "CREATE INDEX scaler_by_time ON scaler_decisions (stream, query, at)",
        _ => "CREATE INDEX IF NOT EXISTS scaler_by_time ON scaler_decisions (stream, query, at)",
    }
}

//! The store's promises, on SQLite always and on MariaDB and MySQL where `WINDLASS_TEST_MARIADB`
//! and `WINDLASS_TEST_MYSQL` name a server (`eval "$(tests/services env)"`). Each test has a fresh
//! database, which it leaves behind when it fails.

mod backend;
mod board;
mod commits;
#[cfg(feature = "failpoints")]
mod crashes;
mod grafana;
mod owners;
mod reading;
mod replicas;
mod retention;
mod runs;
mod scaler;
mod schema;

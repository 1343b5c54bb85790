//! Whole-system tests: real dispatcher and worker processes, a real RabbitMQ, real databases.
//!
//! They need `tests/services up` and its environment (`tests/run` does both) and are skipped, saying
//! so, where that is missing, unless `WINDLASS_TEST_REQUIRED=1`.

#![allow(
    clippy::disallowed_methods,
    reason = "the tests are a shell: they read clocks"
)]

mod bad_input;
mod basics;
mod drain;
mod durability;
mod errors;
mod files;
mod hands;
mod harness;
mod jams;
mod kills;
mod late;
mod load;
mod outages;
mod poison;
mod process;
mod proxy;
mod raw;
mod reading;
mod replay;
mod runs;
mod scaler;
mod secrets;
mod shards;
mod takeover;
mod tls;
mod workers;

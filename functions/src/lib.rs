//! The domain core: tuples, windows, watermarks, batches, partial aggregates and the functions
//! that turn one into the other; plus the loop a worker runs.
//!
//! Nothing here knows a broker, a database or a cluster, and nothing but [`worker`] and [`trust`]
//! performs IO.

pub mod batch;
pub mod decode;
pub mod function;
mod ipc;
pub mod ledger;
pub mod partial;
pub mod rollup;
pub mod stream;
pub mod time;
pub mod trust;
pub mod tuple;
pub mod watermark;
pub mod window;
pub mod worker;

//! The benchmark's world: seeded arrivals, a pool, Jobs, and the policy that knows the future.
//!
//! Nothing here is used in production. Draws depend on counters only, and every sum is taken in a
//! fixed order, so a run gives the same figures wherever it is repeated; `tests/golden.rs` holds
//! them against figures of an independent implementation.

pub mod draws;
pub mod metrics;
pub mod oracle;
pub mod patterns;
pub mod run;
pub mod trace;
pub mod world;

pub use metrics::Metrics;
pub use oracle::Oracle;
pub use patterns::Pattern;
pub use run::{run, run_oracle};
pub use trace::{Measured, Setting, Trace};
pub use world::World;

//! From RabbitMQ to windows, to invocations, to MySQL.
//!
//! * [`shard`] decides (no IO, no clock): slices, watermark, ledger, commit order, acks.
//! * [`invocations`] decides: who runs what, retries, bisection of poisoned batches.
//! * [`placement`] decides: what runs in the warm pool, what becomes a Job, and when.
//! * [`broker`], [`store`] and [`api`] touch the world; [`owner`] drives a shard through them.

pub mod api;
pub mod broker;
pub mod clock;
pub mod failpoint;
pub mod invocations;
pub mod invoker;
pub mod metrics;
pub mod owner;
pub mod placement;
pub mod plan;
pub mod pool;
pub mod roster;
pub mod service;
pub mod shard;
pub mod status;
pub mod store;
pub mod tls;
pub mod windows;
pub mod workload;

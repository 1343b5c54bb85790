//! From RabbitMQ to windows, to invocations, to MySQL.
//!
//! * [`shard`] decides (no IO, no clock): slices, watermark, ledger, commit order, acks.
//! * [`invocations`] decides: who runs what, retries, bisection of poisoned batches.
//! * [`broker`], [`store`] and [`api`] touch the world; [`owner`] drives a shard through them.

pub mod broker;
pub mod failpoint;
pub mod plan;
pub mod store;

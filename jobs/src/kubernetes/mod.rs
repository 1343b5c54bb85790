//! Everything that speaks to a Kubernetes API server.

mod cluster;
pub mod config_map;
mod dispatcher;
pub mod invocation;
pub mod lease;
pub mod names;
pub mod scale;
pub mod task;

pub use cluster::Cluster;
pub use dispatcher::Pool;

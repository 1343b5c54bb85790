//! Where an invocation runs: worker processes on this machine, kept warm, or pods of a cluster.

pub mod kubernetes;
pub mod launch;
pub mod local;
pub mod local_jobs;
pub mod name;
pub mod schedule;

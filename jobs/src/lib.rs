//! Where an invocation runs. Today: worker processes on this machine, kept warm.

pub mod local;

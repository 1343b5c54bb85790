//! How many warm workers there should be.

pub mod agent;
pub mod bench;
pub mod policies;
pub mod simulator;

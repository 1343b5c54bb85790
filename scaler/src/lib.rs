//! How many warm workers there should be.
//!
//! | module | is |
//! |---|---|
//! | [`agent`] | what decides: measurements, `now` and random numbers in, a size and its reasons out |
//! | [`policies`] | formulas that users know from elsewhere, one of them the fallback |
//! | [`tuning`] | what users change while it runs |
//! | [`replay`] | what other policies would have done with a recorded run |
//! | [`picture`] | a table as a heat map |
//! | [`simulator`] | a seeded world to judge policies in; nothing of it runs in production |
//! | [`mod@bench`] | training and scoring in that world |
//!
//! No IO, no clock, no task: a shell reads the dispatcher, calls [`agent::controller::Controller`]
//! once a second and resizes the pool.

pub mod agent;
pub mod bench;
pub mod picture;
pub mod policies;
pub mod replay;
pub mod simulator;
pub mod tuning;

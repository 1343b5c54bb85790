//! The subcommands, one a file.

pub mod audit;
pub mod board;
pub mod completions;
pub mod datagen;
pub mod demo;
pub mod dispatch;
pub mod function;
pub mod migrate;
pub mod quarantine;
pub mod query;
pub mod retain;
pub mod scaler;
pub mod schedule;
pub mod status;

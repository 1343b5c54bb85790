//! The `windlass` command: one subcommand a file under [`commands`].
//!
//! This crate parses arguments, environment and configuration, wires the other crates together and
//! shows results. It decides nothing about streams.

pub mod cli;
pub mod commands;
pub mod config;
pub mod environment;
pub mod keeper;
pub mod logging;
pub mod output;
pub mod placing;
pub mod scaling;
pub mod serve;
pub mod shutdown;
pub mod title;
pub mod values;

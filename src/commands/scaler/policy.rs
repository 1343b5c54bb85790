//! `windlass scaler policy`: draws what a table does in which state.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use windlass_scaler::agent::presets;
use windlass_scaler::agent::snapshot::Snapshot;
use windlass_scaler::picture::Picture;

use super::tables::{Agent, from_file, kept, read};
use crate::cli::StoreArg;
use crate::config::Config;
use crate::output;

const EXAMPLES: &str = "\
Examples:
  windlass scaler policy --store mysql://windlass:PASSWORD@db/windlass
  windlass scaler policy --table table.txt --svg policy.svg
  windlass scaler policy --csv policy.csv";

/// Arguments of `windlass scaler policy`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Policy {
    /// A table that `export` or `train` wrote [default: the newest in the store; without a store, or
    /// in one without a table, the shipped one]
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
    /// A version of the table in the store; `windlass scaler tables` lists them
    #[arg(long, value_name = "VERSION", conflicts_with = "table")]
    version: Option<u64>,
    #[command(flatten)]
    store: StoreArg,
    /// Draw it into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Write the states, a line each, into this file
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

impl Policy {
    /// Draws it.
    ///
    /// # Errors
    /// If the table does not fit or a file cannot be read or written.
    pub async fn run(&self, config: &Config) -> anyhow::Result<ExitCode> {
        let snapshot = self.snapshot(config).await?;
        let picture = Picture::of(&snapshot.table, snapshot.kappa);
        for (path, text) in [(&self.svg, picture.svg()), (&self.csv, picture.csv())] {
            if let Some(path) = path {
                std::fs::write(path, text)
                    .with_context(|| format!("cannot write {}", path.display()))?;
            }
        }
        if self.svg.is_none() && self.csv.is_none() {
            let mut out = output::stdout();
            out.write_all(picture.text().as_bytes())?;
            out.flush()?;
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn snapshot(&self, config: &Config) -> anyhow::Result<Snapshot> {
        if let Some(path) = &self.table {
            return from_file(path, Agent::Elastic);
        }
        if self.version.is_none() && self.store.url(config).is_err() {
            return Ok(presets::shipped());
        }
        let mut journal = super::journal(&self.store, config).await?;
        if let Some(version) = self.version {
            let row = kept(&mut journal, Agent::Elastic, Some(version)).await?;
            return read(&row.body, Agent::Elastic);
        }
        match journal.table(Agent::Elastic.name(), None).await? {
            Some(row) => read(&row.body, Agent::Elastic),
            None => Ok(presets::shipped()),
        }
    }
}

//! `windlass scaler policy`: draws what a table does in which state.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use windlass_scaler::agent::presets;
use windlass_scaler::agent::snapshot::Snapshot;
use windlass_scaler::picture::Picture;

use crate::output;

const EXAMPLES: &str = "\
Examples:
  windlass scaler policy
  windlass scaler policy --table table.txt --svg policy.svg
  windlass scaler policy --csv policy.csv";

/// Arguments of `windlass scaler policy`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Policy {
    /// A table that `windlass scaler train` wrote [default: the shipped one]
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
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
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let snapshot = match &self.table {
            None => presets::shipped(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read the table {}", path.display()))?;
                Snapshot::from_text(&text, presets::elastic_layout())
                    .with_context(|| format!("cannot use the table {}", path.display()))?
            }
        };
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
}

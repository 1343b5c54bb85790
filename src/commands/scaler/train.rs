//! `windlass scaler train`: trains a table in the simulator.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use windlass_scaler::agent::presets;
use windlass_scaler::bench::Training;

use crate::output;

const EXAMPLES: &str = "\
Examples:
  windlass scaler train --out table.txt
  windlass scaler train --hours 1000 --seed 50000 --kappa 150 > careful.txt

The same hours, seed and price give the same table on every machine; without arguments, the one that
is shipped.";

/// Arguments of `windlass scaler train`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Train {
    /// Simulated hours
    #[arg(long, value_name = "HOURS", default_value_t = Training::HOURS)]
    hours: u64,
    /// Seed of the first hour
    #[arg(long, value_name = "N", default_value_t = Training::SEED)]
    seed: u64,
    /// Price of a late window, pod-seconds
    #[arg(long, value_name = "POD-SECONDS", default_value_t = 60.0)]
    kappa: f64,
    /// Write to this file and not to standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Train {
    /// Trains and writes the table.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        anyhow::ensure!(
            self.kappa.is_finite() && self.kappa >= 0.0,
            "expected a price of at least 0 pod-seconds, got {}; leave --kappa out for 60",
            self.kappa
        );
        let (hours, seed, kappa) = (self.hours, self.seed, self.kappa);
        let text = tokio::task::spawn_blocking(move || {
            let mut agent = presets::untrained();
            agent.behaviour.kappa = kappa;
            Training::new(hours, seed).train(&mut agent);
            agent.snapshot().to_text()
        })
        .await?;
        match self.out {
            Some(path) => std::fs::write(&path, text)
                .with_context(|| format!("cannot write the table to {}", path.display()))?,
            None => {
                let mut out = output::stdout();
                out.write_all(text.as_bytes())?;
                out.flush()?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

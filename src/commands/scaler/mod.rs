//! `windlass scaler`: how many warm workers there should be, and how well policies decide it.

use std::process::ExitCode;

use clap::{Args, Subcommand};

mod bench;
mod policy;
mod train;

const EXAMPLES: &str = "\
Examples:
  windlass scaler bench
      every policy on every pattern, training included
  windlass scaler policy
      what the shipped table does in which state
  windlass scaler train --out table.txt
      the shipped table again, to the bit";

/// Arguments of `windlass scaler`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Scaler {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Score policies in the simulator
    Bench(bench::Bench),
    /// Train a table in the simulator
    Train(train::Train),
    /// Draw what a table does in which state
    Policy(policy::Policy),
    /// Print every tuning key with unit, default and range
    Example,
}

impl Scaler {
    /// Carries it out.
    ///
    /// # Errors
    /// Whatever could not be done, in words for the user.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self.what {
            What::Bench(command) => command.run().await,
            What::Train(command) => command.run().await,
            What::Policy(command) => command.run(),
            What::Example => example(),
        }
    }
}

fn example() -> anyhow::Result<ExitCode> {
    use std::io::Write;
    let mut out = crate::output::stdout();
    out.write_all(windlass_scaler::tuning::EXAMPLE.as_bytes())?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

//! `windlass scaler`: how many warm workers there should be: runs it, tunes it, explains it, and
//! scores the policies that decide it.

use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use windlass_dispatcher::store::{Journal, Store};
use windlass_scaler::tuning::{Invalid, Tuning};

use crate::cli::StoreArg;
use crate::config::Config;

mod bench;
mod explain;
mod policy;
mod replay;
mod run;
mod set;
mod show;
mod tables;
mod train;

pub use run::is_tuning;

const EXAMPLES: &str = "\
Examples:
  windlass scaler --dispatcher http://127.0.0.1:7070 --pool local --config tuning
      size the local workers of a dispatcher (windlass dispatch --workers 4)
  windlass scaler --dispatcher http://windlass-dispatcher:7070 --pool kubernetes --deployment windlass-workers --config-map windlass-scaler
      size a Deployment; of several such processes one is active
  windlass scaler set max-size=20 latency-goal=500ms --config tuning
      edit the tuning and wait until it is in force
  windlass scaler show
  windlass scaler explain --at 2026-11-11T00:00:05Z
      what is in force; why the pool had the size that it had
  windlass scaler bench
      every policy on every pattern, training included

Where it keeps its decisions and tables: --store, WINDLASS_STORE or a --config FILE.toml. Any other
--config FILE is the tuning, which `windlass scaler example` documents.";

/// Arguments of `windlass scaler`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Scaler {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    run: run::Run,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show what is in force, and why an edit is not
    Show(show::Show),
    /// Edit the tuning, and wait until it is in force
    Set(set::Set),
    /// Tell why the pool had the size that it had
    Explain(explain::Explain),
    /// Draw what a table does in which state: the live one, or the shipped one without a store
    Policy(policy::Policy),
    /// List the tables that are kept
    Tables(tables::List),
    /// Write a kept table to a file
    Export(tables::Export),
    /// Have the scaler go on from a table in a file
    Import(tables::Import),
    /// Compare two tables: versions, files, or the shipped one
    Diff(tables::Diff),
    /// Have the scaler go on from a table that it had before
    Rollback(tables::Rollback),
    /// Score what other policies would have done with the live traffic
    Compare(replay::Compare),
    /// Replay a recorded run through any policy, or decide it again
    Replay(replay::Replay),
    /// Score policies in the simulator
    Bench(bench::Bench),
    /// Train a table in the simulator
    Train(train::Train),
    /// Print every tuning key with unit, default and range
    Example,
}

impl Scaler {
    /// Carries it out.
    ///
    /// # Errors
    /// Whatever could not be done, in words for the user.
    pub async fn run(
        self,
        config: &Config,
        file: Option<&std::path::Path>,
    ) -> anyhow::Result<ExitCode> {
        match self.what {
            None => self.run.run(config, file).await,
            Some(What::Show(command)) => command.run(config).await,
            Some(What::Set(command)) => command.run(config, file).await,
            Some(What::Explain(command)) => command.run(config).await,
            Some(What::Policy(command)) => command.run(config).await,
            Some(What::Tables(command)) => command.run(config).await,
            Some(What::Export(command)) => command.run(config).await,
            Some(What::Import(command)) => command.run(config).await,
            Some(What::Diff(command)) => command.run(config).await,
            Some(What::Rollback(command)) => command.run(config).await,
            Some(What::Compare(command)) => command.run(config, file).await,
            Some(What::Replay(command)) => command.run(config, file).await,
            Some(What::Bench(command)) => command.run().await,
            Some(What::Train(command)) => command.run().await,
            Some(What::Example) => example(),
        }
    }
}

/// The scaler's rows in the store.
async fn journal(store: &StoreArg, config: &Config) -> anyhow::Result<Journal> {
    let store = Store::connect(store.url(config)?).await?;
    Ok(store.journal(&config.stream))
}

/// What a command says when no scaler has kept anything yet.
const NOTHING: &str = "no scaler has kept anything in this store yet: run `windlass dispatch --workers \
                       auto` or `windlass scaler --dispatcher URL` on it";

/// A tuning from its text, or everything that is wrong with it.
fn tuning(text: &str) -> anyhow::Result<Tuning> {
    Tuning::from_text(text).map_err(|invalid| {
        let reasons: Vec<String> = invalid.iter().map(Invalid::to_string).collect();
        anyhow::anyhow!(reasons.join("; "))
    })
}

/// ms UTC as people read it.
fn moment(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |at| at.to_string())
}

fn parse_moment(text: &str) -> anyhow::Result<i64> {
    if let Ok(ms) = text.parse::<i64>() {
        return Ok(ms);
    }
    let at: jiff::Timestamp = text.parse().with_context(|| {
        format!(
            "expected a time such as 2026-11-11T00:00:05Z or milliseconds since 1970, got {text:?}"
        )
    })?;
    Ok(at.as_millisecond())
}

fn example() -> anyhow::Result<ExitCode> {
    use std::io::Write;
    let mut out = crate::output::stdout();
    out.write_all(windlass_scaler::tuning::EXAMPLE.as_bytes())?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_are_read_as_they_are_written() {
        let ms = super::parse_moment("2026-11-11T00:00:05Z").unwrap();
        assert_eq!(ms, 1_794_355_205_000);
        assert_eq!(super::parse_moment(&super::moment(ms)).unwrap(), ms);
        assert!(super::parse_moment("yesterday").is_err());
    }
}

//! `windlass datagen`: orders to try windlass with, generated or recorded.

mod generate;
mod meter;
mod publish;
mod run;
mod runs;
mod submit;
mod traffic;

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use windlass_datagen::pattern::Pattern;

pub(crate) use submit::{Load, job};

use crate::config::Config;
use crate::values::{Share, Span};

const EXAMPLES: &str = "\
Examples:
  windlass datagen publish --broker amqp://localhost --rate 20000 --for 60s
      Singles' Day for a minute, and a manifest of it for `windlass audit --manifest`
  windlass datagen generate --out orders --files 50 --rows 1000000
      50 files of a million orders
  windlass datagen publish --broker amqp://localhost --files orders --speed max --format arrow
      publish them as fast as the broker takes them
  windlass datagen submit --rate 20000 --for 60s --name rehearsal
      the same in the cluster that KUBECONFIG names; then: windlass audit --run rehearsal";

/// Arguments of `windlass datagen`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub struct Datagen {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write orders to files, one source a file, and a manifest beside them
    Generate(generate::Generate),
    /// Publish orders, generated or from files, and write a manifest of what was confirmed
    Publish(Box<publish::Publish>),
    /// Publish generated orders in the cluster, as a Job
    Submit(submit::Submit),
    /// List the runs that were submitted, or that a database knows
    List(runs::List),
    /// Show what a submitted run has written
    Logs(runs::Logs),
    /// End a submitted run early; its manifest holds what was confirmed
    Cancel(runs::Cancel),
}

impl Datagen {
    /// Generates, publishes or submits.
    ///
    /// # Errors
    /// If files, broker, manifest or cluster fail, or messages are left unconfirmed.
    pub async fn run(&self, config: &Config) -> anyhow::Result<ExitCode> {
        match &self.command {
            Command::Generate(generate) => generate.run(config).await,
            Command::Publish(publish) => publish.run(config).await,
            Command::Submit(submit) => submit.run().await,
            Command::List(list) => list.run(config).await,
            Command::Logs(logs) => logs.run().await,
            Command::Cancel(cancel) => cancel.run().await,
        }
    }
}

/// What shapes generated orders.
#[derive(Clone, Debug, Args)]
struct Shape {
    /// Seed of every random choice; the same seed and options give the same orders
    #[arg(long, value_name = "N", default_value_t = 7)]
    seed: u64,
    /// How the rate changes over the run
    #[arg(long, value_enum, default_value_t)]
    pattern: RatePattern,
    /// By how much event times are out of order, at most
    #[arg(long, value_name = "SPAN", default_value = "300ms")]
    disorder: Span,
    /// Share of orders that come too late, such as 0.1%
    #[arg(long, value_name = "SHARE", default_value = "0%")]
    late: Share,
    /// By how much those are late; more than the dispatcher's delay and allowed lateness
    #[arg(long, value_name = "SPAN", default_value = "30s")]
    late_by: Span,
}

/// A pattern on the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum RatePattern {
    /// The same all the time
    #[default]
    Steady,
    /// A day in one run: a wave between 0.2 and 1.8 times the rate
    Diurnal,
    /// Eight times the rate for the tenth after the middle
    Spike,
    /// Twice the rate in the second half
    Step,
}

impl From<RatePattern> for Pattern {
    fn from(pattern: RatePattern) -> Self {
        match pattern {
            RatePattern::Steady => Self::Steady,
            RatePattern::Diurnal => Self::Diurnal,
            RatePattern::Spike => Self::Spike,
            RatePattern::Step => Self::Step,
        }
    }
}

/// Whole milliseconds that fit the option.
fn millis(option: &str, span: Span) -> anyhow::Result<u32> {
    u32::try_from(span.0.as_millis())
        .map_err(|_| anyhow::anyhow!("expected {option} of at most 49 days, got {span}"))
}

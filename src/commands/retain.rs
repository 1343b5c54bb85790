//! `windlass retain`: removes what is old.

use std::fmt;
use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use jiff::Timestamp;
use windlass_dispatcher::broker::{Broker, Topology};
use windlass_dispatcher::store::{Old, Store};
use windlass_functions::stream::Stream;

use crate::cli::{BrokerArg, StoreArg, missing};
use crate::config::Config;
use crate::output::{self, grouped};
use crate::values::Span;

const EXAMPLES: &str = "\
Examples:
  windlass retain --store mysql://windlass:PASSWORD@db/windlass --rows 30d
      rows of windows that started more than 30 days ago and are final
  windlass retain --store … --broker … --rows 30d --outcomes 30d --quarantine 30d --placements 7d \
      --decisions 30d --runs 90d

Everything goes in small portions beside dispatchers that go on writing. The totals stay as they are,
and so does the ledger: no order of an old window can be counted again. The oldest window that is
kept is recorded (table retention). Below it a replay from quarantine changes the totals only, and
`windlass audit` compares nothing. In a cluster a schedule does this: windlass schedule --help.";

/// Arguments of `windlass retain`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Retain {
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    broker: BrokerArg,
    #[command(flatten)]
    keep: Keep,
}

/// How long to keep what.
#[derive(Clone, Debug, Args)]
pub(crate) struct Keep {
    /// Rows of final windows, by the start of the window
    #[arg(long, value_name = "SPAN")]
    rows: Option<Span>,
    /// The list of late and quarantined tuples, by when they were settled; those of windows whose
    /// rows are kept stay
    #[arg(long, value_name = "SPAN")]
    outcomes: Option<Span>,
    /// Messages in the quarantine queue, by when they were put there
    #[arg(long, value_name = "SPAN")]
    quarantine: Option<Span>,
    /// Where invocations ran (table commit_log), by when they were committed
    #[arg(long, value_name = "SPAN")]
    placements: Option<Span>,
    /// The scaler's decisions, by when they were taken
    #[arg(long, value_name = "SPAN")]
    decisions: Option<Span>,
    /// Runs of datagen and their manifests, by their end
    #[arg(long, value_name = "SPAN")]
    runs: Option<Span>,
}

/// Where what is to be removed is.
#[derive(Clone)]
pub(crate) struct Places {
    pub store: Option<String>,
    pub broker: Option<String>,
    /// How many shards the stream has.
    pub shards: u32,
}

/// How much was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Removed {
    rows: u64,
    outcomes: u64,
    quarantine: u64,
    placements: u64,
    decisions: u64,
    runs: u64,
}

impl fmt::Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            ("rows", self.rows),
            ("outcomes", self.outcomes),
            ("messages in quarantine", self.quarantine),
            ("placements", self.placements),
            ("decisions", self.decisions),
            ("runs", self.runs),
        ];
        let counts = counts.map(|(what, count)| format!("{what}: {}", grouped(count)));
        f.write_str(&counts.join(", "))
    }
}

impl Keep {
    /// Whether there is anything to do.
    ///
    /// # Errors
    /// If not.
    pub fn check(&self) -> anyhow::Result<()> {
        let all = [
            self.rows,
            self.outcomes,
            self.quarantine,
            self.placements,
            self.decisions,
            self.runs,
        ];
        if all == [None; 6] {
            bail!(
                "expected at least one of --rows, --outcomes, --quarantine, --placements, --decisions \
                 and --runs, such as --rows 30d"
            );
        }
        Ok(())
    }

    /// Removes it.
    ///
    /// # Errors
    /// If store or broker are not named or do not answer. What was removed before stays removed.
    pub async fn carry_out(&self, places: &Places, stream: &Stream) -> anyhow::Result<Removed> {
        let mut removed = Removed::default();
        // Rows first: they set the bound below which outcomes may go.
        for (keep, old, count) in [
            (self.rows, Old::Rows, &mut removed.rows),
            (self.outcomes, Old::Outcomes, &mut removed.outcomes),
            (self.placements, Old::Placements, &mut removed.placements),
            (self.decisions, Old::Decisions, &mut removed.decisions),
            (self.runs, Old::Runs, &mut removed.runs),
        ] {
            let Some(keep) = keep else {
                continue;
            };
            let url = places.store.as_deref();
            let url = url.context(missing("the store", "store", "sqlite:windlass.sqlite"))?;
            let store = Store::connect(url).await?;
            *count = store.remove_old(stream, old, keep.0).await?;
        }
        if let Some(keep) = self.quarantine {
            let url = places.broker.as_deref();
            let url = url.context(missing("the broker", "broker", "amqp://localhost"))?;
            let topology = Topology {
                stream: stream.name.clone(),
                shards: places.shards,
            };
            let broker = Broker::connect(url, &topology).await?;
            let keep = i64::try_from(keep.0.as_secs()).unwrap_or(i64::MAX);
            let before = Timestamp::now().as_second().saturating_sub(keep);
            removed.quarantine = broker.expire_quarantine(before).await?;
            broker.close().await;
        }
        Ok(removed)
    }
}

impl Retain {
    /// Removes what is old and says how much.
    ///
    /// # Errors
    /// If nothing is asked for, or store or broker do not answer.
    pub async fn run(&self, config: &Config) -> anyhow::Result<ExitCode> {
        self.keep.check()?;
        let places = Places {
            store: self.store.url(config).ok().map(str::to_owned),
            broker: self.broker.url(config).ok().map(str::to_owned),
            shards: config.shards.get(),
        };
        let removed = self.keep.carry_out(&places, &config.stream).await?;
        let mut out = output::stdout();
        writeln!(out, "removed {removed}")?;
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }
}

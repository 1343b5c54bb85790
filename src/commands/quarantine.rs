//! `windlass quarantine`: what could not be counted, and publishing it again.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use windlass_dispatcher::broker::{Broker, QuarantineFilter, Quarantined, Topology};

use crate::cli::BrokerArg;
use crate::config::Config;
use crate::output::{self, RowFormat};

const EXAMPLES: &str = "\
Examples:
  windlass quarantine list --broker amqp://guest:guest@localhost --outcome late
  windlass quarantine show --broker amqp://guest:guest@localhost ID > body.json
  windlass quarantine replay --broker amqp://guest:guest@localhost --source store-7

Looking takes nothing out. A replay publishes to the stream again: the shard's owner then counts
late and quarantined tuples past the lateness check, each at most once, and treats the others as
if they came for the first time.";

/// Arguments of `windlass quarantine`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Quarantine {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// One line for each message
    #[command(after_help = EXAMPLES)]
    List {
        #[command(flatten)]
        queue: Queue,
        #[command(flatten)]
        choice: Choice,
        /// Show at most so many
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
        /// How to show them
        #[arg(long, value_enum, default_value_t)]
        format: RowFormat,
    },
    /// The original body of one message, byte by byte
    #[command(after_help = EXAMPLES)]
    Show {
        #[command(flatten)]
        queue: Queue,
        /// Its id, as `list` shows it
        id: String,
    },
    /// Publish messages to the stream again
    #[command(after_help = EXAMPLES)]
    Replay {
        #[command(flatten)]
        queue: Queue,
        #[command(flatten)]
        choice: Choice,
        /// Only the messages with these ids
        ids: Vec<String>,
        /// Replay everything
        #[arg(long, conflicts_with_all = ["ids", "source", "outcome"])]
        all: bool,
    },
}

/// Where the queue is.
#[derive(Debug, Args)]
struct Queue {
    #[command(flatten)]
    broker: BrokerArg,
}

impl Queue {
    async fn connect(&self, config: &Config) -> anyhow::Result<Broker> {
        let topology = Topology {
            stream: config.stream.name.clone(),
            shards: config.shards.get(),
        };
        Ok(Broker::connect(self.broker.url(config)?, &topology).await?)
    }
}

/// Which messages.
#[derive(Debug, Args)]
struct Choice {
    /// Only tuples of this source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Only what was put here for this
    #[arg(long, value_enum)]
    outcome: Option<OutcomeChoice>,
}

/// Why a message is in quarantine.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum OutcomeChoice {
    /// Its window was final
    Late,
    /// It was identified, but could not be counted
    Quarantined,
    /// No tuple could be read from it
    Undecodable,
    /// Its source belongs to another shard
    Misrouted,
}

impl Choice {
    fn filter(&self, ids: Vec<String>) -> QuarantineFilter {
        let word = |outcome: OutcomeChoice| {
            let value = outcome.to_possible_value();
            value.map(|value| value.get_name().to_owned())
        };
        QuarantineFilter {
            ids,
            source: self.source.clone(),
            outcome: self.outcome.and_then(word),
        }
    }
}

/// Names of the columns of `list --format csv`: the fields of [`Line`].
const COLUMNS: [&str; 8] = [
    "id",
    "outcome",
    "source",
    "seq",
    "shard",
    "bytes",
    "content_type",
    "reason",
];

/// A message as `list` shows it.
#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    outcome: &'a str,
    source: Option<&'a str>,
    seq: Option<u64>,
    shard: Option<u32>,
    bytes: usize,
    content_type: Option<&'a str>,
    reason: &'a str,
}

impl<'a> From<&'a Quarantined> for Line<'a> {
    fn from(message: &'a Quarantined) -> Self {
        Self {
            id: &message.id,
            outcome: &message.outcome,
            source: message.source.as_deref(),
            seq: message.seq,
            shard: message.shard,
            bytes: message.body.len(),
            content_type: message.content_type.as_deref(),
            reason: &message.reason,
        }
    }
}

impl Quarantine {
    /// Lists, shows or replays.
    ///
    /// # Errors
    /// If the broker fails, or the message asked for is not there.
    pub async fn run(&self, config: &Config) -> anyhow::Result<ExitCode> {
        let mut out = output::stdout();
        match &self.what {
            What::List {
                queue,
                choice,
                limit,
                format,
            } => {
                let broker = queue.connect(config).await?;
                let filter = choice.filter(Vec::new());
                let found = broker.browse_quarantine(&filter, *limit).await?;
                broker.close().await;
                let lines: Vec<Line> = found.iter().map(Line::from).collect();
                match format {
                    RowFormat::Table => writeln!(out, "{}", table(&lines).trim_fmt())?,
                    RowFormat::Json => output::json(&mut out, &lines)?,
                    RowFormat::Csv => output::csv(&mut out, COLUMNS, &lines)?,
                }
            }
            What::Show { queue, id } => {
                let broker = queue.connect(config).await?;
                let filter = QuarantineFilter {
                    ids: vec![id.clone()],
                    ..QuarantineFilter::default()
                };
                let found = broker.browse_quarantine(&filter, 1).await?;
                broker.close().await;
                let message = found.first().with_context(|| {
                    format!("no message in quarantine has the id {id:?}; see `quarantine list`")
                })?;
                out.write_all(&message.body)?;
            }
            What::Replay {
                queue,
                choice,
                ids,
                all,
            } => {
                let filter = choice.filter(ids.clone());
                if filter == QuarantineFilter::default() && !all {
                    bail!(
                        "expected ids, --source or --outcome, got none; pass --all to replay everything"
                    );
                }
                let broker = queue.connect(config).await?;
                let done = broker.replay_quarantine(&filter).await?;
                broker.close().await;
                let (replayed, kept) = (done.replayed, done.kept);
                writeln!(
                    out,
                    "replayed {replayed} messages, left {kept} in quarantine"
                )?;
            }
        }
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }
}

fn table(lines: &[Line]) -> comfy_table::Table {
    let header = ["ID", "OUTCOME", "SOURCE", "SEQ", "SHARD", "BYTES", "REASON"];
    let number = |number: Option<u64>| number.map(|number| number.to_string());
    output::table(
        header,
        3..6,
        lines.iter().map(|line| {
            [
                line.id.into(),
                line.outcome.into(),
                line.source.unwrap_or_default().into(),
                number(line.seq).unwrap_or_default(),
                number(line.shard.map(u64::from)).unwrap_or_default(),
                line.bytes.to_string(),
                line.reason.into(),
            ]
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_csv_header_names_the_fields_in_their_order() {
        let line = Line {
            id: "",
            outcome: "",
            source: None,
            seq: None,
            shard: None,
            bytes: 0,
            content_type: None,
            reason: "",
        };
        assert_eq!(output::field_names(&line), COLUMNS);
    }
}

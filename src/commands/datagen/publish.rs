//! `windlass datagen publish`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{bail, ensure};
use clap::{ArgGroup, Args, ValueEnum};
use jiff::Timestamp;
use tokio::sync::oneshot;
use windlass_datagen::broker::Target;
use windlass_datagen::feed::Feed;
use windlass_datagen::files::{self, MANIFEST, Recording};
use windlass_datagen::manifest::Origin;
use windlass_datagen::message::{self, Messages, Packing};
use windlass_datagen::publish::{Progress, Published, Speed, publish};
use windlass_datagen::workload::{Options, Workload};

use super::meter::Meter;
use super::{Shape, millis};
use crate::cli::{BrokerArg, ShardsArg};
use crate::config::Config;
use crate::output;
use crate::output::grouped;
use crate::shutdown::Signals;
use crate::values::{Share, Span};

const EXAMPLES: &str = "\
Examples:
  windlass datagen publish --broker amqp://localhost --rate 20000 --for 60s --disorder 300ms
  windlass datagen publish --broker amqp://localhost --rate 500 --for 10m --pattern diurnal \\
      --duplicates 1% --late 0.1%
  windlass datagen publish --broker amqp://localhost --files orders --format arrow --speed max
  windlass datagen publish --broker amqp://localhost --replay till.ndjson --speed 10x

What is not confirmed is sent again under the same seq, across lost connections, until the broker
has it. Ctrl-C stops; the manifest then holds what was confirmed. Check a run with
`windlass audit --manifest FILE`.

A generated run numbers each source's tuples from 1. So that two runs do not collide, the sources'
names begin with eight digits drawn from the seed, the start and the other options, unless
--source-prefix says otherwise. Files keep the names in them: published twice, they are duplicates.";

/// Arguments of `windlass datagen publish`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, group(ArgGroup::new("what").required(true)))]
pub(super) struct Publish {
    #[command(flatten)]
    broker: BrokerArg,
    #[command(flatten)]
    shards: ShardsArg,
    /// The stream to publish to: the exchange's name [default: orders, or the --config file's]
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    /// Generate so many orders a second
    #[arg(long, value_name = "N", group = "what")]
    rate: Option<f64>,
    /// Publish the files in this folder, merged by time
    #[arg(long, value_name = "DIR", group = "what")]
    files: Option<PathBuf>,
    /// Publish this file (.csv, .ndjson, .parquet or .arrow); where it has no source and seq, its
    /// name and the row's number stand in
    #[arg(long, value_name = "FILE", group = "what")]
    replay: Option<PathBuf>,
    /// For how long to generate
    #[arg(
        long = "for",
        value_name = "SPAN",
        default_value = "60s",
        requires = "rate"
    )]
    duration: Span,
    /// How many sources to generate
    #[arg(long, value_name = "N", default_value_t = 8, requires = "rate")]
    sources: u32,
    /// Event time of the first generated order [default: now; the run's length ago if it is played
    /// faster than 1x, so that no order comes from the future]
    #[arg(long, value_name = "RFC3339", requires = "rate")]
    start: Option<Timestamp>,
    #[command(flatten)]
    shape: Shape,
    /// How fast: 1x is real time, 10x ten times that, max as fast as the broker takes it
    #[arg(long, value_name = "SPEED", default_value = "1x")]
    speed: Speed,
    /// How messages are written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Most orders in a message [default: 1 for json, 100 for ndjson, 2400 (64 KiB) for arrow]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    batch: Option<u32>,
    /// Share of messages that are sent twice, such as 1%
    #[arg(long, value_name = "SHARE", default_value = "0%")]
    duplicates: Share,
    /// Put before each source's name
    #[arg(long, value_name = "TEXT")]
    source_prefix: Option<String>,
    /// Where to write what was published, replacing what is there
    #[arg(long, value_name = "FILE", default_value = MANIFEST)]
    manifest: PathBuf,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A JSON object an order, an array with --batch
    #[default]
    Json,
    /// A line of JSON an order
    Ndjson,
    /// Arrow IPC stream
    Arrow,
}

impl From<Format> for message::Format {
    fn from(format: Format) -> Self {
        match format {
            Format::Json => Self::Json,
            Format::Ndjson => Self::Ndjson,
            Format::Arrow => Self::Arrow,
        }
    }
}

impl Publish {
    pub(super) async fn run(&self, config: &Config) -> anyhow::Result<ExitCode> {
        let stream = self.stream.as_deref().unwrap_or(&config.stream.name);
        let target = Target::parse(self.broker.url(config)?, stream, self.shards.count(config))?;
        let (feed, origin) = self.feed(Timestamp::now())?;
        let mut meter = Meter::start("published", feed.expected())?;
        let format: message::Format = self.format.into();
        let packing = Packing {
            format,
            batch: self.batch.map_or(format.default_batch(), |n| n as usize),
            duplicates: self.duplicates.0,
            seed: self.shape.seed,
        };
        let mut signals = Signals::catch()?;
        let (stop, stopped) = oneshot::channel();
        let aborted = async {
            signals.next().await;
            tracing::info!("stopping; waiting for what is on its way to be confirmed");
            // Nobody listens any more when the run has just ended by itself.
            let _ = stop.send(());
            signals.next().await;
        };
        let publishing = publish(
            &target,
            Messages::new(feed, packing),
            config.stream.window_ms,
            self.speed,
            origin,
            |progress| meter.show(progress.tuples, || note(progress)),
            async {
                let _ = stopped.await;
            },
        );
        let published = tokio::select! {
            published = publishing => published?,
            () = aborted => bail!("aborted by a second signal; no manifest was written"),
        };
        let seconds = meter.finish().as_secs_f64();
        published.manifest.write(&self.manifest)?;
        self.summarise(&published, seconds)?;
        let unconfirmed: u64 = published
            .manifest
            .sources
            .values()
            .map(|source| source.unconfirmed)
            .sum();
        if let Some(failure) = published.failure {
            return Err(failure);
        }
        ensure!(
            unconfirmed == 0,
            "{unconfirmed} orders were sent but not confirmed; an exact audit of this run is not \
             possible"
        );
        Ok(ExitCode::SUCCESS)
    }

    /// Generated orders or those of files.
    fn feed(&self, now: Timestamp) -> anyhow::Result<(Feed, Origin)> {
        if let Some(rate) = self.rate {
            let options = self.options(rate, now)?;
            let workload = Workload::new(options.clone())?;
            let feed = Feed::Workload(Box::new(workload));
            return Ok((feed, Origin::Workload(options)));
        }
        let files = match (&self.files, &self.replay) {
            (Some(dir), _) => files::list(dir)?,
            (None, file) => file.iter().cloned().collect(),
        };
        let prefix = self.source_prefix.as_deref().unwrap_or_default();
        let recording = Recording::open(&files, prefix)?;
        Ok((Feed::Recording(Box::new(recording)), Origin::Files(files)))
    }

    fn options(&self, rate: f64, now: Timestamp) -> anyhow::Result<Options> {
        let duration_ms = u64::from(millis("--for", self.duration)?);
        let faster = match self.speed {
            Speed::Max => true,
            Speed::Times(times) => times > 1.0,
        };
        let ago_ms = if faster { duration_ms as i64 } else { 0 };
        let start_ms = match self.start {
            Some(start) => start.as_millisecond(),
            None => now.as_millisecond() - ago_ms,
        };
        let mut options = Options {
            seed: self.shape.seed,
            sources: self.sources,
            source_prefix: String::new(),
            start_ms,
            rate,
            duration_ms,
            orders: None,
            pattern: self.shape.pattern.into(),
            disorder_ms: millis("--disorder", self.shape.disorder)?,
            late: self.shape.late.0,
            late_by_ms: millis("--late-by", self.shape.late_by)?,
        };
        options.source_prefix = match &self.source_prefix {
            Some(prefix) => prefix.clone(),
            None => options.run_prefix(),
        };
        Ok(options)
    }

    fn summarise(&self, published: &Published, seconds: f64) -> anyhow::Result<()> {
        let Progress {
            tuples,
            messages,
            bytes,
            resent,
            reconnected,
            behind_ms,
        } = published.progress;
        let mut out = output::stdout();
        writeln!(
            out,
            "published {} orders in {} messages, {:.1} MB, in {seconds:.1} s ({} orders/s, {:.1} \
             MB/s); manifest: {}",
            grouped(tuples),
            grouped(messages),
            bytes as f64 / 1e6,
            grouped((tuples as f64 / seconds) as u64),
            bytes as f64 / 1e6 / seconds,
            self.manifest.display()
        )?;
        if resent > 0 || reconnected > 0 {
            let resent = grouped(resent);
            writeln!(
                out,
                "reconnected {reconnected} times, sent {resent} messages again"
            )?;
        }
        if behind_ms > 1_000 {
            writeln!(
                out,
                "ended {:.1} s behind the schedule: the broker or this machine cannot keep that \
                 rate",
                behind_ms as f64 / 1e3
            )?;
        }
        out.flush()?;
        Ok(())
    }
}

/// What is worth knowing beside the number of orders.
fn note(progress: &Progress) -> String {
    let mut note = String::new();
    if progress.reconnected > 0 {
        note = format!("reconnected {} times", progress.reconnected);
    }
    if progress.behind_ms > 1_000 {
        note.push_str(&format!(" {:.1} s behind", progress.behind_ms as f64 / 1e3));
    }
    note
}

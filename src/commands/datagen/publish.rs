//! `windlass datagen publish`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{bail, ensure};
use clap::{ArgGroup, Args};
use jiff::Timestamp;
use tokio::sync::oneshot;
use windlass_datagen::broker::Target;
use windlass_datagen::feed::Feed;
use windlass_datagen::files::{self, MANIFEST, Recording};
use windlass_datagen::manifest::Origin;
use windlass_datagen::message::{self, Messages, Packing};
use windlass_datagen::publish::{Progress, Published, Speed, publish};
use windlass_datagen::workload::{Options, Workload};
use windlass_dispatcher::store::Store;
use windlass_jobs::name::RunName;

use super::meter::Meter;
use super::millis;
use super::run::{Run, patient};
use super::traffic::Traffic;
use crate::cli::{BrokerArg, ShardsArg, StoreArg};
use crate::config::Config;
use crate::output;
use crate::output::grouped;
use crate::shutdown::Signals;
use crate::values::Span;

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
    #[command(flatten)]
    store: StoreArg,
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
    #[command(flatten)]
    traffic: Traffic,
    /// Event time of the first generated order [default: now; the run's length ago if it is played
    /// faster than 1x, so that no order comes from the future]
    #[arg(long, value_name = "RFC3339", requires = "rate")]
    start: Option<Timestamp>,
    /// Put before each source's name
    #[arg(long, value_name = "TEXT")]
    source_prefix: Option<String>,
    /// Where to write what was published, replacing what is there
    #[arg(long, value_name = "FILE", default_value = MANIFEST, conflicts_with = "run")]
    manifest: PathBuf,
    /// Keep the manifest in the store under this name instead, for `windlass audit --run NAME`. Begun
    /// again after it died, the run publishes the same orders under the same numbers
    #[arg(long, value_name = "NAME", requires = "rate", conflicts_with_all = ["files", "replay"])]
    run: Option<RunName>,
    /// For how long to try again when broker or store are not ready at the start
    #[arg(long, value_name = "SPAN", default_value = "0s")]
    wait: Span,
    /// Tells two runs that are alike apart: who submitted it, and when
    #[arg(long, value_name = "TEXT", hide = true, requires = "run")]
    submission: Option<String>,
}

impl Publish {
    pub(super) async fn run(&self, config: &Config) -> anyhow::Result<ExitCode> {
        let stream = self.stream.as_deref().unwrap_or(&config.stream.name);
        let target = Target::parse(self.broker.url(config)?, stream, self.shards.count(config))?;
        let mut signals = Signals::catch()?;
        let run = tokio::select! {
            ready = self.ready(config, &target, stream) => match ready? {
                Ready::Run(run) => Some(run),
                Ready::Unnamed => None,
                Ready::Through => return Ok(ExitCode::SUCCESS),
            },
            () = signals.next() => bail!("stopped before anything was published"),
        };
        let (feed, origin) = match &run {
            Some(run) => generated(run.options.clone())?,
            None => self.feed(Timestamp::now())?,
        };
        let pace = match &run {
            Some(run) => run.pace(self.traffic.speed),
            None => self.traffic.speed.into(),
        };
        let mut meter = Meter::start("published", feed.expected())?;
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
            Messages::new(feed, self.packing()),
            config.stream.window_ms,
            pace,
            origin,
            |progress| meter.show(progress.tuples, || note(progress)),
            async {
                let _ = stopped.await;
            },
        );
        let alive = async {
            match &run {
                Some(run) => run.beat().await,
                None => std::future::pending().await,
            }
        };
        let published = tokio::select! {
            published = publishing => published?,
            () = aborted => bail!("aborted by a second signal; no manifest was written"),
            () = alive => unreachable!("a run shows that it is alive for as long as it lasts"),
        };
        let seconds = meter.finish().as_secs_f64();
        match &run {
            Some(run) => run.keep(&published.manifest).await?,
            None => published.manifest.write(&self.manifest)?,
        }
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
        let interrupted = published.manifest.runs.iter().any(|run| run.interrupted);
        if run.is_some() && interrupted {
            bail!("stopped before its end; begun again, the run goes on where it would be by then");
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Waits for broker and store, then enters the run if it has a name.
    async fn ready(&self, config: &Config, target: &Target, stream: &str) -> anyhow::Result<Ready> {
        // A broker that is starting refuses users and vhosts that it will know in a moment.
        if !self.wait.0.is_zero() {
            let reach = async || target.open().await;
            let publisher = patient(self.wait.0, "reach the broker", |_| true, reach).await?;
            publisher.close().await;
        }
        let Some((name, rate)) = self.run.as_ref().zip(self.rate) else {
            return Ok(Ready::Unnamed);
        };
        let url = self.store.url(config)?;
        // A dispatcher that is starting makes the tables.
        let reach = async || {
            let store = Store::connect(url).await?;
            store.runs(stream).await.map(|_| store)
        };
        let store = patient(self.wait.0, "reach the store", |_| true, reach).await?;
        let mut request = self.traffic.args(rate);
        request.extend(self.start.map(|start| format!("--start={start}")));
        request.extend(self.source_prefix.clone());
        request.extend(self.submission.clone());
        let mut options = self.options(rate, Timestamp::now())?;
        if self.source_prefix.is_none() {
            options.source_prefix = format!("{name}-");
        }
        // Refused before it is entered.
        Workload::new(options.clone())?;
        let run = Run::claim(store, name, stream, &request.join(" "), &options).await?;
        Ok(run.map_or(Ready::Through, |run| Ready::Run(Box::new(run))))
    }

    fn packing(&self) -> Packing {
        let format: message::Format = self.traffic.format.into();
        let batch = self.traffic.batch;
        Packing {
            format,
            batch: batch.map_or(format.default_batch(), |n| n as usize),
            duplicates: self.traffic.duplicates.0,
            seed: self.traffic.shape.seed,
        }
    }

    /// Generated orders or those of files.
    fn feed(&self, now: Timestamp) -> anyhow::Result<(Feed, Origin)> {
        if let Some(rate) = self.rate {
            return generated(self.options(rate, now)?);
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
        let duration_ms = u64::from(millis("--for", self.traffic.duration)?);
        let faster = match self.traffic.speed {
            Speed::Max => true,
            Speed::Times(times) => times > 1.0,
        };
        let ago_ms = if faster { duration_ms as i64 } else { 0 };
        let start_ms = match self.start {
            Some(start) => start.as_millisecond(),
            None => now.as_millisecond() - ago_ms,
        };
        let mut options = Options {
            seed: self.traffic.shape.seed,
            sources: self.traffic.sources,
            source_prefix: String::new(),
            start_ms,
            rate,
            duration_ms,
            orders: None,
            pattern: self.traffic.shape.pattern.into(),
            disorder_ms: millis("--disorder", self.traffic.shape.disorder)?,
            late: self.traffic.shape.late.0,
            late_by_ms: millis("--late-by", self.traffic.shape.late_by)?,
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
        let manifest = match &self.run {
            Some(name) => format!("run {name} in the store"),
            None => self.manifest.display().to_string(),
        };
        writeln!(
            out,
            "published {} orders in {} messages, {:.1} MB, in {seconds:.1} s ({} orders/s, {:.1} \
             MB/s); manifest: {manifest}",
            grouped(tuples),
            grouped(messages),
            bytes as f64 / 1e6,
            grouped((tuples as f64 / seconds) as u64),
            bytes as f64 / 1e6 / seconds,
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

/// Whether there is anything to publish, and under which name.
enum Ready {
    Run(Box<Run>),
    Unnamed,
    /// The run of this name is through.
    Through,
}

fn generated(options: Options) -> anyhow::Result<(Feed, Origin)> {
    let workload = Workload::new(options.clone())?;
    let feed = Feed::Workload(Box::new(workload));
    Ok((feed, Origin::Workload(options)))
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

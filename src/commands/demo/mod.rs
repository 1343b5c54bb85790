//! `windlass demo`: the main job with nothing else installed. The broker lives in this process and
//! the results in an SQLite file; the workers are real processes, and the dispatcher between them is
//! the one that `windlass dispatch` runs.

mod feed;
mod view;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use tokio::time::{Instant, MissedTickBehavior, interval};
use windlass_datagen::manifest::Manifest;
use windlass_dispatcher::broker::{Broker, Topology};
use windlass_dispatcher::shard::Settings;
use windlass_dispatcher::store::{Reader, Store};
use windlass_functions::stream::Stream;
use windlass_functions::watermark::Times;

use crate::commands::{audit, board};
use crate::config::Config;
use crate::output;
use crate::serve::{self, Server, Serving};
use crate::shutdown::Signals;
use crate::values::{Pace, Span, Workers};
use feed::Producer;
use view::View;

/// How often the view is drawn.
const FRAME: Duration = Duration::from_millis(250);
/// How long the last orders and the last windows may take after the producer has stopped.
const SETTLE: Duration = Duration::from_secs(30);

const EXAMPLES: &str = "\
Examples:
  windlass demo
      half a minute of Singles' Day, then the audit
  windlass demo --rate 50000 --for 2m
  windlass demo --pace 50ms+600us --rate 1000 --for 2m
      a slow function: the scaler enlarges the pool when the sale opens

What it leaves behind is an ordinary store: look into it with windlass query, or with sqlite3.";

/// Arguments of `windlass demo`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Demo {
    /// How long to produce orders
    #[arg(long = "for", value_name = "TIME", default_value = "30s")]
    duration: Span,
    /// Orders a second; eight times as many when the sale opens, half-way
    #[arg(long, value_name = "N", default_value_t = 10_000.0)]
    rate: f64,
    /// Seed of the orders
    #[arg(long, default_value_t = 11)]
    seed: u64,
    /// Local workers: a number from 1, or auto for as many as the scaler decides
    #[arg(long, value_name = "N", default_value = "auto")]
    workers: Workers,
    /// With --workers auto: the scaler's tuning, watched
    #[arg(long, value_name = "FILE")]
    scaler: Option<PathBuf>,
    /// Have workers take at least so long for a batch and a tuple of it, such as 50ms+600us, in
    /// batches of 500: to see the scaler at work
    #[arg(long, value_name = "TIMES")]
    pace: Option<Pace>,
    /// Leave the results in this directory [default: a new one among the temporary files]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Open no web page
    #[arg(long)]
    no_board: bool,
}

impl Demo {
    /// Runs the demo to its end, or until a signal drains it.
    ///
    /// # Errors
    /// If the directory cannot be written, or the run does not settle.
    pub async fn run(&self, _config: &Config) -> anyhow::Result<ExitCode> {
        anyhow::ensure!(
            self.workers != Workers::Count(0),
            "expected at least one worker, got 0: the demo has no others"
        );
        let mut signals = Signals::catch()?;
        let directory = self.directory()?;
        let url = format!("sqlite:{}", directory.join("results.sqlite").display());
        let stream = Stream::default();
        let store = Store::connect(&url).await?;
        store.migrate(&stream, 1).await?;
        let topology = Topology {
            stream: stream.name.clone(),
            shards: 1,
        };
        let broker = Broker::connect("memory:", &topology).await?;
        let server = Server::start(Serving {
            stream: stream.clone(),
            shards: 1,
            broker: broker.clone(),
            store: store.clone(),
            replicas: None,
            token: None,
            status_token: None,
            listener: serve::listen(([127, 0, 0, 1], 0).into(), None).await?,
            tls: None,
            workers: self.workers,
            tuning: self.scaler.clone(),
            program: None,
            pace: self.pace,
            settings: Settings {
                times: Times {
                    idle_timeout_ms: 1_000,
                    ..Times::default()
                },
                chunk_rows: self.chunk_rows(),
                ..Settings::default()
            },
            grace: Duration::from_secs(20),
            jobs: None,
        })
        .await?;

        let board = if self.no_board {
            None
        } else {
            // The demo's stream is the shipped one, whatever the configuration says.
            Some(board::beside(&url, &Config::default(), server.address()).await?)
        };
        if let Some(board) = &board {
            let mut out = std::io::stdout();
            writeln!(out, "the big screen: http://{}/", board.address())?;
            writeln!(out, "its dispatcher: http://{}", server.address())?;
            out.flush()?;
        }
        let producer = Producer::start(self.options(), broker, &stream)?;
        let reader = Reader::new(&url, &[], &stream)?;
        let mut view = View::new(self.duration.0, std::io::stdout().is_terminal());
        let manifest = self
            .watch(producer, &server, &reader, &mut view, &mut signals)
            .await?;
        let path = directory.join("manifest.json");
        manifest.write(&path)?;
        tokio::select! {
            in_time = server.drain() => if !in_time {
                bail!("the drain took longer than the grace period");
            },
            () = signals.next() => bail!("aborted by a second signal"),
        }
        if let Some(board) = board {
            board.stop().await;
        }
        report(&store, &stream, &manifest, &url, &path).await
    }

    /// Batches that can be shared out among slow workers.
    fn chunk_rows(&self) -> usize {
        self.pace.map_or(Settings::default().chunk_rows, |_| 500)
    }

    fn options(&self) -> feed::Options {
        feed::Options {
            rate: self.rate,
            duration: self.duration.0,
            seed: self.seed,
        }
    }

    fn directory(&self) -> anyhow::Result<PathBuf> {
        let Some(directory) = &self.dir else {
            let fresh = tempfile::Builder::new().prefix("windlass-demo-").tempdir();
            return Ok(fresh.context("cannot make a temporary directory")?.keep());
        };
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot make the directory {}", directory.display()))?;
        let taken = directory.join("results.sqlite");
        if taken.exists() {
            bail!(
                "{} is there already: name another --dir, so that two runs do not mix",
                taken.display()
            );
        }
        Ok(directory.clone())
    }

    /// Draws until the producer has ended and all it published is settled and closed.
    async fn watch(
        &self,
        mut producer: Producer,
        server: &Server,
        reader: &Reader,
        view: &mut View,
        signals: &mut Signals,
    ) -> anyhow::Result<Manifest> {
        let mut frames = interval(FRAME);
        frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let manifest = loop {
            tokio::select! {
                ended = producer.ended() => break ended?,
                () = signals.next() => producer.stop(),
                _ = frames.tick() => view.draw(server, reader, producer.published()).await?,
            }
        };
        let published = manifest.totals.orders;
        let give_up = deadline(SETTLE);
        loop {
            view.draw(server, reader, published).await?;
            let status = server.status();
            let settled = status.tuples_settled >= published;
            let open = |shard: &windlass_dispatcher::status::ShardStatus| {
                let figures = shard.figures.as_ref();
                figures.is_none_or(|figures| figures.windows_open > 0)
            };
            if settled && !status.shards.values().any(open) {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep_until(give_up) => bail!(
                    "{published} orders were published and {} settled within {} s; see {}",
                    status.tuples_settled,
                    SETTLE.as_secs(),
                    server.address()
                ),
                () = signals.next() => return Ok(manifest),
                _ = frames.tick() => {}
            }
        }
        view.finish()?;
        Ok(manifest)
    }
}

async fn report(
    store: &Store,
    stream: &Stream,
    manifest: &Manifest,
    url: &str,
    path: &Path,
) -> anyhow::Result<ExitCode> {
    let ledger = store.audit(stream).await?;
    let differences = audit::check(store, stream, &ledger, manifest.clone(), audit::ALL).await?;
    let sum = |count: fn(&windlass_dispatcher::store::SourceAudit) -> i64| -> i64 {
        ledger.sources.iter().map(count).sum()
    };
    let published = manifest.totals.orders;
    let counted = sum(|source| source.counted);
    let late = sum(|source| source.late);
    let quarantined = sum(|source| source.quarantined);
    let mut out = output::stdout();
    writeln!(
        out,
        "audit: published {published} = counted {counted} + late {late} + quarantined {quarantined}"
    )?;
    writeln!(
        out,
        "       duplicates {} (dropped), redeliveries {}, undecodable {}",
        ledger.duplicates, ledger.redeliveries, ledger.undecodable
    )?;
    writeln!(
        out,
        "       every window against what was published: {differences}"
    )?;
    for imbalance in &ledger.imbalances {
        writeln!(out, "       the store does not add up: {imbalance}")?;
    }
    writeln!(out, "results: {url}")?;
    writeln!(out, "  windlass query gmv --store {url} --last 10s")?;
    writeln!(out, "  windlass query totals --store {url}")?;
    writeln!(
        out,
        "  windlass audit --store {url} --manifest {}",
        path.display()
    )?;
    out.flush()?;
    let adds_up = i128::from(published) == i128::from(counted + late + quarantined);
    let well = adds_up && differences.is_empty() && ledger.imbalances.is_empty();
    Ok(ExitCode::from(u8::from(!well)))
}

#[allow(clippy::disallowed_methods)]
fn deadline(after: Duration) -> Instant {
    Instant::now() + after
}

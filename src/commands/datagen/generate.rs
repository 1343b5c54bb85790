//! `windlass datagen generate`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use windlass_datagen::files::{self, FileFormat};
use windlass_datagen::workload::Options;

use super::meter::Meter;
use super::{Shape, millis};
use crate::config::Config;
use crate::output;
use crate::output::grouped;

const EXAMPLES: &str = "\
Examples:
  windlass datagen generate --out orders --files 50 --rows 1000000 --seed 7
  windlass datagen generate --out orders.parquet --files 8 --rows 100000 --pattern spike
  windlass datagen generate --out spike --files 8 --rows 100000 --format arrow --pattern spike

Each file holds one source (source-00 in orders-00.csv and so on); all span the same time, so that
publishing the folder merges them. Columns: source, seq, ts, province, amount. --out is always a
folder; if its name ends in .csv, .parquet or .arrow, the files in it are of that kind.";

/// Arguments of `windlass datagen generate`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Generate {
    /// The folder to write to, new or empty; its extension, if any, says what kind of files
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How many files
    #[arg(long, value_name = "N", default_value_t = 50)]
    files: u32,
    /// How many orders in each
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    rows: u64,
    /// What kind of files [default: what --out's extension says, else csv]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Orders a second of event time, all files together
    #[arg(long, value_name = "N", default_value_t = 100_000.0)]
    rate: f64,
    /// Event time of the first order: Singles' Day at midnight in China unless told otherwise
    #[arg(
        long,
        value_name = "RFC3339",
        default_value = "2025-11-11T00:00:00+08:00"
    )]
    start: Timestamp,
    /// Put before each source's name
    #[arg(long, value_name = "TEXT", default_value = "")]
    source_prefix: String,
    #[command(flatten)]
    shape: Shape,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Comma-separated values with a header
    Csv,
    /// Parquet, Snappy-compressed
    Parquet,
    /// Arrow IPC file
    Arrow,
}

impl From<Format> for FileFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Csv => Self::Csv,
            Format::Parquet => Self::Parquet,
            Format::Arrow => Self::Arrow,
        }
    }
}

impl Generate {
    pub(super) async fn run(&self, config: &Config) -> anyhow::Result<ExitCode> {
        let orders = u64::from(self.files)
            .checked_mul(self.rows)
            .context("expected fewer than 2^64 orders; ask for fewer files or rows")?;
        let options = self.options(orders)?;
        let (format, out) = (self.format()?, self.out.clone());
        let mut meter = Meter::start("written", Some(orders))?;
        let window_ms = config.stream.window_ms;
        let writing = tokio::task::spawn_blocking(move || {
            let written = files::generate(options, window_ms, format, &out, |orders| {
                meter.show(orders, String::new);
            });
            (written, meter.finish())
        });
        let (written, took) = writing.await?;
        let manifest = written?;
        let mut stdout = output::stdout();
        writeln!(
            stdout,
            "wrote {} orders to {} files in {} in {:.1} s; manifest: {}",
            grouped(manifest.totals.orders),
            self.files,
            self.out.display(),
            took.as_secs_f64(),
            self.out.join(files::MANIFEST).display()
        )?;
        stdout.flush()?;
        Ok(ExitCode::SUCCESS)
    }

    /// What `--format` or the folder's extension says.
    fn format(&self) -> anyhow::Result<FileFormat> {
        let given = self.format.map(FileFormat::from);
        // Any other dot is part of a name, as in `orders.2025`.
        let named = FileFormat::of(&self.out).ok();
        if let (Some(given), Some(named)) = (given, named)
            && given != named
        {
            bail!(
                "expected --format {named}, as the name {} says, got {given}; leave one of the two out",
                self.out.display()
            );
        }
        Ok(given.or(named).unwrap_or_default())
    }

    fn options(&self, orders: u64) -> anyhow::Result<Options> {
        let shape = &self.shape;
        Ok(Options {
            seed: shape.seed,
            sources: self.files,
            source_prefix: self.source_prefix.clone(),
            start_ms: self.start.as_millisecond(),
            rate: self.rate,
            // The pattern spans what the orders take at the base rate.
            duration_ms: ((orders as f64 / self.rate * 1e3) as u64).max(1),
            orders: Some(orders),
            pattern: shape.pattern.into(),
            disorder_ms: millis("--disorder", shape.disorder)?,
            late: shape.late.0,
            late_by_ms: millis("--late-by", shape.late_by)?,
        })
    }
}

//! `windlass query`: results, read from replicas in turn.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;
use windlass_dispatcher::store::{Answer, GmvQuery, GmvRow, Reader, TotalRow};

use crate::cli::{ReplicasArg, StoreArg};
use crate::config::Config;
use crate::output::{self, RowFormat};
use crate::values::Span;

/// How much of the end of the stream is shown when nothing is said.
const LAST: Span = Span(Duration::from_secs(60));

/// Names of the columns in CSV: the fields of [`GmvRow`].
const GMV_COLUMNS: [&str; 9] = [
    "window_start",
    "province",
    "orders",
    "gmv",
    "mean",
    "min_amount",
    "max_amount",
    "revision",
    "state",
];
/// The same of [`TotalRow`].
const TOTAL_COLUMNS: [&str; 6] = [
    "province",
    "orders",
    "gmv",
    "mean",
    "min_amount",
    "max_amount",
];

const EXAMPLES: &str = "\
Examples:
  windlass query gmv --last 60s --province Guangdong
  windlass query gmv --from 2026-11-11T00:00:00Z --to 2026-11-11T00:01:00Z --format csv
  windlass query totals --format json

Reads go to the --replica servers in turn, and to --store when there are none or none answers.
Where the answer comes from and how old it is goes to standard error (in JSON: into the object).";

/// Arguments of `windlass query`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Query {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Orders, sales, mean, smallest and largest amount by second and province
    #[command(after_help = EXAMPLES)]
    Gmv {
        #[command(flatten)]
        source: Source,
        /// The windows of this long before the end of the newest one [default: 60s]
        #[arg(long, value_name = "TIME", conflicts_with_all = ["from", "to"])]
        last: Option<Span>,
        /// Windows that start at or after this instant (RFC 3339)
        #[arg(long, value_name = "INSTANT")]
        from: Option<Timestamp>,
        /// Windows that start before this instant (RFC 3339)
        #[arg(long, value_name = "INSTANT")]
        to: Option<Timestamp>,
        /// Only this province
        #[arg(long, value_name = "NAME")]
        province: Option<String>,
    },
    /// The same over all time, by province
    #[command(after_help = EXAMPLES)]
    Totals {
        #[command(flatten)]
        source: Source,
    },
}

/// Where to read and how to show it.
#[derive(Debug, Args)]
struct Source {
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    replicas: ReplicasArg,
    /// How to show the rows
    #[arg(long, value_enum, default_value_t)]
    format: RowFormat,
}

impl Source {
    fn reader(&self, config: &Config) -> anyhow::Result<Reader> {
        let (store, replicas) = (self.store.url(config)?, self.replicas.urls(config));
        Ok(Reader::new(store, replicas, &config.stream)?)
    }
}

impl Query {
    /// Asks and shows.
    ///
    /// # Errors
    /// If no server answers.
    pub async fn run(&self, config: &Config) -> anyhow::Result<ExitCode> {
        match &self.what {
            What::Gmv {
                source,
                last,
                from,
                to,
                province,
            } => {
                let unbounded = from.is_none() && to.is_none();
                let query = GmvQuery {
                    from: from.map(Timestamp::as_millisecond),
                    to: to.map(Timestamp::as_millisecond),
                    province: province.clone(),
                    last: last.or(unbounded.then_some(LAST)).map(|span| span.0),
                };
                let answer = source.reader(config)?.gmv(&query).await?;
                show(&answer, source.format, GMV_COLUMNS, gmv_table)?;
            }
            What::Totals { source } => {
                let answer = source.reader(config)?.totals().await?;
                show(&answer, source.format, TOTAL_COLUMNS, totals_table)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// An answer as one JSON object.
#[derive(Serialize)]
struct Document<'a, T> {
    rows: &'a [T],
    server: &'a str,
    staleness_ms: Option<u64>,
    warnings: &'a [String],
}

fn show<T: Serialize, const N: usize>(
    answer: &Answer<T>,
    format: RowFormat,
    columns: [&str; N],
    table: fn(&[T]) -> comfy_table::Table,
) -> anyhow::Result<()> {
    let mut out = output::stdout();
    if format == RowFormat::Json {
        let document = Document {
            rows: &answer.rows,
            server: &answer.server,
            staleness_ms: answer.staleness_ms,
            warnings: &answer.warnings,
        };
        output::json(&mut out, &document)?;
        out.flush()?;
        return Ok(());
    }
    match format {
        RowFormat::Csv => output::csv(&mut out, columns, &answer.rows)?,
        _ => writeln!(out, "{}", table(&answer.rows).trim_fmt())?,
    }
    out.flush()?;
    for warning in &answer.warnings {
        eprintln(&format!("warning: {warning}"));
    }
    let (rows, server) = (answer.rows.len(), &answer.server);
    eprintln(&match answer.staleness_ms {
        Some(ms) => format!("{rows} rows from {server}, {ms} ms old"),
        None => format!("{rows} rows from {server}; nothing was committed yet"),
    });
    Ok(())
}

/// What is said beside the answer; nobody minds when it cannot be.
fn eprintln(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn gmv_table(rows: &[GmvRow]) -> comfy_table::Table {
    output::table(
        [
            "WINDOW (UTC)",
            "PROVINCE",
            "ORDERS",
            "GMV",
            "MEAN",
            "MIN",
            "MAX",
            "REVISION",
            "STATE",
        ],
        2..8,
        rows.iter().map(|row| {
            [
                row.window_start.clone(),
                row.province.clone(),
                row.orders.to_string(),
                row.gmv.clone(),
                row.mean.clone(),
                row.min_amount.clone(),
                row.max_amount.clone(),
                row.revision.to_string(),
                row.state.clone(),
            ]
        }),
    )
}

fn totals_table(rows: &[TotalRow]) -> comfy_table::Table {
    output::table(
        ["PROVINCE", "ORDERS", "GMV", "MEAN", "MIN", "MAX"],
        1..6,
        rows.iter().map(|row| {
            [
                row.province.clone(),
                row.orders.to_string(),
                row.gmv.clone(),
                row.mean.clone(),
                row.min_amount.clone(),
                row.max_amount.clone(),
            ]
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_csv_headers_name_the_fields_in_their_order() {
        let row = GmvRow {
            window_start: String::new(),
            province: String::new(),
            orders: 0,
            gmv: String::new(),
            mean: String::new(),
            min_amount: String::new(),
            max_amount: String::new(),
            revision: 0,
            state: String::new(),
        };
        assert_eq!(output::field_names(&row), GMV_COLUMNS);
        let total = TotalRow {
            province: String::new(),
            orders: 0,
            gmv: String::new(),
            mean: String::new(),
            min_amount: String::new(),
            max_amount: String::new(),
        };
        assert_eq!(output::field_names(&total), TOTAL_COLUMNS);
    }
}

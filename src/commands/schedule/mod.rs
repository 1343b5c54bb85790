//! `windlass schedule`: what a cluster does by the clock.

mod action;
mod entry;
mod run;

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;
use windlass_jobs::kubernetes::names;

use entry::{Entry, Note};

use crate::cli::{BrokerArg, ClusterArgs, StoreArg};
use crate::commands::retain::Places;
use crate::config::Config;
use crate::output::{self, ReportFormat, instant};

const EXAMPLES: &str = "\
Schedules are the keys of ConfigMap windlass-schedules, each a text such as:

  cron = \"0 0 11 11 *\"                  # minute, hour, day of month, month, day of week
  utc-offset = \"+08:00\"                 # by which clock; default +00:00; no summer time
  start-within = \"10m\"                  # what is missed by more is skipped
  run = \"datagen --rate 20000 --for 10m\"

`run` is one of: datagen, with the options of `windlass datagen submit`; retain, with those of
`windlass retain`; sweep --keep 1d, which removes Jobs of windlass that ended so long ago.
A run of datagen is called by its schedule and its time in UTC (singles-day-20261110t1600), so that
nothing starts it twice; `windlass audit --run` checks it. Of several due times that were missed,
while no scheduler ran, the last one counts: datagen begins if it is at most 10 minutes late, upkeep
whenever it is. What cannot be begun or fails is begun again within that time. A bad schedule changes nothing: its last good version stays, and `list` says why.";

/// Arguments of `windlass schedule`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub struct Schedule {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the schedules, what came of the last time and when the next one is
    List {
        #[command(flatten)]
        cluster: ClusterArgs,
        /// How to show them
        #[arg(long, short = 'o', value_enum, default_value_t)]
        format: ReportFormat,
    },
    /// Start what is due, for ever: what the Deployment windlass-scheduler runs
    Run {
        #[command(flatten)]
        cluster: ClusterArgs,
        #[command(flatten)]
        broker: BrokerArg,
        #[command(flatten)]
        store: StoreArg,
    },
}

/// A schedule as `list` shows it.
#[derive(Serialize)]
struct Line {
    schedule: String,
    cron: String,
    utc_offset: String,
    run: String,
    last_due: Option<i64>,
    outcome: String,
    next_due: Option<i64>,
    /// Why it is no schedule, if so.
    problem: Option<String>,
}

impl Schedule {
    /// Lists, or runs.
    ///
    /// # Errors
    /// If there is no cluster or it refuses. A bad schedule is no error of `list`, but exit status 1.
    pub async fn run(&self, config: &Config) -> anyhow::Result<ExitCode> {
        match &self.command {
            Command::List { cluster, format } => {
                let cluster = cluster.connect().await?;
                let texts = cluster.map(names::SCHEDULES).await?.unwrap_or_default();
                let notes = cluster
                    .map(names::SCHEDULES_STATE)
                    .await?
                    .unwrap_or_default();
                let now = Timestamp::now().as_millisecond();
                show(&lines(texts, &notes, now), *format)
            }
            Command::Run {
                cluster,
                broker,
                store,
            } => {
                let places = Places {
                    store: store.url(config).ok().map(str::to_owned),
                    broker: broker.url(config).ok().map(str::to_owned),
                    shards: config.shards.get(),
                };
                run::run(cluster.connect().await?, places, config).await
            }
        }
    }
}

fn lines(texts: BTreeMap<String, String>, notes: &BTreeMap<String, String>, now: i64) -> Vec<Line> {
    let line = |(name, text): (String, String)| {
        let note = notes.get(&name).and_then(|text| Note::parse(text));
        let note = note.unwrap_or_default();
        let (entry, problem) = match Entry::parse(&name, &text) {
            Ok(entry) => (Some(entry), None),
            Err(problem) => (None, Some(problem)),
        };
        let next_due = entry
            .as_ref()
            .and_then(|entry| entry.cadence.next_after(now));
        let shown = |text: fn(Entry) -> String| entry.clone().map(text).unwrap_or_default();
        Line {
            cron: shown(|entry| entry.cron),
            utc_offset: shown(|entry| entry.utc_offset),
            run: shown(|entry| entry.run),
            last_due: note.due,
            outcome: note.outcome,
            next_due,
            problem,
            schedule: name,
        }
    };
    texts.into_iter().map(line).collect()
}

fn show(lines: &[Line], format: ReportFormat) -> anyhow::Result<ExitCode> {
    let mut out = output::stdout();
    match format {
        ReportFormat::Json => output::json(&mut out, &lines)?,
        ReportFormat::Table => {
            let header = ["SCHEDULE", "CRON", "UTC", "RUN", "LAST", "OUTCOME", "NEXT"];
            let good = lines.iter().filter(|line| line.problem.is_none());
            let rows = good.map(|line| {
                [
                    line.schedule.clone(),
                    line.cron.clone(),
                    line.utc_offset.clone(),
                    line.run.clone(),
                    line.last_due.map(instant).unwrap_or_default(),
                    line.outcome.clone(),
                    line.next_due.map_or_else(|| "never".into(), instant),
                ]
            });
            writeln!(out, "{}", output::table(header, 0..0, rows).trim_fmt())?;
            for line in lines {
                if let Some(problem) = &line.problem {
                    writeln!(out, "schedule {}: {problem}", line.schedule)?;
                }
            }
        }
    }
    out.flush()?;
    let bad = lines.iter().any(|line| line.problem.is_some());
    Ok(ExitCode::from(u8::from(bad)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_shows_last_and_next_and_why_a_schedule_is_bad() {
        let texts = BTreeMap::from([
            ("bad".to_owned(), "cron = 7".to_owned()),
            (
                "nightly".to_owned(),
                "cron = \"0 2 * * *\"\nrun = \"datagen --rate 5\"".to_owned(),
            ),
        ]);
        let note = r#"{"since": 1, "due": 1794276000000, "outcome": "started run x"}"#;
        let notes = BTreeMap::from([("nightly".to_owned(), note.to_owned())]);
        let lines = lines(texts, &notes, 1_794_276_000_001);
        assert!(lines[0].problem.is_some());
        assert_eq!(lines[1].last_due, Some(1_794_276_000_000));
        assert_eq!(lines[1].next_due, Some(1_794_276_000_000 + 86_400_000));
        assert_eq!(lines[1].outcome, "started run x");
    }
}

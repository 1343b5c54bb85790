//! `windlass scaler compare` and `replay`: a recorded run, decided again or by other policies.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use windlass_dispatcher::store::{DecisionRow, Journal};
use windlass_scaler::agent::capacity::Volatility;
use windlass_scaler::agent::controller::{Controller, Second};
use windlass_scaler::agent::decision::Decision;
use windlass_scaler::agent::presets;
use windlass_scaler::agent::record::{Recording, from_text};
use windlass_scaler::replay::{Outcome, Run};
use windlass_scaler::tuning::{Policy, Tuning};

use super::tables::{Agent, from_file, read};
use crate::cli::StoreArg;
use crate::config::Config;
use crate::output::{self, ReportFormat};
use crate::values::Span;

/// Rows read in one go.
const PAGE: u32 = 2_000;
/// Rows without a second of their own that `--last` reckons with: edits.
const EDITS: u64 = 1_000;

const COMPARE: &str = "\
Examples:
  windlass scaler compare
      the running scaler's traffic so far, under each policy
  windlass scaler compare --last 10m --policies elastic,slo-ds2,keda-queue-default -o json

The row `actual` is what was measured. The others are simulated from the measured arrivals and batch
durations, with workers that take 2 to 5 s to start. cost is in pod-seconds; price adds late windows at
the late-window-price of the tuning in force, or of --config FILE.";

const REPLAY: &str = "\
Examples:
  windlass scaler replay --policies elastic,hpa-default
      the newest recorded run of the store
  windlass scaler replay --export run.csv
  windlass scaler replay run.csv --policies elastic --table table.txt
  windlass scaler replay --verify
      decide every recorded second again and compare with what was decided then

Goal, price and sizes are those of the tuning that the run began with, which --export writes as well, or of
--config FILE.";

/// Which policies, and how they are shown.
#[derive(Debug, Args)]
struct Show {
    /// Policies, separated by commas: modes, or formulas of `windlass scaler bench` [default: the
    /// tuning's shadow, else elastic, paper, slo-ds2, DS2, HPA and KEDA]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    policies: Vec<Policy>,
    /// Play by the tuning in this file; so does a --config FILE that does not end in .toml [default: the
    /// one that was recorded]
    #[arg(long, value_name = "FILE")]
    tuning: Option<PathBuf>,
    /// How to show it
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: ReportFormat,
}

/// Arguments of `windlass scaler compare`.
#[derive(Debug, Args)]
#[command(after_help = COMPARE)]
pub struct Compare {
    /// Only the newest seconds of the run
    #[arg(long, value_name = "TIME")]
    last: Option<Span>,
    #[command(flatten)]
    show: Show,
    #[command(flatten)]
    store: StoreArg,
}

/// Arguments of `windlass scaler replay`.
#[derive(Debug, Args)]
#[command(after_help = REPLAY)]
pub struct Replay {
    /// A run that --export wrote [default: one of the store]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The run that began at or before this time [default: the newest]
    #[arg(long, value_name = "TIME", conflicts_with = "file")]
    run: Option<String>,
    /// The table of elastic [default: what it had learned when the run began, or the shipped one]
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
    /// Write the run's seconds to this file, and do nothing else
    #[arg(long, value_name = "FILE")]
    export: Option<PathBuf>,
    /// Decide every second again, and compare with what was decided then
    #[arg(long, conflicts_with_all = ["file", "table", "export"])]
    verify: bool,
    #[command(flatten)]
    show: Show,
    #[command(flatten)]
    store: StoreArg,
}

/// A run as it is kept.
struct Kept {
    rows: Vec<DecisionRow>,
    /// What it began with, as text.
    tuning: String,
    controller: Controller,
}

impl Kept {
    fn seconds(&self) -> anyhow::Result<Vec<Second>> {
        let mut seconds = Vec::new();
        for row in &self.rows {
            let more = from_text(&row.seconds);
            seconds.extend(more.with_context(|| format!("cannot use decision {}", row.no))?);
        }
        Ok(seconds)
    }
}

impl Compare {
    /// Compares.
    ///
    /// # Errors
    /// If the store does not answer, or nothing is kept there.
    pub async fn run(&self, config: &Config, file: Option<&Path>) -> anyhow::Result<ExitCode> {
        let given = self.show.tuning(file)?;
        let mut journal = super::journal(&self.store, config).await?;
        let run = newest(&mut journal, None).await?;
        let last = self.last.map(|Span(last)| last.as_secs());
        let after = match (last, journal.decision(None, false).await?) {
            // Most rows hold more than one second, and only an edit's may hold none: so these rows are enough,
            // and a run of weeks is not read for its last hour.
            (Some(seconds), Some(row)) if row.run == run => row.no.saturating_sub(seconds + EDITS),
            _ => 0,
        };
        let kept = load(&mut journal, run, after).await?;
        let mut seconds = kept.seconds()?;
        if let Some(last) = last {
            let skip = seconds.len().saturating_sub(last as usize);
            seconds.drain(..skip);
        }
        // What is in force now judges, and what was learned by now plays.
        let tuning = match (given, journal.state().await?) {
            (Some(given), _) => given,
            (None, Some((state, _))) => recorded(&state.tuning)?,
            (None, None) => recorded(&kept.tuning)?,
        };
        let mut controller = kept.controller.clone();
        if let Some(row) = journal.table(Agent::Elastic.name(), None).await?
            && let Ok(snapshot) = read(&row.body, Agent::Elastic)
        {
            controller.elastic.learner.table = snapshot.table;
        }
        self.show.report(seconds, tuning, controller).await
    }
}

impl Replay {
    /// Replays.
    ///
    /// # Errors
    /// If there is no such run, or `--verify` finds another decision.
    pub async fn run(&self, config: &Config, file: Option<&Path>) -> anyhow::Result<ExitCode> {
        let given = self.show.tuning(file)?;
        let (recording, mut controller) = if let Some(path) = &self.file {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read the run {}", path.display()))?;
            let recording = Recording::from_text(&text)
                .with_context(|| format!("cannot use the run {}", path.display()))?;
            (recording, Controller::shipped(Tuning::default()))
        } else {
            let at = self.run.as_deref().map(super::parse_moment).transpose()?;
            let mut journal = super::journal(&self.store, config).await?;
            let run = newest(&mut journal, at).await?;
            let kept = load(&mut journal, run, 0).await?;
            if self.verify {
                return verify(kept);
            }
            let recording = Recording {
                seconds: kept.seconds()?,
                tuning: Some(kept.tuning),
            };
            (recording, kept.controller)
        };
        if let Some(path) = &self.export {
            std::fs::write(path, recording.to_text())
                .with_context(|| format!("cannot write the run to {}", path.display()))?;
            return Ok(ExitCode::SUCCESS);
        }
        if let Some(path) = &self.table {
            controller.elastic.learner.table = from_file(path, Agent::Elastic)?.table;
        }
        let tuning = match (given, &recording.tuning) {
            (Some(given), _) => given,
            (None, Some(text)) => recorded(text)?,
            (None, None) => Tuning::default(),
        };
        self.show
            .report(recording.seconds, tuning, controller)
            .await
    }
}

/// The tuning of a run, as it was kept with it.
fn recorded(text: &str) -> anyhow::Result<Tuning> {
    super::tuning(text).context("cannot use the recorded tuning: give one with --config FILE")
}

impl Show {
    /// The tuning that is asked for, if one is; `file` is the global --config.
    fn tuning(&self, file: Option<&Path>) -> anyhow::Result<Option<Tuning>> {
        let file = file.filter(|file| super::is_tuning(file));
        let Some(path) = self.tuning.as_deref().or(file) else {
            return Ok(None);
        };
        let read = || {
            let text = std::fs::read_to_string(path)?;
            super::tuning(&text)
        };
        let tuning = read().with_context(|| format!("cannot use the tuning {}", path.display()));
        tuning.map(Some)
    }

    async fn report(
        &self,
        seconds: Vec<Second>,
        tuning: Tuning,
        controller: Controller,
    ) -> anyhow::Result<ExitCode> {
        let policies = match (self.policies.as_slice(), tuning.shadow.as_slice()) {
            ([], []) => Policy::USUAL.to_vec(),
            ([], shadow) => shadow.to_vec(),
            (given, _) => given.to_vec(),
        };
        let judged = format!(
            "size {} to {}, latency goal {} s, {} pod-seconds a late window",
            tuning.min_size, tuning.max_size, tuning.latency_goal, tuning.late_window_price
        );
        let run = Run::new(seconds, tuning);
        if run.is_empty() {
            bail!(
                "the run has no measured second yet: wait until the dispatcher has been measured"
            );
        }
        let length = run.len();
        let outcomes = tokio::task::spawn_blocking(move || {
            let played = policies.iter().map(|&policy| run.play(policy, &controller));
            std::iter::once(run.actual())
                .chain(played)
                .collect::<Vec<Outcome>>()
        })
        .await?;
        let mut out = output::stdout();
        match self.output {
            ReportFormat::Json => output::json(&mut out, &outcomes)?,
            ReportFormat::Table => {
                writeln!(out, "{length} measured seconds; {judged}")?;
                let header = [
                    "policy", "cost", "late", "late %", "price", "p99 s", "actions", "size",
                ];
                let rows = outcomes.iter().map(row);
                writeln!(out, "{}", output::table(header, 1..8, rows))?;
            }
        }
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }
}

fn row(outcome: &Outcome) -> [String; 8] {
    let (smallest, largest) = outcome.sizes;
    [
        outcome.policy.clone(),
        format!("{:.0}", outcome.cost),
        format!("{:.0}", outcome.late),
        format!("{:.2}", outcome.late_percent),
        format!("{:.0}", outcome.price),
        outcome
            .p99
            .map_or_else(String::new, |p99| format!("{p99:.2}")),
        outcome.actions.to_string(),
        format!("{smallest}…{largest}"),
    ]
}

async fn newest(journal: &mut Journal, at: Option<i64>) -> anyhow::Result<i64> {
    let runs = journal.runs(10_000).await?;
    let mut begun = runs.iter().map(|(run, _)| *run);
    let found = begun.find(|run| at.is_none_or(|at| *run <= at));
    found.with_context(|| match at {
        Some(at) if !runs.is_empty() => {
            format!("no kept run began at or before {}", super::moment(at))
        }
        _ => super::NOTHING.into(),
    })
}

/// Reads a run's rows after one, with the tuning and the tables that it began with.
async fn load(journal: &mut Journal, run: i64, after: u64) -> anyhow::Result<Kept> {
    let mut rows: Vec<DecisionRow> = Vec::new();
    loop {
        let after = rows.last().map_or(after, |row| row.no);
        let page = journal.decisions(run, after, PAGE).await?;
        let done = page.len() < PAGE as usize;
        rows.extend(page);
        if done {
            break;
        }
    }
    let mut tuning = String::new();
    let mut elastic = presets::elastic(presets::ELASTIC, presets::shipped().table);
    let mut paper = presets::paper();
    for (which, agent) in [(Agent::Elastic, &mut elastic), (Agent::Paper, &mut paper)] {
        if let Some(row) = journal.table_of_run(which.name(), run).await? {
            let snapshot = read(&row.body, which)?;
            agent.volatility = Volatility::restored(snapshot.volatility);
            agent.learner.table = snapshot.table;
            tuning = row.tuning;
        }
    }
    let controller = Controller::new(recorded(&tuning)?, elastic, paper);
    Ok(Kept {
        rows,
        tuning,
        controller,
    })
}

/// Feeds the pure controller what was recorded, edits of the tuning included.
fn verify(kept: Kept) -> anyhow::Result<ExitCode> {
    let mut controller = kept.controller;
    let (mut decisions, mut seconds) = (0_u64, 0_u64);
    for (expected, row) in (1..).zip(&kept.rows) {
        if row.no != expected {
            bail!("decision {expected} is missing: it cannot be told what followed from it");
        }
        let mut decided = None;
        for second in from_text(&row.seconds)? {
            seconds += 1;
            decided = controller.second(second);
        }
        match row.cause.as_str() {
            "tuning" => {
                let text: String = serde_json::from_str(&row.detail)?;
                match Tuning::from_text(&text) {
                    Ok(tuning) => controller.retune(tuning),
                    Err(_) => bail!("decision {}: the recorded tuning is not valid", row.no),
                }
            }
            "table" => bail!(
                "{seconds} seconds and {decisions} decisions are the same; then a table was brought \
                 in, beyond which this run is not verified"
            ),
            _ => {
                // Through the same text as the record: equal decisions are equal texts.
                let again = serde_json::to_string(&decided)?;
                if again != row.detail {
                    let was: Option<Decision> = serde_json::from_str(&row.detail)?;
                    bail!(
                        "decision {} of {} differs: it was {}, and is {}",
                        row.no,
                        super::moment(row.at_ms),
                        was.map_or_else(|| "none".into(), |d| d.reason()),
                        decided.map_or_else(|| "none".into(), |d| d.reason())
                    );
                }
                decisions += u64::from(decided.is_some());
            }
        }
    }
    let mut out = output::stdout();
    writeln!(
        out,
        "{seconds} seconds decided again: all {decisions} decisions are the same"
    )?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

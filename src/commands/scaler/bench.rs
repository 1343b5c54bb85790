//! `windlass scaler bench`: scores policies in the simulator.

use std::io::Write;
use std::ops::Range;
use std::process::ExitCode;
use std::str::FromStr;
use std::thread;

use clap::Args;
use windlass_scaler::bench::{Cases, Contender, Line, Scenario};
use windlass_scaler::simulator::Pattern;

use crate::output::{self, ReportFormat};

const EXAMPLES: &str = "\
Examples:
  windlass scaler bench
  windlass scaler bench --policies elastic,slo-ds2-tuned --seeds 7000..7012 --patterns mixed
  windlass scaler bench --scenario slower-function -o json

J is (pod-seconds, Jobs included + 60 × late windows) ÷ the pod-seconds of the policy that knows the
future; cost is without late windows. The error is the standard error of J between seeds.";

/// Arguments of `windlass scaler bench`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Bench {
    /// Seeds of the scored hours, the end excluded
    #[arg(long, value_name = "A..B", default_value = "5000..5012")]
    seeds: Seeds,
    /// Patterns to average over, separated by commas [default: the seven that are scored]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    patterns: Vec<Pattern>,
    /// Policies to score, separated by commas [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    policies: Vec<Contender>,
    /// What is different from the usual: none, slower-function or slow-starts
    #[arg(long, value_name = "NAME", default_value_t)]
    scenario: Scenario,
    /// Simulated hours of training
    #[arg(long, value_name = "HOURS", default_value_t = 280)]
    hours: u64,
    /// Agents trained for each learning policy; the figures are their mean
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=100))]
    agents: u64,
    /// How to show it
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: ReportFormat,
}

/// `A..B`, the end excluded.
#[derive(Clone, Debug)]
struct Seeds(Range<u64>);

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let ends = text.split_once("..");
        let range = ends.and_then(|(a, b)| Some(a.parse().ok()?..b.parse().ok()?));
        range
            .filter(|range: &Range<u64>| !range.is_empty())
            .map(Self)
            .ok_or_else(|| format!("expected seeds such as 5000..5012, got {text:?}"))
    }
}

impl Bench {
    /// Scores and shows.
    ///
    /// # Errors
    /// If standard output fails.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let output = self.output;
        let lines = tokio::task::spawn_blocking(move || self.lines()).await?;
        let mut out = output::stdout();
        match output {
            ReportFormat::Json => output::json(&mut out, &lines)?,
            ReportFormat::Table => {
                let header = ["policy", "J", "±", "cost", "late %", "p99 s", "actions/h"];
                let rows = lines.iter().map(row);
                writeln!(out, "{}", output::table(header, 1..7, rows))?;
            }
        }
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }

    /// A line for each policy, worked out on every core.
    fn lines(&self) -> Vec<Line> {
        let patterns = match self.patterns.as_slice() {
            [] => &Pattern::SCORED[..],
            some => some,
        };
        let contenders = match self.policies.as_slice() {
            [] => &Contender::ALL[..],
            some => some,
        };
        let cases = Cases::new(patterns, self.seeds.0.clone(), self.scenario.setting());
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let next = std::sync::atomic::AtomicUsize::new(0);
        let jobs: Vec<(usize, u64)> = contenders
            .iter()
            .enumerate()
            .flat_map(|(at, contender)| (0..contender.agents(self.agents)).map(move |n| (at, n)))
            .collect();
        let work = || {
            let mut done = Vec::new();
            while let Some(&(at, number)) =
                jobs.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
            {
                let player = contenders[at].player(number, self.hours);
                done.push(((at, number), cases.score(&player)));
            }
            done
        };
        let mut scores: Vec<_> = thread::scope(|scope| {
            let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
            let joined = workers.into_iter().filter_map(|worker| worker.join().ok());
            joined.flatten().collect()
        });
        scores.sort_by_key(|(job, _)| *job);
        let line = |(at, contender): (usize, &Contender)| {
            let of = scores.iter().filter(|((which, _), _)| *which == at);
            let all: Vec<_> = of.flat_map(|(_, scores)| scores.iter().copied()).collect();
            Line::of(contender.name(), &all)
        };
        contenders.iter().enumerate().map(line).collect()
    }
}

fn row(line: &Line) -> [String; 7] {
    [
        line.policy.clone(),
        format!("{:.3}", line.j),
        format!("{:.3}", line.j_error),
        format!("{:.3}", line.cost),
        format!("{:.2}", line.late_percent),
        format!("{:.2}", line.p99),
        format!("{:.0}", line.actions),
    ]
}

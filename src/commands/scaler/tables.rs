//! `windlass scaler tables`, `export`, `import`, `diff` and `rollback`: what was learned, as versions.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use windlass_dispatcher::store::{Journal, TableRow};
use windlass_scaler::agent::presets;
use windlass_scaler::agent::snapshot::{Snapshot, difference};

use crate::cli::StoreArg;
use crate::config::Config;
use crate::output::{self, ReportFormat};
use crate::scaling::active::layout;

/// Whose table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Agent {
    /// The agent of mode `elastic`.
    #[default]
    Elastic,
    /// The agent of mode `paper`.
    Paper,
}

impl Agent {
    /// Its name in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Elastic => "elastic",
            Self::Paper => "paper",
        }
    }
}

/// Where tables are kept, and whose.
#[derive(Debug, Args)]
struct Which {
    /// Whose table
    #[arg(long, value_enum, default_value_t)]
    agent: Agent,
    #[command(flatten)]
    store: StoreArg,
}

/// Arguments of `windlass scaler tables`.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    which: Which,
    /// How many, newest first
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: u32,
    /// How to show it
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: ReportFormat,
}

/// Arguments of `windlass scaler export`.
#[derive(Debug, Args)]
pub struct Export {
    #[command(flatten)]
    which: Which,
    /// Which version [default: the newest]
    #[arg(long, value_name = "VERSION")]
    version: Option<u64>,
    /// Write to this file and not to standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Arguments of `windlass scaler import`.
#[derive(Debug, Args)]
pub struct Import {
    /// A table that `export` or `train` wrote
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    which: Which,
}

/// Arguments of `windlass scaler diff`.
#[derive(Debug, Args)]
pub struct Diff {
    /// The first table: a version, a file, or `shipped`
    #[arg(value_name = "TABLE")]
    before: String,
    /// The second
    #[arg(value_name = "TABLE")]
    after: String,
    /// Price of a late window at which they are compared, pod-seconds
    #[arg(long, value_name = "POD-SECONDS", default_value_t = 60.0)]
    kappa: f64,
    #[command(flatten)]
    which: Which,
}

/// Arguments of `windlass scaler rollback`.
#[derive(Debug, Args)]
pub struct Rollback {
    /// The version to go back to; `windlass scaler tables` lists them
    #[arg(value_name = "VERSION")]
    version: u64,
    #[command(flatten)]
    which: Which,
}

impl List {
    /// Lists them.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn run(&self, config: &Config) -> anyhow::Result<ExitCode> {
        let mut journal = super::journal(&self.which.store, config).await?;
        let tables = journal.tables(self.which.agent.name(), self.limit).await?;
        let mut out = output::stdout();
        match self.output {
            ReportFormat::Json => output::json(&mut out, &tables)?,
            ReportFormat::Table => {
                let header = ["version", "kept", "kind", "choices", "layout"];
                let rows = tables.iter().map(|table| {
                    [
                        table.version.to_string(),
                        super::moment(table.at_ms),
                        table.kind.clone(),
                        table.decisions.to_string(),
                        table.layout.clone(),
                    ]
                });
                writeln!(out, "{}", output::table(header, 0..0, rows))?;
            }
        }
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Export {
    /// Writes it.
    ///
    /// # Errors
    /// If there is no such table, or it cannot be written.
    pub async fn run(&self, config: &Config) -> anyhow::Result<ExitCode> {
        let mut journal = super::journal(&self.which.store, config).await?;
        let row = kept(&mut journal, self.which.agent, self.version).await?;
        match &self.out {
            Some(path) => std::fs::write(path, row.body)
                .with_context(|| format!("cannot write the table to {}", path.display()))?,
            None => {
                let mut out = output::stdout();
                out.write_all(row.body.as_bytes())?;
                out.flush()?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Import {
    /// Keeps it as the newest version.
    ///
    /// # Errors
    /// If it is no table of this agent's layout.
    pub async fn run(&self, config: &Config) -> anyhow::Result<ExitCode> {
        let snapshot = from_file(&self.file, self.which.agent)?;
        let mut journal = super::journal(&self.which.store, config).await?;
        adopt(&mut journal, self.which.agent, &snapshot, "import").await
    }
}

impl Rollback {
    /// Keeps the old version as the newest.
    ///
    /// # Errors
    /// If there is no such version, or it is of another layout.
    pub async fn run(&self, config: &Config) -> anyhow::Result<ExitCode> {
        let mut journal = super::journal(&self.which.store, config).await?;
        let row = kept(&mut journal, self.which.agent, Some(self.version)).await?;
        let snapshot = read(&row.body, self.which.agent)
            .with_context(|| format!("cannot go back to version {}", self.version))?;
        adopt(&mut journal, self.which.agent, &snapshot, "rollback").await
    }
}

impl Diff {
    /// Compares them.
    ///
    /// # Errors
    /// If one is not there or of another layout.
    pub async fn run(&self, config: &Config) -> anyhow::Result<ExitCode> {
        let before = self.table(&self.before, config).await?;
        let after = self.table(&self.after, config).await?;
        let Some(found) = difference(&before.table, &after.table, self.kappa) else {
            bail!("the two tables have different bins or actions: nothing in them is comparable");
        };
        let table = layout(self.which.agent.name());
        let mut out = output::stdout();
        writeln!(
            out,
            "{} of {} states choose otherwise, {} of {} values differ, by {:.4} at most",
            found.policy.len(),
            table.states(),
            found.cells,
            table.pairs(),
            found.largest
        )?;
        for change in &found.policy {
            let bins = table.bins(change.state);
            let state: Vec<String> = table
                .axes
                .iter()
                .zip(bins)
                .map(|(axis, bin)| format!("{} {}", axis.feature.name(), axis.label(bin)))
                .collect();
            let label = |action: usize| table.actions.get(action).map(|a| a.label());
            writeln!(
                out,
                "  {}: {} → {}",
                state.join(", "),
                label(change.before).unwrap_or_default(),
                label(change.after).unwrap_or_default()
            )?;
        }
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }

    async fn table(&self, name: &str, config: &Config) -> anyhow::Result<Snapshot> {
        let agent = self.which.agent;
        if name == "shipped" {
            return Ok(match agent {
                Agent::Elastic => presets::shipped(),
                Agent::Paper => presets::paper().snapshot(),
            });
        }
        if let Ok(version) = name.parse() {
            let mut journal = super::journal(&self.which.store, config).await?;
            let row = kept(&mut journal, agent, Some(version)).await?;
            return read(&row.body, agent).with_context(|| format!("version {version}"));
        }
        from_file(Path::new(name), agent)
    }
}

/// A kept table; the newest without a version.
pub(super) async fn kept(
    journal: &mut Journal,
    agent: Agent,
    version: Option<u64>,
) -> anyhow::Result<TableRow> {
    journal
        .table(agent.name(), version)
        .await?
        .with_context(|| match version {
            Some(version) => format!(
                "there is no version {version} of {}'s table: `windlass scaler tables` lists them",
                agent.name()
            ),
            None => super::NOTHING.into(),
        })
}

/// Reads a table of an agent.
pub(super) fn read(text: &str, agent: Agent) -> anyhow::Result<Snapshot> {
    Ok(Snapshot::from_text(text, layout(agent.name()))?)
}

pub(super) fn from_file(path: &Path, agent: Agent) -> anyhow::Result<Snapshot> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the table {}", path.display()))?;
    read(&text, agent).with_context(|| format!("cannot use the table {}", path.display()))
}

async fn adopt(
    journal: &mut Journal,
    agent: Agent,
    snapshot: &Snapshot,
    kind: &str,
) -> anyhow::Result<ExitCode> {
    let tuning = journal.state().await?.map(|(state, _)| state.tuning);
    let version = journal
        .save_table(&TableRow {
            agent: agent.name().into(),
            version: 0,
            at_ms: unix_ms(),
            kind: kind.into(),
            layout: format!("{:016x}", snapshot.table.layout().fingerprint()),
            tuning: tuning.unwrap_or_default(),
            decisions: snapshot.decisions,
            body: snapshot.to_text(),
        })
        .await?;
    let mut out = output::stdout();
    writeln!(
        out,
        "kept as version {version}; a running scaler goes on from it within a few seconds"
    )?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

#[allow(clippy::disallowed_methods)]
fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_millis() as i64
}

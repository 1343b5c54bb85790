//! `windlass scaler show`: what is in force, and why an edit is not.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use windlass_dispatcher::store::{ScalerState, TableRow};

use crate::cli::StoreArg;
use crate::config::Config;
use crate::output::{self, ReportFormat};
use crate::scaling::active::AGENTS;

/// A scaler that has not said for so long that it is alive is not, ms.
pub(super) const DEAD_MS: i64 = 20_000;

/// Arguments of `windlass scaler show`.
#[derive(Debug, Args)]
pub struct Show {
    #[command(flatten)]
    store: StoreArg,
    /// How to show it
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: ReportFormat,
}

/// What `-o json` shows.
#[derive(serde::Serialize)]
struct Report<'a> {
    state: &'a ScalerState,
    age_ms: i64,
    alive: bool,
    tables: &'a [TableRow],
}

impl Show {
    /// Shows it.
    ///
    /// # Errors
    /// If the store does not answer, or nothing is kept there.
    pub async fn run(&self, config: &Config) -> anyhow::Result<ExitCode> {
        let mut journal = super::journal(&self.store, config).await?;
        let (state, age_ms) = journal.state().await?.context(super::NOTHING)?;
        let mut tables = Vec::new();
        for agent in AGENTS {
            tables.extend(journal.tables(agent, 1).await?);
        }
        let alive = age_ms < DEAD_MS;
        let mut out = output::stdout();
        match self.output {
            ReportFormat::Json => output::json(
                &mut out,
                &Report {
                    state: &state,
                    age_ms,
                    alive,
                    tables: &tables,
                },
            )?,
            ReportFormat::Table => {
                let life = if alive { "alive" } else { "NOT RUNNING" };
                let age = age_ms / 1_000;
                writeln!(out, "scaler      {life}, {} ({age} s ago)", state.owner)?;
                writeln!(out, "mode        {}", state.mode)?;
                writeln!(out, "pool        {} of {}", state.size, state.pool)?;
                writeln!(out, "reason      {}", state.reason)?;
                writeln!(
                    out,
                    "tuning      generation {} since {}, {} refused",
                    state.generation,
                    super::moment(state.run),
                    state.refused_total
                )?;
                if let Some(refused) = &state.refused {
                    writeln!(out, "REFUSED     {refused}")?;
                    writeln!(out, "            the last good tuning stays in force")?;
                }
                for table in &tables {
                    writeln!(
                        out,
                        "table       {} version {} ({}), {} choices, {}",
                        table.agent,
                        table.version,
                        table.kind,
                        table.decisions,
                        super::moment(table.at_ms)
                    )?;
                }
                writeln!(out, "in force:")?;
                for line in state.tuning.lines() {
                    let line = line.trim();
                    if !line.is_empty() && !line.starts_with('#') {
                        writeln!(out, "  {line}")?;
                    }
                }
            }
        }
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }
}

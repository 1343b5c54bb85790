//! Logging to standard error, for people or for machines.

use anyhow::Context;
use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// Crates whose log lines may hold a password or a message's body, or call an answer that we reckon with
/// an error. Their errors reach us anyhow.
const SILENT: [&str; 5] = [
    "lapin=off",
    "amq_protocol=off",
    "async_rs=off",
    "sqlx=off",
    "kube_client=off",
];

/// Starts logging for the whole process.
///
/// # Errors
/// If `filter` is none.
pub fn start(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    let mut filter = EnvFilter::try_new(filter).with_context(|| {
        format!("expected a log filter such as info or windlass_dispatcher=debug, got {filter:?}")
    })?;
    for directive in SILENT {
        filter = filter.add_directive(directive.parse().context("a built-in log filter")?);
    }
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Human => {
            let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
            builder.with_ansi(ansi).init();
        }
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}

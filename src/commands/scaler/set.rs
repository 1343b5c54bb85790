//! `windlass scaler set`: edits the tuning and waits until it is in force.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use windlass_dispatcher::store::ScalerState;

use super::run::TuningArg;
use super::show::DEAD_MS;
use crate::cli::StoreArg;
use crate::config::Config;
use crate::output;
use crate::scaling::source::{Source, lines};
use crate::values::Span;

const EXAMPLES: &str = "\
Examples:
  windlass scaler set max-size=20 --config tuning
  windlass scaler set mode=off shadow=elastic,hpa --config-map windlass-scaler
  windlass scaler set calendar='50 23 10 11 * / 30m / 40' --config tuning";

/// How often the scaler's state is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Arguments of `windlass scaler set`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Set {
    /// What to change, as key=value; `windlass scaler example` has the keys
    #[arg(value_name = "KEY=VALUE", required = true)]
    pairs: Vec<Pair>,
    /// How long to wait for the scaler; 0s writes the edit and does not wait
    #[arg(long, value_name = "TIME", default_value = "10s")]
    wait: Span,
    #[command(flatten)]
    tuning: TuningArg,
    #[command(flatten)]
    store: StoreArg,
}

/// `key=value`.
#[derive(Clone, Debug)]
struct Pair(String, String);

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() && !value.contains('\n') => {
                Ok(Self(key.trim().into(), value.trim().into()))
            }
            _ => Err(format!(
                "expected key=value such as max-size=20, got {text:?}"
            )),
        }
    }
}

impl Set {
    /// Edits, then waits.
    ///
    /// # Errors
    /// If the edit is invalid (nothing is written then), or is not in force in time.
    pub async fn run(self, config: &Config, file: Option<&Path>) -> anyhow::Result<ExitCode> {
        let source = self.tuning.source(file).await?;
        let before = source.read().await?.unwrap_or_default();
        let keys: BTreeMap<String, String> = self
            .pairs
            .iter()
            .map(|Pair(key, value)| (key.clone(), value.clone()))
            .collect();
        let text = edited(&before, &keys);
        if let Err(invalid) = super::tuning(&text) {
            bail!("nothing was changed: {invalid}");
        }
        let expected = match &source {
            Source::Defaults => bail!(
                "expected the tuning to edit, got none: add --config FILE or --config-map NAME, the \
                 one that the scaler was started with"
            ),
            Source::File(path) => {
                write_whole(path, &text)?;
                text
            }
            Source::ConfigMap(map) => {
                map.set(&keys).await?;
                map.read()
                    .await?
                    .map(|pairs| lines(&pairs))
                    .unwrap_or_default()
            }
        };
        let mut out = output::stdout();
        if self.wait.0.is_zero() {
            writeln!(out, "written to {}", source.name())?;
        } else {
            let generation = self.wait(config, &expected, &source).await?;
            writeln!(out, "in force as generation {generation}")?;
        }
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }

    async fn wait(&self, config: &Config, expected: &str, source: &Source) -> anyhow::Result<u64> {
        let mut journal = super::journal(&self.store, config).await?;
        let waiting = async {
            loop {
                let state: Option<(ScalerState, i64)> = journal.state().await?;
                // One that has ended would go on saying that what it ended with is in force.
                let alive = state.filter(|(_, age_ms)| *age_ms < DEAD_MS);
                if let Some((state, _)) = alive {
                    if state.tuning == expected {
                        return anyhow::Ok(state.generation);
                    }
                    if state.refused_tuning.as_deref() == Some(expected) {
                        bail!(
                            "the scaler refuses it: {}",
                            state.refused.unwrap_or_default()
                        );
                    }
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(self.wait.0, waiting)
            .await
            .with_context(|| {
                format!(
                    "written to {}, but no scaler has said within {} that it is in force: is one \
                     running on this store, with this tuning? `windlass scaler show` tells",
                    source.name(),
                    self.wait
                )
            })?
    }
}

/// The text with these keys at these values: where a key stands, else at the end.
fn edited(text: &str, keys: &BTreeMap<String, String>) -> String {
    let mut left = keys.clone();
    let mut edited = String::new();
    for line in text.lines() {
        let key = line.split_once(':').map(|(key, _)| key.trim());
        let value = key
            .filter(|_| !line.trim_start().starts_with('#'))
            .and_then(|key| Some((key, left.remove(key)?)));
        match value {
            Some((key, value)) => edited.push_str(&format!("{key}: {value}")),
            None => edited.push_str(line),
        }
        edited.push('\n');
    }
    for (key, value) in left {
        edited.push_str(&format!("{key}: {value}\n"));
    }
    edited
}

/// Replaces a file in one step, so that nobody reads half of it.
fn write_whole(path: &Path, text: &str) -> anyhow::Result<()> {
    let failed = || format!("cannot write the tuning {}", path.display());
    let directory = path.parent().filter(|d| !d.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(directory).with_context(failed)?;
    file.write_all(text.as_bytes()).with_context(failed)?;
    if let Ok(there) = std::fs::metadata(path) {
        file.as_file()
            .set_permissions(there.permissions())
            .with_context(failed)?;
    }
    file.persist(path).with_context(failed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_changes_its_keys_and_leaves_the_rest() {
        let keys = BTreeMap::from([
            ("max-size".to_owned(), "9".to_owned()),
            ("mode".to_owned(), "hpa".to_owned()),
        ]);
        let text = "# max-size: 1\nmax-size: 20\ncalendar: 0 0 * * * / 5m / 2\n";
        assert_eq!(
            edited(text, &keys),
            "# max-size: 1\nmax-size: 9\ncalendar: 0 0 * * * / 5m / 2\nmode: hpa\n"
        );
        assert_eq!(edited("", &keys), "max-size: 9\nmode: hpa\n");
    }
}

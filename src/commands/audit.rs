//! `windlass audit`: what became of every tuple.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use windlass_datagen::manifest::{
    Differences, Manifest, SourceCounts, UncountedKind, UncountedTuple, WindowRow, compare,
};
use windlass_dispatcher::store::{Audit as Ledger, OutcomeFilter, OutcomeRow, SourceAudit, Store};
use windlass_functions::stream::Stream;

use crate::cli::StoreArg;
use crate::config::Config;
use crate::output::{self, ReportFormat};

/// How many gaps of a source the table spells out.
const GAPS_SHOWN: usize = 3;

const EXAMPLES: &str = "\
Examples:
  windlass audit --store sqlite:windlass.sqlite
  windlass audit --store mysql://windlass:PASSWORD@db/windlass --manifest run.manifest.json
      compare every window with what `windlass datagen` published

Of each source, the distinct tuples seen = counted + late + quarantined; gaps are numbers that
never came. Duplicates, redeliveries, undecodable and misrouted take no part in the sum.
A manifest takes for late what comes more than 5.5 s behind, the default --delay and
--allowed-lateness together. Of a dispatcher with less, it calls what rightly was late a difference.
Exit status: 0 if all is well, 1 on an error or if a --manifest differs.";

/// Arguments of `windlass audit`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Audit {
    #[command(flatten)]
    store: StoreArg,
    /// What was published, as `windlass datagen` wrote it; repeat it for several runs
    #[arg(long = "manifest", value_name = "FILE")]
    manifests: Vec<PathBuf>,
    /// How to show it
    #[arg(long, value_enum, default_value_t)]
    format: ReportFormat,
}

/// The JSON form.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    ledger: &'a Ledger,
    #[serde(skip_serializing_if = "Option::is_none")]
    differences: Option<&'a Differences>,
}

impl Audit {
    /// Reads the ledger, compares it with the manifests, shows both.
    ///
    /// # Errors
    /// If the store or a manifest cannot be read. A difference is no error, but exit status 1.
    pub async fn run(&self, config: &Config) -> anyhow::Result<ExitCode> {
        let manifest = self.manifest()?;
        let store = Store::connect(self.store.url(config)?).await?;
        let ledger = store.audit(&config.stream).await?;
        let differences = match manifest {
            Some(manifest) => Some(check(&store, &config.stream, &ledger, &manifest).await?),
            None => None,
        };
        let mut out = output::stdout();
        match self.format {
            ReportFormat::Json => output::json(
                &mut out,
                &Document {
                    ledger: &ledger,
                    differences: differences.as_ref(),
                },
            )?,
            ReportFormat::Table => {
                report(&mut out, &ledger)?;
                if let Some(differences) = &differences {
                    writeln!(out, "manifest: {differences}")?;
                }
            }
        }
        out.flush()?;
        let well = differences.is_none_or(|differences| differences.is_empty());
        Ok(ExitCode::from(u8::from(!well)))
    }

    fn manifest(&self) -> anyhow::Result<Option<Manifest>> {
        let mut merged: Option<Manifest> = None;
        for file in &self.manifests {
            let next = Manifest::read(file)?;
            merged = Some(match merged {
                Some(manifest) => manifest.merge(next)?,
                None => next,
            });
        }
        Ok(merged)
    }
}

/// Holds the store against the manifest, window by window and source by source.
pub(crate) async fn check(
    store: &Store,
    stream: &Stream,
    ledger: &Ledger,
    manifest: &Manifest,
) -> anyhow::Result<Differences> {
    let mut rows = Vec::new();
    let mut pages = store.windows(stream).await?;
    while let Some(row) = pages.next().await? {
        rows.push(WindowRow {
            window_start_ms: row.window,
            key: row.key,
            orders: row.orders,
            sum: row.sum,
            min: row.min,
            max: row.max,
        });
    }
    let outcomes = store
        .outcomes(stream, &OutcomeFilter::default(), u32::MAX)
        .await?;
    let uncounted = outcomes.into_iter().map(uncounted);
    let sources = ledger.sources.iter().map(counts);
    Ok(compare(manifest, rows, uncounted, sources))
}

fn uncounted(row: OutcomeRow) -> UncountedTuple {
    UncountedTuple {
        source: row.source,
        seq: row.seq,
        kind: match row.kind.as_str() {
            "late" => UncountedKind::Late,
            _ => UncountedKind::Quarantined,
        },
        window_start_ms: row.window,
        key: row.key,
        amount: row.amount,
    }
}

fn counts(source: &SourceAudit) -> SourceCounts {
    // A negative counter can only be damage; as 0 it shows up as a difference.
    let count = |count: i64| u64::try_from(count).unwrap_or(0);
    SourceCounts {
        source: source.source.clone(),
        counted: count(source.counted),
        late: count(source.late),
        quarantined: count(source.quarantined),
        gaps: source
            .gaps
            .iter()
            .map(|(first, last)| last - first + 1)
            .sum(),
    }
}

fn report(out: &mut impl Write, ledger: &Ledger) -> anyhow::Result<()> {
    let line = |name: &str, values: [i64; 3], low: String, gaps: String| {
        let [counted, late, quarantined] = values;
        let seen = counted + late + quarantined;
        let numbers = [seen, counted, late, quarantined].map(|n| n.to_string());
        let [seen, counted, late, quarantined] = numbers;
        [name.into(), seen, counted, late, quarantined, low, gaps]
    };
    let mut all = [0; 3];
    let mut lines = Vec::with_capacity(ledger.sources.len() + 1);
    for source in &ledger.sources {
        let values = [source.counted, source.late, source.quarantined];
        all = std::array::from_fn(|i| all[i] + values[i]);
        let low = source.low.to_string();
        lines.push(line(&source.source, values, low, gaps(&source.gaps)));
    }
    lines.push(line("all", all, String::new(), String::new()));
    let header = [
        "SOURCE",
        "SEEN",
        "COUNTED",
        "LATE",
        "QUARANTINED",
        "SETTLED BELOW",
        "GAPS",
    ];
    let table = output::table(header, 1..6, lines);
    writeln!(out, "{}", table.trim_fmt())?;
    writeln!(
        out,
        "for information: duplicates: {}, redeliveries: {}, undecodable: {}, misrouted: {}",
        ledger.duplicates, ledger.redeliveries, ledger.undecodable, ledger.misrouted
    )?;
    Ok(())
}

/// `3, 7–9 and 2 more`; empty if there are none.
fn gaps(gaps: &[(u64, u64)]) -> String {
    let shown: Vec<String> = gaps
        .iter()
        .take(GAPS_SHOWN)
        .map(|(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}–{last}"),
        })
        .collect();
    let mut text = shown.join(", ");
    if gaps.len() > GAPS_SHOWN {
        text.push_str(&format!(" and {} more", gaps.len() - GAPS_SHOWN));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_spelt_out_up_to_a_point() {
        assert_eq!(gaps(&[]), "");
        assert_eq!(gaps(&[(3, 3), (7, 9)]), "3, 7–9");
        let many = [(1, 1), (3, 3), (5, 5), (7, 7), (9, 9)];
        assert_eq!(gaps(&many), "1, 3, 5 and 2 more");
    }
}

//! `windlass audit`: what became of every tuple.

mod cluster;
mod run;

use std::io::Write;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use windlass_datagen::manifest::{
    Difference, Differences, Manifest, SourceCounts, UncountedKind, UncountedTuple, WindowRow,
    compare,
};
use windlass_dispatcher::store::{Audit as Ledger, OutcomeFilter, OutcomeRow, SourceAudit, Store};
use windlass_functions::stream::Stream;
use windlass_jobs::name::RunName;

use crate::cli::{ClusterArgs, StoreArg};
use crate::config::Config;
use crate::output::{self, ReportFormat};
use crate::values::Span;

/// How many gaps of a source the table spells out.
const GAPS_SHOWN: usize = 3;

const EXAMPLES: &str = "\
Examples:
  windlass audit --store sqlite:windlass.sqlite
  windlass audit --store mysql://windlass:PASSWORD@db/windlass --manifest run.manifest.json
      compare every window with what `windlass datagen` published
  windlass audit --run nightly
      the same for a run of `windlass datagen submit`: waits for its end and until all is settled

Without --store, --run works in the cluster that KUBECONFIG names: as a Job there, since the database
need not be within reach from here. The report is its log, the exit status is its own. A pod that no node
takes, or that the cluster refuses to make, is waited for, ten minutes at most, and why is said at once.
A run is checked together with others that published into the same windows; orders of anybody else in
these windows are a difference.
Of each source, the distinct tuples seen = counted + late + quarantined; gaps are numbers that
never came. That the counters agree with the settled numbers and with the totals is checked each time. Duplicates, redeliveries, undecodable and misrouted take no part in the sum.
A manifest takes for late what comes more than 5.5 s behind, the default --delay and
--allowed-lateness together. Of a dispatcher with less, it calls what rightly was late a difference.
Windows whose rows `windlass retain` has removed are left out, and it is said so.
Exit status: 0 if all is well, 1 on an error, if the store's own figures do not add up, or if a
--manifest or --run differs.";

/// Arguments of `windlass audit`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Audit {
    #[command(flatten)]
    store: StoreArg,
    /// What was published, as `windlass datagen` wrote it; repeat it for several runs
    #[arg(long = "manifest", value_name = "FILE")]
    manifests: Vec<PathBuf>,
    /// A run that kept its manifest in the store
    #[arg(long, value_name = "NAME")]
    run: Option<RunName>,
    /// With --run: compare all the same when nothing more was settled for so long
    #[arg(long, value_name = "SPAN", default_value = "2m", requires = "run")]
    patience: Span,
    #[command(flatten)]
    cluster: ClusterArgs,
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
    /// Start of the oldest window that was compared, ms UTC, if the manifest has older ones, whose rows
    /// were removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    retained_from: Option<i64>,
}

impl Audit {
    /// Reads the ledger, compares it with the manifests, shows both.
    ///
    /// # Errors
    /// If the store or a manifest cannot be read. A difference is no error, but exit status 1.
    pub async fn run(&self, config: &Config) -> anyhow::Result<ExitCode> {
        let files = self.manifest()?;
        let url = match (&self.run, self.store.url(config)) {
            (Some(name), Err(_)) if files.is_none() => return cluster::audit(self, name).await,
            (_, url) => url?,
        };
        let store = Store::connect(url).await?;
        let stream = &config.stream;
        let (manifest, starts) = match &self.run {
            None => (files, ALL),
            Some(name) => {
                let oracle = run::oracle(&store, stream, name, self.patience.0).await?;
                let manifest = match files {
                    Some(files) => oracle.manifest.merge(files)?,
                    None => oracle.manifest,
                };
                (Some(manifest), oracle.starts)
            }
        };
        let ledger = store.audit(stream).await?;
        let mut retained_from = None;
        let differences = match manifest {
            Some(manifest) => {
                let first = manifest
                    .span()
                    .map_or(i64::MAX, |(first, _)| first.max(*starts.start()));
                let bound = store.retained_from(stream).await?;
                retained_from = bound.filter(|bound| first < *bound);
                Some(check(&store, stream, &ledger, manifest, starts).await?)
            }
            None => None,
        };
        let mut out = output::stdout();
        match self.format {
            ReportFormat::Json => output::json(
                &mut out,
                &Document {
                    ledger: &ledger,
                    differences: differences.as_ref(),
                    retained_from,
                },
            )?,
            ReportFormat::Table => {
                report(&mut out, &ledger)?;
                if let Some(differences) = &differences {
                    writeln!(out, "manifest: {differences}")?;
                }
                if let Some(from) = retained_from {
                    let from = output::instant(from);
                    writeln!(
                        out,
                        "windows before {from} are past their retention: not compared"
                    )?;
                }
            }
        }
        out.flush()?;
        let well = ledger.imbalances.is_empty()
            && differences.is_none_or(|differences| differences.is_empty());
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

/// Every window.
pub(crate) const ALL: RangeInclusive<i64> = i64::MIN..=i64::MAX;

/// Holds the store against the manifest: the windows that start in `starts` and are retained, and the
/// sources. If `starts` are not all, other sources than the manifest's are left out.
pub(crate) async fn check(
    store: &Store,
    stream: &Stream,
    ledger: &Ledger,
    manifest: Manifest,
    starts: RangeInclusive<i64>,
) -> anyhow::Result<Differences> {
    let retained = store.retained_from(stream).await?;
    let first = retained.map_or(*starts.start(), |from| from.max(*starts.start()));
    let compared = first..=*starts.end();
    let manifest = manifest.within(compared.clone());
    let mut rows = Vec::new();
    let mut pages = store.windows(stream, compared).await?;
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
    let ours =
        |source: &&SourceAudit| starts == ALL || manifest.sources.contains_key(&source.source);
    let sources: Vec<_> = ledger.sources.iter().filter(ours).map(counts).collect();
    let mut differences = compare(&manifest, rows, uncounted, sources);
    if retained.is_some() {
        // Outcomes of windows that are gone are gone, too; counters are kept.
        differences.differences.retain(|difference| {
            !matches!(difference, Difference::Listing { counters, listed, .. } if listed < counters)
        });
    }
    Ok(differences)
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
    for imbalance in &ledger.imbalances {
        writeln!(
            out,
            "the store is damaged, restore it from a backup or a replica: {imbalance}"
        )?;
    }
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

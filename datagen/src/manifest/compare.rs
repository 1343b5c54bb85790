//! The exact check: a database against a manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;
use windlass_functions::partial::Partial;
use windlass_functions::window;

use super::{Manifest, money};
use crate::feed::LateRule;

/// How many differences the report for people shows.
const SHOWN: usize = 20;

/// A row of results: one window and key, all shards together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowRow {
    /// Start of the window, ms UTC.
    pub window_start_ms: i64,
    /// Key.
    pub key: String,
    /// Tuples counted.
    pub orders: u64,
    /// Sum of amounts, minor units.
    pub sum: i128,
    /// Smallest amount, minor units.
    pub min: i64,
    /// Largest amount, minor units.
    pub max: i64,
}

/// Why a settled tuple is not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UncountedKind {
    /// Its window was final.
    Late,
    /// It was identified, but could not be counted.
    Quarantined,
}

/// A tuple that the database lists as settled without being counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UncountedTuple {
    /// Source.
    pub source: String,
    /// Number within the source.
    pub seq: u64,
    /// Late or quarantined.
    pub kind: UncountedKind,
    /// Start of its window, ms UTC, where its time was legible.
    pub window_start_ms: Option<i64>,
    /// Its key, where legible.
    pub key: Option<String>,
    /// Its amount, minor units, where legible.
    pub amount: Option<i64>,
}

/// The ledger's counters of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceCounts {
    /// Source.
    pub source: String,
    /// Tuples counted.
    pub counted: u64,
    /// Tuples that came late.
    pub late: u64,
    /// Tuples in quarantine.
    pub quarantined: u64,
    /// Seqs missing below the largest settled one.
    pub gaps: u64,
}

/// One way in which the database and the manifest disagree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Difference {
    /// A row's count or sum is not the oracle's, less what is listed as uncounted.
    Row {
        /// Start of the window, ms UTC.
        window_start_ms: i64,
        /// Key.
        key: String,
        /// Count that it must have; 0 means that there must be no row.
        expected_orders: i128,
        /// Count that it has; 0 means that there is no row.
        orders: u64,
        /// Sum that it must have, minor units.
        #[serde(with = "money")]
        expected_sum: i128,
        /// Sum that it has, minor units.
        #[serde(with = "money")]
        sum: i128,
    },
    /// A row's extremes are not the oracle's.
    Extremes {
        /// Start of the window, ms UTC.
        window_start_ms: i64,
        /// Key.
        key: String,
        /// The oracle's smallest and largest amount, minor units.
        expected: (i64, i64),
        /// The row's.
        found: (i64, i64),
    },
    /// Tuples of a source are missing, or settled more than once.
    Source {
        /// Source.
        source: String,
        /// Distinct tuples published.
        published: u64,
        /// Counted + late + quarantined.
        settled: u64,
    },
    /// More tuples came late than were published late.
    BecameLate {
        /// Source.
        source: String,
        /// Tuples published late.
        published_late: u64,
        /// Tuples that came late.
        late: u64,
    },
    /// The ledger's list of settled seqs has holes.
    Gaps {
        /// Source.
        source: String,
        /// How many seqs are missing.
        gaps: u64,
    },
    /// The counters of a source do not agree with the tuples listed.
    Listing {
        /// Source.
        source: String,
        /// Late + quarantined by the counters.
        counters: u64,
        /// Late + quarantined tuples listed.
        listed: u64,
    },
    /// The database counts tuples of a source that nobody in the manifest published.
    UnknownSource {
        /// Source.
        source: String,
        /// Tuples counted.
        counted: u64,
    },
    /// A tuple listed as uncounted was never published.
    UnknownTuple {
        /// Source.
        source: String,
        /// Number within the source.
        seq: u64,
    },
    /// The run ended before the broker had confirmed everything: an exact check is not possible.
    Unconfirmed {
        /// Source.
        source: String,
        /// Tuples sent, not confirmed.
        tuples: u64,
    },
}

/// Every difference found; [`Display`](fmt::Display) shows the first twenty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Differences {
    /// Rows compared.
    pub rows: u64,
    /// Sources compared.
    pub sources: u64,
    /// All differences, sources first, then rows by window and key.
    pub differences: Vec<Difference>,
}

impl Differences {
    /// Whether database and manifest agree.
    pub fn is_empty(&self) -> bool {
        self.differences.is_empty()
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rows, sources) = (self.rows, self.sources);
        if self.is_empty() {
            return write!(f, "no difference in {rows} rows and {sources} sources");
        }
        let found = self.differences.len();
        writeln!(
            f,
            "{found} differences in {rows} rows and {sources} sources:"
        )?;
        for difference in self.differences.iter().take(SHOWN) {
            writeln!(f, "  {difference}")?;
        }
        if found > SHOWN {
            writeln!(f, "  and {} more (all with --format json)", found - SHOWN)?;
        }
        Ok(())
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Row {
                window_start_ms,
                key,
                expected_orders,
                orders,
                expected_sum,
                sum,
            } => write!(
                f,
                "window {} {key}: expected {expected_orders} orders with sum {expected_sum}, \
                 the row has {orders} with sum {sum}",
                instant(*window_start_ms)
            ),
            Self::Extremes {
                window_start_ms,
                key,
                expected,
                found,
            } => write!(
                f,
                "window {} {key}: expected amounts from {} to {}, the row has {} to {}",
                instant(*window_start_ms),
                expected.0,
                expected.1,
                found.0,
                found.1
            ),
            Self::Source {
                source,
                published,
                settled,
            } if settled < published => write!(
                f,
                "source {source}: {} of {published} tuples are neither counted nor late nor in \
                 quarantine",
                published - settled
            ),
            Self::Source {
                source,
                published,
                settled,
            } => write!(
                f,
                "source {source}: {settled} tuples are settled, {} more than the {published} \
                 published",
                settled - published
            ),
            Self::BecameLate {
                source,
                published_late,
                late,
            } => write!(
                f,
                "source {source}: {} on-time tuples became late ({late} late, {published_late} \
                 published late; on time is within {} ms, the dispatcher's default delay and \
                 allowed lateness: less than that makes more tuples late, and rightly so)",
                late - published_late,
                LateRule::AFTER_MS
            ),
            Self::Gaps { source, gaps } => write!(
                f,
                "source {source}: {gaps} seqs are missing, the publisher left none out"
            ),
            Self::Listing {
                source,
                counters,
                listed,
            } => write!(
                f,
                "source {source}: its counters say {counters} late or quarantined tuples, \
                 {listed} are listed"
            ),
            Self::UnknownSource { source, counted } => write!(
                f,
                "source {source}: {counted} tuples counted, none published by these runs"
            ),
            Self::UnknownTuple { source, seq } => write!(
                f,
                "source {source}: tuple {seq} is listed as late or quarantined, but was never \
                 published"
            ),
            Self::Unconfirmed { source, tuples } => write!(
                f,
                "source {source}: {tuples} tuples were sent without a confirm; whether they \
                 should be counted is unknown"
            ),
        }
    }
}

/// RFC 3339, or the bare number where the calendar ends.
fn instant(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |at| at.to_string())
}

/// What is listed as uncounted in one window under one key.
#[derive(Default)]
struct Uncounted {
    orders: u64,
    sum: i128,
}

/// Compares a database with what was published.
///
/// `rows` are all rows of results, shards merged, each (window, key) once; `uncounted` all tuples
/// listed as late or quarantined; `sources` the counters of all sources. Windows and counters of
/// sources that published nothing legible are no difference as long as they count nothing.
pub fn compare(
    manifest: &Manifest,
    rows: impl IntoIterator<Item = WindowRow>,
    uncounted: impl IntoIterator<Item = UncountedTuple>,
    sources: impl IntoIterator<Item = SourceCounts>,
) -> Differences {
    let mut differences = Vec::new();
    let mut subtract: BTreeMap<(i64, String), Uncounted> = BTreeMap::new();
    let mut listed: BTreeMap<String, u64> = BTreeMap::new();
    for tuple in uncounted {
        // A stranger's bad tuple is in no oracle, so there is nothing to subtract it from.
        let Some(record) = manifest.sources.get(&tuple.source) else {
            continue;
        };
        if !(record.first..=record.last).contains(&tuple.seq) {
            differences.push(Difference::UnknownTuple {
                source: tuple.source,
                seq: tuple.seq,
            });
            continue;
        }
        *listed.entry(tuple.source).or_default() += 1;
        if let (Some(ts), Some(key), Some(amount)) =
            (tuple.window_start_ms, tuple.key, tuple.amount)
        {
            let start = window::start_of(ts, manifest.window_ms);
            let cell = subtract.entry((start, key)).or_default();
            cell.orders += 1;
            cell.sum += i128::from(amount);
        }
    }
    compare_sources(manifest, sources, &listed, &mut differences);
    let compared = compare_rows(manifest, rows, &mut subtract, &mut differences);
    Differences {
        rows: compared,
        sources: manifest.sources.len() as u64,
        differences,
    }
}

fn compare_sources(
    manifest: &Manifest,
    sources: impl IntoIterator<Item = SourceCounts>,
    listed: &BTreeMap<String, u64>,
    differences: &mut Vec<Difference>,
) {
    let mut met = BTreeSet::new();
    for counts in sources {
        let source = counts.source;
        let Some(record) = manifest.sources.get(&source) else {
            if counts.counted > 0 {
                differences.push(Difference::UnknownSource {
                    source,
                    counted: counts.counted,
                });
            }
            continue;
        };
        met.insert(source.clone());
        let settled = counts.counted + counts.late + counts.quarantined;
        if settled != record.published {
            differences.push(Difference::Source {
                source: source.clone(),
                published: record.published,
                settled,
            });
        }
        if counts.late > record.late {
            differences.push(Difference::BecameLate {
                source: source.clone(),
                published_late: record.late,
                late: counts.late,
            });
        }
        // Recorded data may leave out seqs itself; then the counters alone can tell.
        let gap_free = record.first <= 1 && record.last - record.first + 1 == record.published;
        if gap_free && counts.gaps > 0 {
            differences.push(Difference::Gaps {
                source: source.clone(),
                gaps: counts.gaps,
            });
        }
        let listed = listed.get(&source).copied().unwrap_or(0);
        if listed != counts.late + counts.quarantined {
            differences.push(Difference::Listing {
                source,
                counters: counts.late + counts.quarantined,
                listed,
            });
        }
    }
    for (source, record) in &manifest.sources {
        if record.unconfirmed > 0 {
            differences.push(Difference::Unconfirmed {
                source: source.clone(),
                tuples: record.unconfirmed,
            });
        }
        if !met.contains(source) && record.published > 0 {
            differences.push(Difference::Source {
                source: source.clone(),
                published: record.published,
                settled: 0,
            });
        }
    }
}

fn compare_rows(
    manifest: &Manifest,
    rows: impl IntoIterator<Item = WindowRow>,
    subtract: &mut BTreeMap<(i64, String), Uncounted>,
    differences: &mut Vec<Difference>,
) -> u64 {
    let mut expected: BTreeMap<(i64, String), Partial> = manifest
        .windows
        .iter()
        .map(|row| ((row.start_ms, row.key.clone()), row.partial()))
        .collect();
    let mut wrong = BTreeMap::new();
    let mut compared = 0;
    for row in rows {
        compared += 1;
        let cell = (row.window_start_ms, row.key.clone());
        let oracle = expected.remove(&cell).unwrap_or(Partial::EMPTY);
        let less = subtract.remove(&cell).unwrap_or_default();
        if let Some(difference) = compare_row(&oracle, &less, &row) {
            wrong.insert(cell, difference);
        }
    }
    // What is left has no row: right only if every tuple of it is listed as uncounted.
    for (cell, oracle) in expected {
        let less = subtract.remove(&cell).unwrap_or_default();
        let row = WindowRow {
            window_start_ms: cell.0,
            key: cell.1.clone(),
            orders: 0,
            sum: 0,
            min: i64::MAX,
            max: i64::MIN,
        };
        if let Some(difference) = compare_row(&oracle, &less, &row) {
            wrong.insert(cell, difference);
        }
    }
    differences.extend(wrong.into_values());
    compared
}

fn compare_row(oracle: &Partial, less: &Uncounted, row: &WindowRow) -> Option<Difference> {
    let expected_orders = i128::from(oracle.count) - i128::from(less.orders);
    let expected_sum = oracle.sum - less.sum;
    if expected_orders != i128::from(row.orders) || expected_sum != row.sum {
        return Some(Difference::Row {
            window_start_ms: row.window_start_ms,
            key: row.key.clone(),
            expected_orders,
            orders: row.orders,
            expected_sum,
            sum: row.sum,
        });
    }
    // Once a tuple is taken away, the oracle only bounds the extremes: it may have been one.
    let agrees = if row.orders == 0 {
        true
    } else if less.orders == 0 {
        (row.min, row.max) == (oracle.min, oracle.max)
    } else {
        oracle.min <= row.min && row.min <= row.max && row.max <= oracle.max
    };
    (!agrees).then(|| Difference::Extremes {
        window_start_ms: row.window_start_ms,
        key: row.key.clone(),
        expected: (oracle.min, oracle.max),
        found: (row.min, row.max),
    })
}

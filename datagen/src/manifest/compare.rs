//! The exact check: a database against a manifest.

use std::collections::{BTreeMap, BTreeSet};

use windlass_functions::partial::Partial;
use windlass_functions::window;

use super::{Difference, Differences, Manifest};

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

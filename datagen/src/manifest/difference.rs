//! How a database differs from a manifest, for programs and for people.

use std::fmt;

use serde::Serialize;

use super::money;
use crate::feed::LateRule;

/// How many differences the report for people shows.
const SHOWN: usize = 20;

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

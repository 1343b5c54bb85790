//! What was published, so that a database can be checked exactly: how many distinct tuples of
//! each source, and for every window and key what its row must hold.
//!
//! [`Recorder`] gathers it tuple by tuple as the broker confirms them; [`Manifest`] is its file;
//! [`compare()`] holds it against the rows, outcomes and counters of a database.

mod compare;
mod difference;
mod money;
mod record;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use windlass_functions::partial::Partial;

pub use compare::{SourceCounts, UncountedKind, UncountedTuple, WindowRow, compare};
pub use difference::{Difference, Differences};
pub use record::Recorder;

use crate::workload::Options;

/// The layout that this build writes and reads.
const VERSION: u32 = 1;

/// What one or more runs published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Layout of this file: 1.
    pub version: u32,
    /// Length of a window, ms.
    pub window_ms: i64,
    /// The runs, in the order in which they were merged.
    pub runs: Vec<Run>,
    /// By source.
    pub sources: BTreeMap<String, SourceRecord>,
    /// All windows together.
    pub totals: Totals,
    /// What every row must hold, ascending by window, then key.
    pub windows: Vec<WindowOracle>,
}

/// Where the tuples of one run came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Generated, or read from files.
    #[serde(flatten)]
    pub origin: Origin,
    /// Whether it was ended by a signal or an error before it was through.
    pub interrupted: bool,
}

/// Where tuples came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// A workload with these options.
    Workload(Options),
    /// Files.
    Files(Vec<PathBuf>),
}

/// What a source published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceRecord {
    /// Smallest seq.
    pub first: u64,
    /// Largest seq.
    pub last: u64,
    /// Distinct tuples whose publication the broker confirmed.
    pub published: u64,
    /// Those among them that may have come too late.
    pub late: u64,
    /// Tuples sent once more under the same seq.
    pub duplicates: u64,
    /// Tuples sent whose publication was not confirmed when the run ended: the broker may or may
    /// not have them, and no oracle can tell.
    pub unconfirmed: u64,
}

/// Sums over all windows and sources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Totals {
    /// Distinct tuples.
    pub orders: u64,
    /// Sum of amounts, minor units; a string where a JSON number would lose digits.
    #[serde(with = "money")]
    pub sum: i128,
}

/// What the row of one window and key must hold when every tuple is counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowOracle {
    /// Start of the window, ms UTC.
    pub start_ms: i64,
    /// Key.
    pub key: String,
    /// Distinct tuples.
    pub orders: u64,
    /// Sum of amounts, minor units; a string where a JSON number would lose digits.
    #[serde(with = "money")]
    pub sum: i128,
    /// Smallest amount, minor units.
    pub min: i64,
    /// Largest amount, minor units.
    pub max: i64,
}

impl WindowOracle {
    fn partial(&self) -> Partial {
        Partial {
            count: self.orders,
            sum: self.sum,
            min: self.min,
            max: self.max,
        }
    }
}

/// Manifests that cannot be one.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MergeError {
    /// Their windows differ in length.
    #[error(
        "expected manifests of one window length, got {0} ms and {1} ms; check them one by one"
    )]
    WindowLength(i64, i64),
    /// A source numbered tuples in both, and the numbers overlap.
    #[error(
        "source {source_name} has tuples {} to {} in one manifest and {} to {} in another; they \
         are the same tuples or one run replaced the other's: keep one manifest, or publish each \
         run under its own --source-prefix",
        .first.0, .first.1, .second.0, .second.1
    )]
    Overlap {
        /// The source.
        source_name: String,
        /// First and last seq in the one.
        first: (u64, u64),
        /// First and last seq in the other.
        second: (u64, u64),
    },
}

impl Manifest {
    /// The manifest of a stream fed by both `self` and `other`.
    ///
    /// # Errors
    /// If the windows differ in length, or a source's tuples overlap.
    pub fn merge(mut self, other: Self) -> Result<Self, MergeError> {
        if self.window_ms != other.window_ms {
            return Err(MergeError::WindowLength(self.window_ms, other.window_ms));
        }
        for (name, record) in other.sources {
            match self.sources.get_mut(&name) {
                None => {
                    self.sources.insert(name, record);
                }
                Some(ours) if ours.last < record.first || record.last < ours.first => {
                    ours.first = ours.first.min(record.first);
                    ours.last = ours.last.max(record.last);
                    ours.published += record.published;
                    ours.late += record.late;
                    ours.duplicates += record.duplicates;
                    ours.unconfirmed += record.unconfirmed;
                }
                Some(ours) => {
                    return Err(MergeError::Overlap {
                        first: (ours.first, ours.last),
                        second: (record.first, record.last),
                        source_name: name,
                    });
                }
            }
        }
        let mut rows = BTreeMap::new();
        for row in self.windows.into_iter().chain(other.windows) {
            let partial = row.partial();
            rows.entry((row.start_ms, row.key))
                .or_insert(Partial::EMPTY)
                .merge(&partial);
        }
        self.windows = oracle_rows(rows);
        self.runs.extend(other.runs);
        self.totals.orders += other.totals.orders;
        self.totals.sum += other.totals.sum;
        Ok(self)
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// If the file cannot be read or is not a manifest of this version.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read(path).with_context(|| {
            format!(
                "cannot read the manifest {}; `windlass datagen` writes one beside each run",
                path.display()
            )
        })?;
        Self::parse(&text, &path.display().to_string())
    }

    fn parse(text: &[u8], whose: &str) -> anyhow::Result<Self> {
        let manifest: Self = serde_json::from_slice(text)
            .with_context(|| format!("{whose} is not a manifest of a run"))?;
        anyhow::ensure!(
            manifest.version == VERSION,
            "expected a manifest of version {VERSION}, {whose} has version {}; check it with the \
             build that wrote it",
            manifest.version
        );
        Ok(manifest)
    }

    /// The manifest as bytes to keep in a database: the file's JSON, compressed with Zstandard.
    ///
    /// # Errors
    /// If memory runs out.
    pub fn pack(&self) -> anyhow::Result<Vec<u8>> {
        let text = serde_json::to_vec(self)?;
        zstd::encode_all(&*text, zstd::DEFAULT_COMPRESSION_LEVEL)
            .context("cannot compress the manifest")
    }

    /// Reads what [`Manifest::pack`] wrote; `whose` names it in messages.
    ///
    /// # Errors
    /// If it is damaged or of another version.
    pub fn unpack(bytes: &[u8], whose: &str) -> anyhow::Result<Self> {
        let text = zstd::decode_all(bytes)
            .with_context(|| format!("the manifest of {whose} is damaged: restore the database"))?;
        Self::parse(&text, whose)
    }

    /// Starts of the first and the last window, ms UTC; `None` if nothing was published.
    pub fn span(&self) -> Option<(i64, i64)> {
        let (first, last) = (self.windows.first()?, self.windows.last()?);
        Some((first.start_ms, last.start_ms))
    }

    /// The same without the windows that start outside `starts`, in ms UTC. Sources stay whole:
    /// their tuples are counted for all windows together.
    #[must_use]
    pub fn within(mut self, starts: std::ops::RangeInclusive<i64>) -> Self {
        self.windows.retain(|row| starts.contains(&row.start_ms));
        self
    }

    /// Writes the manifest so that `path` holds either all of it or what it held before.
    ///
    /// # Errors
    /// If the folder cannot be written to.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".part");
        let beside = PathBuf::from(beside);
        let write = || -> anyhow::Result<()> {
            let mut file = std::io::BufWriter::new(fs::File::create(&beside)?);
            serde_json::to_writer(&mut file, self)?;
            file.write_all(b"\n")?;
            file.into_inner()?.sync_all()?;
            fs::rename(&beside, path)?;
            Ok(())
        };
        write().with_context(|| {
            format!(
                "cannot write the manifest {}; name a writable file with --manifest",
                path.display()
            )
        })
    }
}

/// Ordered partials as the manifest lists them.
fn oracle_rows(rows: BTreeMap<(i64, String), Partial>) -> Vec<WindowOracle> {
    rows.into_iter()
        .map(|((start_ms, key), partial)| WindowOracle {
            start_ms,
            key,
            orders: partial.count,
            sum: partial.sum,
            min: partial.min,
            max: partial.max,
        })
        .collect()
}

//! Orders from files, as one feed.
//!
//! Several files are read side by side and merged by time of sending, which a file does not hold:
//! the newest event time met so far in it stands in. So sources that were recorded over the same
//! span stay abreast, and none falls behind the watermark because its file came second.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use windlass_functions::tuple::Dictionaries;

use super::FileFormat;
use super::read::{Reader, Row};
use crate::feed::LateRule;
use crate::workload::Order;

/// Files of orders being read.
pub struct Recording {
    dictionaries: Dictionaries,
    tracks: Vec<Track>,
    /// The time of sending of each track's next row, and the track.
    next: BinaryHeap<Reverse<(i64, usize)>>,
    late_rule: LateRule,
    started_ms: Option<i64>,
    failed: bool,
}

struct Track {
    reader: Reader,
    rows: VecDeque<Row>,
    newest: i64,
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording")
            .field("files", &self.tracks.len())
            .finish_non_exhaustive()
    }
}

/// The files of orders in the folder `dir`, by name.
///
/// # Errors
/// If the folder cannot be listed or holds none.
pub fn list(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let context = || format!("cannot list the folder {}", dir.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).with_context(context)? {
        let path = entry.with_context(context)?.path();
        if path.is_file() && FileFormat::of(&path).is_ok() {
            files.push(path);
        }
    }
    anyhow::ensure!(
        !files.is_empty(),
        "expected files named .csv, .ndjson, .parquet or .arrow in {}, found none; \
         `windlass datagen generate --out {}` makes some",
        dir.display(),
        dir.display()
    );
    files.sort();
    Ok(files)
}

impl Recording {
    /// Opens `files`; `prefix` goes before every source's name.
    ///
    /// # Errors
    /// If a file cannot be opened or lacks a column.
    pub fn open(files: &[PathBuf], prefix: &str) -> anyhow::Result<Self> {
        let mut recording = Self {
            dictionaries: Dictionaries::default(),
            tracks: Vec::new(),
            next: BinaryHeap::new(),
            late_rule: LateRule::default(),
            started_ms: None,
            failed: false,
        };
        for path in files {
            recording.tracks.push(Track {
                reader: Reader::open(path, prefix)?,
                rows: VecDeque::new(),
                newest: i64::MIN,
            });
            recording.queue(recording.tracks.len() - 1)?;
        }
        Ok(recording)
    }

    /// The names of sources and keys met so far.
    pub fn dictionaries(&self) -> &Dictionaries {
        &self.dictionaries
    }

    /// Puts a track's next row, if any, in line.
    fn queue(&mut self, number: usize) -> anyhow::Result<()> {
        let track = &mut self.tracks[number];
        if track.rows.is_empty() {
            track.reader.read(&mut self.dictionaries, &mut track.rows)?;
        }
        if let Some(row) = track.rows.front() {
            track.newest = track.newest.max(row.ts);
            self.next.push(Reverse((track.newest, number)));
        }
        Ok(())
    }

    fn take(&mut self) -> anyhow::Result<Option<Order>> {
        let Some(Reverse((sent_ms, number))) = self.next.pop() else {
            return Ok(None);
        };
        let Some(row) = self.tracks[number].rows.pop_front() else {
            return Ok(None);
        };
        self.queue(number)?;
        let started_ms = *self.started_ms.get_or_insert(sent_ms);
        let after_ms = u64::try_from(sent_ms.saturating_sub(started_ms)).unwrap_or(0);
        Ok(Some(Order {
            source: row.source,
            key: row.key,
            seq: row.seq,
            ts: row.ts,
            amount: row.amount,
            due_ns: after_ms.saturating_mul(1_000_000),
            late: self.late_rule.judge(row.ts),
        }))
    }
}

impl Iterator for Recording {
    type Item = anyhow::Result<Order>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let order = self.take();
        self.failed = order.is_err();
        order.transpose()
    }
}

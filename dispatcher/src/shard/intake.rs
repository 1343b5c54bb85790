//! From a delivery to rows in the open slice: decode, recognise what was settled before, judge
//! lateness, split by window.

use std::cell::OnceCell;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use windlass_functions::decode::{self, BadRow};
use windlass_functions::ledger::{DamagedBlock, Insert};
use windlass_functions::time::Now;
use windlass_functions::tuple::Tuples;
use windlass_functions::window;

use super::sources::TOUCH_BYTES;
use super::{Action, Delivery, Pending, Shard};
use crate::plan::{OutcomeKind, SourceRecord};

/// What a window costs in a slice beside its rows, bytes: columns, an invocation with its answer,
/// a line of the commit's log.
const WINDOW_BYTES: usize = 2_048;

impl Shard {
    /// Takes in one delivery. Must be called in the order of tags, and only while
    /// [`Shard::wants_deliveries`].
    pub fn deliver(&mut self, now: Now, delivery: Delivery) {
        self.alone = true;
        if delivery.redelivered {
            self.open.tallies.redeliveries += 1;
        } else {
            self.watermark.release();
        }
        self.open.first_at_ms.get_or_insert(now.mono_ms);
        self.scratch.clear();
        let texts = self.open.dictionaries.bytes();
        let decoded = decode::decode(
            &self.stream,
            now.unix_ms,
            delivery.content_type.as_deref(),
            &delivery.body,
            &mut self.open.dictionaries,
            &mut self.scratch,
        );
        self.hold(self.open.dictionaries.bytes() - texts);
        match decoded {
            Ok(bad) => {
                self.taken.1 += self.scratch.len() as u64;
                self.pending = Some(Pending {
                    delivery,
                    bad,
                    outcomes: Default::default(),
                    uncommitted: Default::default(),
                    looked_up: false,
                    copy_id: OnceCell::new(),
                });
                self.resume(now);
            }
            Err(undecodable) => {
                self.open.tallies.undecodable += 1;
                self.quarantine_message(&delivery, "undecodable", undecodable.0);
                self.take_in(&delivery);
            }
        }
    }

    /// Answers [`Action::LoadSources`]: what the ledger has of them; those it lacks are new.
    ///
    /// # Errors
    /// If a stored ledger block is damaged.
    pub fn sources_loaded(
        &mut self,
        names: &[Arc<str>],
        records: Vec<SourceRecord>,
        now: Now,
    ) -> Result<(), DamagedBlock> {
        let mut found: hashbrown::HashMap<Arc<str>, SourceRecord> = records
            .into_iter()
            .map(|record| (Arc::clone(&record.source), record))
            .collect();
        for name in names {
            self.add_source(name, found.remove(name), now)?;
        }
        self.resume(now);
        Ok(())
    }

    /// Answers [`Action::FindOutcomes`], in the order asked.
    pub fn outcomes_found(&mut self, found: Vec<((Arc<str>, u64), OutcomeKind)>, now: Now) {
        if let Some(pending) = &mut self.pending {
            pending.outcomes = found.into_iter().collect();
            self.resume(now);
        }
    }

    /// Goes on with the delivery at hand as far as what is known allows.
    fn resume(&mut self, now: Now) {
        let Some(mut pending) = self.pending.take() else {
            return;
        };
        let unknown = self.unknown_sources(&pending.bad);
        if !unknown.is_empty() {
            self.pending = Some(pending);
            self.actions.push_back(Action::LoadSources(unknown));
            return;
        }
        if pending.delivery.replay && !pending.looked_up {
            pending.looked_up = true;
            let mut settled = self.settled_rows();
            pending.uncommitted = self.uncommitted(&settled);
            // What the database says of a tuple that is being replayed will be out of date.
            settled.retain(|identity| !self.replaying.contains(identity));
            if !settled.is_empty() {
                self.pending = Some(pending);
                self.actions.push_back(Action::FindOutcomes(settled));
                return;
            }
        }
        self.take_rows(&pending, now);
        self.take_bad_rows(&pending);
        self.take_in(&pending.delivery);
        self.watermark.advance();
    }

    fn unknown_sources(&self, bad: &[BadRow]) -> Vec<Arc<str>> {
        let sources = &self.open.dictionaries.sources;
        let mut unknown: BTreeSet<Arc<str>> = BTreeSet::new();
        let mut last = None;
        for &number in &self.scratch.source {
            if last != Some(number) {
                last = Some(number);
                let name = sources.text(number);
                if !self.by_name.contains_key(name) {
                    unknown.insert(Arc::clone(name));
                }
            }
        }
        for (name, _) in bad.iter().filter_map(|row| row.identity.as_ref()) {
            if !self.by_name.contains_key(name.as_str()) && !unknown.contains(name.as_str()) {
                unknown.insert(Arc::from(name.as_str()));
            }
        }
        unknown.into_iter().collect()
    }

    /// The delivery's rows are in the slice; now the delivery itself is.
    fn take_in(&mut self, delivery: &Delivery) {
        self.open.last_tag = Some(delivery.tag);
        self.open.deliveries += 1;
        self.taken.0 += 1;
    }

    pub(super) fn hold(&mut self, bytes: usize) {
        self.open.bytes += bytes;
        self.bytes += bytes;
    }

    fn take_rows(&mut self, pending: &Pending, now: Now) {
        let tuples = std::mem::take(&mut self.scratch);
        let mut misrouted: BTreeMap<Arc<str>, (u32, Vec<Range<usize>>)> = BTreeMap::new();
        let mut from = 0;
        while from < tuples.len() {
            let to = run_end(&tuples, from);
            let rows = from..to;
            from = to;
            let name = Arc::clone(
                self.open
                    .dictionaries
                    .sources
                    .text(tuples.source[rows.start]),
            );
            let number = self.by_name[&name];
            let home = self.source(number).home;
            if home != self.number {
                self.open.tallies.misrouted += rows.len() as u64;
                misrouted
                    .entry(name)
                    .or_insert((home, Vec::new()))
                    .1
                    .push(rows);
                continue;
            }
            // A replay is not its source's voice: it says nothing of how far the source has come.
            if let Some(&max_ts) = tuples.ts[rows.clone()].iter().max()
                && !pending.delivery.replay
            {
                let clock = self.source(number).clock;
                if !self.watermark.is_active(clock) {
                    // Also if all its rows are duplicates, a next owner must wait for it.
                    self.touch(number);
                }
                self.watermark.spoke(clock, max_ts, now.mono_ms);
            }
            self.take_run(number, &tuples, rows, pending);
        }
        for (source, (home, runs)) in misrouted {
            self.quarantine_misrouted(pending, &tuples, &source, home, &runs);
        }
        self.scratch = tuples;
    }

    /// Takes rows of one source with consecutive seqs.
    fn take_run(&mut self, number: usize, tuples: &Tuples, rows: Range<usize>, pending: &Pending) {
        if !pending.delivery.replay {
            let (first, len) = (tuples.seq[rows.start], rows.len() as u64);
            if self.source(number).settled.insert_run(first, len) == Insert::Fresh {
                self.take_fresh(number, tuples, rows);
                return;
            }
        }
        for row in rows {
            let seq = tuples.seq[row];
            match self.source(number).settled.insert(seq) {
                Insert::Fresh => self.take_fresh(number, tuples, row..row + 1),
                Insert::Scattered => self.refuse_scattered(number, tuples, row),
                Insert::Known if self.take_replayed(number, tuples, row, pending) => {}
                Insert::Known => self.open.tallies.duplicates += 1,
            }
        }
    }

    pub(super) fn touch(&mut self, number: usize) -> &mut super::Counts {
        if self.source(number).open.is_none() {
            self.open.touched.push(number);
            self.hold(TOUCH_BYTES);
        }
        self.source(number).open.get_or_insert_default()
    }

    /// Takes rows that were never settled.
    fn take_fresh(&mut self, number: usize, tuples: &Tuples, rows: Range<usize>) {
        // What was final when the slice was opened is late: the slice's own tuples cannot make
        // one another late, whatever order they come in.
        let late_before = self.cut_final_before;
        let window_ms = self.stream.window_ms;
        let earliest = tuples.ts[rows.clone()].iter().min().copied().unwrap_or(0);
        let is_late = |ts| {
            late_before.is_some_and(|before| {
                window::end_of(window::start_of(ts, window_ms), window_ms) <= before
            })
        };
        if !is_late(earliest) {
            self.touch(number).counted += rows.len() as i64;
            self.place(tuples, rows);
            return;
        }
        for row in rows {
            if is_late(tuples.ts[row]) {
                let before = late_before.unwrap_or_default();
                let reason = format!(
                    "late: its window was final, as everything before {} is; replay counts it all the same",
                    rfc3339(before)
                );
                self.touch(number).late += 1;
                self.settle_uncounted(number, tuples, row, OutcomeKind::Late, reason);
            } else {
                self.touch(number).counted += 1;
                self.place(tuples, row..row + 1);
            }
        }
    }

    /// Puts rows into their windows' batches.
    pub(super) fn place(&mut self, tuples: &Tuples, rows: Range<usize>) {
        let window_ms = self.stream.window_ms;
        let mut windows = 0;
        let mut from = rows.start;
        while from < rows.end {
            let start = window::start_of(tuples.ts[from], window_ms);
            let end = window::end_of(start, window_ms);
            let len = tuples.ts[from..rows.end]
                .iter()
                .position(|&ts| ts < start || ts >= end)
                .unwrap_or(rows.end - from);
            let batch = match self.open.windows.entry(start) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => {
                    windows += 1;
                    if self.watermark.value().is_none_or(|value| end > value) {
                        self.open_ends.insert(end);
                    }
                    self.last_end = self.last_end.max(Some(end));
                    entry.insert(self.spare.pop().unwrap_or_default())
                }
            };
            batch.extend_from(tuples, from..from + len);
            from += len;
        }
        self.hold(rows.len() * Tuples::ROW_BYTES + windows * WINDOW_BYTES);
    }
}

/// Where the run of rows from `from` with one source and consecutive seqs ends.
fn run_end(tuples: &Tuples, from: usize) -> usize {
    let (source, first) = (tuples.source[from], tuples.seq[from]);
    let sources = &tuples.source[from..];
    let seqs = &tuples.seq[from..];
    // In blocks without an early exit, so that the comparison runs on whole vectors.
    let mut done = 0;
    for (sources, seqs) in sources.chunks(256).zip(seqs.chunks(256)) {
        let base = first.wrapping_add(done as u64);
        let same = sources
            .iter()
            .zip(seqs)
            .enumerate()
            .fold(true, |same, (i, (&s, &q))| {
                same & (s == source) & (q == base.wrapping_add(i as u64))
            });
        if !same {
            let broken = sources
                .iter()
                .zip(seqs)
                .enumerate()
                .position(|(i, (&s, &q))| s != source || q != base.wrapping_add(i as u64));
            return from + done + broken.unwrap_or(sources.len());
        }
        done += sources.len();
    }
    from + done
}

fn rfc3339(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| format!("{ms} ms"), |at| at.to_string())
}

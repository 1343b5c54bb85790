//! From the open slice to invocations, from answers to a commit, from a commit to an ack.

use std::sync::Arc;

use hashbrown::HashMap;
use windlass_functions::partial::Partial;
use windlass_functions::time::Now;
use windlass_functions::tuple::Tuples;
use windlass_functions::window;

use super::slice::{Cut, SharedBatch, Slice};
use super::{Action, Answer, ChunkId, Shard, Work};
use crate::plan::{CommitPlan, Logged, OutcomeKind, RowDelta, SourceDelta, Tallies};

/// Most emptied batches kept: what slices in flight give back while the open one fills.
const SPARE: usize = 8;

impl Shard {
    /// Cuts the open slice if it is due. `waiting` says that more deliveries are at hand, so that
    /// a cut for the sake of closing windows may wait a little and take more with it.
    pub fn advance(&mut self, now: Now, waiting: bool) {
        if self.pending.is_none() {
            self.tend_sources(now);
        }
        self.watermark.advance();
        self.stamp_passed(now);
        if self.pending.is_none()
            && self.flight.len() < self.settings.slices_in_flight
            && self.is_due(now, waiting)
        {
            self.cut(now);
        }
    }

    fn stamp_passed(&mut self, now: Now) {
        let after = self.passed.last().map_or(i64::MIN, |&(end, _)| end + 1);
        let Some(watermark) = self.watermark.value().filter(|&value| value >= after) else {
            return;
        };
        let passed = self.open_ends.range(after..=watermark);
        self.passed.extend(passed.map(|&end| (end, now.mono_ms)));
    }

    fn is_due(&self, now: Now, waiting: bool) -> bool {
        let slices = self.settings.slices_in_flight;
        let full = self.open.bytes >= (self.settings.budget_bytes / slices).max(1)
            || self.open.deliveries >= (usize::from(self.settings.prefetch) / slices).max(1);
        let old = self
            .open
            .first_at_ms
            .is_some_and(|first| now.mono_ms.saturating_sub(first) >= self.settings.max_slice_ms);
        let rested = now.mono_ms.saturating_sub(self.last_cut_ms) >= self.settings.min_cut_ms;
        full || old
            || (self.closes_a_window() && (rested || !waiting))
            || self.following
            || (self.draining && !self.open.is_empty())
    }

    /// Whether the watermark has passed the end of a window with data since the last cut, or
    /// `final_before` the end of the last one.
    pub(super) fn closes_a_window(&self) -> bool {
        let closes = self
            .open_ends
            .first()
            .is_some_and(|&end| self.watermark.value().is_some_and(|value| value >= end));
        let ends = self.last_end.is_some()
            && self.cut_final_before < self.last_end
            && self.watermark.final_before() >= self.last_end;
        closes || ends
    }

    fn cut(&mut self, now: Now) {
        let next = Slice::new(self.open.no + 1);
        let mut slice = std::mem::replace(&mut self.open, next);
        let closed_before = self.cut_watermark;
        self.last_cut_ms = now.mono_ms;
        self.following = false;
        self.cut_watermark = self.watermark.value();
        self.cut_final_before = self.watermark.final_before();
        if let Some(watermark) = self.cut_watermark {
            self.open_ends = self.open_ends.split_off(&(watermark + 1));
        }

        let sources = self.source_deltas(&slice.touched);
        let shared = Arc::new(std::mem::take(&mut slice.dictionaries));
        let mut cut = Cut {
            watermark: self.cut_watermark,
            final_before: self.cut_final_before,
            sources,
            closed: std::mem::take(&mut self.passed),
            shared: Arc::clone(&shared),
            batches: Default::default(),
            unanswered: 0,
            unconfirmed: usize::from(!slice.quarantine.is_empty()),
            partials: Default::default(),
            log: Vec::new(),
        };
        for (start, tuples) in std::mem::take(&mut slice.windows) {
            let window_end = window::end_of(start, self.stream.window_ms);
            let revision = u32::from(closed_before.is_some_and(|closed| window_end <= closed));
            let tuples = Arc::new(tuples);
            let chunks = tuples.len().div_ceil(self.settings.chunk_rows);
            cut.unanswered += chunks;
            for chunk in 0..chunks {
                let first = chunk * self.settings.chunk_rows;
                self.actions.push_back(Action::Invoke(Work {
                    id: ChunkId {
                        shard: self.number,
                        epoch: self.epoch,
                        slice: slice.no,
                        window: start,
                        chunk: chunk as u32,
                    },
                    window_end,
                    revision,
                    tuples: Arc::clone(&tuples),
                    dictionaries: Arc::clone(&shared),
                    rows: first..tuples.len().min(first + self.settings.chunk_rows),
                }));
            }
            cut.batches.insert(
                start,
                SharedBatch {
                    tuples,
                    revision,
                    answered: vec![false; chunks],
                },
            );
        }
        if !slice.quarantine.is_empty() {
            let messages = std::mem::take(&mut slice.quarantine);
            self.actions
                .push_back(Action::Quarantine(slice.no, messages));
        }
        slice.cut = Some(cut);
        self.flight.push_back(slice);
        self.commit_what_is_ready();
    }

    /// The ledger of the touched sources as of now, the slice's last delivery.
    fn source_deltas(&mut self, touched: &[usize]) -> Vec<SourceDelta> {
        let mut deltas = Vec::with_capacity(touched.len());
        for &number in touched {
            let clock = self.source(number).clock;
            let (active, max_ts) = (
                self.watermark.is_active(clock),
                self.watermark.max_ts(clock),
            );
            let source = self.source(number);
            source.in_flight += 1;
            let counts = source.open.take().unwrap_or_default();
            deltas.push(SourceDelta {
                source: Arc::clone(&source.name),
                new: std::mem::take(&mut source.unclaimed),
                active,
                max_ts,
                low: source.settled.low(),
                counted: counts.counted,
                late: counts.late,
                quarantined: counts.quarantined,
                blocks: source.settled.take_changes(),
            });
        }
        deltas
    }

    /// A worker's answer. Answers to what is not in flight, or answered already, change nothing.
    pub fn answered(&mut self, answer: Answer) {
        let (id, stale) = (answer.id, self.epoch != answer.id.epoch);
        let Some(index) = self.flight.iter().position(|slice| slice.no == id.slice) else {
            return;
        };
        let Some(cut) = self.flight[index].cut.as_mut() else {
            return;
        };
        let Some(batch) = cut.batches.get_mut(&id.window) else {
            return;
        };
        let tuples = Arc::clone(&batch.tuples);
        match batch.answered.get_mut(id.chunk as usize) {
            Some(answered) if !*answered && !stale => *answered = true,
            _ => return,
        }
        cut.unanswered -= 1;
        cut.log.extend(answer.ran.into_iter().map(|ran| Logged {
            slice: id.slice,
            window: id.window,
            chunk: id.chunk,
            ran,
        }));
        for (key, partial) in answer.partials {
            cut.partials
                .entry((id.window, key))
                .or_insert(Partial::EMPTY)
                .merge(&partial);
        }
        if !answer.poisoned.is_empty() {
            self.quarantine_poisoned(index, &tuples, answer.poisoned);
        }
        self.commit_what_is_ready();
    }

    /// Moves rows that no worker could digest from counted to quarantined.
    fn quarantine_poisoned(
        &mut self,
        index: usize,
        tuples: &Tuples,
        poisoned: Vec<(usize, String)>,
    ) {
        let Some(shared) = self.flight[index]
            .cut
            .as_ref()
            .map(|cut| Arc::clone(&cut.shared))
        else {
            return;
        };
        let mut messages = Vec::with_capacity(poisoned.len());
        for (row, error) in poisoned {
            let source = Arc::clone(shared.sources.text(tuples.source[row]));
            let key = Arc::clone(shared.keys.text(tuples.key[row]));
            let reason = format!("the function fails on this tuple alone: {error}");
            let (outcome, message) = self.uncounted(
                Arc::clone(&source),
                key,
                tuples,
                row,
                OutcomeKind::Quarantined,
                reason,
            );
            let slice = &mut self.flight[index];
            slice.outcomes.push(outcome);
            messages.push(message);
            let deltas = slice.cut.iter_mut().flat_map(|cut| &mut cut.sources);
            for delta in deltas.filter(|delta| delta.source == source) {
                delta.counted -= 1;
                delta.quarantined += 1;
            }
        }
        let slice = &mut self.flight[index];
        if let Some(cut) = &mut slice.cut {
            cut.unconfirmed += 1;
        }
        self.actions
            .push_back(Action::Quarantine(slice.no, messages));
    }

    /// The broker has confirmed one [`Action::Quarantine`] of this slice.
    pub fn quarantine_confirmed(&mut self, slice: u64) {
        let found = self.flight.iter_mut().find(|other| other.no == slice);
        if let Some(cut) = found.and_then(|slice| slice.cut.as_mut()) {
            cut.unconfirmed -= 1;
        }
        self.commit_what_is_ready();
    }

    /// Starts a commit of all slices at the head that are ready, unless one is in progress.
    fn commit_what_is_ready(&mut self) {
        if self.committing > 0 {
            return;
        }
        let ready = self
            .flight
            .iter()
            .take_while(|slice| slice.is_ready())
            .count();
        if ready == 0 {
            return;
        }
        self.committing = ready;
        let mut plan = CommitPlan {
            shard: self.number,
            epoch: self.epoch,
            commit_no: self.commit_no,
            ..CommitPlan::default()
        };
        let mut gathered = Gathered::default();
        for slice in self.flight.iter_mut().take(ready) {
            plan.outcomes.extend(slice.outcomes.iter().cloned());
            plan.replayed.extend(slice.replayed.iter().cloned());
            add_tallies(&mut plan.tallies, &slice.tallies);
            if let Some(cut) = &mut slice.cut {
                plan.watermark = cut.watermark;
                plan.final_before = cut.final_before;
                plan.closed.append(&mut cut.closed);
                plan.log.append(&mut cut.log);
                gathered.take(cut);
            }
        }
        gathered.finish(&mut plan);
        self.actions.push_back(Action::Commit(Box::new(plan)));
    }

    /// The commit in progress is in the database.
    pub fn committed(&mut self) {
        self.commit_no += 1;
        let mut last_tag = None;
        for _ in 0..std::mem::take(&mut self.committing) {
            let Some(slice) = self.flight.pop_front() else {
                break;
            };
            self.bytes -= slice.bytes;
            last_tag = slice.last_tag.or(last_tag);
            for identity in &slice.replayed {
                self.replaying.remove(identity);
            }
            for &number in &slice.touched {
                self.source(number).in_flight -= 1;
            }
            for batch in slice
                .cut
                .into_iter()
                .flat_map(|cut| cut.batches.into_values())
            {
                self.keep_for_reuse(batch.tuples);
            }
        }
        if let Some(tag) = last_tag {
            self.undurable.push_back((self.commit_no, tag));
            self.actions.push_back(Action::AwaitDurable(self.commit_no));
        }
        self.commit_what_is_ready();
    }

    fn keep_for_reuse(&mut self, tuples: Arc<Tuples>) {
        // A worker that has not been told yet that it lost may still read them.
        if self.spare.len() < SPARE
            && let Ok(mut tuples) = Arc::try_unwrap(tuples)
        {
            tuples.clear();
            self.spare.push(tuples);
        }
    }

    /// Commit `commit_no`, and with it all before it, is as durable as was asked for.
    pub fn durable(&mut self, commit_no: u64) {
        let mut tag = None;
        while let Some(&(number, last_tag)) = self.undurable.front()
            && number <= commit_no
        {
            tag = Some(last_tag);
            self.undurable.pop_front();
        }
        self.actions.extend(tag.map(Action::Ack));
    }
}

fn add_tallies(to: &mut Tallies, from: &Tallies) {
    to.duplicates += from.duplicates;
    to.redeliveries += from.redeliveries;
    to.undecodable += from.undecodable;
    to.misrouted += from.misrouted;
}

/// Adjacent slices merged into one transaction's worth.
#[derive(Default)]
struct Gathered {
    rows: std::collections::BTreeMap<(i64, Arc<str>), (Partial, u32)>,
    totals: std::collections::BTreeMap<Arc<str>, Partial>,
    sources: Vec<SourceDelta>,
    by_source: HashMap<Arc<str>, usize>,
}

impl Gathered {
    fn take(&mut self, cut: &mut Cut) {
        for ((window, key), partial) in std::mem::take(&mut cut.partials) {
            let revision = cut.batches.get(&window).map_or(0, |batch| batch.revision);
            self.totals
                .entry(Arc::clone(&key))
                .or_insert(Partial::EMPTY)
                .merge(&partial);
            let row = self
                .rows
                .entry((window, key))
                .or_insert((Partial::EMPTY, 0));
            row.0.merge(&partial);
            row.1 += revision;
        }
        for delta in std::mem::take(&mut cut.sources) {
            match self.by_source.get(&delta.source) {
                None => {
                    self.by_source
                        .insert(Arc::clone(&delta.source), self.sources.len());
                    self.sources.push(delta);
                }
                Some(&index) => merge_delta(&mut self.sources[index], delta),
            }
        }
    }

    fn finish(self, plan: &mut CommitPlan) {
        plan.rows = self
            .rows
            .into_iter()
            .map(|((window, key), (partial, revision))| RowDelta {
                window,
                key,
                partial,
                revision,
            })
            .collect();
        plan.totals = self.totals.into_iter().collect();
        plan.sources = self.sources;
    }
}

/// The later slice's ledger replaces the earlier one's; counts add up.
fn merge_delta(earlier: &mut SourceDelta, later: SourceDelta) {
    earlier.active = later.active;
    earlier.max_ts = later.max_ts;
    earlier.low = later.low;
    earlier.counted += later.counted;
    earlier.late += later.late;
    earlier.quarantined += later.quarantined;
    for (number, bytes) in later.blocks {
        match earlier
            .blocks
            .iter_mut()
            .find(|(other, _)| *other == number)
        {
            Some((_, content)) => *content = bytes,
            None => earlier.blocks.push((number, bytes)),
        }
    }
}

//! Replays: a tuple that was settled without being counted is counted after all, where its outcome
//! is committed; where that is not yet so, its copy goes back to quarantine.

use std::sync::Arc;

use windlass_functions::tuple::Tuples;

use super::quarantine::OUTCOME_BYTES;
use super::{Pending, Shard};
use crate::plan::OutcomeKind;

impl Shard {
    /// The rows at hand that are settled already: a replay asks what became of them.
    pub(super) fn settled_rows(&self) -> Vec<(Arc<str>, u64)> {
        (0..self.scratch.len())
            .filter_map(|row| {
                let name = self
                    .open
                    .dictionaries
                    .sources
                    .text(self.scratch.source[row]);
                let source = self.sources[self.by_name[name]].as_ref()?;
                let seq = self.scratch.seq[row];
                source
                    .settled
                    .contains(seq)
                    .then(|| (Arc::clone(name), seq))
            })
            .collect()
    }

    /// Those of `tuples` whose fate is in slices that are not committed: an outcome, or a replay
    /// that may yet fail.
    pub(super) fn uncommitted(
        &self,
        tuples: &[(Arc<str>, u64)],
    ) -> hashbrown::HashMap<(Arc<str>, u64), OutcomeKind> {
        let replayed = self.replaying.iter().cloned();
        let slices = self.flight.iter().chain([&self.open]);
        let outcomes = slices.flat_map(|slice| &slice.outcomes);
        replayed
            .map(|identity| (identity, OutcomeKind::Quarantined))
            .chain(outcomes.map(|o| ((Arc::clone(&o.source), o.seq), o.kind)))
            .filter(|(identity, _)| tuples.contains(identity))
            .collect()
    }

    /// Counts a settled row after all if it is a replay and an outcome row of it exists.
    pub(super) fn take_replayed(
        &mut self,
        number: usize,
        tuples: &Tuples,
        row: usize,
        pending: &Pending,
    ) -> bool {
        let name = Arc::clone(&self.source(number).name);
        let identity = (name, tuples.seq[row]);
        let Some(&kind) = pending.outcomes.get(&identity) else {
            if let Some(&kind) = pending.uncommitted.get(&identity) {
                self.return_to_quarantine(identity.0, tuples, row, kind);
            }
            return false;
        };
        if !self.replaying.insert(identity.clone()) {
            return false;
        }
        self.open.replayed.push(identity);
        let counts = self.touch(number);
        counts.counted += 1;
        *counts.of(kind) -= 1;
        self.place(tuples, row..row + 1);
        true
    }

    /// A replay that came before its tuple's fate was committed may hold the only copy: it goes
    /// back.
    fn return_to_quarantine(
        &mut self,
        source: Arc<str>,
        tuples: &Tuples,
        row: usize,
        kind: OutcomeKind,
    ) {
        let key = Arc::clone(self.open.dictionaries.keys.text(tuples.key[row]));
        let reason =
            "it was replayed before an earlier decision on it was committed; replay it again, \
                      which does nothing if it is counted by then"
                .to_owned();
        let (_, message) = self.uncounted(source, key, tuples, row, kind, reason);
        self.hold(OUTCOME_BYTES + message.body.len());
        self.open.quarantine.push(message);
    }
}

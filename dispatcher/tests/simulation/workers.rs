//! Workers that answer late, twice, or never, and choke on poison; and what must hold of the work
//! that they are given.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use windlass_dispatcher::plan::{CommitPlan, OutcomeKind};
use windlass_dispatcher::shard::{Answer, Work};
use windlass_functions::partial::Partial;

use super::database::WINDOW_MS;
use super::schedule::{POISON, POISON_UNTIL_HEALED};
use super::world::{Client, World};

type Judged = BTreeMap<(Arc<str>, u64), Option<i64>>;

/// Has the work done, once or twice, sooner or later.
pub fn invoke(world: &mut World, seat: usize, work: Work) {
    let mut at_ms = world.now + world.dice.latency(world.run.worker_ms);
    if world.is_rough() && world.dice.chance(world.run.faults.worker_lost) {
        // The registry issues it again once the deadline has passed.
        at_ms += world.dice.range(300, 2_000);
    }
    let first = answer(&work, at_ms >= world.run.healed_ms);
    world.client_at(at_ms, seat, Client::Answer(first));
    if world.is_rough() && world.dice.chance(world.run.faults.worker_twice) {
        let again_ms = at_ms + world.dice.range(0, 4_000);
        let second = answer(&work, again_ms >= world.run.healed_ms);
        world.client_at(again_ms, seat, Client::Answer(second));
    }
}

fn answer(work: &Work, healed: bool) -> Answer {
    let mut partials: BTreeMap<Arc<str>, Partial> = BTreeMap::new();
    let mut poisoned = Vec::new();
    for row in work.rows.clone() {
        let amount = work.tuples.amount[row];
        if amount == POISON || (amount == POISON_UNTIL_HEALED && !healed) {
            poisoned.push((row, "poison".to_owned()));
            continue;
        }
        let key = work.dictionaries.keys.text(work.tuples.key[row]);
        let partial = partials.entry(Arc::clone(key)).or_insert(Partial::EMPTY);
        partial.add(amount);
    }
    Answer {
        id: work.id,
        partials: partials.into_iter().collect(),
        ran: Vec::new(),
        poisoned,
    }
}

/// No tuple of a window that was final when its slice was opened is counted, but for replays.
pub fn check(work: &Work, judged: &Judged, replayed: &BTreeSet<(Arc<str>, u64)>) {
    assert!(!work.rows.is_empty(), "an invocation of nothing");
    for row in work.rows.clone() {
        let source = work.dictionaries.sources.text(work.tuples.source[row]);
        let identity = (Arc::clone(source), work.tuples.seq[row]);
        let ts = work.tuples.ts[row];
        assert!(
            (work.id.window..work.window_end).contains(&ts),
            "{identity:?} at {ts} is in the wrong window: {:?}",
            work.id
        );
        let judged_by = judged[&identity];
        assert!(
            judged_by.is_none_or(|before| work.window_end > before) || replayed.contains(&identity),
            "{identity:?} is counted although its window was final"
        );
    }
}

/// A tuple is late only by what was final when its slice was opened.
pub fn check_lateness(plan: &CommitPlan, judged: &Judged) {
    for outcome in &plan.outcomes {
        if let (OutcomeKind::Late, Some(tuple)) = (outcome.kind, &outcome.tuple) {
            let judged_by = judged[&(Arc::clone(&outcome.source), outcome.seq)];
            assert!(
                Some(tuple.window + WINDOW_MS) <= judged_by,
                "late by {judged_by:?}: {outcome:?}"
            );
        }
    }
}

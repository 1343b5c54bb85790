//! The serial oracle: what must stand in the database at rest, computed from what was published.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use windlass_dispatcher::plan::OutcomeKind;
use windlass_functions::partial::Partial;

use super::database::WINDOW_MS;
use super::schedule::{Content, POISON, POISON_UNTIL_HEALED, Row};
use super::settings::Regime;
use super::world::World;

type Identity = (Arc<str>, u64);

/// All that was published of one tuple on its home queue, in order.
#[derive(Default)]
struct Copies {
    rows: Vec<Row>,
    replayed: bool,
}

/// Compares the database with what was published.
pub fn check(world: &World) {
    let tuples = published(world);
    let mut expected: BTreeMap<(u32, i64, Arc<str>), Partial> = BTreeMap::new();
    for (identity, copies) in &tuples {
        let settled = world.database.is_settled(&identity.0, identity.1);
        assert!(settled, "{identity:?} was published and is not settled");
        if let Some(content) = settled_as(world, identity, copies) {
            let home = world.database.sources[&identity.0].home;
            let window = content.ts.div_euclid(WINDOW_MS) * WINDOW_MS;
            let id = (home, window, Arc::clone(&content.key));
            let partial = expected.entry(id).or_insert(Partial::EMPTY);
            partial.add(content.amount);
        }
    }
    let results: BTreeMap<_, _> = (world.database.results.iter())
        .map(|(id, (partial, _))| (id.clone(), *partial))
        .collect();
    for (id, partial) in &expected {
        assert_eq!(results.get(id), Some(partial), "row {id:?}");
    }
    assert_eq!(
        results.len(),
        expected.len(),
        "rows of nothing that was published"
    );
    check_ledger(world, &tuples);
    check_totals(world);
    check_copies(world);
    check_event_time(world, &tuples);
}

fn published(world: &World) -> BTreeMap<Identity, Copies> {
    let mut tuples: BTreeMap<Identity, Copies> = BTreeMap::new();
    for publish in world.broker.messages() {
        for row in &publish.rows {
            let Some(identity) = &row.identity else {
                continue;
            };
            if world.database.home(&identity.0) == Some(publish.shard) {
                let copies = tuples.entry(identity.clone()).or_default();
                copies.rows.push(row.clone());
                copies.replayed |= publish.replay;
            }
        }
    }
    tuples
}

/// With which content a tuple is counted; `None` if it is late or quarantined.
fn settled_as<'a>(world: &World, identity: &Identity, copies: &'a Copies) -> Option<&'a Content> {
    let first = copies.rows.first().and_then(|row| row.content.as_ref());
    let in_order = !world.run.faults.perturb && !copies.replayed;
    if let Some(outcome) = world.database.outcomes.get(identity) {
        assert!(
            !world.must_count.contains(identity),
            "{identity:?} was replayed, and is still {outcome:?}"
        );
        let poison = |content: &Content| [POISON, POISON_UNTIL_HEALED].contains(&content.amount);
        let may_fail = |row: &Row| row.content.as_ref().is_none_or(poison);
        if outcome.kind == OutcomeKind::Quarantined {
            let fails = copies.rows.iter().any(may_fail);
            assert!(fails, "quarantined for no reason: {outcome:?}");
            assert!(
                !in_order || may_fail(&copies.rows[0]),
                "the first copy was good"
            );
        }
        return None;
    }
    // Contents of one tuple differ in their keys, and all keys but the first copy's are unique.
    let mut contents: Vec<&Content> = Vec::new();
    for content in copies.rows.iter().filter_map(|row| row.content.as_ref()) {
        if !contents.contains(&content) {
            contents.push(content);
        }
    }
    let (home, results) = (
        world.database.sources[&identity.0].home,
        &world.database.results,
    );
    let is_counted = |content: &&&Content| {
        let window = content.ts.div_euclid(WINDOW_MS) * WINDOW_MS;
        results.contains_key(&(home, window, Arc::clone(&content.key)))
    };
    let others = || {
        contents
            .iter()
            .filter(|content| content.key.starts_with("other-"))
    };
    let counted: Vec<&&Content> = others().filter(is_counted).collect();
    assert!(
        counted.len() <= 1,
        "{identity:?} is counted as all of {counted:?}"
    );
    let common = contents
        .iter()
        .find(|content| !content.key.starts_with("other-"));
    let content = counted.first().copied().or(common);
    let content = *content.unwrap_or_else(|| panic!("{identity:?} is counted, but as what?"));
    if in_order {
        assert_eq!(Some(content), first, "{identity:?}: the first copy wins");
    }
    Some(content)
}

fn check_ledger(world: &World, tuples: &BTreeMap<Identity, Copies>) {
    for (name, row) in &world.database.sources {
        let seen = tuples.keys().filter(|(source, _)| source == name).count() as i64;
        assert_eq!(
            seen,
            row.counted + row.late + row.quarantined,
            "audit of {name}"
        );
        let of = |kind| {
            let outcomes = world.database.outcomes.values();
            outcomes
                .filter(|outcome| outcome.source == *name && outcome.kind == kind)
                .count() as i64
        };
        assert_eq!(row.late, of(OutcomeKind::Late), "late of {name}");
        assert_eq!(
            row.quarantined,
            of(OutcomeKind::Quarantined),
            "quarantined of {name}"
        );
    }
}

fn check_totals(world: &World) {
    let mut totals: BTreeMap<(u32, Arc<str>), Partial> = BTreeMap::new();
    for ((shard, _, key), (partial, _)) in &world.database.results {
        let total = totals.entry((*shard, Arc::clone(key)));
        total.or_insert(Partial::EMPTY).merge(partial);
    }
    assert_eq!(totals, world.database.totals, "totals");
}

/// What is not counted can be looked at, and replayed.
fn check_copies(world: &World) {
    let copies: BTreeSet<&str> = (world.quarantine.copies.iter())
        .map(|copy| copy.id.as_str())
        .collect();
    for outcome in world.database.outcomes.values() {
        assert!(
            copies.contains(outcome.quarantine_id.as_str()),
            "no copy is left in quarantine: {outcome:?}"
        );
    }
}

/// How far the watermark and `final_before` of a shard may have come.
#[derive(Clone, Copy, Default)]
struct Bound {
    watermark: Option<i64>,
    final_before: Option<i64>,
}

/// Nothing becomes late, and no row gains a revision, that would not in a run without any fault.
fn check_event_time(world: &World, tuples: &BTreeMap<Identity, Copies>) {
    if world.run.regime == Regime::Wild {
        return;
    }
    let bounds = bounds(world);
    let bound = |identity: &Identity| bounds.get(identity).copied().unwrap_or_default();
    let clean = world.run.regime == Regime::Clean;
    for (identity, outcome) in &world.database.outcomes {
        if let (OutcomeKind::Late, Some(tuple)) = (outcome.kind, &outcome.tuple)
            && !tuples[identity].replayed
        {
            assert!(!clean, "{identity:?} is late in a clean run");
            assert!(
                Some(tuple.window + WINDOW_MS) <= bound(identity).final_before,
                "{identity:?} became late by a fault"
            );
        }
    }
    let mut revisable: BTreeSet<(u32, i64, Arc<str>)> = BTreeSet::new();
    for (identity, copies) in tuples {
        let home = world.database.sources[&identity.0].home;
        for content in copies.rows.iter().filter_map(|row| row.content.as_ref()) {
            let window = content.ts.div_euclid(WINDOW_MS) * WINDOW_MS;
            let closed = Some(window + WINDOW_MS) <= bound(identity).watermark;
            if copies.replayed || (!clean && closed) {
                revisable.insert((home, window, Arc::clone(&content.key)));
            }
        }
    }
    for (id, (_, revision)) in &world.database.results {
        let is_fine = *revision == 0 || revisable.contains(id);
        assert!(is_fine, "row {id:?} gained revision {revision} by a fault");
    }
}

/// For each tuple, how far event time may have come when it was first published: as far as the
/// messages before it on its queue brought it, or those on other queues that its own follows.
fn bounds(world: &World) -> BTreeMap<Identity, Bound> {
    let times = &world.run.settings.times;
    let mut spoken: Vec<BTreeMap<&str, i64>> = vec![BTreeMap::new(); world.run.shards as usize];
    let mut now = Bound::default();
    let mut bounds = BTreeMap::new();
    let mut reached = vec![None; world.run.shards as usize];
    for publish in world.broker.messages().filter(|publish| !publish.replay) {
        let here = publish.shard as usize;
        for row in &publish.rows {
            if let Some((source, seq)) = &row.identity
                && row.content.is_some()
                && world.database.home(source) == Some(publish.shard)
            {
                now.watermark = reached.iter().copied().max().flatten();
                now.final_before = now.watermark.map(|at: i64| at - times.allowed_lateness_ms);
                bounds.entry((Arc::clone(source), *seq)).or_insert(now);
            }
        }
        for row in &publish.rows {
            if let (Some((source, _)), Some(content)) = (&row.identity, &row.content)
                && world.database.home(source) == Some(publish.shard)
            {
                let max_ts = spoken[here].entry(source).or_insert(content.ts);
                *max_ts = content.ts.max(*max_ts);
            }
        }
        let top = spoken[here].values().max().copied().unwrap_or(i64::MIN);
        let waited_for = spoken[here]
            .values()
            .filter(|&&ts| ts >= top.saturating_sub(times.max_skew_ms));
        let position = waited_for.min().map(|ts| ts - times.delay_ms);
        reached[here] = reached[here].max(position);
    }
    bounds
}

//! Someone who takes tuples out of quarantine and publishes them again, as they are or corrected.

use std::sync::Arc;

use windlass_dispatcher::broker::QuarantineMessage;
use windlass_functions::decode;
use windlass_functions::tuple::{Dictionaries, Tuples};

use super::schedule::{BASE_MS, Content, POISON, POISON_UNTIL_HEALED, Publish, Row, good};
use super::world::{Event, World};

/// Replays one tuple, perhaps, and comes again.
pub fn replay(world: &mut World) {
    let patient = world.dice.chance(0.7);
    let found = if patient {
        settled_copy(world)
    } else {
        any_copy(world)
    };
    if let Some(place) = found {
        let copy = world.quarantine.copies.swap_remove(place);
        publish_again(world, copy, patient);
    }
    let at_ms = world.now + world.dice.range(200, 1_500);
    if at_ms < world.run.publish_ms + 3_000 {
        world.at(at_ms, Event::Replay);
    }
}

/// The copy of a tuple whose outcome is in the database.
fn settled_copy(world: &mut World) -> Option<usize> {
    let outcomes = &world.database.outcomes;
    if outcomes.is_empty() {
        return None;
    }
    let nth = world.dice.range(0, outcomes.len() as u64 - 1) as usize;
    let id = &outcomes.values().nth(nth)?.quarantine_id;
    world
        .quarantine
        .copies
        .iter()
        .position(|copy| copy.id == *id)
}

/// Any copy of one tuple: its outcome may not be committed, or never be. Misrouted ones may be of many.
fn any_copy(world: &mut World) -> Option<usize> {
    let copies = &world.quarantine.copies;
    let places: Vec<usize> = (0..copies.len())
        .filter(|&place| copies[place].identity.is_some() && copies[place].outcome != "misrouted")
        .collect();
    (!places.is_empty()).then(|| world.dice.pick(&places))
}

fn publish_again(world: &mut World, copy: QuarantineMessage, patient: bool) {
    let Some((source, seq)) = copy.identity.clone() else {
        return;
    };
    let source: Arc<str> = source.into();
    let row = match (content(world, &copy), world.dice.chance(0.6)) {
        (Some(content), _) => Row {
            text: String::from_utf8_lossy(&copy.body).into_owned(),
            ..good(&source, seq, content)
        },
        (None, true) => {
            let back_ms = world.dice.range(0, 5_000) as i64;
            let corrected = Content {
                ts: BASE_MS + world.now as i64 - back_ms,
                key: format!("other-{source}-{seq}-{}", world.dice.range(0, u64::MAX)).into(),
                amount: world.dice.range(0, 1_000) as i64,
            };
            good(&source, seq, corrected)
        }
        (None, false) => Row {
            identity: Some((Arc::clone(&source), seq)),
            content: None,
            text: String::from_utf8_lossy(&copy.body).into_owned(),
        },
    };
    let home = world.database.home(&source);
    let countable = row
        .content
        .as_ref()
        .is_some_and(|content| ![POISON, POISON_UNTIL_HEALED].contains(&content.amount));
    if patient && countable {
        world.must_count.insert((source, seq));
    }
    let rows = if world.dice.chance(0.1) {
        vec![row.clone(), row]
    } else {
        vec![row]
    };
    let shard = home.unwrap_or(copy.shard);
    let mut publish = Publish::of(world.now, shard, rows, &mut world.dice);
    publish.replay = true;
    if world.dice.chance(0.2) {
        let again_ms = world.now + world.dice.range(0, 300);
        world.publish(Publish {
            at_ms: again_ms,
            ..publish.clone()
        });
    }
    if world.run.shards > 1 && world.dice.chance(0.1) {
        let shard = (publish.shard + 1) % world.run.shards;
        world.publish(Publish {
            shard,
            ..publish.clone()
        });
    }
    world.publish(publish);
}

/// What a copy says, if it can be counted as it is.
fn content(world: &World, copy: &QuarantineMessage) -> Option<Content> {
    let (mut dictionaries, mut tuples) = (Dictionaries::default(), Tuples::default());
    let bad = decode::decode(
        &world.stream,
        BASE_MS + world.now as i64,
        Some(decode::JSON),
        &copy.body,
        &mut dictionaries,
        &mut tuples,
    );
    if !bad.is_ok_and(|bad| bad.is_empty()) || tuples.is_empty() {
        return None;
    }
    Some(Content {
        ts: tuples.ts[0],
        key: Arc::clone(dictionaries.keys.text(tuples.key[0])),
        amount: tuples.amount[0],
    })
}

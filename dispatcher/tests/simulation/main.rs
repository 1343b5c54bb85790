//! Seeded runs of the shard's state machine against a simulated broker, database, workers and
//! owners, compared with a serial oracle.
//!
//! Each seed chooses its own settings, producers and faults. A failing seed prints the command
//! that replays it with a trace of every event; `WINDLASS_SEEDS=a..b` runs other seeds.

mod broker;
mod database;
mod dice;
mod oracle;
mod owner;
mod perform;
mod replays;
mod schedule;
mod seat;
mod settings;
mod workers;
mod world;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use settings::Run;
use world::World;

const SEEDS: Range<u64> = 0..2_000;

/// So many failures tell enough.
const MOST_FAILURES: usize = 10;

fn run(seed: u64, trace: bool) {
    let run = Run::new(seed);
    if trace {
        println!("{run:#?}");
    }
    let mut world = World::new(run, trace);
    world.run();
    oracle::check(&world);
}

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("WINDLASS_SEEDS") else {
        return SEEDS;
    };
    let bounds = text.split_once("..");
    let parsed = bounds.and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    parsed.unwrap_or_else(|| panic!("WINDLASS_SEEDS is {text:?}; expected a range such as 0..2000"))
}

#[test]
fn every_tuple_is_settled_once_whatever_dies_in_between() {
    if let Ok(seed) = std::env::var("WINDLASS_SEED") {
        let seed = seed.parse().expect("WINDLASS_SEED is a number");
        return run(seed, true);
    }
    let seeds = seeds();
    let next = AtomicU64::new(seeds.start);
    let failed = std::thread::scope(|scope| {
        let work = || {
            let mut failed = Vec::new();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= seeds.end || failed.len() >= MOST_FAILURES {
                    return failed;
                }
                if catch_unwind(AssertUnwindSafe(|| run(seed, false))).is_err() {
                    eprintln!(
                        "replay: WINDLASS_SEED={seed} cargo test -p windlass-dispatcher --test simulation -- --nocapture"
                    );
                    failed.push(seed);
                }
            }
        };
        let threads = [scope.spawn(work), scope.spawn(work)];
        let joined = threads.map(|thread| thread.join().expect("failures are caught"));
        joined.concat()
    });
    assert!(
        failed.is_empty(),
        "{} seeds failed: {failed:?}",
        failed.len()
    );
}

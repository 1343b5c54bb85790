//! Single rules of the shard's state machine, one by one.

mod bench;

use std::collections::BTreeSet;
use std::sync::Arc;

use bench::{BASE_MS, Bench, settings};
use windlass_dispatcher::plan::{CommitPlan, Loaded, OutcomeKind, Reached, SourceRecord};
use windlass_dispatcher::shard::Settings;
use windlass_functions::ledger::MAX_RAGGED_BLOCKS;

fn starts(bench: &Bench) -> Vec<i64> {
    let windows = bench.works.iter().map(|work| work.id.window - BASE_MS);
    windows.collect()
}

#[test]
fn a_slice_is_cut_when_the_watermark_passes_the_end_of_a_window_it_touches() {
    let mut bench = Bench::new(settings());
    bench.now_ms = 100;
    bench.deliver(&[("a", 1, 100)]);
    bench.deliver(&[("a", 2, 1_400)]);
    assert_eq!(starts(&bench), [0; 0], "the watermark is at 900");
    bench.deliver(&[("a", 3, 1_500)]);
    assert_eq!(starts(&bench), [0, 1_000], "a batch for each window");
}

#[test]
fn closing_windows_cuts_every_20_ms_at_most_while_deliveries_wait() {
    let mut bench = Bench::new(settings());
    bench.now_ms = 10;
    bench.deliver_amid_others(&[("a", 1, 100)]);
    bench.deliver_amid_others(&[("a", 2, 1_500)]);
    assert_eq!(starts(&bench), [0; 0], "the shard was opened 10 ms ago");
    bench.now_ms = 20;
    bench.deliver_amid_others(&[("a", 3, 1_500)]);
    assert_eq!(starts(&bench), [0, 1_000]);
}

#[test]
fn a_slice_is_cut_when_its_first_delivery_is_a_second_old() {
    let mut bench = Bench::new(settings());
    bench.deliver(&[("a", 1, 100)]);
    assert_eq!(bench.shard.next_timeout_ms(), Some(1_000));
    bench.pass(999);
    assert_eq!(starts(&bench), [0; 0]);
    bench.pass(1);
    assert_eq!(starts(&bench), [0]);
}

#[test]
fn while_four_slices_are_in_flight_the_open_one_grows() {
    let mut bench = Bench::new(settings());
    for seq in 1..=10 {
        bench.deliver(&[("a", seq, 100)]);
        bench.pass(1_000);
    }
    assert_eq!(bench.works.len(), 4);
    assert_eq!(bench.shard.next_timeout_ms(), None, "only an answer helps");
    bench.works.truncate(1);
    bench.answer_all();
    bench.commit();
    let rows: Vec<usize> = bench.works.iter().map(|work| work.rows.len()).collect();
    assert_eq!(rows, [6], "what came meanwhile goes together");
}

#[test]
fn a_duplicate_of_an_uncommitted_tuple_is_acknowledged_with_its_own_slice() {
    let mut bench = Bench::new(settings());
    bench.deliver(&[("a", 1, 100)]);
    bench.pass(1_000);
    let duplicate = bench.deliver(&[("a", 1, 100)]);
    bench.pass(1_000);
    assert_eq!(bench.works.len(), 1, "it is counted once");
    assert_eq!(bench.acks, [0; 0]);
    let plans = bench.settle();
    assert_eq!(
        plans
            .iter()
            .map(|plan| plan.tallies.duplicates)
            .sum::<u64>(),
        1
    );
    assert_eq!(bench.acks.last(), Some(&duplicate));
    assert!(bench.shard.is_drained());
}

#[test]
fn a_tag_is_acknowledged_only_when_its_commit_is_durable() {
    let mut bench = Bench::new(settings());
    let tag = bench.deliver(&[("a", 1, 100)]);
    bench.pass(1_000);
    bench.answer_all();
    assert_eq!(bench.plans.len(), 1);
    bench.shard.committed();
    bench.collect();
    assert_eq!((&bench.awaited[..], &bench.acks[..]), (&[1][..], &[][..]));
    bench.shard.durable(1);
    bench.collect();
    assert_eq!(bench.acks, [tag]);
}

/// A shard on which `a` said 10.0 s, so that everything before 7.5 s is final.
fn with_final_windows() -> Bench {
    let mut bench = Bench::new(settings());
    bench.deliver(&[("a", 1, 10_000)]);
    bench.pass(1_000);
    bench.settle();
    bench
}

#[test]
fn a_tuple_of_a_final_window_is_settled_as_late_once_its_copy_is_safe() {
    let mut bench = with_final_windows();
    bench.deliver(&[("a", 2, 6_999), ("a", 3, 7_000)]);
    bench.pass(1_000);
    bench.answer_all();
    assert!(bench.plans.is_empty(), "the copy is not confirmed");
    let (slice, copy) = bench.copies.remove(0);
    assert_eq!(
        (copy.outcome, &copy.identity),
        ("late", &Some(("a".into(), 2)))
    );
    bench.shard.quarantine_confirmed(slice);
    bench.collect();
    let plan = &bench.plans[0];
    assert_eq!(plan.outcomes[0].quarantine_id, copy.id);
    assert_eq!((plan.sources[0].counted, plan.sources[0].late), (1, 1));
    assert_eq!(
        plan.rows[0].window,
        BASE_MS + 7_000,
        "7.0 s to 8.0 s takes revisions"
    );
    assert_eq!(plan.rows[0].revision, 1);
}

#[test]
fn tuples_of_one_slice_do_not_make_one_another_late() {
    let mut bench = Bench::new(settings());
    bench.deliver_amid_others(&[("a", 1, 60_000)]);
    bench.deliver_amid_others(&[("a", 2, 100)]);
    bench.pass(1_000);
    let plans = bench.settle();
    assert_eq!(plans[0].sources[0].counted, 2);
    assert!(plans[0].rows.iter().all(|row| row.revision == 0));
}

#[test]
fn a_revision_rises_once_a_slice() {
    let mut bench = with_final_windows();
    bench.deliver(&[("a", 2, 8_000)]);
    bench.deliver(&[("a", 3, 8_100)]);
    bench.pass(1_000);
    let plans = bench.settle();
    assert_eq!(plans[0].rows.len(), 1);
    assert_eq!(
        (plans[0].rows[0].partial.count, plans[0].rows[0].revision),
        (2, 1)
    );
}

/// As [`with_final_windows`], with tuple 2 of `a` settled as late.
fn with_a_late_tuple() -> Bench {
    let mut bench = with_final_windows();
    bench.deliver(&[("a", 2, 6_000)]);
    bench.pass(1_000);
    bench.settle();
    bench
}

#[test]
fn a_replay_moves_a_late_tuple_to_counted() {
    let mut bench = with_a_late_tuple();
    bench.replay(("a", 2, 6_000));
    let asked = bench.lookups.remove(0);
    assert_eq!(asked, [("a".into(), 2)]);
    let found = vec![(asked[0].clone(), OutcomeKind::Late)];
    bench.shard.outcomes_found(found, bench.now());
    bench.pass(1_000);
    let plan = &bench.settle()[0];
    assert_eq!(plan.replayed, asked);
    assert_eq!((plan.sources[0].counted, plan.sources[0].late), (1, -1));
    assert_eq!(
        (plan.rows[0].window, plan.rows[0].revision),
        (BASE_MS + 6_000, 1)
    );
}

#[test]
fn a_replay_of_what_is_counted_is_a_duplicate() {
    let mut bench = with_a_late_tuple();
    bench.replay(("a", 1, 10_000));
    bench.shard.outcomes_found(Vec::new(), bench.now());
    bench.pass(1_000);
    let plan = &bench.settle()[0];
    assert_eq!((plan.tallies.duplicates, plan.rows.len()), (1, 0));
}

#[test]
fn a_replay_that_overtakes_its_outcomes_commit_goes_back_to_quarantine() {
    let mut bench = with_final_windows();
    bench.deliver(&[("a", 2, 6_000)]);
    bench.pass(1_000);
    let (_, first) = bench.copies[0].clone();
    bench.replay(("a", 2, 6_000));
    bench.shard.outcomes_found(Vec::new(), bench.now());
    bench.pass(1_000);
    let (_, again) = bench.copies[1].clone();
    assert_eq!((again.id, again.body), (first.id, first.body));
}

#[test]
fn a_replay_does_not_hold_the_watermark_back() {
    let mut bench = Bench::new(settings());
    bench.replay(("c", 1, 3_000));
    bench.deliver(&[("a", 1, 10_000)]);
    bench.pass(1_000);
    assert_eq!(bench.settle()[0].watermark, Some(BASE_MS + 9_500));
}

#[test]
fn a_tuple_that_no_worker_digests_moves_to_quarantine() {
    let mut bench = Bench::new(settings());
    bench.deliver(&[("a", 1, 100), ("a", 2, 100)]);
    bench.pass(1_000);
    let work = bench.works.remove(0);
    bench.answer(&work, &[1]);
    assert!(bench.plans.is_empty(), "the copy is not confirmed");
    let plan = &bench.settle()[0];
    assert_eq!(
        (plan.sources[0].counted, plan.sources[0].quarantined),
        (1, 1)
    );
    assert_eq!((plan.outcomes[0].seq, plan.totals[0].1.count), (2, 1));
}

#[test]
fn when_all_sources_are_silent_the_windows_close_and_later_are_final() {
    let mut bench = Bench::new(settings());
    bench.deliver(&[("a", 1, 10_100)]);
    bench.pass(1_000);
    bench.settle();
    bench.pass(1_000);
    bench.queue_empty();
    let closed = &bench.settle()[0];
    assert_eq!(closed.watermark, Some(BASE_MS + 11_000));
    assert_eq!(closed.final_before, Some(BASE_MS + 7_600));
    assert!(!closed.sources[0].active);
    bench.pass(2_000);
    bench.queue_empty();
    let ended = &bench.settle()[0];
    assert_eq!(
        ended.final_before,
        Some(BASE_MS + 11_000),
        "committed without data"
    );
}

#[test]
fn a_shard_with_no_active_source_follows_the_others() {
    let mut bench = Bench::new(settings());
    let reached = Reached {
        watermark: Some(BASE_MS + 5_000),
        final_before: Some(BASE_MS + 3_000),
    };
    bench.shard.others_reached(reached, bench.now());
    assert!(
        bench.settle().is_empty(),
        "it has not waited for its own sources"
    );
    bench.pass(2_000);
    bench.queue_empty();
    bench.shard.others_reached(reached, bench.now());
    bench.collect();
    let plans = bench.settle();
    assert_eq!(plans[0].final_before, reached.final_before);
    assert!(bench.acks.is_empty());
}

fn known(source: &str, shard: u32, active: bool) -> SourceRecord {
    SourceRecord {
        source: Arc::from(source),
        shard,
        active,
        max_ts: Some(BASE_MS + 1_000),
        low: 2,
        blocks: Vec::new(),
    }
}

#[test]
fn a_tuple_on_the_wrong_shard_is_quarantined_and_never_settled() {
    let mut bench = Bench::new(settings());
    bench.records = vec![known("a", 1, true)];
    let tag = bench.deliver(&[("a", 2, 100), ("b", 1, 100)]);
    bench.pass(1_000);
    assert_eq!(bench.copies[0].1.outcome, "misrouted");
    let plan: CommitPlan = bench.settle().remove(0);
    let touched: Vec<&str> = plan.sources.iter().map(|delta| &*delta.source).collect();
    assert_eq!((touched, plan.tallies.misrouted), (vec!["b"], 1));
    assert_eq!(bench.acks, [tag]);
}

#[test]
fn misrouted_tuples_are_copied_source_by_source_so_that_a_replay_finds_their_shards() {
    let mut bench = Bench::new(settings());
    bench.records = vec![known("a", 1, true), known("c", 2, true)];
    bench.deliver(&[
        ("c", 7, 100),
        ("a", 2, 100),
        ("b", 1, 100),
        ("a", 4, 300),
        ("a", 5, 400),
    ]);
    bench.deliver(&[("a", 6, 500)]);
    bench.pass(1_000);
    let copies: Vec<_> = bench.copies.drain(..).map(|(_, copy)| copy).collect();
    let identities: Vec<_> = copies.iter().map(|copy| copy.identity.clone()).collect();
    let of = |source: &str, seq| Some((source.to_owned(), seq));
    assert_eq!(identities, [of("a", 2), of("c", 7), of("a", 6)]);
    let names: BTreeSet<&String> = copies.iter().map(|copy| &copy.id).collect();
    assert_eq!(names.len(), 3);
    assert!(
        copies[0]
            .reason
            .starts_with("source \"a\" belongs to shard 1")
    );

    // Where a replay takes the first of them.
    let mut home = Bench::new(settings());
    assert_eq!(copies[0].content_type.as_deref(), Some("application/json"));
    home.deliver_body(&String::from_utf8_lossy(&copies[0].body), None);
    home.pass(1_000);
    let plan: CommitPlan = home.settle().remove(0);
    assert_eq!(plan.sources.len(), 1);
    assert_eq!(
        (&*plan.sources[0].source, plan.sources[0].counted),
        ("a", 3)
    );
}

/// A hundred sources, an order each, and the queue never empty.
fn a_source_an_order(settings: Settings) -> Bench {
    let mut bench = Bench::new(settings);
    for n in 0..100 {
        let source = format!("s{n}");
        bench.deliver_amid_others(&[(&source, 1, 100 + n)]);
        bench.pass(1_000);
        bench.settle();
    }
    bench
}

#[test]
fn a_source_an_order_does_not_fill_the_memory() {
    let mut bench = a_source_an_order(Settings {
        max_sources: 10,
        ..settings()
    });
    let held = bench.shard.figures().sources;
    assert!(held <= 12, "{held} sources are held");
    bench.deliver(&[("s99", 1, 100)]);
    bench.pass(1_000);
    assert_eq!(bench.settle()[0].tallies.duplicates, 1, "still known");
    assert_eq!(a_source_an_order(settings()).shard.figures().sources, 100);
}

#[test]
fn an_idle_source_is_forgotten_although_the_queue_is_never_empty_again() {
    let mut bench = Bench::new(Settings {
        source_ttl_ms: 60_000,
        ..settings()
    });
    bench.deliver(&[("a", 1, 100), ("b", 1, 100)]);
    bench.pass(2_000);
    bench.queue_empty();
    bench.settle();
    for seq in 2..80 {
        bench.deliver_amid_others(&[("b", seq, 100)]);
        bench.pass(1_000);
        bench.settle();
    }
    assert_eq!(bench.shard.figures().sources, 1);
}

#[test]
fn sources_are_charged_to_the_budget_while_a_slice_touches_them() {
    let mut bench = Bench::new(settings());
    let names: Vec<String> = (0..50).map(|n| format!("s{n}")).collect();
    let rows: Vec<(&str, u64, i64)> = names.iter().map(|name| (&name[..], 1, 100)).collect();
    bench.deliver(&rows);
    let held = bench.shard.figures().bytes_held;
    assert!(held >= 50 * 512, "{held} bytes are held");
    bench.pass(1_000);
    bench.settle();
    assert_eq!(bench.shard.figures().bytes_held, 0);
}

#[test]
fn a_copy_keeps_its_name_when_the_message_comes_again_and_shares_it_with_no_other_body() {
    let names = |epoch: u64| {
        let loaded = Loaded {
            epoch,
            ..Loaded::default()
        };
        let mut bench = Bench::load(settings(), loaded);
        for _ in 0..epoch {
            // So that its place in the slice differs.
            bench.deliver_body("something else", None);
        }
        bench.pass(1_000);
        bench.copies.clear();
        for (body, id) in [
            ("{", None),
            ("{", Some("m")),
            ("[", Some("m")),
            ("[3, 4]", None),
        ] {
            bench.deliver_body(body, id);
        }
        bench.pass(1_000);
        let copies = bench.copies.iter();
        copies.map(|(_, copy)| copy.id.clone()).collect::<Vec<_>>()
    };
    let (once, again) = (names(1), names(2));
    assert_eq!(once, again);
    let distinct: BTreeSet<&String> = once.iter().collect();
    assert_eq!((once.len(), distinct.len()), (5, 5), "{once:?}");

    let mut bench = Bench::new(settings());
    bench.deliver_body("[", Some(&once[2]));
    bench.pass(1_000);
    assert_eq!(bench.copies[0].1.id, once[2], "a copy that was replayed");
}

#[test]
fn seqs_that_are_no_numbering_go_to_quarantine_unsettled_once_the_ledger_is_full() {
    let mut bench = Bench::new(settings());
    let most = MAX_RAGGED_BLOCKS as u64;
    let seq = |n: u64| 1_700_000_000_000_000_000 + n * 1_000_000;
    let rows = |ns: std::ops::Range<u64>| ns.map(|n| ("a", seq(n), 100)).collect::<Vec<_>>();
    bench.deliver(&rows(0..most + 2));
    bench.deliver(&[("b", 1, 100)]);
    bench.pass(1_000);
    let reason = &bench.copies[0].1.reason;
    assert!(reason.starts_with("seq is not gap-free"), "{reason}");
    let bodies: Vec<_> = bench.copies.iter().map(|(_, copy)| &copy.body).collect();
    assert_eq!(bodies.len(), 2);
    assert!(String::from_utf8_lossy(bodies[1]).contains(&seq(most + 1).to_string()));
    let plan = &bench.settle()[0];
    let of = |name: &str| plan.sources.iter().find(|delta| &*delta.source == name);
    let (a, b) = (of("a").expect("a"), of("b").expect("b"));
    assert_eq!((a.counted, a.late, a.quarantined), (most as i64, 0, 0));
    assert_eq!((a.blocks.len() as u64, b.counted), (most, 1));
    assert_eq!((plan.tallies.undecodable, plan.outcomes.len()), (2, 0));
    assert!(bench.shard.is_drained());
}

#[test]
fn a_source_heard_through_duplicates_alone_is_waited_for_after_a_takeover() {
    let mut bench = Bench::new(settings());
    bench.records = vec![known("a", 0, false)];
    bench.deliver(&[("a", 1, 1_000)]);
    bench.pass(1_000);
    let plan = &bench.settle()[0];
    assert!(plan.sources[0].active);
}

#[test]
fn after_a_takeover_nothing_closes_until_returned_tuples_have_come_again() {
    let loaded = Loaded {
        epoch: 2,
        watermark: Some(BASE_MS + 500),
        final_before: Some(BASE_MS - 1_500),
        active_sources: vec![known("a", 0, true), known("b", 0, true)],
        ..Loaded::default()
    };
    let mut bench = Bench::load(settings(), loaded);
    bench.deliver(&[("a", 2, 5_000)]);
    bench.pass(1_000);
    let plan = &bench.settle()[0];
    assert_eq!(plan.watermark, Some(BASE_MS + 500), "b has not spoken yet");
    bench.deliver(&[("b", 2, 5_100)]);
    bench.pass(1_000);
    assert_eq!(bench.settle()[0].watermark, Some(BASE_MS + 4_500));
}

/// A shard as an earlier owner left it, with a window open and a source that spoke.
fn left_open() -> Bench {
    let loaded = Loaded {
        epoch: 2,
        watermark: Some(BASE_MS + 500),
        final_before: Some(BASE_MS - 1_500),
        open_ends: vec![BASE_MS + 1_000],
        last_end: Some(BASE_MS + 1_000),
        active_sources: vec![known("a", 0, true)],
        ..Loaded::default()
    };
    Bench::load(settings(), loaded)
}

#[test]
fn windows_left_open_by_an_earlier_owner_close_in_silence() {
    let mut bench = left_open();
    bench.shard.earlier_consumers_gone();
    bench.pass(2_000);
    bench.queue_empty();
    assert_eq!(bench.settle()[0].watermark, Some(BASE_MS + 1_000));
}

#[test]
fn a_queue_that_looks_empty_is_no_silence_while_an_earlier_consumer_may_hold_deliveries() {
    let mut bench = left_open();
    bench.pass(20_000);
    bench.queue_empty();
    let reached = Reached {
        watermark: Some(BASE_MS + 5_000),
        final_before: Some(BASE_MS + 3_000),
    };
    bench.shard.others_reached(reached, bench.now());
    bench.collect();
    assert!(bench.settle().is_empty(), "the queue proves nothing yet");
    bench.shard.earlier_consumers_gone();
    bench.queue_empty();
    assert_eq!(bench.settle()[0].watermark, Some(BASE_MS + 1_000));
}

#[test]
fn a_first_delivery_shows_that_earlier_consumers_are_gone() {
    let mut bench = left_open();
    bench.pass(20_000);
    bench.deliver(&[("a", 2, 700)]);
    bench.queue_empty();
    bench.pass(1_000);
    assert_eq!(bench.settle()[0].watermark, Some(BASE_MS + 500), "a spoke");
    bench.pass(1_000);
    bench.queue_empty();
    assert_eq!(bench.settle()[0].watermark, Some(BASE_MS + 1_000));
}

#[test]
fn a_source_is_claimed_by_the_first_slice_that_holds_it() {
    let mut bench = Bench::new(settings());
    for seq in 1..=2 {
        bench.deliver(&[("a", seq, 100)]);
        bench.pass(1_000);
    }
    let plans = bench.settle();
    let claims: Vec<bool> = plans.iter().map(|plan| plan.sources[0].new).collect();
    assert_eq!(claims, [true, false]);
}

#[test]
fn a_drain_takes_no_more_and_finishes_what_was_taken() {
    let mut bench = Bench::new(settings());
    let tag = bench.deliver(&[("a", 1, 100)]);
    bench.shard.drain(bench.now());
    bench.collect();
    assert!(!bench.shard.wants_deliveries());
    assert!(!bench.shard.is_drained());
    bench.settle();
    assert_eq!(bench.acks, [tag]);
    assert!(bench.shard.is_drained());
}

#[test]
fn a_full_budget_stops_intake_until_a_commit() {
    let mut bench = Bench::new(Settings {
        budget_bytes: 200,
        ..settings()
    });
    let rows: Vec<(&str, u64, i64)> = (1..=10).map(|seq| ("a", seq, 100)).collect();
    bench.deliver(&rows);
    assert!(!bench.shard.wants_deliveries());
    assert_eq!(
        bench.works.len(),
        1,
        "what fills its share of the budget is cut"
    );
    bench.settle();
    assert!(bench.shard.wants_deliveries());
    assert_eq!(bench.shard.figures().bytes_held, 0);
}

#[test]
fn a_shard_that_waits_for_a_lookup_asks_for_no_alarm() {
    let mut bench = with_a_late_tuple();
    bench.replay(("a", 2, 6_000));
    bench.now_ms += 10_000;
    assert_eq!(bench.shard.next_timeout_ms(), None);
    assert!(!bench.shard.is_drained());
    assert!(!bench.shard.wants_deliveries());
}

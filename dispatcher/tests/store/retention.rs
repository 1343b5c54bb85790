//! Retention removes final rows only, and what comes back to them counts in the totals only.

use std::time::Duration;

use windlass_dispatcher::placement::{Phases, Place, Ran, Reason};
use windlass_dispatcher::plan::{Logged, Outcome, OutcomeKind, OutcomeTuple};
use windlass_dispatcher::store::{Old, OutcomeFilter, RunEnd, Store};
use windlass_functions::stream::Stream;

use crate::backend::{Backend, T0, databases, plan, source, with_row};
use crate::scaler::row as decision;

databases! {
    every: [
        old_final_rows_go_and_the_totals_stay,
        nothing_goes_before_every_shard_says_that_it_is_final,
        many_rows_go_in_portions,
        a_replay_below_the_bound_changes_the_totals_only,
        outcomes_of_rows_that_are_kept_are_kept,
        old_runs_go_with_their_manifests,
        old_placements_and_decisions_go,
    ],
    servers: []
}

const DAY: Duration = Duration::from_secs(86_400);
const ROWS: &str =
    "SELECT window_start, item_key, orders FROM results ORDER BY window_start, item_key";

async fn old_placements_and_decisions_go(backend: &Backend) {
    let store = backend.store(1).await;
    let (mut owner, at) = backend.owner(&store, 0).await;
    let mut first = with_row(plan(0, &at), T0, "Hunan", &[100], 0);
    first.log = vec![Logged {
        slice: 1,
        window: T0,
        chunk: 0,
        ran: Ran {
            part: 0,
            attempt: 1,
            place: Place::Job,
            reason: Reason::Overflow,
            tuples: 1,
            waited_ms: 500,
            phases: Phases::default(),
        },
    }];
    owner.commit(&first).await.unwrap();
    // Committed just now, by the database's clock.
    assert_eq!(remove(&store, Old::Placements, DAY).await, 0);
    assert_eq!(remove(&store, Old::Placements, Duration::ZERO).await, 1);
    assert_eq!(backend.sql("SELECT COUNT(*) FROM commit_log").await, ["0"]);

    assert_eq!(
        remove(&store, Old::Decisions, DAY).await,
        0,
        "no scaler ran"
    );
    let mut journal = store.journal(&Stream::default());
    journal.decided(&decision(1), None).await.unwrap();
    assert_eq!(remove(&store, Old::Decisions, DAY * 365_000).await, 0);
    assert_eq!(remove(&store, Old::Decisions, DAY).await, 1);
}

async fn remove(store: &Store, what: Old, keep: Duration) -> u64 {
    store
        .remove_old(&Stream::default(), what, keep)
        .await
        .unwrap()
}

async fn bound(store: &Store) -> Option<i64> {
    store.retained_from(&Stream::default()).await.unwrap()
}

async fn old_final_rows_go_and_the_totals_stay(backend: &Backend) {
    let store = backend.store(1).await;
    let (mut owner, at) = backend.owner(&store, 0).await;
    let mut rows = with_row(plan(0, &at), T0, "Hunan", &[100], 0);
    rows = with_row(rows, T0 + 1_000, "Hubei", &[100], 0);
    rows = with_row(rows, T0 + 2_000, "Hebei", &[100], 0);
    rows.final_before = Some(T0 + 2_000);
    owner.commit(&rows).await.unwrap();

    // Older than nothing.
    assert_eq!(remove(&store, Old::Rows, DAY * 365_000).await, 0);
    let removed = remove(&store, Old::Rows, DAY).await;
    assert_eq!(removed, 2, "the third is old, too, but not final");
    assert_eq!(backend.sql(ROWS).await, ["2025-11-11 00:00:02.000|Hebei|1"]);
    assert_eq!(bound(&store).await, Some(T0 + 2_000));
    let totals = backend
        .sql("SELECT COUNT(*), SUM(orders) FROM totals")
        .await;
    assert_eq!(totals, ["3|3"]);
    // The bound never falls.
    assert_eq!(remove(&store, Old::Rows, DAY * 365_000).await, 0);
    assert_eq!(bound(&store).await, Some(T0 + 2_000));
}

async fn nothing_goes_before_every_shard_says_that_it_is_final(backend: &Backend) {
    let store = backend.store(2).await;
    let (mut owner, at) = backend.owner(&store, 0).await;
    let mut rows = with_row(plan(0, &at), T0, "Hunan", &[100], 0);
    rows.final_before = Some(T0 + 60_000);
    owner.commit(&rows).await.unwrap();
    assert_eq!(remove(&store, Old::Rows, DAY).await, 0);
    assert_eq!(bound(&store).await, None);
}

async fn many_rows_go_in_portions(backend: &Backend) {
    let store = backend.store(1).await;
    let (mut owner, at) = backend.owner(&store, 0).await;
    let mut rows = plan(0, &at);
    for window in 0..4_500 {
        rows = with_row(rows, T0 + window * 1_000, "Hunan", &[1], 0);
    }
    // One entry a key, as the plan promises.
    rows.totals.truncate(1);
    rows.final_before = Some(T0 + 4_500_000);
    owner.commit(&rows).await.unwrap();
    assert_eq!(remove(&store, Old::Rows, DAY).await, 4_500);
    assert!(backend.sql(ROWS).await.is_empty());
}

fn late(seq: u64, window: Option<i64>) -> Outcome {
    Outcome {
        source: "till-1".into(),
        seq,
        kind: OutcomeKind::Late,
        reason: "after its window was final".into(),
        quarantine_id: format!("0-1-{seq}"),
        tuple: window.map(|window| OutcomeTuple {
            ts: window,
            window,
            key: "Hunan".into(),
            amount: 5,
        }),
    }
}

async fn a_replay_below_the_bound_changes_the_totals_only(backend: &Backend) {
    let store = backend.store(1).await;
    let (mut owner, mut at) = backend.owner(&store, 0).await;
    let mut rows = with_row(plan(0, &at), T0, "Hunan", &[100], 0);
    rows = with_row(rows, T0 + 1_000, "Hubei", &[100], 0);
    let mut settled = source("till-1", true, 9);
    settled.late = 2;
    rows.sources.push(settled);
    rows.outcomes = vec![late(7, Some(T0)), late(8, Some(T0 + 1_000))];
    rows.final_before = Some(T0 + 1_000);
    owner.commit(&rows).await.unwrap();
    assert_eq!(remove(&store, Old::Rows, DAY).await, 1);

    at.commit_no += 1;
    let mut replay = with_row(plan(0, &at), T0, "Hunan", &[5], 1);
    replay = with_row(replay, T0 + 1_000, "Hubei", &[5], 1);
    let mut settled = source("till-1", false, 9);
    (settled.late, settled.counted) = (-2, 2);
    replay.sources.push(settled);
    replay.replayed = vec![("till-1".into(), 7), ("till-1".into(), 8)];
    owner.commit(&replay).await.unwrap();

    let left = ["2025-11-11 00:00:01.000|Hubei|2"];
    assert_eq!(
        backend.sql(ROWS).await,
        left,
        "what is gone does not come back"
    );
    let totals = backend.sql("SELECT SUM(orders) FROM totals").await;
    assert_eq!(totals, ["4"]);
}

async fn outcomes_of_rows_that_are_kept_are_kept(backend: &Backend) {
    let store = backend.store(1).await;
    let (mut owner, at) = backend.owner(&store, 0).await;
    let mut rows = with_row(plan(0, &at), T0, "Hunan", &[100], 0);
    rows.outcomes = vec![late(7, Some(T0)), late(8, Some(T0 + 1_000)), late(9, None)];
    rows.final_before = Some(T0 + 1_000);
    owner.commit(&rows).await.unwrap();
    remove(&store, Old::Rows, DAY).await;
    assert_eq!(
        remove(&store, Old::Outcomes, DAY).await,
        0,
        "they are young"
    );
    let mut removed = 0;
    while removed < 2 {
        // Until the database's clock has gone on.
        removed += remove(&store, Old::Outcomes, Duration::ZERO).await;
    }
    let kept = store
        .outcomes(&Stream::default(), &OutcomeFilter::default(), 10)
        .await
        .unwrap();
    let kept: Vec<u64> = kept.iter().map(|row| row.seq).collect();
    assert_eq!(kept, [8], "the audit subtracts it from a row that is kept");
}

async fn old_runs_go_with_their_manifests(backend: &Backend) {
    let store = backend.store(1).await;
    store.claim_run("orders", "old", "", "").await.unwrap();
    let end = RunEnd {
        interrupted: false,
        orders: 0,
        windows: None,
    };
    store
        .end_run("orders", "old", b"manifest", &end)
        .await
        .unwrap();
    assert_eq!(remove(&store, Old::Runs, DAY).await, 0);
    while remove(&store, Old::Runs, Duration::ZERO).await == 0 {}
    assert_eq!(store.runs("orders").await.unwrap(), []);
    let parts = backend.sql("SELECT COUNT(*) FROM datagen_manifests").await;
    assert_eq!(parts, ["0"]);
}

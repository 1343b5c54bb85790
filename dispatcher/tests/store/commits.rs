//! What a commit writes, and that it writes all or nothing, once.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, MySqlConnection};
use tokio::task::JoinHandle;
use windlass_dispatcher::placement::{Phases, Place, Ran, Reason};
use windlass_dispatcher::plan::{Logged, Outcome, OutcomeKind, OutcomeTuple, Tallies};
use windlass_dispatcher::store::{CommitError, OutcomeFilter};
use windlass_functions::stream::Stream;

use crate::backend::{Backend, Kind, T0, block, databases, losing_proxy, plan, source, with_row};
use crate::owners::fence_is_held;

databases! {
    every: [
        commits_merge_into_rows_and_totals,
        a_commit_says_where_its_invocations_ran,
        a_plan_is_committed_once,
        sums_are_exact_up_to_the_last_digit,
        whole_units_are_kept_as_hundredths,
        keys_are_distinct_when_their_bytes_are,
        a_source_claimed_by_another_shard_refuses_the_whole_commit,
        a_replay_moves_an_outcome_and_is_refused_when_it_is_gone,
        a_large_commit_is_cut_into_statements,
        the_ledger_comes_back_as_it_was_written,
        shards_that_commit_at_once_lose_nothing,
    ],
    servers: [
        a_commit_whose_answer_is_lost_is_found_done,
        a_commit_that_never_arrived_is_found_undone,
        a_commit_that_a_deadlock_undid_is_run_again,
        a_commit_that_waited_too_long_for_a_row_is_run_again,
    ]
}

const GMV: &str = "SELECT window_start, province, orders, gmv, min_amount, max_amount, revision \
                   FROM gmv_per_second ORDER BY window_start, province";

async fn commits_merge_into_rows_and_totals(backend: &Backend) {
    let store = backend.store(1).await;
    let (mut owner, mut at) = backend.owner(&store, 0).await;
    let mut first = with_row(plan(0, &at), T0, "Zhejiang", &[100, 250], 0);
    first.tallies = Tallies {
        duplicates: 1,
        redeliveries: 2,
        undecodable: 3,
        misrouted: 4,
    };
    owner.commit(&first).await.unwrap();
    at.commit_no += 1;
    let second = with_row(plan(0, &at), T0, "Zhejiang", &[-1050], 1);
    let mut second = with_row(second, T0 + 1000, "Zhejiang", &[7], 0);
    // One entry a key, as the plan promises.
    let more = second.totals.pop().unwrap().1;
    second.totals[0].1.merge(&more);
    second.tallies.duplicates = 5;
    owner.commit(&second).await.unwrap();

    let rows = match backend.kind {
        Kind::Sqlite => [
            "2025-11-11 00:00:00.000|Zhejiang|3|-7.0|-10.5|2.5|1",
            "2025-11-11 00:00:01.000|Zhejiang|1|0.07|0.07|0.07|0",
        ],
        _ => [
            "2025-11-11 00:00:00.000|Zhejiang|3|-7.00|-10.50|2.50|1",
            "2025-11-11 00:00:01.000|Zhejiang|1|0.07|0.07|0.07|0",
        ],
    };
    assert_eq!(backend.sql(GMV).await, rows);
    let total = backend
        .sql("SELECT province, orders, gmv, min_amount, max_amount FROM gmv_total")
        .await;
    let sqlite = backend.kind == Kind::Sqlite;
    assert_eq!(
        total,
        [if sqlite {
            "Zhejiang|4|-6.93|-10.5|2.5"
        } else {
            "Zhejiang|4|-6.93|-10.50|2.50"
        }]
    );
    let audit = store.audit(&Stream::default()).await.unwrap();
    assert_eq!(
        (
            audit.duplicates,
            audit.redeliveries,
            audit.undecodable,
            audit.misrouted
        ),
        (6, 2, 3, 4)
    );
}

async fn a_commit_says_where_its_invocations_ran(backend: &Backend) {
    let store = backend.store(1).await;
    let (mut owner, at) = backend.owner(&store, 0).await;
    let warm = Ran {
        part: 0,
        attempt: 1,
        place: Place::Pool,
        reason: Reason::Warm,
        tuples: 34,
        waited_ms: 2,
        phases: Phases {
            answered: Some(1),
            ..Phases::default()
        },
    };
    let overflow = Ran {
        part: 2,
        attempt: 3,
        place: Place::Job,
        reason: Reason::Overflow,
        waited_ms: 500,
        phases: Phases {
            created: Some(11),
            scheduled: None,
            started: Some(700),
            pulled: Some(20),
            answered: Some(5),
        },
        ..warm
    };
    let logged = |chunk, ran| Logged {
        slice: 7,
        window: T0,
        chunk,
        ran,
    };
    let mut first = with_row(plan(0, &at), T0, "Zhejiang", &[100], 0);
    first.log = vec![logged(0, warm), logged(1, overflow)];
    owner.commit(&first).await.unwrap();
    let log = backend
        .sql(
            "SELECT shard, epoch, commit_no, slice, window_start, chunk, part, attempt, place, reason, \
             tuples, waited_ms, created_ms, scheduled_ms, started_ms, pulled_ms, answered_ms \
             FROM commit_log ORDER BY chunk",
        )
        .await;
    let begin = format!(
        "0|{}|{}|7|2025-11-11 00:00:00.000",
        at.epoch,
        at.commit_no + 1
    );
    assert_eq!(
        log,
        [
            format!("{begin}|0|0|1|pool|warm|34|2|NULL|NULL|NULL|NULL|1"),
            format!("{begin}|1|2|3|job|overflow|34|500|11|NULL|700|20|5"),
        ]
    );
    // It stands or falls with the rows.
    assert!(owner.commit(&first).await.is_err(), "made before");
    assert_eq!(backend.sql("SELECT COUNT(*) FROM commit_log").await, ["2"]);
}

async fn a_plan_is_committed_once(backend: &Backend) {
    let store = backend.store(1).await;
    let (mut owner, at) = backend.owner(&store, 0).await;
    let plan = with_row(plan(0, &at), T0, "Hunan", &[5], 0);
    owner.commit(&plan).await.unwrap();
    let again = owner.commit(&plan).await;
    assert!(matches!(again, Err(CommitError::Superseded)), "{again:?}");
    assert_eq!(backend.sql("SELECT SUM(orders) FROM results").await, ["1"]);
}

async fn sums_are_exact_up_to_the_last_digit(backend: &Backend) {
    let store = backend.store(1).await;
    let (mut owner, mut at) = backend.owner(&store, 0).await;
    // Where DECIMAL(38,2) ends; SQLite's two integers end earlier.
    let digits = if backend.kind == Kind::Sqlite { 33 } else { 38 };
    let limit: i128 = 10_i128.pow(digits) - 1;
    let nines = "9".repeat(digits as usize - 2);
    let mut expected = Vec::new();
    for (key, sums) in [
        ("a", vec![limit - 1, 1]),
        ("b", vec![-limit + 1, -1]),
        ("c", vec![limit, -limit, -1]),
        ("d", vec![9_007_199_254_740_993, 1]),
        ("e", vec![-10_i128.pow(17), 1]),
        ("f", vec![10_i128.pow(20), -10_i128.pow(20) + 123]),
    ] {
        for &sum in &sums {
            let mut plan = with_row(plan(0, &at), T0, key, &[i64::MAX, i64::MIN], 0);
            plan.rows[0].partial.sum = sum;
            plan.totals[0].1.sum = sum;
            owner.commit(&plan).await.unwrap();
            at.commit_no += 1;
        }
        let sum: i128 = sums.iter().sum();
        expected.push((key.to_owned(), sum, i64::MIN, i64::MAX));
    }
    let mut windows = store
        .windows(&Stream::default(), i64::MIN..=i64::MAX)
        .await
        .unwrap();
    let mut found = Vec::new();
    while let Some(row) = windows.next().await.unwrap() {
        found.push((row.key, row.sum, row.min, row.max));
    }
    assert_eq!(found, expected);

    let reader =
        windlass_dispatcher::store::Reader::new(&backend.url, &[], &Stream::default()).unwrap();
    let shown = reader.gmv(&Default::default()).await.unwrap().rows;
    let shown: Vec<_> = shown.iter().map(|row| row.gmv.as_str()).collect();
    assert_eq!(
        shown,
        [
            &format!("{nines}.99"),
            &format!("-{nines}.99"),
            "-0.01",
            "90071992547409.94",
            "-999999999999999.99",
            "1.23",
        ]
    );
    let row = &reader.totals().await.unwrap().rows[0];
    assert_eq!(row.min_amount, "-92233720368547758.08");
    assert_eq!(row.max_amount, "92233720368547758.07");
}

async fn whole_units_are_kept_as_hundredths(backend: &Backend) {
    let stream = Stream {
        scale: 0,
        ..Stream::default()
    };
    let store = windlass_dispatcher::store::Store::connect(&backend.url)
        .await
        .unwrap();
    store.migrate(&stream, 1).await.unwrap();
    let mut owner = store.writer(&stream, 0, "test", crate::backend::LEASE);
    let at = owner.raise_epoch().await.unwrap();
    // The largest that decoders let through at this scale.
    let (least, most) = (i64::MIN / 100, i64::MAX / 100);
    let plan = with_row(plan(0, &at), T0, "Hunan", &[least, 7, most], 0);
    owner.commit(&plan).await.unwrap();
    let reader = windlass_dispatcher::store::Reader::new(&backend.url, &[], &stream).unwrap();
    assert_eq!(reader.totals().await.unwrap().rows[0].gmv, "7.00");
    let mut windows = store.windows(&stream, i64::MIN..=i64::MAX).await.unwrap();
    let row = windows.next().await.unwrap().unwrap();
    assert_eq!((row.sum, row.min, row.max), (7, least, most));
}

async fn keys_are_distinct_when_their_bytes_are(backend: &Backend) {
    let store = backend.store(1).await;
    let (mut owner, at) = backend.owner(&store, 0).await;
    let mut keys = vec![
        "a",
        "A",
        "a ",
        " a",
        "á",
        "a\u{301}",
        "😀",
        "😁",
        "𠀀",
        "浙江",
        "'; DROP TABLE results; --",
        "\\",
        "%",
        "a\0b",
    ];
    let mut all = plan(0, &at);
    for (i, key) in keys.iter().enumerate() {
        all = with_row(all, T0, key, &[i as i64 + 1], 0);
        let mut delta = source(key, true, 1);
        delta.counted = 1;
        all.sources.push(delta);
    }
    owner.commit(&all).await.unwrap();
    keys.sort_unstable();
    let mut windows = store
        .windows(&Stream::default(), i64::MIN..=i64::MAX)
        .await
        .unwrap();
    let mut found = Vec::new();
    while let Some(row) = windows.next().await.unwrap() {
        assert_eq!(row.orders, 1);
        found.push(row.key);
    }
    assert_eq!(found, keys);
    let names: Vec<Arc<str>> = keys.iter().map(|&key| key.into()).collect();
    let records = owner.load_sources(&names).await.unwrap();
    assert_eq!(records.len(), keys.len());
}

async fn a_source_claimed_by_another_shard_refuses_the_whole_commit(backend: &Backend) {
    let store = backend.store(2).await;
    let (mut one, at_one) = backend.owner(&store, 0).await;
    let (mut two, at_two) = backend.owner(&store, 1).await;
    let mut claim = with_row(plan(0, &at_one), T0, "Hunan", &[1], 0);
    claim.sources.push(source("till-1", true, 1));
    one.commit(&claim).await.unwrap();
    let mut same = with_row(plan(1, &at_two), T0, "Hunan", &[1], 0);
    same.sources.push(source("till-1", true, 1));
    let refused = two.commit(&same).await;
    assert!(
        matches!(refused, Err(CommitError::SourceClaimed)),
        "{refused:?}"
    );
    assert_eq!(backend.sql("SELECT SUM(orders) FROM results").await, ["1"]);
    // The connection is still good, and the source's home is known now.
    let home = two.load_sources(&["till-1".into()]).await.unwrap();
    assert_eq!(home[0].shard, 0);
    same.sources.clear();
    two.commit(&same).await.unwrap();
}

fn late(seq: u64) -> Outcome {
    Outcome {
        source: "till-1".into(),
        seq,
        kind: OutcomeKind::Late,
        reason: "its window was final".into(),
        quarantine_id: format!("q-{seq}"),
        tuple: Some(OutcomeTuple {
            ts: T0 + 5,
            window: T0,
            key: "Hunan".into(),
            amount: -125,
        }),
    }
}

async fn a_replay_moves_an_outcome_and_is_refused_when_it_is_gone(backend: &Backend) {
    let store = backend.store(1).await;
    let (mut owner, mut at) = backend.owner(&store, 0).await;
    let mut first = plan(0, &at);
    let mut delta = source("till-1", true, 0);
    delta.late = 2;
    delta.quarantined = 1;
    first.sources.push(delta);
    first.outcomes = vec![late(3), late(u64::MAX)];
    first.outcomes.push(Outcome {
        kind: OutcomeKind::Quarantined,
        reason: "é".repeat(5000),
        tuple: Some(OutcomeTuple {
            ts: i64::MAX,
            window: i64::MAX,
            key: "x".repeat(5000).into(),
            amount: 1,
        }),
        ..late(4)
    });
    owner.commit(&first).await.unwrap();
    at.commit_no += 1;
    let asked = [
        ("till-1".into(), u64::MAX),
        ("till-1".into(), 5),
        ("till-2".into(), 3),
    ];
    assert_eq!(
        owner.find_outcomes(&asked).await.unwrap(),
        [(asked[0].clone(), OutcomeKind::Late)]
    );

    let filter = OutcomeFilter {
        kind: Some(OutcomeKind::Late),
        ..OutcomeFilter::default()
    };
    let listed = store
        .outcomes(&Stream::default(), &filter, 10)
        .await
        .unwrap();
    let seqs: Vec<_> = listed.iter().map(|row| row.seq).collect();
    assert!(seqs.contains(&3) && seqs.contains(&u64::MAX) && seqs.len() == 2);
    assert_eq!((listed[0].amount, listed[0].window), (Some(-125), Some(T0)));
    let mut totals = store.outcome_totals(&Stream::default()).await.unwrap();
    let total = totals.next().await.unwrap().unwrap();
    assert_eq!((total.window, total.amount, total.tuples), (T0, -125, 2));
    assert_eq!(totals.next().await.unwrap(), None);

    let mut replay = with_row(plan(0, &at), T0, "Hunan", &[-125], 1);
    replay.replayed = vec![("till-1".into(), u64::MAX)];
    let mut delta = source("till-1", false, 0);
    delta.counted = 1;
    delta.late = -1;
    replay.sources.push(delta);
    owner.commit(&replay).await.unwrap();
    at.commit_no += 1;
    let found = &store.audit(&Stream::default()).await.unwrap().sources[0];
    assert_eq!((found.counted, found.late, found.quarantined), (1, 1, 1));

    replay.commit_no = at.commit_no;
    let gone = owner.commit(&replay).await;
    assert!(matches!(gone, Err(CommitError::ReplayGone)), "{gone:?}");
    assert_eq!(backend.sql("SELECT SUM(orders) FROM results").await, ["1"]);
    owner.commit(&plan(0, &at)).await.unwrap();
}

async fn a_large_commit_is_cut_into_statements(backend: &Backend) {
    let store = backend.store(1).await;
    let (mut owner, mut at) = backend.owner(&store, 0).await;
    for _ in 0..2 {
        let mut large = plan(0, &at);
        for i in 0..20_000 {
            large = with_row(
                large,
                T0 + i / 100 * 1000,
                &format!("key {}", i % 100),
                &[i],
                0,
            );
        }
        large.totals.clear();
        let mut delta = source("till-1", at.commit_no == 0, 0);
        delta.blocks = (0..200)
            .map(|number| (number, Some(block((0..65_536).step_by(2)))))
            .collect();
        large.sources.push(delta);
        owner.commit(&large).await.unwrap();
        at.commit_no += 1;
    }
    assert_eq!(
        backend
            .sql("SELECT COUNT(*), SUM(orders) FROM results")
            .await,
        ["20000|40000"]
    );
    let mut windows = store
        .windows(&Stream::default(), i64::MIN..=i64::MAX)
        .await
        .unwrap();
    let (mut rows, mut sum) = (0, 0);
    while let Some(row) = windows.next().await.unwrap() {
        rows += 1;
        sum += row.sum;
    }
    assert_eq!((rows, sum), (20_000, 2 * (19_999 * 20_000 / 2)));
}

async fn the_ledger_comes_back_as_it_was_written(backend: &Backend) {
    let store = backend.store(1).await;
    let (mut owner, mut at) = backend.owner(&store, 0).await;
    let mut first = plan(0, &at);
    first.watermark = Some(T0 + 1500);
    first.final_before = Some(T0 - 5000);
    let first = with_row(first, T0, "Hunan", &[1], 0);
    let mut first = with_row(first, T0 + 1000, "Hubei", &[1], 0);
    let mut delta = source("till-1", true, 7);
    delta.counted = 12;
    delta.blocks = vec![(0, Some(block([9, 10]))), (3, Some(block([1])))];
    first.sources.push(delta);
    let mut silent = source("till-2", true, u64::MAX);
    silent.active = false;
    silent.max_ts = None;
    first.sources.push(silent);
    owner.commit(&first).await.unwrap();
    at.commit_no += 1;
    let mut second = plan(0, &at);
    let mut delta = source("till-1", false, 11);
    delta.blocks = vec![(0, None), (3, Some(block([1, 2])))];
    second.sources.push(delta);
    owner.commit(&second).await.unwrap();

    let mut next = store.writer(&Stream::default(), 0, "next", crate::backend::LEASE);
    let loaded = next.raise_epoch().await.unwrap();
    assert_eq!((loaded.epoch, loaded.commit_no), (at.epoch + 1, 2));
    // A commit that says nothing of them leaves them as they were.
    assert_eq!(loaded.watermark, Some(T0 + 1500));
    assert_eq!(loaded.final_before, Some(T0 - 5000));
    assert_eq!(loaded.open_ends, [T0 + 2000]);
    assert_eq!(loaded.last_end, Some(T0 + 2000));
    assert_eq!(loaded.active_sources.len(), 1);
    let record = &loaded.active_sources[0];
    assert_eq!(
        (&*record.source, record.low, record.max_ts),
        ("till-1", 11, Some(T0))
    );
    assert_eq!(record.blocks, [(3, block([1, 2]))]);
    let silent = next
        .load_sources(&["till-2".into(), "none".into()])
        .await
        .unwrap();
    assert_eq!(silent.len(), 1);
    assert_eq!(
        (silent[0].low, silent[0].active, silent[0].max_ts),
        (u64::MAX, false, None)
    );
    let audit = store.audit(&Stream::default()).await.unwrap();
    assert_eq!(audit.sources[0].gaps, [(11, 3 << 16)]);
}

async fn shards_that_commit_at_once_lose_nothing(backend: &Backend) {
    let store = backend.store(2).await;
    let mut tasks = Vec::new();
    for shard in 0..2 {
        let (mut owner, mut at) = backend.owner(&store, shard).await;
        tasks.push(tokio::spawn(async move {
            for _ in 0..20 {
                let mut next = plan(shard, &at);
                for i in 0..20 {
                    let key = format!("key {}", if shard == 0 { i } else { 19 - i });
                    next = with_row(next, T0, &key, &[1], 0);
                }
                owner.commit(&next).await.unwrap();
                at.commit_no += 1;
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(
        backend
            .sql("SELECT COUNT(*), SUM(orders) FROM gmv_per_second")
            .await,
        ["20|800"]
    );
}

async fn a_commit_whose_answer_is_lost_is_found_done(backend: &Backend) {
    lost_commit(backend, true).await;
}

async fn a_commit_that_never_arrived_is_found_undone(backend: &Backend) {
    lost_commit(backend, false).await;
}

/// A stranger holds the row of the totals that a commit needs, which has its shard already.
async fn in_the_way(backend: &Backend) -> (MySqlConnection, JoinHandle<Result<(), CommitError>>) {
    let store = backend.store(1).await;
    let (mut owner, mut at) = backend.owner(&store, 0).await;
    let first = with_row(plan(0, &at), T0, "Hunan", &[1], 0);
    owner.commit(&first).await.unwrap();
    at.commit_no += 1;
    backend
        .sql("CREATE TABLE ballast (n INTEGER PRIMARY KEY)")
        .await;
    let mut stranger = backend.session().await;
    let numbers: Vec<String> = (0..1_000).map(|n| format!("({n})")).collect();
    // Of two in a deadlock, the server undoes the one that has changed less.
    let hold = format!(
        "BEGIN; INSERT INTO ballast VALUES {}; UPDATE totals SET orders = orders",
        numbers.join(",")
    );
    let hold = sqlx::raw_sql(AssertSqlSafe(hold));
    hold.execute(&mut stranger).await.unwrap();
    let commit = tokio::spawn(async move {
        let second = with_row(plan(0, &at), T0, "Hunan", &[2], 0);
        owner.commit(&second).await.map(drop)
    });
    while !fence_is_held(backend).await {}
    (stranger, commit)
}

async fn a_commit_that_a_deadlock_undid_is_run_again(backend: &Backend) {
    let (mut stranger, commit) = in_the_way(backend).await;
    let cross = sqlx::raw_sql("UPDATE shards SET seen_at = UTC_TIMESTAMP(3); COMMIT");
    cross
        .execute(&mut stranger)
        .await
        .expect("the commit gave way");
    commit.await.unwrap().unwrap();
    assert_eq!(backend.sql("SELECT SUM(orders) FROM results").await, ["2"]);
}

async fn a_commit_that_waited_too_long_for_a_row_is_run_again(backend: &Backend) {
    let (mut stranger, commit) = in_the_way(backend).await;
    // The server ends the wait, and with it that statement only: that the shard's row becomes free
    // shows that the whole transaction was given up.
    let mut next = backend.session().await;
    let took = sqlx::raw_sql("SELECT shard FROM shards FOR UPDATE");
    took.execute(&mut next).await.unwrap();
    let leave = sqlx::raw_sql("ROLLBACK");
    leave.execute(&mut stranger).await.unwrap();
    commit.await.unwrap().unwrap();
    assert_eq!(backend.sql("SELECT SUM(orders) FROM results").await, ["2"]);
}

async fn lost_commit(backend: &Backend, delivered: bool) {
    backend.store(1).await;
    let direct = windlass_dispatcher::store::Store::connect(&backend.url)
        .await
        .unwrap();
    let (_, at) = backend.owner(&direct, 0).await;
    let before = at.commit_no;
    let proxied = losing_proxy(backend, delivered).await;
    let proxied = windlass_dispatcher::store::Store::connect(&proxied)
        .await
        .unwrap();
    // The proxy cuts the COMMIT of the raise as well: take the epoch directly, then stay.
    let mut owner = proxied.writer(&Stream::default(), 0, "test", crate::backend::LEASE);
    assert!(owner.lease_free().await.is_ok());
    let plan = with_row(plan(0, &at), T0, "Hunan", &[5], 0);
    let lost = owner.commit(&plan).await;
    assert!(matches!(lost, Err(CommitError::Lost(_))), "{lost:?}");
    let again = owner.commit(&plan).await;
    assert!(
        matches!(again, Err(CommitError::Lost(_))),
        "the writer was used again: {again:?}"
    );

    let (mut next, found) = backend.owner(&direct, 0).await;
    assert_eq!(found.commit_no, before + u64::from(delivered));
    // The old commit can have no effect any more, whichever way it went.
    let zombie = next.commit(&plan).await;
    assert!(matches!(zombie, Err(CommitError::Superseded)), "{zombie:?}");
    let rows = backend.sql("SELECT COUNT(*) FROM results").await;
    assert_eq!(rows, [if delivered { "1" } else { "0" }]);
}

//! What the live page reads.

use std::time::Duration;

use windlass_dispatcher::store::{BoardReader, GmvQuery, Reader, Step};
use windlass_functions::stream::Stream;

use crate::backend::{Backend, T0, databases, plan, with_row};

databases! {
    every: [
        a_snapshot_is_what_the_views_say,
        longer_steps_are_sums_of_the_seconds,
        a_range_of_seconds_is_a_range_of_the_primary_key,
    ],
    servers: [
        a_dead_replica_is_skipped_and_said_so,
    ]
}

const ALL: Duration = Duration::from_secs(300);

fn reader(urls: &[&str]) -> BoardReader {
    let urls: Vec<String> = urls.iter().map(|url| (*url).to_owned()).collect();
    BoardReader::new(&urls, &Stream::default(), Duration::from_secs(3)).unwrap()
}

/// Two minutes of two provinces, one of them revised.
async fn fill(backend: &Backend) {
    let store = backend.store(1).await;
    let (mut owner, at) = backend.owner(&store, 0).await;
    let mut rows = plan(0, &at);
    for second in 0..120 {
        let start = T0 + second * 1000;
        rows = with_row(rows, start, "Hunan", &[100, 250], 0);
        rows = with_row(rows, start, "O'Hubei\\", &[1], u32::from(second == 5));
    }
    rows.watermark = Some(T0 + 119_000);
    rows.final_before = Some(T0 + 110_000);
    owner.commit(&rows).await.unwrap();
}

async fn a_snapshot_is_what_the_views_say(backend: &Backend) {
    fill(backend).await;
    let board = reader(&[&backend.url]);
    let progress = board.probe().await.unwrap();
    let snapshot = board.snapshot(ALL, None).await.unwrap();
    assert_eq!(snapshot.progress.commits, progress.commits);
    assert_eq!(snapshot.newest, Some(T0 + 119_000));
    let query = Reader::new(&backend.url, &[], &Stream::default()).unwrap();
    let all = query.gmv(&GmvQuery::default()).await.unwrap();
    assert_eq!(snapshot.windows, all.rows);
    assert_eq!(snapshot.totals, query.totals().await.unwrap().rows);
    // What was not final is enough the next time.
    let rest = board.snapshot(ALL, snapshot.final_start).await.unwrap();
    assert_eq!(rest.from, T0 + 109_000);
    assert_eq!(rest.windows.len(), 22);
}

async fn longer_steps_are_sums_of_the_seconds(backend: &Backend) {
    fill(backend).await;
    let board = reader(&[&backend.url]);
    let query = GmvQuery {
        from: Some(T0),
        to: Some(T0 + 3_600_000),
        province: Some("Hunan".into()),
        last: None,
    };
    let (minutes, _) = board.steps(&query, Step::Minute, 10).await.unwrap();
    let shown: Vec<_> = minutes
        .iter()
        .map(|row| {
            (
                row.window_start.as_str(),
                row.orders,
                row.gmv.as_str(),
                row.state.as_str(),
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("2025-11-11 00:00:00.000", 120, "210.00", "final"),
            ("2025-11-11 00:01:00.000", 120, "210.00", "open"),
        ]
    );
    let hour = GmvQuery {
        province: Some("O'Hubei\\".into()),
        ..query
    };
    let (hours, _) = board.steps(&hour, Step::Hour, 10).await.unwrap();
    assert_eq!(hours.len(), 1);
    assert_eq!(
        (hours[0].orders, hours[0].gmv.as_str(), hours[0].revision),
        (120, "1.20", 1)
    );
}

async fn a_range_of_seconds_is_a_range_of_the_primary_key(backend: &Backend) {
    fill(backend).await;
    let steps = reader(&[&backend.url]).plan(T0, T0 + 10_000).await.unwrap();
    let range = |step: &String| {
        step.contains("range PRIMARY") || step.contains("window_start>? AND window_start<?")
    };
    assert!(steps.iter().any(range), "{steps:#?}");
}

async fn a_dead_replica_is_skipped_and_said_so(backend: &Backend) {
    fill(backend).await;
    let dead = "mysql://nobody:secret@127.0.0.1:1/windlass_test";
    let board = reader(&[dead, &backend.url]);
    assert!(board.probe().await.is_some());
    for _ in 0..3 {
        assert_eq!(board.snapshot(ALL, None).await.unwrap().totals.len(), 2);
    }
    let states = board.replicas();
    let why = states[0].skipped.as_deref().unwrap();
    assert!(
        why.contains("cannot reach") && !why.contains("secret"),
        "{why}"
    );
    assert_eq!(states[1].skipped, None);
}

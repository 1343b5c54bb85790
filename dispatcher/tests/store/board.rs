//! What the live page reads.

use std::time::Duration;

use windlass_dispatcher::store::{
    BoardReader, GmvQuery, Reader, Replication, ScalerState, Step, StoreError, TableRow,
};
use windlass_functions::stream::Stream;

use crate::backend::{Backend, T0, databases, plan, with_row};
use crate::scaler;

databases! {
    every: [
        a_snapshot_is_what_the_views_say,
        longer_steps_are_sums_of_the_seconds,
        a_range_of_seconds_is_a_range_of_the_primary_key,
        a_scaler_is_read_without_making_its_tables,
        a_replica_that_keeps_silent_is_not_waited_for,
        a_replica_that_keeps_silent_is_skipped_before_its_silence_ends,
        a_read_that_takes_too_long_is_refused_and_no_replica_is_blamed,
    ],
    servers: [
        a_dead_replica_is_skipped_and_said_so,
        a_replica_says_how_far_behind_it_is_to_who_may_ask,
    ]
}

const ALL: Duration = Duration::from_secs(300);

fn reader(urls: &[&str]) -> BoardReader {
    let urls: Vec<String> = urls.iter().map(|url| (*url).to_owned()).collect();
    let (lag, limit) = (Duration::from_secs(3), Duration::from_secs(8));
    BoardReader::new(&urls, &Stream::default(), lag, limit).unwrap()
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

async fn a_scaler_is_read_without_making_its_tables(backend: &Backend) {
    let store = backend.store(1).await;
    let board = reader(&[&backend.url]);
    assert_eq!(
        board.scaler().await.unwrap(),
        None,
        "there is no such table"
    );
    let mut journal = store.journal(&Stream::default());
    journal.prepare().await.unwrap();
    assert_eq!(board.scaler().await.unwrap(), None, "nobody has run yet");
    let state = ScalerState {
        run: T0,
        owner: "host-1".into(),
        mode: "elastic".into(),
        refused: Some("max-size: expected pods".into()),
        size: 4,
        reason: "4 → 9".into(),
        ..ScalerState::default()
    };
    journal.alive(&state).await.unwrap();
    for no in 1..=2 {
        let mut row = scaler::row(no);
        if no == 2 {
            (row.cause, row.desired, row.action) = ("guard".into(), 11, None);
        }
        journal.decided(&row, None).await.unwrap();
    }
    let seen = board.scaler().await.unwrap().unwrap();
    assert!((0..10_000).contains(&seen.age_ms), "{}", seen.age_ms);
    assert_eq!(seen.refused, state.refused);
    assert_eq!((seen.size, seen.desired), (4, Some(11)));
    let choice = seen.choice.unwrap();
    assert_eq!(
        (choice.before, choice.desired, choice.state),
        (4, 9, Some(17))
    );
    assert_eq!(choice.action.as_deref(), Some("κ×0.56"));
    assert!(choice.explored);

    assert_eq!(board.q_table("elastic", 0).await.unwrap(), None);
    let table = TableRow {
        agent: "elastic".into(),
        at_ms: T0,
        kind: "checkpoint".into(),
        body: "a table".into(),
        ..TableRow::default()
    };
    let version = journal.save_table(&table).await.unwrap();
    let shown = board.q_table("elastic", 0).await.unwrap().unwrap();
    assert_eq!((shown.version, shown.body.as_str()), (version, "a table"));
    assert_eq!(board.q_table("elastic", version).await.unwrap(), None);
    assert_eq!(board.q_table("paper", 0).await.unwrap(), None);
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
    let why = states[0].skipped.as_ref().unwrap().to_string();
    assert!(
        why.contains("cannot reach") && !why.contains("secret"),
        "{why}"
    );
    assert_eq!(states[1].skipped, None);
}

async fn a_replica_that_keeps_silent_is_not_waited_for(backend: &Backend) {
    fill(backend).await;
    // Connections are taken in, and nothing is ever said.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = format!("mysql://a@{}/windlass", mute.local_addr().unwrap());
    let board = reader(&[&backend.url, &mute]);
    let twenty_times = async |board: &BoardReader| {
        let begun = tokio::time::Instant::now();
        for _ in 0..20 {
            assert!(board.probe().await.is_some());
            board.snapshot(ALL, None).await.unwrap();
        }
        begun.elapsed()
    };
    let alone = twenty_times(&reader(&[&backend.url])).await;
    let beside = twenty_times(&board).await;
    // It may be waited for once, for a second; to connect would take five.
    assert!(
        beside < alone + Duration::from_secs(4),
        "{alone:?} {beside:?}"
    );
    let [well, silent] = &board.replicas()[..] else {
        panic!("two replicas");
    };
    assert_eq!(well.skipped, None);
    let why = silent.skipped.as_ref().unwrap().to_string();
    assert!(why.starts_with("no answer from"), "{why}");
}

async fn a_replica_that_keeps_silent_is_skipped_before_its_silence_ends(backend: &Backend) {
    fill(backend).await;
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = format!("mysql://a@{}/windlass", mute.local_addr().unwrap());
    // As if it had died since it was asked how far it is. To connect may take five seconds.
    let board = reader(&[&mute, &backend.url]);
    let begun = tokio::time::Instant::now();
    let snapshot = board.snapshot(ALL, None).await.unwrap();
    assert_eq!(snapshot.totals.len(), 2);
    assert!(begun.elapsed() < Duration::from_secs(4));

    let board = reader(&[&mute]);
    let probe = board.probe();
    let said = async {
        loop {
            if let Some(why) = board.replicas()[0].skipped.clone() {
                break why.to_string();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        biased;
        why = said => assert!(why.starts_with("no answer from"), "{why}"),
        _ = probe => panic!("the probe ended before its silence was said"),
    }
    let refused = board.snapshot(ALL, None).await.unwrap_err().to_string();
    assert!(refused.contains("no replica is fit"), "{refused}");
}

async fn a_read_that_takes_too_long_is_refused_and_no_replica_is_blamed(backend: &Backend) {
    let store = backend.store(1).await;
    let (mut owner, at) = backend.owner(&store, 0).await;
    let mut rows = plan(0, &at);
    for second in 0..3_000 {
        for province in [
            "Anhui", "Fujian", "Gansu", "Hainan", "Hebei", "Henan", "Hubei",
        ] {
            rows = with_row(rows, T0 + second * 1000, province, &[100, 250], 0);
        }
    }
    owner.commit(&rows).await.unwrap();
    let urls = [backend.url.clone()];
    let limit = Duration::from_millis(1);
    let board = BoardReader::new(&urls, &Stream::default(), limit, limit).unwrap();
    assert!(board.probe().await.is_some());
    let all = GmvQuery {
        from: Some(T0),
        to: Some(T0 + 3_600_000),
        ..GmvQuery::default()
    };
    let refused = board.steps(&all, Step::Hour, 10).await.unwrap_err();
    assert!(matches!(refused, StoreError::Overlong(_)), "{refused}");
    assert!(refused.to_string().contains("a shorter time"), "{refused}");
    assert_eq!(board.replicas()[0].skipped, None);
    // Only reads of the past are bounded so.
    assert_eq!(board.snapshot(ALL, None).await.unwrap().totals.len(), 7);
    let (hours, _) = reader(&[&backend.url])
        .steps(&all, Step::Hour, 10)
        .await
        .unwrap();
    assert_eq!(hours.len(), 7);
}

async fn a_replica_says_how_far_behind_it_is_to_who_may_ask(backend: &Backend) {
    fill(backend).await;
    let Some(replica) = &backend.replica else {
        return;
    };
    let ask = async |url: &str| {
        let board = reader(&[url]);
        // The database itself may still be on its way to the replica.
        while board.probe().await.is_none() {
            tokio::task::yield_now().await;
        }
        board.ask_replication().await;
        board.replicas().remove(0).replication
    };
    let watching = |url: &str| url.replacen("windlass:windlass@", "windlass_reader:reader@", 1);
    // A database that is busy may not answer in time, which is not known either.
    let answer = async {
        loop {
            let says = ask(&watching(replica)).await;
            if says != Replication::Unknown {
                return says;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let says = tokio::time::timeout(Duration::from_secs(30), answer).await;
    let says = says.expect("it tells who may ask");
    assert!(matches!(says, Replication::Behind(0..60)), "{says:?}");
    assert_eq!(ask(replica).await, Replication::Unknown, "it may only read");
    let primary = ask(&watching(&backend.url)).await;
    assert_eq!(primary, Replication::Unknown, "it replicates nothing");
}

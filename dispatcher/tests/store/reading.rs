//! The views and the reads upon them.

use std::time::Duration;

use sqlx::AssertSqlSafe;
use windlass_dispatcher::store::{GmvQuery, Reader};
use windlass_functions::stream::Stream;

use crate::backend::{Backend, Kind, T0, block, databases, plan, source, with_row};

databases! {
    every: [
        a_window_is_open_then_closed_then_final,
        the_slowest_shard_decides_a_windows_state,
        shards_merge_in_the_views,
        a_query_selects_windows_and_provinces,
        a_query_reads_the_stream_that_is_configured,
        gaps_are_the_runs_that_are_missing,
        books_that_do_not_balance_are_told,
        the_last_minute_reads_the_last_minute_only,
    ],
    servers: [
        reads_fall_back_to_the_primary_with_a_warning,
        an_answer_says_how_old_it_is,
        final_rows_deleted_by_hand_leave_totals_and_the_next_owner_right,
    ]
}

const STATE: &str =
    "SELECT window_start, state, is_final FROM gmv_per_second ORDER BY window_start";

async fn a_window_is_open_then_closed_then_final(backend: &Backend) {
    let store = backend.store(1).await;
    let (mut owner, mut at) = backend.owner(&store, 0).await;
    let rows = with_row(plan(0, &at), T0, "Hunan", &[1], 0);
    let rows = with_row(rows, T0 + 1000, "Hubei", &[1], 0);
    for (watermark, final_before, first, second) in [
        (None, None, "open|0", "open|0"),
        (Some(T0 + 999), None, "open|0", "open|0"),
        (Some(T0 + 1000), Some(T0 - 4000), "closed|0", "open|0"),
        (Some(T0 + 2000), Some(T0 + 1999), "final|1", "closed|0"),
        (Some(T0 + 7000), Some(T0 + 2000), "final|1", "final|1"),
    ] {
        let mut next = plan(0, &at);
        if at.commit_no == 0 {
            next.rows.clone_from(&rows.rows);
        }
        next.watermark = watermark;
        next.final_before = final_before;
        owner.commit(&next).await.unwrap();
        at.commit_no += 1;
        let expected = [
            format!("2025-11-11 00:00:00.000|{first}"),
            format!("2025-11-11 00:00:01.000|{second}"),
        ];
        assert_eq!(backend.sql(STATE).await, expected);
    }
}

async fn the_slowest_shard_decides_a_windows_state(backend: &Backend) {
    let store = backend.store(2).await;
    let (mut fast, mut at_fast) = backend.owner(&store, 0).await;
    let mut all = with_row(plan(0, &at_fast), T0, "Hunan", &[1], 0);
    all.watermark = Some(T0 + 9000);
    all.final_before = Some(T0 + 4000);
    fast.commit(&all).await.unwrap();
    at_fast.commit_no += 1;
    // A shard that has not said anything yet holds the stream back.
    assert_eq!(backend.sql(STATE).await, ["2025-11-11 00:00:00.000|open|0"]);
    let (mut slow, at_slow) = backend.owner(&store, 1).await;
    let mut some = plan(1, &at_slow);
    some.watermark = Some(T0 + 1000);
    slow.commit(&some).await.unwrap();
    assert_eq!(
        backend.sql(STATE).await,
        ["2025-11-11 00:00:00.000|closed|0"]
    );
}

async fn shards_merge_in_the_views(backend: &Backend) {
    let store = backend.store(2).await;
    for shard in 0..2 {
        let (mut owner, at) = backend.owner(&store, shard).await;
        let amounts = [[100, 300], [50, 1000]][shard as usize];
        let rows = with_row(plan(shard, &at), T0, "Hunan", &amounts, 1 + shard);
        owner.commit(&rows).await.unwrap();
    }
    let reader = Reader::new(&backend.url, &[], &Stream::default()).unwrap();
    let row = &reader.gmv(&GmvQuery::default()).await.unwrap().rows[0];
    assert_eq!(row.window_start, "2025-11-11 00:00:00.000");
    assert_eq!(
        (row.province.as_str(), row.orders, row.revision),
        ("Hunan", 4, 3)
    );
    assert_eq!((row.gmv.as_str(), row.mean.as_str()), ("14.50", "3.6250"));
    assert_eq!(
        (row.min_amount.as_str(), row.max_amount.as_str()),
        ("0.50", "10.00")
    );
    assert_eq!(row.state, "open");
    let total = &reader.totals().await.unwrap().rows[0];
    assert_eq!(
        (total.orders, total.gmv.as_str(), total.mean.as_str()),
        (4, "14.50", "3.6250")
    );
}

async fn a_query_selects_windows_and_provinces(backend: &Backend) {
    let store = backend.store(1).await;
    let reader = Reader::new(&backend.url, &[], &Stream::default()).unwrap();
    let last = |seconds| GmvQuery {
        last: Some(Duration::from_secs(seconds)),
        ..GmvQuery::default()
    };
    assert!(reader.gmv(&last(60)).await.unwrap().rows.is_empty());
    let (mut owner, at) = backend.owner(&store, 0).await;
    let mut rows = plan(0, &at);
    for second in 0..100 {
        rows = with_row(rows, T0 + second * 1000, "Hunan", &[1], 0);
        rows = with_row(rows, T0 + second * 1000, "Hu'bei", &[1], 0);
    }
    rows.totals.clear();
    owner.commit(&rows).await.unwrap();
    let some = GmvQuery {
        from: Some(T0 + 10_000),
        to: Some(T0 + 20_000),
        province: Some("Hu'bei".into()),
        last: None,
    };
    let reader = std::sync::Arc::new(reader);
    for (query, count) in [
        (GmvQuery::default(), 200),
        (last(60), 120),
        (last(u64::MAX), 200),
        (some, 10),
    ] {
        let (reader, asked) = (std::sync::Arc::clone(&reader), query.clone());
        let answer = tokio::spawn(async move { reader.gmv(&asked).await });
        let answer = answer.await.unwrap().unwrap();
        assert_eq!(answer.rows.len(), count, "{query:?}");
        assert_eq!(answer.staleness_ms, Some(0));
        assert!(answer.warnings.is_empty());
    }
}

async fn a_query_reads_the_stream_that_is_configured(backend: &Backend) {
    let store = backend.store(1).await;
    let shop = Stream {
        name: "shop's".into(),
        ..Stream::default()
    };
    store.migrate(&shop, 1).await.unwrap();
    for (stream, province) in [(&Stream::default(), "Hunan"), (&shop, "Hubei")] {
        let mut owner = store.writer(stream, 0, "test", Duration::from_secs(10));
        let loaded = owner.raise_epoch().await.unwrap();
        let row = with_row(plan(0, &loaded), T0, province, &[1], 0);
        owner.commit(&row).await.unwrap();
        let reader = Reader::new(&backend.url, &[], stream).unwrap();
        let rows = reader.gmv(&GmvQuery::default()).await.unwrap().rows;
        let provinces: Vec<_> = rows.iter().map(|row| row.province.as_str()).collect();
        assert_eq!(provinces, [province]);
        let totals = reader.totals().await.unwrap().rows;
        let provinces: Vec<_> = totals.iter().map(|row| row.province.as_str()).collect();
        assert_eq!(provinces, [province]);
    }
    if backend.kind == Kind::Sqlite {
        return;
    }
    // As the README asks for the rows of another stream.
    let asked = readme_sql(1)
        .replace("'returns'", "'shop''s'")
        .replace("UTC_TIMESTAMP()", "TIMESTAMP('2025-11-11')");
    let mut answers = Vec::new();
    for sql in asked.split(';').filter(|sql| !sql.trim().is_empty()) {
        answers.push(backend.sql(sql).await.join("\n"));
    }
    let expected = [
        "2025-11-11 00:00:00.000|Hubei|1|0.01|0.01|0.01|0",
        "Hubei|1|0.01",
        "NULL|NULL",
    ];
    assert_eq!(answers, expected);
}

async fn gaps_are_the_runs_that_are_missing(backend: &Backend) {
    let store = backend.store(1).await;
    let (mut owner, at) = backend.owner(&store, 0).await;
    let mut all = plan(0, &at);
    let mut add = |name, low, blocks: &[(u64, &[u32])]| {
        let mut delta = source(name, true, low);
        delta.blocks = blocks
            .iter()
            .map(|(number, seqs)| (*number, Some(block(seqs.iter().copied()))))
            .collect();
        all.sources.push(delta);
    };
    add("a whole", 10, &[]);
    add("b from one", 0, &[(0, &[1, 2, 3])]);
    add("c holes", 5, &[(0, &[3, 4, 7, 8, 11])]);
    add("d over blocks", 65_536, &[(1, &[0, 65_535]), (2, &[0, 2])]);
    add("e nothing", 0, &[]);
    add(
        "f the end",
        u64::MAX - 2,
        &[((1 << 48) - 1, &[65_534, 65_535])],
    );
    owner.commit(&all).await.unwrap();
    let audit = store.audit(&Stream::default()).await.unwrap();
    let gaps: Vec<_> = audit
        .sources
        .into_iter()
        .map(|source| source.gaps)
        .collect();
    let none: Vec<(u64, u64)> = Vec::new();
    assert_eq!(
        gaps,
        [
            none.clone(),
            none.clone(),
            vec![(5, 6), (9, 10)],
            vec![(65_537, 131_070), (131_073, 131_073)],
            none,
            vec![(u64::MAX - 2, u64::MAX - 2)],
        ]
    );
}

async fn books_that_do_not_balance_are_told(backend: &Backend) {
    let store = backend.store(1).await;
    let (mut owner, at) = backend.owner(&store, 0).await;
    let mut all = with_row(plan(0, &at), T0, "Hunan", &[1, 2, 3], 0);
    let mut add = |name, counted, late, low, seqs: &[u32]| {
        let mut delta = source(name, true, low);
        (delta.counted, delta.late) = (counted, late);
        delta.blocks = vec![(0, Some(block(seqs.iter().copied())))];
        all.sources.push(delta);
    };
    // Seqs 1 and 2; then 0, 4 and, what a block may still hold below `low`, 1 twice.
    add("from one", 2, 0, 3, &[]);
    add("from zero", 1, 2, 2, &[0, 1, 4]);
    owner.commit(&all).await.unwrap();
    let imbalances = async || {
        let audit = store.audit(&Stream::default()).await.unwrap();
        let found = audit.imbalances.iter();
        found.map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(imbalances().await, Vec::<String>::new());
    backend
        .sql("UPDATE ledger SET counted = 3 WHERE source = 'from one'")
        .await;
    let [of_source, of_totals] = &imbalances().await[..] else {
        panic!("expected two");
    };
    assert!(
        of_source
            .starts_with("source \"from one\": counted + late + quarantined is 3, settled are 2"),
        "{of_source}"
    );
    assert!(
        of_totals.starts_with("counted of all sources is 4, the totals hold 3"),
        "{of_totals}"
    );
}

async fn the_last_minute_reads_the_last_minute_only(backend: &Backend) {
    backend.store(1).await;
    let (time, key, sum) = match backend.kind {
        Kind::Sqlite => (
            "STRFTIME('%Y-%m-%d %H:%M:%f', '2025-11-11', '+' || (a.n * 100 + b.n) || ' seconds')",
            "'key ' || k.n",
            "0, 1",
        ),
        _ => (
            "TIMESTAMP('2025-11-11') + INTERVAL (a.n * 100 + b.n) SECOND",
            "CONCAT('key ', k.n)",
            "0.01",
        ),
    };
    let below = |name, count| {
        format!(
            "{name} AS (SELECT 0 AS n UNION ALL SELECT n + 1 FROM {name} WHERE n < {count} - 1)"
        )
    };
    // 7,000 windows of 34 keys.
    let fill = format!(
        "INSERT INTO results WITH RECURSIVE {}, {}, {} \
         SELECT 'orders', 'gmv', {time}, {key}, 0, 1, {sum}, 1, 1, 0 \
         FROM a CROSS JOIN b CROSS JOIN k",
        below("a", 70),
        below("b", 100),
        below("k", 34),
    );
    backend.sql(&fill).await;
    assert_eq!(
        backend.sql("SELECT COUNT(*) FROM results").await,
        ["238000"]
    );
    let read = "SELECT COUNT(*) FROM gmv_per_second WHERE window_start >= '2025-11-11 01:55:40'";
    if backend.kind == Kind::Sqlite {
        let plan = backend
            .sql(&format!("EXPLAIN QUERY PLAN {read}"))
            .await
            .join("\n");
        let range = "PRIMARY KEY (stream=? AND query=? AND window_start>?)";
        assert!(plan.contains(range), "{plan}");
        assert_eq!(backend.sql(read).await, ["2040"]);
        return;
    }
    // The rows that the server touched, by its own count.
    let mut session = backend.session().await;
    sqlx::raw_sql("ANALYZE TABLE results")
        .execute(&mut session)
        .await
        .unwrap();
    let touched = async |session: &mut sqlx::mysql::MySqlConnection| {
        use sqlx::Row as _;
        let sql = "SHOW SESSION STATUS LIKE 'Handler_read%'";
        let rows = sqlx::raw_sql(sql).fetch_all(session).await.unwrap();
        rows.iter()
            .map(|row| row.get_unchecked::<String, _>(1).parse::<u64>().unwrap())
            .sum::<u64>()
    };
    // At the end of these windows, by the session's own clock: 60 of them have 34 keys each.
    let clock = format!("SET timestamp = {}", T0 / 1000 + 7_000);
    sqlx::raw_sql(AssertSqlSafe(clock))
        .execute(&mut session)
        .await
        .unwrap();
    for sql in [read, &readme_query()] {
        let before = touched(&mut session).await;
        let rows = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        let rows = rows.fetch_all(&mut session).await.unwrap().len();
        let after = touched(&mut session).await;
        assert!(rows == 1 || rows == 2040, "{rows} rows: {sql}");
        // Read, grouped and given: a few touches each.
        let touched = after - before;
        assert!(touched < 6 * 2040, "{touched} rows touched: {sql}");
    }
}

/// The query of the last minute as the README gives it.
fn readme_query() -> String {
    let sql = readme_sql(0);
    let (query, _) = sql.split_once(';').expect("the query ends");
    assert!(query.contains("INTERVAL 60 SECOND"), "{query}");
    query.to_owned()
}

/// The README's block of SQL of that number, from 0.
fn readme_sql(number: usize) -> String {
    let readme = include_str!("../../../README.md");
    let blocks = readme.split("```sql\n").skip(1);
    let block = blocks.into_iter().nth(number).expect("the README has SQL");
    let (sql, _) = block.split_once("```").expect("the block ends");
    sql.to_owned()
}

async fn reads_fall_back_to_the_primary_with_a_warning(backend: &Backend) {
    let store = backend.store(1).await;
    let (mut owner, at) = backend.owner(&store, 0).await;
    owner
        .commit(&with_row(plan(0, &at), T0, "Hunan", &[1], 0))
        .await
        .unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = free.local_addr().unwrap().port();
    drop(free);
    let dead = backend.url_with(|url| url.set_port(Some(nobody)).unwrap());
    let reader = Reader::new(&backend.url, &[dead], &Stream::default()).unwrap();
    let answer = reader.totals().await.unwrap();
    assert_eq!(answer.rows.len(), 1);
    assert_eq!(answer.warnings.len(), 2, "{:?}", answer.warnings);
    assert!(!answer.server.contains(":windlass@"));
}

async fn an_answer_says_how_old_it_is(backend: &Backend) {
    let store = backend.store(1).await;
    let (mut owner, at) = backend.owner(&store, 0).await;
    let committed = owner
        .commit(&with_row(plan(0, &at), T0, "Hunan", &[1], 0))
        .await
        .unwrap();
    let Some(replica) = backend.replica.clone() else {
        return;
    };
    let replicas = windlass_dispatcher::store::Replicas::connect(std::slice::from_ref(&replica))
        .await
        .unwrap();
    replicas
        .wait_applied(&committed.gate, Duration::from_secs(30))
        .await
        .unwrap();
    let fresh = Reader::new(
        &backend.url,
        std::slice::from_ref(&replica),
        &Stream::default(),
    )
    .unwrap();
    let answer = fresh.totals().await.unwrap();
    assert_eq!((answer.rows.len(), answer.staleness_ms), (1, Some(0)));
    assert!(answer.warnings.is_empty(), "{:?}", answer.warnings);
    // Without the primary the age is the time since the last sign of life.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = free.local_addr().unwrap().port();
    drop(free);
    let dead = backend.url_with(|url| url.set_port(Some(nobody)).unwrap());
    let alone = Reader::new(&dead, &[replica], &Stream::default()).unwrap();
    let answer = alone.totals().await.unwrap();
    assert_eq!(answer.rows.len(), 1);
    assert!(answer.staleness_ms.is_some() && answer.warnings.len() == 1);
}

async fn final_rows_deleted_by_hand_leave_totals_and_the_next_owner_right(backend: &Backend) {
    let store = backend.store(1).await;
    let (mut owner, at) = backend.owner(&store, 0).await;
    let mut rows = with_row(plan(0, &at), T0, "Hunan", &[1], 0);
    rows = with_row(rows, T0 + 1000, "Hunan", &[2], 0);
    rows.watermark = Some(T0 + 1500);
    rows.final_before = Some(T0 + 1000);
    owner.commit(&rows).await.unwrap();
    let delete = "DELETE FROM results WHERE window_start < '2025-11-11 00:00:01'";
    backend.sql(delete).await;
    assert_eq!(backend.sql(STATE).await, ["2025-11-11 00:00:01.000|open|0"]);

    let (mut next, at) = backend.owner(&store, 0).await;
    assert_eq!(at.final_before, Some(T0 + 1000));
    let more = with_row(plan(0, &at), T0 + 1000, "Hunan", &[3], 0);
    next.commit(&more).await.unwrap();
    let reader = Reader::new(&backend.url, &[], &Stream::default()).unwrap();
    let rows = reader.gmv(&GmvQuery::default()).await.unwrap().rows;
    assert_eq!((rows.len(), rows[0].gmv.as_str()), (1, "0.05"));
    let totals = reader.totals().await.unwrap().rows;
    assert_eq!((totals[0].orders, totals[0].gmv.as_str()), (3, "0.06"));
}

//! Bad input ends in quarantine with its original body and a reason for a person; what stands beside
//! it is counted, and the dispatcher goes on within its memory.

mod cases;
mod frames;

use std::collections::BTreeSet;
use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use windlass_dispatcher::broker::Quarantined;

use crate::harness::{Process, Site, unix_ms};
use crate::raw::{ARROW, JSON, NDJSON, Raw, counts, order};
use cases::{Bad, bad_messages, bad_rows, with};
use frames::Row;

/// What one dispatcher may hold of the machine, whatever comes.
const MEMORY: u64 = 300 << 20;
const WITHIN: Duration = Duration::from_secs(60);
/// Cuts slices quickly, so that each case alone is settled at once.
const QUICK: &[&str] = &["--max-slice", "50ms"];

/// The dispatcher never had to open its shard again, and kept within its memory.
fn went_on(dispatcher: &Process) {
    let log = dispatcher.logged();
    assert!(!log.contains("to be opened again"), "{log}");
    let (_, most) = dispatcher.memory();
    println!("the dispatcher held {} MiB at most", most >> 20);
    assert!(most < MEMORY, "the dispatcher held {most} bytes");
}

/// Asserts that the message is in quarantine once, as it came, with its reason.
fn is_kept(bad: &Bad, found: &[Quarantined]) {
    // A row's copy is JSON, whatever its message was.
    let same_type = |kept: &str| {
        bad.content_type == Some(kept) || (bad.content_type == Some(NDJSON) && kept == JSON)
    };
    let copies: Vec<&Quarantined> = found
        .iter()
        .filter(|kept| kept.body == bad.body)
        .filter(|kept| match kept.content_type.as_deref() {
            Some(kept) => same_type(kept),
            None => bad.content_type.is_none(),
        })
        .collect();
    let [kept] = copies[..] else {
        panic!("{}: {} copies in quarantine", bad.name, copies.len());
    };
    assert!(
        kept.reason.contains(bad.says),
        "{}: {}",
        bad.name,
        kept.reason
    );
    assert!(kept.reason.len() < 400, "{}: {}", bad.name, kept.reason);
    let outcome = if bad.identified {
        "quarantined"
    } else {
        "undecodable"
    };
    assert_eq!(kept.outcome, outcome, "{}: {}", bad.name, kept.reason);
    assert_eq!(kept.seq, bad.identified.then_some(1), "{}", bad.name);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_message_alone_is_kept_with_its_reason() {
    let Some(site) = Site::new("bad_alone").await else {
        return;
    };
    let raw = Raw::to(&site).await;
    let dispatcher = site.owned(QUICK).await;
    let cases: Vec<Bad> = bad_rows("alone-")
        .into_iter()
        .chain(bad_messages("alone-"))
        .collect();
    let (mut undecodable, mut quarantined) = (0, 0);
    for bad in &cases {
        raw.send(bad.content_type, &bad.body).await;
        match bad.identified {
            true => quarantined += 1,
            false => undecodable += 1,
        }
        site.audited(WITHIN, bad.name, |audit| {
            let all: i64 = audit.sources.iter().map(|of| of.quarantined).sum();
            audit.undecodable == undecodable && all == quarantined
        })
        .await;
    }
    let found = site.quarantined().await;
    for bad in &cases {
        is_kept(bad, &found);
    }
    assert_eq!(found.len(), cases.len());

    let audit = site.json(&["audit", "--format", "json"]);
    assert_eq!(audit["undecodable"], undecodable);
    assert_eq!(audit["duplicates"], 0);
    for of in audit["sources"].as_array().expect("sources") {
        assert_eq!(
            [&of["counted"], &of["late"], &of["quarantined"]],
            [0, 0, 1],
            "{of}"
        );
    }

    // The same for a person at a terminal, down to the bytes that are no text.
    let listed = site.json(&["quarantine", "list", "--limit", "1000", "--format", "json"]);
    let listed = listed.as_array().expect("a list");
    assert_eq!(listed.len(), cases.len());
    let line = listed
        .iter()
        .find(|line| line["reason"] == "the body is not UTF-8 from byte 12 on; expected JSON");
    let id = line.expect("the case latin-1 is listed")["id"]
        .as_str()
        .expect("an id");
    let shown = site.run(&["quarantine", "show", id]);
    assert_eq!(shown.stdout, b"{\"source\":\"Z\xfcrich\"}");
    went_on(&dispatcher);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_messages_hold_up_no_good_ones() {
    let Some(site) = Site::new("bad_amid").await else {
        return;
    };
    let raw = Raw::to(&site).await;
    let cases: Vec<Bad> = bad_rows("amid-")
        .into_iter()
        .chain(bad_messages("amid-"))
        .collect();
    let mut good = 0;
    for bad in &cases {
        let neighbour = order("good", good, unix_ms(), "Hunan", "1.00");
        raw.send(Some(JSON), neighbour).await;
        raw.send(bad.content_type, &bad.body).await;
        good += 1;
    }
    raw.send(Some(JSON), order("good", good, unix_ms(), "Hunan", "1.00"))
        .await;
    let good = good as i64 + 1;

    // All of it is in the queue before the first is taken.
    let dispatcher = site.owned(&[]).await;
    let identified = cases.iter().filter(|bad| bad.identified).count() as i64;
    let audit = site
        .audited(WITHIN, "good neighbours are counted", |audit| {
            counts(audit, "good") == [good, 0, 0]
                && audit.sources.iter().map(|of| of.quarantined).sum::<i64>() == identified
                && audit.undecodable == (cases.len() as i64 - identified) as u64
        })
        .await;
    assert_eq!(audit.duplicates, 0);
    let found = site.quarantined().await;
    for bad in &cases {
        is_kept(bad, &found);
    }
    let orders: u64 = site
        .rows()
        .iter()
        .map(|row| row["orders"].as_u64().expect("a count"))
        .sum();
    assert_eq!(orders, good as u64);
    went_on(&dispatcher);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_rows_leave_their_neighbours_in_the_message_counted() {
    let Some(site) = Site::new("bad_rows").await else {
        return;
    };
    let raw = Raw::to(&site).await;
    let dispatcher = site.owned(QUICK).await;
    let identified = bad_rows("").iter().filter(|bad| bad.identified).count() as i64;
    let nameless = bad_rows("").len() as u64 - identified as u64;
    let mut kept = Vec::new();
    for (n, (content_type, from, between, to)) in [
        (NDJSON, "", "\n", ""),
        (NDJSON, "\r\n", "\r\n\r\n", "\r\n"),
        (JSON, "[", " , ", "]"),
    ]
    .into_iter()
    .enumerate()
    {
        let (prefix, good) = (format!("rows-{n}-"), format!("good-{n}"));
        let bads = bad_rows(&prefix);
        let mut rows = Vec::new();
        for (seq, bad) in bads.iter().enumerate() {
            rows.push(order(&good, seq as u64, unix_ms(), "Hunan", "1.00"));
            rows.push(String::from_utf8(bad.body.clone()).expect("JSON is text"));
        }
        rows.push(order(&good, bads.len() as u64, unix_ms(), "Hunan", "1.00"));
        raw.send(
            Some(content_type),
            format!("{from}{}{to}", rows.join(between)),
        )
        .await;
        let expected = bads.len() as i64 + 1;
        let messages = n as i64 + 1;
        site.audited(WITHIN, "rows beside bad ones are counted", |audit| {
            counts(audit, &good) == [expected, 0, 0]
                && audit.sources.iter().map(|of| of.quarantined).sum::<i64>()
                    == messages * identified
                && audit.undecodable == messages as u64 * nameless
        })
        .await;
        kept.extend(bads);
    }
    let found = site.quarantined().await;
    for bad in kept.iter().filter(|bad| bad.identified) {
        is_kept(bad, &found);
    }
    assert_eq!(found.len(), kept.len());
    went_on(&dispatcher);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_rows_leave_their_neighbours_in_the_arrow_frame_counted() {
    let Some(site) = Site::new("bad_frame").await else {
        return;
    };
    let raw = Raw::to(&site).await;
    let dispatcher = site.owned(QUICK).await;
    let (now, long) = (unix_ms(), "x".repeat(100_000));
    let good = |seq| Row {
        source: "good",
        seq: Some(seq),
        ts: now,
        province: "Hunan",
        amount: Some(10_000),
    };
    let bad = |source| Row { source, ..good(1) };
    let rows = [
        good(0),
        Row {
            amount: None,
            ..bad("null-amount")
        },
        Row {
            amount: Some(10_001),
            ..bad("precise")
        },
        Row {
            amount: Some(10i128.pow(30)),
            ..bad("huge")
        },
        good(1),
        Row {
            seq: None,
            ..bad("null-seq")
        },
        Row {
            seq: Some(-1),
            ..bad("negative-seq")
        },
        bad(""),
        good(2),
        Row {
            ts: -1,
            ..bad("negative-ts")
        },
        Row {
            ts: now + 3_600_000,
            ..bad("far-future")
        },
        Row {
            ts: i64::MAX,
            ..bad("absurd-ts")
        },
        Row {
            province: "",
            ..bad("empty-province")
        },
        Row {
            province: &long,
            ..bad("long-province")
        },
        good(3),
    ];
    raw.send(Some(ARROW), frames::mixed(&rows)).await;
    let audit = site
        .audited(WITHIN, "rows beside bad ones are counted", |audit| {
            counts(audit, "good") == [4, 0, 0] && audit.undecodable == 3
        })
        .await;
    let found = site.quarantined().await;
    for (source, says) in [
        ("null-amount", "amount is null"),
        ("precise", "at most 2 decimals"),
        ("huge", "out of range"),
        ("negative-ts", "before 1970"),
        ("far-future", "check the producer's clock"),
        ("absurd-ts", "after the year 9999"),
        ("empty-province", "province is empty"),
        ("long-province", "100000 bytes; expected at most 255"),
    ] {
        assert_eq!(counts(&audit, source), [0, 0, 1], "{source}");
        let kept = found
            .iter()
            .find(|kept| kept.source.as_deref() == Some(source));
        let kept = kept.unwrap_or_else(|| panic!("{source} is not in quarantine"));
        assert!(kept.reason.contains(says), "{source}: {}", kept.reason);
        // A row of a frame is kept as JSON that can be read and sent again.
        let row: serde_json::Value = serde_json::from_slice(&kept.body).expect("JSON");
        assert_eq!((&row["source"], &row["seq"]), (&source.into(), &1.into()));
    }
    assert_eq!(found.len(), 11);
    went_on(&dispatcher);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_of_two_contents_under_one_seq_wins() {
    let Some(site) = Site::new("two_contents").await else {
        return;
    };
    let raw = Raw::to(&site).await;
    let dispatcher = site.owned(QUICK).await;
    let now = unix_ms();
    let amount = |seq, amount| order("twice", seq, now, "Hunan", amount);
    // In two messages and in one; bad after good, and good after bad.
    raw.send(Some(JSON), amount(1, "1.00")).await;
    raw.send(Some(JSON), amount(1, "50.00")).await;
    let lines = [
        amount(2, "2.00"),
        amount(2, "60.00"),
        amount(3, "3.00"),
        amount(3, "null"),
    ];
    raw.send(Some(NDJSON), lines.join("\n")).await;
    raw.send(Some(JSON), amount(4, "null")).await;
    raw.send(Some(JSON), amount(4, "70.00")).await;
    let audit = site
        .audited(WITHIN, "the second copies are duplicates", |audit| {
            audit.duplicates == 4
        })
        .await;
    assert_eq!(counts(&audit, "twice"), [3, 0, 1]);
    let rows = site.rows();
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0]["gmv"], "6.00");
    let found = site.quarantined().await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].seq, Some(4));
    went_on(&dispatcher);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_with_the_longest_name_is_quarantined_like_any_other() {
    let Some(site) = Site::new("long_source").await else {
        return;
    };
    let raw = Raw::to(&site).await;
    let dispatcher = site.owned(QUICK).await;
    let longest = "s".repeat(255);
    let body = with(&longest, "amount", "null");
    raw.send(Some(JSON), &body).await;
    raw.send(Some(JSON), order(&longest, 2, unix_ms(), "Hunan", "1.00"))
        .await;
    site.audited(WITHIN, "a long name is settled", |audit| {
        counts(audit, &longest) == [1, 0, 1]
    })
    .await;
    let found = site.quarantined().await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].body, body);
    assert_eq!(found[0].source.as_deref(), Some(&*longest));
    went_on(&dispatcher);
}

#[tokio::test(flavor = "multi_thread")]
async fn properties_of_any_kind_do_no_harm() {
    let Some(site) = Site::new("properties").await else {
        return;
    };
    let raw = Raw::to(&site).await;
    let dispatcher = site.owned(QUICK).await;
    let mut headers = FieldTable::default();
    headers.insert(
        "windlass-replay".into(),
        AMQPValue::FieldTable(FieldTable::default()),
    );
    headers.insert("windlass-outcome".into(), AMQPValue::Void);
    headers.insert(
        "long".into(),
        AMQPValue::LongString("x".repeat(60_000).into()),
    );
    headers.insert(
        "bytes".into(),
        AMQPValue::LongString(vec![0xff, 0, 0xfe].into()),
    );
    let longest = "m".repeat(255);
    let properties = || {
        BasicProperties::default()
            .with_headers(headers.clone())
            .with_message_id(longest.as_str().into())
            .with_priority(255)
            .with_timestamp(u64::MAX)
            .with_delivery_mode(1)
    };
    let good = |seq| order("good", seq, unix_ms(), "Hunan", "1.00");
    let charset = "Application/X-NDJSON; charset=utf-8";
    // Two bad rows without a name of their own, and a whole message, all under one message id.
    let lines = [&good(0), "no order", "nor this", &good(1)].join("\n");
    raw.send_with(properties().with_content_type(charset.into()), lines)
        .await;
    raw.send_with(
        properties().with_content_type(longest.as_str().into()),
        "neither",
    )
    .await;
    raw.send_with(properties().with_content_type(JSON.into()), good(2))
        .await;
    site.audited(WITHIN, "odd properties are no matter", |audit| {
        counts(audit, "good") == [3, 0, 0] && audit.undecodable == 3
    })
    .await;
    let found = site.quarantined().await;
    let ids: BTreeSet<&str> = found.iter().map(|kept| kept.id.as_str()).collect();
    assert_eq!(ids.len(), 3, "each can be asked for by its id: {ids:?}");
    went_on(&dispatcher);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_20_mb_are_kept_and_memory_stays_bounded() {
    const SIZE: usize = 20 << 20;
    let Some(site) = Site::new("large_bodies").await else {
        return;
    };
    let raw = Raw::to(&site).await;
    let dispatcher = site.owned(&["--prefetch", "4"]).await;
    for (n, content_type) in [JSON, NDJSON, ARROW, JSON, ARROW].into_iter().enumerate() {
        raw.send(
            Some(JSON),
            order("good", n as u64, unix_ms(), "Hunan", "1.00"),
        )
        .await;
        raw.send(Some(content_type), vec![b'0' + n as u8; SIZE])
            .await;
    }
    site.audited(
        WITHIN,
        "what stands between large bodies is counted",
        |audit| counts(audit, "good") == [5, 0, 0] && audit.undecodable == 5,
    )
    .await;
    let found = site.quarantined().await;
    assert_eq!(found.len(), 5);
    for (n, kept) in found.iter().enumerate() {
        assert!(
            kept.reason.contains("the body is 20971520 bytes"),
            "{}",
            kept.reason
        );
        assert_eq!(kept.body.len(), SIZE);
        assert!(kept.body.iter().all(|&byte| byte == b'0' + n as u8));
    }
    went_on(&dispatcher);
}

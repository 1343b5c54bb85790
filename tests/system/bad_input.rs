//! Bad input ends in quarantine with its original body and a reason for a person; what stands beside
//! it is counted, and the dispatcher goes on within its memory.

mod cases;
mod frames;
mod rows;

use std::collections::BTreeSet;
use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use windlass_dispatcher::broker::Quarantined;

use crate::harness::{Process, Site, unix_ms};
use crate::raw::{ARROW, JSON, NDJSON, Raw, counts, order};
use cases::{Bad, bad_messages, bad_rows};

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

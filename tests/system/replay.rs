//! Replaying the quarantine counts what can be counted, once, however often it is done.

use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use rustix::process::Signal;
use windlass_dispatcher::store::Audit;

use crate::harness::{Process, Site, eventually, unix_ms};
use crate::raw::{JSON, Raw, counts, order};

const WITHIN: Duration = Duration::from_secs(30);
const FLAGS: &[&str] = &["--idle-timeout", "10m", "--max-slice", "50ms"];

/// Properties of a message that claims to be a replay.
fn claims_replay() -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert("windlass-replay".into(), AMQPValue::Boolean(true));
    BasicProperties::default()
        .with_content_type(JSON.into())
        .with_headers(headers)
}

/// Runs `windlass quarantine replay` and returns what it says.
fn replay(site: &Site, choice: &[&str]) -> String {
    let output = site.run(&[&["quarantine", "replay"], choice].concat());
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    said
}

/// A site at which order 2 of source `s` came too late, with its text.
async fn with_a_late_order(site: &Site, raw: &Raw) -> String {
    let start = (unix_ms() - 30_000) / 1_000 * 1_000;
    raw.send(Some(JSON), order("s", 0, start, "Hunan", "1.00"))
        .await;
    raw.send(Some(JSON), order("s", 1, start + 10_000, "Hunan", "1.00"))
        .await;
    site.audited(WITHIN, "two are counted", |audit| {
        counts(audit, "s") == [2, 0, 0]
    })
    .await;
    let late = order("s", 2, start + 100, "Hunan", "5.00");
    raw.send(Some(JSON), &late).await;
    site.audited(WITHIN, "one is late", |audit| {
        counts(audit, "s") == [2, 1, 0]
    })
    .await;
    late
}

/// Ends a dispatcher that has acknowledged all: nothing comes again to count as a duplicate.
fn drained(mut dispatcher: Process) {
    dispatcher.signal(Signal::TERM);
    let end = dispatcher.ended(WITHIN);
    assert_eq!(end.code(), Some(0), "{end}: {}", dispatcher.logged());
}

async fn duplicates(site: &Site, expected: u64) -> Audit {
    site.audited(WITHIN, "duplicates are counted as such", |audit| {
        audit.duplicates == expected
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_order_counts_once_however_often_it_is_replayed() {
    let Some(site) = Site::new("replayed").await else {
        return;
    };
    let raw = Raw::to(&site).await;
    let dispatcher = site.owned(FLAGS).await;
    let late = with_a_late_order(&site, &raw).await;

    assert_eq!(
        replay(&site, &["--outcome", "late"]),
        "replayed 1 messages, left 0 in quarantine\n"
    );
    site.audited(WITHIN, "the replay is counted", |audit| {
        counts(audit, "s") == [3, 0, 0]
    })
    .await;
    let rows = site.rows();
    assert_eq!(
        [&rows[0]["gmv"], &rows[0]["orders"].to_string().into()],
        ["6.00", "2"]
    );
    assert_eq!(
        replay(&site, &["--outcome", "late"]),
        "replayed 0 messages, left 0 in quarantine\n"
    );

    // A second replay of the same message, as when the first was not known to have arrived; twice, and
    // once more after another dispatcher has taken over.
    raw.send_with(claims_replay(), &late).await;
    raw.send_with(claims_replay(), &late).await;
    duplicates(&site, 2).await;
    drained(dispatcher);
    let _dispatcher = site.owned(FLAGS).await;
    raw.send_with(claims_replay(), &late).await;
    let audit = duplicates(&site, 3).await;
    assert_eq!(counts(&audit, "s"), [3, 0, 0]);
    assert_eq!(site.rows()[0]["gmv"], "6.00");
    assert!(site.quarantined().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replays_in_one_slice_count_once() {
    let Some(site) = Site::new("replayed_twice").await else {
        return;
    };
    let raw = Raw::to(&site).await;
    let dispatcher = site.owned(FLAGS).await;
    let late = with_a_late_order(&site, &raw).await;
    drained(dispatcher);
    for _ in 0..3 {
        raw.send_with(claims_replay(), &late).await;
    }
    let _dispatcher = site.owned(FLAGS).await;
    let audit = duplicates(&site, 2).await;
    assert_eq!(counts(&audit, "s"), [3, 0, 0]);
    assert_eq!(site.rows()[0]["gmv"], "6.00");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mark_of_a_replay_gives_a_producer_no_second_count() {
    let Some(site) = Site::new("forged_replay").await else {
        return;
    };
    let raw = Raw::to(&site).await;
    let _dispatcher = site.owned(FLAGS).await;
    let now = unix_ms();
    raw.send(Some(JSON), order("s", 0, now, "Hunan", "1.00"))
        .await;
    raw.send_with(claims_replay(), order("s", 0, now, "Hunan", "9.00"))
        .await;
    raw.send_with(claims_replay(), order("s", 1, now, "Hunan", "2.00"))
        .await;
    raw.send(Some(JSON), order("s", 1, now, "Hunan", "9.00"))
        .await;
    let audit = duplicates(&site, 2).await;
    assert_eq!(counts(&audit, "s"), [2, 0, 0]);
    assert_eq!(site.rows()[0]["gmv"], "3.00");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_still_bad_returns_to_quarantine() {
    let Some(site) = Site::new("still_bad").await else {
        return;
    };
    let raw = Raw::to(&site).await;
    let _dispatcher = site.owned(FLAGS).await;
    let bad = order("s", 0, unix_ms(), "Hunan", "null");
    raw.send(Some(JSON), &bad).await;
    raw.send(Some(JSON), "no order").await;
    site.audited(WITHIN, "both are refused", |audit| {
        counts(audit, "s") == [0, 0, 1] && audit.undecodable == 1
    })
    .await;
    assert_eq!(
        replay(&site, &["--all"]),
        "replayed 2 messages, left 0 in quarantine\n"
    );
    let audit = site
        .audited(WITHIN, "both are refused again", |audit| {
            audit.undecodable == 2
        })
        .await;
    assert_eq!(counts(&audit, "s"), [0, 0, 1]);
    let mut kept = Vec::new();
    eventually(WITHIN, "both are kept", async || {
        kept = site.quarantined().await;
        kept.len() == 2
    })
    .await;
    let mut bodies: Vec<_> = kept.into_iter().map(|kept| kept.body).collect();
    bodies.sort();
    assert_eq!(bodies, ["no order", &bad]);
}

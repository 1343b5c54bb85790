//! Late and out of order: revisions correct rows, nothing vanishes, and no source can stall or close
//! the windows alone.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Site, unix_ms};
use crate::raw::{JSON, NDJSON, Raw, counts, order};

const WITHIN: Duration = Duration::from_secs(30);
/// Event time alone closes windows here, not silence.
const PATIENT: &[&str] = &["--idle-timeout", "10m", "--max-slice", "50ms"];

/// Start of a window a while ago.
fn some_time_ago() -> i64 {
    (unix_ms() - 30_000) / 1_000 * 1_000
}

/// Waits until the rows are as expected, and returns them.
async fn rows_become(site: &Site, what: &str, is_so: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let started = Instant::now();
    loop {
        let rows = site.rows();
        if is_so(&rows) {
            return rows;
        }
        assert!(
            started.elapsed() < WITHIN,
            "not within {WITHIN:?}: {what}; the rows are {rows:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn first_is<'a>(field: &'a str, value: impl Into<Value>) -> impl Fn(&[Value]) -> bool + 'a {
    let value = value.into();
    move |rows| rows.first().is_some_and(|row| row[field] == value)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_order_within_the_allowed_lateness_corrects_its_row() {
    let Some(site) = Site::new("revision").await else {
        return;
    };
    let raw = Raw::to(&site).await;
    let _dispatcher = site.owned(PATIENT).await;
    let start = some_time_ago();
    raw.send(Some(JSON), order("s", 0, start, "Hunan", "10.00"))
        .await;
    // Within the delay, so merely out of order: it finds the window open.
    raw.send(Some(JSON), order("s", 1, start + 1_400, "Hubei", "1.00"))
        .await;
    raw.send(Some(JSON), order("s", 2, start + 900, "Hunan", "20.00"))
        .await;
    raw.send(Some(JSON), order("s", 3, start + 3_000, "Hubei", "1.00"))
        .await;
    let rows = rows_become(&site, "the window closes", first_is("state", "closed")).await;
    assert_eq!(rows[0]["orders"], 2);
    assert_eq!(rows[0]["revision"], 0);

    raw.send(Some(JSON), order("s", 4, start + 100, "Hunan", "3.00"))
        .await;
    let rows = rows_become(&site, "the row is corrected", first_is("revision", 1)).await;
    let row = &rows[0];
    assert_eq!(row["orders"], 3);
    assert_eq!([&row["gmv"], &row["mean"]], ["33.00", "11.0000"]);
    assert_eq!([&row["min_amount"], &row["max_amount"]], ["3.00", "20.00"]);
    raw.send(Some(JSON), order("s", 5, start, "Hunan", "50.00"))
        .await;
    let rows = rows_become(&site, "it is corrected again", first_is("revision", 2)).await;
    assert_eq!(rows[0]["gmv"], "83.00");
    assert!(rows[1..].iter().all(|row| row["revision"] == 0), "{rows:?}");

    let audit = site.audit().await.expect("the store answers");
    assert_eq!(counts(&audit, "s"), [6, 0, 0]);
    assert!(site.quarantined().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_beyond_the_allowed_lateness_is_counted_late_and_kept() {
    let Some(site) = Site::new("too_late").await else {
        return;
    };
    let raw = Raw::to(&site).await;
    let _dispatcher = site.owned(PATIENT).await;
    let start = some_time_ago();
    raw.send(Some(JSON), order("s", 0, start, "Hunan", "1.00"))
        .await;
    raw.send(Some(JSON), order("s", 1, start + 10_000, "Hunan", "1.00"))
        .await;
    rows_become(&site, "the window is final", first_is("state", "final")).await;

    let late = order("s", 2, start + 100, "Hunan", "5.00");
    raw.send(Some(JSON), &late).await;
    raw.send(Some(JSON), &late).await;
    let audit = site
        .audited(WITHIN, "the late order is settled", |audit| {
            audit.duplicates == 1
        })
        .await;
    assert_eq!(counts(&audit, "s"), [2, 1, 0]);
    let rows = site.rows();
    assert_eq!([&rows[0]["orders"], &rows[0]["revision"]], [1, 0]);
    let kept = site.quarantined().await;
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!((kept[0].outcome.as_str(), kept[0].seq), ("late", Some(2)));
    assert!(
        kept[0].reason.contains("its window was final"),
        "{}",
        kept[0].reason
    );
    let tuple: Value = serde_json::from_slice(&kept[0].body).expect("JSON");
    assert_eq!(tuple["ts"], start + 100);
    assert_eq!(tuple["amount"], "5.00");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_gone_silent_does_not_stall_the_windows_of_the_others() {
    let Some(site) = Site::new("silent").await else {
        return;
    };
    let raw = Raw::to(&site).await;
    let _dispatcher = site
        .owned(&["--idle-timeout", "5s", "--max-slice", "50ms"])
        .await;
    let start = unix_ms() / 1_000 * 1_000;
    raw.send(Some(JSON), order("silent", 0, start, "Hunan", "1.00"))
        .await;
    let speaking = async {
        for seq in 0.. {
            raw.send(Some(JSON), order("speaks", seq, unix_ms(), "Hunan", "1.00"))
                .await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let closed = |rows: &[Value]| rows.iter().filter(|row| row["state"] != "open").count() >= 3;
    let closing = rows_become(&site, "windows close behind the one that speaks", closed);
    let rows = tokio::select! {
        rows = closing => rows,
        () = speaking => unreachable!("it speaks for ever"),
    };
    assert!(rows.iter().any(|row| row["state"] == "open"), "{rows:?}");
    site.nothing_was_late().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_close_and_become_final_when_all_fall_silent() {
    let Some(site) = Site::new("all_silent").await else {
        return;
    };
    let raw = Raw::to(&site).await;
    let _dispatcher = site
        .owned(&["--idle-timeout", "1s", "--allowed-lateness", "1s"])
        .await;
    let start = some_time_ago();
    // In one message, so that no silence lies between them.
    let [a, b] = [("a", start, "1.00"), ("b", start + 400, "2.00")]
        .map(|(source, ts, amount)| order(source, 0, ts, "Hunan", amount));
    raw.send(Some(NDJSON), format!("{a}\n{b}")).await;
    let rows = rows_become(&site, "the window is final", first_is("state", "final")).await;
    assert_eq!([&rows[0]["orders"], &rows[0]["revision"]], [2, 0]);
    // Silence is no end: the next order opens the next window.
    raw.send(Some(JSON), order("a", 1, start + 5_000, "Hunan", "1.00"))
        .await;
    let audit = site
        .audited(WITHIN, "the stream goes on", |audit| {
            counts(audit, "a") == [2, 0, 0]
        })
        .await;
    assert_eq!(counts(&audit, "b"), [1, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_runs_ahead_closes_no_window() {
    let Some(site) = Site::new("ahead").await else {
        return;
    };
    let raw = Raw::to(&site).await;
    let _dispatcher = site.owned(PATIENT).await;
    let start = some_time_ago();
    raw.send(Some(JSON), order("s", 0, start, "Hunan", "1.00"))
        .await;
    for (seq, ahead_ms) in [(0, 3_600_000), (1, 70_000), (2, 86_400_000 * 365 * 100)] {
        raw.send(
            Some(JSON),
            order("mad", seq, unix_ms() + ahead_ms, "Hunan", "1.00"),
        )
        .await;
    }
    // Ahead, but by no more than is allowed: it counts, and the others are still waited for.
    raw.send(
        Some(JSON),
        order("hasty", 0, unix_ms() + 50_000, "Hunan", "1.00"),
    )
    .await;
    site.audited(WITHIN, "far-future orders are refused", |audit| {
        counts(audit, "mad") == [0, 0, 3] && counts(audit, "hasty") == [1, 0, 0]
    })
    .await;
    let rows = site.rows();
    assert!(rows.iter().all(|row| row["state"] == "open"), "{rows:?}");
    raw.send(Some(JSON), order("s", 1, start + 1, "Hunan", "1.00"))
        .await;
    site.audited(WITHIN, "the window was still open", |audit| {
        counts(audit, "s") == [2, 0, 0]
    })
    .await;
    site.nothing_was_late().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_further_behind_than_the_allowed_skew_is_not_waited_for() {
    let Some(site) = Site::new("skew").await else {
        return;
    };
    let raw = Raw::to(&site).await;
    let _dispatcher = site.owned(&[PATIENT, &["--max-skew", "1m"]].concat()).await;
    let start = some_time_ago();
    raw.send(
        Some(JSON),
        order("slow", 0, start - 600_000, "Hunan", "1.00"),
    )
    .await;
    raw.send(Some(JSON), order("s", 0, start, "Hubei", "1.00"))
        .await;
    raw.send(Some(JSON), order("s", 1, start + 10_000, "Hubei", "1.00"))
        .await;
    let both = |rows: &[Value]| rows.len() == 3 && rows[1]["state"] == "final";
    rows_become(&site, "windows are final without the slow one", both).await;
    raw.send(
        Some(JSON),
        order("slow", 1, start - 599_000, "Hunan", "1.00"),
    )
    .await;
    let audit = site
        .audited(WITHIN, "what it still sends is late", |audit| {
            counts(audit, "slow") == [1, 1, 0]
        })
        .await;
    assert_eq!(counts(&audit, "s"), [2, 0, 0]);
}

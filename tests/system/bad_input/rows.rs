//! Bad rows beside good ones in one message, and rows that contradict each other.

use super::cases::{bad_rows, with};
use super::frames::{self, Row};
use super::{QUICK, WITHIN, is_kept, went_on};
use crate::harness::{Site, unix_ms};
use crate::raw::{ARROW, JSON, NDJSON, Raw, counts, order};

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

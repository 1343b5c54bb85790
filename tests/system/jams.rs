//! Nothing jams: whatever the queue's order, size or age, the pipeline keeps moving within its memory,
//! and nothing on time becomes late.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use windlass_datagen::manifest::Manifest;
use windlass_datagen::message::{Format, Packing};
use windlass_datagen::publish::Speed;
use windlass_datagen::workload::Options;

use crate::hands::{Hand, Slow};
use crate::harness::{Process, Site, unix_ms};
use crate::raw::{JSON, Raw, counts, order};

/// What one dispatcher may hold of the machine, whatever the backlog.
const MEMORY: u64 = 300 << 20;
/// Silence is no matter of these tests, and a busy machine may be slow to publish.
const PATIENT: [&str; 2] = ["--idle-timeout", "10m"];

fn kept_within_memory(dispatcher: &Process) {
    let (_, most) = dispatcher.memory();
    println!("the dispatcher held {} MiB at most", most >> 20);
    assert!(most < MEMORY, "the dispatcher held {most} bytes");
}

/// A size from the environment, so that a slow build can be spared.
fn size(variable: &str, usual: u64) -> u64 {
    let given = std::env::var(variable).ok();
    given.map_or(usual, |given| given.parse().expect("a number"))
}

/// Has all of the orders in the queue before a dispatcher takes the first.
async fn queued(site: &Site, options: Options) -> Manifest {
    site.broker().await.close().await;
    site.publish(options, Format::Json, Speed::Max).await
}

fn plain(format: Format) -> Packing {
    Packing {
        format,
        batch: format.default_batch(),
        duplicates: 0.0,
        seed: 7,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_queue_of_one_source_does_not_make_another_late() {
    let Some(site) = Site::new("long_queue").await else {
        return;
    };
    let backlog = size("WINDLASS_TEST_BACKLOG", 200_000);
    let flags = [&PATIENT[..], &["--prefetch", "1000"]].concat();
    let start_ms = unix_ms() - 60_000;
    let of = |prefix: &str, orders| Options {
        source_prefix: prefix.into(),
        sources: 1,
        orders: Some(orders),
        // Twenty seconds of event time, whatever the number.
        rate: orders as f64 / 20.0,
        start_ms,
        ..Options::default()
    };
    // Both sources have spoken before: a source never seen cannot be waited for.
    let raw = Raw::to(&site).await;
    let dispatcher = site.owned(&flags).await;
    for source in ["a-source-00", "b-source-00"] {
        raw.send(Some(JSON), order(source, 0, start_ms, "Hunan", "0"))
            .await;
    }
    site.settled(2, Duration::from_secs(30)).await;
    dispatcher.kill();
    let a = site
        .publish_packed(of("a-", backlog), plain(Format::Json), Speed::Max)
        .await;
    let b = site
        .publish_packed(of("b-", 1_000), plain(Format::Json), Speed::Max)
        .await;

    // All is queued: from here on b is silent for longer than the idle timeout, behind a's backlog.
    let dispatcher = site.owned(&["--prefetch", "1000"]).await;
    let published = a.totals.orders + b.totals.orders + 2;
    let took = site.settled(published, Duration::from_secs(400)).await;
    println!("{published} orders settled in {took:?}");
    site.nothing_was_late().await;
    let audit = site.audit().await.expect("the store answers");
    assert_eq!(counts(&audit, "a-source-00"), [backlog as i64 + 1, 0, 0]);
    assert_eq!(counts(&audit, "b-source-00"), [1_001, 0, 0]);
    kept_within_memory(&dispatcher);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_ten_minutes_behind_is_waited_for_and_holds_nothing_up() {
    let Some(site) = Site::new("behind").await else {
        return;
    };
    let dispatcher = site.owned(&PATIENT).await;
    let of = |prefix: &str, behind_ms| Options {
        source_prefix: prefix.into(),
        sources: 2,
        rate: 500.0,
        duration_ms: 8_000,
        start_ms: unix_ms() - behind_ms,
        ..Options::default()
    };
    // Side by side; but a source never seen cannot be waited for, so the slow ones speak first.
    let behind = site.publish_packed(of("old-", 600_000), plain(Format::Json), Speed::Times(1.0));
    let now = async {
        site.audited(
            Duration::from_secs(60),
            "the slow ones are known",
            |audit| {
                ["old-source-00", "old-source-01"]
                    .iter()
                    .all(|name| counts(audit, name)[0] > 0)
            },
        )
        .await;
        site.publish_packed(of("now-", 0), plain(Format::Json), Speed::Times(1.0))
            .await
    };
    let (now, behind) = tokio::join!(now, behind);
    let manifest = now.merge(behind).expect("two sets of sources");
    let took = site.equals(&manifest, Duration::from_secs(60)).await;
    println!("settled {took:?} after the last confirm");
    site.nothing_was_late().await;
    kept_within_memory(&dispatcher);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_of_ten_million_orders_fits_the_memory() {
    let Some(site) = Site::new("large_window").await else {
        return;
    };
    let orders = size("WINDLASS_TEST_WINDOW_ORDERS", 10_000_000);
    let options = Options {
        orders: Some(orders),
        rate: orders as f64 * 2.0,
        duration_ms: 1_000,
        disorder_ms: 0,
        start_ms: (unix_ms() - 10_000) / 1_000 * 1_000,
        ..Options::default()
    };
    // All in the queue before the first is taken.
    site.broker().await.close().await;
    let manifest = site
        .publish_packed(options, plain(Format::Arrow), Speed::Max)
        .await;
    // The broker sends ahead as many messages as it may, whatever their size: a frame has some 64 KiB.
    let flags = [&PATIENT[..], &["--prefetch", "1000"]].concat();
    let dispatcher = site.owned(&flags).await;
    let took = site.equals(&manifest, Duration::from_secs(300)).await;
    println!("{orders} orders of one window settled in {took:?}");
    let mut windows: Vec<_> = site
        .rows()
        .iter()
        .map(|row| row["window_start"].to_string())
        .collect();
    windows.dedup();
    assert_eq!(windows.len(), 1, "{windows:?}");
    site.nothing_was_late().await;
    kept_within_memory(&dispatcher);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn workers_that_take_two_seconds_a_batch_make_nothing_late() {
    let Some(site) = Site::new("slow_workers").await else {
        return;
    };
    let options = Options {
        rate: 500.0,
        duration_ms: 8_000,
        start_ms: unix_ms() - 60_000,
        ..Options::default()
    };
    // Everything is in the queue when they start, so that no pause of the publisher is silence.
    let manifest = queued(&site, options).await;
    let dispatcher = site.owned(&["--workers", "0"]).await;
    let two_seconds = Duration::from_secs(2);
    let _hands = ["slow-0", "slow-1"].map(|name| Hand::of(&dispatcher, name, Slow(two_seconds)));
    let took = site.equals(&manifest, Duration::from_secs(120)).await;
    println!("settled after {took:?}");
    site.nothing_was_late().await;
    // What waits is merged into larger batches, so that two workers keep up with one batch a second.
    let status = dispatcher.status().await;
    let handed_out = status["invocations"]["handed_out"]
        .as_u64()
        .expect("a count");
    let windows: BTreeSet<i64> = manifest.windows.iter().map(|row| row.start_ms).collect();
    println!("{handed_out} batches for {} windows", windows.len());
    assert!(
        handed_out <= 3 * windows.len() as u64,
        "{handed_out} batches"
    );
    kept_within_memory(&dispatcher);
}

#[tokio::test(flavor = "multi_thread")]
async fn crashes_in_mid_window_make_nothing_late() {
    let Some(site) = Site::new("mid_window").await else {
        return;
    };
    let orders = 100_000;
    let options = Options {
        orders: Some(orders),
        rate: orders as f64 / 20.0,
        start_ms: unix_ms() - 60_000,
        ..Options::default()
    };
    // Everything is in the queue when it starts, so that no pause of the publisher is silence.
    let manifest = queued(&site, options).await;
    // Slices of a window's part only, so that each crash leaves a window with some of its rows committed.
    let flags = ["--prefetch", "1000", "--max-slice", "50ms"];
    let mut dispatcher = site.owned(&flags).await;
    let began = Instant::now();
    for progress in [1, 3, 5].map(|tenths| orders * tenths / 10) {
        site.audited(Duration::from_secs(60), "the pipeline moves on", |audit| {
            crate::harness::settled(audit) >= progress
        })
        .await;
        let next = site.dispatch_with(&flags, None);
        std::mem::replace(&mut dispatcher, next).kill();
        let settled = site.settled_now().await.expect("the store answers");
        assert!(settled < orders, "the crash came after the last order");
    }
    site.equals(&manifest, Duration::from_secs(200)).await;
    println!(
        "settled after {:?}, with three crashes on the way",
        began.elapsed()
    );
    site.nothing_was_late().await;
    kept_within_memory(&dispatcher);
}

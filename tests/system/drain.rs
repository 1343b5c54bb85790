//! SIGTERM drains, a second one aborts, and no worker outlives its dispatcher.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use windlass_datagen::publish::Speed;
use windlass_datagen::workload::Options;

use crate::harness::{Site, eventually, recovered};
use crate::kills::{frozen_with_a_batch, signal};

const PATIENCE: Duration = Duration::from_secs(60);
/// The default of `--grace`, and a moment for the process to end.
const GRACE: Duration = Duration::from_secs(27);
const PREFETCH: u64 = 1_000;

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_drains_and_the_next_dispatcher_goes_on() {
    let Some(site) = Site::new("drain").await else {
        return;
    };
    let prefetch = PREFETCH.to_string();
    let flags = ["--prefetch", prefetch.as_str()];
    let load = site.load(Options::default(), Speed::Times(1.0));
    let mut dispatcher = site.dispatch(&flags);
    site.progresses(PATIENCE).await;

    dispatcher.signal(Signal::TERM);
    let asked = Instant::now();
    let end = dispatcher.ended(GRACE);
    println!("drained within {:.1}s", asked.elapsed().as_secs_f64());
    assert_eq!(end.code(), Some(0), "{end}: {}", dispatcher.logged());

    let settled = site.settled_now().await.expect("the store answers");
    let _next = site.dispatch(&flags);
    site.progresses_beyond(settled, PATIENCE).await;
    recovered("a drain and a new start", asked.elapsed());
    let manifest = load.end().await;
    site.equals(&manifest, PATIENCE).await;
    // What was delivered and not taken in went back to the queue, and nothing else.
    let redeliveries = site.audit().await.expect("the store answers").redeliveries;
    assert!(redeliveries <= PREFETCH, "{redeliveries} redeliveries");
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_commits_and_acknowledges_all_that_was_taken_in() {
    let Some(site) = Site::new("taken-in").await else {
        return;
    };
    let options = Options {
        rate: 200.0,
        ..Options::default()
    };
    let load = site.load(options, Speed::Times(1.0));
    let mut dispatcher = site.dispatch(&[]);
    site.progresses(PATIENCE).await;
    let worker = frozen_with_a_batch(&dispatcher).await;
    let manifest = load.end().await;
    let mut unacked = None;
    eventually(PATIENCE, "everything is taken in", async || {
        // The queue is looked at five times a second.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let shard = dispatcher.status().await["shards"]["0"].clone();
        let now = shard["queue_unacked"].as_u64();
        let same = now == unacked;
        unacked = now;
        same && shard["queue_ready"] == 0
    })
    .await;
    assert!(unacked > Some(0), "slices are in flight: {unacked:?}");

    dispatcher.signal(Signal::TERM);
    dispatcher.logs("draining", PATIENCE).await;
    signal(worker, Signal::CONT);
    let end = dispatcher.ended(GRACE);
    assert_eq!(end.code(), Some(0), "{end}: {}", dispatcher.logged());
    // With nobody there to do the rest.
    site.equals(&manifest, Duration::ZERO).await;
    let broker = site.broker().await;
    let mut consumer = broker.consume(0, 1).await.expect("the queue is there");
    let mut ready = None;
    // A busy broker may not know at once.
    eventually(PATIENCE, "the broker tells how many wait", async || {
        ready = consumer.ready_count().await.expect("the broker answers");
        ready.is_some()
    })
    .await;
    // What was sent before that answer is here.
    let came_again = consumer.try_next().expect("the channel is open");
    assert_eq!((ready, came_again.map(|one| one.tag)), (Some(0), None));
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_sigterm_aborts_a_drain_and_loses_nothing() {
    let Some(site) = Site::new("abort").await else {
        return;
    };
    let load = site.load(Options::default(), Speed::Times(1.0));
    let mut dispatcher = site.dispatch(&[]);
    site.progresses(PATIENCE).await;
    // A drain cannot end while a worker holds a batch.
    let worker = frozen_with_a_batch(&dispatcher).await;
    dispatcher.signal(Signal::TERM);
    dispatcher.logs("draining", PATIENCE).await;
    assert!(!dispatcher.has_ended());
    dispatcher.signal(Signal::TERM);
    let aborted = Instant::now();
    let end = dispatcher.ended(Duration::from_secs(10));
    assert_eq!(end.code(), Some(1), "{end}: {}", dispatcher.logged());
    assert!(dispatcher.logged().contains("second signal"));
    is_gone(worker).await;

    let _next = site.dispatch(&[]);
    site.progresses(PATIENCE).await;
    recovered("an aborted drain", aborted.elapsed());
    let manifest = load.end().await;
    site.equals(&manifest, PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_gives_up_after_the_grace_period_and_loses_nothing() {
    let Some(site) = Site::new("grace").await else {
        return;
    };
    let load = site.load(Options::default(), Speed::Times(1.0));
    let mut dispatcher = site.dispatch(&["--grace", "6s"]);
    site.progresses(PATIENCE).await;
    // A drain cannot end while a worker holds a batch.
    let worker = frozen_with_a_batch(&dispatcher).await;
    let asked = Instant::now();
    dispatcher.signal(Signal::TERM);
    // One grace period for slices and workers together; the rest is for busy machines.
    let end = dispatcher.ended(Duration::from_secs(10));
    let took = asked.elapsed();
    println!("gave up after {:.1}s", took.as_secs_f64());
    assert!(took >= Duration::from_secs(6), "{took:?}");
    assert_eq!(end.code(), Some(1), "{end}: {}", dispatcher.logged());
    assert!(dispatcher.logged().contains("longer than the grace period"));
    is_gone(worker).await;

    let _next = site.dispatch(&[]);
    site.progresses(PATIENCE).await;
    recovered("a drain that gave up", asked.elapsed());
    let manifest = load.end().await;
    site.equals(&manifest, PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_end_when_their_dispatcher_is_killed() {
    let Some(site) = Site::new("orphans").await else {
        return;
    };
    let load = site.load(Options::default(), Speed::Times(1.0));
    let dispatcher = site.dispatch(&["--workers", "2"]);
    site.progresses(PATIENCE).await;
    let workers = dispatcher.workers();
    assert_eq!(workers.len(), 2, "{workers:?}");
    dispatcher.kill();
    let killed = Instant::now();
    for worker in workers {
        is_gone(worker).await;
    }
    println!("workers gone within {:.1}s", killed.elapsed().as_secs_f64());

    let _next = site.dispatch(&[]);
    site.progresses(PATIENCE).await;
    recovered("a killed dispatcher with two workers", killed.elapsed());
    let manifest = load.end().await;
    site.equals(&manifest, PATIENCE).await;
}

async fn is_gone(process: i32) {
    let what = format!("worker {process} is gone");
    eventually(Duration::from_secs(5), &what, async || {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat"));
        // An orphan that nobody has waited for yet has ended, too: state Z, behind the name.
        stat.map_or(true, |stat| stat.contains(") Z "))
    })
    .await;
}

//! SIGKILL of dispatchers and of workers under load: at every step of the protocol, at random
//! moments, in mid-batch.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use windlass_datagen::publish::Speed;
use windlass_datagen::workload::Options;

use crate::harness::{Database, Process, Site, eventually, recovered, unix_ms};

/// Every point at which the dispatcher can be killed, and how often it lets pass first. Past its
/// first commit a dispatcher has everything in flight: slices, a transaction, acks, late orders.
const STEPS: [(&str, u32); 11] = [
    ("epoch.after-raise", 0),
    ("invoke.before", 3),
    ("invoke.answered", 3),
    ("quarantine.before", 1),
    ("quarantine.after", 1),
    ("commit.before", 2),
    ("commit.after-fence", 2),
    ("commit.before-commit", 2),
    ("commit.after-commit", 2),
    ("ack.before", 2),
    ("ack.after", 2),
];

const RECOVERY: Duration = Duration::from_secs(60);

/// Event time at ten times the pace of the clock, so that late orders come within a second.
fn orders_with_late_ones(seed: u64) -> (Options, Speed) {
    let options = Options {
        seed,
        rate: 100.0,
        late: 0.02,
        // So far back that event time stays in the past for as long as the test lasts.
        start_ms: unix_ms() - 2 * 3_600_000,
        ..Options::default()
    };
    (options, Speed::Times(10.0))
}

/// The dispatcher dies at each step in turn, amid one load on one stream.
async fn dies_at_every_step(database: Database) {
    let Some(site) = Site::on("steps", database).await else {
        return;
    };
    let (options, speed) = orders_with_late_ones(11);
    let load = site.load(options, speed);
    for (step, passes) in STEPS {
        let failpoints = match passes {
            0 => format!("{step}=return"),
            passes => format!("{step}={passes}*off->return"),
        };
        let mut dispatcher = site.dispatch_with(&[], Some(&failpoints));
        let end = dispatcher.ended(RECOVERY);
        assert_eq!(end.signal(), Some(9), "it was to die at {step}: {end}");
        let died = Instant::now();
        let dispatcher = site.dispatch(&[]);
        site.progresses(RECOVERY).await;
        recovered(&format!("{database:?} {step}"), died.elapsed());
        dispatcher.kill();
    }
    let _last = site.dispatch(&[]);
    let manifest = load.end().await;
    site.equals(&manifest, RECOVERY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatcher_killed_at_any_step_neither_loses_nor_doubles_an_order_in_mariadb() {
    dies_at_every_step(Database::MariaDb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatcher_killed_at_any_step_neither_loses_nor_doubles_an_order_in_mysql() {
    dies_at_every_step(Database::MySql).await;
}

/// Marsaglia's xorshift: moments that look random and come again with the seed.
fn xorshift(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatcher_killed_at_eight_random_moments_neither_loses_nor_doubles_an_order() {
    let Some(site) = Site::new("random").await else {
        return;
    };
    let seed = std::env::var("WINDLASS_TEST_SEED").ok();
    let seed = seed.map(|seed| seed.parse().expect("a seed is a number above 0"));
    let seed = seed.unwrap_or(unix_ms().cast_unsigned());
    println!("replay with WINDLASS_TEST_SEED={seed}");
    let mut state = seed;
    let (options, speed) = orders_with_late_ones(seed);
    let load = site.load(options, speed);
    for number in 0..8 {
        let dispatcher = site.dispatch(&[]);
        if number % 2 == 0 {
            // Half of the moments lie in its first steps, half in full swing.
            site.progresses(RECOVERY).await;
        }
        let moment = Duration::from_millis(xorshift(&mut state) % 1_500);
        tokio::time::sleep(moment).await;
        dispatcher.kill();
    }
    let killed = Instant::now();
    let _last = site.dispatch(&[]);
    site.progresses(RECOVERY).await;
    recovered("the last of eight random kills", killed.elapsed());
    let manifest = load.end().await;
    site.equals(&manifest, RECOVERY).await;
}

/// Sends a signal to a worker.
pub fn signal(process: i32, signal: Signal) {
    let process = Pid::from_raw(process).expect("a process id");
    kill_process(process, signal).expect("the worker is there");
}

/// Freezes a worker, waits until it surely holds a batch and nothing else can be done before that
/// is answered, and returns the worker's id.
pub async fn frozen_with_a_batch(dispatcher: &Process) -> i32 {
    let workers = dispatcher.workers();
    assert!(!workers.is_empty());
    signal(workers[0], Signal::STOP);
    let mut handed_out = serde_json::Value::Null;
    eventually(RECOVERY, "the frozen worker has a batch", async || {
        // An answer may still be on its way: what counts is a batch that stays where it is.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let load = &dispatcher.status().await["invocations"];
        let same = load["handed_out"] == handed_out;
        handed_out = load["handed_out"].clone();
        same && load["in_flight"] == 1
    })
    .await;
    workers[0]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_batch_of_a_killed_worker_is_reissued_at_once() {
    let Some(site) = Site::new("worker").await else {
        return;
    };
    let dispatcher = site.dispatch(&[]);
    let load = site.load(Options::default(), Speed::Times(1.0));
    site.progresses(RECOVERY).await;
    let worker = frozen_with_a_batch(&dispatcher).await;
    let before = dispatcher.status().await["invocations"].clone();
    let settled = site.settled_now().await.expect("the store answers");

    signal(worker, Signal::KILL);
    let killed = Instant::now();
    eventually(RECOVERY, "another worker answers", async || {
        let now = dispatcher.status().await;
        now["invocations"]["answered"].as_u64() > before["answered"].as_u64()
    })
    .await;
    let reissued = killed.elapsed();
    // The attempt's deadline is 30 s; it is the process's end that counts.
    assert!(reissued < Duration::from_secs(10), "{reissued:?}");
    let after = dispatcher.status().await["invocations"].clone();
    assert_eq!(
        after["failed"].as_u64(),
        before["failed"].as_u64().map(|failed| failed + 1),
        "the killed worker had one batch: {before} {after}"
    );
    site.progresses_beyond(settled, RECOVERY).await;
    recovered("a worker killed in mid-batch", killed.elapsed());
    let manifest = load.end().await;
    site.equals(&manifest, RECOVERY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_late_answer_of_a_frozen_worker_does_not_count() {
    let Some(site) = Site::new("frozen-worker").await else {
        return;
    };
    let dispatcher = site.dispatch(&["--workers", "2"]);
    let load = site.load(Options::default(), Speed::Times(1.0));
    site.progresses(RECOVERY).await;
    let worker = frozen_with_a_batch(&dispatcher).await;
    let frozen = Instant::now();
    // Its deadline passes, and the other worker is given the batch.
    site.progresses(RECOVERY).await;
    recovered("a worker frozen in mid-batch", frozen.elapsed());

    signal(worker, Signal::CONT);
    eventually(RECOVERY, "its late answer is refused", async || {
        let metrics = dispatcher.metrics().await;
        metrics
            .lines()
            .any(|line| line.contains("kind=\"conflict\"") && !line.trim_end().ends_with(" 0"))
    })
    .await;
    let manifest = load.end().await;
    site.equals(&manifest, RECOVERY).await;
}

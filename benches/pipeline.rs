//! The whole pipeline against real servers, as ratios against a reference of the same run.
//!
//! `tests/services up; eval "$(tests/services env)"; cargo bench --bench pipeline [-- json backlog arrow latency]`
//!
//! * `json`, `arrow`: drains a prefilled quorum queue through decode, dedup, windows, a worker
//!   process, commit and ack, and compares with a bare client that drains as many of the same
//!   messages with the same prefetch and ack batching. Rates are of distinct orders settled (or
//!   acknowledged) between 5% and 95% of them. `WINDLASS_BENCH_ORDERS`,
//!   `WINDLASS_BENCH_PREFETCH` and `WINDLASS_BENCH_ROUNDS` change how many orders, how many
//!   unacknowledged messages and how often.
//! * `backlog`: as `json`, but the broker has moved the messages from its write-ahead log to segment
//!   files, as it does with a backlog that has grown for a while.
//! * `latency`: 20,000 orders a second for 20 s: from the watermark's passing a window's end to the
//!   committed rows.

#![allow(
    clippy::disallowed_methods,
    reason = "a benchmark is a shell: it reads clocks"
)]
#![allow(dead_code, reason = "the harness is shared with the system tests")]

#[path = "../tests/system/harness.rs"]
mod harness;
#[path = "../tests/system/load.rs"]
mod load;
#[path = "../tests/system/process.rs"]
mod process;

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use harness::Site;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use windlass_datagen::message::{Format, Packing};
use windlass_datagen::publish::Speed;
use windlass_datagen::workload::Options;

struct Drain {
    name: &'static str,
    format: Format,
    batch: usize,
    orders: u64,
    prefetch: u16,
    backlog: bool,
    /// What its median is to be at least: the ratio, and M orders/s.
    goal: (f64, f64),
}

/// What a dispatcher that drains may hold beyond what it held idle, bytes.
const MEMORY: u64 = 256 << 20;
/// Window latency at 20,000 orders/s, p50 and p99, ms.
const LATENCY: [f64; 2] = [10.0, 50.0];

const DRAINS: [Drain; 3] = [
    Drain {
        name: "json",
        format: Format::Json,
        batch: 1,
        orders: 400_000,
        prefetch: 20_000,
        backlog: false,
        goal: (0.8, 0.0),
    },
    Drain {
        name: "backlog",
        format: Format::Json,
        batch: 1,
        orders: 400_000,
        prefetch: 20_000,
        backlog: true,
        goal: (0.8, 0.0),
    },
    Drain {
        name: "arrow",
        format: Format::Arrow,
        batch: 2_400,
        orders: 40_000_000,
        prefetch: 2_000,
        backlog: false,
        goal: (0.5, 5.0),
    },
];

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |name: &str| {
        let names = asked.iter().filter(|argument| !argument.starts_with('-'));
        let mut names = names.peekable();
        names.peek().is_none() || names.any(|argument| argument == name)
    };
    let mut missed = Vec::new();
    for drain in &DRAINS {
        if wanted(drain.name) {
            runtime.block_on(measure(drain, &mut missed));
        }
    }
    if wanted("latency") {
        runtime.block_on(latency(&mut missed));
    }
    if !missed.is_empty() {
        eprintln!("goals that were missed:\n{}", missed.join("\n"));
        std::process::exit(1);
    }
}

async fn measure(drain: &Drain, missed: &mut Vec<String>) {
    let options = Options {
        rate: 200_000.0,
        start_ms: harness::unix_ms() - 600_000,
        ..Options::default()
    };
    let packing = Packing {
        format: drain.format,
        batch: drain.batch,
        duplicates: 0.0,
        seed: 7,
    };
    let orders = setting("WINDLASS_BENCH_ORDERS", drain.orders);
    let rounds = setting("WINDLASS_BENCH_ROUNDS", 5);
    let prefetch = setting("WINDLASS_BENCH_PREFETCH", drain.prefetch.into());
    let prefetch = u16::try_from(prefetch).expect("a prefetch is at most 65535");
    let mut ratios = Vec::new();
    let mut rates = Vec::new();
    let mut most = 0;
    for round in 1..=rounds {
        // A stream of its own: the same orders on the last round's windows would be late.
        let Some(site) = Site::new("bench").await else {
            return;
        };
        site.broker().await;
        let of = |half: &str| Options {
            source_prefix: format!("{half}-"),
            orders: Some(orders),
            ..options.clone()
        };
        let publish = async |half: &str| {
            write_broker_log();
            let manifest = site.publish_packed(of(half), packing, Speed::Max).await;
            if drain.backlog {
                write_broker_log();
            }
            manifest
        };
        let bare = async || {
            publish("bare").await;
            bare_drain(&site, prefetch, orders).await
        };
        let full = async || {
            let manifest = publish("full").await;
            let dispatcher = site.dispatch(&["--prefetch", &prefetch.to_string()]);
            let idle = dispatcher.memory().0;
            let rate = windlass_drain(&dispatcher, manifest.totals.orders).await;
            (rate, idle, dispatcher.memory().1)
        };
        // Each goes first in turn: a machine that grows slower or faster favours neither.
        let (bare, (full, idle, peak)) = if round % 2 == 1 {
            let bare = bare().await;
            (bare, full().await)
        } else {
            let full = full().await;
            (bare().await, full)
        };
        ratios.push(full / bare);
        rates.push(full / 1e6);
        most = most.max(peak.saturating_sub(idle));
        println!(
            "{}: bare {:.3} M orders/s, windlass {:.3} M orders/s, ratio {:.2}, dispatcher memory {} MiB idle, peak {} MiB",
            drain.name,
            bare / 1e6,
            full / 1e6,
            full / bare,
            idle >> 20,
            peak >> 20
        );
    }
    let [(low, middle, high), (_, rate, _)] = [ratios, rates].map(spread);
    println!(
        "{}: median of {rounds} rounds: {rate:.3} M orders/s, ratio {middle:.2} ({low:.2}–{high:.2})",
        drain.name
    );
    let (name, (ratio, speed)) = (drain.name, drain.goal);
    if middle < ratio {
        missed.push(format!(
            "{name}: expected a ratio of {ratio}, got {middle:.3}"
        ));
    }
    if rate < speed {
        missed.push(format!(
            "{name}: expected {speed} M orders/s, got {rate:.3}"
        ));
    }
    if most > MEMORY {
        let [most, bound] = [most, MEMORY].map(|bytes| bytes >> 20);
        missed.push(format!(
            "{name}: expected {bound} MiB above idle at most, got {most}"
        ));
    }
}

/// Smallest, median, largest.
fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    (
        values[0],
        values[values.len() / 2],
        values[values.len() - 1],
    )
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Orders done at points in time, of which the middle nine tenths are the rate: the first and the
/// last slice say how a drain starts and ends, not how fast it goes.
#[derive(Default)]
struct Progress(Vec<(Instant, u64)>);

impl Progress {
    fn note(&mut self, done: u64) {
        self.0.push((Instant::now(), done));
    }

    /// Orders a second between the first point at 5% of `orders` and the first at 95%.
    fn rate(&self, orders: u64) -> f64 {
        let reached = |share: f64| {
            let least = (orders as f64 * share) as u64;
            *self
                .0
                .iter()
                .find(|&&(_, done)| done >= least)
                .expect("the drain reached its end")
        };
        let ((from, before), (to, after)) = (reached(0.05), reached(0.95));
        (after - before) as f64 / (to - from).as_secs_f64()
    }
}

/// Has the broker write its quorum queues' log to segment files, and waits until that is done. By
/// itself it does so after every 512 MiB, with a third of a core for seconds, in the midst of the one
/// drain or of the other: so before each publishing, which then does not fill the log.
fn write_broker_log() {
    harness::service(&[
        "rabbitmqctl",
        "eval",
        "ok = ra_log_wal:force_roll_over(ra_log_wal), timer:sleep(1000), ok = ra_log_segment_writer:await(ra_log_segment_writer).",
    ]);
}

/// Takes and acknowledges all messages of the queue with the AMQP client alone, and does nothing
/// else with them.
async fn bare_drain(site: &Site, prefetch: u16, orders: u64) -> f64 {
    let connection = Connection::connect(&site.broker, ConnectionProperties::default())
        .await
        .expect("the broker answers");
    let channel = connection.create_channel().await.expect("a channel");
    channel
        .basic_qos(prefetch, BasicQosOptions::default())
        .await
        .expect("a prefetch");
    let queue = format!("{}.0", site.stream.name);
    let declared = channel.queue_declare(
        queue.as_str().into(),
        QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        },
        FieldTable::default(),
    );
    let messages = u64::from(declared.await.expect("a queue").message_count());
    let mut consumer = channel
        .basic_consume(
            queue.as_str().into(),
            "bare".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
        .expect("a consumer");
    let every = u64::from(prefetch / 4);
    let mut progress = Progress::default();
    for taken in 1..=messages {
        let delivery = consumer.next().await.expect("a delivery").expect("one");
        std::hint::black_box(&delivery.data);
        if taken % every == 0 || taken == messages {
            channel
                .basic_ack(delivery.delivery_tag, BasicAckOptions { multiple: true })
                .await
                .expect("an open channel");
            progress.note(taken * orders / messages);
        }
    }
    connection
        .close(200, "done".into())
        .await
        .expect("an open connection");
    progress.rate(orders)
}

/// Samples what the dispatcher has settled until that is all.
async fn windlass_drain(dispatcher: &harness::Process, orders: u64) -> f64 {
    let mut progress = Progress::default();
    loop {
        let status = dispatcher.status().await;
        let settled = status["tuples_settled"].as_u64().expect("a count");
        progress.note(settled);
        if settled >= orders {
            return progress.rate(orders);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn latency(missed: &mut Vec<String>) {
    let Some(site) = Site::new("bench").await else {
        return;
    };
    let dispatcher = site.dispatch(&[]);
    let options = Options {
        rate: 20_000.0,
        duration_ms: 20_000,
        ..Options::default()
    };
    let packing = Packing {
        format: Format::Ndjson,
        batch: 20,
        duplicates: 0.0,
        seed: 7,
    };
    let manifest = site
        .publish_packed(options, packing, Speed::Times(1.0))
        .await;
    let orders = manifest.totals.orders;
    site.settled(orders, Duration::from_secs(60)).await;
    let status = dispatcher.status().await;
    let latency = &status["window_latency"];
    println!(
        "latency at 20,000 orders/s: p50 {} ms, p99 {} ms over {} windows",
        latency["p50_ms"], latency["p99_ms"], latency["samples"]
    );
    for (name, bound) in ["p50_ms", "p99_ms"].into_iter().zip(LATENCY) {
        let took = latency[name].as_f64().expect("a latency");
        if took > bound {
            missed.push(format!(
                "latency: expected {name} {bound} at most, got {took}"
            ));
        }
    }
}

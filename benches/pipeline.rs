//! The whole pipeline against real servers, as ratios against a reference of the same run.
//!
//! `tests/services up; eval "$(tests/services env)"; cargo bench --bench pipeline [-- json arrow latency]`
//!
//! * `json`, `arrow`: drains a prefilled quorum queue through decode, dedup, windows, a worker
//!   process, commit and ack, and compares with a bare consumer that drains the same messages with
//!   the same prefetch and ack batching. Rates are of distinct orders, from the first that is
//!   settled (or taken) to the last.
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

use harness::Site;
use windlass_datagen::message::{Format, Packing};
use windlass_datagen::publish::Speed;
use windlass_datagen::workload::Options;

struct Drain {
    name: &'static str,
    format: Format,
    batch: usize,
    orders: u64,
    prefetch: u16,
}

const DRAINS: [Drain; 2] = [
    Drain {
        name: "json",
        format: Format::Json,
        batch: 1,
        orders: 400_000,
        prefetch: 20_000,
    },
    Drain {
        name: "arrow",
        format: Format::Arrow,
        batch: 2_400,
        orders: 10_000_000,
        prefetch: 2_000,
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
    for drain in &DRAINS {
        if wanted(drain.name) {
            runtime.block_on(measure(drain));
        }
    }
    if wanted("latency") {
        runtime.block_on(latency());
    }
}

async fn measure(drain: &Drain) {
    let Some(site) = Site::new("bench").await else {
        return;
    };
    let options = Options {
        orders: Some(drain.orders),
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
    let broker = site.broker().await;
    let mut ratios = Vec::new();
    for round in 1..=2 {
        let of_round = |half: &str| Options {
            source_prefix: format!("{half}{round}-"),
            ..options.clone()
        };
        site.publish_packed(of_round("bare"), packing, Speed::Max)
            .await;
        let bare = bare_drain(&broker, drain).await;

        let manifest = site
            .publish_packed(of_round("full"), packing, Speed::Max)
            .await;
        let prefetch = drain.prefetch.to_string();
        let dispatcher = site.dispatch(&["--prefetch", &prefetch]);
        let full = windlass_drain(&dispatcher, manifest.totals.orders).await;
        let (now, peak) = dispatcher.memory();
        ratios.push(full / bare);
        println!(
            "{}: bare {:.3} M orders/s, windlass {:.3} M orders/s, ratio {:.2}, dispatcher memory {} MiB, peak {} MiB",
            drain.name,
            bare / 1e6,
            full / 1e6,
            full / bare,
            now >> 20,
            peak >> 20
        );
    }
    let best = ratios.iter().copied().fold(0.0, f64::max);
    println!(
        "{}: best ratio of {} rounds: {best:.2}",
        drain.name,
        ratios.len()
    );
}

/// Takes and acknowledges all messages of the queue and does nothing else with them.
async fn bare_drain(broker: &windlass_dispatcher::broker::Broker, drain: &Drain) -> f64 {
    let messages = drain.orders.div_ceil(drain.batch as u64);
    let mut consumer = broker.consume(0, drain.prefetch).await.expect("a consumer");
    let every = u64::from(drain.prefetch / 4);
    let mut taken = 0;
    let mut since_ack = 0;
    let mut started = None;
    loop {
        let next = if taken < messages {
            Some(consumer.next().await.expect("a delivery"))
        } else if consumer.ready_count().await.expect("a count") > 0 {
            // Batches that were not full made a few more messages than that.
            Some(consumer.next().await.expect("a delivery"))
        } else {
            consumer.try_next().expect("an open channel")
        };
        let Some(delivery) = next else { break };
        started.get_or_insert_with(Instant::now);
        taken += 1;
        since_ack += 1;
        if since_ack == every || taken >= messages {
            consumer.ack(delivery.tag).await.expect("an open channel");
            since_ack = 0;
        }
    }
    let took = started.expect("messages").elapsed();
    consumer.close().await;
    drain.orders as f64 / took.as_secs_f64()
}

async fn windlass_drain(dispatcher: &harness::Process, orders: u64) -> f64 {
    let settled = async || {
        let status = dispatcher.status().await;
        status["tuples_settled"].as_u64().expect("a count")
    };
    let mut first = 0;
    while first == 0 {
        first = settled().await;
    }
    let started = Instant::now();
    while settled().await < orders {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (orders - first) as f64 / started.elapsed().as_secs_f64()
}

async fn latency() {
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
}

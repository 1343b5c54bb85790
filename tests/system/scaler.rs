//! A scaler of its own beside a dispatcher that is killed and comes back.

use std::time::Duration;

use windlass_datagen::publish::Speed;
use windlass_datagen::workload::Options;
use windlass_dispatcher::store::{DecisionRow, Store};

use crate::harness::{Process, Site, eventually, free_address};

const WITHIN: Duration = Duration::from_secs(60);
const RATE: f64 = 500.0;

fn dispatcher(site: &Site, address: std::net::SocketAddr) -> Process {
    let listen = address.to_string();
    let command = site.windlass(&["dispatch", "--workers", "2", "--listen", &listen]);
    let process = Process::start(command, site.dir.path(), address);
    process.answers();
    process
}

/// The decisions of the only run.
async fn decisions(site: &Site) -> Vec<DecisionRow> {
    let store = Store::connect(&site.store)
        .await
        .expect("the store is there");
    let mut journal = store.journal(&site.stream);
    let runs = journal.runs(2).await.expect("the store answers");
    match runs[..] {
        [] => Vec::new(),
        [(run, _)] => journal.decisions(run, 0, 10_000).await.expect("rows"),
        _ => panic!("one scaler, one run: {runs:?}"),
    }
}

/// Waits for so many more decisions.
async fn decides(site: &Site, more: usize) {
    let before = decisions(site).await.len();
    eventually(WITHIN, "the scaler decides", async || {
        decisions(site).await.len() >= before + more
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatcher_that_comes_back_is_no_step_of_load() {
    let Some(site) = Site::new("rescaled").await else {
        return;
    };
    let options = Options {
        rate: RATE,
        ..Options::default()
    };
    let load = site.load(options, Speed::Times(1.0));
    let address = free_address();
    let first = dispatcher(&site, address);
    site.progresses(WITHIN).await;

    let tuning = site.dir.path().join("tuning");
    std::fs::write(&tuning, "decision-interval: 1s\nmax-size: 8\n").expect("the tuning");
    let (url, metrics) = (format!("http://{address}"), free_address());
    let (tuning, listen) = (tuning.display().to_string(), metrics.to_string());
    let scaler = [
        "scaler",
        "--dispatcher",
        &url,
        "--tuning",
        &tuning,
        "--listen",
        &listen,
    ];
    let scaler = Process::start(site.windlass(&scaler), site.dir.path(), metrics);
    scaler.answers();
    decides(&site, 10).await;

    first.kill();
    let _second = dispatcher(&site, address);
    site.progresses(WITHIN).await;
    decides(&site, 10).await;

    let rows = decisions(&site).await;
    let seconds: Vec<&str> = rows.iter().flat_map(|row| row.seconds.lines()).collect();
    let gap = |line: &&str| line.ends_with("no-answer") || line.ends_with("restarted");
    let gaps = seconds.iter().filter(|line| gap(line)).count();
    assert!(gaps > 0, "the restart was not seen: {seconds:?}");
    // Counted from the dispatcher's start, or with what had waited in the queue, it would be thousands.
    let arrived = |line: &&str| {
        line.split(',')
            .nth(7)
            .and_then(|arrived| arrived.parse().ok())
    };
    let highest = seconds.iter().filter_map(arrived).fold(0.0, f64::max);
    assert!(
        highest < 4.0 * RATE,
        "{highest} orders in a second: {seconds:?}"
    );
    for row in &rows {
        assert!(row.desired <= 3, "{}: {}", row.no, row.reason);
    }
    let manifest = load.end().await;
    site.equals(&manifest, WITHIN).await;
}

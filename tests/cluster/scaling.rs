//! The warm pool grows and shrinks under load, and no worker loses what it runs.

use std::time::Duration;

use windlass_datagen::publish::Speed;
use windlass_datagen::workload::Options;

use crate::harness::{Site, eventually};

const WITHIN: Duration = Duration::from_secs(120);
const TIMES: u32 = 50;

#[tokio::test(flavor = "multi_thread")]
async fn scaling_fifty_times_under_load_reissues_nothing() {
    // Without Jobs: what fails is a warm worker's.
    let Some(site) = Site::with("scaling", "placement = \"pool\"\n").await else {
        return;
    };
    let options = Options {
        rate: 1_000.0,
        ..Options::default()
    };
    let load = site.load(options, Speed::Times(1.0));
    site.progresses(WITHIN).await;
    for time in 0..TIMES {
        let size = if time % 2 == 0 { 4 } else { 1 };
        let replicas = format!("--replicas={size}");
        site.kubectl(&["scale", "deployment/windlass-workers", &replicas]);
        // By turns, pods that work are removed and pods that are just being made.
        let at_work = time % 4 == 0;
        eventually(WITHIN, "the pool has the size", async || match at_work {
            true => site.status().await["workload"]["workers_ready"] == size,
            false => site.pods("worker").len() == size,
        })
        .await;
    }
    site.progresses(WITHIN).await;
    let status = site.status().await;
    assert_eq!(status["invocations"]["failed"], 0, "{status}");
    let manifest = load.end().await;
    site.equals(&manifest, WITHIN).await;
}

//! The warm pool grows and shrinks under load, and no worker loses what it runs.

use std::time::Duration;

use windlass_datagen::publish::Speed;
use windlass_datagen::workload::Options;

use crate::harness::{Extras, Site, eventually};

const WITHIN: Duration = Duration::from_secs(120);
/// Up and down.
const TIMES: u32 = 50;
/// Four batches come at once, each second: all workers are busy then, and one can do it all.
const SLOW: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: windlass-workers}\nspec: {template: {spec: \
                    {containers: [{name: worker, env: [{name: WINDLASS_PACE, value: 200ms+0s}]}]}}}\n";

#[tokio::test(flavor = "multi_thread")]
async fn scaling_fifty_times_under_load_reissues_nothing() {
    let extras = Extras {
        // Without Jobs: what fails is a warm worker's.
        dispatch: "placement = \"pool\"\nchunk-rows = 250\n",
        patches: &[SLOW],
        ..Extras::default()
    };
    let Some(site) = Site::beside("scaling", &extras).await else {
        return;
    };
    let options = Options {
        rate: 1_000.0,
        ..Options::default()
    };
    let load = site.load(options, Speed::Times(1.0));
    site.progresses(WITHIN).await;
    for time in 0..2 * TIMES {
        let size = if time % 2 == 0 { 4 } else { 1 };
        let replicas = format!("--replicas={size}");
        site.kubectl(&["scale", "deployment/windlass-workers", &replicas]);
        // By turns, pods that work are removed and pods that are just being made.
        let at_work = time % 4 == 0;
        eventually(WITHIN, "the pool has the size", async || match at_work {
            true => site.status().await["workload"]["workers_ready"] == size,
            // Those that are ending aside: a kubelet may take minutes to forget one that it was just starting.
            false => site.pod_names("worker").len() == size,
        })
        .await;
        if at_work {
            // One stays: of these one at least has to leave.
            eventually(WITHIN, "two workers are busy", async || {
                site.status().await["invocations"]["busy"].as_u64() >= Some(2)
            })
            .await;
        }
    }
    site.progresses(WITHIN).await;
    // What one may have left is done by four.
    site.kubectl(&["scale", "deployment/windlass-workers", "--replicas=4"]);
    let manifest = load.end().await;
    site.equals(&manifest, WITHIN).await;
    let status = site.status().await;
    assert_eq!(status["invocations"]["failed"], 0, "{status}");
}

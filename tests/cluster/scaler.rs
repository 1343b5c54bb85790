//! The scaler on a Deployment of warm workers that take their time.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use windlass_datagen::message::Format;
use windlass_datagen::publish::Speed;
use windlass_datagen::workload::Options;
use windlass_dispatcher::store::Store;
use windlass_dispatcher::workload::Latencies;

use crate::harness::{Extras, Site, eventually, unix_ms};
use crate::submit::well;

const WITHIN: Duration = Duration::from_secs(180);
/// 20 ms a batch and 6 ms a tuple: what the step costs is the workers' time, not the two cores that broker
/// and database are on as well.
const SLOW: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: windlass-workers}\nspec: {template: {spec: \
                    {containers: [{name: worker, env: [{name: WINDLASS_PACE, value: 20ms+6ms}]}]}}}\n";
const TUNING: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: windlass-scaler}\n\
                      data: {max-size: \"20\", latency-goal: 1s}\n";

/// Windows that were closed, and of these the late ones.
async fn windows(site: &Site) -> (f64, f64) {
    let status = site.status().await;
    let latencies = status["workload"]["committed_windows"].clone();
    let latencies: Latencies = serde_json::from_value(latencies).expect("latencies");
    (latencies.above(0.0), latencies.above(1_000.0))
}

/// Pods that there are to be.
fn size(site: &Site) -> u64 {
    let deployment = site.kubectl(&[
        "get",
        "deployment/windlass-workers",
        "--output",
        "jsonpath={.spec.replicas}",
    ]);
    deployment.parse().expect("a number of pods")
}

/// Whether the scaler has decided anything; `None` while the store cannot be asked.
async fn has_decided(site: &Site) -> Option<bool> {
    let store = Store::connect(&site.store).await.ok()?;
    let decision = store.journal(&site.stream).decision(None, false).await;
    Some(decision.ok()?.is_some())
}

async fn workers(site: &Site, what: &str) -> u64 {
    let status = site.status().await;
    status["invocations"][what].as_u64().expect("a count")
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_pods_leave_before_busy_ones() {
    // As long as an attempt may take, nearly, for 27 orders: whoever leaves within it had nothing in hand.
    let slow = SLOW.replace("20ms+6ms", "1s+1s");
    let tuning = TUNING.replace("max-size", "mode: static, static-size: \"5\", max-size");
    let extras = Extras {
        dispatch: "placement = \"pool\"\n",
        components: &["scaler"],
        patches: &[&slow, &tuning],
        ..Extras::default()
    };
    let Some(site) = Site::beside("idle", &extras).await else {
        return;
    };
    site.workers_wait(5, WITHIN).await;
    let publish = async |orders: u64, prefix: &str| {
        let options = Options {
            orders: Some(orders),
            // All in one window.
            start_ms: unix_ms() / 1_000 * 1_000,
            disorder_ms: 0,
            ..orders_a_second(10_000.0, prefix)
        };
        site.publish(options, Format::Json, Speed::Max).await;
    };
    // The worker that has waited for longest gets a batch. The pod that the pool began with, which a
    // Deployment would keep, has had its own when the long one comes.
    for round in 1..=2 {
        publish(1, &format!("short-{round}-")).await;
        eventually(WITHIN, "a short batch is answered", async || {
            workers(&site, "answered").await == round
        })
        .await;
    }
    publish(27, "long-").await;
    eventually(WITHIN, "somebody is busy", async || {
        workers(&site, "busy").await == 1
    })
    .await;
    let set = "{\"data\": {\"static-size\": \"1\"}}";
    site.kubectl(&["patch", "configmap", "windlass-scaler", "--patch", set]);
    eventually(WITHIN, "one pod is to stay", async || {
        site.pod_names("worker").len() == 1
    })
    .await;
    // The others end at once, and who is left is busy: so it is the pod that stays.
    let mut left = Value::Null;
    eventually(WITHIN, "nobody is idle", async || {
        left = site.status().await["invocations"].clone();
        left["idle"] == 0 && left["parked"] == 0
    })
    .await;
    assert_eq!(left["busy"], 1, "{left}");
    assert_eq!(left["answered"], 2, "the long one has not ended: {left}");
    eventually(WITHIN, "all orders are settled", async || {
        site.settled_now().await == Some(29)
    })
    .await;
    site.workers_wait(1, WITHIN).await;
    assert_eq!(workers(&site, "failed").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn applying_the_manifests_again_leaves_the_pools_size_to_the_scaler() {
    let tuning = TUNING.replace("max-size", "mode: static, static-size: \"3\", max-size");
    let extras = Extras {
        components: &["scaler"],
        patches: &[&tuning],
        ..Extras::default()
    };
    let Some(site) = Site::beside("applied", &extras).await else {
        return;
    };
    eventually(WITHIN, "the scaler has set a size", async || {
        size(&site) == 3
    })
    .await;
    site.rolled_out("windlass-workers");
    // Rises with every change of what is wanted, also with one that is undone at once.
    let generation = || {
        let path = "jsonpath={.metadata.generation}";
        site.kubectl(&["get", "deployment/windlass-workers", "--output", path])
    };
    let before = generation();
    site.apply_all();
    assert_eq!((size(&site), generation()), (3, before));
}

fn orders_a_second(rate: f64, prefix: &str) -> Options {
    Options {
        rate,
        source_prefix: prefix.into(),
        ..Options::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pool_follows_a_tenfold_step_and_no_batch_is_lost_by_it() {
    let extras = Extras {
        // Without Jobs: what is late is the pool's.
        dispatch: "placement = \"pool\"\nchunk-rows = 10\n",
        components: &["scaler"],
        patches: &[SLOW, TUNING],
        ..Extras::default()
    };
    let Some(site) = Site::beside("step", &extras).await else {
        return;
    };
    let calm = site.load(orders_a_second(25.0, "calm-"), Speed::Times(1.0));
    site.progresses(WITHIN).await;
    eventually(WITHIN, "the scaler decides", async || {
        has_decided(&site).await == Some(true)
    })
    .await;
    let started = Instant::now();
    eventually(WITHIN, "the pool is small", async || size(&site) <= 2).await;

    let step = site.load(orders_a_second(225.0, "step-"), Speed::Times(1.0));
    eventually(WITHIN, "the pool follows", async || {
        let status = site.status().await;
        let ready = status["workload"]["workers_ready"].as_u64();
        ready.is_some_and(|ready| ready >= 3)
    })
    .await;
    // Eight seconds in which windows close and none is late.
    let (mut closed, mut late) = windows(&site).await;
    eventually(WITHIN, "latency recovers", async || {
        let now = windows(&site).await;
        if now.1 >= late + 0.5 {
            (closed, late) = now;
        }
        now.0 >= closed + 8.0
    })
    .await;
    let peak = size(&site);
    let mut settled = step.end().await.totals.orders;
    eventually(WITHIN, "it shrinks again", async || size(&site) <= peak / 2).await;
    settled += calm.end().await.totals.orders;
    eventually(WITHIN, "all orders are settled", async || {
        site.settled_now().await == Some(settled)
    })
    .await;
    let status: Value = site.status().await;
    let invocations = &status["invocations"];
    assert_eq!(invocations["failed"], 0, "{invocations}");
    assert_eq!(invocations["handed_out"], invocations["answered"]);

    let lasted = started.elapsed().as_secs();
    // The rows of the end are there when it has ended.
    site.kubectl(&["scale", "deployment/windlass-scaler", "--replicas=0"]);
    eventually(WITHIN, "the scaler has ended", async || {
        site.pods("scaler").is_empty()
    })
    .await;
    let mut verify = Command::new(env!("CARGO_BIN_EXE_windlass"));
    verify.args(["scaler", "replay", "--verify"]);
    verify
        .env("WINDLASS_CONFIG", site.dir.path().join("windlass.toml"))
        .env("WINDLASS_STORE", &site.store);
    let verified = well(&verify.output().expect("the windlass command starts"));
    let (seconds, said) = verified
        .split_once(" seconds decided again: all ")
        .expect(&verified);
    let (count, _) = said.split_once(" decisions are the same").expect(&verified);
    let [seconds, count] = [seconds, count].map(|text| text.parse::<u64>().expect(&verified));
    // Most seconds were measured, and a choice every five of them, none left out.
    assert!(
        seconds >= lasted / 2 && count >= seconds / 5,
        "{verified} in {lasted} s"
    );
    let [closed, late] = <[f64; 2]>::from(windows(&site).await);
    println!("a peak of {peak} pods; {late:.0} of {closed:.0} windows late\n{verified}");
}

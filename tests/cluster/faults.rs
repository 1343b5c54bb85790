//! What dies or is taken away under load, and that every order is counted once all the same.

use std::process::Command;
use std::time::Duration;

use windlass_datagen::publish::Speed;
use windlass_datagen::workload::Options;

use crate::harness::{Extras, Site, eventually, root};

const WITHIN: Duration = Duration::from_secs(120);

fn steadily() -> Options {
    Options {
        rate: 100.0,
        ..Options::default()
    }
}

/// Workers of whom most have a batch at any time, for longer than a kubelet leaves to a pod that is deleted by
/// force: 2 s.
const BUSY: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: windlass-workers}\nspec: {replicas: 8, \
                    template: {spec: {containers: [{name: worker, env: [{name: WINDLASS_PACE, value: 4s+0s}]}]}}}\n";

/// Stops and starts programs of the cluster.
fn component(does: &str, name: &str) {
    let program = root().join("k8s/local/component");
    let output = Command::new(program).args([does, name]).output();
    let output = output.expect("k8s/local/component starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{does} {name}: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_workers_lose_nothing() {
    let extras = Extras {
        // Without Jobs: what fails is a warm worker's.
        dispatch: "placement = \"pool\"\n",
        patches: &[BUSY],
        ..Extras::default()
    };
    let Some(site) = Site::beside("workers-killed", &extras).await else {
        return;
    };
    let load = site.load(steadily(), Speed::Times(1.0));
    let counted = async |what: &str| site.status().await["invocations"][what].as_u64();
    for _ in 0..3 {
        eventually(WITHIN, "workers are busy", async || {
            counted("busy").await >= Some(3)
        })
        .await;
        let before = counted("failed").await;
        site.kill("worker");
        eventually(WITHIN, "their attempts have failed", async || {
            counted("failed").await > before
        })
        .await;
        site.rolled_out("windlass-workers");
        site.progresses(WITHIN).await;
    }
    let manifest = load.end().await;
    site.equals(&manifest, WITHIN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_dispatcher_is_taken_over_from() {
    let Some(site) = Site::new("dispatcher-killed").await else {
        return;
    };
    let load = site.load(steadily(), Speed::Times(1.0));
    site.progresses(WITHIN).await;
    for _ in 0..2 {
        let before = site.pod_names("dispatcher");
        site.kill("dispatcher");
        eventually(WITHIN, "another dispatcher comes", async || {
            let now = site.pod_names("dispatcher");
            !now.is_empty() && now != before
        })
        .await;
        site.rolled_out("windlass-dispatcher");
        site.progresses(WITHIN).await;
    }
    let manifest = load.end().await;
    site.equals(&manifest, WITHIN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rollouts_lose_nothing() {
    let Some(site) = Site::new("rollouts").await else {
        return;
    };
    let load = site.load(steadily(), Speed::Times(1.0));
    site.progresses(WITHIN).await;
    for deployment in ["windlass-workers", "windlass-dispatcher"] {
        site.kubectl(&["rollout", "restart", &format!("deployment/{deployment}")]);
        site.rolled_out(deployment);
        site.progresses(WITHIN).await;
    }
    let manifest = load.end().await;
    site.equals(&manifest, WITHIN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_api_server_the_warm_pool_goes_on() {
    let Some(site) = Site::new("no-api-server").await else {
        return;
    };
    let load = site.load(steadily(), Speed::Times(1.0));
    site.progresses(WITHIN).await;
    component("stop", "kube-apiserver");
    let before = site.settled_now().await.expect("the store answers");
    let outage = Duration::from_secs(60);
    tokio::time::sleep(outage).await;
    let after = site.settled_now().await.expect("the store answers");
    component("start", "kube-apiserver");
    // At 100 a second: a pause of ten seconds would show.
    assert!(
        after - before > 5_000,
        "{} settled in {outage:?}",
        after - before
    );
    site.progresses(WITHIN).await;
    let manifest = load.end().await;
    site.equals(&manifest, WITHIN).await;
}

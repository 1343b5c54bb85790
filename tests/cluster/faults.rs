//! What dies or is taken away under load, and that every order is counted once all the same.

use std::process::Command;
use std::time::Duration;

use windlass_datagen::publish::Speed;
use windlass_datagen::workload::Options;

use crate::harness::{Site, eventually, root};

const WITHIN: Duration = Duration::from_secs(120);

fn steadily() -> Options {
    Options {
        rate: 100.0,
        ..Options::default()
    }
}

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
    let Some(site) = Site::new("workers-killed").await else {
        return;
    };
    let load = site.load(steadily(), Speed::Times(1.0));
    site.progresses(WITHIN).await;
    for _ in 0..3 {
        site.kill("worker");
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

//! Runs, audits and the status as somebody has them who holds a kubeconfig and nothing else.

use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Site, eventually};

const WITHIN: Duration = Duration::from_secs(120);

/// The `windlass` command without a word about broker, database or dispatcher.
pub fn windlass(site: &Site, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
    command.args(arguments).args(["-n", &site.namespace]);
    for variable in [
        "BROKER",
        "STORE",
        "REPLICAS",
        "DISPATCHER",
        "TOKEN",
        "CONFIG",
    ] {
        command.env_remove(format!("WINDLASS_{variable}"));
    }
    command.output().expect("the windlass command starts")
}

pub fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// What a command prints that must succeed.
pub fn well(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn parsed(output: &Output) -> Value {
    serde_json::from_str(&well(output)).expect("JSON")
}

fn submit(site: &Site, name: &str, length: &str) -> Output {
    let run = [
        "datagen", "submit", "--rate", "200", "--for", length, "--name", name,
    ];
    windlass(site, &run)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_submitted_listed_read_and_audited_by_kubeconfig_alone() {
    let Some(site) = Site::new("submit").await else {
        return;
    };
    well(&submit(&site, "a", "8s"));
    let again = submit(&site, "a", "8s");
    assert!(!again.status.success());
    assert!(said(&again).contains("audit --run a"), "{}", said(&again));
    // The audit waits for the end by itself.
    let report = well(&windlass(&site, &["audit", "--run", "a"]));
    assert!(report.contains("no difference"), "{report}");
    let json = parsed(&windlass(
        &site,
        &["audit", "--run", "a", "--format", "json"],
    ));
    assert_eq!(json["differences"]["differences"], Value::Array(Vec::new()));
    eventually(WITHIN, "the audit leaves nothing behind", async || {
        site.pods("audit").is_empty()
    })
    .await;

    let runs = parsed(&windlass(&site, &["datagen", "list", "-o", "json"]));
    assert_eq!(runs[0]["run"], "a");
    assert_eq!(runs[0]["state"], "finished");
    let log = well(&windlass(&site, &["datagen", "logs", "a"]));
    assert!(log.contains("manifest: run a in the store"), "{log}");
    let ended = windlass(&site, &["datagen", "cancel", "a"]);
    assert!(
        said(&ended).contains("has ended already"),
        "{}",
        said(&ended)
    );

    let status = parsed(&windlass(&site, &["status", "-o", "json"]));
    assert_eq!(status["pool"]["desired"], 2);
    assert_eq!(status["tuples_counted"], 1_600);
    assert!(well(&windlass(&site, &["status"])).contains("workers: 0 busy, 2 idle"));
    let plugin = site.dir.path().join("kubectl-windlass");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_windlass"), &plugin).expect("a link");
    let path = std::env::var("PATH").expect("a PATH");
    let path = format!("{}:{path}", site.dir.path().display());
    let by_kubectl = Command::new("kubectl")
        .args(["windlass", "status", "-n", &site.namespace])
        .env("PATH", path)
        .output();
    let by_kubectl = well(&by_kubectl.expect("kubectl starts"));
    assert!(by_kubectl.contains("pool: 2 of 2"), "{by_kubectl}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runs_pod_that_is_killed_is_replaced_and_its_orders_count_once() {
    let Some(site) = Site::new("submit-killed").await else {
        return;
    };
    well(&submit(&site, "k", "25s"));
    eventually(WITHIN, "orders are counted", async || {
        site.settled_now().await.is_some_and(|now| now > 500)
    })
    .await;
    site.kill("datagen");
    let report = well(&windlass(&site, &["audit", "--run", "k"]));
    assert!(report.contains("no difference"), "{report}");
    let runs = parsed(&windlass(&site, &["datagen", "list", "-o", "json"]));
    assert_eq!(runs[0]["state"], "finished", "{runs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_cancelled_is_audited_as_far_as_it_came() {
    let Some(site) = Site::new("submit-cancel").await else {
        return;
    };
    well(&submit(&site, "c", "10m"));
    eventually(WITHIN, "orders are counted", async || {
        site.settled_now().await.is_some_and(|now| now > 300)
    })
    .await;
    well(&windlass(&site, &["datagen", "cancel", "c"]));
    eventually(WITHIN, "its pod is gone", async || {
        site.pods("datagen").is_empty()
    })
    .await;
    let report = well(&windlass(&site, &["audit", "--run", "c"]));
    assert!(report.contains("no difference"), "{report}");
    let runs = parsed(&windlass(&site, &["datagen", "list", "-o", "json"]));
    assert_eq!(runs[0]["state"], "cancelled", "{runs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_cannot_start_is_an_error_with_its_reason_and_no_wait() {
    let Some(site) = Site::new("submit-stuck").await else {
        return;
    };
    site.kubectl(&["delete", "secret", "windlass"]);
    well(&submit(&site, "s", "5s"));
    let audit = windlass(&site, &["audit", "--run", "s"]);
    assert!(!audit.status.success());
    assert!(
        said(&audit).contains("secret \"windlass\" not found"),
        "{}",
        said(&audit)
    );
    site.kubectl(&["delete", "configmap", "windlass-job-template"]);
    let refused = submit(&site, "t", "5s");
    assert!(
        said(&refused).contains("windlass-job-template"),
        "{}",
        said(&refused)
    );
}

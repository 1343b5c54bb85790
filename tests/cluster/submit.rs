//! Runs, audits and the status as somebody has them who holds a kubeconfig and nothing else.

use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{SHARED, Site, eventually};
use crate::kubectl::{items, kubectl, tried};

const WITHIN: Duration = Duration::from_secs(120);

/// The `windlass` command without a word about broker, database or dispatcher.
pub fn windlass(site: &Site, arguments: &[&str]) -> Output {
    let output = command(site, arguments).output();
    output.expect("the windlass command starts")
}

fn command(site: &Site, arguments: &[&str]) -> Command {
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
    command
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

/// A statement on the database of all sites.
fn sql(statement: &str) -> String {
    let client = "exec mysql --host=127.0.0.1 --user=windlass --database=windlass --batch \
                  --skip-column-names --execute=\"$0\"";
    let shell = ["sh", "-c", &format!("MYSQL_PWD=local {client}"), statement];
    let pod = ["-n", SHARED, "exec", "windlass-mysql-0", "--"];
    kubectl(&[&pod[..], &shell[..]].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_was_changed_by_hand_is_named_and_the_exit_status_is_1() {
    let Some(site) = Site::new("submit-changed").await else {
        return;
    };
    well(&submit(&site, "h", "4s"));
    let audited = || windlass(&site, &["audit", "--run", "h"]);
    let before = well(&audited());
    assert!(before.contains("no difference"), "{before}");
    let stream = &site.stream.name;
    let row = sql(&format!(
        "SELECT window_start, DATE_FORMAT(window_start, '%Y-%m-%dT%H:%i:%sZ'), item_key, orders \
         FROM results WHERE stream = '{stream}' ORDER BY window_start, item_key LIMIT 1"
    ));
    let row: Vec<&str> = row.trim().split('\t').collect();
    let [window, start, key, orders] = row[..] else {
        panic!("expected a row, got {row:?}");
    };
    sql(&format!(
        "UPDATE results SET orders = orders + 1 WHERE stream = '{stream}' \
         AND window_start = '{window}' AND item_key = '{key}'"
    ));
    let after = audited();
    assert_eq!(after.status.code(), Some(1), "{}", said(&after));
    let named = format!("window {start} {key}: expected {orders} orders");
    assert!(said(&after).contains(&named), "{}", said(&after));
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
async fn a_run_waits_for_a_broker_that_is_not_there_yet() {
    let Some(site) = Site::new("submit-early").await else {
        return;
    };
    // A Service with nobody behind it. The dispatcher has read its Secret; the run's pod is yet to come.
    let metadata = json!({"name": "late"});
    site.apply(&json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata,
        "spec": {"ports": [{"port": 5672}]},
    }));
    let broker = "amqp://windlass:local@late:5672/%2f";
    let patch = json!({"stringData": {"broker": broker}}).to_string();
    site.kubectl(&["patch", "secret", "windlass", "--patch", &patch]);
    well(&submit(&site, "e", "5s"));
    eventually(WITHIN, "the run waits for the broker", async || {
        let log = windlass(&site, &["datagen", "logs", "e"]);
        said(&log).contains("cannot reach the broker yet")
    })
    .await;
    assert_eq!(site.settled_now().await, Some(0));
    let nodes = items(&[
        "-n",
        SHARED,
        "get",
        "pods",
        "--selector",
        "app.kubernetes.io/component=broker",
    ]);
    let node = |pod: &Value| json!({"ip": pod["status"]["podIP"]});
    let nodes: Vec<Value> = nodes.iter().map(node).collect();
    site.apply(&json!({
        "apiVersion": "v1", "kind": "Endpoints", "metadata": metadata,
        "subsets": [{"addresses": nodes, "ports": [{"port": 5672}]}],
    }));
    let report = well(&windlass(&site, &["audit", "--run", "e"]));
    assert!(report.contains("no difference"), "{report}");
    let runs = parsed(&windlass(&site, &["datagen", "list", "-o", "json"]));
    assert_eq!(runs[0]["state"], "finished", "{runs}");
    assert_eq!(runs[0]["failures"], 0, "it was the same pod: {runs}");
}

/// An audit that goes on.
struct Waiting {
    audit: Child,
    errors: Lines<BufReader<ChildStderr>>,
}

impl Waiting {
    fn of(site: &Site, run: &str) -> Self {
        let mut audit = command(site, &["audit", "--run", run])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the windlass command starts");
        let errors = BufReader::new(audit.stderr.take().expect("a pipe")).lines();
        Self { audit, errors }
    }

    /// Waits for a line on standard error.
    fn says(&mut self, part: &str) -> String {
        let mut lines = self.errors.by_ref().map(|line| line.expect("text"));
        let line = lines.find(|line| line.contains(part));
        line.unwrap_or_else(|| panic!("the audit ended and never said: {part}"))
    }

    fn ends_well(self) {
        // Or the pipe fills.
        let rest: Vec<String> = self.errors.map(|line| line.expect("text")).collect();
        let audit = self.audit.wait_with_output().expect("the audit ends");
        assert!(audit.status.success(), "{rest:?}");
        assert!(said(&audit).contains("no difference"), "{}", said(&audit));
    }
}

/// A node that takes no more pods, until this is dropped.
struct Cordoned(String);

impl Cordoned {
    fn the_node() -> Self {
        let node = kubectl(&[
            "get",
            "nodes",
            "--output",
            "jsonpath={.items[0].metadata.name}",
        ]);
        kubectl(&["cordon", &node]);
        Self(node)
    }
}

impl Drop for Cordoned {
    fn drop(&mut self) {
        let (done, said) = tried(&["uncordon", &self.0]);
        if !done {
            eprintln!("the node takes no pods: {said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_says_that_no_node_takes_a_pod_and_goes_on_when_one_does() {
    let Some(site) = Site::new("submit-full").await else {
        return;
    };
    let cordoned = Cordoned::the_node();
    well(&submit(&site, "f", "5s"));
    let mut audit = Waiting::of(&site, "f");
    let line = audit.says("no node takes the pod");
    assert!(line.contains("unschedulable"), "{line}");
    drop(cordoned);
    audit.ends_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_says_that_the_cluster_refuses_a_pod_and_goes_on_when_there_is_room() {
    let Some(site) = Site::new("submit-refused").await else {
        return;
    };
    site.limit_pods(0).await;
    well(&submit(&site, "q", "5s"));
    let mut audit = Waiting::of(&site, "q");
    let line = audit.says("the cluster makes no pod for the Job");
    assert!(line.contains("exceeded quota: few"), "{line}");
    site.kubectl(&["delete", "resourcequota", "few"]);
    audit.ends_well();
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

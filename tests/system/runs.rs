//! Named runs of datagen: the manifest is in the store, the name is enough to audit, and a run that
//! dies is taken up again.

use std::process::{Child, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Database, Site};

const WITHIN: Duration = Duration::from_secs(60);

/// A run that waits until the dispatcher has made the tables.
fn publish<'a>(name: &'a str, rate: &'a str, length: &'a str) -> [&'a str; 10] {
    [
        "datagen", "publish", "--rate", rate, "--for", length, "--run", name, "--wait", "60s",
    ]
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn well(output: &Output) {
    assert!(output.status.success(), "{}", said(output));
}

fn begin(site: &Site, arguments: &[&str]) -> Child {
    let mut command = site.windlass(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("windlass datagen starts")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_audited_by_its_name_beside_others() {
    let Some(site) = Site::on("runs", Database::MySql).await else {
        return;
    };
    let _dispatcher = site.dispatch(&[]);
    // Two at a time publish into the same windows.
    let (a, b) = (publish("a", "400", "3s"), publish("b", "300", "3s"));
    let other = begin(&site, &b);
    well(&site.run(&a));
    well(&other.wait_with_output().expect("it ends"));
    for name in ["a", "b"] {
        let audit = site.run(&["audit", "--run", name]);
        well(&audit);
        assert!(said(&audit).contains("no difference"), "{}", said(&audit));
    }
    // A row that is wrong is found: one of its own, since the other's run may have ended later.
    let schema = url::Url::parse(&site.store).expect("ours");
    let schema = schema.path().trim_start_matches('/');
    let spoil = format!(
        "UPDATE `{schema}`.results SET orders = orders + 1 WHERE window_start = \
         (SELECT first_window FROM `{schema}`.datagen_runs WHERE run = 'a') LIMIT 1"
    );
    crate::harness::service(&["sql", "mysql", "-e", &spoil]);
    let audit = site.run(&["audit", "--run", "a", "--format", "json"]);
    let document: serde_json::Value = serde_json::from_slice(&audit.stdout).expect("JSON");
    let found = &document["differences"]["differences"];
    assert_eq!(found.as_array().map(Vec::len), Some(1), "{found}");
    assert_eq!(audit.status.code(), Some(1));

    let again = site.run(&a);
    well(&again);
    assert!(
        said(&again).contains("published already"),
        "{}",
        said(&again)
    );
    let taken = site.run(&publish("a", "401", "3s"));
    assert!(!taken.status.success());
    assert!(said(&taken).contains("unused name"), "{}", said(&taken));
    let unknown = site.run(&["audit", "--run", "c"]);
    assert!(
        said(&unknown).contains("called \"c\""),
        "{}",
        said(&unknown)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_and_begun_again_counts_once() {
    let Some(site) = Site::new("run-killed").await else {
        return;
    };
    let _dispatcher = site.dispatch(&[]);
    let arguments = publish("k", "400", "8s");
    let mut first = begin(&site, &arguments);
    site.progresses_beyond(300, WITHIN).await;
    first.kill().expect("it runs");
    first.wait().expect("it is dead");
    well(&site.run(&arguments));
    let audit = site.run(&["audit", "--run", "k"]);
    well(&audit);
    let runs = site.run(&["datagen", "list"]);
    assert!(said(&runs).contains("finished"), "{}", said(&runs));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_stopped_is_audited_as_far_as_it_came() {
    let Some(site) = Site::new("run-stopped").await else {
        return;
    };
    let _dispatcher = site.dispatch(&[]);
    let run = begin(&site, &publish("s", "400", "5m"));
    site.progresses_beyond(300, WITHIN).await;
    let pid = Pid::from_raw(run.id().cast_signed()).expect("a process");
    kill_process(pid, Signal::TERM).expect("it runs");
    let ended = run.wait_with_output().expect("it ends");
    assert!(
        !ended.status.success(),
        "a run that is not through is no success"
    );
    well(&site.run(&["audit", "--run", "s"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_leaves_totals_and_an_audit_that_is_right() {
    let Some(site) = Site::new("run-retained").await else {
        return;
    };
    let _dispatcher = site.dispatch(&["--idle-timeout", "500ms", "--allowed-lateness", "500ms"]);
    well(&site.run(&publish("r", "300", "3s")));
    well(&site.run(&["audit", "--run", "r"]));
    // Final some moments after the last order.
    let mut removed = String::new();
    crate::harness::eventually(WITHIN, "rows are final and removed", async || {
        removed = said(&site.run(&[
            "retain",
            "--rows",
            "0s",
            "--outcomes",
            "0s",
            "--quarantine",
            "0s",
        ]));
        !removed.contains("rows: 0,")
    })
    .await;
    let audit = site.run(&["audit", "--run", "r"]);
    well(&audit);
    assert!(
        said(&audit).contains("past their retention"),
        "{}",
        said(&audit)
    );
    let totals = site.run(&["query", "totals", "--format", "json"]);
    well(&totals);
    assert!(said(&totals).contains("Guangdong"), "{}", said(&totals));
    let nothing = site.run(&["retain"]);
    assert!(said(&nothing).contains("--rows 30d"), "{}", said(&nothing));
}

//! The scheduler in the cluster: what is due starts once, whoever restarts.

use std::time::Duration;

use serde_json::{Map, Value, json as value};
use windlass_dispatcher::store::Store;

use crate::harness::{Site, eventually, relative, root, unix_ms};
use crate::submit::{parsed, said, well, windlass};

const WITHIN: Duration = Duration::from_secs(150);

/// Brings the component up in the site's namespace, with schedules of the test's own.
fn install(site: &Site) {
    let here = site.dir.path().join("schedules");
    std::fs::create_dir(&here).expect("a folder");
    let component = relative(&here, &root().join("k8s/components/schedules"));
    let kustomization = format!(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: {}\n\
         components:\n  - {}\nimages:\n  - name: windlass\n    newTag: dev\n",
        site.namespace,
        component.display()
    );
    std::fs::write(here.join("kustomization.yaml"), kustomization).expect("ours");
    site.kubectl(&["apply", "--kustomize", &here.display().to_string()]);
    write(site, &[]);
    site.rolled_out("windlass-scheduler");
}

/// Schedules by name: when, and what.
fn write(site: &Site, schedules: &[(&str, &str, &str)]) {
    let text = |(name, cron, run): &(&str, &str, &str)| {
        (
            (*name).to_owned(),
            format!("cron = \"{cron}\"\nrun = \"{run}\"").into(),
        )
    };
    let schedules: Map<String, Value> = schedules.iter().map(text).collect();
    let schedules = value!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "windlass-schedules"},
        "data": schedules,
    });
    site.apply(&schedules);
}

/// What `windlass schedule list` says of one schedule.
fn listed(site: &Site, name: &str) -> Value {
    let list = parsed(&windlass(site, &["schedule", "list", "-o", "json"]));
    let mut lines = list.as_array().expect("schedules").iter();
    let line = lines.find(|line| line["schedule"] == name);
    line.cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_starts_once_and_is_audited_by_its_name() {
    let Some(site) = Site::new("schedule").await else {
        return;
    };
    install(&site);
    write(
        &site,
        &[("often", "* * * * *", "datagen --rate 100 --for 5s")],
    );
    let list = || parsed(&windlass(&site, &["schedule", "list", "-o", "json"]));
    eventually(WITHIN, "a run was started", async || {
        list()[0]["outcome"]
            .as_str()
            .is_some_and(|outcome| outcome.contains("started run"))
    })
    .await;
    // A new scheduler has what the old one noted, and the next minute is all that is left to it.
    site.kill("scheduler");
    let first = list();
    let outcome = first[0]["outcome"]
        .as_str()
        .expect("what was started")
        .to_owned();
    let run = outcome.trim_start_matches("started run ").to_owned();
    assert!(run.starts_with("often-20"), "{outcome}");
    let (due, next) = (first[0]["last_due"].as_i64(), first[0]["next_due"].as_i64());
    assert!(next > due, "{first}");
    eventually(WITHIN, "the next run was started", async || {
        list()[0]["last_due"].as_i64() > due
    })
    .await;
    let runs = parsed(&windlass(&site, &["datagen", "list", "-o", "json"]));
    let names: Vec<_> = runs
        .as_array()
        .expect("runs")
        .iter()
        .map(|run| &run["run"])
        .collect();
    let mut distinct = names.clone();
    distinct.dedup();
    assert_eq!(names, distinct);
    assert!(names.len() >= 2, "{names:?}");
    let report = well(&windlass(&site, &["audit", "--run", &run]));
    assert!(report.contains("no difference"), "{report}");

    // A bad edit changes nothing, and says so.
    write(&site, &[("often", "* * * * *", "datagen --rat 100")]);
    let bad = windlass(&site, &["schedule", "list"]);
    assert_eq!(bad.status.code(), Some(1));
    assert!(said(&bad).contains("--rat"), "{}", said(&bad));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_started_is_started_when_it_can() {
    let Some(site) = Site::new("schedule-again").await else {
        return;
    };
    install(&site);
    let get = ["get", "configmap/windlass-job-template", "--output", "json"];
    let template: Value = serde_json::from_str(&site.kubectl(&get)).expect("JSON");
    site.kubectl(&["delete", "configmap", "windlass-job-template"]);
    // Once, at the next minute that the scheduler is sure to have heard of before.
    let due = unix_ms() / 60_000 * 60_000 + 120_000;
    let minute = due / 60_000 % 60;
    let cron = format!("{minute} * * * *");
    write(&site, &[("once", &cron, "datagen --rate 100 --for 5s")]);
    eventually(WITHIN, "it has failed", async || {
        let outcome = listed(&site, "once")["outcome"].to_string();
        outcome.contains("failed") && outcome.contains("windlass-job-template")
    })
    .await;
    site.apply(&value!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "windlass-job-template"},
        "data": template["data"],
    }));
    eventually(WITHIN, "it was started", async || {
        listed(&site, "once")["last_due"] == due
    })
    .await;
    let outcome = listed(&site, "once")["outcome"].clone();
    let run = outcome
        .as_str()
        .and_then(|of| of.strip_prefix("started run "));
    let run = run.unwrap_or_else(|| panic!("{outcome}"));
    let report = well(&windlass(&site, &["audit", "--run", run]));
    assert!(report.contains("no difference"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn old_rows_and_ended_jobs_are_removed_by_the_clock() {
    let Some(site) = Site::new("upkeep").await else {
        return;
    };
    let run = [
        "datagen", "submit", "--rate", "100", "--for", "5s", "--name", "old",
    ];
    well(&windlass(&site, &run));
    let report = well(&windlass(&site, &["audit", "--run", "old"]));
    assert!(report.contains("no difference"), "{report}");
    let rows = async || {
        let store = Store::connect(&site.store)
            .await
            .expect("the store answers");
        let mut pages = store
            .windows(&site.stream, i64::MIN..=i64::MAX)
            .await
            .expect("the rows");
        let mut orders = 0;
        while let Some(row) = pages.next().await.expect("the rows") {
            orders += row.orders;
        }
        orders
    };
    assert_eq!(rows().await, 500);
    install(&site);
    write(
        &site,
        &[
            ("rows", "* * * * *", "retain --rows 1s"),
            ("jobs", "* * * * *", "sweep --keep 1s"),
        ],
    );
    eventually(2 * WITHIN, "the rows are gone", async || rows().await == 0).await;
    eventually(WITHIN, "the run's Job is gone", async || {
        parsed(&windlass(&site, &["datagen", "list", "-o", "json"])) == value!([])
    })
    .await;
    eventually(WITHIN, "pods of the run are gone", async || {
        site.pods("datagen").is_empty()
    })
    .await;
    // What was counted stays counted.
    assert_eq!(site.settled_now().await, Some(500));
    let report = well(&windlass(&site, &["audit", "--run", "old"]));
    assert!(report.contains("past their retention"), "{report}");
    assert_eq!(listed(&site, "jobs")["problem"], Value::Null);
}

/// What the scheduler calls, and all that it may call.
#[tokio::test(flavor = "multi_thread")]
async fn the_scheduler_may_do_what_it_does_and_read_no_secret() {
    let Some(site) = Site::new("schedule-may").await else {
        return;
    };
    install(&site);
    let who = format!(
        "--as=system:serviceaccount:{}:windlass-scheduler",
        site.namespace
    );
    for (verb, resource, may) in [
        ("create", "jobs.batch", true),
        ("list", "jobs.batch", true),
        ("delete", "jobs.batch", true),
        ("patch", "jobs.batch", false),
        ("get", "configmaps/windlass-schedules", true),
        ("patch", "configmaps/windlass-schedules", false),
        ("patch", "configmaps/windlass-schedules-state", true),
        ("get", "configmaps/windlass", false),
        ("create", "configmaps", false),
        ("get", "secrets/windlass", false),
        ("list", "pods", false),
    ] {
        let asked = ["-n", &site.namespace, "auth", "can-i", verb, resource, &who];
        let (allowed, answer) = crate::kubectl::tried(&asked);
        assert_eq!(allowed, may, "{verb} {resource}: {answer}");
    }
}

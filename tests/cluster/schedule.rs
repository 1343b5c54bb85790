//! The scheduler in the cluster: what is due starts once, whoever restarts.

use std::time::Duration;

use serde_json::json as value;

use crate::harness::{Site, eventually, relative, root};
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
    write(site, "run = \"datagen --rate 100 --for 5s\"");
    site.rolled_out("windlass-scheduler");
}

fn write(site: &Site, run: &str) {
    let text = format!("cron = \"* * * * *\"\n{run}");
    let schedules = value!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "windlass-schedules"},
        "data": {"often": text},
    });
    site.apply(&schedules);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_starts_once_and_is_audited_by_its_name() {
    let Some(site) = Site::new("schedule").await else {
        return;
    };
    install(&site);
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
    write(&site, "run = \"datagen --rat 100\"");
    let bad = windlass(&site, &["schedule", "list"]);
    assert_eq!(bad.status.code(), Some(1));
    assert!(said(&bad).contains("--rat"), "{}", said(&bad));
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

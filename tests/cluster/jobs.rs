//! Functions that run as Jobs: when the warm pool cannot take them, and when they ask for it.

use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Confirmation, Connection, ConnectionProperties};
use serde_json::{Value, json};
use windlass_datagen::manifest::{Manifest, SourceRecord, Totals, WindowOracle};
use windlass_datagen::publish::Speed;
use windlass_datagen::workload::Options;
use windlass_functions::stream::Stream;

use crate::harness::{Extras, Site, eventually, unix_ms};
use crate::kubectl::items;

const WITHIN: Duration = Duration::from_secs(180);

fn steadily() -> Options {
    Options {
        rate: 500.0,
        ..Options::default()
    }
}

fn scale(site: &Site, workers: u32) {
    let replicas = format!("--replicas={workers}");
    site.kubectl(&["scale", "deployment/windlass-workers", &replicas]);
}

/// Edits the template of Jobs, in which `old` stands.
fn edit_template(site: &Site, old: &str, new: &str) {
    let name = ["configmap", "windlass-job-template"];
    let mut map: Value =
        serde_json::from_str(&site.kubectl(&[&["get"], &name[..], &["--output", "json"]].concat()))
            .expect("JSON");
    let text = map["data"]["template.yaml"].as_str().expect("the template");
    assert!(text.contains(old), "{text}");
    map["data"]["template.yaml"] = text.replace(old, new).into();
    let data = json!({"data": map["data"]}).to_string();
    site.kubectl(&[&["patch"], &name[..], &["--patch", &data]].concat());
}

/// Where the invocations of the last windows ran, by place and reason.
async fn ran(site: &Site, place: &str, reason: &str) -> usize {
    let status = site.status().await;
    let recent = status["placement"]["recent"].as_array().cloned();
    let of = |run: &&Value| run["place"] == place && run["reason"] == reason;
    recent.unwrap_or_default().iter().filter(of).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_overflow_to_jobs_while_the_pool_is_empty() {
    let Some(site) = Site::new("overflow").await else {
        return;
    };
    site.workers_wait(2, WITHIN).await;
    let load = site.load(steadily(), Speed::Times(1.0));
    site.progresses(WITHIN).await;
    assert!(ran(&site, "pool", "warm").await > 0, "the pool did nothing");
    scale(&site, 0);
    eventually(WITHIN, "windows run as Jobs", async || {
        ran(&site, "job", "overflow").await >= 3
    })
    .await;
    site.progresses(WITHIN).await;
    scale(&site, 2);
    site.rolled_out("windlass-workers");
    eventually(WITHIN, "the pool works again", async || {
        let status = site.status().await;
        let newest = &status["placement"]["recent"][0];
        newest["place"] == "pool" && newest["reason"] == "warm"
    })
    .await;
    let manifest = load.end().await;
    site.equals(&manifest, WITHIN).await;
}

/// The answers to the first creates of Jobs are lost on their way to the dispatcher.
const ANSWERS_LOST: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: windlass-dispatcher}\nspec: \
                            {template: {spec: {containers: [{name: dispatcher, env: [{name: FAILPOINTS, value: \
                            job.created=4*return->off}, {name: WINDLASS_LOG, value: 'info,windlass_jobs=debug'}]}]}}}\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_created_twice_is_there_once_and_settles_its_batch_once() {
    let extras = Extras {
        dispatch: "placement = \"job\"\n",
        patches: &[ANSWERS_LOST],
        ..Extras::default()
    };
    let Some(site) = Site::beside("twice", &extras).await else {
        return;
    };
    // No Job's program runs before a node has this label: each is ordered again before it can take its batch.
    let links = "enableServiceLinks: false";
    let gated = format!(
        "{links}\n  nodeSelector: {{windlass-open: {}}}",
        site.namespace
    );
    edit_template(&site, links, &gated);
    let load = site.load(steadily(), Speed::Times(1.0));
    let mut twice = Vec::new();
    eventually(WITHIN, "a Job is created again", async || {
        let log = site.kubectl(&["logs", "deployment/windlass-dispatcher"]);
        let lines = log.lines().filter(|line| line.contains("exists already"));
        let lines = lines.map(|line| serde_json::from_str(line).expect("JSON"));
        twice = lines
            .map(|line: Value| line["job"].as_str().expect("a name").to_owned())
            .collect();
        !twice.is_empty()
    })
    .await;
    let open = format!("windlass-open={}", site.namespace);
    site.kubectl(&["label", "nodes", "--all", "--overwrite", &open]);
    edit_template(&site, &gated, links);
    // All in one look: each is removed a minute after its end.
    eventually(WITHIN, "all of them have run", async || {
        let all = items(&["-n", &site.namespace, "get", "jobs,pods"]);
        twice.retain(|job| {
            let is = |object: &&Value| {
                object["kind"] == "Job"
                    && object["metadata"]["name"] == job.as_str()
                    && object["status"]["succeeded"] == 1
            };
            let of = |pod: &&Value| pod["metadata"]["labels"]["job-name"] == job.as_str();
            let pods = |object: &&Value| object["kind"] == "Pod" && of(object);
            let has_run = all.iter().any(|object| is(&object));
            if has_run {
                assert_eq!(all.iter().filter(pods).count(), 1, "{job}");
            }
            !has_run
        });
        twice.is_empty()
    })
    .await;
    site.progresses(WITHIN).await;
    let manifest = load.end().await;
    site.equals(&manifest, WITHIN).await;
    let status = site.status().await;
    assert_eq!(status["invocations"]["failed"], 0, "{status}");
    site.kubectl(&["label", "nodes", "--all", "windlass-open-"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_whose_pods_are_refused_are_said_and_removed_and_run_when_there_is_room() {
    // Later than that is known that there is no pod.
    let Some(site) = Site::with("refused", "job-start-timeout = \"21s\"\n").await else {
        return;
    };
    scale(&site, 0);
    eventually(WITHIN, "the pool is gone", async || {
        site.pods("worker").is_empty()
    })
    .await;
    site.limit_pods(0).await;
    let load = site.load(steadily(), Speed::Times(1.0));
    let mut why = String::new();
    eventually(WITHIN, "the status says why no Job runs", async || {
        let status = site.status().await;
        why = status["placement"]["creating_paused"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        why.contains("makes no pod")
    })
    .await;
    let hint = format!("kubectl -n {} describe job windlass-", site.namespace);
    assert!(why.contains(&hint), "{why}");
    site.kubectl(&["delete", "resourcequota", "few"]);
    eventually(WITHIN, "a Job has run", async || {
        ran(&site, "job", "overflow").await > 0
    })
    .await;
    // What waited meanwhile.
    scale(&site, 2);
    let manifest = load.end().await;
    site.equals(&manifest, WITHIN).await;
    let status = site.status().await;
    assert_eq!(status["invocations"]["failed"], 0, "{status}");
}

/// Names of the pods of Jobs whose program runs.
fn running(site: &Site) -> Vec<String> {
    let pods = site.pods("invocation").into_iter();
    pods.filter(|pod| pod["status"]["phase"] == "Running")
        .map(|pod| pod["metadata"]["name"].as_str().expect("a name").to_owned())
        .collect()
}

/// Whether the program of this pod ran to its end and was told that its answer comes too late.
fn is_told_too_late(site: &Site, pod: &str) -> bool {
    let log = site.kubectl(&["logs", "--follow", pod]);
    log.contains("the answer is no longer wanted") && log.contains("409")
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_outlive_their_dispatcher_answer_in_vain_and_all_is_counted_once() {
    let Some(site) = Site::with("restarted", "placement = \"job\"\n").await else {
        return;
    };
    let plain = "imagePullPolicy: IfNotPresent";
    // Longer than it takes to replace a dispatcher.
    let slow = "imagePullPolicy: IfNotPresent\n      env: [{name: WINDLASS_PACE, value: 45s+0s}, \
                {name: WINDLASS_LOG, value: debug}]";
    edit_template(&site, plain, slow);
    let load = site.load(steadily(), Speed::Times(1.0));
    // A kubelet on a busy node says late that a program runs.
    let mut orphans = Vec::new();
    eventually(WITHIN, "a Job has its batch in hand", async || {
        orphans = running(&site);
        let in_hand = site.status().await["invocations"]["in_flight"].as_u64();
        !orphans.is_empty() && in_hand >= Some(1)
    })
    .await;
    // The next dispatcher's Jobs take no longer than they need.
    edit_template(&site, slow, plain);
    let before = site.pod_names("dispatcher");
    site.kill("dispatcher");
    eventually(WITHIN, "another dispatcher comes", async || {
        let now = site.pod_names("dispatcher");
        !now.is_empty() && now != before
    })
    .await;
    // The one they were of is gone.
    let still = running(&site);
    site.rolled_out("windlass-dispatcher");
    let orphans = orphans.iter().filter(|orphan| still.contains(orphan));
    let orphans: Vec<&String> = orphans.collect();
    assert!(!orphans.is_empty(), "no Job outlived its dispatcher");
    site.progresses(WITHIN).await;
    let mut orphans = orphans.into_iter();
    let in_vain = orphans.any(|pod| is_told_too_late(&site, pod));
    assert!(in_vain, "no Job had its batch in hand");
    let manifest = load.end().await;
    site.equals(&manifest, WITHIN).await;
    eventually(WITHIN, "finished Jobs are removed", async || {
        site.kubectl(&["get", "jobs", "--output", "name"])
            .is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_job_answers_after_its_batch_was_settled_elsewhere_counts_for_nothing() {
    let Some(site) = Site::new("late").await else {
        return;
    };
    // Longer than an attempt may take, so that the pool gets the batch after all.
    let slow = "imagePullPolicy: IfNotPresent\n      env: [{name: WINDLASS_PACE, value: 45s+0s}, \
                {name: WINDLASS_LOG, value: debug}]";
    edit_template(&site, "imagePullPolicy: IfNotPresent", slow);
    scale(&site, 0);
    eventually(WITHIN, "the pool is gone", async || {
        site.pods("worker").is_empty()
    })
    .await;
    let load = site.load(steadily(), Speed::Times(1.0));
    let mut job = None;
    eventually(WITHIN, "a Job runs", async || {
        let running = |pod: &&Value| pod["status"]["phase"] == "Running";
        job = site.pods("invocation").iter().find(running).cloned();
        job.is_some()
    })
    .await;
    scale(&site, 2);
    let job = job.expect("it runs");
    let name = job["metadata"]["name"].as_str().expect("a name");
    assert!(is_told_too_late(&site, name), "its answer was taken");
    let manifest = load.end().await;
    site.equals(&manifest, WITHIN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forbidden_jobs_are_said_and_windows_wait_for_the_pool() {
    let Some(site) = Site::new("forbidden").await else {
        return;
    };
    let role = [
        "patch",
        "role",
        "windlass-dispatcher",
        "--type=json",
        "--patch",
    ];
    let patch = json!([{"op": "replace", "path": "/rules/0/verbs", "value": ["get", "list", "watch", "delete"]}]);
    site.kubectl(&[&role[..], &[&patch.to_string()]].concat());
    scale(&site, 0);
    eventually(WITHIN, "the pool is gone", async || {
        site.pods("worker").is_empty()
    })
    .await;
    let load = site.load(steadily(), Speed::Times(1.0));
    eventually(
        WITHIN,
        "the status says why no Job is created",
        async || {
            let status = site.status().await;
            let why = status["placement"]["creating_paused"].as_str();
            why.is_some_and(|why| {
                why.contains("forbid") || why.contains("may not") || why.contains("403")
            })
        },
    )
    .await;
    scale(&site, 1);
    // The windows that waited are counted.
    site.progresses(WITHIN).await;
    let manifest = load.end().await;
    site.equals(&manifest, WITHIN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_for_its_memory_costs_the_poison_only() {
    let Some(site) = Site::new("greedy").await else {
        return;
    };
    let image = "windlass-greedy:dev";
    edit_template(&site, "image: windlass:dev", &format!("image: {image}"));
    let set = format!("worker={image}");
    site.kubectl(&["set", "image", "deployment/windlass-workers", &set]);
    site.rolled_out("windlass-workers");

    let connection = Connection::connect(&site.broker, ConnectionProperties::default()).await;
    let connection = connection.expect("the broker answers");
    let channel = connection.create_channel().await.expect("a channel");
    let confirms = ConfirmSelectOptions::default();
    channel.confirm_select(confirms).await.expect("confirms");
    let now = unix_ms();
    let mut amounts = [100; 100];
    amounts[50] = 66_666;
    for (seq, amount) in amounts.iter().enumerate() {
        let amount = format!("{}.{:02}", amount / 100, amount % 100);
        let order =
            json!({"source": "s", "seq": seq, "ts": now, "province": "Hunan", "amount": amount});
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type("application/json".into());
        let body = order.to_string();
        let confirm = channel
            .basic_publish(
                site.stream.name.as_str().into(),
                "s".into(),
                BasicPublishOptions::default(),
                body.as_bytes(),
                properties,
            )
            .await
            .expect("the channel is open");
        let confirm = confirm.await.expect("the broker answers");
        assert_eq!(confirm, Confirmation::Ack(None), "the broker has it");
    }
    let published = one_window("s", now, "Hunan", &amounts);
    // Others, by which the workers prove that they are not at fault.
    let load = site.load(steadily(), Speed::Times(1.0));
    eventually(3 * WITHIN, "the poison is alone", async || {
        let counts = site.counts("s").await;
        counts == Some([99, 0, 1])
    })
    .await;
    let killed = site.kubectl(&["get", "pods", "--output", "json"]);
    assert!(
        killed.contains("OOMKilled"),
        "no worker was killed for its memory"
    );
    // The poison as quarantined, its neighbours and all others as counted.
    let manifest = load.end().await.merge(published);
    let manifest = manifest.expect("two sources");
    site.equals(&manifest, WITHIN).await;
    assert_eq!(site.counts("s").await, Some([99, 0, 1]));
    assert_eq!(site.quarantined().await, Some(1), "somebody else's order");
}

/// The manifest of a source whose orders, numbered from 0, are all of one key and of this moment.
fn one_window(source: &str, ts: i64, key: &str, amounts: &[i64]) -> Manifest {
    let window_ms = Stream::default().window_ms;
    let orders = amounts.len() as u64;
    let sum: i128 = amounts.iter().map(|amount| i128::from(*amount)).sum();
    let record = SourceRecord {
        first: 0,
        last: orders - 1,
        published: orders,
        late: 0,
        duplicates: 0,
        unconfirmed: 0,
    };
    Manifest {
        version: 1,
        window_ms,
        runs: Vec::new(),
        sources: [(source.to_owned(), record)].into(),
        totals: Totals { orders, sum },
        windows: vec![WindowOracle {
            start_ms: ts - ts % window_ms,
            key: key.into(),
            orders,
            sum,
            min: *amounts.iter().min().expect("some"),
            max: *amounts.iter().max().expect("some"),
        }],
    }
}

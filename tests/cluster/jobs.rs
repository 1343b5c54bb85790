//! Functions that run as Jobs: when the warm pool cannot take them, and when they ask for it.

use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Confirmation, Connection, ConnectionProperties};
use serde_json::{Value, json};
use windlass_datagen::publish::Speed;
use windlass_datagen::workload::Options;

use crate::harness::{Site, eventually, unix_ms};

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

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_dispatcher_and_its_jobs_count_once() {
    let Some(site) = Site::with("restarted", "placement = \"job\"\n").await else {
        return;
    };
    let load = site.load(steadily(), Speed::Times(1.0));
    eventually(WITHIN, "a Job has been asked for", async || {
        ran(&site, "job", "asked").await > 0
    })
    .await;
    // Its Jobs outlive it: what they answer afterwards belongs to nobody.
    site.kill("dispatcher");
    site.progresses(WITHIN).await;
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
    let log = site.kubectl(&["logs", "--follow", name]);
    assert!(
        log.contains("the answer is no longer wanted") && log.contains("409"),
        "{log}"
    );
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
    let before = site.settled_now().await;
    scale(&site, 1);
    eventually(WITHIN, "the windows that waited are counted", async || {
        site.settled_now().await > before
    })
    .await;
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
    for seq in 0..100 {
        let amount = if seq == 50 { "666.66" } else { "1.00" };
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
    drop(load);
}

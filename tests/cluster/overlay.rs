//! The shipped overlay, broker and database included: the main job, and their pods' deaths.

use std::time::Duration;

use serde_json::Value;
use windlass_datagen::message::Format;
use windlass_datagen::publish::Speed;
use windlass_datagen::workload::Options;

use crate::harness::{SHARED, Site, address, eventually, rolled_out, turn};
use crate::kubectl::kubectl;

const WITHIN: Duration = Duration::from_secs(120);

fn steadily() -> Options {
    Options {
        rate: 100.0,
        ..Options::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_are_counted_once_on_the_warm_pool() {
    let Some(site) = Site::new("steady").await else {
        return;
    };
    let options = Options {
        rate: 400.0,
        duration_ms: 10_000,
        late: 0.001,
        ..Options::default()
    };
    let manifest = site.publish(options, Format::Json, Speed::Times(1.0)).await;
    site.equals(&manifest, WITHIN).await;
    let status = site.status().await;
    assert_eq!(status["invocations"]["idle"], 2, "{status}");
    let ran = |place: &str| status["placement"]["ran"][place].as_u64().expect("a count");
    assert!(ran("warm") > 10 * ran("overflow"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_board_reads_both_replicas() {
    let Some(_turn) = turn().await else {
        return;
    };
    let url = format!(
        "http://{}:8080/api/v1/status",
        address(SHARED, "windlass-board")
    );
    let mut status = Value::Null;
    eventually(WITHIN, "both replicas are read", async || {
        let asked = reqwest::Client::new().get(&url).bearer_auth("local").send();
        let Ok(answer) = asked.await else {
            return false;
        };
        let body = answer.bytes().await.unwrap_or_default();
        status = serde_json::from_slice(&body).unwrap_or_default();
        let replicas = status["replicas"].as_array();
        replicas.is_some_and(|all| all.len() == 2 && all.iter().all(|of| of["skipped"].is_null()))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_broker_and_database_may_be_deleted() {
    let Some(site) = Site::new("components").await else {
        return;
    };
    let load = site.load(steadily(), Speed::Times(1.0));
    site.progresses(WITHIN).await;
    for (pod, set) in [
        ("windlass-mysql-1", "windlass-mysql"),
        ("windlass-mysql-0", "windlass-mysql"),
        // A quorum is left, and one of the two may have been the leader.
        ("windlass-rabbitmq-2", "windlass-rabbitmq"),
    ] {
        kubectl(&["-n", SHARED, "delete", "pod", pod]);
        rolled_out(SHARED, &format!("statefulset/{set}"));
        site.progresses(WITHIN).await;
    }
    let manifest = load.end().await;
    site.equals(&manifest, WITHIN).await;
}

//! The shipped overlay, broker and database included: the main job, and their pods' deaths.

use std::time::Duration;

use windlass_datagen::message::Format;
use windlass_datagen::publish::Speed;
use windlass_datagen::workload::Options;

use crate::harness::{SHARED, Site, rolled_out};
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

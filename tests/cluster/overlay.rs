//! The shipped overlay, broker and database included: the main job, and their pods' deaths.

use std::time::Duration;

use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ConnectionProperties};
use serde_json::Value;
use windlass_datagen::message::Format;
use windlass_datagen::publish::Speed;
use windlass_datagen::workload::Options;

use crate::harness::{SHARED, Site, address, eventually, rolled_out, turn};
use crate::kubectl::{items, kubectl, tried};

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
    site.workers_wait(2, WITHIN).await;
    let manifest = site.publish(options, Format::Json, Speed::Times(1.0)).await;
    site.equals(&manifest, WITHIN).await;
    site.workers_wait(2, WITHIN).await;
    let status = site.status().await;
    let ran = |place: &str| status["placement"]["ran"][place].as_u64().expect("a count");
    assert!(ran("warm") > 10 * ran("overflow"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_board_reads_both_replicas_and_looks_at_the_dispatcher() {
    let Some(_turn) = turn().await else {
        return;
    };
    let url = format!(
        "http://{}:8080/api/v1/status",
        address(SHARED, "windlass-board")
    );
    let mut status = Value::Null;
    eventually(
        WITHIN,
        "both replicas and the status are read",
        async || {
            let asked = reqwest::Client::new().get(&url).bearer_auth("local").send();
            let Ok(answer) = asked.await else {
                return false;
            };
            let body = answer.bytes().await.unwrap_or_default();
            status = serde_json::from_slice(&body).unwrap_or_default();
            let replicas = status["replicas"].as_array();
            let read =
                |all: &Vec<Value>| all.len() == 2 && all.iter().all(|of| of["skipped"].is_null());
            replicas.is_some_and(read) && !status["operations"].is_null()
        },
    )
    .await;
}

/// The broker's quorum queues, each with its members and those that are online.
fn queues() -> Vec<Value> {
    let (_, said) = tried(&[
        "-n",
        SHARED,
        "exec",
        "windlass-rabbitmq-0",
        "--",
        "rabbitmqctl",
        "--silent",
        "--formatter=json",
        "list_queues",
        "name",
        "type",
        "members",
        "online",
    ]);
    // A node that has just come may not answer yet.
    let queues: Vec<Value> = serde_json::from_str(&said).unwrap_or_default();
    let quorum = |queue: &Value| {
        queue["type"]
            .as_str()
            .is_some_and(|of| of.ends_with("quorum"))
    };
    queues.into_iter().filter(quorum).collect()
}

/// How many members a queue has, and how many of these are online.
fn counts(queue: &Value) -> [usize; 2] {
    ["members", "online"].map(|which| queue[which].as_array().map_or(0, Vec::len))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_declared_before_all_nodes_have_joined_gets_a_member_on_each() {
    let Some(site) = Site::new("members").await else {
        return;
    };
    let name = format!("{}-early", site.stream.name);
    let connection = Connection::connect(&site.broker, ConnectionProperties::default()).await;
    let connection = connection.expect("the broker answers");
    let channel = connection.create_channel().await.expect("a channel");
    // As if the node had been alone.
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-queue-type".into(),
        AMQPValue::LongString("quorum".into()),
    );
    arguments.insert("x-quorum-initial-group-size".into(), AMQPValue::LongInt(1));
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let declared = channel.queue_declare(name.as_str().into(), durable, arguments);
    declared.await.expect("the queue is declared");
    eventually(WITHIN, "it has three members", async || {
        let queues = queues();
        let queue = queues.iter().find(|queue| queue["name"] == name.as_str());
        queue.is_some_and(|queue| counts(queue) == [3, 3])
    })
    .await;
    let deleted = channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default());
    deleted.await.expect("the queue is deleted");
}

/// Waits until both replicas have what is committed after this is called.
async fn replicas_follow(site: &Site) {
    let now = site.settled_now().await.expect("the primary answers");
    for replica in ["windlass-mysql-1", "windlass-mysql-2"] {
        eventually(WITHIN, &format!("{replica} follows"), async || {
            // Deleted just now, it may not be there again, or have no address.
            let pods = items(&["-n", SHARED, "get", "pods"]);
            let named = |pod: &&Value| pod["metadata"]["name"] == replica;
            let pod = pods.iter().find(named);
            let Some(address) = pod.and_then(|pod| pod["status"]["podIP"].as_str()) else {
                return false;
            };
            let url = format!("mysql://windlass_reader:local@{address}:3306/windlass");
            site.settled_in(&url).await > Some(now)
        })
        .await;
    }
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
        // One of them is the leader of the queue; of the members, two are a quorum.
        ("windlass-rabbitmq-0", "windlass-rabbitmq"),
        ("windlass-rabbitmq-1", "windlass-rabbitmq"),
        ("windlass-rabbitmq-2", "windlass-rabbitmq"),
    ] {
        eventually(WITHIN, "all members of all queues are there", async || {
            let queues = queues();
            let whole = |queue: &Value| counts(queue) == [3, 3];
            !queues.is_empty() && queues.iter().all(whole)
        })
        .await;
        kubectl(&["-n", SHARED, "delete", "pod", pod]);
        rolled_out(SHARED, &format!("statefulset/{set}"));
        site.progresses(WITHIN).await;
        if set == "windlass-mysql" {
            replicas_follow(&site).await;
        }
    }
    let manifest = load.end().await;
    site.equals(&manifest, WITHIN).await;
}

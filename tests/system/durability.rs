//! `--durability replica`: what no replica has applied is not acknowledged.

use std::time::{Duration, Instant};

use windlass_datagen::publish::Speed;
use windlass_datagen::workload::Options;

use crate::harness::{Database, Process, Site, eventually, recovered, service};

const PATIENCE: Duration = Duration::from_secs(90);
const PREFETCH: u64 = 2_000;

/// Commits and unacknowledged deliveries of shard 0.
async fn commits_and_unacked(dispatcher: &Process) -> (u64, u64) {
    let status = dispatcher.status().await;
    let shard = &status["shards"]["0"];
    let commits = shard["figures"]["commit_no"].as_u64();
    let unacked = shard["queue_unacked"].as_u64();
    (commits.unwrap_or(0), unacked.expect("a number"))
}

/// Takes the replica away amid a load (`kill` or `freeze`) and brings it back (`start`, `thaw`):
/// acks stop, commits go on as far as the prefetch allows.
async fn acks_wait(database: Database, away: &str, back: &str) {
    let Some(site) = Site::alone("durable", database).await else {
        return;
    };
    let replica = format!("{}-replica", database.service());
    let prefetch = PREFETCH.to_string();
    let dispatcher = site.dispatch(&[
        "--durability",
        "replica",
        "--replica",
        &site.replica,
        "--prefetch",
        &prefetch,
    ]);
    let options = Options {
        rate: 400.0,
        ..Options::default()
    };
    let load = site.load(options, Speed::Times(1.0));
    site.progresses(PATIENCE).await;

    service(&[away, &replica]);
    let (at_first, _) = commits_and_unacked(&dispatcher).await;
    eventually(PATIENCE, "the prefetch is used up", async || {
        commits_and_unacked(&dispatcher).await.1 == PREFETCH
    })
    .await;
    eventually(PATIENCE, "/readyz says that acks wait", async || {
        !dispatcher.ready().await.0
    })
    .await;
    let mut unacked = 0;
    eventually(PATIENCE, "commits go on", async || {
        let (commits, now) = commits_and_unacked(&dispatcher).await;
        unacked = now;
        commits >= at_first + 3
    })
    .await;
    assert_eq!(unacked, PREFETCH, "an ack while no replica answers");

    service(&[back, &replica]);
    let since = Instant::now();
    eventually(PATIENCE, "acks go on", async || {
        commits_and_unacked(&dispatcher).await.1 < PREFETCH
    })
    .await;
    site.progresses(PATIENCE).await;
    recovered(&format!("{replica} back after {away}"), since.elapsed());
    let manifest = load.end().await;
    site.equals(&manifest, PATIENCE).await;
    eventually(PATIENCE, "everything is acknowledged", async || {
        commits_and_unacked(&dispatcher).await.1 == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acks_wait_while_a_mariadb_replica_is_frozen() {
    acks_wait(Database::MariaDb, "freeze", "thaw").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acks_wait_while_a_mysql_replica_is_gone() {
    acks_wait(Database::MySql, "kill", "start").await;
}

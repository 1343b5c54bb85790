//! Servers that are killed, come back, or stay away for a while.

use std::time::{Duration, Instant};

use windlass_datagen::publish::Speed;
use windlass_datagen::workload::Options;

use crate::harness::{Database, Process, Site, eventually, recovered, service};

const RECOVERY: Duration = Duration::from_secs(90);

async fn is_ready(dispatcher: &Process) {
    eventually(RECOVERY, "/readyz says ready", async || {
        dispatcher.ready().await.0
    })
    .await;
}

/// Waits until `/readyz` is 503 with a reason, and returns that.
async fn is_not_ready(dispatcher: &Process) -> String {
    let mut reason = String::new();
    eventually(RECOVERY, "/readyz names a trouble", async || {
        let (ready, text) = dispatcher.ready().await;
        reason = text;
        !ready
    })
    .await;
    reason
}

/// Kills a server amid a load, keeps it away for so long, and starts it again.
async fn killed(server: &str, database: Database, away: Duration) {
    let Some(site) = Site::alone("outage", database).await else {
        return;
    };
    let dispatcher = site.dispatch(&[]);
    let load = site.load(Options::default(), Speed::Times(1.0));
    site.progresses(RECOVERY).await;
    is_ready(&dispatcher).await;

    service(&["kill", server]);
    let killed = Instant::now();
    let reason = is_not_ready(&dispatcher).await;
    assert!(reason.contains("shard 0: "), "{reason}");
    assert!(!reason.contains(":windlass@"), "a password: {reason}");
    println!("meanwhile /readyz says {}", reason.trim());
    while killed.elapsed() < away {
        let (ready, text) = dispatcher.ready().await;
        assert!(!ready, "ready while {server} is away: {text}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    service(&["start", server]);
    let back = Instant::now();
    site.progresses(RECOVERY).await;
    let name = format!("{server} (with {database:?}) killed and back");
    recovered(&name, back.elapsed());
    is_ready(&dispatcher).await;
    let manifest = load.end().await;
    site.equals(&manifest, RECOVERY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_may_be_killed() {
    killed("rabbitmq", Database::MariaDb, Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mariadb_primary_may_be_killed() {
    killed("mariadb", Database::MariaDb, Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mysql_primary_may_be_killed() {
    killed("mysql", Database::MySql, Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_may_stay_away_for_20_seconds_and_readyz_says_so() {
    killed("mariadb", Database::MariaDb, Duration::from_secs(20)).await;
}

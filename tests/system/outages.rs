//! Servers that are killed, come back, or stay away for a while.

use std::time::{Duration, Instant};

use windlass_datagen::publish::Speed;
use windlass_datagen::workload::Options;

use crate::harness::{Database, Process, Site, eventually, recovered, service};
use crate::proxy::Proxy;

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

/// How a server goes away, and how it comes back.
#[derive(Clone, Copy, Debug)]
enum Outage {
    Killed,
    Frozen,
}

impl Outage {
    fn begin(self, server: &str) {
        match self {
            Self::Killed => service(&["kill", server]),
            Self::Frozen => service(&["freeze", server]),
        };
    }

    fn end(self, server: &str) {
        match self {
            Self::Killed => service(&["start", server]),
            Self::Frozen => service(&["thaw", server]),
        };
    }
}

/// Takes a server away amid a load, for at least so long and until `/readyz` says so, and brings
/// it back.
async fn goes_away(server: &str, outage: Outage, database: Database, away: Duration) {
    let Some(site) = Site::alone("outage", database).await else {
        return;
    };
    let dispatcher = site.dispatch(&[]);
    let load = site.load(Options::default(), Speed::Times(1.0));
    site.progresses(RECOVERY).await;
    is_ready(&dispatcher).await;

    outage.begin(server);
    let began = Instant::now();
    let reason = is_not_ready(&dispatcher).await;
    assert!(reason.contains("shard 0: "), "{reason}");
    assert!(!reason.contains(":windlass@"), "a password: {reason}");
    println!("{server} is away: {}", reason.trim());
    let mut last = reason;
    while began.elapsed() < away {
        let (ready, text) = dispatcher.ready().await;
        assert!(!ready, "ready while {server} is away: {text}");
        last = text;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("{server} is still away: {}", last.trim());

    outage.end(server);
    let back = Instant::now();
    site.progresses(RECOVERY).await;
    recovered(&format!("{server} back after {outage:?}"), back.elapsed());
    is_ready(&dispatcher).await;
    let manifest = load.end().await;
    site.equals(&manifest, RECOVERY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_may_be_killed() {
    goes_away(
        "rabbitmq",
        Outage::Killed,
        Database::MariaDb,
        Duration::ZERO,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_may_freeze_for_longer_than_its_heartbeat() {
    goes_away(
        "rabbitmq",
        Outage::Frozen,
        Database::MariaDb,
        Duration::ZERO,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mariadb_primary_may_be_killed() {
    goes_away("mariadb", Outage::Killed, Database::MariaDb, Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mysql_primary_may_be_killed() {
    goes_away("mysql", Outage::Killed, Database::MySql, Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mysql_primary_may_freeze_for_longer_than_a_call() {
    goes_away("mysql", Outage::Frozen, Database::MySql, Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_may_stay_away_for_20_seconds_and_readyz_says_so() {
    let away = Duration::from_secs(20);
    goes_away("mariadb", Outage::Killed, Database::MariaDb, away).await;
}

/// The dispatcher's COMMIT is carried out, and its answer lost with the connection.
async fn answers_to_commits_get_lost(database: Database) {
    let Some(mut site) = Site::on("ambiguous", database).await else {
        return;
    };
    let direct = site.store.clone();
    let proxy = Proxy::before(&direct, b"COMMIT; SELECT").await;
    site.store = proxy.url(&direct);
    let dispatcher = site.dispatch(&[]);
    site.store = direct;
    let load = site.load(Options::default(), Speed::Times(1.0));
    site.progresses(RECOVERY).await;
    for _ in 0..5 {
        proxy.loses_an_answer(RECOVERY).await;
        let lost = Instant::now();
        site.progresses(RECOVERY).await;
        recovered(
            &format!("{database:?}: a commit without an answer"),
            lost.elapsed(),
        );
    }
    let said = dispatcher.logged().matches("COMMIT got no answer").count();
    assert_eq!(said, 5, "{}", dispatcher.logged());
    let manifest = load.end().await;
    site.equals(&manifest, RECOVERY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_counts_once_in_mariadb() {
    answers_to_commits_get_lost(Database::MariaDb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_counts_once_in_mysql() {
    answers_to_commits_get_lost(Database::MySql).await;
}

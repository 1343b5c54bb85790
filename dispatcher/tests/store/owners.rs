//! Who may write a shard: epochs, leases, and owners that are frozen or killed in mid-commit.

use std::time::Duration;

use futures_util::FutureExt as _;
use sqlx::Connection as _;
use windlass_dispatcher::plan::Reached;
use windlass_dispatcher::store::{CommitError, StoreError};
use windlass_functions::stream::Stream;

use crate::backend::{Backend, LEASE, T0, databases, plan, with_row};

databases! {
    every: [
        a_new_owner_shuts_the_old_one_out,
        a_lease_is_free_once_it_has_run_out,
        a_lease_is_not_renewed_under_an_old_epoch,
        a_lease_that_is_not_over_is_not_taken,
        a_commit_extends_the_lease,
        only_its_holder_gives_a_lease_up,
        a_shard_without_sources_learns_how_far_the_others_are,
        a_shard_that_does_not_exist_is_refused,
    ],
    servers: [
        a_frozen_owner_loses_its_lock_and_its_commit,
        a_standby_that_waited_for_a_slow_commit_finds_the_lease_extended,
        a_commit_killed_in_the_middle_leaves_nothing,
    ]
}

async fn a_new_owner_shuts_the_old_one_out(backend: &Backend) {
    let store = backend.store(1).await;
    let (mut old, at_old) = backend.owner(&store, 0).await;
    let (mut new, at_new) = backend.owner(&store, 0).await;
    assert_eq!(at_new.epoch, at_old.epoch + 1);
    let late = with_row(plan(0, &at_old), T0, "Hunan", &[1], 0);
    let refused = old.commit(&late).await;
    assert!(
        matches!(refused, Err(CommitError::Superseded)),
        "{refused:?}"
    );
    let good = with_row(plan(0, &at_new), T0, "Hunan", &[2], 0);
    new.commit(&good).await.unwrap();
    assert_eq!(backend.sql("SELECT SUM(orders) FROM results").await, ["1"]);
}

async fn a_lease_is_free_once_it_has_run_out(backend: &Backend) {
    let store = backend.store(1).await;
    let mut standby = store.writer(&Stream::default(), 0, "standby", LEASE);
    assert!(
        standby.lease_free().await.unwrap(),
        "nobody has owned it yet"
    );
    let mut owner = store.writer(&Stream::default(), 0, "owner", LEASE);
    owner.raise_epoch().await.unwrap();
    assert!(!standby.lease_free().await.unwrap());
    let short = Duration::from_millis(300);
    let mut owner = store.writer(&Stream::default(), 0, "owner", short);
    owner.raise_epoch().await.unwrap();
    // The database's own clock decides; asking it again is the only way to know.
    let free = async {
        while !standby.lease_free().await.unwrap() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), free)
        .await
        .unwrap();
}

async fn a_lease_is_not_renewed_under_an_old_epoch(backend: &Backend) {
    let store = backend.store(1).await;
    let (mut old, at_old) = backend.owner(&store, 0).await;
    assert!(old.renew_lease(at_old.epoch).await.unwrap());
    let (mut new, at_new) = backend.owner(&store, 0).await;
    assert!(!old.renew_lease(at_old.epoch).await.unwrap());
    assert!(new.renew_lease(at_new.epoch).await.unwrap());
}

/// A lease that runs out before anything else can happen.
const NO_LEASE: Duration = Duration::ZERO;

async fn a_lease_that_is_not_over_is_not_taken(backend: &Backend) {
    let store = backend.store(1).await;
    let mut standby = store.writer(&Stream::default(), 0, "standby", LEASE);
    let mut owner = store.writer(&Stream::default(), 0, "owner", NO_LEASE);
    let at = owner.raise_epoch().await.unwrap();
    let taken = standby.raise_epoch_if_free().await.unwrap();
    assert_eq!(taken.map(|at| at.epoch), Some(at.epoch + 1));
    let mut third = store.writer(&Stream::default(), 0, "third", LEASE);
    assert_eq!(third.raise_epoch_if_free().await.unwrap(), None);
    assert!(
        standby.renew_lease(at.epoch + 1).await.unwrap(),
        "untouched"
    );
    // The broker's word counts for more.
    assert_eq!(third.raise_epoch().await.unwrap().epoch, at.epoch + 2);
}

async fn a_commit_extends_the_lease(backend: &Backend) {
    let store = backend.store(1).await;
    let (mut owner, at) = backend.owner(&store, 0).await;
    backend
        .sql("UPDATE shards SET lease_until = '2020-01-01 00:00:00.000'")
        .await;
    let mut standby = store.writer(&Stream::default(), 0, "standby", LEASE);
    assert!(standby.lease_free().await.unwrap());
    owner.commit(&plan(0, &at)).await.unwrap();
    assert!(!standby.lease_free().await.unwrap());
}

async fn only_its_holder_gives_a_lease_up(backend: &Backend) {
    let store = backend.store(1).await;
    let (mut first, at_first) = backend.owner(&store, 0).await;
    let (mut second, at_second) = backend.owner(&store, 0).await;
    first.release_lease(at_first.epoch).await.unwrap();
    assert!(!first.lease_free().await.unwrap());
    second.release_lease(at_second.epoch).await.unwrap();
    assert!(first.lease_free().await.unwrap());
}

async fn a_shard_without_sources_learns_how_far_the_others_are(backend: &Backend) {
    let store = backend.store(3).await;
    let (mut idle, _) = backend.owner(&store, 0).await;
    assert_eq!(idle.others_reached().await.unwrap(), Reached::default());
    for (shard, final_before) in [(1, T0 + 5), (2, T0 + 3)] {
        let (mut other, at) = backend.owner(&store, shard).await;
        let mut progress = plan(shard, &at);
        progress.final_before = Some(final_before);
        other.commit(&progress).await.unwrap();
    }
    let reached = Reached {
        watermark: None,
        final_before: Some(T0 + 5),
    };
    assert_eq!(idle.others_reached().await.unwrap(), reached);
}

async fn a_shard_that_does_not_exist_is_refused(backend: &Backend) {
    let store = backend.store(2).await;
    let mut writer = store.writer(&Stream::default(), 2, "test", LEASE);
    let refused = writer.raise_epoch().await;
    assert!(matches!(refused, Err(StoreError::Schema(_))), "{refused:?}");
}

/// Takes a lock on a row that the next commit will want after its fence.
async fn block_the_row(backend: &Backend) -> sqlx::mysql::MySqlConnection {
    let mut blocker = backend.session().await;
    sqlx::raw_sql(
        "BEGIN; INSERT INTO results VALUES \
         ('orders', 'gmv', '2025-11-11 00:00:00', 'Hunan', 0, 1, 1, 1, 1, 0)",
    )
    .execute(&mut blocker)
    .await
    .unwrap();
    blocker
}

/// Whether somebody holds the shard's row, which a commit's fence does.
pub async fn fence_is_held(backend: &Backend) -> bool {
    let probe = "SELECT shard FROM shards WHERE shard = 0 FOR UPDATE NOWAIT";
    let Err(refused) = crate::backend::run(&backend.url, probe).await else {
        return false;
    };
    // ER_LOCK_NOWAIT of MySQL, ER_LOCK_WAIT_TIMEOUT of MariaDB.
    let code = refused.as_database_error().and_then(|error| {
        error
            .try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>()
            .map(|error| error.number())
    });
    assert!(matches!(code, Some(3572 | 1205)), "{refused}");
    true
}

async fn a_frozen_owner_loses_its_lock_and_its_commit(backend: &Backend) {
    let store = backend.store(1).await;
    let lease = Duration::from_secs(1);
    let mut frozen = store.writer(&Stream::default(), 0, "frozen", lease);
    let at = frozen.raise_epoch().await.unwrap();
    let blocker = block_the_row(backend).await;
    let late = with_row(plan(0, &at), T0, "Hunan", &[1], 0);
    let mut commit = Box::pin(frozen.commit(&late));
    // Run it as far as behind the fence, then never touch it again: that is what SIGSTOP does.
    while !fence_is_held(backend).await {
        assert!((&mut commit).now_or_never().is_none());
    }
    drop(blocker);

    let mut next = store.writer(&Stream::default(), 0, "next", lease);
    let started = tokio::time::Instant::now();
    let taken = next.raise_epoch().await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(12));
    assert_eq!(taken.commit_no, at.commit_no);
    let good = with_row(plan(0, &taken), T0, "Hunan", &[2, 3], 0);
    next.commit(&good).await.unwrap();
    // It wakes up, goes on, and learns that it has lost its session.
    let thawed = commit.await;
    assert!(matches!(thawed, Err(CommitError::Lost(_))), "{thawed:?}");
    assert_eq!(backend.sql("SELECT SUM(orders) FROM results").await, ["2"]);
}

async fn a_standby_that_waited_for_a_slow_commit_finds_the_lease_extended(backend: &Backend) {
    let store = backend.store(1).await;
    let (mut owner, at) = backend.owner(&store, 0).await;
    backend
        .sql("UPDATE shards SET lease_until = '2020-01-01 00:00:00.000'")
        .await;
    let blocker = block_the_row(backend).await;
    let slow = with_row(plan(0, &at), T0, "Hunan", &[1], 0);
    let mut standby = store.writer(&Stream::default(), 0, "standby", LEASE);
    let standing_by = async {
        while !fence_is_held(backend).await {}
        assert!(
            standby.lease_free().await.unwrap(),
            "the extension is not committed"
        );
        let ends = async {
            while backend.sql(WAITING_FOR_THE_SHARD).await == ["0"] {}
            blocker.close().await.unwrap();
        };
        tokio::join!(standby.raise_epoch_if_free(), ends).0
    };
    let (committed, taken) = tokio::join!(owner.commit(&slow), standing_by);
    committed.unwrap();
    assert_eq!(taken.unwrap(), None, "the owner is alive");
    assert!(owner.renew_lease(at.epoch).await.unwrap());
}

/// Sessions that want to raise the epoch and do not get the shard's row.
const WAITING_FOR_THE_SHARD: &str = "SELECT COUNT(*) FROM information_schema.processlist \
    WHERE db = DATABASE() AND info LIKE '%UPDATE shards SET epoch%' AND info NOT LIKE '%processlist%'";

async fn a_commit_killed_in_the_middle_leaves_nothing(backend: &Backend) {
    let store = backend.store(1).await;
    let (mut owner, at) = backend.owner(&store, 0).await;
    let blocker = block_the_row(backend).await;
    let next = with_row(plan(0, &at), T0, "Hunan", &[1], 0);
    let kill = async {
        while !fence_is_held(backend).await {}
        let waiting = "SELECT id FROM information_schema.processlist \
                       WHERE db = DATABASE() AND info LIKE 'INSERT INTO results%'";
        loop {
            if let [session] = &backend.sql(waiting).await[..] {
                backend.sql(&format!("KILL {session}")).await;
                break;
            }
        }
    };
    let (lost, ()) = tokio::join!(owner.commit(&next), kill);
    assert!(matches!(lost, Err(CommitError::Lost(_))), "{lost:?}");
    blocker.close().await.unwrap();
    let again = owner.raise_epoch().await.unwrap();
    assert_eq!(again.commit_no, at.commit_no);
    let next = with_row(plan(0, &again), T0, "Hunan", &[1], 0);
    owner.commit(&next).await.unwrap();
    assert_eq!(backend.sql("SELECT SUM(orders) FROM results").await, ["1"]);
}

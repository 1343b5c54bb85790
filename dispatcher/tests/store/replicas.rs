//! The gate: a commit counts as replicated when a replica has applied it, and not before.

use std::time::Duration;

use sqlx::Connection as _;
use sqlx::mysql::MySqlConnection;
use windlass_dispatcher::store::{Replicas, StoreError};

use crate::backend::{Backend, T0, databases, plan, run, with_row};

databases! {
    every: [],
    servers: [
        a_gate_opens_when_a_replica_has_applied_the_commit,
        a_gate_stays_shut_where_the_commit_does_not_arrive,
        a_dead_replica_is_an_error_that_can_be_tried_again,
    ]
}

async fn a_gate_opens_when_a_replica_has_applied_the_commit(backend: &Backend) {
    let Some(replica) = &backend.replica else {
        return;
    };
    let store = backend.store(1).await;
    let (mut owner, mut at) = backend.owner(&store, 0).await;
    let replicas = Replicas::connect(std::slice::from_ref(replica))
        .await
        .unwrap();
    for orders in 1..=5 {
        let next = with_row(plan(0, &at), T0, "Hunan", &[1], 0);
        let committed = owner.commit(&next).await.unwrap();
        at.commit_no += 1;
        let limit = Duration::from_secs(30);
        replicas.wait_applied(&committed.gate, limit).await.unwrap();
        let there = run(replica, "SELECT SUM(orders) FROM results")
            .await
            .unwrap();
        assert_eq!(there, [orders.to_string()]);
    }
}

async fn a_gate_stays_shut_where_the_commit_does_not_arrive(backend: &Backend) {
    let Some(replica) = &backend.replica else {
        return;
    };
    let store = backend.store(1).await;
    let (mut owner, mut at) = backend.owner(&store, 0).await;
    let replicas = Replicas::connect(std::slice::from_ref(replica))
        .await
        .unwrap();
    let first = owner.commit(&plan(0, &at)).await.unwrap();
    at.commit_no += 1;
    let limit = Duration::from_secs(30);
    replicas.wait_applied(&first.gate, limit).await.unwrap();
    // Whoever holds the shard's row on the replica keeps it from applying the next fence.
    let mut holder = MySqlConnection::connect(replica).await.unwrap();
    sqlx::raw_sql("BEGIN; SELECT * FROM shards FOR UPDATE")
        .execute(&mut holder)
        .await
        .unwrap();
    let second = owner.commit(&plan(0, &at)).await.unwrap();
    let shut = replicas
        .wait_applied(&second.gate, Duration::from_millis(500))
        .await;
    assert!(matches!(shut, Err(StoreError::Unreachable(_))), "{shut:?}");
    holder.close().await.unwrap();
    replicas.wait_applied(&second.gate, limit).await.unwrap();
}

async fn a_dead_replica_is_an_error_that_can_be_tried_again(backend: &Backend) {
    let Some(replica) = &backend.replica else {
        return;
    };
    let store = backend.store(1).await;
    let (mut owner, at) = backend.owner(&store, 0).await;
    let committed = owner.commit(&plan(0, &at)).await.unwrap();
    let limit = Duration::from_secs(30);
    let replicas = Replicas::connect(std::slice::from_ref(replica))
        .await
        .unwrap();
    replicas.wait_applied(&committed.gate, limit).await.unwrap();
    let ours = "SELECT id FROM information_schema.processlist \
                WHERE db = DATABASE() AND id <> CONNECTION_ID()";
    for session in run(replica, ours).await.unwrap() {
        run(replica, &format!("KILL {session}")).await.unwrap();
    }
    let dead = replicas.wait_applied(&committed.gate, limit).await;
    assert!(dead.unwrap_err().is_transient());
    replicas.wait_applied(&committed.gate, limit).await.unwrap();

    // One that is away is passed over when another is there.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = free.local_addr().unwrap().port();
    drop(free);
    let away = backend.url_with(|url| url.set_port(Some(nobody)).unwrap());
    let alone = Replicas::connect(std::slice::from_ref(&away)).await;
    assert!(matches!(alone, Err(StoreError::Unreachable(_))));
    let both = Replicas::connect(&[away, replica.clone()]).await.unwrap();
    both.wait_applied(&committed.gate, limit).await.unwrap();
}

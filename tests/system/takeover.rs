//! Two dispatchers on one shard: one owns it, the other stands by and takes over.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use windlass_datagen::publish::Speed;
use windlass_datagen::workload::Options;

use crate::harness::{Database, Process, Site, eventually, recovered, service};

/// The broker gives a silent consumer up after two heartbeats of 10 s; the rest is for busy machines.
const TAKEOVER: Duration = Duration::from_secs(90);

/// The epoch under which it owns shard 0, if it does.
async fn epoch(dispatcher: &Process) -> Option<u64> {
    let status = dispatcher.status().await;
    let shard = &status["shards"]["0"];
    let owns = shard["role"] == "owner";
    owns.then(|| shard["figures"]["epoch"].as_u64()).flatten()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_dispatcher_is_replaced_and_stands_by_when_it_thaws() {
    let Some(site) = Site::new("frozen").await else {
        return;
    };
    let load = site.load(Options::default(), Speed::Times(1.0));
    let zombie = site.dispatch(&[]);
    zombie.becomes("owner", TAKEOVER).await;
    site.progresses(TAKEOVER).await;
    let successor = site.dispatch(&[]);
    successor.becomes("standby", TAKEOVER).await;

    zombie.signal(Signal::STOP);
    let frozen = Instant::now();
    successor.becomes("owner", TAKEOVER).await;
    site.progresses(TAKEOVER).await;
    recovered("takeover from a frozen dispatcher", frozen.elapsed());
    let ours = epoch(&successor).await.expect("it owns the shard");

    // The zombie wakes up with slices in flight and deliveries it has not acknowledged.
    zombie.signal(Signal::CONT);
    zombie.becomes("standby", TAKEOVER).await;
    site.progresses(TAKEOVER).await;
    assert_eq!(
        epoch(&successor).await,
        Some(ours),
        "nobody raised it again"
    );
    zombie.becomes("standby", Duration::ZERO).await;
    let manifest = load.end().await;
    site.equals(&manifest, TAKEOVER).await;
}

/// What a frozen owner was sent and holds is on time, although the queue looks empty until the broker
/// gives it up: its successor must not take that for silence.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_frozen_dispatcher_holds_does_not_become_late() {
    let Some(site) = Site::new("holding").await else {
        return;
    };
    let options = Options {
        rate: 30.0,
        sources: 2,
        ..Options::default()
    };
    let load = site.load(options, Speed::Times(1.0));
    // A publisher that a busy machine keeps waiting is not silent yet.
    let patient = ["--idle-timeout", "5s"];
    let zombie = site.dispatch(&patient);
    zombie.becomes("owner", TAKEOVER).await;
    site.progresses(TAKEOVER).await;
    let successor = site.dispatch(&patient);
    successor.becomes("standby", TAKEOVER).await;

    let before = site.settled_now().await.expect("the store answers");
    zombie.signal(Signal::STOP);
    successor.becomes("owner", TAKEOVER).await;
    site.progresses_beyond(before + 100, TAKEOVER).await;
    let manifest = load.end().await;
    site.equals(&manifest, TAKEOVER).await;
    site.nothing_was_late().await;
}

/// Freezes an owner at a failpoint, where it stays until after its successor has taken over.
async fn frozen_at(point: &str) {
    let Some(site) = Site::new("frozen-at").await else {
        return;
    };
    let load = site.load(Options::default(), Speed::Times(1.0));
    // Longer than the takeover takes on a machine that is not busy; on one that is, the step is
    // taken in the moment of waking up, which is as well.
    let failpoints = format!("{point}=4*off->1*sleep(45000)->off");
    let zombie = site.dispatch_with(&[], Some(&failpoints));
    let mut last = (0, Instant::now());
    eventually(TAKEOVER, "it is held up after a few commits", async || {
        let settled = site.settled_now().await.unwrap_or(0);
        if settled != last.0 {
            last = (settled, Instant::now());
        }
        // It commits once a second.
        settled > 0 && last.1.elapsed() > Duration::from_secs(5)
    })
    .await;
    zombie.signal(Signal::STOP);
    let frozen = Instant::now();
    let successor = site.dispatch(&[]);
    successor.becomes("owner", TAKEOVER).await;
    site.progresses_beyond(last.0, TAKEOVER).await;
    recovered(
        &format!("takeover from a dispatcher frozen at {point}"),
        frozen.elapsed(),
    );
    let ours = epoch(&successor).await.expect("it owns the shard");

    zombie.signal(Signal::CONT);
    // It stands by only after it has waited for the commit in flight, whatever becomes of that.
    zombie.becomes("standby", TAKEOVER).await;
    site.progresses(TAKEOVER).await;
    assert_eq!(
        epoch(&successor).await,
        Some(ours),
        "nobody raised it again"
    );
    let manifest = load.end().await;
    site.equals(&manifest, TAKEOVER).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_was_frozen_halfway_lets_the_successor_in_and_does_nothing() {
    frozen_at("commit.before-commit").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ack_that_was_frozen_does_nothing() {
    frozen_at("ack.before").await;
}

/// An owner that waits for the broker's answer extends its lease all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_stands_still_costs_no_lease() {
    let Some(site) = Site::alone("still-broker", Database::MariaDb).await else {
        return;
    };
    let owner = site.dispatch(&[]);
    owner.becomes("owner", TAKEOVER).await;
    let standby = site.dispatch(&[]);
    standby.becomes("standby", TAKEOVER).await;
    let ours = epoch(&owner).await;

    service(&["freeze", "rabbitmq"]);
    // The lease lasts 10 s. The clients would give the broker up 20 s after they last heard of it, which may be
    // some seconds ago.
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(13) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if epoch(&standby).await.is_some() {
            break;
        }
    }
    service(&["thaw", "rabbitmq"]);
    standby.becomes("standby", Duration::ZERO).await;
    assert_eq!(epoch(&owner).await, ours, "the shard changed hands");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_dispatchers_one_works_until_it_dies_and_then_the_other() {
    let Some(site) = Site::new("two").await else {
        return;
    };
    let load = site.load(Options::default(), Speed::Times(1.0));
    let (mut one, mut other) = (site.dispatch(&[]), site.dispatch(&[]));
    // At the very start the broker may choose one and the lease the other; that settles at once.
    site.progresses(TAKEOVER).await;
    eventually(TAKEOVER, "one owns and one stands by", async || {
        if epoch(&other).await.is_some() {
            std::mem::swap(&mut one, &mut other);
        }
        let status = other.status().await;
        epoch(&one).await.is_some() && status["shards"]["0"]["role"] == "standby"
    })
    .await;

    let ours = epoch(&one).await;
    let settled = site.settled_now().await.expect("the store answers");
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(15) {
        assert_eq!(epoch(&one).await, ours, "the shard changed hands");
        other.becomes("standby", Duration::ZERO).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // There was load.
    site.progresses_beyond(settled, Duration::from_secs(5))
        .await;

    let settled = site.settled_now().await.expect("the store answers");
    one.kill();
    let killed = Instant::now();
    other.becomes("owner", TAKEOVER).await;
    site.progresses_beyond(settled, TAKEOVER).await;
    recovered("takeover from a killed dispatcher", killed.elapsed());
    let manifest = load.end().await;
    site.equals(&manifest, TAKEOVER).await;
}

//! The scaler's process on a Deployment, against an API server and a dispatcher that the test plays: so it
//! says when a backlog grows, and sees every call.

#![allow(
    clippy::disallowed_methods,
    reason = "the tests are a shell: they read clocks"
)]

mod stage;

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::Instant;
use windlass_dispatcher::store::{DecisionRow, Journal};
use windlass_functions::stream::Stream;

use stage::{Failing, Scene, Shared, Stage, lock, scaler};

const SECOND: Duration = Duration::from_secs(1);

/// Runs a command on the store and the cluster of that scaler.
async fn windlass(directory: &Path, arguments: &[&str]) -> Output {
    let path = |name: &str| directory.join(name);
    Command::new(env!("CARGO_BIN_EXE_windlass"))
        .args(arguments)
        .env("KUBECONFIG", path("kubeconfig"))
        .env(
            "WINDLASS_STORE",
            format!("sqlite:{}", path("w.sqlite").display()),
        )
        .output()
        .await
        .unwrap()
}

/// Waits for a newest decision, or choice of an agent, of which `is` holds.
async fn decided(
    journal: &mut Journal,
    chosen: bool,
    is: impl Fn(&DecisionRow) -> bool,
) -> DecisionRow {
    let waited = async {
        loop {
            let row = journal.decision(None, chosen).await.unwrap();
            if let Some(row) = row.filter(&is) {
                return row;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let waited = tokio::time::timeout(20 * SECOND, waited).await;
    waited.expect("it is decided")
}

/// A tuning of a constant size.
fn of_size(size: u32) -> Value {
    json!({ "mode": "static", "static-size": size.to_string(), "gap-caution": "0s" })
}

/// Waits until `is` holds of the scene.
async fn until(scene: &Shared, what: &str, is: impl Fn(&Scene) -> bool) {
    let waited = async {
        while !is(&lock(scene)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let said = || {
        let scene = lock(scene);
        format!(
            "{what}: resized to {:?}, kept {:?}",
            scene.resized, scene.kept
        )
    };
    let waited = tokio::time::timeout(40 * SECOND, waited).await;
    assert!(waited.is_ok(), "{}", said());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_that_is_about_to_shrink_is_left_alone_when_the_backlog_grows() {
    let Stage {
        directory: _directory,
        scene,
        store,
        mut scaler,
        ..
    } = Stage::of(of_size(2)).await;
    until(&scene, "two are to stay at work", |s| s.kept.contains(&2)).await;
    {
        // The other two have nothing to do, as the API server knows: this is the moment. But work piles up.
        let mut scene = lock(&scene);
        assert!(scene.resized.is_empty(), "all four were at work");
        (scene.ready, scene.parked, scene.growth) = (2, 2, 20_000.0);
    }
    until(&scene, "nobody is to be parked", |s| {
        s.kept.contains(&u32::MAX)
    })
    .await;
    let recalled = Instant::now();
    tokio::time::sleep(4 * SECOND).await;
    {
        let mut scene = lock(&scene);
        assert!(scene.resized.is_empty(), "it shrank while the backlog grew");
        assert_eq!(scene.kept.last(), Some(&u32::MAX), "{:?}", scene.kept);
        (scene.growth, scene.waiting) = (0.0, 0.0);
    }
    until(&scene, "it shrinks when that is over", |s| s.resized == [2]).await;
    assert!(recalled.elapsed() > 9 * SECOND, "it does not flicker");

    let pid = rustix::process::Pid::from_raw(scaler.id().unwrap() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(scaler.wait().await.unwrap().success());
    let mut journal = store.journal(&Stream::default());
    let run = journal.runs(1).await.unwrap()[0].0;
    let rows = journal.decisions(run, 0, 1_000).await.unwrap();
    let recall = |row: &&DecisionRow| (row.before, row.desired) == (2, 4);
    let row = rows.iter().find(recall).expect("the recall is a decision");
    assert_eq!(row.guards, "growing-backlog");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_config_map_that_is_deleted_emptied_or_edited_a_hundred_times_in_a_second_is_followed() {
    let Stage {
        directory: _directory,
        scene,
        store,
        scaler: _scaler,
        ..
    } = Stage::of(of_size(4)).await;
    let mut journal = store.journal(&Stream::default());
    until(&scene, "it holds its Lease", |s| s.lease.is_some()).await;
    decided(&mut journal, false, |_| true).await;

    for edit in 1..100 {
        lock(&scene).write(Some(of_size(5 + edit % 2)));
        tokio::time::sleep(Duration::from_millis(9)).await;
    }
    let edited = Instant::now();
    lock(&scene).write(Some(of_size(7)));
    until(&scene, "the last edit is in force", |s| s.replicas == 7).await;
    let took = edited.elapsed();
    assert!(took < 2 * SECOND, "{took:?}");

    let refused = async |what: &str, data: Option<Value>, why: &str| {
        let before = lock(&scene).events.len();
        lock(&scene).write(data);
        let said = |s: &Scene| {
            let refused =
                |(reason, note): &(String, String)| reason == "TuningRefused" && note.contains(why);
            s.events[before..].iter().any(refused)
        };
        until(&scene, what, said).await;
        assert_eq!(lock(&scene).replicas, 7, "{what}: the last good one stays");
    };
    refused(
        "a bad edit",
        Some(json!({ "max-size": "none" })),
        "max-size: expected pods",
    )
    .await;
    refused("emptied", Some(json!({})), "emptied or deleted").await;
    lock(&scene).write(Some(of_size(8)));
    until(&scene, "it is mended", |s| s.replicas == 8).await;
    lock(&scene).write(Some(of_size(7)));
    {
        let mut scene = lock(&scene);
        (scene.ready, scene.parked) = (7, 1);
    }
    until(&scene, "and smaller again", |s| s.replicas == 7).await;
    refused("deleted", None, "emptied or deleted").await;
    // The row is written behind the Event's back.
    let noted = async {
        loop {
            let (state, _) = journal.state().await.unwrap().unwrap();
            if state
                .refused
                .is_some_and(|why| why.contains("emptied or deleted"))
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let noted = tokio::time::timeout(40 * SECOND, noted).await;
    noted.expect("the refusal is noted");

    // Somebody deletes its Lease as well, and the tuning comes back.
    lock(&scene).lease = None;
    until(&scene, "it takes the Lease again", |s| s.lease.is_some()).await;
    lock(&scene).write(Some(of_size(9)));
    until(&scene, "it is in charge", |s| s.replicas == 9).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_kept_a_second_from_being_measured_is_named() {
    let Stage {
        directory,
        scene,
        store,
        scaler: _scaler,
        ..
    } = Stage::of(json!({ "max-size": "4", "gap-caution": "0s" })).await;
    let mut journal = store.journal(&Stream::default());
    let mut chosen = decided(&mut journal, true, |_| true).await;
    for (who, said) in [
        (
            Failing::ApiServer,
            "the Kubernetes API server did not say how many pods there are",
        ),
        (
            Failing::Dispatcher,
            "the dispatcher did not give its status",
        ),
    ] {
        lock(&scene).failing = Some(who);
        let gap = decided(&mut journal, false, |row| {
            row.cause == "gap" && row.no > chosen.no
        })
        .await;
        assert!(gap.reason.contains(said), "{}", gap.reason);
        let output = windlass(directory.path(), &["scaler", "explain", "-o", "json"]).await;
        let explained: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(explained["decision"]["cause"]["by"], "gap", "{explained}");
        let choice = &explained["choice"]["decision"];
        assert_eq!(choice["cause"]["by"], "agent", "{explained}");
        lock(&scene).failing = None;
        chosen = decided(&mut journal, true, |row| row.no > gap.no).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn setting_a_key_of_the_config_map_waits_until_it_is_in_force() {
    let Stage {
        directory,
        scene,
        store,
        scaler: _scaler,
        ..
    } = Stage::of(of_size(4)).await;
    decided(&mut store.journal(&Stream::default()), false, |_| true).await;
    let set = async |pair: &str| {
        let arguments = ["scaler", "set", pair, "--config-map", "tuning"];
        windlass(directory.path(), &arguments).await
    };
    for (generation, size) in [(2, 6), (3, 9)] {
        let output = set(&format!("static-size={size}")).await;
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(said, format!("in force as generation {generation}\n"));
        until(&scene, "it is of that size", |s| s.replicas == size).await;
    }
    let edits = lock(&scene).changes.len();
    let output = set("static-size=many").await;
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    let refused = "nothing was changed: static-size: expected pods from 1 to 48";
    assert!(said.contains(refused), "{said}");
    assert_eq!(lock(&scene).changes.len(), edits, "nothing was written");
}

/// The process that holds the Lease, by the end of its name.
fn holder(scene: &Scene) -> Option<u32> {
    let name = scene.lease.as_ref()?["spec"]["holderIdentity"].as_str()?;
    name.rsplit('-').next()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_scalers_one_acts_and_the_other_takes_over_when_it_is_killed() {
    let Stage {
        directory,
        scene,
        server,
        store,
        scaler: one,
    } = Stage::of(of_size(4)).await;
    let (other, _) = scaler(directory.path(), server).await;
    let mut pair = [one, other];
    let mut journal = store.journal(&Stream::default());
    decided(&mut journal, false, |_| true).await;
    let first = holder(&lock(&scene)).expect("a holder");
    let at = pair.iter().position(|child| child.id() == Some(first));
    let killed = &mut pair[at.expect("one of the two holds it")];

    lock(&scene).write(Some(of_size(6)));
    until(&scene, "the holder acts", |s| s.replicas == 6).await;
    // Whoever is not active sees when the Lease is renewed, and lets it be.
    let written = lock(&scene).lease_writes;
    until(&scene, "it is renewed", |s| s.lease_writes > written).await;
    assert_eq!(holder(&lock(&scene)), Some(first));
    assert_eq!(lock(&scene).resized, [6], "once, by one of them");
    assert_eq!(journal.runs(10).await.unwrap().len(), 1, "only one began");

    killed.kill().await.unwrap();
    let waited = Instant::now();
    lock(&scene).write(Some(of_size(8)));
    until(&scene, "the other acts", |s| s.replicas == 8).await;
    assert!(
        waited.elapsed() > 8 * SECOND,
        "not before the Lease has ended"
    );
    let second = holder(&lock(&scene)).expect("a holder");
    assert_ne!(second, first);
    assert!(pair.iter().any(|child| child.id() == Some(second)));
    assert_eq!(journal.runs(10).await.unwrap().len(), 2);
    assert_eq!(lock(&scene).resized, [6, 8]);
}

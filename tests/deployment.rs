//! The scaler's process on a Deployment, against an API server and a dispatcher that the test plays: so it
//! says when a backlog grows, and sees every call.

#![allow(
    clippy::disallowed_methods,
    reason = "the tests are a shell: they read clocks"
)]

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Output;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, patch, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::Instant;
use windlass_dispatcher::store::{DecisionRow, Journal, Store};
use windlass_functions::stream::Stream;

const SECOND: Duration = Duration::from_secs(1);

/// The world as the scaler finds it, and what it asked of it.
struct Scene {
    started: Instant,
    replicas: u32,
    ready: u32,
    /// Workers that the dispatcher has parked, whoever asks.
    parked: u32,
    waiting: f64,
    /// Tuples that wait more at every look.
    growth: f64,
    lease: Option<Value>,
    lease_writes: u32,
    resized: Vec<u32>,
    kept: Vec<u32>,
    /// The data of the ConfigMap, and every change of it as a watch tells it.
    tuning: Option<Value>,
    changes: Vec<String>,
    /// Reason and note of every Event.
    events: Vec<(String, String)>,
    /// Who fails.
    failing: Option<Failing>,
}

#[derive(Clone, Copy, PartialEq)]
enum Failing {
    Dispatcher,
    ApiServer,
}

impl Scene {
    fn config_map(&self) -> Option<Value> {
        let data = self.tuning.as_ref()?;
        Some(json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": "tuning", "resourceVersion": (self.changes.len() + 1).to_string() },
            "data": data,
        }))
    }

    /// Writes the ConfigMap, or deletes it.
    fn write(&mut self, data: Option<Value>) {
        let (before, there) = (self.config_map(), self.tuning.is_some());
        self.tuning = data;
        let (kind, object) = match self.config_map() {
            None => ("DELETED", before),
            now if there => ("MODIFIED", now),
            now => ("ADDED", now),
        };
        let line = json!({ "type": kind, "object": object }).to_string();
        self.changes.push(line + "\n");
    }
}

type Shared = Arc<Mutex<Scene>>;

fn lock(scene: &Shared) -> MutexGuard<'_, Scene> {
    scene.lock().unwrap()
}

/// A Deployment of four pods.
fn four() -> Shared {
    Arc::new(Mutex::new(Scene {
        started: Instant::now(),
        replicas: 4,
        ready: 4,
        parked: 0,
        waiting: 0.0,
        growth: 0.0,
        lease: None,
        lease_writes: 0,
        resized: Vec::new(),
        kept: Vec::new(),
        tuning: None,
        changes: Vec::new(),
        events: Vec::new(),
        failing: None,
    }))
}

/// What who fails answers.
fn failed() -> (StatusCode, Json<Value>) {
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "message": "it is ill",
        "reason": "InternalError", "code": 500,
    });
    (StatusCode::INTERNAL_SERVER_ERROR, Json(status))
}

/// What a dispatcher says of itself: a hundred tuples a second, and whatever waits.
async fn status(State(scene): State<Shared>) -> (StatusCode, Json<Value>) {
    let mut scene = lock(&scene);
    if scene.failing == Some(Failing::Dispatcher) {
        return failed();
    }
    scene.waiting += scene.growth;
    let ms = scene.started.elapsed().as_millis() as u64;
    let said = json!({ "workload": {
        "arrived_tuples_total": ms as f64 / 10.0,
        "waiting_tuples": scene.waiting,
        "workers_ready": scene.ready,
        "ready_ms_total": ms * 4,
    }});
    (StatusCode::OK, Json(said))
}

async fn keep(State(scene): State<Shared>, Json(asked): Json<Value>) -> Json<Value> {
    let mut scene = lock(&scene);
    scene.kept.push(asked["size"].as_u64().unwrap() as u32);
    Json(json!({ "active": scene.ready, "parked": scene.parked }))
}

async fn deployment(State(scene): State<Shared>) -> (StatusCode, Json<Value>) {
    let scene = lock(&scene);
    if scene.failing == Some(Failing::ApiServer) {
        return failed();
    }
    let object = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": "workers" },
        "spec": { "replicas": scene.replicas, "selector": {}, "template": {} },
        "status": { "replicas": scene.replicas, "readyReplicas": scene.ready },
    });
    (StatusCode::OK, Json(object))
}

async fn scale(State(scene): State<Shared>, Json(patch): Json<Value>) -> Json<Value> {
    let mut scene = lock(&scene);
    scene.replicas = patch["spec"]["replicas"].as_u64().unwrap() as u32;
    let replicas = scene.replicas;
    scene.resized.push(replicas);
    Json(json!({
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": { "name": "workers" },
        "spec": { "replicas": replicas },
    }))
}

async fn lease(State(scene): State<Shared>) -> (StatusCode, Json<Value>) {
    match &lock(&scene).lease {
        Some(lease) => (StatusCode::OK, Json(lease.clone())),
        None => not_found(),
    }
}

fn not_found() -> (StatusCode, Json<Value>) {
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "message": "none",
        "reason": "NotFound", "code": 404,
    });
    (StatusCode::NOT_FOUND, Json(status))
}

/// Writes the Lease if it is still of the version that was read, as an API server does: a new one has none.
async fn write_lease(
    State(scene): State<Shared>,
    Json(mut lease): Json<Value>,
) -> (StatusCode, Json<Value>) {
    let mut scene = lock(&scene);
    let version = |lease: &Value| lease["metadata"]["resourceVersion"].clone();
    let there = scene.lease.as_ref().map_or(Value::Null, version);
    if version(&lease) != there {
        let status = json!({
            "apiVersion": "v1", "kind": "Status", "status": "Failure", "message": "somebody else wrote",
            "reason": "Conflict", "code": 409,
        });
        return (StatusCode::CONFLICT, Json(status));
    }
    scene.lease_writes += 1;
    lease["metadata"]["resourceVersion"] = scene.lease_writes.to_string().into();
    scene.lease = Some(lease.clone());
    (StatusCode::OK, Json(lease))
}

async fn config_map(State(scene): State<Shared>) -> (StatusCode, Json<Value>) {
    let object = lock(&scene).config_map();
    object.map_or_else(not_found, |object| (StatusCode::OK, Json(object)))
}

/// Merges keys into the ConfigMap.
async fn edit_map(scene: State<Shared>, Json(patch): Json<Value>) -> (StatusCode, Json<Value>) {
    {
        let mut scene = lock(&scene);
        let mut data = scene.tuning.clone().unwrap();
        let keys = patch["data"].as_object().unwrap().clone();
        data.as_object_mut().unwrap().extend(keys);
        scene.write(Some(data));
    }
    config_map(scene).await
}

/// Lists the ConfigMap, or watches it from the version on that is asked for.
async fn config_maps(
    State(scene): State<Shared>,
    Query(asked): Query<HashMap<String, String>>,
) -> Response {
    if asked.contains_key("watch") {
        let from = asked["resourceVersion"].parse::<usize>().unwrap() - 1;
        let changes = futures_util::stream::unfold((scene, from), async |(scene, from)| {
            loop {
                let change = lock(&scene).changes.get(from).cloned();
                if let Some(line) = change {
                    return Some((Ok::<_, Infallible>(line), (scene, from + 1)));
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        return Body::from_stream(changes).into_response();
    }
    let scene = lock(&scene);
    let version = (scene.changes.len() + 1).to_string();
    let items: Vec<Value> = scene.config_map().into_iter().collect();
    let list = json!({
        "apiVersion": "v1",
        "kind": "ConfigMapList",
        "metadata": { "resourceVersion": version },
        "items": items,
    });
    Json(list).into_response()
}

/// A new Event, or one that is counted once more.
async fn event(State(scene): State<Shared>, Json(event): Json<Value>) -> (StatusCode, Json<Value>) {
    let said = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
    lock(&scene).events.push((said("reason"), said("note")));
    (StatusCode::CREATED, Json(event))
}

/// Plays API server and dispatcher at one address.
async fn play(scene: Shared) -> SocketAddr {
    let deployments = "/apis/apps/v1/namespaces/here/deployments/workers";
    let maps = "/api/v1/namespaces/here/configmaps";
    let events = "/apis/events.k8s.io/v1/namespaces/here/events";
    let leases = "/apis/coordination.k8s.io/v1/namespaces/here/leases";
    let router = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/workers/keep", post(keep))
        .route(deployments, get(deployment))
        .route(&format!("{deployments}/scale"), patch(scale))
        .route(maps, get(config_maps))
        .route(&format!("{maps}/tuning"), get(config_map).patch(edit_map))
        .route(events, post(event))
        .route(&format!("{events}/{{name}}"), patch(event))
        .route(leases, post(write_lease))
        .route(
            &format!("{leases}/windlass-scaler"),
            get(lease).put(write_lease),
        )
        .with_state(scene);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

fn kubeconfig(server: SocketAddr) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: played\n\
         clusters: [{{name: played, cluster: {{server: \"http://{server}\"}}}}]\n\
         contexts: [{{name: played, context: {{cluster: played, user: nobody, namespace: here}}}}]\n\
         users: [{{name: nobody, user: {{}}}}]\n"
    )
}

/// Starts `windlass scaler` there, with its tuning in the ConfigMap.
async fn scaler(directory: &Path, server: SocketAddr) -> (Child, Store) {
    let path = |name: &str| directory.join(name);
    std::fs::write(path("kubeconfig"), kubeconfig(server)).unwrap();
    let url = format!("sqlite:{}", path("w.sqlite").display());
    let store = Store::connect(&url).await.unwrap();
    store.migrate(&Stream::default(), 1).await.unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_windlass"))
        .args(["scaler", "--pool", "kubernetes", "--deployment", "workers"])
        .args(["--dispatcher", &format!("http://{server}")])
        .args(["--config-map", "tuning"])
        .env("KUBECONFIG", path("kubeconfig"))
        .env("WINDLASS_STORE", url)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    (child, store)
}

/// A scaler of four pods, and what it speaks to.
struct Stage {
    directory: TempDir,
    scene: Shared,
    server: SocketAddr,
    store: Store,
    scaler: Child,
}

impl Stage {
    /// Begins with this tuning.
    async fn of(tuning: Value) -> Self {
        windlass_functions::trust::use_ring();
        let directory = tempfile::tempdir().unwrap();
        let scene = four();
        let server = play(Arc::clone(&scene)).await;
        lock(&scene).write(Some(tuning));
        let (scaler, store) = scaler(directory.path(), server).await;
        Self {
            directory,
            scene,
            server,
            store,
            scaler,
        }
    }
}

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

//! What the test plays, an API server and a dispatcher, and a scaler in front of it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
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
use windlass_dispatcher::store::Store;
use windlass_functions::stream::Stream;

/// The world as the scaler finds it, and what it asked of it.
pub struct Scene {
    pub started: Instant,
    pub replicas: u32,
    pub ready: u32,
    /// Workers that the dispatcher has parked, whoever asks.
    pub parked: u32,
    pub waiting: f64,
    /// Tuples that wait more at every look.
    pub growth: f64,
    pub lease: Option<Value>,
    pub lease_writes: u32,
    pub resized: Vec<u32>,
    pub kept: Vec<u32>,
    /// The data of the ConfigMap, and every change of it as a watch tells it.
    pub tuning: Option<Value>,
    pub changes: Vec<String>,
    /// Reason and note of every Event.
    pub events: Vec<(String, String)>,
    /// Who fails.
    pub failing: Option<Failing>,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Failing {
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
    pub fn write(&mut self, data: Option<Value>) {
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

pub type Shared = Arc<Mutex<Scene>>;

pub fn lock(scene: &Shared) -> MutexGuard<'_, Scene> {
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
pub async fn scaler(directory: &Path, server: SocketAddr) -> (Child, Store) {
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
pub struct Stage {
    pub directory: TempDir,
    pub scene: Shared,
    pub server: SocketAddr,
    pub store: Store,
    pub scaler: Child,
}

impl Stage {
    /// Begins with this tuning.
    pub async fn of(tuning: Value) -> Self {
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

//! One test's site: a namespace with a dispatcher and a warm pool, from the same `k8s/base` that users
//! apply, and a stream of its own on the broker and the database of `k8s/overlays/local`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard, OnceCell};
use windlass_datagen::manifest::Manifest;
use windlass_dispatcher::store::{Audit, Store};
use windlass_functions::stream::Stream;

use crate::kubectl::{apply, items, json, kubectl};

/// How long a Service may lead nowhere.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where broker and database are.
pub const SHARED: &str = "windlass";

/// Two cores carry one load at a time, and faults of the cluster hit everybody in it.
static TURN: Mutex<()> = Mutex::const_new(());

/// See the module's documentation.
pub struct Site {
    pub dir: tempfile::TempDir,
    pub namespace: String,
    pub stream: Stream,
    pub shards: u32,
    /// The broker's URL, as this machine reaches it.
    pub broker: String,
    /// The primary's URL, as this machine reaches it.
    pub store: String,
    /// The dispatcher's address, as this machine reaches it.
    dispatcher: String,
    _turn: MutexGuard<'static, ()>,
}

/// Whether the tests on a cluster are to run, whose `kubectl` is then there; if not, that is said on standard
/// error.
pub fn has_kubectl() -> bool {
    let asked = std::env::var("WINDLASS_TEST_CLUSTER").unwrap_or_default();
    if asked != "1" {
        let required = std::env::var("WINDLASS_TEST_REQUIRED").as_deref() == Ok("1");
        assert!(
            !required || asked == "later",
            "WINDLASS_TEST_CLUSTER is not 1: run tests/kubernetes, which starts a cluster"
        );
        eprintln!("skipped: WINDLASS_TEST_CLUSTER is not 1");
    }
    asked == "1"
}

/// The turn of a test on the shared installation, which is brought up first; `None` without a cluster.
pub async fn turn() -> Option<MutexGuard<'static, ()>> {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    if !has_kubectl() {
        return None;
    }
    windlass_functions::trust::use_ring();
    let turn = TURN.lock().await;
    INSTALLED.get_or_init(async || install()).await;
    Some(turn)
}

fn install() {
    let started = Instant::now();
    let overlay = root().join("k8s/overlays/local");
    kubectl(&["apply", "--kustomize", &overlay.display().to_string()]);
    for object in [
        "statefulset/windlass-rabbitmq",
        "statefulset/windlass-mysql",
        "deployment/windlass-dispatcher",
        "deployment/windlass-workers",
        "deployment/windlass-board",
        "deployment/windlass-scheduler",
        "deployment/windlass-scaler",
    ] {
        rolled_out(SHARED, object);
    }
    println!("k8s/overlays/local is up after {:?}", started.elapsed());
}

/// Waits until every pod of an object is ready and of its newest template.
pub fn rolled_out(namespace: &str, object: &str) {
    kubectl(&[
        "-n",
        namespace,
        "rollout",
        "status",
        object,
        "--timeout=300s",
    ]);
}

/// The address of a Service.
pub fn address(namespace: &str, service: &str) -> String {
    let service = json(&["-n", namespace, "get", "service", service]);
    let address = service["spec"]["clusterIP"].as_str().expect("an address");
    address.to_owned()
}

/// What a site has beside `k8s/base`.
#[derive(Clone, Copy, Default)]
pub struct Extras<'a> {
    /// Lines added to the section `[dispatch]` of the configuration.
    pub dispatch: &'a str,
    /// Components of `k8s/components`.
    pub components: &'a [&'a str],
    /// Manifests.
    pub manifests: &'a str,
    /// Patches: documents of manifests.
    pub patches: &'a [&'a str],
}

impl Site {
    /// A site with two warm workers, with a scaler as many as it decides; `None` without a cluster.
    pub async fn new(name: &str) -> Option<Self> {
        Self::with(name, "").await
    }

    /// The same with these lines added to the section `[dispatch]` of the configuration.
    pub async fn with(name: &str, dispatch: &str) -> Option<Self> {
        let extras = Extras {
            dispatch,
            ..Extras::default()
        };
        Self::beside(name, &extras).await
    }

    /// The same with all of these.
    pub async fn beside(name: &str, extras: &Extras<'_>) -> Option<Self> {
        let turn = turn().await?;
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("{name}-{}-{number}", std::process::id());
        let broker = address(SHARED, "windlass-rabbitmq");
        let store = address(SHARED, "windlass-mysql");
        let mut site = Self {
            dir: tempfile::tempdir().expect("a temporary directory"),
            stream: Stream {
                name: namespace.clone(),
                ..Stream::default()
            },
            namespace,
            shards: 1,
            broker: format!("amqp://windlass:local@{broker}:5672/%2f"),
            store: format!("mysql://windlass:local@{store}:3306/windlass"),
            dispatcher: String::new(),
            _turn: turn,
        };
        site.install(extras);
        site.dispatcher = address(&site.namespace, "windlass-dispatcher");
        Some(site)
    }

    fn install(&self, extras: &Extras<'_>) {
        let configuration = format!(
            "{}{}\n[stream]\nname = \"{}\"\n",
            base_configuration(),
            extras.dispatch,
            self.stream.name
        );
        let here = self.dir.path();
        std::fs::write(here.join("windlass.toml"), configuration).expect("the configuration");
        let secrets = format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: windlass}}\nstringData:\n  \
             broker: amqp://windlass:local@windlass-rabbitmq.{SHARED}:5672/%2f\n  \
             store: mysql://windlass:local@windlass-mysql.{SHARED}:3306/windlass\n---\n\
             apiVersion: v1\nkind: Secret\nmetadata: {{name: windlass-token}}\nstringData: {{token: test}}\n"
        );
        std::fs::write(here.join("secrets.yaml"), secrets).expect("the Secrets");
        std::fs::write(here.join("extras.yaml"), extras.manifests).expect("the manifests");
        let k8s = relative(here, &root().join("k8s"));
        let k8s = k8s.display();
        let listed = |kind: &str, entries: Vec<String>| match entries.is_empty() {
            true => String::new(),
            false => format!("{kind}:\n{}", entries.concat()),
        };
        let components = extras.components.iter();
        let components = components.map(|name| format!("  - {k8s}/components/{name}\n"));
        let patches = extras.patches.iter().enumerate().map(|(number, patch)| {
            let file = format!("patch-{number}.yaml");
            std::fs::write(here.join(&file), patch).expect("the patch");
            format!("  - path: {file}\n")
        });
        let extra_resource = match extras.manifests {
            "" => "",
            _ => "  - extras.yaml\n",
        };
        let kustomization = format!(
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: {}\n\
             resources:\n  - {k8s}/base\n  - secrets.yaml\n{extra_resource}\
             {}{}configMapGenerator:\n  - name: windlass\n    behavior: replace\n    files: [windlass.toml]\n    \
             options: {{disableNameSuffixHash: true}}\n",
            self.namespace,
            listed("components", components.collect()),
            listed("patches", patches.collect()),
        );
        std::fs::write(here.join("kustomization.yaml"), kustomization).expect("the kustomization");
        self.apply_all();
        self.rolled_out("windlass-dispatcher");
        self.rolled_out("windlass-workers");
    }

    /// Applies this site's manifests, as a user does after a change.
    pub fn apply_all(&self) {
        let here = self.dir.path().display().to_string();
        kubectl(&["apply", "--kustomize", &here]);
    }

    /// `kubectl` in this site's namespace; it must succeed.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        kubectl(&[&["-n", &self.namespace], arguments].concat())
    }

    /// Applies a manifest in this site's namespace.
    pub fn apply(&self, manifest: &Value) {
        let mut manifest = manifest.clone();
        manifest["metadata"]["namespace"] = self.namespace.clone().into();
        apply(&manifest.to_string());
    }

    /// Waits until every pod of a Deployment is ready and of its newest template.
    pub fn rolled_out(&self, deployment: &str) {
        rolled_out(&self.namespace, &format!("deployment/{deployment}"));
    }

    /// Pods of a component, such as `worker`.
    pub fn pods(&self, component: &str) -> Vec<Value> {
        let selector = format!("app.kubernetes.io/component={component}");
        items(&[
            "-n",
            &self.namespace,
            "get",
            "pods",
            "--selector",
            &selector,
        ])
    }

    /// Names of the pods of a component that are not ending.
    pub fn pod_names(&self, component: &str) -> Vec<String> {
        let pods = self.pods(component).into_iter();
        pods.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
            .map(|pod| pod["metadata"]["name"].as_str().expect("a name").to_owned())
            .collect()
    }

    /// Lets this site's namespace have so many pods more than it has, until the ResourceQuota `few` is deleted.
    pub async fn limit_pods(&self, more: usize) {
        let pods = self.kubectl(&["get", "pods", "--output", "name"]);
        let pods = (pods.lines().count() + more).to_string();
        self.apply(&serde_json::json!({
            "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"},
            "spec": {"hard": {"pods": pods}},
        }));
        let counted = ["get", "resourcequota", "few", "--output"];
        let counted = [&counted[..], &["jsonpath={.status.hard.pods}"]].concat();
        eventually(Duration::from_secs(60), "pods are counted", async || {
            self.kubectl(&counted) == pods
        })
        .await;
    }

    /// Deletes the pods of a component at once, as if their node had died.
    pub fn kill(&self, component: &str) {
        let selector = format!("app.kubernetes.io/component={component}");
        let now = ["--force", "--grace-period=0", "--wait=false"];
        self.kubectl(&[&["delete", "pods", "--selector", &selector], &now[..]].concat());
    }

    /// What the dispatcher's `/v1/status` says.
    pub async fn status(&self) -> Value {
        let url = format!("http://{}:7070/v1/status", self.dispatcher);
        let request = reqwest::Client::new().get(url).bearer_auth("test");
        let started = Instant::now();
        let answer = loop {
            let request = request.try_clone().expect("it has no body");
            match request.send().await {
                // A Service leads nowhere for a moment while the pod behind it changes.
                Err(error) if error.is_connect() && started.elapsed() < PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                answer => break answer.expect("the dispatcher answers"),
            }
        };
        let body = answer.bytes().await.expect("a status");
        serde_json::from_slice(&body).expect("the status is JSON")
    }

    /// Waits until so many workers wait for work.
    pub async fn workers_wait(&self, idle: u64, within: Duration) {
        let what = format!("{idle} workers wait");
        eventually(within, &what, async || {
            self.status().await["invocations"]["idle"] == idle
        })
        .await;
    }

    /// How many distinct tuples are settled; `None` while the store cannot be asked.
    pub async fn settled_now(&self) -> Option<u64> {
        self.settled_in(&self.store).await
    }

    /// The same of a replica.
    pub async fn settled_in(&self, url: &str) -> Option<u64> {
        Some(settled(&self.audit_in(url).await?))
    }

    /// Counted, late and quarantined orders of one source; `None` while the store cannot be asked.
    pub async fn counts(&self, source: &str) -> Option<[i64; 3]> {
        let audit = self.audit().await?;
        let of = audit.sources.iter().find(|of| of.source == source)?;
        Some([of.counted, of.late, of.quarantined])
    }

    /// Quarantined orders of all sources; `None` while the store cannot be asked.
    pub async fn quarantined(&self) -> Option<i64> {
        let audit = self.audit().await?;
        Some(audit.sources.iter().map(|of| of.quarantined).sum())
    }

    async fn audit(&self) -> Option<Audit> {
        self.audit_in(&self.store).await
    }

    async fn audit_in(&self, url: &str) -> Option<Audit> {
        let store = Store::connect(url).await.ok()?;
        store.audit(&self.stream).await.ok()
    }

    /// Waits until more is settled than when this is called.
    pub async fn progresses(&self, within: Duration) {
        let mut before = None;
        eventually(within, "more is settled", async || {
            let now = self.settled_now().await;
            before = before.or(now);
            now > before
        })
        .await;
    }

    /// Waits until all of `manifest` is settled, then has `windlass audit` compare every window.
    pub async fn equals(&self, manifest: &Manifest, within: Duration) {
        let orders = manifest.totals.orders;
        let mut now = None;
        let what = format!("{orders} orders are settled");
        eventually(within, &what, async || {
            now = self.settled_now().await;
            now.is_some_and(|now| now >= orders)
        })
        .await;
        assert_eq!(now, Some(orders), "more settled than published");
        let path = self.dir.path().join("manifest.json");
        manifest.write(&path).expect("the manifest is written");
        let mut audit = Command::new(env!("CARGO_BIN_EXE_windlass"));
        audit
            .args(["audit", "--config"])
            .arg(self.dir.path().join("windlass.toml"))
            .arg("--manifest")
            .arg(&path)
            .env("WINDLASS_STORE", &self.store);
        // A node that was out of reach is taken for dead for a moment when the API server is back: its
        // pods run on, but no Service leads to them.
        eventually(within, "the audit reaches the store", async || {
            let audit = audit.output().expect("the windlass command starts");
            let errors = String::from_utf8_lossy(&audit.stderr);
            let reached = !errors.starts_with("error: cannot reach ");
            assert!(
                audit.status.success() || !reached,
                "the rows differ from the oracle:\n{}{errors}",
                String::from_utf8_lossy(&audit.stdout),
            );
            reached
        })
        .await;
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "the failed test's pods stay in namespace {}",
                self.namespace
            );
            for component in ["dispatcher", "worker"] {
                let selector = format!("app.kubernetes.io/component={component}");
                let (_, log) = crate::kubectl::tried(&[
                    "-n",
                    &self.namespace,
                    "logs",
                    "--selector",
                    &selector,
                    "--tail=15",
                ]);
                eprintln!("{component}: {log}");
            }
            return;
        }
        kubectl(&["delete", "namespace", &self.namespace, "--wait=false"]);
    }
}

/// The repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// `windlass.toml` as `k8s/base` has it.
pub fn base_configuration() -> String {
    let manifest = include_str!("../../k8s/base/configuration.yaml");
    let (_, text) = manifest.split_once("windlass.toml: |\n").expect("the key");
    text.lines()
        .map(|line| format!("{}\n", line.strip_prefix("    ").unwrap_or(line)))
        .collect()
}

/// kustomize takes no absolute paths.
pub fn relative(from: &Path, to: &Path) -> PathBuf {
    let from = from.canonicalize().expect("the directory");
    let up = from.components().skip(1).map(|_| "..");
    up.chain([to
        .to_str()
        .expect("a path in Unicode")
        .trim_start_matches('/')])
        .collect()
}

fn settled(audit: &Audit) -> u64 {
    let of = audit.sources.iter();
    let all: i64 = of.map(|s| s.counted + s.late + s.quarantined).sum();
    all as u64
}

/// Asks again and again until it is so.
pub async fn eventually(within: Duration, what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !is_so().await {
        assert!(started.elapsed() < within, "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The wall clock, ms since the epoch.
pub fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("a clock after 1970").as_millis() as i64
}

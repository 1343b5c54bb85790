//! What a cluster adds, as ratios against a reference of the same run.
//!
//! `k8s/local/up`, `export KUBECONFIG=…` as it says, then
//! `WINDLASS_TEST_CLUSTER=1 cargo bench --bench cluster [-- warm cold load]`
//!
//! * `warm`: from handing a small batch of 34 provinces out to its answer, at a local worker process
//!   and at a warm pod, one dispatcher after the other on the same broker and database.
//! * `cold`: from the moment a batch is ready to the answer from a Job of its own, against a bare Job
//!   of the same image that prints its version, created with kubectl and watched to completion. They
//!   take turns; `WINDLASS_BENCH_ROUNDS` says how often (12).
//! * `load`: 20,000 orders a second for half a minute on a warm pool of two: from the watermark's
//!   passing a window's end to the committed row, and the processor's share of every component, the
//!   API server at rest beside it.

#![allow(
    clippy::disallowed_methods,
    reason = "a benchmark is a shell: it reads clocks"
)]
#![allow(dead_code, reason = "the harness is shared with the cluster's tests")]

#[path = "../tests/cluster/harness.rs"]
mod harness;
#[path = "../tests/cluster/kubectl.rs"]
mod kubectl;
#[path = "../tests/system/load.rs"]
mod load;

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use harness::{SHARED, Site, eventually};
use serde_json::{Value, json};
use windlass_datagen::message::{Format, Packing};
use windlass_datagen::publish::Speed;
use windlass_datagen::workload::Options;

const WITHIN: Duration = Duration::from_secs(120);
/// Of the dispatcher that runs on this machine.
const LOCAL: &str = "127.0.0.1:17070";

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |name: &str| {
        let mut names = asked
            .iter()
            .filter(|name| !name.starts_with('-'))
            .peekable();
        names.peek().is_none() || names.any(|asked| asked == name)
    };
    if wanted("warm") {
        runtime.block_on(warm());
    }
    if wanted("cold") {
        runtime.block_on(cold());
    }
    if wanted("load") {
        runtime.block_on(under_load());
    }
}

/// A hundred orders a second: batches that hold each province a few times.
fn small_batches(seconds: u64) -> Options {
    Options {
        rate: 100.0,
        duration_ms: seconds * 1_000,
        ..Options::default()
    }
}

async fn warm() {
    let Some(site) = Site::new("bench-warm").await else {
        return;
    };
    let options = small_batches(30);
    let manifest = site
        .publish(options.clone(), Format::Json, Speed::Times(1.0))
        .await;
    site.equals(&manifest, WITHIN).await;
    let pod = site.status().await["invocation_latency"].clone();

    let local = Local::start(&site);
    let stream = local.stream.clone();
    let mut here = site;
    here.stream.name = stream;
    let manifest = here.publish(options, Format::Json, Speed::Times(1.0)).await;
    let settled =
        async || local.status().await["tuples_settled"].as_u64() >= Some(manifest.totals.orders);
    eventually(WITHIN, "all is settled", settled).await;
    let process = local.status().await["invocation_latency"].clone();
    for (what, latency) in [("a local process", process), ("a warm pod", pod)] {
        println!(
            "warm: handed out → answered by {what}: p50 {} ms, p99 {} ms over {} invocations",
            latency["p50_ms"], latency["p99_ms"], latency["samples"]
        );
    }
}

/// `windlass dispatch` on this machine with one worker process, on a stream of its own.
struct Local {
    child: Child,
    stream: String,
}

impl Local {
    fn start(site: &Site) -> Self {
        let stream = format!("{}-local", site.stream.name);
        let config = site.dir.path().join("local.toml");
        std::fs::write(&config, format!("[stream]\nname = \"{stream}\"\n")).expect("a file");
        let child = Command::new(env!("CARGO_BIN_EXE_windlass"))
            .args(["dispatch", "--workers", "1", "--listen", LOCAL, "--config"])
            .arg(&config)
            .env("WINDLASS_BROKER", &site.broker)
            .env("WINDLASS_STORE", &site.store)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the windlass command starts");
        Self { child, stream }
    }

    async fn status(&self) -> Value {
        let answer = reqwest::get(format!("http://{LOCAL}/v1/status")).await;
        let Ok(answer) = answer else {
            return Value::Null;
        };
        let body = answer.bytes().await.expect("a status");
        serde_json::from_slice(&body).expect("the status is JSON")
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        // It may have ended by itself, and said why.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const PHASES: [&str; 5] = ["created", "scheduled", "started", "pulled", "answered"];

async fn cold() {
    let Some(site) = Site::with("bench-cold", "placement = \"job\"\n").await else {
        return;
    };
    let rounds = std::env::var("WINDLASS_BENCH_ROUNDS").map_or(12, |text| {
        text.parse::<u32>()
            .expect("WINDLASS_BENCH_ROUNDS is a number")
    });
    let (mut bare, mut full) = (Vec::new(), Vec::new());
    let mut phases: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for round in 0..rounds {
        bare.push(bare_job(&site, round));
        let before = newest(&site.status().await);
        let options = Options {
            orders: Some(68),
            source_prefix: format!("cold-{round}-"),
            ..small_batches(1)
        };
        site.publish(options, Format::Json, Speed::Max).await;
        let mut run = Value::Null;
        eventually(WITHIN, "a Job has answered", async || {
            run = newest(&site.status().await);
            run != before && run["place"] == "job"
        })
        .await;
        let mut total = run["waited_ms"].as_f64().expect("a time");
        for phase in PHASES {
            let took = run["phases_ms"][phase].as_f64().unwrap_or_default();
            phases.entry(phase).or_default().push(took);
            total += took;
        }
        full.push(total);
    }
    let (bare, full) = (median(bare), median(full));
    println!(
        "cold: bare Job {bare:.0} ms, batch ready → answered by a Job {full:.0} ms, ratio {:.2} (medians of {rounds})",
        full / bare
    );
    for phase in PHASES {
        println!(
            "cold: until {phase} {:.0} ms",
            median(phases[phase].clone())
        );
    }
}

/// The newest of the runs that the status tells of.
fn newest(status: &Value) -> Value {
    status["placement"]["recent"][0].clone()
}

/// Milliseconds from asking kubectl for a Job to its completion.
fn bare_job(site: &Site, round: u32) -> f64 {
    let name = format!("bare-{round}");
    let template = site.kubectl(&[
        "get",
        "configmap",
        "windlass-job-template",
        "-o",
        "jsonpath={.data.template\\.yaml}",
    ]);
    let indented: String = template
        .lines()
        .map(|line| format!("    {line}\n"))
        .collect();
    let manifest = format!(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: {name}, namespace: {}}}\nspec:\n  backoffLimit: 0\n  template:\n{indented}      restartPolicy: Never\n",
        site.namespace
    );
    let manifest = manifest.replace(
        "        - name: windlass\n",
        "        - name: windlass\n          args: [--version]\n",
    );
    let path = site.dir.path().join("bare.yaml");
    std::fs::write(&path, manifest).expect("a file");
    let started = Instant::now();
    site.kubectl(&["create", "--filename", &path.display().to_string()]);
    site.kubectl(&[
        "wait",
        "--for=condition=complete",
        "--timeout=120s",
        &format!("job/{name}"),
    ]);
    started.elapsed().as_secs_f64() * 1e3
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

async fn under_load() {
    let Some(site) = Site::new("bench-load").await else {
        return;
    };
    let resting = Duration::from_secs(15);
    let (before, started) = (processor(&site), Instant::now());
    tokio::time::sleep(resting).await;
    let at_rest = shares(&before, &processor(&site), started.elapsed());

    let options = Options {
        rate: 20_000.0,
        duration_ms: 30_000,
        ..Options::default()
    };
    let packing = Packing {
        format: Format::Ndjson,
        batch: 20,
        duplicates: 0.0,
        seed: 7,
    };
    let (before, started) = (processor(&site), Instant::now());
    let manifest = site
        .publish_packed(options, packing, Speed::Times(1.0))
        .await;
    let loaded = shares(&before, &processor(&site), started.elapsed());
    site.equals(&manifest, WITHIN).await;
    let latency = site.status().await["window_latency"].clone();
    println!(
        "load: 20,000 orders/s on two warm pods: window's end → committed row p50 {} ms, p99 {} ms over {} windows",
        latency["p50_ms"], latency["p99_ms"], latency["samples"]
    );
    for (component, share) in &loaded {
        let rest = at_rest.get(component).copied().unwrap_or_default();
        println!("load: {component}: {share:.1}% of a core, at rest {rest:.1}%");
    }
}

/// Seconds of processor time used so far, by component.
fn processor(site: &Site) -> BTreeMap<String, f64> {
    let node = kubectl::json(&["get", "nodes"])["items"][0]["metadata"]["name"].clone();
    let node = node.as_str().expect("a node");
    let summary = format!("/api/v1/nodes/{node}/proxy/stats/summary");
    let summary = kubectl::kubectl(&["get", "--raw", &summary]);
    let summary: Value = serde_json::from_str(&summary).expect("the kubelet answers in JSON");
    let mut used = BTreeMap::new();
    for pod in summary["pods"].as_array().expect("pods") {
        let (name, namespace) = (&pod["podRef"]["name"], &pod["podRef"]["namespace"]);
        if *namespace != json!(site.namespace) && *namespace != json!(SHARED) {
            continue;
        }
        let name = name.as_str().expect("a name");
        // Pods of a Deployment end in two generated words, those of a StatefulSet in a number.
        let cut = |name: &str| {
            name.rsplit_once('-')
                .map_or(name.to_owned(), |(head, _)| head.to_owned())
        };
        let of = if name.contains("rabbitmq") || name.contains("mysql") {
            cut(name)
        } else if *namespace == json!(SHARED) {
            continue;
        } else {
            cut(&cut(name))
        };
        let nanos = pod["cpu"]["usageCoreNanoSeconds"]
            .as_f64()
            .unwrap_or_default();
        *used.entry(of).or_default() += nanos / 1e9;
    }
    let metrics = kubectl::kubectl(&["get", "--raw", "/metrics"]);
    let of_api_server = metrics
        .lines()
        .find_map(|line| line.strip_prefix("process_cpu_seconds_total "));
    let seconds = of_api_server
        .expect("the API server counts its time")
        .parse();
    used.insert("kube-apiserver".into(), seconds.expect("a number"));
    used
}

/// Percent of a core between two readings.
fn shares(
    before: &BTreeMap<String, f64>,
    after: &BTreeMap<String, f64>,
    time: Duration,
) -> BTreeMap<String, f64> {
    let share = |(component, used): (&String, &f64)| {
        let since = used - before.get(component).copied().unwrap_or_default();
        (component.clone(), since / time.as_secs_f64() * 100.0)
    };
    after.iter().map(share).collect()
}

//! A dispatcher whose pool a scaler sizes, and orders for it.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, timeout};
use windlass::serve::{self, Server, Serving};
use windlass::values::Workers;
use windlass_dispatcher::broker::{Broker, Topology};
use windlass_dispatcher::shard::Settings;
use windlass_dispatcher::status::Status;
use windlass_dispatcher::store::Store;
use windlass_functions::stream::Stream;
use windlass_functions::watermark::Times;

use crate::SECOND;

/// A dispatcher on a store of its own, and orders for it at a rate that can be changed.
pub struct Site {
    pub directory: tempfile::TempDir,
    broker: Broker,
    pub server: Server,
    pub rate: Arc<AtomicU64>,
    pub published: Arc<AtomicU64>,
    _publisher: JoinHandle<()>,
}

impl Site {
    pub async fn new(workers: Workers, tuning: Option<&str>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let topology = Topology {
            stream: Stream::default().name,
            shards: 1,
        };
        let broker = Broker::connect("memory:", &topology).await.unwrap();
        if let Some(tuning) = tuning {
            std::fs::write(directory.path().join("tuning"), tuning).unwrap();
        }
        let tuning = tuning.map(|_| directory.path().join("tuning"));
        let server = server(directory.path(), &broker, workers, tuning).await;
        let (rate, published) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let publisher = publish(broker.clone(), Arc::clone(&rate), Arc::clone(&published));
        Self {
            directory,
            broker,
            server,
            rate,
            published,
            _publisher: tokio::spawn(publisher),
        }
    }

    /// Drains the dispatcher, and starts another on the same store and queue.
    pub async fn restarted(self, workers: Workers, tuning: Option<PathBuf>) -> Self {
        assert!(self.server.drain().await);
        let server = server(self.directory.path(), &self.broker, workers, tuning).await;
        Self { server, ..self }
    }

    pub fn tuning(&self) -> PathBuf {
        self.directory.path().join("tuning")
    }

    pub fn size(&self) -> u32 {
        self.status().pool.unwrap().desired
    }

    pub fn status(&self) -> Status {
        self.server.status()
    }

    /// Waits until `is` holds, and says how long that took.
    pub async fn until(&self, what: &str, limit: Duration, is: impl Fn(&Self) -> bool) -> Duration {
        let started = Instant::now();
        let waited = async {
            while !is(self) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let pool = || (self.status().pool, self.server.scaling());
        assert!(timeout(limit, waited).await.is_ok(), "{what}: {:?}", pool());
        started.elapsed()
    }

    pub async fn windlass(&self, args: &[&str]) -> Output {
        windlass(self.directory.path(), args).await
    }

    pub async fn says(&self, args: &[&str]) -> String {
        says(self.directory.path(), args).await
    }

    pub async fn fails(&self, args: &[&str]) -> String {
        fails(self.directory.path(), args).await
    }

    /// Waits for eight seconds in which windows close and none is late; says when they began.
    pub async fn recovered(&self, limit: Duration) -> Duration {
        let started = Instant::now();
        loop {
            let begun = started.elapsed();
            let then = self.status().workload;
            tokio::time::sleep(8 * SECOND).await;
            let now = self.status().workload;
            let windows = |above: f64| {
                now.committed_windows.above(above) - then.committed_windows.above(above)
            };
            if windows(0.0) >= 5.0 && windows(1_000.0) < 0.5 {
                return begun;
            }
            let found = (windows(1_000.0), windows(0.0));
            assert!(
                begun < limit,
                "late of closed: {found:?}, {:?}",
                self.server.scaling()
            );
        }
    }

    /// Runs a command until it says `what`.
    pub async fn until_says(&self, args: &[&str], what: &str) -> String {
        let waited = async {
            loop {
                let said = String::from_utf8(self.windlass(args).await.stdout).unwrap();
                if said.contains(what) {
                    return said;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(20 * SECOND, waited).await.expect(what)
    }
}

/// A command on the store in `directory`.
async fn windlass(directory: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_windlass"))
        .args(["--log", "warn"])
        .args(args)
        .env("WINDLASS_STORE", store_url(directory))
        .output()
        .await
        .unwrap()
}

/// What a command that succeeds prints.
pub async fn says(directory: &Path, args: &[&str]) -> String {
    let output = windlass(directory, args).await;
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a command that fails complains of.
pub async fn fails(directory: &Path, args: &[&str]) -> String {
    let output = windlass(directory, args).await;
    assert!(!output.status.success(), "{args:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// How many seconds, and decisions in them, `scaler replay --verify` says it has decided again.
pub fn decided_again(verified: &str) -> (u64, u64) {
    let (seconds, said) = verified
        .split_once(" seconds decided again: all ")
        .expect(verified);
    let (count, _) = said.split_once(" decisions are the same").expect(verified);
    let number = |text: &str| text.parse::<u64>().expect(verified);
    (number(seconds), number(count))
}

/// A tuning with a pool of this size.
pub fn fixed(size: u32) -> String {
    format!("mode: static\nstatic-size: {size}\ngap-caution: 0s\n")
}

/// In one step: half an edit is a bad one.
pub fn replace(path: &Path, text: &str) {
    let fresh = path.with_extension("fresh");
    std::fs::write(&fresh, text).unwrap();
    std::fs::rename(&fresh, path).unwrap();
}

pub fn store_url(directory: &Path) -> String {
    format!("sqlite:{}", directory.join("w.sqlite").display())
}

async fn server(
    directory: &Path,
    broker: &Broker,
    workers: Workers,
    tuning: Option<PathBuf>,
) -> Server {
    let store = Store::connect(&store_url(directory)).await.unwrap();
    let stream = Stream::default();
    store.migrate(&stream, 1).await.unwrap();
    windlass_functions::trust::use_ring();
    let serving = Serving {
        stream,
        shards: 1,
        broker: broker.clone(),
        store,
        replicas: None,
        token: None,
        status_token: None,
        listener: serve::listen(([127, 0, 0, 1], 0).into(), None)
            .await
            .unwrap(),
        tls: None,
        jobs: None,
        workers,
        tuning,
        program: Some(env!("CARGO_BIN_EXE_windlass").into()),
        pace: Some("20ms+600us".parse().unwrap()),
        settings: Settings {
            times: Times {
                idle_timeout_ms: 1_000,
                ..Times::default()
            },
            chunk_rows: 100,
            ..Settings::default()
        },
        grace: Duration::from_secs(20),
    };
    Server::start(serving).await.unwrap()
}

async fn publish(broker: Broker, rate: Arc<AtomicU64>, published: Arc<AtomicU64>) {
    let mut ticks = interval(Duration::from_millis(100));
    let mut seq = 0;
    loop {
        ticks.tick().await;
        let orders = rate.load(Ordering::Relaxed) / 10;
        if orders == 0 {
            continue;
        }
        let now = std::time::SystemTime::now();
        let ts = now
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_millis();
        let mut body = String::new();
        for _ in 0..orders {
            seq += 1;
            body += &format!(
                "{{\"source\":\"till\",\"seq\":{seq},\"ts\":{ts},\"province\":\"Hunan\",\"amount\":\"1.50\"}}\n"
            );
        }
        let kind = Some("application/x-ndjson");
        broker
            .publish("till", kind, Bytes::from(body))
            .await
            .unwrap();
        published.fetch_add(orders, Ordering::Relaxed);
    }
}

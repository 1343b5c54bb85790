//! Overflow on one machine: a dispatcher whose Jobs are processes, asked over its API.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinSet;
use windlass::placing::launch;
use windlass_dispatcher::broker::{Broker, Topology};
use windlass_dispatcher::invocations::Limits;
use windlass_dispatcher::invoker::Jobs;
use windlass_dispatcher::placement::{Place, Placement, Reason, Settings};
use windlass_dispatcher::service::{Config, Service};
use windlass_dispatcher::shard;
use windlass_dispatcher::status::Status;
use windlass_dispatcher::store::Store;
use windlass_functions::stream::Stream;
use windlass_jobs::launch::Launcher;
use windlass_jobs::local::Program;
use windlass_jobs::local_jobs::LocalJobs;

const PATIENCE: Duration = Duration::from_secs(60);

struct Site {
    service: Service,
    broker: Broker,
    _launching: JoinSet<()>,
    _directory: tempfile::TempDir,
}

impl Site {
    /// A dispatcher without warm workers whose Jobs run `program`.
    async fn new(placement: Placement, program: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let stream = Stream::default();
        let url = format!("sqlite:{}", directory.path().join("w.sqlite").display());
        let store = Store::connect(&url).await.unwrap();
        store.migrate(&stream, 1).await.unwrap();
        let topology = Topology {
            stream: stream.name.clone(),
            shards: 1,
        };
        let broker = Broker::connect("memory:", &topology).await.unwrap();
        let (orders, ordered) = unbounded_channel();
        let settings = Settings {
            placement,
            overflow_wait_ms: 50,
            ..Settings::default()
        };
        windlass_functions::trust::use_ring();
        let service = Service::start(Config {
            pool: None,
            tls: None,
            stream,
            shards: 1,
            settings: shard::Settings::default(),
            broker: broker.clone(),
            store,
            replicas: None,
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            token: Some("t0ken".into()),
            status_token: None,
            lease: Duration::from_secs(10),
            limits: Limits::default(),
            jobs: Some(Jobs { settings, orders }),
        })
        .unwrap();
        let program = Program {
            path: program.into(),
            args: [
                "function",
                "--dispatcher",
                &format!("http://{}", service.address()),
            ]
            .map(Into::into)
            .into(),
            env: vec![("WINDLASS_TOKEN".into(), "t0ken".into())],
            name_variable: "WINDLASS_WORKER_NAME".into(),
        };
        let mut launching = JoinSet::new();
        let launcher = Launcher::Local(LocalJobs { program });
        launching.spawn(launch(launcher, service.invoker(), ordered));
        Self {
            service,
            broker,
            _launching: launching,
            _directory: directory,
        }
    }

    async fn order(&self, seq: u64) {
        let body = format!(
            r#"{{"source":"a","seq":{seq},"ts":1700000000000,"province":"Hunan","amount":"1.50"}}"#
        );
        let kind = Some("application/json");
        self.broker
            .publish("a", kind, Bytes::from(body))
            .await
            .unwrap();
    }

    async fn until(&self, is_so: impl Fn(&Status) -> bool) -> Status {
        let so = async {
            loop {
                let status = self.service.status();
                if is_so(&status) {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let so = tokio::time::timeout(PATIENCE, so).await;
        so.unwrap_or_else(|_| panic!("{:?}", self.service.status()))
    }

    /// One call of a warm worker for work.
    async fn next(&self, wait: &str) -> u16 {
        let url = format!(
            "http://{}/v1/invocations/next?wait={wait}",
            self.service.address()
        );
        let call = reqwest::Client::new().get(url).bearer_auth("t0ken");
        call.send().await.unwrap().status().as_u16()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_no_warm_worker_takes_runs_in_a_job() {
    let site = Site::new(Placement::Auto, Path::new(env!("CARGO_BIN_EXE_windlass"))).await;
    site.order(1).await;
    let status = site
        .until(|status| status.tuples_counted == 1)
        .await
        .placement;
    let run = &status.recent[0];
    assert_eq!((run.place, run.reason), (Place::Job, Reason::Overflow));
    assert_eq!((run.window_start, run.rows), (1_700_000_000_000, 1));
    assert!(run.waited_ms >= 50, "{run:?}");
    assert!(run.phases_ms.pulled.is_some(), "{run:?}");
    assert_eq!(status.creating_paused, None);
    let metrics = format!("http://{}/metrics", site.service.address());
    let call = reqwest::Client::new().get(metrics).bearer_auth("t0ken");
    let text = call.send().await.unwrap().text().await.unwrap();
    for line in [
        r#"windlass_placements_total{place="job",reason="overflow"} 1"#,
        "windlass_jobs_created_total 1",
        r#"windlass_cold_start_seconds_count{phase="answered"} 1"#,
    ] {
        assert!(text.contains(line), "{line} is missing in {text}");
    }
    site.until(|status| status.placement.live_jobs == 0).await;
    site.service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_that_asks_for_jobs_gets_no_warm_worker() {
    let site = Site::new(Placement::Job, Path::new(env!("CARGO_BIN_EXE_windlass"))).await;
    let warm = async {
        let first = site.next("3s").await;
        assert_eq!(first, 204, "nothing is for warm workers");
    };
    tokio::join!(warm, site.order(1));
    let status = site
        .until(|status| status.tuples_counted == 1)
        .await
        .placement;
    let run = &status.recent[0];
    assert_eq!((run.place, run.reason), (Place::Job, Reason::Asked));
    site.service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_that_fail_to_start_are_told_and_their_batch_is_there_for_a_warm_worker() {
    let site = Site::new(Placement::Auto, Path::new("/bin/false")).await;
    site.order(1).await;
    let paused = |status: &Status| status.placement.creating_paused.is_some();
    let status = site.until(paused).await;
    let reason = status.placement.creating_paused.unwrap();
    assert!(reason.contains("did not take its batch"), "{reason}");
    assert_eq!(status.placement.waiting, 1);
    assert_eq!(status.invocations.failed, 0, "the batch is not to blame");
    assert_eq!(site.next("5s").await, 200);
    site.service.stop().await;
}

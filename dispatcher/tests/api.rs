//! The invocation API as any HTTP client meets it: a dispatcher with an in-process broker and an
//! SQLite file, asked over real HTTP.

use std::time::Duration;

use bytes::Bytes;
use reqwest::{Client, Response};
use tokio::net::TcpListener;
use windlass_dispatcher::broker::{Broker, Topology};
use windlass_dispatcher::invocations::Limits;
use windlass_dispatcher::service::{Config, Service};
use windlass_dispatcher::shard::Settings;
use windlass_dispatcher::store::Store;
use windlass_functions::batch::{decode_batch, encode_partials};
use windlass_functions::function::{Function, Gmv};
use windlass_functions::stream::Stream;

const TOKEN: &str = "t0ken";
const STATUS_TOKEN: &str = "l00k";

/// A dispatcher that asks for [`TOKEN`] and has one order to be counted.
struct Site {
    service: Service,
    client: Client,
    _directory: tempfile::TempDir,
}

impl Site {
    async fn new() -> Self {
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
        let service = Service::start(Config {
            stream,
            shards: 1,
            settings: Settings::default(),
            broker: broker.clone(),
            store,
            replicas: None,
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            tls: None,
            pool: None,
            token: Some(TOKEN.into()),
            status_token: Some(STATUS_TOKEN.into()),
            lease: Duration::from_secs(10),
            limits: Limits::default(),
            jobs: None,
        })
        .unwrap();
        let body =
            r#"{"source":"a","seq":1,"ts":1700000000000,"province":"Hunan","amount":"1.50"}"#;
        broker
            .publish("a", Some("application/json"), Bytes::from(body))
            .await
            .unwrap();
        windlass_functions::trust::use_ring();
        Self {
            service,
            client: Client::new(),
            _directory: directory,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.service.address())
    }

    async fn get(&self, path: &str) -> Response {
        let call = self.client.get(self.url(path)).bearer_auth(TOKEN);
        call.send().await.unwrap()
    }

    async fn get_as(&self, worker: &str, path: &str) -> Response {
        let call = self.client.get(self.url(path)).bearer_auth(TOKEN);
        call.header("windlass-worker", worker).send().await.unwrap()
    }

    /// Takes the next invocation as the worker of this name.
    async fn next_of(&self, worker: &str) -> (String, Bytes) {
        taken(self.get_as(worker, "/v1/invocations/next?wait=10s").await).await
    }

    /// Asks for work as a worker that can be parked, and shows this of it.
    async fn ask_as(&self, worker: &str, parking: &str) -> Response {
        let call = self.client.get(self.url("/v1/invocations/next?wait=20s"));
        let call = call.bearer_auth(TOKEN).header("windlass-worker", worker);
        call.header("windlass-parking", parking)
            .send()
            .await
            .unwrap()
    }

    /// Asks that so many workers stay at work.
    async fn keep(&self, size: &str) -> Response {
        let call = self.client.post(self.url("/v1/workers/keep"));
        let call = call.header("content-type", "application/json");
        let call = call
            .bearer_auth(TOKEN)
            .body(format!("{{\"size\": {size}}}"));
        call.send().await.unwrap()
    }

    async fn post(&self, id: &str, what: &str, body: impl Into<reqwest::Body>) -> Response {
        let url = self.url(&format!("/v1/invocations/{id}/{what}"));
        let call = self.client.post(url).bearer_auth(TOKEN).body(body);
        let call = call.header("content-type", "application/json");
        call.send().await.unwrap()
    }

    /// Takes the next invocation: its id and its batch.
    async fn next(&self) -> (String, Bytes) {
        taken(self.get("/v1/invocations/next?wait=10s").await).await
    }

    /// Reports a failure of the function, after which the batch waits for a worker again.
    async fn fail(&self, id: &str) {
        let failure = r#"{"type":"error","message":"not today"}"#;
        assert_eq!(self.post(id, "error", failure).await.status(), 202);
    }
}

async fn taken(response: Response) -> (String, Bytes) {
    assert_eq!(response.status(), 200);
    let id = response.headers()["windlass-invocation-id"].to_str();
    let id = id.unwrap().to_owned();
    (id, response.bytes().await.unwrap())
}

fn answer(batch: &[u8]) -> Bytes {
    let partials = Gmv.map(&decode_batch(batch).unwrap()).unwrap();
    encode_partials(&partials)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_but_the_probes_needs_the_token() {
    let site = Site::new().await;
    let id = "0.1.1.1700000000000.0.0.1";
    let calls = [
        (false, "/v1/invocations/next".to_owned()),
        (false, format!("/v1/invocations/{id}")),
        (true, format!("/v1/invocations/{id}/response")),
        (true, format!("/v1/invocations/{id}/error")),
        (true, "/v1/workers/somebody/leave".to_owned()),
        (true, "/v1/workers/keep".to_owned()),
        (true, "/v1/pool".to_owned()),
        (false, "/v1/status".to_owned()),
        (false, "/metrics".to_owned()),
    ];
    for (post, path) in &calls {
        let call = || match post {
            true => site.client.post(site.url(path)).body("x"),
            false => site.client.get(site.url(path)),
        };
        let wrong = ["t0kem", "t0ken0", "T0KEN", ""];
        let mut refused = vec![call(), call().basic_auth("u", Some(TOKEN))];
        refused.extend(wrong.map(|token| call().bearer_auth(token)));
        for call in refused {
            let response = call.send().await.unwrap();
            assert_eq!(response.status(), 401, "{path}");
            let said = response.text().await.unwrap();
            assert!(
                said.contains("WINDLASS_TOKEN") && !said.contains(TOKEN),
                "{said}"
            );
        }
        let response = call().bearer_auth(TOKEN).send().await.unwrap();
        assert_ne!(response.status(), 401, "{path}");
        let response = call().bearer_auth(STATUS_TOKEN).send().await.unwrap();
        let may_look = ["/v1/status", "/metrics"].contains(&&path[..]);
        assert_eq!(response.status() == 401, !may_look, "{path}");
    }
    for probe in ["/healthz", "/readyz"] {
        let response = site.client.get(site.url(probe)).send().await.unwrap();
        assert_ne!(response.status(), 401, "{probe}");
    }
    site.service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invocation_is_taken_by_its_id_once_and_answered_once() {
    let site = Site::new().await;
    let (first, _) = site.next().await;
    let by_id = format!("/v1/invocations/{first}");
    // It is with a worker.
    assert_eq!(site.get(&by_id).await.status(), 410);
    site.fail(&first).await;
    // It waits again: whoever was launched for it takes it, as a new attempt.
    let (second, batch) = taken(site.get(&by_id).await).await;
    assert_ne!(first, second);
    assert_eq!(site.get(&by_id).await.status(), 410);

    // An answer that is none fails the attempt and is no answer of another.
    let refused = site.post(&second, "response", "not Arrow").await;
    assert_eq!(refused.status(), 400);
    let said = refused.text().await.unwrap();
    assert!(said.contains("Arrow IPC of partials"), "{said}");

    let (third, batch_again) = site.next().await;
    assert_eq!(batch, batch_again);
    let won = site.post(&third, "response", answer(&batch)).await;
    assert_eq!(won.status(), 200);
    // Late answers, of the attempt that won and of one that was given up.
    for id in [&third, &second] {
        let late = site.post(id, "response", answer(&batch)).await;
        assert_eq!(late.status(), 409);
        assert_eq!(
            site.get(&format!("/v1/invocations/{id}")).await.status(),
            410
        );
    }
    let counted = async {
        while site.service.status().tuples_counted == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), counted)
        .await
        .unwrap();
    assert_eq!(site.service.status().tuples_counted, 1);
    site.service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_says_it_leaves_is_given_nothing_more() {
    let site = Site::new().await;
    let (id, batch) = site.next_of("a").await;
    let leave = site.client.post(site.url("/v1/workers/a/leave"));
    let left = leave.bearer_auth(TOKEN).send().await.unwrap();
    assert_eq!(left.status(), 202);
    site.fail(&id).await;
    let call = site.get_as("a", "/v1/invocations/next?wait=10s").await;
    assert_eq!(call.status(), 410, "though a batch waits");
    let (id, _) = site.next_of("b").await;
    let won = site.post(&id, "response", answer(&batch)).await;
    assert_eq!(won.status(), 200);
    let workload = site.service.status().workload;
    assert_eq!(workload.answered_tuples_total, 1);
    assert_eq!(workload.answered_batches_total, 1);
    site.service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_worker_is_parked_while_a_busy_one_works_and_returns_at_once_when_that_is_gone() {
    let site = Site::new().await;
    let batch = site.ask_as("busy", "active").await;
    let (id, batch) = taken(batch).await;
    // It may not have asked yet when the first of these comes; then it is parked by its asking.
    let (parked, kept) = tokio::join!(site.ask_as("idle", "active"), site.keep("1"));
    assert_eq!(kept.status(), 202);
    assert_eq!(parked.status(), 204);
    assert_eq!(parked.headers()["windlass-parking"], "parked");
    let lot: serde_json::Value =
        serde_json::from_slice(&site.keep("1").await.bytes().await.unwrap()).unwrap();
    assert_eq!(lot, serde_json::json!({"active": 1, "parked": 1}));
    let load = site.service.status().invocations;
    assert_eq!((load.busy, load.idle, load.parked), (1, 0, 1));

    // A batch that waits is not for it, but for one that cannot be parked.
    site.fail(&id).await;
    let resting = site.ask_as("idle", "parked");
    let (resting, (id, _)) = tokio::join!(resting, async {
        let other = site.next_of("cannot").await;
        assert_eq!(site.keep("2").await.status(), 202);
        other
    });
    assert_eq!(resting.status(), 204);
    assert_eq!(resting.headers().get("windlass-parking"), None, "at work");
    let won = site.post(&id, "response", answer(&batch)).await;
    assert_eq!(won.status(), 200);
    site.service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parked_worker_returns_to_work_when_another_leaves_and_ends_when_it_leaves_itself() {
    for (leaves, status) in [("busy", 204), ("idle", 410)] {
        let site = Site::new().await;
        taken(site.ask_as("busy", "active").await).await;
        let begun = tokio::time::Instant::now();
        let (parked, _) = tokio::join!(site.ask_as("idle", "active"), site.keep("1"));
        assert_eq!(parked.headers()["windlass-parking"], "parked");
        let leave = async {
            let url = site.url(&format!("/v1/workers/{leaves}/leave"));
            let told = site.client.post(url).bearer_auth(TOKEN).send().await;
            assert_eq!(told.unwrap().status(), 202);
        };
        let (told, ()) = tokio::join!(site.ask_as("idle", "parked"), leave);
        assert_eq!(told.status(), status, "{leaves} leaves");
        assert_eq!(told.headers().get("windlass-parking"), None);
        let lapses = Duration::from_millis(windlass_dispatcher::roster::parking::KEPT_MS);
        assert!(begun.elapsed() < lapses, "it was not waited for the lapse");
        site.service.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_can_have_all_workers_parked() {
    let site = Site::new().await;
    for (size, status) in [("0", 400), ("-1", 422), ("1, \"wait\": 3", 422)] {
        let refused = site.keep(size).await;
        assert_eq!(refused.status(), status, "{size}");
    }
    site.service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dispatcher_without_local_workers_says_so_when_asked_to_resize_them() {
    let site = Site::new().await;
    let call = site.client.post(site.url("/v1/pool")).bearer_auth(TOKEN);
    let call = call.header("content-type", "application/json");
    let refused = call.body("{\"size\": 3}").send().await.unwrap();
    assert_eq!(refused.status(), 409);
    let said = refused.text().await.unwrap();
    assert!(said.contains("--workers auto"), "{said}");
    site.service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_call_is_told_what_was_expected() {
    let site = Site::new().await;
    let (id, _) = site.next().await;
    for malformed in [
        "nonsense",
        "1.2.3",
        "0.1.1.1700000000000.0.0.1.9",
        "0.1.1.x.0.0.1",
    ] {
        let path = format!("/v1/invocations/{malformed}");
        let failure = r#"{"type":"error","message":"x"}"#;
        for response in [
            site.get(&path).await,
            site.post(malformed, "response", "x").await,
            site.post(malformed, "error", failure).await,
        ] {
            assert_eq!(response.status(), 400, "{malformed}");
            let said = response.text().await.unwrap();
            assert!(said.contains("windlass-invocation-id"), "{said}");
        }
    }
    let wait = site.get("/v1/invocations/next?wait=soon").await;
    assert_eq!(wait.status(), 400);
    assert!(wait.text().await.unwrap().contains("30s"));
    // A report that is none leaves the attempt where it is.
    for body in ["", "[]", r#"{"message":"x"}"#] {
        let status = site.post(&id, "error", body).await.status();
        assert!(status.is_client_error(), "{status}");
    }
    assert_eq!(
        site.get(&format!("/v1/invocations/{id}")).await.status(),
        410
    );
    site.service.stop().await;
}

//! The worker's loop against a real HTTP server whose every answer the test decides.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, mpsc as blocking};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request};
use axum::http::{Response, StatusCode};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use windlass_functions::batch::{Batch, decode_partials, encode_batch};
use windlass_functions::function::{Function, Gmv};
use windlass_functions::partial::{Partial, Partials};
use windlass_functions::tuple::{Dictionary, Tuples};
use windlass_functions::worker::{Outcome, WorkerConfig, WorkerError, run, run_once};

const PATIENCE: Duration = Duration::from_secs(20);
const NEXT: &str = "GET /v1/invocations/next?wait=30s";
const LEAVE: &str = "POST /v1/workers/test-host-7/leave";

/// A request as it came, and the means to answer it.
struct Call {
    what: String,
    /// The other end of the connection it came on.
    from: SocketAddr,
    headers: axum::http::HeaderMap,
    body: Vec<u8>,
    reply: oneshot::Sender<Response<Body>>,
}

impl Call {
    fn reply(self, status: u16) {
        let _ = self.reply.send(empty(status));
    }

    fn park(self) {
        let mut response = empty(204);
        let parked = axum::http::HeaderValue::from_static("parked");
        response.headers_mut().insert("windlass-parking", parked);
        let _ = self.reply.send(response);
    }

    fn hand_out(self, id: &str, function: &str, body: Vec<u8>) {
        let response = Response::builder()
            .header("windlass-invocation-id", id)
            .header("windlass-function", function)
            .header("windlass-window-start", "1000")
            .body(body.into())
            .unwrap();
        let _ = self.reply.send(response);
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

fn empty(status: u16) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

struct Dispatcher {
    address: String,
    calls: mpsc::Receiver<Call>,
    server: JoinHandle<()>,
}

impl Drop for Dispatcher {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Dispatcher {
    async fn start() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn on(listener: TcpListener) -> Self {
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (send, calls) = mpsc::channel(16);
        let app =
            axum::Router::new().fallback(async move |from: ConnectInfo<_>, request: Request| {
                let what = format!("{} {}", request.method(), request.uri());
                let headers = request.headers().clone();
                let body = to_bytes(request.into_body(), usize::MAX).await.unwrap();
                let (reply, answer) = oneshot::channel();
                let call = Call {
                    what,
                    from: from.0,
                    headers,
                    body: body.to_vec(),
                    reply,
                };
                match send.send(call).await {
                    Ok(()) => answer.await.unwrap_or_else(|_| empty(503)),
                    Err(_) => empty(503),
                }
            });
        let app = app.into_make_service_with_connect_info::<SocketAddr>();
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self {
            address,
            calls,
            server,
        }
    }

    async fn call(&mut self, what: &str) -> Call {
        let call = tokio::time::timeout(PATIENCE, self.calls.recv())
            .await
            .unwrap_or_else(|_| panic!("waited in vain for {what}"))
            .unwrap();
        assert_eq!(call.what, what);
        call
    }

    fn config(&self) -> WorkerConfig {
        WorkerConfig {
            token: Some("open-sesame".into()),
            id: "test-host-7".into(),
            ..WorkerConfig::new(&self.address)
        }
    }
}

fn gmv() -> Vec<Arc<dyn Function>> {
    vec![Arc::new(Gmv)]
}

fn batch(rows: usize) -> Vec<u8> {
    let (mut keys, mut tuples) = (Dictionary::default(), Tuples::default());
    for seq in 0..rows as u64 {
        let key = keys.intern(["Zhejiang", "Hunan"][seq as usize % 2]);
        tuples.push(0, seq, 0, key, 100);
    }
    encode_batch(&keys, &tuples, 0..rows).to_vec()
}

/// Starts a worker that runs until it ends by itself or the sender is used.
fn start(
    config: WorkerConfig,
    functions: Vec<Arc<dyn Function>>,
) -> (oneshot::Sender<()>, JoinHandle<Result<(), WorkerError>>) {
    let (stop, stopped) = oneshot::channel();
    let worker = tokio::spawn(async move {
        run(config, &functions, async {
            let _ = stopped.await;
        })
        .await
    });
    (stop, worker)
}

async fn end(worker: JoinHandle<Result<(), WorkerError>>) -> Result<(), WorkerError> {
    tokio::time::timeout(PATIENCE, worker)
        .await
        .expect("the worker ends")
        .unwrap()
}

#[tokio::test]
async fn a_worker_says_who_it_is_and_answers_what_it_is_given_until_it_is_drained() {
    let mut dispatcher = Dispatcher::start().await;
    let (_stop, worker) = start(dispatcher.config(), gmv());

    let call = dispatcher.call(NEXT).await;
    assert_eq!(call.headers["authorization"], "Bearer open-sesame");
    assert_eq!(call.headers["windlass-worker"], "test-host-7");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(call.headers["windlass-worker-version"], version);
    call.reply(204);
    let call = dispatcher.call(NEXT).await;
    call.hand_out("1-2-3", "gmv", batch(3));

    let call = dispatcher.call("POST /v1/invocations/1-2-3/response").await;
    let mut two = Partial::of(100);
    two.merge(&Partial::of(100));
    let expected: Partials = vec![("Zhejiang".into(), two), ("Hunan".into(), Partial::of(100))];
    assert_eq!(decode_partials(&call.body), Ok(expected));
    call.reply(204);

    dispatcher.call(NEXT).await.reply(410);
    end(worker).await.unwrap();
}

#[tokio::test]
async fn the_connection_that_work_comes_on_outlives_those_that_answers_go_out_on() {
    let mut dispatcher = Dispatcher::start().await;
    let (_stop, worker) = start(dispatcher.config(), gmv());
    let mut asked_on = Vec::new();
    for _ in 0..10 {
        let call = dispatcher.call(NEXT).await;
        asked_on.push(call.from);
        call.hand_out("1-2-3", "gmv", batch(3));
        let answer = dispatcher.call("POST /v1/invocations/1-2-3/response").await;
        let mut last = empty(200);
        let close = axum::http::HeaderValue::from_static("close");
        last.headers_mut().insert("connection", close);
        let _ = answer.reply.send(last);
    }
    // Its end is what the dispatcher takes for the worker's.
    asked_on.dedup();
    assert_eq!(asked_on.len(), 1, "{asked_on:?}");
    dispatcher.call(NEXT).await.reply(410);
    end(worker).await.unwrap();
}

#[tokio::test]
async fn an_answer_that_another_attempt_has_beaten_is_forgotten() {
    let mut dispatcher = Dispatcher::start().await;
    let (_stop, worker) = start(dispatcher.config(), gmv());
    dispatcher.call(NEXT).await.hand_out("a", "gmv", batch(1));
    let call = dispatcher.call("POST /v1/invocations/a/response").await;
    call.reply(409);
    dispatcher.call(NEXT).await.reply(410);
    end(worker).await.unwrap();
}

struct Broken;

impl Function for Broken {
    fn name(&self) -> &str {
        "broken"
    }

    fn map(&self, batch: &Batch) -> anyhow::Result<Partials> {
        match batch.amount.len() {
            1 => anyhow::bail!("one is not enough"),
            count => panic!("{count} are too many"),
        }
    }
}

#[tokio::test]
async fn a_function_that_fails_or_panics_is_reported_and_the_worker_goes_on() {
    let mut dispatcher = Dispatcher::start().await;
    let (_stop, worker) = start(dispatcher.config(), vec![Arc::new(Broken)]);
    for (body, kind, message) in [
        (batch(1), "error", "one is not enough"),
        (batch(2), "panic", "2 are too many"),
        (batch(100_000), "panic", "100000 are too many"),
        (
            b"rubbish".to_vec(),
            "batch",
            "the Arrow stream is truncated",
        ),
    ] {
        dispatcher.call(NEXT).await.hand_out("a", "broken", body);
        let call = dispatcher.call("POST /v1/invocations/a/error").await;
        let report = call.json();
        assert_eq!(report["type"], kind);
        let said = report["message"].as_str().unwrap();
        assert!(said.starts_with(message), "{said}");
        call.reply(204);
    }
    dispatcher.call(NEXT).await.hand_out("b", "gmv", batch(1));
    let call = dispatcher.call("POST /v1/invocations/b/error").await;
    assert_eq!(call.json()["type"], "unknown-function");
    call.reply(204);
    dispatcher.call(NEXT).await.reply(410);
    end(worker).await.unwrap();
}

#[tokio::test]
async fn a_dispatcher_that_hangs_up_or_fails_is_asked_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = WorkerConfig::new(format!("http://{}", listener.local_addr().unwrap()));
    let (_stop, worker) = start(config, gmv());
    drop(listener.accept().await.unwrap());
    let mut dispatcher = Dispatcher::on(listener);
    dispatcher.call(NEXT).await.reply(503);
    dispatcher.call(NEXT).await.hand_out("a", "gmv", batch(1));
    let answer = "POST /v1/invocations/a/response";
    dispatcher.call(answer).await.reply(500);
    dispatcher.call(answer).await.reply(200);
    dispatcher.call(NEXT).await.reply(410);
    end(worker).await.unwrap();
}

#[tokio::test]
async fn a_refused_token_ends_the_worker_with_a_reason_that_does_not_tell_it() {
    let mut dispatcher = Dispatcher::start().await;
    let config = dispatcher.config();
    assert!(!format!("{config:?}").contains("sesame"));
    let (_stop, worker) = start(config, gmv());
    dispatcher.call(NEXT).await.reply(401);
    let error = end(worker).await.unwrap_err();
    assert!(matches!(error, WorkerError::Unauthorized(_)));
    assert!(!format!("{error} {error:?}").contains("sesame"));
}

#[tokio::test]
async fn something_else_at_the_address_is_told_from_a_dispatcher() {
    let mut dispatcher = Dispatcher::start().await;
    let (_stop, worker) = start(dispatcher.config(), gmv());
    dispatcher.call(NEXT).await.reply(404);
    let error = end(worker).await.unwrap_err();
    assert!(error.to_string().contains("answers 404"), "{error}");
}

#[tokio::test]
async fn an_address_that_is_none_is_refused_without_telling_its_password() {
    for address in ["nonsense", "ftp://host", "http://user:sesame@host"] {
        let config = WorkerConfig::new(address);
        let error = run(config, &gmv(), std::future::pending())
            .await
            .unwrap_err();
        assert!(matches!(error, WorkerError::Address(_)));
        assert!(!format!("{error:?}").contains("sesame"), "{error}");
    }
}

#[tokio::test]
async fn an_idle_worker_that_is_told_to_stop_says_so_and_ends_when_it_is_answered() {
    let mut dispatcher = Dispatcher::start().await;
    let (stop, worker) = start(dispatcher.config(), gmv());
    let waiting = dispatcher.call(NEXT).await;
    stop.send(()).unwrap();
    dispatcher.call(LEAVE).await.reply(202);
    waiting.reply(410);
    end(worker).await.unwrap();
}

#[tokio::test]
async fn an_invocation_that_is_on_its_way_to_a_worker_that_leaves_is_carried_out() {
    let mut dispatcher = Dispatcher::start().await;
    let (stop, worker) = start(dispatcher.config(), gmv());
    let waiting = dispatcher.call(NEXT).await;
    stop.send(()).unwrap();
    let leaving = dispatcher.call(LEAVE).await;
    waiting.hand_out("a", "gmv", batch(3));
    leaving.reply(202);
    let call = dispatcher.call("POST /v1/invocations/a/response").await;
    call.reply(200);
    end(worker).await.unwrap();
}

#[tokio::test]
async fn a_worker_that_leaves_waits_for_no_dispatcher_that_does_not_answer() {
    let mut dispatcher = Dispatcher::start().await;
    let (stop, worker) = start(dispatcher.config(), gmv());
    let _unanswered = dispatcher.call(NEXT).await;
    stop.send(()).unwrap();
    end(worker).await.unwrap();
}

/// An address of this machine that nobody listens on.
async fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

/// Whether a probe finds the port open.
async fn is_open(address: SocketAddr) -> bool {
    tokio::net::TcpStream::connect(address).await.is_ok()
}

#[tokio::test]
async fn a_worker_asks_for_work_after_its_second_probe_and_is_not_to_be_probed_while_it_is_parked()
{
    let mut dispatcher = Dispatcher::start().await;
    let address = free_address().await;
    let config = WorkerConfig {
        listen: Some(address),
        ..dispatcher.config()
    };
    let (_stop, worker) = start(config, gmv());
    while !is_open(address).await {
        tokio::task::yield_now().await;
    }
    let early = tokio::time::timeout(Duration::from_millis(200), dispatcher.calls.recv()).await;
    assert!(early.is_err(), "it was probed once");
    assert!(is_open(address).await);
    let call = dispatcher.call(NEXT).await;
    assert_eq!(call.headers["windlass-parking"], "active");
    assert!(is_open(address).await);
    call.park();

    let call = dispatcher.call(NEXT).await;
    assert_eq!(call.headers["windlass-parking"], "parked");
    assert!(!is_open(address).await);
    call.park();
    let call = dispatcher.call(NEXT).await;
    assert_eq!(call.headers["windlass-parking"], "parked");
    assert!(!is_open(address).await);
    call.reply(204);

    let call = dispatcher.call(NEXT).await;
    assert_eq!(call.headers["windlass-parking"], "active");
    assert!(is_open(address).await);
    call.park();
    // A dispatcher that needs somebody gives a batch without a word.
    let call = dispatcher.call(NEXT).await;
    call.hand_out("a", "gmv", batch(1));
    let call = dispatcher.call("POST /v1/invocations/a/response").await;
    assert!(is_open(address).await);
    call.reply(200);
    dispatcher.call(NEXT).await.reply(410);
    end(worker).await.unwrap();
}

#[tokio::test]
async fn a_worker_without_probes_does_not_offer_to_be_parked() {
    let mut dispatcher = Dispatcher::start().await;
    let (_stop, worker) = start(dispatcher.config(), gmv());
    let call = dispatcher.call(NEXT).await;
    assert_eq!(call.headers.get("windlass-parking"), None);
    call.reply(410);
    end(worker).await.unwrap();
}

/// Says when it has begun, and ends when told to.
struct Slow {
    begun: Mutex<blocking::Sender<()>>,
    go_on: Mutex<blocking::Receiver<()>>,
}

impl Function for Slow {
    fn name(&self) -> &str {
        "slow"
    }

    fn map(&self, _: &Batch) -> anyhow::Result<Partials> {
        self.begun.lock().unwrap().send(())?;
        self.go_on.lock().unwrap().recv()?;
        Ok(Partials::new())
    }
}

#[tokio::test]
async fn a_busy_worker_that_is_told_to_stop_answers_first() {
    let mut dispatcher = Dispatcher::start().await;
    let (begun, has_begun) = blocking::channel();
    let (go_on, may_go_on) = blocking::channel();
    let slow = Slow {
        begun: begun.into(),
        go_on: may_go_on.into(),
    };
    let (stop, worker) = start(dispatcher.config(), vec![Arc::new(slow)]);
    let call = dispatcher.call(NEXT).await;
    call.hand_out("a", "slow", batch(100_000));
    tokio::task::spawn_blocking(move || has_begun.recv().unwrap())
        .await
        .unwrap();
    stop.send(()).unwrap();
    go_on.send(()).unwrap();
    let call = dispatcher.call("POST /v1/invocations/a/response").await;
    assert_eq!(decode_partials(&call.body), Ok(Partials::new()));
    call.reply(204);
    end(worker).await.unwrap();
}

#[tokio::test]
async fn a_worker_launched_for_one_invocation_takes_that_one_and_ends() {
    let mut dispatcher = Dispatcher::start().await;
    for (answer, outcome) in [(204, Outcome::Answered), (410, Outcome::Gone)] {
        let config = dispatcher.config();
        let worker = tokio::spawn(async move { run_once(config, &gmv(), "7-8", pending()).await });
        let call = dispatcher.call("GET /v1/invocations/7-8").await;
        call.hand_out("7-8", "gmv", batch(1));
        let call = dispatcher.call("POST /v1/invocations/7-8/response").await;
        call.reply(answer);
        assert_eq!(worker.await.unwrap().unwrap(), outcome);
    }
}

#[tokio::test]
async fn a_worker_launched_for_a_settled_invocation_has_nothing_to_do() {
    let mut dispatcher = Dispatcher::start().await;
    let config = dispatcher.config();
    let worker = tokio::spawn(async move { run_once(config, &gmv(), "7-8", pending()).await });
    dispatcher.call("GET /v1/invocations/7-8").await.reply(410);
    assert_eq!(worker.await.unwrap().unwrap(), Outcome::Gone);
}

#[tokio::test]
async fn a_one_shot_worker_that_is_told_to_stop_before_it_has_its_batch_is_gone_at_once() {
    let config = WorkerConfig::new("http://127.0.0.1:9");
    let ended = run_once(config, &gmv(), "7-8", std::future::ready(())).await;
    assert_eq!(ended.unwrap(), Outcome::Gone);
}

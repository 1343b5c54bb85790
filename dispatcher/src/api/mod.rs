//! The invocation API: workers pull, over plain HTTP/1.1, so that a function in any language is a
//! loop of two calls; plus status, metrics and probes.
//!
//! | call | answers |
//! |---|---|
//! | `GET /v1/invocations/next?wait=30s` | 200 with a batch, 204 nothing yet or parked, 410 drain and exit |
//! | `GET /v1/invocations/{id}` | 200 with that batch, 410 if it was settled or taken |
//! | `POST /v1/invocations/{id}/response` | 200, 400 not the partials of this batch, 409 another attempt won |
//! | `POST /v1/invocations/{id}/error` | 202; retried, then bisected |
//! | `POST /v1/workers/{name}/leave` | 202; the worker is given nothing more, its `next` answers 410 |
//! | `POST /v1/workers/keep` `{"size": 4}` | 202; for 5 s so many workers stay at work, idle ones above it are parked |
//! | `POST /v1/pool` `{"size": 4}` | 202; the local pool's new size; 409 if there is no such pool |
//! | `GET /v1/status` | JSON ([`crate::status::Status`]) |
//! | `GET /metrics`, `/healthz`, `/readyz` | Prometheus text; probes, which need no token |
//!
//! Status and metrics may also be read with a token of their own, which opens nothing else: for who looks
//! on and is not to be handed a batch.

mod listener;
mod worker;

use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use rustls::ServerConfig;
use tokio::net::TcpListener;

use crate::clock::Clock;
use crate::invoker::Invoker;
use crate::metrics::Metrics;
use crate::pool::{LARGEST, Pool};
use crate::status::{Board, Status};
use crate::workload::Workload;

/// Largest answer of a worker: 10,000 keys with room to spare.
const RESPONSE_BYTES: usize = 16 << 20;

/// May carry the token in place of `authorization`.
pub const TOKEN_HEADER: &str = "windlass-token";

/// What the handlers share.
#[derive(Debug)]
pub struct Api {
    /// Hands batches out and takes answers.
    pub invoker: Arc<Invoker>,
    /// The shards' states.
    pub board: Arc<Board>,
    /// What `/metrics` serves.
    pub metrics: Arc<Metrics>,
    /// The clocks.
    pub clock: Clock,
    /// If set, every call but the probes must carry it as a bearer token.
    pub token: Option<String>,
    /// If set, status and metrics may be read with it in place of `token`.
    pub status_token: Option<String>,
    /// The local workers, if there is such a pool.
    pub pool: Option<Arc<Pool>>,
    /// Name of the function that workers run, for the `windlass-function` header.
    pub function: String,
}

impl Api {
    /// The dispatcher at this moment.
    pub fn status(&self) -> Status {
        Status {
            shards: self.board.shards(),
            invocations: self.invoker.load(),
            placement: self.invoker.placement(),
            halted: self.invoker.halted(),
            tuples_counted: self.metrics.settled_as("counted"),
            tuples_settled: ["counted", "late", "quarantined"]
                .map(|outcome| self.metrics.settled_as(outcome))
                .iter()
                .sum(),
            window_latency: self.metrics.window_latency(),
            invocation_latency: self.metrics.invocation_latency(),
            workload: self.workload(),
            pool: self.pool.as_ref().map(|pool| pool.state()),
        }
    }

    /// What the scaler reads.
    pub fn workload(&self) -> Workload {
        let (workers_ready, done, waiting) = self.invoker.work();
        let closing = self.board.closing(self.clock.now().mono_ms);
        let (committed_windows, pending_windows) = self.metrics.windows_by_latency(&closing);
        let mut workload = Workload {
            waiting_tuples: waiting as f64,
            workers_ready,
            busy_ms_total: done.busy_ms,
            ready_ms_total: done.ready_ms,
            job_ms_total: done.job_ms,
            answered_tuples_total: done.answered_tuples,
            answered_ms_total: done.answered_ms,
            answered_batches_total: done.answered_batches,
            committed_windows,
            pending_windows,
            ..Workload::default()
        };
        self.board.add_to(&mut workload);
        workload
    }
}

/// Serves, with `tls` over HTTPS, until `stop` resolves and open calls have ended.
///
/// # Errors
/// If the listener fails.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    api: Arc<Api>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let guarded = Router::new()
        .route("/v1/invocations/next", get(worker::next))
        .route("/v1/invocations/{id}", get(worker::take))
        .route("/v1/invocations/{id}/response", post(worker::respond))
        .route("/v1/invocations/{id}/error", post(worker::fail))
        .route("/v1/workers/{name}/leave", post(worker::leave))
        .route("/v1/workers/keep", post(worker::keep))
        .route("/v1/pool", post(resize))
        .layer(middleware::from_fn_with_state(Arc::clone(&api), authorize));
    let looking = Router::new()
        .route("/v1/status", get(status))
        .route("/metrics", get(metrics))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&api),
            authorize_looking,
        ));
    let router = guarded
        .merge(looking)
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .layer(DefaultBodyLimit::max(RESPONSE_BYTES))
        .with_state(Arc::clone(&api));
    let numbered = listener::Numbered::new(listener, Arc::clone(&api.invoker), tls);
    let service = router.into_make_service_with_connect_info::<listener::Connection>();
    axum::serve(numbered, service)
        .with_graceful_shutdown(stop)
        .await
        .context("the invocation API stopped serving")
}

async fn authorize(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let admitted = admits(&api, request.headers(), &[&api.token]);
    if admitted {
        next.run(request).await
    } else {
        refusal()
    }
}

async fn authorize_looking(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let admitted = admits(&api, request.headers(), &[&api.token, &api.status_token]);
    if admitted {
        next.run(request).await
    } else {
        refusal()
    }
}

/// Whether nobody need show a token, or one of these is shown.
fn admits(api: &Api, headers: &HeaderMap, tokens: &[&Option<String>]) -> bool {
    // An empty one is a variable that was left empty, not a password that everybody knows.
    let accepted = tokens.iter().copied().flatten();
    let mut accepted = accepted.filter(|token| !token.is_empty());
    api.token.is_none()
        || shown(headers)
            .is_some_and(|shown| accepted.any(|token| same(shown.as_bytes(), token.as_bytes())))
}

fn refusal() -> Response {
    let problem = "expected the dispatcher's token in `authorization: Bearer …` \
                   (WINDLASS_TOKEN for windlass's own workers)\n";
    (StatusCode::UNAUTHORIZED, problem).into_response()
}

/// The token that a request carries.
fn shown(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(header::AUTHORIZATION);
    let bearer = bearer.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    // A proxy on the way, such as an API server's, keeps `authorization` for itself.
    bearer.or_else(|| headers.get(TOKEN_HEADER)?.to_str().ok())
}

/// Compares without telling by its duration where two tokens differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |all, (x, y)| all | (x ^ y)) == 0
}

async fn status(State(api): State<Arc<Api>>) -> impl IntoResponse {
    axum::Json(api.status())
}

/// The size that is asked for.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Resize {
    size: u32,
}

async fn resize(State(api): State<Arc<Api>>, axum::Json(wanted): axum::Json<Resize>) -> Response {
    let Some(pool) = &api.pool else {
        let problem = "this dispatcher has no local workers to start or stop: run it with \
                       --workers N or --workers auto, or scale where its workers run\n";
        return (StatusCode::CONFLICT, problem).into_response();
    };
    if !(1..=LARGEST).contains(&wanted.size) {
        let problem = format!("expected a size of 1 to {LARGEST}, got {}\n", wanted.size);
        return (StatusCode::BAD_REQUEST, problem).into_response();
    }
    pool.resize(wanted.size);
    (StatusCode::ACCEPTED, axum::Json(pool.state())).into_response()
}

async fn metrics(State(api): State<Arc<Api>>) -> impl IntoResponse {
    let live = api.invoker.placement().live_jobs;
    api.metrics.jobs_live.set(live as i64);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], api.metrics.text())
}

async fn ready(State(api): State<Arc<Api>>) -> Response {
    let mut troubles = api.board.troubles();
    troubles.extend(api.invoker.halted());
    let missing = api.pool.as_ref().and_then(|pool| pool.trouble());
    troubles
        .extend(missing.map(|why| format!("a local worker is missing, and tried again: {why}")));
    if troubles.is_empty() {
        return "ready\n".into_response();
    }
    let text = troubles.join("\n") + "\n";
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

//! The invocation API: workers pull, over plain HTTP/1.1, so that a function in any language is a
//! loop of two calls; plus status, metrics and probes.
//!
//! | call | answers |
//! |---|---|
//! | `GET /v1/invocations/next?wait=30s` | 200 with a batch, 204 nothing yet, 410 drain and exit |
//! | `GET /v1/invocations/{id}` | 200 with that batch, 410 if it was settled or taken |
//! | `POST /v1/invocations/{id}/response` | 200, 400 not the partials of this batch, 409 another attempt won |
//! | `POST /v1/invocations/{id}/error` | 202; retried, then bisected |
//! | `GET /v1/status` | JSON ([`crate::status::Status`]) |
//! | `GET /metrics`, `/healthz`, `/readyz` | Prometheus text; probes, which need no token |

mod listener;
mod worker;

use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;

use crate::clock::Clock;
use crate::invoker::Invoker;
use crate::metrics::Metrics;
use crate::status::{Board, Status};

/// Largest answer of a worker: 10,000 keys with room to spare.
const RESPONSE_BYTES: usize = 16 << 20;

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
    /// Name of the function that workers run, for the `windlass-function` header.
    pub function: String,
}

impl Api {
    /// The dispatcher at this moment.
    pub fn status(&self) -> Status {
        Status {
            shards: self.board.shards(),
            invocations: self.invoker.load(),
            halted: self.invoker.halted(),
            tuples_counted: self.metrics.settled_as("counted"),
            tuples_settled: ["counted", "late", "quarantined"]
                .map(|outcome| self.metrics.settled_as(outcome))
                .iter()
                .sum(),
            window_latency: self.metrics.window_latency(),
            invocation_latency: self.metrics.invocation_latency(),
        }
    }
}

/// Serves until `stop` resolves and open calls have ended.
///
/// # Errors
/// If the listener fails.
pub async fn serve(
    listener: TcpListener,
    api: Arc<Api>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let guarded = Router::new()
        .route("/v1/invocations/next", get(worker::next))
        .route("/v1/invocations/{id}", get(worker::take))
        .route("/v1/invocations/{id}/response", post(worker::respond))
        .route("/v1/invocations/{id}/error", post(worker::fail))
        .route("/v1/status", get(status))
        .route("/metrics", get(metrics))
        .layer(middleware::from_fn_with_state(Arc::clone(&api), authorize));
    let router = guarded
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .layer(DefaultBodyLimit::max(RESPONSE_BYTES))
        .with_state(Arc::clone(&api));
    let numbered = listener::Numbered {
        listener,
        invoker: Arc::clone(&api.invoker),
        last: 0,
    };
    let service = router.into_make_service_with_connect_info::<listener::Connection>();
    axum::serve(numbered, service)
        .with_graceful_shutdown(stop)
        .await
        .context("the invocation API stopped serving")
}

async fn authorize(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let Some(token) = &api.token else {
        return next.run(request).await;
    };
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    if given.is_some_and(|given| same(given.as_bytes(), token.as_bytes())) {
        return next.run(request).await;
    }
    let problem = "expected the dispatcher's token in `authorization: Bearer …` \
                   (WINDLASS_TOKEN for windlass's own workers)\n";
    (StatusCode::UNAUTHORIZED, problem).into_response()
}

/// Compares without telling by its duration where two tokens differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |all, (x, y)| all | (x ^ y)) == 0
}

async fn status(State(api): State<Arc<Api>>) -> impl IntoResponse {
    axum::Json(api.status())
}

async fn metrics(State(api): State<Arc<Api>>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], api.metrics.text())
}

async fn ready(State(api): State<Arc<Api>>) -> Response {
    let mut troubles = api.board.troubles();
    troubles.extend(api.invoker.halted());
    if troubles.is_empty() {
        return "ready\n".into_response();
    }
    let text = troubles.join("\n") + "\n";
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

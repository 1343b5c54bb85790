//! The calls that workers make, and the one about who of them is parked.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use windlass_functions::batch::{decode_partials, encode_batch};
use windlass_functions::worker::header;

use super::Api;
use super::listener::Connection;
use crate::invocations::{AttemptId, Handout, Next, Worker};
use crate::invoker::Response as Taken;
use crate::roster::parking::Parking;

/// Longest wait of one call; a worker calls again.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
const ARROW: &str = "application/vnd.apache.arrow.stream";

#[derive(Deserialize)]
pub(super) struct NextQuery {
    wait: Option<String>,
}

pub(super) async fn next(
    State(api): State<Arc<Api>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    Query(query): Query<NextQuery>,
    headers: HeaderMap,
) -> Response {
    let wait = match query.wait.as_deref().map(parse_wait) {
        None => Duration::ZERO,
        Some(Some(wait)) => wait.min(LONGEST_WAIT),
        Some(None) => {
            let problem = "expected a wait such as 30s or 500ms\n";
            return (StatusCode::BAD_REQUEST, problem).into_response();
        }
    };
    let (worker, promised) = worker(&headers, connection);
    let parking = parking(&headers);
    match api.invoker.next(&worker, promised, parking, wait).await {
        Next::Run(handout) => batch(&api, &handout),
        Next::Nothing(_) => StatusCode::NO_CONTENT.into_response(),
        Next::Parked => {
            let parked = [(header::PARKING, header::PARKING_PARKED)];
            (StatusCode::NO_CONTENT, parked).into_response()
        }
        Next::Drain => (StatusCode::GONE, "the dispatcher drains: exit\n").into_response(),
    }
}

pub(super) async fn take(
    State(api): State<Arc<Api>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let id = match id.parse::<AttemptId>() {
        Ok(id) => id,
        Err(bad) => return (StatusCode::BAD_REQUEST, format!("{bad}\n")).into_response(),
    };
    let (worker, promised) = worker(&headers, connection);
    let age = headers.get(header::WORKER_AGE).and_then(|age| {
        let ms = age.to_str().ok()?.parse().ok()?;
        Some(Duration::from_millis(ms))
    });
    match api.invoker.take(id, &worker, promised, age) {
        Some(handout) => batch(&api, &handout),
        None => (StatusCode::GONE, "settled, or taken by another worker\n").into_response(),
    }
}

pub(super) async fn respond(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Response {
    let id = match id.parse::<AttemptId>() {
        Ok(id) => id,
        Err(bad) => return (StatusCode::BAD_REQUEST, format!("{bad}\n")).into_response(),
    };
    let taken = match decode_partials(&body) {
        Ok(partials) => api.invoker.respond(id, partials),
        Err(error) => {
            let reason = format!("the answer is not the Arrow IPC of partials: {error}");
            api.invoker.fail(id, reason.clone());
            Taken::Invalid(reason)
        }
    };
    match taken {
        Taken::Won => StatusCode::OK.into_response(),
        Taken::Conflict => (StatusCode::CONFLICT, "another attempt won\n").into_response(),
        Taken::Invalid(reason) => (StatusCode::BAD_REQUEST, reason + "\n").into_response(),
    }
}

/// What a worker posts when its function failed.
#[derive(Deserialize)]
pub(super) struct Failure {
    #[serde(rename = "type")]
    kind: String,
    message: String,
}

pub(super) async fn fail(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    Json(failure): Json<Failure>,
) -> Response {
    match id.parse::<AttemptId>() {
        Ok(id) => {
            let error: String = format!("{}: {}", failure.kind, failure.message);
            api.invoker.fail(id, error.chars().take(500).collect());
            StatusCode::ACCEPTED.into_response()
        }
        Err(bad) => (StatusCode::BAD_REQUEST, format!("{bad}\n")).into_response(),
    }
}

pub(super) async fn leave(State(api): State<Arc<Api>>, Path(name): Path<String>) -> StatusCode {
    api.invoker.dismiss_one(&name);
    StatusCode::ACCEPTED
}

/// How many workers are to stay at work.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Keep {
    size: u32,
}

pub(super) async fn keep(State(api): State<Arc<Api>>, Json(keep): Json<Keep>) -> Response {
    if keep.size == 0 {
        let problem = "expected a size of 1 or more: somebody has to work\n";
        return (StatusCode::BAD_REQUEST, problem).into_response();
    }
    (StatusCode::ACCEPTED, Json(api.invoker.keep(keep.size))).into_response()
}

fn parking(headers: &HeaderMap) -> Parking {
    let said = headers.get(header::PARKING);
    match said.and_then(|value| value.to_str().ok()) {
        Some(header::PARKING_PARKED) => Parking::Parked,
        Some(header::PARKING_ACTIVE) => Parking::Active,
        _ => Parking::Unable,
    }
}

/// Who calls, and the connection it promised to keep open until it has answered (0 if it did not).
fn worker(headers: &HeaderMap, connection: Connection) -> (Worker, u64) {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let name = text(header::WORKER)
        .map_or_else(|| format!("connection-{}", connection.0).into(), Arc::from);
    let version = Arc::from(text(header::WORKER_VERSION).unwrap_or("unknown"));
    let promised = text(header::LIVENESS) == Some(header::LIVENESS_CONNECTION);
    let promised = if promised { connection.0 } else { 0 };
    (Worker { name, version }, promised)
}

fn batch(api: &Api, handout: &Handout) -> Response {
    let work = &handout.work;
    let now = api.clock.now();
    let remaining_ms = handout.deadline_ms.saturating_sub(now.mono_ms) as i64;
    let body = encode_batch(&work.dictionaries.keys, &work.tuples, work.rows.clone());
    let headers = [
        ("content-type", ARROW.to_owned()),
        (header::INVOCATION_ID, handout.id.to_string()),
        (header::FUNCTION, api.function.clone()),
        (header::WINDOW_START, work.id.window.to_string()),
        (header::WINDOW_END, work.window_end.to_string()),
        (header::REVISION, work.revision.to_string()),
        (header::DEADLINE, (now.unix_ms + remaining_ms).to_string()),
    ];
    (headers, body).into_response()
}

/// `30s`, `500ms` or a bare number of seconds.
fn parse_wait(text: &str) -> Option<Duration> {
    if let Some(ms) = text.strip_suffix("ms") {
        return ms.parse().ok().map(Duration::from_millis);
    }
    let seconds = text.strip_suffix('s').unwrap_or(text);
    seconds.parse().ok().map(Duration::from_secs)
}

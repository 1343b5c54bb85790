//! The JSON API and the event stream, described by `/openapi.json`, which is made from this code.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use futures_util::stream;
use jiff::Timestamp;
use serde::Deserialize;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::time::timeout;
use utoipa::{IntoParams, OpenApi, ToSchema};
use windlass_dispatcher::store::{GmvQuery, GmvRow, Step, StoreError};

use crate::live::Shared;
use crate::page;
use crate::schema::{Frame, Policy, Problem, Sales, Status, StepRow, Steps, Totals};
use crate::screen::Part;

/// Most rows of one answer: 34 provinces over 49 minutes of seconds.
const MOST_ROWS: usize = 100_000;
/// A read of at most so much time is a short one, ms: three times what a replay asks for.
const SHORT_MS: i64 = 900_000;
/// How long a read of the past waits for others to end.
const TURN: Duration = Duration::from_secs(10);

#[derive(OpenApi)]
#[openapi(
    info(
        title = "windlass board",
        description = "Live and past sales by province, read from replicas."
    ),
    paths(gmv, totals, status, policy, events),
    components(schemas(Frame))
)]
struct Description;

/// The description, as `/openapi.json` serves it.
pub(crate) fn description() -> utoipa::openapi::OpenApi {
    Description::openapi()
}

/// All routes.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/api/v1/gmv", get(gmv))
        .route("/api/v1/totals", get(totals))
        .route("/api/v1/status", get(status))
        .route("/api/v1/policy", get(policy))
        .route("/api/v1/events", get(events))
        .route("/openapi.json", get(|| async { Json(description()) }))
        .route("/metrics", get(metrics))
        .fallback(page::serve)
        .with_state(shared)
}

/// Width of the steps.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum StepName {
    #[default]
    Second,
    Minute,
    Hour,
}

/// Which steps.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct GmvParams {
    /// From this instant on: RFC 3339, or ms UTC.
    from: String,
    /// Before this instant: RFC 3339, or ms UTC.
    to: String,
    /// Only this province.
    province: Option<String>,
    /// Width of a step; `from` and `to` are moved out to whole steps.
    #[serde(default)]
    #[param(inline)]
    step: StepName,
}

fn problem(status: StatusCode, error: impl ToString) -> Response {
    let error = error.to_string();
    (status, Json(Problem { error })).into_response()
}

fn instant(name: &str, text: &str) -> Result<i64, String> {
    let ms = text.parse::<i64>().ok();
    let at = || {
        text.parse::<Timestamp>()
            .ok()
            .map(Timestamp::as_millisecond)
    };
    ms.or_else(at).ok_or_else(|| {
        format!("expected `{name}` to be an instant such as 2026-11-11T00:00:00Z or 1794355200000, got {text:?}")
    })
}

/// Sales by step and province, aggregated by the database.
#[utoipa::path(get, path = "/api/v1/gmv", params(GmvParams), responses(
    (status = 200, body = Steps),
    (status = 400, body = Problem, description = "A parameter is missing or wrong, or the answer would have more than 100,000 rows"),
    (status = 503, body = Problem, description = "No replica answers, or the database takes too long for so much: ask for a shorter time, or for a longer step of it"),
))]
async fn gmv(
    State(shared): State<Arc<Shared>>,
    params: Result<Query<GmvParams>, QueryRejection>,
) -> Response {
    let params = match params {
        Ok(Query(params)) => params,
        Err(error) => return problem(StatusCode::BAD_REQUEST, error.body_text()),
    };
    let bounds =
        instant("from", &params.from).and_then(|from| Ok((from, instant("to", &params.to)?)));
    let (from, to) = match bounds {
        Ok(bounds) => bounds,
        Err(error) => return problem(StatusCode::BAD_REQUEST, error),
    };
    let (step, width) = match params.step {
        StepName::Second => (Step::Second, 1),
        StepName::Minute => (Step::Minute, 60_000),
        StepName::Hour => (Step::Hour, 3_600_000),
    };
    let from = from.div_euclid(width).saturating_mul(width);
    let to = to.saturating_add(width - 1);
    let to = to.div_euclid(width).saturating_mul(width);
    if let Some(answer) = kept(&shared, from, to, width, params.province.as_deref()) {
        return answer;
    }
    let query = GmvQuery {
        from: Some(from),
        to: Some(to),
        province: params.province,
        last: None,
    };
    // The past costs the database something: a few at a time, so that the live page stays live.
    let reads = match to.saturating_sub(from) <= SHORT_MS {
        true => &shared.reads,
        false => &shared.long_reads,
    };
    let Ok(_permit) = timeout(TURN, reads.acquire()).await else {
        let why = "other reads of the past are still running: ask again in a moment";
        return problem(StatusCode::SERVICE_UNAVAILABLE, why);
    };
    match shared.reader.steps(&query, step, MOST_ROWS + 1).await {
        Ok((rows, _)) if rows.len() > MOST_ROWS => problem(
            StatusCode::BAD_REQUEST,
            format!("expected at most {MOST_ROWS} rows: ask for a shorter time or a longer step"),
        ),
        Ok((rows, server)) => {
            let rows = rows.into_iter().map(step_row).collect();
            Json(Steps { rows, server }).into_response()
        }
        Err(error @ StoreError::Url(_)) => problem(StatusCode::BAD_REQUEST, error),
        Err(error) => problem(StatusCode::SERVICE_UNAVAILABLE, error),
    }
}

/// The steps, if they lie within what the live page is made from, as of at most one poll ago: the last
/// minutes, which most viewers ask for, then cost the database nothing.
fn kept(
    shared: &Shared,
    from: i64,
    to: i64,
    width: i64,
    province: Option<&str>,
) -> Option<Response> {
    let screen = {
        let live = shared.live();
        live.fresh.then(|| Arc::clone(&live.screen))
    }?;
    if province.is_none()
        && let Some(parts) = screen.parts(from, to, width)
    {
        return joined(&parts, screen.server());
    }
    let rows = screen.steps(from, to, width, province)?;
    let server = screen.server().to_owned();
    (rows.len() <= MOST_ROWS).then(|| Json(Steps { rows, server }).into_response())
}

/// [`Steps`] of rows that are written already; none of them is copied.
fn joined(parts: &[Part], server: &str) -> Option<Response> {
    if parts.iter().map(|part| part.rows).sum::<usize>() > MOST_ROWS {
        return None;
    }
    let end = format!("],\"server\":{}}}", serde_json::to_string(server).ok()?);
    let mut pieces = Vec::with_capacity(2 * parts.len() + 2);
    pieces.push(Bytes::from_static(b"{\"rows\":["));
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            pieces.push(Bytes::from_static(b","));
        }
        pieces.push(part.json.clone());
    }
    pieces.push(end.into());
    let length: usize = pieces.iter().map(Bytes::len).sum();
    let headers = [
        (header::CONTENT_TYPE, "application/json".to_owned()),
        (header::CONTENT_LENGTH, length.to_string()),
    ];
    let pieces = stream::iter(pieces.into_iter().map(Ok::<_, Infallible>));
    Some((headers, Body::from_stream(pieces)).into_response())
}

fn step_row(row: GmvRow) -> StepRow {
    StepRow {
        start: row.window_start,
        sales: Sales {
            province: row.province,
            orders: row.orders,
            gmv: row.gmv,
            mean: row.mean,
            min_amount: row.min_amount,
            max_amount: row.max_amount,
        },
        revision: row.revision,
        state: row.state,
    }
}

/// Totals of the whole run, as of the last commit that the board has seen.
#[utoipa::path(get, path = "/api/v1/totals", responses(
    (status = 200, body = Totals),
    (status = 503, body = Problem, description = "No replica has answered yet"),
))]
async fn totals(State(shared): State<Arc<Shared>>) -> Response {
    let screen = Arc::clone(&shared.live().screen);
    let totals = screen.totals();
    if totals.server.is_empty() {
        let why = "no replica has answered yet; /api/v1/status says more";
        return problem(StatusCode::SERVICE_UNAVAILABLE, why);
    }
    Json(totals).into_response()
}

/// Freshness, outcomes, replicas, the dispatcher and what is wrong.
#[utoipa::path(get, path = "/api/v1/status", responses((status = 200, body = Status)))]
async fn status(State(shared): State<Arc<Shared>>) -> Json<Status> {
    Json(shared.live().status.clone())
}

/// The scaler's newest Q-table; `null` where no agent has kept one.
#[utoipa::path(get, path = "/api/v1/policy", responses((status = 200, body = Option<Policy>)))]
async fn policy(State(shared): State<Arc<Shared>>) -> Json<Option<Policy>> {
    Json(shared.live().policy.as_deref().cloned())
}

/// The live feed: `whole` (a `Frame` with all of the history, once a replica has answered), `operations` (five minutes of
/// `Operations`), `policy` (a `Policy`, when it is new), `status` (a `Status`, once a second) and `frame` (a `Frame` with what changed).
/// A viewer that falls behind, or connects again, gets the whole.
#[utoipa::path(get, path = "/api/v1/events", responses(
    (status = 200, content_type = "text/event-stream", body = String),
))]
async fn events(State(shared): State<Arc<Shared>>) -> Response {
    let (first, receiver) = shared.live().subscribe();
    let viewer = Viewer::new(shared);
    let state = (Some(first), receiver, viewer);
    let body = stream::unfold(state, |(first, mut receiver, viewer)| async move {
        let bytes = match first {
            Some(first) => first,
            None => next(&mut receiver, &viewer.0).await?,
        };
        Some((Ok::<Bytes, Infallible>(bytes), (None, receiver, viewer)))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, Body::from_stream(body)).into_response()
}

async fn next(receiver: &mut Receiver<Bytes>, shared: &Shared) -> Option<Bytes> {
    match receiver.recv().await {
        Ok(bytes) => Some(bytes),
        Err(RecvError::Lagged(_)) => {
            let live = shared.live();
            let (whole, fresh) = live.subscribe();
            *receiver = fresh;
            Some(whole)
        }
        Err(RecvError::Closed) => None,
    }
}

/// Counts as a viewer while it lives.
struct Viewer(Arc<Shared>);

impl Viewer {
    fn new(shared: Arc<Shared>) -> Self {
        shared.viewers.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.0.viewers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Prometheus text.
async fn metrics(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let text = format!(
        "# HELP windlass_board_statements_total Statements sent to replicas.\n\
         # TYPE windlass_board_statements_total counter\n\
         windlass_board_statements_total {}\n\
         # HELP windlass_board_frames_total Frames sent to viewers, each counted once.\n\
         # TYPE windlass_board_frames_total counter\n\
         windlass_board_frames_total {}\n\
         # HELP windlass_board_viewers Open event streams.\n\
         # TYPE windlass_board_viewers gauge\n\
         windlass_board_viewers {}\n",
        shared.reader.statements(),
        shared.frames.load(Ordering::Relaxed),
        shared.viewers.load(Ordering::Relaxed),
    );
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        text,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_names_every_call_and_its_parameters() {
        let json = serde_json::to_value(description()).unwrap();
        for path in ["gmv", "totals", "status", "policy", "events"] {
            assert!(
                json["paths"][format!("/api/v1/{path}")]["get"].is_object(),
                "{path}"
            );
        }
        let names: Vec<_> = json["paths"]["/api/v1/gmv"]["get"]["parameters"]
            .as_array()
            .unwrap()
            .iter()
            .map(|parameter| parameter["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["from", "to", "province", "step"]);
    }
}

//! The worker's side of the invocation API: plain HTTP/1.1 over a connection kept alive.

use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{RequestBuilder, Response, StatusCode, Url};

use super::header;
use super::{Failure, WorkerConfig, WorkerError};
use crate::decode::ARROW_STREAM;
use crate::trust;

const CONNECT: Duration = Duration::from_secs(5);
/// For a body to arrive, or an answer to be taken in.
const TRANSFER: Duration = Duration::from_secs(30);
/// How long it may take to say that this worker leaves.
const LEAVE: Duration = Duration::from_secs(1);

/// A batch to map, and by what.
pub(super) struct Invocation {
    pub(super) id: String,
    pub(super) function: String,
    pub(super) body: Bytes,
}

/// What the dispatcher says to a request for work.
pub(super) enum Next {
    Invocation(Invocation),
    Nothing,
    /// Nothing for the time being, which this worker is to show.
    Parked,
    Drain,
    /// It cannot be reached or is failing; why.
    Unavailable(String),
}

/// What the dispatcher says to an answer.
pub(super) enum Answered {
    Taken,
    /// It is not wanted any more: the status.
    Refused(u16),
    /// It cannot be reached or is failing; why.
    Unavailable(String),
}

pub(super) struct Client {
    /// Asks for work. Nothing else goes over its connection, which stays open until it asks again: of two
    /// calls in a row on one client the second may have opened a connection by the time the first gives
    /// its own back, which is then closed, and the dispatcher takes that for this worker's end.
    asking: reqwest::Client,
    http: reqwest::Client,
    base: Url,
    wait: Duration,
    started: Instant,
}

impl Client {
    pub(super) fn new(config: &WorkerConfig) -> Result<Self, WorkerError> {
        let wrong = || WorkerError::Address(without_user(&config.dispatcher).to_owned());
        let base = Url::parse(&config.dispatcher).map_err(|_| wrong())?;
        if !matches!(base.scheme(), "http" | "https")
            || !base.has_host()
            || !base.username().is_empty()
        {
            return Err(wrong());
        }
        let mut headers = HeaderMap::new();
        headers.insert(
            HeaderName::from_static(header::WORKER),
            HeaderValue::from_str(&config.id).map_err(|_| WorkerError::Header("worker's id"))?,
        );
        headers.insert(
            HeaderName::from_static(header::WORKER_VERSION),
            HeaderValue::from_static(env!("CARGO_PKG_VERSION")),
        );
        // The connection that an invocation comes on stays open for as long as it runs, so its end is ours.
        headers.insert(
            HeaderName::from_static(header::LIVENESS),
            HeaderValue::from_static(header::LIVENESS_CONNECTION),
        );
        if let Some(token) = &config.token {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| WorkerError::Header("token"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let client = || {
            let mut client = trust::http(config.ca.as_deref())?;
            if base.scheme() == "http" {
                // Nobody is to be vouched for, and reading whom to trust is much of a short life.
                client = client.tls_certs_only([]);
            }
            let client = client
                .default_headers(headers.clone())
                .connect_timeout(CONNECT)
                .tcp_nodelay(true)
                .redirect(reqwest::redirect::Policy::none());
            Ok::<_, WorkerError>(client)
        };
        Ok(Self {
            asking: client()?
                .pool_idle_timeout(None)
                .build()
                .map_err(WorkerError::Client)?,
            http: client()?.build().map_err(WorkerError::Client)?,
            base,
            wait: config.wait,
            started: config.started,
        })
    }

    /// Asks for any work; completes when the answer's head is there. `parking` is what this worker shows
    /// of it, if it can.
    pub(super) async fn ask_next(
        &self,
        parking: Option<&'static str>,
    ) -> reqwest::Result<Response> {
        let mut url = self.url(&["next"]);
        let wait = match (self.wait.as_secs(), self.wait.subsec_millis()) {
            (seconds, 0) => format!("{seconds}s"),
            _ => format!("{}ms", self.wait.as_millis()),
        };
        url.query_pairs_mut().append_pair("wait", &wait);
        let mut request = self.asking.get(url).timeout(self.wait + TRANSFER);
        if let Some(parking) = parking {
            request = request.header(header::PARKING, parking);
        }
        request.send().await
    }

    /// Says that this worker is to be given nothing more. A dispatcher that does not answer, or does
    /// not know this call, finds out all the same.
    pub(super) async fn leave(&self, worker: &str) {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty()
                .extend(["v1", "workers", worker, "leave"]);
        }
        let _ = self.http.post(url).timeout(LEAVE).send().await;
    }

    /// Asks for the invocation `id`.
    pub(super) async fn ask_for(&self, id: &str) -> reqwest::Result<Response> {
        let url = self.url(&[id]);
        let age_ms = self.started.elapsed().as_millis() as u64;
        self.asking
            .get(url)
            .header(header::WORKER_AGE, age_ms)
            .timeout(TRANSFER)
            .send()
            .await
    }

    pub(super) async fn receive(&self, response: Response) -> Result<Next, WorkerError> {
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NO_CONTENT => {
                let said = response.headers().get(header::PARKING);
                let parked = said.is_some_and(|said| said == header::PARKING_PARKED);
                return Ok(if parked { Next::Parked } else { Next::Nothing });
            }
            StatusCode::GONE => return Ok(Next::Drain),
            status => {
                return self.check(status).map(|()| Next::Unavailable(said(status)));
            }
        }
        let text = |name| {
            let value: Option<&HeaderValue> = response.headers().get(name);
            value
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        let (Some(id), Some(function)) = (text(header::INVOCATION_ID), text(header::FUNCTION))
        else {
            return Err(WorkerError::NotADispatcher {
                address: self.base.to_string(),
                status: StatusCode::OK.as_u16(),
            });
        };
        tracing::debug!(
            invocation.id = %id,
            function = %function,
            window.start = text(header::WINDOW_START),
            window.end = text(header::WINDOW_END),
            revision = text(header::REVISION),
            deadline = text(header::DEADLINE),
            "took an invocation"
        );
        Ok(match response.bytes().await {
            Ok(body) => Next::Invocation(Invocation { id, function, body }),
            Err(error) => Next::Unavailable(trust::chain(&error)),
        })
    }

    pub(super) async fn answer(&self, id: &str, partials: Bytes) -> Result<Answered, WorkerError> {
        let request = self
            .http
            .post(self.url(&[id, "response"]))
            .header(CONTENT_TYPE, ARROW_STREAM)
            .body(partials);
        self.post(request).await
    }

    pub(super) async fn report(
        &self,
        id: &str,
        failure: &Failure,
    ) -> Result<Answered, WorkerError> {
        let body = serde_json::to_vec(failure).unwrap_or_default();
        let request = self
            .http
            .post(self.url(&[id, "error"]))
            .header(CONTENT_TYPE, "application/json")
            .body(body);
        self.post(request).await
    }

    async fn post(&self, request: RequestBuilder) -> Result<Answered, WorkerError> {
        let response = match request.timeout(TRANSFER).send().await {
            Ok(response) => response,
            Err(error) => return Ok(Answered::Unavailable(trust::chain(&error))),
        };
        let status = response.status();
        if status.is_success() {
            // A body read to its end lets the connection be used again.
            let _ = response.bytes().await;
            return Ok(Answered::Taken);
        }
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => self
                .check(status)
                .map(|()| Answered::Refused(status.as_u16())),
            status if status.is_client_error() => Ok(Answered::Refused(status.as_u16())),
            status => Ok(Answered::Unavailable(said(status))),
        }
    }

    /// Fails for statuses that asking again cannot change.
    fn check(&self, status: StatusCode) -> Result<(), WorkerError> {
        let address = self.base.to_string();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(WorkerError::Unauthorized(address))
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Ok(()),
            status if status.is_server_error() => Ok(()),
            status => Err(WorkerError::NotADispatcher {
                address,
                status: status.as_u16(),
            }),
        }
    }

    fn url(&self, last: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty()
                .extend(["v1", "invocations"])
                .extend(last);
        }
        url
    }
}

/// An address without the user and password that someone may have put there.
pub(super) fn without_user(address: &str) -> &str {
    address.rsplit_once('@').map_or(address, |(_, rest)| rest)
}

fn said(status: StatusCode) -> String {
    format!("it answers {status}")
}

//! From what a dispatcher and a pool say of themselves to the counters that the scaler's meter
//! compares: who is asked, and the arithmetic in between, which is pure.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;
use windlass_dispatcher::api::Api;
use windlass_dispatcher::pool::PoolState;
use windlass_dispatcher::roster::parking::Lot;
use windlass_dispatcher::workload::Workload;
use windlass_functions::trust;
use windlass_scaler::agent::capacity::Assumed;
use windlass_scaler::agent::meter::Reading;
use windlass_scaler::agent::sample::Sample;

/// How long an answer may take: it is worth nothing when the next second has come.
const TIMEOUT: Duration = Duration::from_millis(900);
/// What is left of a batch's weight in the mean duration after a second: half of it after 30 s.
const FADING: f64 = 0.977;

/// What the scaler reads of a dispatcher.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Look {
    /// What comes in and what has been done.
    pub workload: Workload,
    /// The local workers, if the dispatcher keeps some.
    pub pool: Option<PoolState>,
}

/// Who is asked.
#[derive(Clone)]
pub enum Dispatcher {
    /// The one in this process.
    Here(Arc<Api>),
    /// One elsewhere.
    At(Remote),
}

/// A dispatcher elsewhere.
#[derive(Clone)]
pub struct Remote {
    client: reqwest::Client,
    url: String,
    token: Option<String>,
}

impl Remote {
    /// A dispatcher at an address such as `http://127.0.0.1:7070`, for whom `authority` vouches if it
    /// is given; it is not asked yet.
    ///
    /// # Errors
    /// If it is no such address, or the authority's file cannot be used.
    pub fn new(url: &str, token: Option<String>, authority: Option<&Path>) -> anyhow::Result<Self> {
        let expected = "expected a dispatcher's address such as http://127.0.0.1:7070";
        let parsed = url::Url::parse(url).context(expected)?;
        if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
            bail!("{expected}, got one of scheme {:?}", parsed.scheme());
        }
        let client = trust::http(authority)?
            .timeout(TIMEOUT)
            .build()
            .context("cannot set up the HTTP client")?;
        Ok(Self {
            client,
            url: url.trim_end_matches('/').to_owned(),
            token,
        })
    }

    async fn call(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Vec<u8>> {
        let request = match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let answer = request
            .send()
            .await
            .context("the dispatcher does not answer")?;
        let status = answer.status();
        let body = answer.bytes().await.context("the answer was cut short")?;
        if !status.is_success() {
            let said: String = String::from_utf8_lossy(&body).chars().take(300).collect();
            bail!("the dispatcher answers {status}: {}", said.trim());
        }
        Ok(body.to_vec())
    }

    async fn look(&self) -> anyhow::Result<Look> {
        let url = format!("{}/v1/status", self.url);
        let body = self.call(self.client.get(url)).await?;
        serde_json::from_slice(&body).context("the answer is not a dispatcher's status")
    }

    async fn post(&self, path: &str, size: u32) -> anyhow::Result<Vec<u8>> {
        let body = format!("{{\"size\": {size}}}");
        let request = self.client.post(format!("{}{path}", self.url)).body(body);
        let request = request.header("content-type", "application/json");
        self.call(request).await
    }

    /// Asks for another number of local workers.
    ///
    /// # Errors
    /// If the dispatcher does not answer or keeps none.
    pub async fn resize(&self, size: u32) -> anyhow::Result<()> {
        self.post("/v1/pool", size).await.map(|_| ())
    }

    /// Asks that for some seconds so many of the pods' workers stay at work, and no more; how many do.
    ///
    /// # Errors
    /// If the dispatcher does not answer or refuses.
    pub async fn keep(&self, size: u32) -> anyhow::Result<Lot> {
        let body = self.post("/v1/workers/keep", size).await?;
        serde_json::from_slice(&body).context("the answer does not say who is parked")
    }
}

impl Dispatcher {
    /// Looks at it.
    ///
    /// # Errors
    /// If it does not answer in time.
    pub async fn look(&self) -> anyhow::Result<Look> {
        match self {
            Self::Here(api) => Ok(Look {
                workload: api.workload(),
                pool: api.pool.as_ref().map(|pool| pool.state()),
            }),
            Self::At(remote) => remote.look().await,
        }
    }
}

/// Adds up what a single look cannot tell: pod-seconds paid, late windows, the mean duration of a
/// batch.
#[derive(Debug, Default)]
pub struct Ledger {
    last: Option<Before>,
    cost: f64,
    late: f64,
    recent_tuples: f64,
    recent_seconds: f64,
}

#[derive(Clone, Copy, Debug)]
struct Before {
    now: f64,
    goal: f64,
    late: f64,
    arrived: f64,
    answered_tuples: u64,
    answered_ms: u64,
}

impl Ledger {
    /// The counters as of `now`, seconds. `pods` are paid for: starting, ready and leaving. A window
    /// is late above `goal`, seconds.
    pub fn reading(&mut self, now: f64, pods: u32, goal: f64, work: &Workload) -> Reading {
        let goal_ms = goal * 1e3;
        let late_now = work.committed_windows.above(goal_ms) + work.pending_windows.above(goal_ms);
        let restarted = |before: &Before| work.arrived_tuples_total < before.arrived;
        let mut highest = late_now;
        if let Some(before) = self.last.filter(|before| !restarted(before)) {
            self.cost += f64::from(pods) * (now - before.now).max(0.0);
            // Another goal counts other windows: only what comes from now on is comparable.
            if (before.goal - goal).abs() < 1e-12 {
                self.late += (late_now - before.late).max(0.0);
                highest = late_now.max(before.late);
            }
            let answered = |new: u64, old: u64| new.saturating_sub(old) as f64;
            let fading = FADING.powf((now - before.now).clamp(0.0, 600.0));
            self.recent_tuples = fading * self.recent_tuples
                + answered(work.answered_tuples_total, before.answered_tuples);
            self.recent_seconds = fading * self.recent_seconds
                + answered(work.answered_ms_total, before.answered_ms) / 1e3;
        }
        self.last = Some(Before {
            now,
            goal,
            late: highest,
            arrived: work.arrived_tuples_total,
            answered_tuples: work.answered_tuples_total,
            answered_ms: work.answered_ms_total,
        });
        let seconds = |ms: u64| ms as f64 / 1e3;
        Reading {
            totals: Sample {
                arrived: work.arrived_tuples_total,
                busy: seconds(work.busy_ms_total),
                ready: seconds(work.ready_ms_total),
                queued_tuples: work.waiting_tuples,
                queued_seconds: work.waiting_tuples * self.seconds_a_tuple(),
                started_tuples: work.answered_tuples_total as f64,
                started_seconds: seconds(work.answered_ms_total),
                started_batches: work.answered_batches_total as f64,
                cost: self.cost + seconds(work.job_ms_total),
                late: self.late,
            },
        }
    }

    fn seconds_a_tuple(&self) -> f64 {
        if self.recent_tuples < 1.0 {
            let Assumed { tuples, seconds } = Assumed::default();
            return seconds / tuples;
        }
        self.recent_seconds / self.recent_tuples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(arrived: f64, late: u64) -> Workload {
        let mut work = Workload {
            arrived_tuples_total: arrived,
            ..Workload::default()
        };
        for _ in 0..late {
            work.committed_windows.add(1_500);
        }
        work
    }

    #[test]
    fn pods_are_paid_for_by_the_second_and_late_windows_counted_once() {
        let mut ledger = Ledger::default();
        let mut pending = work(100.0, 3);
        pending.pending_windows.add(2_500);
        ledger.reading(10.0, 4, 1.0, &pending);
        // The pending one was late before it was committed.
        let second = ledger.reading(11.5, 4, 1.0, &work(200.0, 4)).totals;
        assert!((second.cost - 6.0).abs() < 1e-9);
        assert!(second.late.abs() < 1e-9, "{second:?}");
        let third = ledger.reading(12.5, 4, 1.0, &work(300.0, 6)).totals;
        assert!((third.late - 2.0).abs() < 1e-9);
    }

    #[test]
    fn another_goal_or_a_restarted_dispatcher_makes_no_window_late() {
        let mut ledger = Ledger::default();
        ledger.reading(0.0, 1, 2.0, &work(100.0, 50));
        let reading = ledger.reading(1.0, 1, 1.0, &work(200.0, 50));
        assert!(reading.totals.late.abs() < 1e-9);
        let reading = ledger.reading(2.0, 1, 1.0, &work(5.0, 0));
        assert!(reading.totals.late.abs() < 1e-9);
        let reading = ledger.reading(3.0, 1, 1.0, &work(9.0, 1));
        assert!(
            (reading.totals.late - 1.0).abs() < 1e-9,
            "its first late one"
        );
    }

    #[test]
    fn what_waits_is_valued_by_how_long_batches_take_lately() {
        let mut ledger = Ledger::default();
        let at = |tuples: u64, ms: u64| Workload {
            waiting_tuples: 1_000.0,
            answered_tuples_total: tuples,
            answered_ms_total: ms,
            ..Workload::default()
        };
        let assumed = ledger.reading(0.0, 1, 1.0, &at(0, 0)).totals;
        assert!((assumed.queued_seconds - 0.7).abs() < 1e-9);
        let fast = ledger.reading(1.0, 1, 1.0, &at(10_000, 1_000)).totals;
        assert!((fast.queued_seconds - 0.1).abs() < 1e-9);
        let mut slow = fast;
        for second in 1..120 {
            let (tuples, ms) = (10_000 + 5_000 * second, 1_000 + 1_000 * second);
            slow = ledger
                .reading(1.0 + second as f64, 1, 1.0, &at(tuples, ms))
                .totals;
        }
        assert!((slow.queued_seconds - 0.2).abs() < 0.01, "{slow:?}");
    }
}

//! What the board asks a dispatcher: its `/v1/status`, of which it needs these figures. Fields that
//! a dispatcher of another version does not send count as nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;
use windlass_functions::trust;

use crate::schema::{Operations, Run};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Answer {
    shards: BTreeMap<u32, Shard>,
    invocations: Load,
    pub halted: Option<String>,
    pub placement: Option<Placed>,
    pool: Option<Pool>,
    workload: Option<Workload>,
    window_latency: Percentiles,
    invocation_latency: Percentiles,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Shard {
    trouble: Option<String>,
    queue_ready: u64,
    queue_unacked: u64,
    figures: Option<Figures>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Figures {
    windows_open: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Load {
    waiting: u64,
    in_flight: u64,
    busy: u64,
    idle: u64,
    failed: u64,
}

/// Where invocations run.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Placed {
    pub mode: String,
    pub live_jobs: u64,
    pub creating_paused: Option<String>,
    pub recent: Vec<Run>,
    ran: Ran,
}

/// Invocations answered since the start.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Ran {
    warm: u64,
    overflow: u64,
    asked: u64,
}

/// The dispatcher's local workers.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Pool {
    desired: u64,
}

/// Of what a scaler reads, the workers.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Workload {
    workers_ready: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Percentiles {
    p50_ms: f64,
    p99_ms: f64,
}

impl Answer {
    /// The figures to show, as of `at` (ms UTC); `desired` is the size of the pool that a scaler
    /// wants, which a dispatcher knows of its own workers only.
    pub fn operations(&self, at: i64, desired: Option<u64>) -> Operations {
        let placed = self.placement.as_ref();
        let ran = placed.map(|placed| &placed.ran);
        let sum = |figure: fn(&Shard) -> u64| self.shards.values().map(figure).sum();
        Operations {
            at,
            // Between two batches a worker is neither busy nor idle for a moment.
            size: self
                .workload
                .as_ref()
                .map_or(self.invocations.busy + self.invocations.idle, |workload| {
                    workload.workers_ready
                }),
            busy: self.invocations.busy,
            idle: self.invocations.idle,
            desired: self.pool.as_ref().map(|pool| pool.desired).or(desired),
            waiting: self.invocations.waiting,
            in_flight: self.invocations.in_flight,
            queue_ready: sum(|shard| shard.queue_ready),
            queue_unacked: sum(|shard| shard.queue_unacked),
            windows_open: sum(|shard| shard.figures.as_ref().map_or(0, |f| f.windows_open)),
            live_jobs: placed.map_or(0, |placed| placed.live_jobs),
            ran_warm: ran.map_or(0, |ran| ran.warm),
            ran_overflow: ran.map_or(0, |ran| ran.overflow),
            ran_asked: ran.map_or(0, |ran| ran.asked),
            failed: self.invocations.failed,
            window_p50_ms: self.window_latency.p50_ms,
            window_p99_ms: self.window_latency.p99_ms,
            invocation_p50_ms: self.invocation_latency.p50_ms,
            invocation_p99_ms: self.invocation_latency.p99_ms,
        }
    }

    /// Shards in trouble, and what it is.
    pub fn troubles(&self) -> impl Iterator<Item = (u32, &str)> {
        let shards = self.shards.iter();
        shards.filter_map(|(&number, shard)| Some((number, shard.trouble.as_deref()?)))
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unanswered {
    /// Who was asked.
    pub url: String,
    pub why: Why,
}

/// What came instead of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// A certificate that nobody vouches for, say; in words.
    Untrusted(String),
    /// Nothing in [`TIMEOUT`].
    Silence,
    /// No connection.
    Nobody,
    /// Another status than 200.
    Status(u16),
    /// Something that is no status of windlass.
    Foreign,
}

/// A dispatcher's address, and the way to ask it.
pub(crate) struct Dispatcher {
    client: reqwest::Client,
    url: String,
    token: Option<String>,
}

impl Dispatcher {
    pub fn new(url: &str, token: Option<String>, ca: Option<&Path>) -> anyhow::Result<Self> {
        let client = trust::http(ca)?
            .no_proxy()
            .timeout(TIMEOUT)
            .build()
            .context("cannot set up HTTP")?;
        Ok(Self {
            client,
            url: url.trim_end_matches('/').to_owned(),
            token,
        })
    }

    /// Its status, or why there is none.
    pub async fn ask(&self) -> Result<Answer, Unanswered> {
        self.answer().await.map_err(|why| Unanswered {
            url: self.url.clone(),
            why,
        })
    }

    async fn answer(&self) -> Result<Answer, Why> {
        let mut request = self.client.get(format!("{}/v1/status", self.url));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.map_err(|error| {
            let text = trust::chain(&error);
            match trust::explain(&text) {
                Some(why) => Why::Untrusted(why.to_owned()),
                None if error.is_timeout() => Why::Silence,
                None => Why::Nobody,
            }
        })?;
        if !answer.status().is_success() {
            return Err(Why::Status(answer.status().as_u16()));
        }
        answer.json().await.map_err(|_| Why::Foreign)
    }
}

#[cfg(test)]
mod tests {
    use windlass_dispatcher::placement::{Phases, Place, Placement, Reason};
    use windlass_dispatcher::pool::PoolState;
    use windlass_dispatcher::status::{PlacementStatus, RanTotals, RecentRun};
    use windlass_dispatcher::workload::Workload;

    use super::Answer;

    #[test]
    fn what_a_dispatcher_says_of_placement_is_what_is_read() {
        let mut ran = RanTotals::default();
        ran.add(Reason::Overflow);
        let said = PlacementStatus {
            mode: Placement::Auto,
            live_jobs: 3,
            waiting: 2,
            creating_paused: Some("forbidden".into()),
            ran,
            recent: vec![RecentRun {
                window_start: 1_000,
                rows: 34,
                place: Place::Job,
                reason: Reason::Overflow,
                waited_ms: 500,
                phases_ms: Phases {
                    created: Some(14),
                    scheduled: None,
                    started: Some(600),
                    pulled: Some(9),
                    answered: Some(4),
                },
            }],
        };
        let workload = Workload {
            workers_ready: 6,
            ..Workload::default()
        };
        let pool = PoolState {
            desired: 7,
            ..PoolState::default()
        };
        let answer = serde_json::json!({ "placement": said, "pool": pool, "workload": workload });
        let answer: Answer = serde_json::from_value(answer).unwrap();
        let shown = answer.operations(1, Some(5));
        assert_eq!(
            (shown.size, shown.desired, shown.live_jobs),
            (6, Some(7), 3)
        );
        assert_eq!((shown.ran_warm, shown.ran_overflow), (0, 1));
        let placed = answer.placement.unwrap();
        assert_eq!(placed.mode, "auto");
        assert_eq!(placed.creating_paused.as_deref(), Some("forbidden"));
        let run = &placed.recent[0];
        assert_eq!(
            (run.place.as_str(), run.reason.as_str()),
            ("job", "overflow")
        );
        assert_eq!((run.waited_ms, run.phases_ms.started), (500, Some(600)));
        assert_eq!(run.phases_ms.scheduled, None);
    }

    #[test]
    fn a_dispatcher_of_an_earlier_release_says_nothing_of_it() {
        let answer: Answer = serde_json::from_str("{}").unwrap();
        assert!(answer.placement.is_none());
        assert_eq!(answer.operations(1, Some(5)).desired, Some(5));
    }
}

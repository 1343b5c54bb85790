//! What the board asks a dispatcher: its `/v1/status`, of which it needs these figures. Fields that
//! a dispatcher of another version does not send count as nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;

use crate::schema::Operations;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Answer {
    shards: BTreeMap<u32, Shard>,
    invocations: Load,
    pub halted: Option<String>,
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

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Percentiles {
    p50_ms: f64,
    p99_ms: f64,
}

impl Answer {
    /// The figures to show, as of `at` (ms UTC).
    pub fn operations(&self, at: i64) -> Operations {
        let sum = |figure: fn(&Shard) -> u64| self.shards.values().map(figure).sum();
        Operations {
            at,
            busy: self.invocations.busy,
            idle: self.invocations.idle,
            waiting: self.invocations.waiting,
            in_flight: self.invocations.in_flight,
            queue_ready: sum(|shard| shard.queue_ready),
            queue_unacked: sum(|shard| shard.queue_unacked),
            windows_open: sum(|shard| shard.figures.as_ref().map_or(0, |f| f.windows_open)),
            failed: self.invocations.failed,
            window_p50_ms: self.window_latency.p50_ms,
            window_p99_ms: self.window_latency.p99_ms,
            invocation_p50_ms: self.invocation_latency.p50_ms,
            invocation_p99_ms: self.invocation_latency.p99_ms,
        }
    }

    /// Shards in trouble, a line each.
    pub fn troubles(&self) -> impl Iterator<Item = String> {
        self.shards.iter().filter_map(|(number, shard)| {
            let trouble = shard.trouble.as_ref()?;
            Some(format!("shard {number}: {trouble}"))
        })
    }
}

/// A dispatcher's address, and the way to ask it.
pub(crate) struct Dispatcher {
    client: reqwest::Client,
    url: String,
    token: Option<String>,
}

impl Dispatcher {
    pub fn new(url: &str, token: Option<String>) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder()
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

    /// Its status, or why there is none, for a person.
    pub async fn ask(&self) -> Result<Answer, String> {
        let mut request = self.client.get(format!("{}/v1/status", self.url));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let url = &self.url;
        let answer = request.send().await.map_err(|error| {
            let why = if error.is_timeout() {
                "no answer in 2 s"
            } else {
                "nothing listens there"
            };
            format!("dispatcher {url}: {why}")
        })?;
        if !answer.status().is_success() {
            return Err(format!("dispatcher {url}: answered {}", answer.status()));
        }
        let parsed = answer.json().await;
        parsed.map_err(|_| format!("dispatcher {url}: the answer is no status of windlass"))
    }
}

//! A dispatcher's `/v1/status`, as far as it is shown. What a dispatcher of another version does not
//! send counts as nothing.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The whole.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Answer {
    pub shards: BTreeMap<u32, Shard>,
    pub invocations: Load,
    pub placement: Option<Placement>,
    pub halted: Option<String>,
    pub tuples_counted: u64,
    pub window_latency: Percentiles,
    pub invocation_latency: Percentiles,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Shard {
    pub role: String,
    pub trouble: Option<String>,
    pub queue_ready: u64,
    pub queue_unacked: u64,
    pub figures: Option<Figures>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Figures {
    pub windows_open: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Load {
    pub waiting: u64,
    pub in_flight: u64,
    pub busy: u64,
    pub idle: u64,
    pub parked: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Percentiles {
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// Where invocations run.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Placement {
    pub mode: String,
    pub live_jobs: u64,
    pub waiting: u64,
    pub creating_paused: Option<String>,
    /// Newest first.
    pub recent: Vec<Recent>,
}

/// An answered invocation.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Recent {
    pub window_start: i64,
    pub rows: u64,
    pub place: String,
    pub reason: String,
    pub waited_ms: u64,
    pub phases_ms: BTreeMap<String, Option<u64>>,
}

impl Answer {
    /// Windows that are not closed, of all shards.
    pub fn windows_open(&self) -> u64 {
        let figures = self
            .shards
            .values()
            .filter_map(|shard| shard.figures.as_ref());
        figures.map(|figures| figures.windows_open).sum()
    }
}

impl Recent {
    /// `pool`, `Job: overflow` or `Job: asked`.
    pub fn place_and_reason(&self) -> String {
        match self.place.as_str() {
            "job" => format!("Job: {}", self.reason),
            other => other.to_owned(),
        }
    }
}

/// How long one phase of cold starts took.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Phase {
    pub name: &'static str,
    /// Of so many Jobs.
    pub jobs: usize,
    pub p50_ms: u64,
    pub max_ms: u64,
}

/// The phases of a Job's way, in their order.
const PHASES: [&str; 5] = ["created", "scheduled", "started", "pulled", "answered"];

/// The phases of the Jobs among the recent invocations; empty without any.
pub(super) fn cold_starts(recent: &[Recent]) -> Vec<Phase> {
    let jobs: Vec<&Recent> = recent.iter().filter(|run| run.place == "job").collect();
    let phases = PHASES.into_iter().filter_map(|name| {
        let times = jobs.iter().filter_map(|run| *run.phases_ms.get(name)?);
        let mut times: Vec<u64> = times.collect();
        times.sort_unstable();
        Some(Phase {
            name,
            jobs: times.len(),
            p50_ms: *times.get(times.len() / 2)?,
            max_ms: *times.last()?,
        })
    });
    phases.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{
        "shards": {"0": {"role": "owner", "queue_ready": 3, "queue_unacked": 4, "figures": {"windows_open": 2}}},
        "invocations": {"waiting": 1, "in_flight": 2, "busy": 2, "idle": 0, "failed": 9},
        "placement": {"mode": "auto", "live_jobs": 2, "waiting": 1, "creating_paused": null, "recent": [
            {"window_start": 1794355200000, "rows": 40, "place": "job", "reason": "overflow", "waited_ms": 500,
             "phases_ms": {"created": 5, "scheduled": 20, "started": 700, "pulled": null, "answered": 3}},
            {"window_start": 1794355199000, "rows": 40, "place": "job", "reason": "overflow", "waited_ms": 500,
             "phases_ms": {"created": 7, "scheduled": 10, "started": 900, "pulled": null, "answered": 4}},
            {"window_start": 1794355198000, "rows": 40, "place": "pool", "reason": "warm", "waited_ms": 0,
             "phases_ms": {"created": null, "scheduled": null, "started": null, "pulled": null, "answered": 1}}
        ]},
        "tuples_counted": 7, "window_latency": {"p50_ms": 5.5, "p99_ms": 9.0}
    }"#;

    #[test]
    fn a_status_is_read_whatever_else_it_holds() {
        let answer: Answer = serde_json::from_str(TEXT).unwrap();
        assert_eq!(answer.windows_open(), 2);
        let placement = answer.placement.unwrap();
        let places: Vec<_> = placement
            .recent
            .iter()
            .map(Recent::place_and_reason)
            .collect();
        assert_eq!(places, ["Job: overflow", "Job: overflow", "pool"]);
        let older: Answer = serde_json::from_str("{}").unwrap();
        assert!(older.placement.is_none());
    }

    #[test]
    fn cold_starts_are_the_jobs_phases_and_not_the_pools() {
        let answer: Answer = serde_json::from_str(TEXT).unwrap();
        let phases = cold_starts(&answer.placement.unwrap().recent);
        let names: Vec<_> = phases.iter().map(|phase| phase.name).collect();
        assert_eq!(names, ["created", "scheduled", "started", "answered"]);
        assert_eq!(
            (phases[2].p50_ms, phases[2].max_ms, phases[2].jobs),
            (900, 900, 2)
        );
        assert_eq!((phases[3].p50_ms, phases[3].max_ms), (4, 4));
        assert!(cold_starts(&[]).is_empty());
    }
}

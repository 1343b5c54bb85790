//! What Prometheus scrapes. Labels are bounded: never a key, never a source.

mod scaler;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

pub use scaler::ScalerMetrics;

use crate::placement::{Place, Ran};
use crate::plan::CommitPlan;
use crate::windows::Windows;
use crate::workload::Latencies;

/// Latencies kept for the percentiles of the status page.
const RECENT: usize = 4_096;

/// One word of a closed set.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Kind {
    /// The word.
    pub kind: &'static str,
}

/// Where an invocation ran and why.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PlaceLabel {
    /// `pool` or `job`.
    pub place: &'static str,
    /// `warm`, `overflow` or `asked`.
    pub reason: &'static str,
}

/// A phase of a Job's way from the decision to the answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PhaseLabel {
    /// `created`, `scheduled`, `started`, `pulled` or `answered`.
    pub phase: &'static str,
}

/// A shard's number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ShardLabel {
    /// The shard.
    pub shard: u32,
}

/// All metrics of a dispatcher, and the recent latencies that its status page sums up.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Tuples settled, by outcome: counted, late, quarantined.
    pub tuples: Family<Kind, Counter>,
    /// Duplicates, redeliveries, undecodable, misrouted.
    pub passed_by: Family<Kind, Counter>,
    /// Transactions committed.
    pub commits: Counter,
    /// From the start of a transaction to its answer.
    pub commit_seconds: Histogram,
    /// From the watermark's passing a window's end to the committed rows.
    pub window_seconds: Histogram,
    /// Answers by workers: won, conflict, invalid, failed, lost.
    pub attempts: Family<Kind, Counter>,
    /// From handing a batch out to its answer.
    pub invocation_seconds: Histogram,
    /// Answers that won, by where their attempts ran and why.
    pub places: Family<PlaceLabel, Counter>,
    /// Jobs created.
    pub jobs_created: Counter,
    /// Jobs not created, by why.
    pub jobs_refused: Family<Kind, Counter>,
    /// Jobs that have not ended.
    pub jobs_live: Gauge,
    /// How long each phase of an answered Job took.
    pub cold_start_seconds: Family<PhaseLabel, Histogram, fn() -> Histogram>,
    /// Messages ready in the shard's queue.
    pub queue_ready: Family<ShardLabel, Gauge>,
    /// 1 while this dispatcher owns the shard.
    pub owned: Family<ShardLabel, Gauge>,
    /// Times a shard had to be opened anew after a fault.
    pub reopened: Counter,
    /// Of a scaler in this process; all zero without one.
    pub scaler: ScalerMetrics,
    windows: Recent,
    invocations: Recent,
    by_latency: Mutex<Windows>,
}

/// The last latencies of one kind, milliseconds.
#[derive(Debug, Default)]
struct Recent(Mutex<std::collections::VecDeque<f64>>);

/// The middle and the tail of recent latencies, milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Percentiles {
    /// Half were faster.
    pub p50_ms: f64,
    /// 99 in 100 were faster.
    pub p99_ms: f64,
    /// Over how many.
    pub samples: usize,
}

impl Recent {
    fn add(&self, ms: f64) {
        let mut recent = self.0.lock().unwrap_or_else(|broken| broken.into_inner());
        if recent.len() == RECENT {
            recent.pop_front();
        }
        recent.push_back(ms);
    }

    fn percentiles(&self) -> Percentiles {
        let recent = self.0.lock().unwrap_or_else(|broken| broken.into_inner());
        let mut sorted: Vec<f64> = recent.iter().copied().collect();
        drop(recent);
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let index = (sorted.len() as f64 * share) as usize;
            sorted
                .get(index.min(sorted.len().saturating_sub(1)))
                .copied()
                .unwrap_or_default()
        };
        Percentiles {
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            samples: sorted.len(),
        }
    }
}

fn seconds() -> Histogram {
    Histogram::new([
        0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0,
    ])
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("windlass"),
            tuples: Family::default(),
            passed_by: Family::default(),
            commits: Counter::default(),
            commit_seconds: seconds(),
            window_seconds: seconds(),
            attempts: Family::default(),
            invocation_seconds: seconds(),
            places: Family::default(),
            jobs_created: Counter::default(),
            jobs_refused: Family::default(),
            jobs_live: Gauge::default(),
            cold_start_seconds: Family::new_with_constructor(seconds),
            queue_ready: Family::default(),
            owned: Family::default(),
            reopened: Counter::default(),
            scaler: ScalerMetrics::default(),
            windows: Recent::default(),
            invocations: Recent::default(),
            by_latency: Mutex::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("tuples", "Tuples settled, by outcome", self.tuples.clone());
        registry.register(
            "informational",
            "Duplicates, redeliveries, undecodable and misrouted, which the audit only mentions",
            self.passed_by.clone(),
        );
        registry.register("commits", "Transactions committed", self.commits.clone());
        registry.register(
            "commit_seconds",
            "From the start of a transaction to its answer",
            self.commit_seconds.clone(),
        );
        registry.register(
            "window_latency_seconds",
            "From the watermark's passing a window's end to the committed rows",
            self.window_seconds.clone(),
        );
        registry.register(
            "attempts",
            "Answers by workers, by kind",
            self.attempts.clone(),
        );
        registry.register(
            "invocation_seconds",
            "From handing a batch out to its answer",
            self.invocation_seconds.clone(),
        );
        registry.register(
            "placements",
            "Answers that won, by where their attempts ran and why",
            self.places.clone(),
        );
        registry.register("jobs_created", "Jobs created", self.jobs_created.clone());
        registry.register(
            "jobs_refused",
            "Jobs not created: throttled, failing, unreachable, forbidden, template",
            self.jobs_refused.clone(),
        );
        registry.register(
            "jobs_live",
            "Jobs that have not ended, those of earlier dispatchers included",
            self.jobs_live.clone(),
        );
        registry.register(
            "cold_start_seconds",
            "How long each phase of an answered Job took: created, scheduled, started, pulled, answered",
            self.cold_start_seconds.clone(),
        );
        registry.register(
            "queue_ready_messages",
            "Messages ready in the shard's queue",
            self.queue_ready.clone(),
        );
        registry.register(
            "shard_owned",
            "1 while this dispatcher owns the shard",
            self.owned.clone(),
        );
        registry.register(
            "shard_reopened",
            "Times a shard had to be opened anew after a fault",
            self.reopened.clone(),
        );
        self.scaler.register(registry);
    }

    /// Counts a commit that is in the database; `now_ms` is the monotonic clock.
    pub fn committed(&self, plan: &CommitPlan, took: Duration, now_ms: u64) {
        let sum = |count: fn(&crate::plan::SourceDelta) -> i64| {
            plan.sources.iter().map(count).sum::<i64>().max(0) as u64
        };
        let tuples = [
            ("counted", sum(|delta| delta.counted)),
            ("late", sum(|delta| delta.late)),
            ("quarantined", sum(|delta| delta.quarantined)),
        ];
        for (kind, count) in tuples {
            self.tuples.get_or_create(&Kind { kind }).inc_by(count);
        }
        let passed_by = [
            ("duplicates", plan.tallies.duplicates),
            ("redeliveries", plan.tallies.redeliveries),
            ("undecodable", plan.tallies.undecodable),
            ("misrouted", plan.tallies.misrouted),
        ];
        for (kind, count) in passed_by {
            self.passed_by.get_or_create(&Kind { kind }).inc_by(count);
        }
        self.commits.inc();
        self.commit_seconds.observe(took.as_secs_f64());
        for &(end, passed_ms) in &plan.closed {
            let ms = now_ms.saturating_sub(passed_ms);
            self.by_latency().committed(end, ms);
            let ms = ms as f64;
            self.window_seconds.observe(ms / 1_000.0);
            self.windows.add(ms);
        }
    }

    /// Counts an answer that won, so long after its batch was handed out; `None` if the attempt had been
    /// given up by then, which is no sample of how long answers take.
    pub fn answered(&self, took: Option<Duration>) {
        self.attempts.get_or_create(&Kind { kind: "won" }).inc();
        if let Some(took) = took {
            self.invocation_seconds.observe(took.as_secs_f64());
            self.invocations.add(took.as_micros() as f64 / 1_000.0);
        }
    }

    fn by_latency(&self) -> MutexGuard<'_, Windows> {
        self.by_latency
            .lock()
            .unwrap_or_else(|broken| broken.into_inner())
    }

    /// Windows since the start by latency, each once: the committed ones, and of the `closing` ones those that
    /// no shard has committed; see [`Windows::by_latency`].
    pub fn windows_by_latency(&self, closing: &BTreeMap<i64, u64>) -> (Latencies, Latencies) {
        self.by_latency().by_latency(closing)
    }

    /// Counts where the attempt of an answer that won ran.
    pub fn ran(&self, ran: &Ran) {
        let (place, reason) = (ran.place.as_str(), ran.reason.as_str());
        self.places
            .get_or_create(&PlaceLabel { place, reason })
            .inc();
        if ran.place == Place::Pool {
            return;
        }
        for (phase, ms) in ran.phases.named() {
            if let Some(ms) = ms {
                self.cold_start_seconds
                    .get_or_create(&PhaseLabel { phase })
                    .observe(ms as f64 / 1_000.0);
            }
        }
    }

    /// Recent window latencies.
    pub fn window_latency(&self) -> Percentiles {
        self.windows.percentiles()
    }

    /// Recent invocation latencies.
    pub fn invocation_latency(&self) -> Percentiles {
        self.invocations.percentiles()
    }

    /// Tuples settled since the start with this outcome: counted, late or quarantined.
    pub fn settled_as(&self, kind: &'static str) -> u64 {
        self.tuples.get_or_create(&Kind { kind }).get()
    }

    /// The exposition that `/metrics` serves.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_that_several_shards_commit_is_one_window() {
        let metrics = Metrics::default();
        for (shard, passed_ms) in [(0, 9_800), (1, 8_500), (2, 9_700)] {
            let plan = CommitPlan {
                shard,
                closed: vec![(60_000, passed_ms)],
                ..CommitPlan::default()
            };
            metrics.committed(&plan, Duration::ZERO, 10_000);
        }
        let (committed, pending) = metrics.windows_by_latency(&BTreeMap::new());
        let found = [
            committed.above(0.0),
            committed.above(1_000.0),
            pending.above(0.0),
        ];
        assert_eq!(found.map(f64::round), [1.0, 1.0, 0.0]);
    }
}

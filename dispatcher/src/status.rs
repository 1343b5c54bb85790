//! What `/v1/status` and `/readyz` say: each shard's role, its queue, its trouble.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde::Serialize;

use crate::invocations::Load;
use crate::metrics::Percentiles;
use crate::placement::{Phases, Place, Placement, Ran, Reason};
use crate::pool::PoolState;
use crate::shard::Figures;
use crate::workload::{Arrivals, Workload};

/// What this dispatcher is to a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Connecting, or connecting again after a fault.
    #[default]
    Starting,
    /// Another dispatcher owns it; this one waits to take over.
    Standby,
    /// It runs here.
    Owner,
    /// It has been drained and given up.
    Stopped,
}

/// A shard as this dispatcher sees it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ShardStatus {
    /// What this dispatcher is to it.
    pub role: Role,
    /// Why it is not running, while it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Messages ready in its queue.
    pub queue_ready: u32,
    /// Deliveries taken and not acknowledged.
    pub queue_unacked: u64,
    /// The state machine's figures, while it runs here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub figures: Option<Figures>,
    /// What has been published to its queue since this dispatcher was started.
    #[serde(skip)]
    pub arrivals: Arrivals,
}

impl ShardStatus {
    /// Tuples that wait for a worker, batches handed to the invoker aside.
    fn waiting_tuples(&self) -> f64 {
        let Some(figures) = &self.figures else {
            return 0.0;
        };
        self.arrivals.waiting() + figures.rows_held_back as f64
    }
}

/// The whole dispatcher, as `/v1/status` serves it.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// By shard number.
    pub shards: BTreeMap<u32, ShardStatus>,
    /// Invocations and workers.
    pub invocations: Load,
    /// Where invocations run.
    pub placement: PlacementStatus,
    /// Why nothing is handed out, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub halted: Option<String>,
    /// Tuples counted since the start.
    pub tuples_counted: u64,
    /// Tuples counted, late or quarantined since the start.
    pub tuples_settled: u64,
    /// From the watermark's passing a window's end to the committed rows.
    pub window_latency: Percentiles,
    /// From handing a batch out to its answer.
    pub invocation_latency: Percentiles,
    /// What the scaler reads.
    pub workload: Workload,
    /// The local workers, if there is such a pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolState>,
}

/// Where invocations run, and why.
#[derive(Clone, Debug, Serialize)]
pub struct PlacementStatus {
    /// Which invocations may become Jobs.
    pub mode: Placement,
    /// Jobs that have not ended, those of earlier dispatchers included.
    pub live_jobs: usize,
    /// Batches that wait for a warm worker or a Job.
    pub waiting: usize,
    /// Why no Job is created, while that is so.
    pub creating_paused: Option<String>,
    /// How many invocations were answered where, since the start.
    pub ran: RanTotals,
    /// The last answered invocations, newest first.
    pub recent: Vec<RecentRun>,
}

/// Answered invocations by where they ran and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RanTotals {
    /// On warm workers.
    pub warm: u64,
    /// In Jobs, since no warm worker had time.
    pub overflow: u64,
    /// In Jobs, since the function asks for them.
    pub asked: u64,
}

impl RanTotals {
    /// Counts one.
    pub fn add(&mut self, reason: Reason) {
        *match reason {
            Reason::Warm => &mut self.warm,
            Reason::Overflow => &mut self.overflow,
            Reason::Asked => &mut self.asked,
        } += 1;
    }
}

/// An answered invocation.
#[derive(Clone, Debug, Serialize)]
pub struct RecentRun {
    /// Start of its window, ms UTC.
    pub window_start: i64,
    /// How many tuples it held.
    pub rows: u64,
    /// Where it ran.
    pub place: Place,
    /// Why there.
    pub reason: Reason,
    /// From when its batch was ready until a warm worker took it or a Job was decided on, ms.
    pub waited_ms: u64,
    /// How long each phase took from then on.
    pub phases_ms: Phases,
}

impl RecentRun {
    /// An invocation of the window that starts at `window_start`.
    pub fn new(window_start: i64, ran: &Ran) -> Self {
        Self {
            window_start,
            rows: ran.tuples,
            place: ran.place,
            reason: ran.reason,
            waited_ms: ran.waited_ms,
            phases_ms: ran.phases,
        }
    }
}

/// The shards' part of the status, written by their owners.
#[derive(Debug, Default)]
pub struct Board(Mutex<BTreeMap<u32, ShardStatus>>);

impl Board {
    /// Changes one shard's status.
    pub fn update(&self, shard: u32, change: impl FnOnce(&mut ShardStatus)) {
        let mut shards = self.0.lock().unwrap_or_else(|broken| broken.into_inner());
        change(shards.entry(shard).or_default());
    }

    /// All shards.
    pub fn shards(&self) -> BTreeMap<u32, ShardStatus> {
        let shards = self.0.lock().unwrap_or_else(|broken| broken.into_inner());
        shards.clone()
    }

    /// Adds what shards know to what the scaler reads.
    pub fn add_to(&self, workload: &mut Workload) {
        for shard in self.shards().values() {
            workload.arrived_tuples_total += shard.arrivals.tuples();
            workload.waiting_tuples += shard.waiting_tuples();
        }
    }

    /// How long the slowest shard has had the rows of each window that it has not committed, ms by the
    /// window's end; `now_ms` is the monotonic clock.
    pub fn closing(&self, now_ms: u64) -> BTreeMap<i64, u64> {
        let mut closing = BTreeMap::new();
        for shard in self.shards().values() {
            for &(end, passed_ms) in shard.figures.iter().flat_map(|figures| &figures.closing) {
                let longest = closing.entry(end).or_insert(0);
                *longest = now_ms.saturating_sub(passed_ms).max(*longest);
            }
        }
        closing
    }

    /// What keeps the dispatcher from being ready, a line each; empty when it is.
    pub fn troubles(&self) -> Vec<String> {
        let shards = self.shards();
        let lines = shards.iter().filter_map(|(number, shard)| {
            let trouble = shard.trouble.as_deref();
            match shard.role {
                Role::Owner | Role::Standby => trouble.map(|t| format!("shard {number}: {t}")),
                Role::Starting => Some(format!(
                    "shard {number}: {}",
                    trouble.unwrap_or("not opened yet")
                )),
                Role::Stopped => Some(format!("shard {number}: drained")),
            }
        });
        lines.collect()
    }
}

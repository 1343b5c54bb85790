//! What `/v1/status` and `/readyz` say: each shard's role, its queue, its trouble.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde::Serialize;

use crate::invocations::Load;
use crate::metrics::Percentiles;
use crate::shard::Figures;

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
}

/// The whole dispatcher, as `/v1/status` serves it.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// By shard number.
    pub shards: BTreeMap<u32, ShardStatus>,
    /// Invocations and workers.
    pub invocations: Load,
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

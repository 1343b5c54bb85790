//! The shapes of the JSON, as `/openapi.json` describes them. Money is exact decimal text, times
//! are milliseconds UTC.

mod workers;

use serde::Serialize;
use utoipa::ToSchema;

pub use workers::{
    Choice, Phases, Placement, Policy, PolicyAction, PolicyAxis, PolicyState, Run, Scaler, Valued,
};

/// Orders of one province, or of all, over some time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Sales {
    /// The province as the orders name it.
    pub province: String,
    /// How many orders.
    pub orders: u64,
    /// Their sum.
    #[schema(example = "1234.50")]
    pub gmv: String,
    /// Their mean, to four places.
    pub mean: String,
    /// The smallest amount.
    pub min_amount: String,
    /// The largest amount.
    pub max_amount: String,
}

/// All provinces' orders of one second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Window {
    /// Its start, ms UTC.
    pub start: i64,
    /// How many orders.
    pub orders: u64,
    /// Their sum.
    pub gmv: String,
    /// How often late orders have corrected it.
    pub revision: u64,
    /// `open`, `closed` or `final`.
    pub state: String,
}

/// What the screen shows: the whole of it when a viewer connects, then what changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Frame {
    /// Commits of all shards at that moment; frames come in its order.
    pub commits: u64,
    /// Sum over all provinces of the whole run.
    pub total: Sales,
    /// The whole run by province.
    pub run: Vec<Sales>,
    /// The last 60 closed windows by province.
    pub minute: Vec<Sales>,
    /// The last closed window by province.
    pub second: Vec<Sales>,
    /// Start of the last closed window, ms UTC.
    pub second_start: Option<i64>,
    /// Windows, each replacing the one of the same start; in the first frame all of the history.
    pub windows: Vec<Window>,
    /// Windows that start before this are forgotten, ms UTC.
    pub forget_before: i64,
}

/// Totals at one moment.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct Totals {
    /// All provinces together.
    pub total: Sales,
    /// By province.
    pub provinces: Vec<Sales>,
    /// Commits of all shards at that moment.
    pub commits: u64,
    /// The server that they were read from.
    pub server: String,
}

/// A step of the past.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct StepRow {
    /// Start of the step, `YYYY-MM-DD HH:MM:SS.mmm` UTC.
    pub start: String,
    /// Its sales.
    #[serde(flatten)]
    pub sales: Sales,
    /// How often late orders have corrected its windows.
    pub revision: u64,
    /// `open` while one of its windows is, else `closed` while one is, else `final`.
    pub state: String,
}

/// Steps of the past, in order of start and province.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Steps {
    /// The rows.
    pub rows: Vec<StepRow>,
    /// The server that gave them.
    pub server: String,
}

/// A replica as it was last found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Replica {
    /// Its URL without a password.
    pub server: String,
    /// Why it is skipped, if it is; a trouble of the kind `replica` says the same in parts.
    pub skipped: Option<String>,
    /// Commits that it had applied.
    pub commits: u64,
    /// Time since the newest sign of life that it holds, ms: an upper bound of its lag.
    pub age_ms: Option<u64>,
    /// Seconds that it says it is behind its primary, where the user may ask for that.
    pub behind_s: Option<u64>,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Trouble {
    /// Which kind: `replica`, `replication`, `store`, `dispatcher`, `shard`, `halted`, `jobs`,
    /// `scaler`, `quarantine`, `stale`.
    pub kind: String,
    /// What the text says, for those who say it in another language: of each cause one sentence.
    pub cause: String,
    /// What it is about: a server, an address, a shard's number; empty where there is one only.
    pub subject: String,
    /// Figures of the sentence, in its order.
    pub figures: Vec<u64>,
    /// What somebody else said, in their own words; empty if nothing.
    pub detail: String,
    /// All of it in English.
    pub text: String,
    /// Since when, ms UTC of the board's clock.
    pub since: i64,
}

/// The dispatcher at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct Operations {
    /// When, ms UTC of the board's clock.
    pub at: i64,
    /// Warm workers.
    pub size: u64,
    /// Workers with an attempt.
    pub busy: u64,
    /// Workers that wait for one.
    pub idle: u64,
    /// Warm workers that there are to be, where somebody says so: the local pool or a scaler.
    pub desired: Option<u64>,
    /// Batches that wait for a worker.
    pub waiting: u64,
    /// Attempts at workers.
    pub in_flight: u64,
    /// Messages ready in the queues.
    pub queue_ready: u64,
    /// Deliveries taken and not acknowledged.
    pub queue_unacked: u64,
    /// Windows with data that are not closed.
    pub windows_open: u64,
    /// Jobs that have not ended.
    pub live_jobs: u64,
    /// Invocations answered by warm workers since the dispatcher's start.
    pub ran_warm: u64,
    /// In Jobs, since no warm worker had time.
    pub ran_overflow: u64,
    /// In Jobs, since the function asks for them.
    pub ran_asked: u64,
    /// Attempts that failed, were lost or timed out since its start.
    pub failed: u64,
    /// From the watermark's passing a window's end to the committed rows, ms.
    pub window_p50_ms: f64,
    /// The same, 99 in 100.
    pub window_p99_ms: f64,
    /// From handing a batch out to its answer, ms.
    pub invocation_p50_ms: f64,
    /// The same, 99 in 100.
    pub invocation_p99_ms: f64,
}

/// Freshness, outcomes, replicas, the dispatcher and what is wrong.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct Status {
    /// The board's clock, ms UTC.
    pub at: i64,
    /// Start of the newest window, ms UTC.
    pub newest_window: Option<i64>,
    /// Tuples counted in all; `null`, as the three below, until a replica has answered.
    pub counted: Option<u64>,
    /// Tuples too late to be counted.
    pub late: Option<u64>,
    /// Tuples in quarantine.
    pub quarantined: Option<u64>,
    /// Windows of the history that are open.
    pub windows_open: Option<u64>,
    /// Every replica.
    pub replicas: Vec<Replica>,
    /// Whether a dispatcher's address was given.
    pub has_dispatcher: bool,
    /// The dispatcher now, if it answers.
    pub operations: Option<Operations>,
    /// Where invocations run, if the dispatcher says so.
    pub placement: Option<Placement>,
    /// The scaler, if one has ever run on this store.
    pub scaler: Option<Scaler>,
    /// What is wrong, oldest first.
    pub troubles: Vec<Trouble>,
}

/// An error, in words.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// What was expected, what came, what to do.
    pub error: String,
}

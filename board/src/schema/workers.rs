//! Where functions run, and the scaler that decides how many warm workers there are.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where invocations run, as the dispatcher says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Placement {
    /// `pool`, `job` or `auto`.
    pub mode: String,
    /// Jobs that have not ended.
    pub live_jobs: u64,
    /// Why no Job is created, while that is so.
    pub creating_paused: Option<String>,
    /// The last answered invocations, newest first.
    pub recent: Vec<Run>,
    /// The last ones that ran in a Job, newest first; from when the board began to look.
    pub jobs: Vec<Run>,
}

/// An answered invocation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Run {
    /// Start of its window, ms UTC.
    pub window_start: i64,
    /// How many tuples it held.
    pub rows: u64,
    /// `pool` or `job`.
    pub place: String,
    /// `warm`, `overflow` or `asked`.
    pub reason: String,
    /// From when its batch was ready until a warm worker took it or a Job was decided on, ms.
    #[serde(default)]
    pub waited_ms: u64,
    /// How long each phase took from then on.
    #[serde(default)]
    pub phases_ms: Phases,
}

/// How long each phase of an invocation took, ms; one whose end was not seen is part of the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(default)]
pub struct Phases {
    /// Until the API server had created the Job.
    pub created: Option<u64>,
    /// Until its pod had a node.
    pub scheduled: Option<u64>,
    /// Until its program ran.
    pub started: Option<u64>,
    /// Until it had asked for its batch.
    pub pulled: Option<u64>,
    /// Until it had answered.
    pub answered: Option<u64>,
}

/// A scaler as a replica last heard of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct Scaler {
    /// Whether it has shown life lately.
    pub running: bool,
    /// When it last did, ms UTC of the primary's clock.
    pub at: i64,
    /// When it was started, ms UTC.
    pub run: i64,
    /// Host and process.
    pub owner: String,
    /// Where the pool is.
    pub pool: String,
    /// The mode in force.
    pub mode: String,
    /// How many edits of the tuning have been applied.
    pub generation: u64,
    /// Why the newest edit is not in force, if it is not.
    pub refused: Option<String>,
    /// Workers, starting and ready.
    pub size: u64,
    /// Workers that there are to be.
    pub desired: Option<u64>,
    /// Why, in a line.
    pub reason: String,
    /// What its agent chose last.
    pub choice: Option<Choice>,
}

/// What an agent chose.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct Choice {
    /// When, ms UTC.
    pub at: i64,
    /// Workers that there were.
    pub before: u64,
    /// Workers that there were to be.
    pub desired: u64,
    /// The state, by its number in the Q-table.
    pub state: Option<u64>,
    /// Every action and its Q at that moment.
    pub actions: Vec<Valued>,
    /// The chosen one.
    pub chosen: String,
    /// Whether it was chosen to explore, and not for its Q.
    pub explored: bool,
    /// Guards that changed the size.
    pub guards: Vec<String>,
}

/// An action and what it is worth.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct Valued {
    /// The action.
    pub action: String,
    /// Its Q: expected discounted reward, minus pod-seconds.
    pub q: f64,
}

/// A Q-table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct Policy {
    /// Whose: `elastic` or `paper`.
    pub agent: String,
    /// Counts the tables of an agent.
    pub version: u64,
    /// When it was kept, ms UTC.
    pub at: i64,
    /// Choices that it has been learned from.
    pub decisions: u64,
    /// The state's axes, the slowest first.
    pub axes: Vec<PolicyAxis>,
    /// What may be done.
    pub actions: Vec<PolicyAction>,
    /// Every state in its order: the last axis counts fastest.
    pub states: Vec<PolicyState>,
    /// Visits below which a state's best action is not to be trusted.
    pub trusted_visits: u64,
    /// Why the table cannot be shown, if so.
    pub problem: Option<String>,
}

/// An axis of the state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct PolicyAxis {
    /// What is measured.
    pub name: String,
    /// Its bins.
    pub bins: Vec<String>,
}

/// An action.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct PolicyAction {
    /// As a person reads it.
    pub label: String,
    /// 0 for the most careful, 1 for the boldest.
    pub boldness: f64,
}

/// A state of the table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct PolicyState {
    /// Which action is best, by its place.
    pub best: usize,
    /// How often that was tried.
    pub visits: u64,
    /// Q of every action at the table's price of a late window.
    pub q: Vec<f64>,
}

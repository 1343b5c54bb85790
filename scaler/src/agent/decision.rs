//! A decision and why it was taken: enough to explain it, and to check it against a record.

use serde::{Deserialize, Serialize};

use super::layout::Action;
use super::learner::Reward;

/// What an agent measured before it decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Features {
    /// Tuples a second, over the last two seconds.
    pub rate: f64,
    /// Tuples a second that a pod can do within the goal.
    pub capacity: f64,
    /// Pods that would just meet the goal, with the queue worked off in a second.
    pub demand: f64,
    /// Rate ÷ (capacity × pods).
    pub load: f64,
    /// ln(rate of 2 s ÷ rate of 30 s).
    pub trend: f64,
    /// Seconds of waiting work a pod.
    pub backlog: f64,
    /// Weighted mean of |Δ ln rate| in five seconds.
    pub volatility: f64,
    /// Busy ÷ ready pod-seconds since the decision before, at most 1.
    pub utilization: f64,
}

/// One action as it looked at the moment of the decision.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Candidate {
    /// The action.
    pub action: Action,
    /// The size it led to, after the agent's own guards.
    pub size: u32,
    /// Value for pod-seconds.
    pub q_cost: f64,
    /// Value for late windows at a price of 1.
    pub q_late: f64,
    /// Both at the price of the day: what is compared.
    pub q: f64,
    /// How often it had been tried in this state.
    pub visits: u64,
}

/// How an agent chose.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Choice {
    /// What it measured.
    pub features: Features,
    /// The bins of the state, an axis each.
    pub bins: Vec<usize>,
    /// Number of the state.
    pub state: usize,
    /// Every action.
    pub candidates: Vec<Candidate>,
    /// Index of the chosen one.
    pub chosen: usize,
    /// Whether it was chosen to explore, and not for its value.
    pub explored: bool,
    /// What the choice before this one has earned, if nothing broke the chain.
    pub reward_of_previous: Option<Reward>,
}

/// What made the size differ from what the policy alone wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guard {
    /// At least what the measured demand takes, whatever has been learned.
    DemandFloor,
    /// Once a second: the last window and the queue take more pods than there are.
    EverySecond,
    /// No scale-in while work waits.
    Backlog,
    /// No scale-in while the backlog grows; one under way is called back.
    GrowingBacklog,
    /// No scale-in so soon after measurements came back.
    AfterGap,
    /// The configured minimum.
    Min,
    /// The configured maximum.
    Max,
    /// A calendar floor.
    Calendar,
}

/// Why the size is what it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "by")]
pub enum Cause {
    /// An agent chose.
    Agent(Box<Choice>),
    /// A formula computed it.
    Formula,
    /// A guard acted between two choices.
    Guard,
    /// Measurements are missing.
    Gap {
        /// Seconds since the last one.
        seconds: f64,
        /// What is wrong with them.
        reason: super::meter::Missing,
    },
}

/// What to do now, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Decision {
    /// Seconds on the caller's clock.
    pub at: f64,
    /// Pods there were, starting and ready.
    pub before: u32,
    /// Pods there are to be.
    pub desired: u32,
    /// Why.
    pub cause: Cause,
    /// Guards that changed the size, in the order in which they did.
    pub guards: Vec<Guard>,
}

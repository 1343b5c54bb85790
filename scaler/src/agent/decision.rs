//! A decision and why it was taken: enough to explain it, and to check it against a record.

use serde::{Deserialize, Serialize};

use super::features::Features;
use super::layout::Action;
use super::learner::Reward;

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
    /// Both at the choice's price: what is compared.
    pub q: f64,
    /// How often it had been tried in this state.
    pub visits: u64,
}

/// How an agent chose.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Choice {
    /// κ, the price of a late window that its values are weighed by.
    pub kappa: f64,
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
    /// What was measured; nothing in a gap.
    pub features: Option<Features>,
    /// Guards that changed the size, in the order in which they did.
    pub guards: Vec<Guard>,
}

//! Who takes part in the benchmark, and under which conditions.

use std::fmt;
use std::str::FromStr;

use super::player::Player;
use super::train::Training;
use crate::agent::controller::Controller;
use crate::agent::presets;
use crate::agent::sarsa::Agent;
use crate::policies::{Formula, Named};
use crate::simulator::Setting;
use crate::tuning::Tuning;

/// A policy of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// Knows the future.
    Oracle,
    /// The shipped agent, trained anew.
    Elastic,
    /// The same as production runs it: by the controller, with the guards that hold whoever decides.
    Controlled,
    /// The same, with its prior and its guards only.
    Untrained,
    /// The same without the backlog in its state, trained.
    NoBacklog,
    /// A Sarsa agent that chooses a headroom over demand, without a model, trained.
    Headroom,
    /// The published agent, trained.
    Paper,
    /// A formula.
    Formula(Named),
    /// A constant size, enough for 99% of the hour's windows.
    StaticHindsight,
    /// Always the largest pool.
    StaticMax,
}

impl Contender {
    /// All of them.
    pub const ALL: [Self; 24] = [
        Self::Oracle,
        Self::Elastic,
        Self::Controlled,
        Self::Untrained,
        Self::NoBacklog,
        Self::Headroom,
        Self::Formula(Named::Ds2VolatilityTuned),
        Self::Formula(Named::SloDs2Tuned),
        Self::Formula(Named::KedaQueueTuned),
        Self::Formula(Named::Ds2Tuned),
        Self::Formula(Named::KedaQueueFiveSeconds),
        Self::Formula(Named::KpaTuned),
        Self::Formula(Named::HpaTuned),
        Self::Formula(Named::KedaRateTuned),
        Self::Formula(Named::ThresholdTuned),
        Self::Paper,
        Self::Formula(Named::Ds2),
        Self::Formula(Named::KpaDefault),
        Self::Formula(Named::Threshold),
        Self::Formula(Named::HpaDefault),
        Self::Formula(Named::KedaQueueDefault),
        Self::Formula(Named::KedaRateDefault),
        Self::StaticHindsight,
        Self::StaticMax,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Oracle => "oracle",
            Self::Elastic => "elastic",
            Self::Controlled => "elastic-controlled",
            Self::Untrained => "elastic-untrained",
            Self::NoBacklog => "elastic-no-backlog",
            Self::Headroom => "sarsa-headroom",
            Self::Paper => "paper",
            Self::Formula(named) => named.name(),
            Self::StaticHindsight => "static-p99",
            Self::StaticMax => "static-max",
        }
    }

    /// How many agents are trained for it if so many are `asked` for.
    pub fn agents(self, asked: u64) -> u64 {
        match self {
            Self::Elastic | Self::Controlled | Self::NoBacklog | Self::Headroom | Self::Paper => {
                asked
            }
            _ => 1,
        }
    }

    /// A player, trained for so many hours if it learns; `number` tells agents apart.
    pub fn player(self, number: u64, hours: u64) -> Player {
        let trained = |mut agent: Agent| {
            let seed = Training::SEED + Training::APART * number;
            Training::new(hours, seed).train(&mut agent);
            agent.behaviour.learns = false;
            agent.start_over();
            Box::new(agent)
        };
        match self {
            Self::Oracle => Player::Oracle,
            Self::Elastic => Player::Agent(trained(presets::untrained())),
            Self::Controlled => {
                let agent = trained(presets::untrained());
                let tuning = Tuning::default();
                let controller = Controller::new(tuning, *agent, presets::paper());
                Player::Controller(Box::new(controller))
            }
            Self::NoBacklog => Player::Agent(trained(presets::without_backlog())),
            Self::Headroom => Player::Agent(trained(presets::headroom_untrained())),
            Self::Paper => Player::Agent(trained(presets::paper())),
            Self::Untrained => {
                let mut agent = presets::untrained();
                agent.behaviour.learns = false;
                Player::Agent(Box::new(agent))
            }
            Self::Formula(named) => Player::Formula(named.policy()),
            Self::StaticHindsight => Player::HindsightStatic,
            Self::StaticMax => Player::Formula(Formula::Static(u32::MAX)),
        }
    }
}

/// A name that nobody has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected one of {}, got {found:?}", names())]
pub struct NotAContender {
    found: String,
}

fn names() -> String {
    Contender::ALL.map(Contender::name).join(", ")
}

impl FromStr for Contender {
    type Err = NotAContender;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|one| one.name() == text);
        found.ok_or_else(|| NotAContender { found: text.into() })
    }
}

/// Under which conditions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scenario {
    /// The usual ones.
    #[default]
    None,
    /// The function takes 1.5 times as long from half time on.
    SlowerFunction,
    /// Pods are ready after 8 to 15 s.
    SlowStarts,
}

impl Scenario {
    const ALL: [Self; 3] = [Self::None, Self::SlowerFunction, Self::SlowStarts];

    /// The simulated system under these conditions.
    pub fn setting(self) -> Setting {
        let usual = Setting::default();
        match self {
            Self::None => usual,
            Self::SlowerFunction => Setting {
                shift_at: 1_800,
                shift_factor: 1.5,
                ..usual
            },
            Self::SlowStarts => Setting {
                start_from: 8.0,
                start_to: 15.0,
                ..usual
            },
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::SlowerFunction => "slower-function",
            Self::SlowStarts => "slow-starts",
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that no scenario has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected none, slower-function or slow-starts as a scenario, got {0:?}")]
pub struct NotAScenario(String);

impl FromStr for Scenario {
    type Err = NotAScenario;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|one| one.name() == text);
        found.ok_or_else(|| NotAScenario(text.into()))
    }
}

//! Training in the simulator: hour after hour, pattern after pattern, exploring less and less. An agent
//! that never explores, as the published one, is not made to: it is greedy on optimistic values.

use super::player::play_agent;
use crate::agent::sarsa::Agent;
use crate::simulator::{Oracle, Pattern, Setting, Trace};

/// How to train.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Training {
    /// Simulated hours.
    pub hours: u64,
    /// Seed of the first hour; each hour has the next one.
    pub seed: u64,
    /// ε in the first hour.
    pub explore_from: f64,
    /// ε in the last hour; geometric in between.
    pub explore_to: f64,
}

impl Training {
    /// Simulated hours of the shipped table.
    pub const HOURS: u64 = 280;
    /// First seed of the shipped table.
    pub const SEED: u64 = 20_000;
    /// Seeds between the trainings of two agents, so that they share no hour.
    pub const APART: u64 = 3_000;

    /// The usual exploration over so many hours.
    pub fn new(hours: u64, seed: u64) -> Self {
        Self {
            hours,
            seed,
            explore_from: 0.2,
            explore_to: 0.05,
        }
    }

    /// Trains; the agent's own ε is restored afterwards.
    pub fn train(&self, agent: &mut Agent) {
        let behaviour = agent.behaviour;
        agent.behaviour.learns = true;
        for hour in 0..self.hours {
            let done = hour as f64 / self.hours.saturating_sub(1).max(1) as f64;
            let ratio: f64 = self.explore_to / self.explore_from;
            if behaviour.epsilon > 0.0 {
                agent.behaviour.epsilon = self.explore_from * ratio.powf(done);
            }
            let pattern = Pattern::SCORED[(hour % Pattern::SCORED.len() as u64) as usize];
            let trace = Trace::new(pattern, self.seed + hour, Setting::default());
            let first = Oracle::first_of(&trace);
            play_agent(agent, &trace, first);
        }
        agent.behaviour = behaviour;
    }
}

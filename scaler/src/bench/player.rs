//! Lets an agent, a formula or the oracle play a trace.

use crate::agent::sarsa::{Agent, Luck};
use crate::policies::Formula;
use crate::simulator::draws::{Stream, uniform};
use crate::simulator::{Metrics, Oracle, Trace, run, run_oracle};

/// Who decides.
#[derive(Clone, Debug)]
pub enum Player {
    /// The policy that knows the future.
    Oracle,
    /// As many pods as are enough for 99% of the trace's windows, known in hindsight.
    HindsightStatic,
    /// A formula.
    Formula(Formula),
    /// An agent.
    Agent(Box<Agent>),
}

impl Player {
    /// Plays a trace from a pool that fits its beginning.
    pub fn play(&mut self, trace: &Trace, oracle: &Oracle) -> Metrics {
        let first = oracle.first();
        match self {
            Self::Oracle => run_oracle(trace, oracle),
            Self::HindsightStatic => {
                let size = oracle.quantile(0.99).ceil() as u32;
                run(trace, first, |_| Some(size))
            }
            Self::Formula(formula) => run(trace, first, |view| formula.desired(view)),
            Self::Agent(agent) => play_agent(agent, trace, first),
        }
    }
}

/// Plays an hour with an agent, which may learn from it.
pub fn play_agent(agent: &mut Agent, trace: &Trace, first: u32) -> Metrics {
    agent.start_over();
    let interval = agent.behaviour.interval;
    run(trace, first, |view| {
        let step = 3 * (view.now / interval) as u64;
        let luck = Luck {
            explore: uniform(trace.seed, Stream::Exploration, step),
            direction: uniform(trace.seed, Stream::Exploration, step + 1),
        };
        agent.second(view, 0, luck).map(|wish| wish.size)
    })
}

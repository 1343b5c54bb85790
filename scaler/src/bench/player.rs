//! Lets an agent, the controller around it, a formula or the oracle play a trace.

use crate::agent::controller::{Controller, Second};
use crate::agent::meter::Missing;
use crate::agent::sarsa::{Agent, Luck};
use crate::policies::Formula;
use crate::simulator::draws::{Stream, uniform};
use crate::simulator::{Metrics, Oracle, Trace, World, run, run_oracle};

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
    /// A controller.
    Controller(Box<Controller>),
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
            Self::Controller(controller) => play_controller(controller, trace, first),
        }
    }
}

/// Plays an hour with an agent, which may learn from it.
pub fn play_agent(agent: &mut Agent, trace: &Trace, first: u32) -> Metrics {
    agent.start_over();
    let interval = agent.behaviour.interval;
    run(trace, first, |view| {
        let luck = luck(trace, (view.now / interval) as u64);
        agent.second(view, 0, luck).map(|wish| wish.size)
    })
}

/// Plays an hour with a controller, told second by second what the loop in production tells it. Its first
/// second has no measurement, as there.
fn play_controller(controller: &mut Controller, trace: &Trace, first: u32) -> Metrics {
    let mut world = World::new(trace, first);
    let mut seen = Err(Missing::First);
    while world.second() < trace.len() {
        let decided = controller.second(Second {
            now: world.second() as f64,
            seen,
            pool: world.pool(),
            calendar: 0,
            luck: luck(trace, world.second() as u64),
        });
        if let Some(decision) = decided {
            world.resize(decision.desired);
        }
        seen = world.step().ok_or(Missing::NoAnswer);
    }
    world.metrics()
}

/// Three draws a step; the third is nobody's.
fn luck(trace: &Trace, step: u64) -> Luck {
    let draw = |at| uniform(trace.seed, Stream::Exploration, 3 * step + at);
    Luck {
        explore: draw(0),
        direction: draw(1),
    }
}

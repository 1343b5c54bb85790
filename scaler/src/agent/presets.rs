//! The agents as they are shipped: layouts, rates, priors.

use super::layout::{Action, Axis, Feature, Layout};
use super::learner::{Learner, Rates};
use super::sarsa::{Agent, Behaviour, Goal};
use super::snapshot::Snapshot;
use super::table::Table;

/// Pods per unit of demand of each action, smallest pool last: 0.7 ÷ a target utilization.
const TARGETS: [f64; 5] = [0.42, 0.5, 0.58, 0.65, 0.72];
/// The action that an untrained agent likes best.
const LIKED: f64 = 0.65;

/// Axes and actions of `elastic`.
pub fn elastic_layout() -> Layout {
    let scaled = [0.3, 0.4, 0.48, 0.55, 0.62, 0.7, 0.8, 1.0].map(|edge| edge / 0.7);
    let axis = |feature, edges: &[f64]| Axis {
        feature,
        edges: edges.to_vec(),
    };
    let headrooms = TARGETS.map(|target| Action::Headroom(0.7 / target));
    Layout {
        axes: vec![
            axis(Feature::Load, &scaled),
            axis(Feature::Trend, &[-0.15, -0.04, 0.05, 0.2]),
            axis(Feature::Volatility, &[0.04, 0.09]),
        ],
        actions: [Action::Hold].into_iter().chain(headrooms).collect(),
    }
}

/// What `elastic` believes before it has learned: a moderate headroom is good, holding is less so.
pub fn elastic_prior(layout: Layout) -> Table {
    let actions = layout.actions.clone();
    Table::new(layout, |_, action| match actions[action] {
        Action::Headroom(headroom) => -0.3 - 2.0 * (0.7 / headroom - LIKED).abs(),
        _ => -0.4,
    })
}

/// How fast `elastic` learns.
pub const ELASTIC_RATES: Rates = Rates {
    discount: 0.8,
    trace: 0.8,
    first: 0.5,
    least: 0.003,
    half: 10.0,
};

/// How `elastic` behaves unless told otherwise.
pub const ELASTIC: Behaviour = Behaviour {
    interval: 5.0,
    goal_seconds: 1.0,
    kappa: 60.0,
    epsilon: 0.03,
    learns: true,
    reward: Goal::Cost,
    guarded: true,
    min: 1,
    max: 48,
};

/// An `elastic` agent that goes on from a table.
pub fn elastic(behaviour: Behaviour, table: Table) -> Agent {
    Agent::new(behaviour, Learner::new(table, ELASTIC_RATES))
}

/// Axes and actions of the published agent: utilization by tenths; one pod less, none, one more.
pub fn paper_layout() -> Layout {
    Layout {
        axes: vec![Axis {
            feature: Feature::Utilization,
            edges: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9].into(),
        }],
        actions: vec![Action::Step(-1), Action::Step(0), Action::Step(1)],
    }
}

/// The published agent, cold: optimistic values of 3 / (1 − β) make greed try everything.
pub fn paper(rates: Rates, target: f64, min: u32, max: u32) -> Agent {
    let optimistic = 3.0 / (1.0 - rates.discount);
    let behaviour = Behaviour {
        interval: 5.0,
        goal_seconds: 1.0,
        kappa: 0.0,
        epsilon: 0.0,
        learns: true,
        reward: Goal::Utilization { target },
        guarded: false,
        min,
        max,
    };
    let table = Table::new(paper_layout(), |_, _| optimistic);
    Agent::new(behaviour, Learner::new(table, rates))
}

/// `elastic` before any training.
pub fn untrained() -> Agent {
    elastic(ELASTIC, elastic_prior(elastic_layout()))
}

/// `elastic` with a third dimension more: how much work waits. What it brings is measured by the
/// benchmark.
pub fn with_backlog() -> Agent {
    let mut layout = elastic_layout();
    layout.axes.push(Axis {
        feature: Feature::Backlog,
        edges: vec![0.02, 0.3, 1.0],
    });
    elastic(ELASTIC, elastic_prior(layout))
}

/// The table that is shipped: `windlass scaler train` makes it again.
///
/// # Panics
/// If the repository's copy is not of this layout, which a test rules out.
pub fn shipped() -> Snapshot {
    match Snapshot::from_text(SHIPPED, elastic_layout()) {
        Ok(snapshot) => snapshot,
        Err(refused) => panic!("the shipped table: {refused}"),
    }
}

const SHIPPED: &str = include_str!("../../data/elastic.txt");

/// The published agent's learning as it is benchmarked; the publication gives β only.
const PAPER_RATES: Rates = Rates {
    discount: 0.8,
    trace: 0.0,
    first: 0.5,
    least: 0.02,
    half: 10.0,
};

/// The published agent, cold, aiming at 60%.
pub fn paper_default() -> Agent {
    paper(PAPER_RATES, 0.6, ELASTIC.min, ELASTIC.max)
}

/// Axes and actions of the agent that chooses risks.
pub fn risk_layout() -> Layout {
    let axis = |feature, edges: &[f64]| Axis {
        feature,
        edges: edges.to_vec(),
    };
    Layout {
        axes: vec![
            axis(Feature::Demand, &[3.0, 6.0, 10.0]),
            axis(Feature::Trend, &[-0.15, -0.04, 0.05, 0.2]),
            axis(Feature::Volatility, &[0.04, 0.09]),
        ],
        actions: [1.6, 0.8, 0.4, 0.2, 0.1].map(Action::Risk).to_vec(),
    }
}

/// An agent that chooses risks, before any training.
pub fn risk_untrained() -> Agent {
    let layout = risk_layout();
    let prior = Table::new(layout, |_, action| -0.3 - 0.1 * (action as f64 - 2.0).abs());
    let behaviour = Behaviour {
        guarded: false,
        ..ELASTIC
    };
    elastic(behaviour, prior)
}

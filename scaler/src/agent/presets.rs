//! The agents as they are shipped: layouts, rates, priors.

use super::layout::{Action, Axis, Feature, Layout};
use super::learner::{Learner, Rates};
use super::sarsa::{Agent, Behaviour, Goal};
use super::snapshot::Snapshot;
use super::table::Table;

/// Shares of the late window's price that `elastic` chooses among, the most careful first.
const SHARES: [f64; 5] = [1.0, 0.85, 0.7, 0.57, 0.46];
/// The share that an untrained agent likes best.
const LIKED_SHARE: f64 = 0.57;

fn axis(feature: Feature, edges: &[f64]) -> Axis {
    Axis {
        feature,
        edges: edges.to_vec(),
    }
}

/// Axes and actions of `elastic`.
pub fn elastic_layout() -> Layout {
    Layout {
        axes: vec![
            axis(Feature::Demand, &[3.0, 6.0, 10.0]),
            axis(Feature::Volatility, &[0.04, 0.09]),
            axis(Feature::Backlog, &[0.02, 0.3, 1.0]),
        ],
        actions: SHARES.map(Action::Risk).to_vec(),
    }
}

/// The same without the backlog in the state; what it brings is measured by the benchmark.
pub fn no_backlog_layout() -> Layout {
    let mut layout = elastic_layout();
    layout.axes.pop();
    layout
}

/// What `elastic` believes before it has learned: the further from about half of the price, the worse.
pub fn elastic_prior(layout: Layout) -> Table {
    Table::new(layout, |_, action| {
        -0.3 - 0.2 * (SHARES[action] / LIKED_SHARE).ln().abs()
    })
}

/// Targets of the headroom agent, smallest pool last; the headroom is 0.7 ÷ target.
const TARGETS: [f64; 5] = [0.42, 0.5, 0.58, 0.65, 0.72];
/// The one that it likes best before training.
const LIKED_TARGET: f64 = 0.65;

/// Axes and actions of the agent that chooses a headroom over demand, without a model.
pub fn headroom_layout() -> Layout {
    let scaled = [0.3, 0.4, 0.48, 0.55, 0.62, 0.7, 0.8, 1.0].map(|edge| edge / 0.7);
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

/// The headroom agent before any training: moderate is good, holding is less so.
pub fn headroom_untrained() -> Agent {
    let layout = headroom_layout();
    let actions = layout.actions.clone();
    let prior = Table::new(layout, |_, action| match actions[action] {
        Action::Headroom(headroom) => -0.3 - 2.0 * (0.7 / headroom - LIKED_TARGET).abs(),
        _ => -0.4,
    });
    elastic(ELASTIC, prior)
}

/// How fast `elastic` learns.
pub const ELASTIC_RATES: Rates = Rates {
    discount: 0.8,
    trace: 0.8,
    first: 0.5,
    least: 0.0005,
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

/// `elastic` before any training.
pub fn untrained() -> Agent {
    elastic(ELASTIC, elastic_prior(elastic_layout()))
}

/// `elastic` without the backlog in its state, before any training.
pub fn without_backlog() -> Agent {
    elastic(ELASTIC, elastic_prior(no_backlog_layout()))
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

/// Axes and actions of the published agent: utilization by tenths; one pod less, none, one more.
pub fn paper_layout() -> Layout {
    Layout {
        axes: vec![axis(
            Feature::Utilization,
            &[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
        )],
        actions: vec![Action::Step(-1), Action::Step(0), Action::Step(1)],
    }
}

/// The published agent's learning as it is benchmarked; the publication gives β only.
const PAPER_RATES: Rates = Rates {
    discount: 0.8,
    trace: 0.0,
    first: 0.5,
    least: 0.02,
    half: 10.0,
};

/// The published agent, cold, aiming at 60%: optimistic values of 3 / (1 − β) make greed try
/// everything.
pub fn paper() -> Agent {
    let behaviour = Behaviour {
        interval: 5.0,
        goal_seconds: 1.0,
        kappa: 0.0,
        epsilon: 0.0,
        learns: true,
        reward: Goal::Utilization { target: 0.6 },
        guarded: false,
        min: ELASTIC.min,
        max: ELASTIC.max,
    };
    let optimistic = 3.0 / (1.0 - PAPER_RATES.discount);
    let table = Table::new(paper_layout(), |_, _| optimistic);
    Agent::new(behaviour, Learner::new(table, PAPER_RATES))
}

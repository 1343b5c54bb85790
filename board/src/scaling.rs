//! What the page is told of a scaler, from what a store holds. Pure.

use windlass_dispatcher::store::{ChoiceSeen, ScalerSeen, TableSeen};
use windlass_scaler::agent::layout::Layout;
use windlass_scaler::agent::presets;
use windlass_scaler::agent::snapshot::Snapshot;
use windlass_scaler::picture::{TRUSTED, boldness};
use windlass_scaler::tuning::Mode;

use crate::schema::{Choice, Policy, PolicyAction, PolicyAxis, PolicyState, Scaler, Valued};

/// A scaler says every 5 s that it lives; after this long without it, it does not, ms.
const SILENT_MS: i64 = 15_000;

/// The scaler as the page shows it.
pub(crate) fn scaler(seen: ScalerSeen) -> Scaler {
    Scaler {
        running: seen.age_ms <= SILENT_MS,
        at: seen.at_ms,
        run: seen.run,
        owner: seen.owner,
        pool: seen.pool,
        mode: seen.mode,
        generation: seen.generation,
        refused: seen.refused,
        size: seen.size,
        desired: seen.desired,
        reason: seen.reason,
        choice: seen.choice.map(choice),
    }
}

fn choice(seen: ChoiceSeen) -> Choice {
    let values = seen.q_values.unwrap_or_default();
    let valued = values.split(',').filter_map(|pair| {
        let (action, q) = pair.rsplit_once('=')?;
        Some(Valued {
            action: action.to_owned(),
            q: q.parse().ok()?,
        })
    });
    let guards = seen.guards.split(',').filter(|guard| !guard.is_empty());
    Choice {
        at: seen.at_ms,
        before: seen.before,
        desired: seen.desired,
        state: seen.state,
        actions: valued.collect(),
        chosen: seen.action.unwrap_or_default(),
        explored: seen.explored,
        guards: guards.map(str::to_owned).collect(),
    }
}

/// The agent that decides in a mode, and the layout of its table, if one does.
pub(crate) fn agent(mode: &str) -> Option<(&'static str, Layout)> {
    let layouts = [
        (Mode::Elastic, presets::elastic_layout as fn() -> Layout),
        (Mode::Paper, presets::paper_layout),
    ];
    let found = layouts.into_iter().find(|(of, _)| of.name() == mode)?;
    Some((found.0.name(), found.1()))
}

/// An agent's table as the page shows it; one that does not belong to `layout` says so instead.
pub(crate) fn policy(agent: &str, layout: Layout, seen: &TableSeen) -> Policy {
    let named = Policy {
        agent: agent.to_owned(),
        version: seen.version,
        at: seen.at_ms,
        trusted_visits: TRUSTED,
        ..Policy::default()
    };
    let snapshot = match Snapshot::from_text(&seen.body, layout) {
        Ok(snapshot) => snapshot,
        Err(refused) => {
            return Policy {
                problem: Some(refused.to_string()),
                ..named
            };
        }
    };
    let (table, kappa) = (&snapshot.table, snapshot.kappa);
    let layout = table.layout();
    let axes = layout.axes.iter().map(|axis| PolicyAxis {
        name: axis.feature.name().to_owned(),
        bins: (0..axis.bins()).map(|bin| axis.label(bin)).collect(),
    });
    let actions = layout.actions.iter().map(|&action| PolicyAction {
        label: action.label(),
        boldness: boldness(action),
    });
    let states = (0..layout.states()).map(|state| {
        let best = table.greedy(state, kappa);
        let cells = table.state(state);
        PolicyState {
            best,
            visits: cells[best].visits,
            q: cells.iter().map(|cell| cell.value(kappa)).collect(),
        }
    });
    Policy {
        decisions: snapshot.decisions,
        axes: axes.collect(),
        actions: actions.collect(),
        states: states.collect(),
        ..named
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen() -> ScalerSeen {
        ScalerSeen {
            at_ms: 1_000,
            age_ms: 4_000,
            run: 500,
            owner: "host-7".into(),
            pool: "local".into(),
            mode: "elastic".into(),
            generation: 2,
            refused: None,
            size: 4,
            reason: "4 → 6: chooses κ×0.28".into(),
            desired: Some(6),
            choice: Some(ChoiceSeen {
                at_ms: 900,
                before: 4,
                desired: 6,
                state: Some(17),
                q_values: Some("κ×0.56=-0.3000,κ×0.28=-0.2000".into()),
                action: Some("κ×0.28".into()),
                explored: false,
                guards: "max,calendar".into(),
            }),
        }
    }

    #[test]
    fn a_choice_comes_with_the_value_of_every_action_and_its_guards() {
        let choice = scaler(seen()).choice.unwrap();
        let values: Vec<_> = choice.actions.iter().map(|v| v.action.as_str()).collect();
        assert_eq!(values, ["κ×0.56", "κ×0.28"]);
        assert!((choice.actions[1].q + 0.2).abs() < 1e-12);
        assert_eq!(choice.guards, ["max", "calendar"]);
    }

    #[test]
    fn a_scaler_that_is_silent_does_not_run() {
        assert!(scaler(seen()).running);
        let silent = ScalerSeen {
            age_ms: 15_001,
            ..seen()
        };
        assert!(!scaler(silent).running);
    }

    #[test]
    fn a_table_is_drawn_as_the_policy_command_draws_it() {
        let snapshot = presets::shipped();
        let (name, layout) = agent("elastic").unwrap();
        let table = TableSeen {
            version: 3,
            at_ms: 1,
            body: snapshot.to_text(),
        };
        let shown = policy(name, layout, &table);
        assert_eq!(shown.problem, None);
        let csv = windlass_scaler::picture::Picture::of(&snapshot.table, snapshot.kappa).csv();
        let lines: Vec<&str> = csv.lines().skip(1).collect();
        assert_eq!(lines.len(), shown.states.len());
        for (line, state) in lines.iter().zip(&shown.states) {
            let said = format!(",{},{},", shown.actions[state.best].label, state.visits);
            assert!(line.contains(&said), "{said} in {line}");
        }
    }

    #[test]
    fn a_table_of_another_layout_is_not_shown_and_says_why() {
        let (name, layout) = agent("paper").unwrap();
        let table = TableSeen {
            version: 3,
            at_ms: 1,
            body: presets::shipped().to_text(),
        };
        let shown = policy(name, layout, &table);
        assert!(shown.states.is_empty());
        assert!(
            shown
                .problem
                .unwrap()
                .starts_with("expected a table of layout")
        );
        assert!(agent("slo-ds2").is_none());
    }
}

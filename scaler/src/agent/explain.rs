//! A decision in words: one line for a view, the whole of it for whoever asks why.

use std::fmt::Write;

use super::decision::{Cause, Choice, Decision, Guard};
use super::features::Features;
use super::layout::Layout;
use super::learner::Reward;

impl Guard {
    /// Its name, as in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::DemandFloor => "demand-floor",
            Self::EverySecond => "every-second",
            Self::Backlog => "backlog",
            Self::GrowingBacklog => "growing-backlog",
            Self::AfterGap => "after-gap",
            Self::Min => "min",
            Self::Max => "max",
            Self::Calendar => "calendar",
        }
    }

    /// What it means.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::DemandFloor => "measured demand takes at least this many",
            Self::EverySecond => "the last second takes another size than the last choice had",
            Self::Backlog => "no scale-in while work waits",
            Self::GrowingBacklog => {
                "no scale-in while the backlog grows, nor just after that broke one off"
            }
            Self::AfterGap => "no scale-in so soon after measurements came back",
            Self::Min => "min-size",
            Self::Max => "max-size",
            Self::Calendar => "a calendar floor",
        }
    }
}

impl Decision {
    /// The choice of an agent, if that was the cause.
    pub fn choice(&self) -> Option<&Choice> {
        match &self.cause {
            Cause::Agent(choice) => Some(choice),
            _ => None,
        }
    }

    /// Who or what decided, as in records.
    pub fn cause_name(&self) -> &'static str {
        match self.cause {
            Cause::Agent(_) => "agent",
            Cause::Formula => "formula",
            Cause::Guard => "guard",
            Cause::Gap { .. } => "gap",
        }
    }

    /// The guards' names in their order.
    pub fn guard_names(&self) -> String {
        let names: Vec<&str> = self.guards.iter().map(|guard| guard.name()).collect();
        names.join(",")
    }

    /// One line: the size and why.
    pub fn reason(&self) -> String {
        let mut text = format!("{} → {}: ", self.before, self.desired);
        // Writing to a string does not fail.
        let _ = match &self.cause {
            Cause::Agent(choice) => {
                let chosen = choice.candidates.get(choice.chosen);
                let action = chosen.map_or_else(String::new, |chosen| chosen.action.label());
                let how = if choice.explored { "tries" } else { "chooses" };
                write!(text, "{how} {action}{}", self.situation())
            }
            Cause::Formula => write!(text, "by formula{}", self.situation()),
            Cause::Guard => write!(text, "between two choices"),
            Cause::Gap { seconds, reason } => {
                write!(text, "no measurements for {seconds:.0} s ({reason})")
            }
        };
        for guard in &self.guards {
            let _ = write!(text, "; {}", guard.meaning());
        }
        text
    }

    fn situation(&self) -> String {
        let of = |f: &Features| {
            format!(
                " at {:.0} tuples/s, a demand of {:.1} and {:.2} s of backlog",
                f.rate, f.demand, f.backlog
            )
        };
        self.features.as_ref().map_or_else(String::new, of)
    }

    /// Everything about it, a line each. `layout` names the state's bins; `followed` is the reward
    /// that the choice has earned, if it is known.
    pub fn explain(&self, layout: Option<&Layout>, followed: Option<Reward>) -> String {
        let mut text = self.reason() + "\n";
        if let Some(features) = &self.features {
            measured(&mut text, features);
        }
        if let Some(choice) = self.choice() {
            let kappa = choice.kappa;
            describe(&mut text, choice, layout);
            let _ = match followed {
                Some(Reward { cost, late }) => writeln!(
                    text,
                    "reward that followed: {:.4} = cost {cost:.4} + κ {kappa} × late {late:.4}",
                    cost + kappa * late
                ),
                None => writeln!(
                    text,
                    "reward that followed: not known (the next choice tells it, unless a gap or \
                     somebody who resized the pool came in between)"
                ),
            };
        }
        for guard in &self.guards {
            let _ = writeln!(text, "guard {}: {}", guard.name(), guard.meaning());
        }
        text
    }
}

fn measured(text: &mut String, f: &Features) {
    let _ = writeln!(
        text,
        "measured: rate {:.1} tuples/s, capacity {:.1} tuples/s a pod, demand {:.2} pods, load \
         {:.2}, trend {:+.3}, backlog {:.3} s a pod, volatility {:.4}, utilization {:.2}",
        f.rate, f.capacity, f.demand, f.load, f.trend, f.backlog, f.volatility, f.utilization
    );
}

fn describe(text: &mut String, choice: &Choice, layout: Option<&Layout>) {
    let _ = write!(text, "state {}:", choice.state);
    for (axis, &bin) in choice.bins.iter().enumerate() {
        let _ = match layout.and_then(|layout| layout.axes.get(axis)) {
            Some(axis) => write!(text, " {} {}", axis.feature.name(), axis.label(bin)),
            None => write!(text, " bin {bin}"),
        };
    }
    text.push('\n');
    let best = choice
        .candidates
        .iter()
        .map(|candidate| candidate.q)
        .fold(f64::NEG_INFINITY, f64::max);
    let _ = writeln!(
        text,
        "  {:<8} {:>9} {:>9} {:>9} {:>7} {:>5}",
        "action", "Q", "Q cost", "Q late", "visits", "size"
    );
    for (at, candidate) in choice.candidates.iter().enumerate() {
        let mark = match (at == choice.chosen, choice.explored) {
            (true, true) => "← chosen to explore",
            (true, false) => "← chosen",
            (false, _) if candidate.q >= best => "  best",
            (false, _) => "",
        };
        let line = format!(
            "  {:<8} {:>9.4} {:>9.4} {:>9.5} {:>7} {:>5} {mark}",
            candidate.action.label(),
            candidate.q,
            candidate.q_cost,
            candidate.q_late,
            candidate.visits,
            candidate.size
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    let _ = writeln!(text, "  Q = Q cost + κ {} × Q late", choice.kappa);
}

#[cfg(test)]
mod tests {
    use super::super::decision::Candidate;
    use super::super::layout::Action;
    use super::super::meter::Missing;
    use super::super::presets::elastic_layout;
    use super::*;

    const FEATURES: Features = Features {
        rate: 6_000.0,
        capacity: 1_142.0,
        demand: 5.25,
        load: 1.31,
        trend: 0.0,
        backlog: 0.0,
        volatility: 0.05,
        utilization: 0.9,
    };

    fn choice() -> Choice {
        let candidate = |share, q, size| Candidate {
            action: Action::Risk(share),
            size,
            q_cost: q,
            q_late: 0.0,
            q,
            visits: 7,
        };
        Choice {
            kappa: 60.0,
            bins: vec![1, 0, 2],
            state: 17,
            candidates: vec![candidate(0.56, -0.3, 9), candidate(0.4, -0.2, 8)],
            chosen: 0,
            explored: true,
            reward_of_previous: None,
        }
    }

    #[test]
    fn a_choice_names_state_values_exploration_guards_and_reward() {
        let decision = Decision {
            at: 5.0,
            before: 4,
            desired: 8,
            cause: Cause::Agent(Box::new(choice())),
            features: Some(FEATURES),
            guards: vec![Guard::Max],
        };
        let reward = Reward {
            cost: -0.1,
            late: -0.01,
        };
        let text = decision.explain(Some(&elastic_layout()), Some(reward));
        for said in [
            "4 → 8: tries κ×0.56 at 6000 tuples/s",
            "state 17: demand 3…6 volatility <0.04 backlog 0.3…1",
            "-0.3000   -0.3000   0.00000       7     9 ← chosen to explore",
            "  best",
            "-0.7000 = cost -0.1000 + κ 60 × late -0.0100",
            "guard max: max-size",
        ] {
            assert!(text.contains(said), "{said} in\n{text}");
        }
    }

    #[test]
    fn a_formula_says_what_it_measured_too() {
        let decision = Decision {
            at: 5.0,
            before: 4,
            desired: 8,
            cause: Cause::Formula,
            features: Some(FEATURES),
            guards: Vec::new(),
        };
        let text = decision.explain(None, None);
        for said in [
            "4 → 8: by formula at 6000 tuples/s, a demand of 5.2",
            "measured: rate 6000.0 tuples/s, capacity 1142.0",
        ] {
            assert!(text.contains(said), "{said} in\n{text}");
        }
        assert!(!text.contains("reward"), "{text}");
    }

    #[test]
    fn a_gap_says_what_is_missing() {
        let decision = Decision {
            at: 5.0,
            before: 4,
            desired: 5,
            cause: Cause::Gap {
                seconds: 5.0,
                reason: Missing::NoAnswer,
            },
            features: None,
            guards: Vec::new(),
        };
        let reason = decision.reason();
        assert_eq!(
            reason,
            "4 → 5: no measurements for 5 s (the dispatcher did not give its status)"
        );
    }
}

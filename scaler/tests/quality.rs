//! How good the shipped agent is, on seeds that its table was not trained on.

use windlass_scaler::agent::presets;
use windlass_scaler::agent::sarsa::Agent;
use windlass_scaler::bench::{Cases, Contender, Line, Player, Scenario, Score, Training};
use windlass_scaler::policies::Named;
use windlass_scaler::simulator::Pattern;

/// Few, to stay quick; `windlass scaler bench` takes all of them.
const SEEDS: std::ops::Range<u64> = 5_000..5_003;
/// Seeds of which no figure was looked at before everything was settled.
const UNSEEN: std::ops::Range<u64> = 6_000..6_004;

fn shipped() -> Player {
    let mut agent: Agent = presets::untrained();
    agent.learner.table = presets::shipped().table;
    agent.behaviour.learns = false;
    Player::Agent(Box::new(agent))
}

fn line(player: &Player, cases: &Cases) -> Line {
    Line::of("", &cases.score(player))
}

#[test]
fn the_shipped_table_beats_the_best_formula_and_is_seldom_late() {
    let cases = Cases::new(&Pattern::SCORED, SEEDS, Scenario::None.setting());
    let ours = line(&shipped(), &cases);
    assert!(ours.j <= 1.225 && ours.late_percent <= 1.0, "{ours:?}");
    let formula = Contender::Formula(Named::SloDs2Tuned).player(0, 0);
    assert!(ours.j < line(&formula, &cases).j, "{ours:?}");
}

#[test]
fn the_shipped_table_is_three_percent_better_than_the_formulas_on_hours_that_nothing_was_fitted_to()
{
    let cases = Cases::new(&Pattern::ALL, UNSEEN, Scenario::None.setting());
    let scores = cases.score(&shipped());
    let ours = Line::of("", &scores);
    assert!(ours.late_percent <= 1.0, "{ours:?}");
    for named in [
        Named::Ds2VolatilityTuned,
        Named::SloDs2Tuned,
        Named::KedaQueueTuned,
    ] {
        let theirs = cases.score(&Contender::Formula(named).player(0, 0));
        for pattern in [None, Some(Pattern::Mixed)] {
            let j = |scores: &[Score]| {
                let of = scores
                    .iter()
                    .filter(|s| pattern.is_none_or(|p| s.pattern == p));
                Line::of("", &of.copied().collect::<Vec<_>>()).j
            };
            let (ours, theirs) = (j(&scores), j(&theirs));
            assert!(
                ours <= 0.97 * theirs,
                "{named} {pattern:?}: {ours} {theirs}"
            );
        }
    }
}

#[test]
fn a_function_half_as_slow_again_from_half_time_is_late_in_few_windows() {
    let cases = Cases::new(&Pattern::SCORED, SEEDS, Scenario::SlowerFunction.setting());
    let ours = line(&shipped(), &cases);
    assert!(ours.late_percent <= 2.0, "{ours:?}");
}

#[test]
fn where_pods_take_eight_to_fifteen_seconds_to_start_the_shipped_table_is_no_worse_than_slo_ds2() {
    let cases = Cases::new(&Pattern::SCORED, SEEDS, Scenario::SlowStarts.setting());
    let ours = line(&shipped(), &cases);
    let formula = Contender::Formula(Named::SloDs2Tuned).player(0, 0);
    let theirs = line(&formula, &cases);
    assert!(ours.j <= theirs.j, "{ours:?} {theirs:?}");
}

#[test]
fn the_published_agent_scores_what_was_published_of_it() {
    let cases = Cases::new(&Pattern::SCORED, 5_000..5_012, Scenario::None.setting());
    let paper = Contender::Paper.player(0, Training::HOURS);
    let scored = line(&paper, &cases);
    assert!((scored.j - 1.74).abs() <= 0.03, "{scored:?}");
}

#[test]
fn the_shipped_table_is_what_training_gives() {
    let mut agent = presets::untrained();
    Training::new(Training::HOURS, Training::SEED).train(&mut agent);
    assert_eq!(agent.snapshot(), presets::shipped());
}

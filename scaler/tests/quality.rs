//! How good the shipped agent is, on seeds that its table was not trained on.

use windlass_scaler::agent::presets;
use windlass_scaler::agent::sarsa::Agent;
use windlass_scaler::bench::{Cases, Contender, Line, Player, Scenario, Training};
use windlass_scaler::policies::Named;
use windlass_scaler::simulator::Pattern;

/// Few, to stay quick; `windlass scaler bench` takes all of them.
const SEEDS: std::ops::Range<u64> = 5_000..5_003;

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
fn a_function_half_as_slow_again_from_half_time_is_late_in_few_windows() {
    let cases = Cases::new(&Pattern::SCORED, SEEDS, Scenario::SlowerFunction.setting());
    let ours = line(&shipped(), &cases);
    assert!(ours.late_percent <= 2.0, "{ours:?}");
}

#[test]
fn the_shipped_table_is_what_training_gives() {
    let mut agent = presets::untrained();
    Training::new(Training::HOURS, Training::SEED).train(&mut agent);
    assert_eq!(agent.snapshot(), presets::shipped());
}

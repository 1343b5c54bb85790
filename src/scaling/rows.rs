//! What is kept of every second and every decision: rows that a decision can be explained by, and a
//! run decided again. Pure.

use windlass_dispatcher::store::{DecisionRow, Followed};
use windlass_scaler::agent::controller::Second;
use windlass_scaler::agent::decision::Decision;
use windlass_scaler::agent::record::to_line;

/// Seconds after which a row is made also where nothing was decided.
const LONGEST: usize = 10;
/// Most characters of a reason; a database's column takes no more.
pub const LINE: usize = 1_900;

/// Gathers seconds into rows.
#[derive(Debug)]
pub struct Rows {
    run: i64,
    no: u64,
    seconds: Vec<String>,
    /// The number of the last row in which an agent chose.
    chosen: Option<u64>,
}

/// What belongs to every row.
#[derive(Clone, Copy, Debug)]
pub struct Now<'a> {
    /// ms UTC.
    pub unix_ms: i64,
    /// The tuning in force, by number.
    pub generation: u64,
    /// Its mode.
    pub mode: &'a str,
}

impl Rows {
    /// Rows of a run that begins at `run`, ms UTC.
    pub fn new(run: i64) -> Self {
        Self {
            run,
            no: 0,
            seconds: Vec::new(),
            chosen: None,
        }
    }

    /// Takes a second and what was decided in it; perhaps that makes a row, and the reward of an
    /// earlier one known.
    pub fn second(
        &mut self,
        second: &Second,
        decision: Option<&Decision>,
        now: Now<'_>,
    ) -> Option<(DecisionRow, Option<Followed>)> {
        self.seconds.push(to_line(second));
        if decision.is_none() && self.seconds.len() < LONGEST {
            return None;
        }
        Some(self.row(second.pool.size(), decision, now))
    }

    /// A row that says that something other than a decision came in between: an edit of the tuning
    /// (`what` is "tuning", `detail` its text) or a table that was brought in ("table").
    pub fn changed(&mut self, what: &str, detail: &str, size: u32, now: Now<'_>) -> DecisionRow {
        let (row, _) = self.row(size, None, now);
        DecisionRow {
            cause: what.into(),
            reason: format!("{what}: what follows is decided by another one"),
            detail: serde_json::to_string(detail).unwrap_or_else(|_| "null".into()),
            ..row
        }
    }

    /// A row of the seconds that none was made of yet.
    pub fn rest(&mut self, size: u32, now: Now<'_>) -> Option<DecisionRow> {
        (!self.seconds.is_empty()).then(|| self.row(size, None, now).0)
    }

    fn row(
        &mut self,
        size: u32,
        decision: Option<&Decision>,
        now: Now<'_>,
    ) -> (DecisionRow, Option<Followed>) {
        self.no += 1;
        let seconds = std::mem::take(&mut self.seconds).join("\n");
        let row = DecisionRow {
            at_ms: now.unix_ms,
            run: self.run,
            no: self.no,
            generation: now.generation,
            mode: now.mode.into(),
            before: size,
            desired: size,
            cause: "none".into(),
            reason: "nothing to decide".into(),
            detail: "null".into(),
            seconds,
            ..DecisionRow::default()
        };
        let Some(decision) = decision else {
            return (row, None);
        };
        let row = DecisionRow {
            before: decision.before,
            desired: decision.desired,
            cause: decision.cause_name().into(),
            reason: decision.reason().chars().take(LINE).collect(),
            guards: decision.guard_names(),
            detail: serde_json::to_string(decision).unwrap_or_else(|_| "null".into()),
            ..row
        };
        let Some(choice) = decision.choice() else {
            if row.cause == "gap" {
                // Nothing that follows a gap is the reward of what went before.
                self.chosen = None;
            }
            return (row, None);
        };
        let joined = |parts: Vec<String>| Some(parts.join(","));
        let row = DecisionRow {
            state: Some(choice.state as u64),
            bins: joined(choice.bins.iter().map(usize::to_string).collect()),
            q_values: joined(
                choice
                    .candidates
                    .iter()
                    .map(|c| format!("{}={:.4}", c.action.label(), c.q))
                    .collect(),
            ),
            action: choice
                .candidates
                .get(choice.chosen)
                .map(|chosen| chosen.action.label()),
            explored: Some(choice.explored),
            ..row
        };
        let before = self.chosen.replace(self.no);
        let followed = choice
            .reward_of_previous
            .zip(before)
            .map(|(reward, no)| Followed {
                no,
                cost: reward.cost,
                late: reward.late,
            });
        (row, followed)
    }
}

#[cfg(test)]
mod tests {
    use windlass_scaler::agent::controller::Controller;
    use windlass_scaler::agent::record::from_text;
    use windlass_scaler::agent::sample::{Pool, Sample};
    use windlass_scaler::agent::sarsa::Luck;
    use windlass_scaler::tuning::Tuning;

    use super::*;

    #[test]
    fn rows_hold_every_second_and_decide_the_same_again() {
        let mut controller = Controller::shipped(Tuning::default());
        let mut rows = Rows::new(1_000);
        let (mut kept, mut decided) = (Vec::new(), Vec::new());
        let mut ready = 3;
        for at in 0..60_u32 {
            let second = Second {
                now: f64::from(at) + 0.123,
                seen: Ok(Sample {
                    arrived: 1_000.0 + 37.7 * f64::from(at),
                    ready: 3.0,
                    cost: 3.0,
                    ..Sample::default()
                }),
                pool: Pool {
                    ready,
                    ..Pool::default()
                },
                calendar: 0,
                luck: Luck {
                    explore: f64::from(at % 7) / 7.0,
                    direction: 0.3,
                },
            };
            let decision = controller.second(second);
            let now = Now {
                unix_ms: i64::from(at) * 1_000,
                generation: 1,
                mode: "elastic",
            };
            kept.extend(rows.second(&second, decision.as_ref(), now));
            ready = decision.as_ref().map_or(ready, |d| d.desired);
            decided.extend(decision);
        }
        assert!(
            kept.iter()
                .filter(|(_, followed)| followed.is_some())
                .count()
                > 5
        );
        let text: Vec<&str> = kept.iter().map(|(row, _)| row.seconds.as_str()).collect();
        let mut again = Controller::shipped(Tuning::default());
        let seconds = from_text(&text.join("\n")).unwrap();
        let decided_again: Vec<Decision> = seconds
            .into_iter()
            .filter_map(|s| again.second(s))
            .collect();
        assert_eq!(decided_again, decided[..decided_again.len()]);
        assert!(decided_again.len() > 10);
        let detail: Decision = serde_json::from_str(&kept[0].0.detail).unwrap();
        assert_eq!(detail.reason(), decided[0].reason());
    }

    #[test]
    fn quiet_seconds_are_kept_too() {
        let mut rows = Rows::new(0);
        let now = Now {
            unix_ms: 0,
            generation: 0,
            mode: "off",
        };
        let second = from_text("1,0,2,0,0,0.5,0.5,no-answer").unwrap()[0];
        let made: Vec<_> = (0..25)
            .filter_map(|_| rows.second(&second, None, now))
            .collect();
        assert_eq!(made.len(), 2);
        let (first, _) = &made[0];
        assert_eq!(first.seconds.lines().count(), 10);
        assert_eq!((first.desired, first.cause.as_str()), (2, "none"));
        assert_eq!(rows.rest(2, now).unwrap().seconds.lines().count(), 5);
        assert_eq!(rows.rest(2, now), None);
    }
}

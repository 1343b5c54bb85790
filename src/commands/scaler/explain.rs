//! `windlass scaler explain`: why the pool had the size that it had.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use windlass_dispatcher::store::DecisionRow;
use windlass_scaler::agent::decision::Decision;
use windlass_scaler::agent::learner::Reward;
use windlass_scaler::agent::record;

use crate::cli::StoreArg;
use crate::config::Config;
use crate::output::{self, ReportFormat};
use crate::scaling::active::layout;

const EXAMPLES: &str = "\
Examples:
  windlass scaler explain
      the last choice of the agent, and what changed the size after it
  windlass scaler explain --at 2026-11-11T00:00:05Z
  windlass scaler explain -o json | jq '.decision.cause, .choice.decision.cause'
      the last decision, and the agent's choice before it where something else decided";

/// Arguments of `windlass scaler explain`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Explain {
    /// The last decision at this time, such as 2026-11-11T00:00:05Z [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    #[command(flatten)]
    store: StoreArg,
    /// How to show it
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: ReportFormat,
}

/// What `-o json` shows of a row.
#[derive(serde::Serialize)]
struct Report<'a> {
    at: String,
    run: String,
    no: u64,
    generation: u64,
    mode: &'a str,
    before: u32,
    desired: u32,
    state: Option<u64>,
    bins: Option<&'a str>,
    q_values: Option<&'a str>,
    action: Option<&'a str>,
    explored: Option<bool>,
    guards: &'a str,
    reward_cost: Option<f64>,
    reward_late: Option<f64>,
    reason: &'a str,
    decision: Option<Decision>,
    /// The agent's last choice, if this is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    choice: Option<Box<Report<'a>>>,
}

impl Explain {
    /// Shows it.
    ///
    /// # Errors
    /// If the store does not answer, or nothing was decided by then.
    pub async fn run(&self, config: &Config) -> anyhow::Result<ExitCode> {
        let at = self.at.as_deref().map(super::parse_moment).transpose()?;
        let mut journal = super::journal(&self.store, config).await?;
        let last = journal
            .decision(at, false)
            .await?
            .with_context(|| match at {
                Some(at) => format!("nothing had been decided by {}", super::moment(at)),
                None => super::NOTHING.into(),
            })?;
        // The choice that it followed from, where it is none itself.
        let chosen = journal.decision(at, true).await?;
        let chosen = chosen.filter(|chosen| chosen.run == last.run);
        let mut out = output::stdout();
        match self.output {
            ReportFormat::Json => {
                let earlier = chosen.as_ref().filter(|chosen| chosen.no != last.no);
                output::json(&mut out, &report(&last, earlier))?;
            }
            ReportFormat::Table => {
                if let Some(chosen) = &chosen {
                    write!(out, "{}", told(chosen))?;
                }
                if chosen.as_ref().is_none_or(|chosen| chosen.no != last.no) {
                    write!(out, "{}", told(&last))?;
                }
            }
        }
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }
}

fn told(row: &DecisionRow) -> String {
    let head = format!(
        "{} (run {}, decision {}, mode {}, generation {})\n",
        super::moment(row.at_ms),
        super::moment(row.run),
        row.no,
        row.mode,
        row.generation
    );
    let followed = row.reward_cost.zip(row.reward_late);
    let followed = followed.map(|(cost, late)| Reward { cost, late });
    match serde_json::from_str::<Option<Decision>>(&row.detail) {
        Ok(Some(decision)) => head + &decision.explain(Some(&layout(&row.mode)), followed),
        _ => {
            let (before, desired, reason) = (row.before, row.desired, &row.reason);
            format!("{head}{before} → {desired}: {reason}\n{}", measured(row))
        }
    }
}

/// The last second before a row in which nothing was decided.
fn measured(row: &DecisionRow) -> String {
    let last = row.seconds.lines().last().and_then(record::from_line);
    match last.map(|second| second.seen) {
        None => String::new(),
        Some(Err(missing)) => format!("measured: nothing, as {missing}\n"),
        Some(Ok(sample)) => format!(
            "measured in its last second: {:.0} tuples arrived, {:.2} of {:.2} workers busy, {:.0} tuples waiting\n",
            sample.arrived, sample.busy, sample.ready, sample.queued_tuples
        ),
    }
}

fn report<'a>(row: &'a DecisionRow, chosen: Option<&'a DecisionRow>) -> Report<'a> {
    Report {
        at: super::moment(row.at_ms),
        run: super::moment(row.run),
        no: row.no,
        generation: row.generation,
        mode: &row.mode,
        before: row.before,
        desired: row.desired,
        state: row.state,
        bins: row.bins.as_deref(),
        q_values: row.q_values.as_deref(),
        action: row.action.as_deref(),
        explored: row.explored,
        guards: &row.guards,
        reward_cost: row.reward_cost,
        reward_late: row.reward_late,
        reason: &row.reason,
        decision: serde_json::from_str(&row.detail).unwrap_or_default(),
        choice: chosen.map(|chosen| Box::new(report(chosen, None))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_without_a_decision_says_what_was_measured() {
        let mut row = DecisionRow {
            mode: "off".into(),
            reason: "nothing to decide".into(),
            detail: "null".into(),
            seconds:
                "1,0,3,0,0,0.5,0.5,first\n2,0,3,0,0,0.5,0.5,6000,2.4,3,40,0.1,6000,2.4,60,3,0\n"
                    .into(),
            ..DecisionRow::default()
        };
        let said = "6000 tuples arrived, 2.40 of 3.00 workers busy, 40 tuples waiting";
        assert!(told(&row).contains(said), "{}", told(&row));
        for (missing, said) in [
            ("no-answer", "the dispatcher did not give its status"),
            ("api-server", "the Kubernetes API server did not say"),
        ] {
            row.seconds = format!("3,0,3,0,0,0.5,0.5,{missing}\n");
            let said = format!("measured: nothing, as {said}");
            assert!(told(&row).contains(&said), "{}", told(&row));
        }
    }

    #[test]
    fn json_is_of_the_last_decision_and_holds_the_choice_before_it() {
        let row = |no, cause: &str| DecisionRow {
            no,
            reason: cause.into(),
            detail: "null".into(),
            ..DecisionRow::default()
        };
        let (chosen, last) = (row(3, "agent"), row(4, "gap"));
        let json = serde_json::to_value(report(&last, Some(&chosen))).unwrap();
        assert_eq!((&json["no"], &json["reason"]), (&4.into(), &"gap".into()));
        assert_eq!(json["choice"]["no"], 3);
        let alone = serde_json::to_value(report(&chosen, None)).unwrap();
        assert_eq!(alone["no"], 3);
        assert!(alone.get("choice").is_none(), "{alone}");
    }
}

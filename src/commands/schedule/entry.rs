//! A schedule as it stands in the ConfigMap, and what the scheduler notes about it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use windlass_jobs::name::RunName;
use windlass_jobs::schedule::Cadence;

use super::action::Action;
use crate::values::Span;

/// Most characters of a schedule's name: a run is called by it and by the time.
const LONGEST_NAME: usize = 24;
/// How late a run of datagen may begin unless the schedule says otherwise.
const START_WITHIN: Duration = Duration::from_secs(600);

/// A schedule.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub cadence: Cadence,
    pub start_within: Duration,
    pub action: Action,
    /// As the user wrote them, to show.
    pub cron: String,
    pub utc_offset: String,
    pub run: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Text {
    cron: String,
    #[serde(default = "utc")]
    utc_offset: String,
    start_within: Option<Span>,
    run: String,
}

fn utc() -> String {
    "+00:00".into()
}

impl Entry {
    /// Reads one key of the ConfigMap.
    ///
    /// # Errors
    /// What was expected instead.
    pub fn parse(name: &str, text: &str) -> Result<Self, String> {
        let named: Result<RunName, _> = name.parse();
        if named.is_err() || name.len() > LONGEST_NAME {
            return Err(format!(
                "expected a name of 1 to {LONGEST_NAME} lower-case letters, digits and dashes"
            ));
        }
        let text: Text = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        let action = Action::parse(&text.run)?;
        let default = match action {
            Action::Datagen(_) => START_WITHIN,
            // Upkeep that was missed is as useful later.
            Action::Retain(_) | Action::Sweep(_) => Duration::MAX,
        };
        Ok(Self {
            cadence: Cadence::parse(&text.cron, &text.utc_offset)?,
            start_within: text.start_within.map_or(default, |span| span.0),
            action,
            cron: text.cron,
            utc_offset: text.utc_offset,
            run: text.run,
        })
    }
}

/// What the scheduler notes about a schedule, JSON in a ConfigMap of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// When the scheduler first met it, ms UTC: nothing from before is due.
    pub since: i64,
    /// The last due time that was dealt with, ms UTC.
    pub due: Option<i64>,
    /// What came of it, in words.
    #[serde(default)]
    pub outcome: String,
}

impl Note {
    /// Reads what the scheduler wrote; anything else is as good as nothing.
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// Due times up to this one are dealt with.
    pub fn dealt_with(&self) -> i64 {
        self.due.unwrap_or(self.since)
    }
}

/// The name of the run that a schedule starts at a due time: always the same.
pub(super) fn run_name(schedule: &str, due: i64) -> anyhow::Result<RunName> {
    let at = jiff::Timestamp::from_millisecond(due)?;
    let name = format!("{schedule}-{}", at.strftime("%Y%m%dt%H%M"));
    Ok(name.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_read_with_its_defaults() {
        let text = "cron = \"0 0 11 11 *\"\nutc-offset = \"+08:00\"\nrun = \"datagen --rate 9\"";
        let entry = Entry::parse("singles-day", text).unwrap();
        assert_eq!(entry.start_within, START_WITHIN);
        let text = "cron = \"0 3 * * *\"\nrun = \"retain --rows 30d\"";
        assert_eq!(
            Entry::parse("old", text).unwrap().start_within,
            Duration::MAX
        );
        let text = "cron = \"0 3 * * *\"\nstart-within = \"1h\"\nrun = \"sweep --keep 2h\"";
        assert_eq!(
            Entry::parse("jobs", text).unwrap().start_within.as_secs(),
            3600
        );
    }

    #[test]
    fn a_schedule_that_is_none_is_refused_with_what_is_wrong() {
        let good = "cron = \"0 3 * * *\"\nrun = \"sweep\"";
        for (name, text, part) in [
            ("a.b", good, "lower-case letters"),
            ("a-name-that-is-much-too-long", good, "1 to 24"),
            ("a", "cron = \"0 3 * * *\"", "run"),
            ("a", "cron = \"every day\"\nrun = \"sweep\"", "30 2 * * *"),
            ("a", "cron = \"0 3 * * *\"\nrun = \"dance\"", "dance"),
            (
                "a",
                "cron = \"0 3 * * *\"\nrun = \"sweep\"\nzone = 1",
                "zone",
            ),
            ("a", "cron: 0 3 * * *", "expected"),
        ] {
            let error = Entry::parse(name, text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_run_is_called_by_its_schedule_and_its_time_so_that_it_is_started_once() {
        let longest = "x".repeat(LONGEST_NAME);
        let name = run_name(&longest, 1_794_355_200_000).unwrap();
        assert_eq!(name.to_string(), format!("{longest}-20261111t0000"));
    }
}
